"""Show and move this node's own money: what is free, at stake, locked and on its way.

Shell: reads the ledger of the home, or asks its node to sign; prints.
"""

from typing import Annotated

import typer

from swarm.cli.commands import settlement
from swarm.cli.commands.control import ask_node
from swarm.cli.terminal import terminal
from swarm.errors import SwarmError

wallet_app = typer.Typer(
    help="This node's money: show, send, stake, unstake, withdraw, claim.", no_args_is_help=True
)
AmountArgument = Annotated[int, typer.Argument(min=1, help="Units of money.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(wallet_app, name="wallet")


@wallet_app.command("show")
def show() -> None:
    """Show the account of this home: balance, stake, what is locked or on its way, and what work has earned."""
    from swarm.cli.commands.wallet_views import wallet_lines, wallet_row
    from swarm.host.identity import load_identity
    from swarm.ledger.reader import read_state
    from swarm.primitives.codec import fields_of

    screen = terminal()
    row = wallet_row(read_state(screen.home), load_identity(screen.home).peer)
    screen.data(fields_of(row), wallet_lines(row))


@wallet_app.command("send")
def send(
    to: Annotated[
        str, typer.Argument(metavar="PEERID", help="The account that gets it: 12D3Koo...")
    ],
    amount: AmountArgument,
) -> None:
    """Pay somebody. There is no way back: asks first; --yes answers."""
    screen = terminal()
    command = f"swarm wallet send {to} {amount} --yes{screen.same_home}"
    if not screen.confirms(f"Send {amount:,} to {to}?", command):
        raise SwarmError("nothing was sent", hint="swarm wallet show")
    ask_node(screen, "wallet-send", {"to": to, "amount": amount})


@wallet_app.command("stake")
def stake(amount: AmountArgument) -> None:
    """Put up a part of the balance as a stake: verifiers and validators take one, and a lie costs all of it."""
    ask_node(terminal(), "wallet-stake", {"amount": amount})


@wallet_app.command("unstake")
def unstake(amount: AmountArgument) -> None:
    """Begin to take back a part of the stake; what this node votes with is locked (swarm ledger validators)."""
    ask_node(terminal(), "wallet-unstake", {"amount": amount})


@wallet_app.command("withdraw")
def withdraw(
    amount: AmountArgument,
    to: Annotated[str, typer.Option(metavar="0x...", help="The address that gets it, outside.")],
) -> None:
    """Lock an amount here for good; the network's contract pays it out (docs/settlement.md). Asks first."""
    settlement.withdraw(terminal(), amount, to)


wallet_app.command("claim")(settlement.claim)
