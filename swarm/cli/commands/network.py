"""Found a network with several validators, and look at the genesis of one: network new, show, use, restart.

Shell: reads and writes genesis files, prints.

A launch founds a network by itself, with one validator. This is for founders that do not want to depend on one
of them from the first block on: one makes the file, all others copy it, and each puts it into its home.
"""

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swarm.cli.terminal import terminal
from swarm.errors import BadConfig, BadEncoding, UsageError

if TYPE_CHECKING:
    from swarm.config.spec import Genesis
    from swarm.types import PeerId

network_app = typer.Typer(
    help="Networks with several founders: new, show, use, restart.", no_args_is_help=True
)
FOUNDER_STAKE = 1_000_000
"""Stake of a founder where the command names none: all vote with the same power."""
FOUNDER_BALANCE = 1_000_000_000
"""Balance of a founder where the command names none: it pays for runs."""
FileArgument = Annotated[str, typer.Argument(help="The genesis file.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(
        network_app, name="network", short_help="Found a network with several validators: new."
    )


@network_app.command("new")
def new(
    out: Annotated[str, typer.Argument(help="Where to; it must not be there yet.")],
    validator: Annotated[
        list[str],
        typer.Option(help="PEERID or PEERID:STAKE of a founder; once for each. swarm id show."),
    ],
    account: Annotated[
        list[str] | None, typer.Option(help="PEERID:BALANCE of somebody else that has money.")
    ] = None,
    settings: Annotated[
        str,
        typer.Option("--settings", help="A run file: its [ledger] sets pace and fees."),
    ] = "",
) -> None:
    """Make the genesis of a network: its first validators, their stakes, who has money, pace and fees."""
    from swarm.config.load import genesis_of, read_run_file

    screen, path = terminal(), _new_file(out)
    file = read_run_file(_text(settings), settings or "the defaults")
    stakes = dict(parse_amount(text, FOUNDER_STAKE) for text in validator)
    balances = dict.fromkeys(stakes, FOUNDER_BALANCE)
    balances |= dict(parse_amount(text, None) for text in account or ())
    genesis = genesis_of(file, validators=stakes, accounts=balances, seed=secrets.token_bytes(32))
    _write(path, genesis)
    screen.data(_row(genesis), [*_lines(genesis), f"each founder now: swarm network use {path}"])


@network_app.command("show")
def show(file: Annotated[str, typer.Argument(help="A genesis file.")] = "") -> None:
    """Say what is in a genesis file, or in the one of this home."""
    screen = terminal()
    genesis = read_genesis_file(Path(file)) if file else _of_home(screen.home)
    screen.data(_row(genesis), _lines(genesis))


@network_app.command("use")
def use(file: FileArgument) -> None:
    """Put a genesis into this home: it validates from the first block on if it is one of the founders."""
    from swarm.files import write_whole
    from swarm.host.identity import load_identity
    from swarm.node.start import save_genesis, saved_genesis

    screen = terminal()
    genesis, held = read_genesis_file(Path(file)), saved_genesis(screen.home)
    if held is not None and held.chain != genesis.chain:
        raise UsageError(
            f"{screen.home} belongs to network {held.chain.hex()[:16]} already",
            hint="another home: --home FOLDER",
        )
    me = load_identity(screen.home).peer
    save_genesis(screen.home, genesis)
    settings, is_founder = screen.home / "node.toml", me in genesis.validators
    if is_founder and not settings.exists():
        write_whole(settings, b"validate = true\n")
    role = f"a founder: validate = true in {settings}" if is_founder else "no founder"
    screen.data(
        {"network": genesis.chain.hex(), "home": str(screen.home), "is_founder": is_founder},
        [
            f"{screen.home} belongs to network {genesis.chain.hex()[:16]} now, as {role}",
            "one that has money: swarm launch RUN.toml   the others: swarm join TICKET",
        ],
    )


@network_app.command("restart")
def restart(
    out: Annotated[str, typer.Argument(help="Where to; it must not be there yet.")],
    validator: Annotated[
        list[str], typer.Option(help="PEERID of a validator of the new network; once for each.")
    ],
) -> None:
    """Make the genesis of a new network out of the last final state here: all money, other validators.

    For a network that lost its quorum for good. All that have the same final state get the same network id.
    """
    from swarm.ledger.reader import read_state
    from swarm.ledger.restart import restart as begin_anew

    screen, path = terminal(), _new_file(out)
    state, old = read_state(screen.home), _of_home(screen.home)
    made = begin_anew(old, state, [parse_amount(text, 0)[0] for text in validator])
    _write(path, made.genesis)
    if made.may_fork:
        screen.say(
            f"careful: {made.power_left_out:,} of {made.power:,} of the old power is left out; if those"
            " validators come back, the old network goes on beside the new one"
        )
    row = {
        **_row(made.genesis),
        "old_network": old.chain.hex(),
        "height": state.height,
        "state_root": state.root.hex(),
        "power": made.power,
        "power_left_out": made.power_left_out,
        "may_fork": made.may_fork,
    }
    lines = [
        f"from       network {old.chain.hex()[:16]}, as it was after block {state.height}",
        *_lines(made.genesis),
        "compare    the network id with the others: it is equal where state and validators are",
        f"then each  copies identity.key into a new home; there: swarm network use {path},"
        " swarm ledger recover",
    ]
    screen.data(row, lines)


def _new_file(out: str) -> Path:
    """Return where a genesis goes; raise ``UsageError`` if something is there."""
    path = Path(out)
    if path.exists():
        raise UsageError(f"{path} is there already", hint=f"swarm network show {path}")
    return path


def _write(path: Path, genesis: "Genesis") -> None:
    from swarm.files import write_whole
    from swarm.primitives.codec import encode

    try:
        write_whole(path, encode(genesis))
    except OSError as error:
        raise BadConfig(f"cannot write {path}: {error.strerror}") from None


def _text(settings: str) -> str:
    if not settings:
        return ""
    try:
        return Path(settings).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{settings} cannot be read: {error}", hint="swarm init writes one"
        ) from None


