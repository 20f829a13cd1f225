"""Show the node that runs here: status, map, peers, run.

Shell: fetches the state document, prints the view.
"""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from swarm.cli.terminal import Terminal, terminal

if TYPE_CHECKING:
    from swarm.node.api.schema import StateDocument

WATCH_INTERVAL_S = 2.0

peers_app = typer.Typer(help="Who takes part: ls, show, record.", no_args_is_help=True)
run_app = typer.Typer(
    help="The runs of the network, and the one this node follows: ls, show, shares, continue, fund.",
    no_args_is_help=True,
)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("status", short_help="Who this node is, what it does, is it well?")(status)
    app.command("map", short_help="Draw the peers by stage.")(map_)
    app.add_typer(peers_app, name="peers")
    app.add_typer(run_app, name="run")


def _state(screen: Terminal) -> "StateDocument":
    from swarm.cli.client import fetch_state, node_of

    return fetch_state(node_of(screen.home))


def status() -> None:
    """Say who this node is, what it does and whether it is well."""
    from swarm.cli.views import status_lines

    screen = terminal()
    state = _state(screen)
    screen.data(_parts(state, "health", "node", "run", "ledger"), status_lines(state, screen.ink))


def map_(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Draw it again every 2 s.")] = False,
) -> None:
    """Draw the peer map: who holds which stage, how fast, and what is wrong with whom."""
    from swarm.cli.views import map_lines

    screen = terminal()
    while True:
        state = _state(screen)
        lines = map_lines(state, screen.ink, screen.columns)
        if watch and screen.ink.is_on:
            lines = ["\x1b[H\x1b[2J" + lines[0], *lines[1:]]
        names = ("health", "run", "ledger", "peers", "seats", "trades", "convictions")
        screen.data(_parts(state, *names), lines)
        if not watch:
            return
        time.sleep(WATCH_INTERVAL_S)


@peers_app.command("ls")
def peers_list() -> None:
    """List the peers this node knows."""
    from swarm.cli.views import peer_table
    from swarm.primitives.codec import fields_of

    screen = terminal()
    state = _state(screen)
    screen.data(fields_of(state.peers), peer_table(state, screen.ink, screen.columns))


@peers_app.command("show")
def peers_show(
    peer: Annotated[str, typer.Argument(help="A name or PeerID, or how it begins.")],
) -> None:
    """Show everything known about one peer."""
    from swarm.cli.views import find_peer, peer_lines
    from swarm.primitives.codec import fields_of

    screen = terminal()
    found = find_peer(_state(screen), peer)
    screen.data(fields_of(found), peer_lines(found, screen.ink))


@run_app.command("ls")
def run_list() -> None:
    """List all runs of the network, as the ledger of this home has them, whether or not a node runs."""
    from swarm.cli.style import table
    from swarm.ledger.reader import read_state
    from swarm.ledger.run_views import RUN_HEADS, run_cells, run_row

    screen = terminal()
    state = read_state(screen.home)
    rows = [run_row(state, run) for run in state.runs()]
    cells = [run_cells(row) for row in rows]
    lines = table(RUN_HEADS, cells, numbers=frozenset({3, 4, 5, 6, 8}), ink=screen.ink)
    screen.data(rows, lines if rows else ["no run yet"])


@run_app.command("show")
def run_show() -> None:
    """Show the run: progress, phase, who sits where, how its work was checked."""
    from swarm.cli.views import run_lines

    screen = terminal()
    state = _state(screen)
    names = ("run", "seats", "loss_curve", "checks", "convictions")
    screen.data(_parts(state, *names), run_lines(state, screen.ink))


def _parts(state: "StateDocument", *names: str) -> dict[str, object]:
    """Return some sections of the document as plain JSON values."""
    from swarm.primitives.codec import fields_of

    return {name: fields_of(getattr(state, name)) for name in names}
