"""Choose the segment to audit: the one that was named, or the newest that can be.

Core: the final state and the wish in, a place out. Raises ``UsageError`` with the reason, or how long to wait.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from swarm.crypto import peer_name
from swarm.errors import UsageError
from swarm.ledger.check_records import SegmentPhase
from swarm.ledger.phases import is_reportable_at
from swarm.ledger.records import Run, SegmentRecord
from swarm.ledger.runs import current_round
from swarm.ledger.sampling import num_windows
from swarm.ledger.state import State
from swarm.types import PeerId

_WAITS = {
    SegmentPhase.POSTED: "its verifiers are still being drawn",
    SegmentPhase.SAMPLED: "its verifiers answer blind first",
    SegmentPhase.SEALED: "its solver has yet to show its leaves",
}
_AGAIN = "swarm audit   (without a place: the newest that can be audited)"


@dataclass(frozen=True, slots=True)
class Wish:
    """What the person named; None where anything will do."""

    round: int | None = None
    stage: int | None = None
    seat: int | None = None
    window: int | None = None

    @property
    def names_nothing(self) -> bool:
        """Whether the choice is ours."""
        return (self.round, self.stage, self.seat) == (None, None, None)

    def fits(self, record: SegmentRecord) -> bool:
        """Whether a segment is one of those meant."""
        return (
            self.round in {None, record.round}
            and self.stage in {None, record.stage}
            and self.seat in {None, record.seat}
        )

    def __str__(self) -> str:
        pairs = (("round", self.round), ("stage", self.stage), ("seat", self.seat))
        return ", ".join(f"{name} {value}" for name, value in pairs if value is not None)


@dataclass(frozen=True, slots=True)
class Place:
    """One segment on the ledger, and a window of it if one was named."""

    round: int
    stage: int
    seat: int
    window: int | None
    num_windows: int
    solver: str
    """The name of the peer whose work it is."""
    height: int
    """Where it was committed."""


def choose_place(state: State, run: Run, wish: Wish, me: PeerId | None) -> Place:
    """What to audit.

    Left to choose, it takes the newest segment that is revealed, still inside its challenge window and not
    ``me``'s own. By name, one that nobody checked will do.
    """
    if wish.stage is not None and not 0 <= wish.stage < run.spec.num_stages:
        raise UsageError(
            f"there is no stage {wish.stage}: run {run.spec.name} has {run.spec.num_stages} stages",
            hint="swarm run show",
        )
    known = [record for record in state.live_segments() if record.run == run.index]
    meant = [record for record in known if wish.fits(record)]
    if not meant:
        raise _unknown(state, run, wish, known)
    able = [record for record in meant if _is_open(state, run, record)]
    shown = [record for record in able if record.windows]
    others = [record for record in shown if record.peer != me and _is_in_doubt(record)]
    hidden = [record for record in able if record.phase is SegmentPhase.UNSAMPLED]
    pool = others if wish.names_nothing else others or shown or hidden
    if not pool:
        raise _not_yet(state, run, meant)
    chosen = max(pool, key=lambda r: (r.round, r.height, -r.stage, -r.seat))
    return _place(chosen, run, wish.window)


def _place(record: SegmentRecord, run: Run, window: int | None) -> Place:
    count = num_windows(record.num_steps, run.spec.checks.window_steps)
    if window is not None and not 0 <= window < count:
        raise UsageError(
            f"there is no window {window}: {_where(record)} has {count}, from 0", hint=_AGAIN
        )
    return Place(
        round=record.round,
        stage=record.stage,
        seat=record.seat,
        window=window,
        num_windows=count,
        solver=peer_name(record.peer),
        height=record.height,
    )


def _unknown(state: State, run: Run, wish: Wish, known: Sequence[SegmentRecord]) -> UsageError:
    """No segment on the ledger is the one meant: too early, too late, or never there."""
    name, now = run.spec.name, current_round(run, state.height)
    if wish.names_nothing:
        return UsageError(f"no segment of run {name} is on the ledger yet", hint="swarm run show")
    if wish.round is not None and now is not None and wish.round >= now:
        return UsageError(
            f"round {wish.round} is not committed yet: run {name} trains round {now}", hint=_AGAIN
        )
    if wish.round is not None and wish.round >= run.end_round:
        return UsageError(f"run {name} has {run.end_round} rounds, from 0", hint=_AGAIN)
    rounds = sorted({record.round for record in known})
    if wish.round is not None and rounds and wish.round < rounds[0]:
        blocks = run.spec.checks.challenge_window_blocks
        return UsageError(
            f"the challenge window of round {wish.round} has passed: a segment can be audited and reported"
            f" for {blocks} blocks, and the oldest still on the ledger is of round {rounds[0]}",
            hint=_AGAIN,
        )
    seats = sorted({f"{r.stage}/{r.seat}" for r in known if wish.round in {None, r.round}})
    there = f"; there are seats {', '.join(seats[:12])}" if seats else ""
    return UsageError(f"no segment of {wish} is on the ledger{there}", hint="swarm run show")


def _not_yet(state: State, run: Run, meant: Sequence[SegmentRecord]) -> UsageError:
    """Nothing of what is meant is revealed and open: say it of the one that will be next."""
    waiting = [record for record in meant if record.phase in _WAITS]
    if waiting:
        record = min(waiting, key=lambda r: (r.due, r.round, r.stage, r.seat))
        blocks = max(record.due - state.height, 1)
        return UsageError(
            f"{_where(record)} is not revealed yet: {_WAITS[record.phase]}; look again in {blocks} blocks,"
            f" about {blocks * state.params.block_interval_ms / 1000:.0f} s",
            hint="swarm run show",
        )
    record = max(meant, key=lambda r: (r.round, r.height))
    if not _is_open(state, run, record):
        end = record.height + run.spec.checks.challenge_window_blocks
        return UsageError(
            f"the challenge window of {_where(record)} passed at height {end}", hint=_AGAIN
        )
    if record.phase is SegmentPhase.SILENT:
        return UsageError(
            f"{_where(record)} was never shown, and never paid: there is nothing to audit",
            hint=_AGAIN,
        )
    return UsageError("nothing of others can be audited just now", hint="swarm run show")


def _is_open(state: State, run: Run, record: SegmentRecord) -> bool:
    return is_reportable_at(record, run.spec, state.height)


def _is_in_doubt(record: SegmentRecord) -> bool:
    """What is proven false needs no second auditor."""
    return record.phase is not SegmentPhase.GUILTY


def _where(record: SegmentRecord) -> str:
    return f"segment {record.round}/{record.stage}/{record.seat} of {peer_name(record.peer)}"
