"""Read and check the ledger on this home's disk or in a file, so that no node needs to run.

Shell: reads the store or a file, prints; ``export`` writes a file, ``recover`` the home.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swarm.cli.terminal import Terminal, terminal

if TYPE_CHECKING:
    from swarm.config.spec import Genesis
    from swarm.ledger.blocks import Block
    from swarm.ledger.reader import LedgerReport
    from swarm.types import Digest

PROGRESS_INTERVAL_S = 2.0
TAIL_BLOCKS = 20
_LABELS = {"chain": "network"}
"""Labels on screen of keys that read differently in JSON."""

ledger_app = typer.Typer(
    help="The final blocks of the network: tail, show, verify, export, validators, recover.",
    no_args_is_help=True,
)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(ledger_app, name="ledger")


@ledger_app.command("tail")
def tail(
    count: Annotated[int, typer.Option("-n", help="How many blocks.", min=1, max=10_000)] = (
        TAIL_BLOCKS
    ),
) -> None:
    """Show the newest final blocks and what is in them."""
    from swarm.ledger.reader import open_ledger

    screen = terminal()
    with open_ledger(screen.home) as ledger:
        blocks = list(ledger.blocks(ledger.height - count + 1))
    lines = [line for block in blocks for line in block.lines]
    screen.data([block.row for block in blocks], lines or ["no block yet"])


@ledger_app.command("show")
def show(
    height: Annotated[int, typer.Argument(help="A height; without one, the whole ledger.")] = -1,
) -> None:
    """Show one block, or the ledger as a whole: network, height, validators, supply."""
    from swarm.ledger.describe import ledger_row
    from swarm.ledger.reader import open_ledger

    screen = terminal()
    with open_ledger(screen.home) as ledger:
        if height < 0:
            row = ledger_row(ledger.state)
            screen.data(row, [f"{_label(name):<17} {_plain(row[name])}" for name in row])
            return
        block = ledger.block(height)
        row, lines = block.row, block.lines
    votes = "covered by a later finalization" if row["votes"] is None else f"{row['votes']} votes"
    roots = [f"    state {row['state_root']}", f"    view {row['view']}, {votes}"]
    screen.data(row, [lines[0], *roots, *lines[1:]])


@ledger_app.command("verify")
def verify(
    file: Annotated[
        str, typer.Argument(help="A file of swarm ledger export; without one, the ledger here.")
    ] = "",
    network: Annotated[
        str,
        typer.Option(help="Id of the network you trust, in hex; without it, that of this home."),
    ] = "",
) -> None:
    """Check every block from the first: hashes, the beacon, signatures, transactions, finality, supply."""
    from swarm.cli.commands.checkpoint import trusted_network
    from swarm.cli.commands.ledger_views import checked_line, run_rows, stake_rows
    from swarm.ledger.trust import trust_text

    screen, counts = terminal(), dict[str, int]()
    began = time.monotonic()
    trusted = trusted_network(screen.home, network)
    genesis, verified = _verified(file, trusted, screen, _counter(counts, screen))
    report, state = verified.chain, verified.chain.head.state
    row: dict[str, object] = {
        "chain": genesis.chain.hex(),
        "height": state.height,
        "state_root": state.root.hex(),
        "transactions": report.num_transactions,
        "certificates": report.num_certificates,
        "commits": counts.get("commit_segment", 0),
        "checkpoints": counts.get("post_checkpoint", 0),
        "supply": report.supply,
        "supply_conserved": report.supply == state.supply,
        "runs": run_rows(state),
        "stakes": stake_rows(state),
        "validators": len(state.validators),
        "trust": trust_text(state),
        "is_trusted": trusted is not None,
        "unproved_blocks": verified.num_unproved,
        "seconds": round(time.monotonic() - began, 2),
    }
    lines = [
        f"{state.height} blocks of the network {genesis.chain.hex()[:16]} are valid and final",
        f"{report.num_transactions} transactions, {row['commits']} commits,"
        f" {report.num_certificates} finalizations, supply {report.supply} conserved",
        f"final by the word of: {trust_text(state)}",
    ]
    if trusted is None:
        lines.append("whether this is the right network, you must know: --network HEX")
    lines += [checked_line(run) for run in run_rows(state)]
    if row["unproved_blocks"]:
        lines.append(f"{row['unproved_blocks']} newer blocks wait for a finalization on this disk")
    screen.data(row, lines)


@ledger_app.command("export")
def export(file: Annotated[str, typer.Argument(help="The new file.")]) -> None:
    """Write all final blocks to a file, which anybody can check: swarm ledger verify FILE --network HEX."""
    from swarm.ledger.chain_file import write_chain
    from swarm.ledger.reader import open_ledger

    screen, path = terminal(), Path(file)
    with open_ledger(screen.home) as ledger:
        chain, height = (
            ledger.genesis.chain.hex(),
            write_chain(path, ledger.genesis, ledger.links()),
        )
    num_bytes = path.stat().st_size
    screen.data(
        {"file": str(path), "chain": chain, "height": height, "bytes": num_bytes},
        [
            f"{path}: {height} final blocks, {num_bytes:,} bytes",
            f"to check it anywhere: swarm ledger verify {path} --network {chain}",
        ],
    )


def _verified(
    file: str, trusted: "Digest | None", screen: Terminal, progress: "Callable[[Block], None]"
) -> "tuple[Genesis, LedgerReport]":
    """Verify the blocks of a file, or those of this home."""
    from swarm.cli.commands.checkpoint import check_network
    from swarm.ledger.chain_file import open_chain
    from swarm.ledger.reader import open_ledger, verify_file

    if not file:
        with open_ledger(screen.home) as ledger:
            check_network("this ledger", ledger.genesis.chain, trusted)
            return ledger.genesis, ledger.verify(progress)
    chain = open_chain(Path(file))
    check_network(file, chain.genesis.chain, trusted)
    return chain.genesis, verify_file(chain, progress)


@ledger_app.command("validators")
def validators() -> None:
    """Show who votes in this epoch and in the next, who offers to, and what makes them be chosen."""
    from swarm.cli.commands.ledger_views import validator_cells, validator_rows
    from swarm.cli.style import table
    from swarm.ledger.reader import open_ledger
    from swarm.ledger.trust import trust_text

    screen = terminal()
    with open_ledger(screen.home) as ledger:
        state = ledger.state
    rows, params, epoch = validator_rows(state), state.params, state.next_epoch
    heads = ["VALIDATOR", "STAKE", "POWER", "NEXT EPOCH", "OFFERS", "MISSED"]
    cells = [validator_cells(row) for row in rows]
    left = (epoch + 1) * params.epoch_blocks - state.height - 1
    lines = [
        *table(heads, cells, numbers=frozenset({1, 2, 3, 5}), ink=screen.ink),
        f"epoch {epoch}, {left} blocks left; final by {trust_text(state)}",
        f"to validate: validate = true in node.toml, and a stake of {params.validator_stake:,};"
        f" it counts from the epoch after next on",
    ]
    document: dict[str, object] = {
        "epoch": epoch,
        "blocks_left": left,
        "validator_stake": params.validator_stake,
        "trust": trust_text(state),
        "validators": rows,
    }
    screen.data(document, lines)


@ledger_app.command("recover")
def recover() -> None:
    """Let this validator vote again at once, although what it has signed may not all be on record.

    A home that was copied, restored or damaged votes from the next epoch on by itself. Where no epoch can end
    without its vote, as on a network with one validator, only its owner can say that it is safe: that no other
    copy of this home runs, and that no peer has newer blocks. If that is not true, two histories may become
    final, and the stake of this key is lost.
    """
    from swarm.host.identity import lock_home
    from swarm.ledger.recover import recover_votes

    screen = terminal()
    with lock_home(screen.home):
        question = (
            "Does no other copy of this home run, and has no peer newer blocks than this one?"
        )
        if not screen.confirms(question, "swarm ledger recover --yes"):
            return
        height = recover_votes(screen.home)
    screen.data(
        {"height": height},
        [f"this validator votes again behind block {height}, once it runs: swarm join"],
    )


def _counter(counts: dict[str, int], screen: Terminal) -> "Callable[[Block], None]":
    """Return a function that counts the transactions of blocks by kind, and reports how far the check is."""
    from swarm.ledger.describe import transaction_row

    printed_at = time.monotonic()

    def count(block: "Block") -> None:
        nonlocal printed_at
        for data in block.transactions:
            kind = str(transaction_row(None, data)["kind"])
            counts[kind] = counts.get(kind, 0) + 1
        now = time.monotonic()
        if now - printed_at > PROGRESS_INTERVAL_S:
            printed_at = now
            screen.say(f"checked up to block {block.header.height}")

    return count


def _label(name: str) -> str:
    """Return the label on screen of a key of the row."""
    return "network" if name == "chain" else name.replace("_", " ")


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(str(one) for one in value)
    return {True: "yes", False: "NO"}[value] if isinstance(value, bool) else str(value)
