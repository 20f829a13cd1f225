"""Show what the ledger knows of peers: their record in each run, and their shares of it.

Core: pure functions of a final state; rows of plain values out.
"""

from collections.abc import Iterator

from swarm.errors import UsageError
from swarm.ledger.describe import Row, short_count
from swarm.ledger.describe_checks import record_row
from swarm.ledger.state.records import Contribution, Run
from swarm.ledger.state.state import State
from swarm.ledger.transition.runs import standing_of
from swarm.ledger.transition.seats import rounds_missed, seats_of
from swarm.primitives.crypto import peer_name, peer_text
from swarm.types import PeerId

NAMES_SHOWN = 5
"""Candidates that an error lists."""


def find_run(state: State, wanted: str) -> Run:
    """Return the run of a number, name, or beginning of a digest; raises ``UsageError`` with candidates."""
    runs = state.runs()
    found = [run for run in runs if wanted in (str(run.index), run.spec.name)]
    if not found and len(wanted) >= 8:  # a shorter one is hardly a digest
        found = [run for run in runs if run.spec_digest.hex().startswith(wanted.lower())]
    if len(found) == 1:
        return found[0]
    names = ", ".join(f"{run.index} {run.spec.name}" for run in (found or runs)[-NAMES_SHOWN:])
    problem = "several runs are called" if found else "no run is called"
    raise UsageError(f"{problem} {wanted[:64]!r}; there are {names or 'none'}", hint="swarm run ls")


def find_account(state: State, wanted: str) -> PeerId:
    """Return the account whose name or PeerID begins so; raises ``UsageError`` with candidates."""
    known = [(peer, peer_name(peer), peer_text(peer)) for peer, _ in state.accounts()]
    found = [peer for peer, *texts in known if wanted in texts]
    found = found or [p for p, *texts in known if any(text.startswith(wanted) for text in texts)]
    if len(found) == 1:
        return found[0]
    names = ", ".join(sorted(map(peer_name, found))[:NAMES_SHOWN])
    problem = "several accounts begin with" if found else "no account begins with"
    raise UsageError(f"{problem} {wanted[:64]!r}{': ' * bool(names)}{names}", hint="swarm peers ls")


def share_rows(state: State, run: Run) -> list[Row]:
    """Return the holders of a run's shares, the largest first: what each holds, and whom it backs."""
    shares = state.run_shares(run.index)
    rows: list[Row] = []
    for peer, work in _workers(state, run):
        if work.shares:
            backs = work.backs if work.backs and work.backs_turn == shares.turn else None
            row: Row = {
                "peer": peer_text(peer),
                "name": peer_name(peer),
                "shares": work.shares,
                "percent": round(100 * work.shares / shares.total, 2),
                "backs": None if backs is None else peer_name(backs),
                "backed_by_percent": round(100 * state.backing(run.index, peer) / shares.total, 2),
            }
            rows.append(row)
    return sorted(rows, key=lambda row: (-_number(row["shares"]), str(row["peer"])))


SHARE_HEADS = ["peer", "shares", "of all", "wants as owner"]


def share_cells(row: Row) -> list[str]:
    """Return the cells of a holder, one for each of ``SHARE_HEADS``."""
    shares = f"{row['shares']:,}"
    return [str(row["name"]), shares, f"{row['percent']:.2f}%", str(row["backs"] or "-")]


def peer_record(state: State, run: Run, peer: PeerId) -> Row:
    """Return the record of a peer in one run: its work, what became of it, and how it stands now."""
    work = state.contribution(run.index, peer)
    seats = seats_of(run, peer)
    round_ = run.next_round
    joined = min((seat.joined_round for seat in seats), default=None)
    standing = standing_of(state, run, peer)
    return {
        "run": run.index,
        "run_name": run.spec.name,
        "segments": work.segments,
        **record_row(work),
        "earned": work.earned,
        "checkpoints": work.checkpoints,
        "proofs": work.proofs,
        "proofs_missed": work.proofs_missed,
        "seats": [f"{seat.stage}/{seat.index}" for seat in seats],
        "rounds_seated": 0 if joined is None else max(round_ - joined, 0),
        "rounds_missed": max((rounds_missed(seat, round_) for seat in seats), default=0),
        "on_trial": any(seat.is_on_trial for seat in seats),
        "volunteer": peer != run.owner and not standing.has_stake,
        "rests_until": work.rest_until if work.rest_until > state.height else None,
    }


def peer_records(state: State, peer: PeerId) -> list[Row]:
    """Return the records of a peer in all runs in which it has a seat or has done anything, by number."""
    rows = (peer_record(state, run, peer) for run in state.runs() if _took_part(state, run, peer))
    return list(rows)


RECORD_HEADS = [
    *("run", "segments", "verified", "false", "silent", "checks", "missed", "refuted", "tokens"),
    *("shares", "earned", "seated", "now"),
]


def record_cells(row: Row) -> list[str]:
    """Return the cells of a record, one for each of ``RECORD_HEADS``."""
    counts = ("segments", "verified", "failed", "silent", "checked", "missed", "refuted")
    big = ("tokens", "shares", "earned")
    return [
        f"{row['run']} {row['run_name']}",
        *(str(row[key]) for key in counts),
        *(short_count(int(_number(row[key]))) for key in big),
        f"{row['rounds_seated']} rounds" if row["rounds_seated"] else "-",
        _standing_text(row),
    ]


def _standing_text(row: Row) -> str:
    words = (
        (row["barred"], "barred"),
        (row["rests_until"], f"may not join before block {row['rests_until']}"),
        (row["on_trial"], "on trial"),
        (row["volunteer"], "a volunteer"),
        (row["strikes"], f"{row['strikes']} of 3 strikes"),
    )
    return ", ".join(text for applies, text in words if applies) or "in good standing"


def _took_part(state: State, run: Run, peer: PeerId) -> bool:
    work = state.contribution(run.index, peer)
    done = work.segments or work.checked or work.missed or work.refuted or work.is_barred
    return bool(done or seats_of(run, peer))


def _workers(state: State, run: Run) -> Iterator[tuple[PeerId, Contribution]]:
    for peer, _ in state.accounts():
        work = state.contribution(run.index, peer)
        if work.segments:
            yield peer, work


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
