"""Compute the heights at which the phases of a segment end, and find the segment of a statement.

Core: pure functions of a record.

    commit --k--> draw --redraw--> draw --redraw--> draw --redraw--> no request: SEALED
    first request --redraw--> no more requests, windows are dealt --2 rounds--> no more blind answers
    deal --1 round--> complaint --k, 1 round--> its witnesses have decided --1 round--> no more answers
    SEALED --1 round--> the solver is silent       REVEALED --1 round--> no more open answers
    DISPUTED --clocks of both sides--> over         commit --challenge window--> forgotten
    report --1 round--> no more reporter's answers      demand --1 round, at least 10 blocks--> SILENT
"""

from typing import Protocol

from swarm.config.spec import RunSpec
from swarm.errors import InvalidStatement, Reason
from swarm.ledger.state.accusations import Demand
from swarm.ledger.state.draws import Contest
from swarm.ledger.state.records import Check, CheckPhase, SegmentPhase, SegmentRecord
from swarm.ledger.state.state import Reader
from swarm.ledger.transition.sampling import redraw_blocks
from swarm.types import Height, RoundIndex, RunIndex, StageIndex

COMMIT_ROUNDS = 2
"""Rounds for which a segment is accepted after its own, and a checkpoint from its boundary on."""

ANSWER_ROUNDS = 2
"""Rounds for fetching and replaying a window, once it is dealt."""

REVEAL_ROUNDS = 1
"""Rounds for the reveal of the solver, and then of its verifiers: both have what they must show."""

DISPUTE_ROUNDS = 3
"""Rounds that each side of a dispute has for its moves, unless they are short (``hearings.py``)."""

SHOW_BLOCKS_MIN = 10
"""Blocks in which a list can be shown, at least: as many as a validator lets a leader leave an answer out."""

REPORTS_MAX = 8
"""Reports of one segment that wait for a verdict: one is heard after the other."""


class SegmentId(Protocol):
    """Coordinates of a segment, as every statement about one carries them."""

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


def find_segment(reader: Reader, segment_id: SegmentId, *phases: SegmentPhase) -> SegmentRecord:
    """Return the segment of a statement; raise ``InvalidStatement`` if unknown or not in ``phases``."""
    record = reader.segment(segment_id.run, segment_id.round, segment_id.stage, segment_id.seat)
    if record is None:
        where = f"{segment_id.round}/{segment_id.stage}/{segment_id.seat}"
        raise InvalidStatement(Reason.UNKNOWN_SEGMENT, where)
    if record.phase not in phases:
        raise InvalidStatement(Reason.WRONG_PHASE, f"the segment is {record.phase}")
    return record


def check_at(record: SegmentRecord, index: int) -> Check:
    """Return a check of a record by its place; raise ``InvalidStatement`` if there is none."""
    if index >= len(record.checks):
        raise InvalidStatement(Reason.WRONG_PEER, f"the segment has no check {index}")
    return record.checks[index]


def open_checks(record: SegmentRecord) -> tuple[Check, ...]:
    """Return the checks that are under way."""
    under_way = {CheckPhase.REQUESTED, CheckPhase.SEALED}
    return tuple(check for check in record.checks if check.phase in under_way)


def is_waiting_for_answers(record: SegmentRecord) -> bool:
    """Return True if a verifier or a reporter has yet to reveal its answer."""
    return any(check.phase is CheckPhase.SEALED for check in record.checks)


PROVED_LATER = frozenset({CheckPhase.FOUND, CheckPhase.PASSED})
"""Phases of checks in which a proof is waited for."""


def is_open_for_checks(record: SegmentRecord) -> bool:
    """Return True if an answer, or a proof that goes with one, is waited for."""
    is_proof_due = any(check.phase in PROVED_LATER for check in record.checks)
    return is_proof_due or is_waiting_for_answers(record)


def proofs_end(record: SegmentRecord, spec: RunSpec) -> Height:
    """Return the height from which on no proof is waited for that goes with an answer."""
    late = any(check.phase in PROVED_LATER for check in record.checks)
    return Height(record.reveals_end + late * REVEAL_ROUNDS * spec.round_blocks)


def gather_end(record: SegmentRecord, spec: RunSpec) -> Height:
    """Return the height at which windows are dealt: from it on requests for one are refused."""
    return Height(min(check.height for check in open_checks(record)) + redraw_blocks(spec))


def answers_end(record: SegmentRecord, spec: RunSpec) -> Height:
    """Return the height from which on blind answers are refused: a round after the last complaint, at least."""
    ends = [gather_end(record, spec) + ANSWER_ROUNDS * spec.round_blocks]
    ends += [contest.end + spec.round_blocks for contest in record.contests]
    return Height(max(ends))


def contest_start(record: SegmentRecord, spec: RunSpec) -> Height:
    """Return the height from which on a verifier may complain that it was not served."""
    return Height(gather_end(record, spec) + spec.round_blocks)


def contest_end(spec: RunSpec, beacon_delay: int, height: int) -> Height:
    """Return the height at which a complaint of ``height`` is decided: its witnesses have a round."""
    return Height(height + beacon_delay + spec.round_blocks)


def open_contest(record: SegmentRecord) -> Contest | None:
    """Return the complaint that waits for its witnesses; None if there is none."""
    return record.contests[-1] if record.contests and record.contests[-1].is_open else None


def are_reveals_open(record: SegmentRecord, height: int) -> bool:
    """Return True if a verifier or a reporter may still reveal its answer."""
    return is_waiting_for_answers(record) and height < record.reveals_end


def challenge_end(record: SegmentRecord, spec: RunSpec) -> Height:
    """Return the height from which on reports are refused.

    It comes after the challenge window, and at least a round after the solver's reveal.
    """
    window = record.height + spec.checks.challenge_window_blocks + 1
    return Height(max(window, reveal_end(spec, record.shown_height)))


def is_reportable_at(record: SegmentRecord, spec: RunSpec, height: int) -> bool:
    """Return True if the challenge window is open."""
    return height < challenge_end(record, spec)


def forget_height(record: SegmentRecord, spec: RunSpec, height: int) -> Height:
    """Return the height at which a judged segment is forgotten.

    That is the end of its challenge window, or the next block if it has passed; never before its demands end.
    """
    ends = [demand.end + 1 for demand in open_demands(record)]
    return Height(max(challenge_end(record, spec), height + 1, *ends))


def open_demands(record: SegmentRecord) -> tuple[Demand, ...]:
    """Return the demands of which the list is waited for."""
    return tuple(demand for demand in record.demands if demand.is_open)


def demand_end(spec: RunSpec, height: int) -> Height:
    """Return the height at which a demand of ``height`` must be answered."""
    return Height(height + max(spec.round_blocks, SHOW_BLOCKS_MIN))


def reveal_end(spec: RunSpec, height: int) -> Height:
    """Return the end of a reveal phase that starts at ``height``: of the solver, or of its verifiers."""
    return Height(height + REVEAL_ROUNDS * spec.round_blocks)
