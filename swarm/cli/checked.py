"""How the work on a ledger was checked, counted from its final state.

Core: a state in, rows out. What ``swarm ledger verify --json`` says about runs and stakes.
"""

from collections.abc import Iterator

from swarm.crypto import peer_name, peer_text
from swarm.ledger.check_texts import record_row, verdicts_row
from swarm.ledger.queries import verified_share
from swarm.ledger.records import Account, Contribution, Run, SegmentRecord
from swarm.ledger.state import State
from swarm.ledger.verdicts import JUDGED
from swarm.types import PeerId

Row = dict[str, object]


def run_rows(state: State) -> list[Row]:
    """Each run: its verdicts, the share verified of what is older than two rounds, every peer's record."""
    return [_run_row(state, run) for run in state.runs()]


def stake_rows(state: State) -> Row:
    """Whoever has something at stake, on its way back included: by PeerID."""
    rows = (
        (peer, a.stake + sum(part.amount for part in a.unbonding)) for peer, a in _accounts(state)
    )
    return {peer_text(peer): stake for peer, stake in rows if stake}


def checked_line(row: Row) -> str:
    """A run in one line: ``pydocs-demo: 120 segments, 110 of 114 older than two rounds verified, 3 false``."""
    said = f"{row['name']}: {row['segments']} segments"
    said += f", {row['old_verified']} of {row['old_segments']} older than two rounds verified by another peer"
    counts = ((row["guilty"], "proven false"), (row["silent"], "never shown"))
    return ", ".join([said, *(f"{count} {what}" for count, what in counts if count)])


def _run_row(state: State, run: Run) -> Row:
    verified, old = verified_share(state, run)
    live = [record for record in state.live_segments() if record.run == run.index]
    return {
        "name": run.spec.name,
        "segments": run.num_segments,
        **verdicts_row(state.verdicts(run.index)),
        "old_segments": old,
        "old_verified": verified,
        "round_blocks": run.spec.round_blocks,
        "peers": {
            peer_text(peer): _peer_row(state, peer, work, live) for peer, work in _work(state, run)
        },
    }


def _peer_row(state: State, peer: PeerId, work: Contribution, live: list[SegmentRecord]) -> Row:
    waiting = [r for r in live if r.peer == peer and r.phase not in JUDGED]
    return {
        "name": peer_name(peer),
        "segments": work.segments,
        **record_row(work),
        "waiting_blocks": sorted(state.height - record.height for record in waiting),
    }


def _work(state: State, run: Run) -> Iterator[tuple[PeerId, Contribution]]:
    """Everybody who has done something, checks included: sorted by key."""
    for peer, _ in _accounts(state):
        work = state.contribution(run.index, peer)
        if work.segments or work.checked or work.missed:
            yield peer, work


def _accounts(state: State) -> list[tuple[PeerId, Account]]:
    return sorted(state.accounts())
