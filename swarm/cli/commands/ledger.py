"""Read and check the ledger on this home's disk, so that no node needs to run: tail, show, verify.

Shell: reads the store, prints.
"""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from swarm.cli.terminal import Terminal, terminal
from swarm.errors import VerificationFailed

if TYPE_CHECKING:
    from swarm.cli.ledger_reader import Link

PROGRESS_INTERVAL_S = 2.0
TAIL_BLOCKS = 20
_LABELS = {"chain": "network"}
"""Labels on screen of keys that read differently in JSON."""

ledger_app = typer.Typer(help="What everybody agreed on: tail, show, verify.", no_args_is_help=True)


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
    from swarm.cli.ledger_reader import opened, read_head
    from swarm.ledger.describe import block_lines, block_row
    from swarm.ledger.net.archive import read_block
    from swarm.types import Height

    desk = terminal()
    state = read_head(desk.home).state
    with opened(desk.home) as (store, _):
        first = max(state.height - count + 1, 1)
        heights = range(first, state.height + 1)
        links = [link for h in heights if (link := read_block(store, Height(h))) is not None]
    rows = [block_row(state, block, certificate) for block, certificate in links]
    lines = [line for block, _ in links for line in block_lines(state, block)]
    desk.data(rows, lines or ["no block yet"])


@ledger_app.command("show")
def show(
    height: Annotated[int, typer.Argument(help="A height; without one, the whole ledger.")] = -1,
) -> None:
    """Show one block, or the ledger as a whole: network, height, validators, supply."""
    from swarm.cli.ledger_reader import block_of, opened, read_head
    from swarm.ledger.describe import block_lines, block_row, ledger_row

    desk = terminal()
    state = read_head(desk.home).state
    if height < 0:
        row = ledger_row(state)
        desk.data(row, [f"{_label(name):<17} {_plain(row[name])}" for name in row])
        return
    with opened(desk.home) as (store, _):
        block, certificate = block_of(store, height)
    row = block_row(state, block, certificate)
    votes = "covered by a later finalization" if row["votes"] is None else f"{row['votes']} votes"
    roots = [f"    state {row['state_root']}", f"    view {row['view']}, {votes}"]
    lines = block_lines(state, block)
    desk.data(row, [lines[0], *roots, *lines[1:]])


@ledger_app.command("verify")
def verify() -> None:
    """Check every block from the first: hashes, the beacon, signatures, transactions, finality, supply."""
    from swarm.cli.commands.ledger_views import checked_line, run_rows, stake_rows
    from swarm.cli.ledger_reader import opened, proved_links
    from swarm.ledger.chain import verify_chain

    desk, left_out, counts = terminal(), list[int](), dict[str, int]()
    began = time.monotonic()
    with opened(desk.home) as (store, genesis):
        links = _counted(_reported(proved_links(store, left_out), desk), counts)
        try:
            report = verify_chain(genesis, links)
        except VerificationFailed as error:
            again = (
                f"mv {store.path} {store.path}.damaged   (then swarm join TICKET syncs it again)"
            )
            raise VerificationFailed(str(error), hint=again) from None
    state = report.head.state
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
        "unproved_blocks": sum(left_out),
        "seconds": round(time.monotonic() - began, 2),
    }
    lines = [
        f"{state.height} blocks of the network {genesis.chain.hex()[:16]} are valid and final",
        f"{report.num_transactions} transactions, {row['commits']} commits,"
        f" {report.num_certificates} finalizations, supply {report.supply} conserved",
    ]
    lines += [checked_line(run) for run in run_rows(state)]
    if row["unproved_blocks"]:
        lines.append(f"{row['unproved_blocks']} newer blocks wait for a finalization on this disk")
    desk.data(row, lines)


def _counted(links: "Iterator[Link]", counts: dict[str, int]) -> "Iterator[Link]":
    """Yield the blocks, counting their transactions by kind."""
    from swarm.ledger.describe import transaction_row

    for link in links:
        for data in link[0].transactions:
            kind = str(transaction_row(None, data)["kind"])
            counts[kind] = counts.get(kind, 0) + 1
        yield link


def _reported(links: "Iterator[Link]", desk: Terminal) -> "Iterator[Link]":
    """Yield the blocks, reporting how far the check is."""
    told = time.monotonic()
    for link in links:
        now = time.monotonic()
        if now - told > PROGRESS_INTERVAL_S:
            told = now
            desk.say(f"checked up to block {link[0].header.height}")
        yield link


def _label(name: str) -> str:
    """Return the label on screen of a key of the row."""
    return "network" if name == "chain" else name.replace("_", " ")


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(str(one) for one in value)
    return {True: "yes", False: "NO"}[value] if isinstance(value, bool) else str(value)
