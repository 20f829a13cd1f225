"""When the phases of a segment end, in blocks, and which segment a statement is about.

Core: pure functions of a record.

    commit --k--> dice --redraw--> dice --redraw--> dice --redraw--> nobody asked: UNSAMPLED
    first request --redraw--> no more requests --...--> 2 rounds: no more blind answers
    SEALED --1 round--> the solver is silent       REVEALED --1 round--> no more open answers
    DISPUTED --3 rounds--> no verdict              commit --challenge window--> forgotten
    report on what was never shown --1 round--> the solver is silent
"""

from typing import Protocol

from swarm.config.spec import RunSpec
from swarm.errors import InvalidStatement, Reason
from swarm.ledger.state.records import Check, CheckPhase, SegmentPhase, SegmentRecord
from swarm.ledger.state.state import Reader
from swarm.ledger.transition.sampling import redraw_blocks
from swarm.types import Height, RoundIndex, RunIndex, StageIndex

COMMIT_ROUNDS = 2
"""A segment is accepted for two rounds after its own; a checkpoint for two from its boundary."""

ANSWER_ROUNDS = 2
"""For fetching and replaying a window, from the first request."""

REVEAL_ROUNDS = 1
"""For the solver, and then for its verifiers: both have what they must show."""

DISPUTE_ROUNDS = 3
"""For the validators to fetch, replay and vote."""

REPORTS_MAX = 8
"""Reports of one segment that wait for a verdict: each costs every validator a replay."""


class SegmentId(Protocol):
    """Where a segment is: every statement about one says it."""

    @property
    def run(self) -> RunIndex:
        """The run."""
        ...

    @property
    def round(self) -> RoundIndex:
        """The round it was trained in."""
        ...

    @property
    def stage(self) -> StageIndex:
        """The stage."""
        ...

    @property
    def seat(self) -> int:
        """The seat's index within the stage."""
        ...


def find_segment(reader: Reader, place: SegmentId, *phases: SegmentPhase) -> SegmentRecord:
    """The segment a statement is about; raise unless it is on record and in one of ``phases``."""
    record = reader.segment(place.run, place.round, place.stage, place.seat)
    if record is None:
        where = f"{place.round}/{place.stage}/{place.seat}"
        raise InvalidStatement(Reason.UNKNOWN_SEGMENT, where)
    if record.phase not in phases:
        raise InvalidStatement(Reason.WRONG_PHASE, f"the segment is {record.phase}")
    return record


def open_checks(record: SegmentRecord) -> tuple[Check, ...]:
    """The checks that are under way."""
    under_way = {CheckPhase.REQUESTED, CheckPhase.SEALED}
    return tuple(check for check in record.checks if check.phase in under_way)


def gather_end(record: SegmentRecord, spec: RunSpec) -> Height:
    """From this height on nobody may ask for a window any more."""
    return Height(min(check.height for check in open_checks(record)) + redraw_blocks(spec))


def answers_end(record: SegmentRecord, spec: RunSpec) -> Height:
    """From this height on blind answers are too late."""
    first = min(check.height for check in open_checks(record))
    return Height(first + ANSWER_ROUNDS * spec.round_blocks)


def are_reveals_open(record: SegmentRecord, height: int) -> bool:
    """Whether a verifier may still show its answer."""
    waits = any(check.phase is CheckPhase.SEALED for check in record.checks)
    return waits and height < record.reveals_end


def challenge_end(record: SegmentRecord, spec: RunSpec) -> Height:
    """From this height on nobody may report it: its window has passed, and a round since it was shown."""
    return Height(max(record.height + spec.checks.challenge_window_blocks + 1, record.reveals_end))


def is_reportable_at(record: SegmentRecord, spec: RunSpec, height: int) -> bool:
    """Whether the challenge window is open."""
    return height < challenge_end(record, spec)


def forget_height(record: SegmentRecord, spec: RunSpec, height: int) -> Height:
    """When a judged segment is forgotten: with its challenge window, or in the next block."""
    return Height(max(challenge_end(record, spec), height + 1))


def reveal_end(spec: RunSpec, height: int) -> Height:
    """When a solver that must show its leaves from ``height`` on is silent, or verifiers that must are late."""
    return Height(height + REVEAL_ROUNDS * spec.round_blocks)