def parse_amount(text: str, default: int | None) -> "tuple[PeerId, int]":
    """Read ``PEERID`` (for the default amount, if there is one) or ``PEERID:AMOUNT``; raises ``UsageError``."""
    from swarm.primitives.crypto import parse_peer

    name, _, number = text.partition(":")
    try:
        peer = parse_peer(name)
    except BadEncoding as error:
        raise UsageError(str(error), hint="swarm id show   (on the machine of that peer)") from None
    if not number and default is not None:
        return peer, default
    if not number.isdecimal() or len(number) > 19 or int(number) < 1:
        raise UsageError(f"{text[:80]!r} is not PEERID:AMOUNT, with a whole amount above 0")
    return peer, int(number)


def read_genesis_file(path: Path) -> "Genesis":
    """Read and check a genesis; raises ``UsageError`` if the file is not there, ``BadConfig`` if it is none."""
    from swarm.config.bounds import check_genesis
    from swarm.config.spec import Genesis
    from swarm.node.start import GENESIS_BYTES_MAX
    from swarm.primitives.codec import decode

    try:
        with path.open("rb") as file:
            genesis = decode(Genesis, file.read(GENESIS_BYTES_MAX + 1), limit=GENESIS_BYTES_MAX)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}", hint="swarm network new writes one"
        ) from None
    except BadEncoding as error:
        raise BadConfig(f"{path} is no genesis: {error}") from None
    check_genesis(genesis)
    return genesis


def _of_home(home: Path) -> "Genesis":
    from swarm.node.start import saved_genesis

    held = saved_genesis(home)
    if held is None:
        raise UsageError(
            f"{home} belongs to no network yet", hint="swarm join TICKET, or swarm launch"
        )
    return held


def _row(genesis: "Genesis") -> dict[str, object]:
    from swarm.primitives.crypto import peer_name, peer_text

    stakes = {account.peer: account.stake for account in genesis.accounts}
    return {
        "network": genesis.chain.hex(),
        "name": genesis.name,
        "validators": [
            {"peer": peer_text(peer), "name": peer_name(peer), "stake": stakes[peer]}
            for peer in genesis.validators
        ],
        "accounts": len(genesis.accounts),
        "supply": sum(account.balance + account.stake for account in genesis.accounts),
        "block_interval_ms": genesis.block_interval_ms,
        "epoch_blocks": genesis.epoch_blocks,
        "unbonding_epochs": genesis.unbonding_epochs,
        "stake_segments": genesis.stake_segments,
        "validator_stake": genesis.validator_stake,
        "fee_min": genesis.fee_min,
        "fee_per_byte_nano": genesis.fee_per_byte_nano,
    }


def _lines(genesis: "Genesis") -> list[str]:
    from swarm.ledger.transition.validators import INDEPENDENT_MIN
    from swarm.primitives.crypto import peer_name

    stakes = {account.peer: account.stake for account in genesis.accounts}
    supply = sum(account.balance + account.stake for account in genesis.accounts)
    count = len(genesis.validators)
    alone = "" if count >= INDEPENDENT_MIN else ": fewer than four, so none of them may be gone"
    return [
        f"network    {genesis.chain.hex()}",
        f"pace       a block in {genesis.block_interval_ms / 1000:g} s, {genesis.epoch_blocks} in an epoch",
        f"money      {supply:,} in {len(genesis.accounts)} accounts",
        f"founders   {count}{alone}",
        *(f"           {peer_name(peer)}  {stakes[peer]:,}" for peer in genesis.validators),
    ]
