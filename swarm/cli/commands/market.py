"""Show what runs pay and whose they are, and change it: market, ask, run shares|continue|fund, peers record.

Shell: reads the ledger of the home, or asks its node; prints.
"""

from typing import Annotated

import typer

from swarm.cli.commands.control import ask_node
from swarm.cli.commands.status import peers_app, run_app
from swarm.cli.terminal import terminal
from swarm.errors import SwarmError

RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="Its number or name, as in swarm run ls.")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("market", short_help="What each open run pays, who waits, what a seat earns.")(
        market
    )
    app.command("ask", short_help="Change the least pay that this node trains for.")(ask)
    peers_app.command("record", short_help="A peer's record in every run.")(record)
    run_app.command("shares", short_help="Who holds which part of a run.")(shares)
    run_app.command("continue", short_help="Go on with a run that its owner stopped.")(continue_)
    run_app.command("fund", short_help="Add to the escrow of your run.")(fund)


def market() -> None:
    """Show every open run: what 1,000 tokens are paid now and at most, and the asks that wait for a seat.

    All seats of a round are paid the same: the highest ask among the peers with a stake that work. Free are
    the seats of each stage; escrow counts the rounds it pays at least; stake is what it takes to be no
    volunteer; per hour is the pay of one seat at the speed of now.
    """
    from swarm.cli.style import table
    from swarm.ledger.reader import read_state
    from swarm.ledger.run_views import MARKET_HEADS, market_cells, market_rows

    screen = terminal()
    rows = market_rows(read_state(screen.home))
    numbers = frozenset({2, 3, 6, 7, 8})
    lines = table(
        MARKET_HEADS, [market_cells(row) for row in rows], numbers=numbers, ink=screen.ink
    )
    screen.data(rows, lines if rows else ["no run of this network is open"])


def ask(
    price: Annotated[int, typer.Argument(min=0, help="Units of money for 1,000 tokens.")],
) -> None:
    """Change what this node asks, from the next round boundary on.

    A lower ask may take a seat, or keep it; a higher one may lose it. Its next start takes that of node.toml.
    """
    ask_node(terminal(), "ask", {"ask": price})


def record(
    peer: Annotated[str, typer.Argument(help="A name or PeerID, or how it begins.")],
) -> None:
    """Show what the ledger knows of a peer, run by run: its work, what became of it, and how it stands."""
    from swarm.cli.style import table
    from swarm.ledger.reader import read_state
    from swarm.ledger.record_views import (
        RECORD_HEADS,
        find_account,
        peer_records,
        record_cells,
    )
    from swarm.primitives.crypto import peer_name, peer_text

    screen = terminal()
    state = read_state(screen.home)
    found = find_account(state, peer)
    rows, named = peer_records(state, found), {"peer": peer_text(found), "name": peer_name(found)}
    cells, numbers = [record_cells(row) for row in rows], frozenset(range(1, 11))
    lines = table(RECORD_HEADS, cells, numbers=numbers, ink=screen.ink)
    head = f"{named['name']}  {named['peer']}"
    screen.data({**named, "runs": rows}, [head, *(lines if rows else ["no work in any run yet"])])


def shares(run: RunArgument) -> None:
    """Show who holds a run: the tokens of their segments that were verified, void with a conviction."""
    from swarm.cli.style import table
    from swarm.ledger.reader import read_state
    from swarm.ledger.record_views import SHARE_HEADS, find_run, share_cells, share_rows

    screen = terminal()
    state = read_state(screen.home)
    found = find_run(state, run)
    rows, total = share_rows(state, found), state.run_shares(found.index).total
    cells, numbers = [share_cells(row) for row in rows], frozenset({1, 2})
    lines = table(SHARE_HEADS, cells, numbers=numbers, ink=screen.ink)
    row = {"run": found.index, "name": found.spec.name, "total": total, "holders": rows}
    screen.data(row, lines if rows else [f"nothing of run {found.spec.name} was verified yet"])


def continue_(
    run: RunArgument,
    for_: Annotated[
        str, typer.Option("--for", metavar="PEERID", help="Whom you want as its next owner.")
    ] = "",
    escrow: Annotated[
        int, typer.Option(min=0, help="Open it again, with so much money: this node owns it then.")
    ] = 0,
) -> None:
    """Go on with a settled run: say whom you want as its owner, or with --escrow become it.

    It takes more than half of the shares (swarm run shares), and rounds that are left. The run begins again
    from its last checkpoint, in the round after its last, paid from the new escrow; the old one is back with
    the old owner. Without --for your shares count for this node.
    """
    from swarm.ledger.reader import read_state
    from swarm.ledger.record_views import find_run

    screen = terminal()
    found = find_run(read_state(screen.home), run)
    if not escrow:
        ask_node(screen, "run-back", {"run": found.index, "for": for_})
        return
    again = f"swarm run continue {found.index} --escrow {escrow} --yes{screen.same_home}"
    if not screen.confirms(f"Pay {escrow:,} to go on with run {found.spec.name}?", again):
        raise SwarmError("nothing was paid", hint=f"swarm run shares {found.index}")
    ask_node(screen, "run-continue", {"run": found.index, "escrow": escrow})


def fund(
    amount: Annotated[int, typer.Argument(min=1, help="Units of money.")],
) -> None:
    """Add to the escrow of the run that this node owns; what is left comes back when the run is settled."""
    ask_node(terminal(), "run-fund", {"amount": amount})
