"""Read and check the ledger on this home's disk or in a file, so that no node needs to run.

Shell: reads the store or a file, prints; ``export`` writes a file, ``recover`` the home.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swarm.cli.commands import settlement
from swarm.cli.commands.checkpoint import TRUST_HELP
from swarm.cli.terminal import Terminal, terminal

if TYPE_CHECKING:
    from swarm.config.spec import Genesis
    from swarm.ledger.blocks import Block
    from swarm.ledger.light import TrustedEpoch
    from swarm.ledger.reader import LedgerReport
    from swarm.types import Digest

PROGRESS_INTERVAL_S = 2.0
TAIL_BLOCKS = 20
_LABELS = {"chain": "network"}
"""Labels on screen of keys that read differently in JSON."""

ledger_app = typer.Typer(
    help="The final blocks of the network: tail, show, verify, export, handoffs, validators, recover, settle.",
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
        blocks = list(ledger.blocks(max(ledger.height - count + 1, ledger.first)))
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
            row = {**ledger_row(ledger.state), "first_block_kept": ledger.first}
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
    trust: Annotated[str, typer.Option(help=TRUST_HELP)] = "",
) -> None:
    """Check every block: hashes, the beacon, signatures, transactions, finality, supply.

    From block 1 on; or, in a home that began with a snapshot or keeps no old blocks, from the handoffs of all
    epochs and the oldest snapshot. The screen says which.
    """
    from swarm.cli.commands.checkpoint import parse_trust, trusted_network
    from swarm.cli.commands.ledger_views import verified_lines

    screen, counts = terminal(), dict[str, int]()
    began = time.monotonic()
    trusted = trusted_network(screen.home, network)
    known = parse_trust(trust)
    genesis, verified = _verified(file, trusted, known, screen, _counter(counts, screen))
    row: dict[str, object] = {
        "chain": genesis.chain.hex(),
        "commits": counts.get("commit_segment", 0),
        "checkpoints": counts.get("post_checkpoint", 0),
        "storage_proofs": counts.get("storage_proof", 0),
        "is_trusted": trusted is not None,
        **_found(verified),
        "seconds": round(time.monotonic() - began, 2),
    }
    screen.data(row, verified_lines(row))


def _found(verified: "LedgerReport") -> dict[str, object]:
    """Return what a check of a ledger has found: its head, totals, where it began and whom it trusts."""
    from swarm.cli.commands.ledger_views import run_rows, stake_rows
    from swarm.ledger.trust import trust_text

    report, state = verified.chain, verified.chain.head.state
    return {
        "height": state.height,
        "state_root": state.root.hex(),
        "transactions": report.num_transactions,
        "certificates": report.num_certificates,
        "supply": report.supply,
        "supply_conserved": report.supply == state.supply,
        "runs": run_rows(state),
        "stakes": stake_rows(state),
        "validators": len(state.validators),
        "trust": trust_text(state),
        "began_at": verified.start,
        "began_with": verified.began_with,
        "handoffs": verified.num_handoffs,
        "trusted_epoch": str(verified.trusted_epoch),
        "unproved_blocks": verified.num_unproved,
    }


@ledger_app.command("export")
def export(file: Annotated[str, typer.Argument(help="The new file.")]) -> None:
    """Write all final blocks to a file, which anybody can check: swarm ledger verify FILE --network HEX."""
    from swarm.ledger.chain_file import write_chain
    from swarm.ledger.reader import open_ledger

    screen, path = terminal(), Path(file)
    with open_ledger(screen.home) as ledger:
        chain, start = ledger.genesis.chain.hex(), ledger.start()
        count = write_chain(path, ledger.genesis, ledger.links(), start)
    num_bytes = path.stat().st_size
    after = 0 if start.boundary is None else start.boundary.height
    height = after + count
    lines = [
        f"{path}: {count} final blocks, {num_bytes:,} bytes",
        f"to check it anywhere: swarm ledger verify {path} --network {chain}",
    ]
    if after:
        lines.insert(
            1,
            f"not a full chain: this home has no blocks to verify before {after + 1}; the file begins with a"
            f" snapshot of height {after} and the handoffs that lead to it",
        )
    screen.data(
        {
            "file": str(path),
            "chain": chain,
            "began_at": after,
            "height": height,
            "bytes": num_bytes,
        },
        lines,
    )


@ledger_app.command("handoffs")
def handoffs() -> None:
    """Show how the validators changed, and the pair EPOCH:DIGEST with which others can begin (--trust).

    Who trusts you can verify this ledger, or an exported checkpoint, from that epoch on.
    """
    from swarm.cli.style import table
    from swarm.ledger.light import first_epoch, leads_to, trusted_epoch
    from swarm.ledger.reader import open_ledger

    screen = terminal()
    with open_ledger(screen.home) as ledger:
        genesis, state, found = ledger.genesis, ledger.state, ledger.handoffs()
    pair = str(trusted_epoch(state.next_epoch, state.validators))
    epoch_blocks, voters, rows = state.params.epoch_blocks, first_epoch(genesis).validators, []
    for one in found:
        voters = one.validators or voters
        known = trusted_epoch(leads_to(epoch_blocks, one.height), voters)
        rows.append(
            {
                "height": one.height,
                "epoch": known.epoch,
                "digest": known.digest.hex(),
                "validators": len(voters),
            }
        )
    cells = [
        [str(r["epoch"]), str(r["height"]), str(r["validators"]), str(r["digest"])] for r in rows
    ]
    heads = ["EPOCH", "SIGNED AT", "VALIDATORS", "DIGEST"]
    lines = table(heads, cells, numbers=frozenset({0, 1, 2}), ink=screen.ink) if cells else []
    screen.data(
        {"chain": state.chain.hex(), "trusted_epoch": pair, "handoffs": rows},
        [*lines, f"for others to begin with: --trust {pair}"],
    )


def _verified(
    file: str,
    trusted: "Digest | None",
    known: "TrustedEpoch | None",
    screen: Terminal,
    progress: "Callable[[Block], None]",
) -> "tuple[Genesis, LedgerReport]":
    """Verify the blocks of a file, or those of this home."""
    from swarm.cli.commands.checkpoint import check_network
    from swarm.ledger.chain_file import open_chain
    from swarm.ledger.reader import open_ledger, verify_file

    if not file:
        with open_ledger(screen.home) as ledger:
            check_network("this ledger", ledger.genesis.chain, trusted)
            return ledger.genesis, ledger.verify(progress, known)
    chain = open_chain(Path(file))
    check_network(file, chain.genesis.chain, trusted)
    return chain.genesis, verify_file(chain, progress, known)


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
    from swarm.node.start import saved_genesis

    screen = terminal()
    with lock_home(screen.home):
        question = (
            "Does no other copy of this home run, and has no peer newer blocks than this one?"
        )
        if not screen.confirms(question, "swarm ledger recover --yes"):
            return
        height = recover_votes(screen.home, saved_genesis(screen.home))
    screen.data(
        {"height": height},
        [f"this validator votes again behind block {height}, once it runs: swarm join"],
    )


ledger_app.command("settle")(settlement.settle)


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
