"""Show what the runs of the network pay, and change what this node asks: market, ask.

Shell: reads the ledger of the home, or asks its node; prints.
"""

from typing import Annotated

import typer

from swarm.cli.commands.control import ask_node
from swarm.cli.terminal import terminal


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("market", short_help="What each open run pays, who waits, what a seat earns.")(
        market
    )
    app.command("ask", short_help="Change the least pay that this node trains for.")(ask)


def market() -> None:
    """Show every open run: what 1,000 tokens are paid now and at most, and the asks that wait for a seat.

    All seats of a round are paid the same: the highest ask among the peers with a stake that work. Free are
    the seats of each stage; escrow counts the rounds it pays at least; stake is what it takes to be no
    volunteer; per hour is the pay of one seat at the speed of now.
    """
    from swarm.cli.style import table
    from swarm.ledger.market_views import MARKET_HEADS, market_cells, market_rows
    from swarm.ledger.reader import read_state

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
