"""What does the ledger expect of me now?

Core: a function of the final state, what this node keeps on disk, and what it has under way.

Nothing is remembered but the answers: after a restart the same steps come again, and a step whose statement
is on the ledger comes no more. A statement that was lost comes again some blocks later, as long as its phase is
open. A block judges deadlines before it takes statements, so everything is asked of the next height.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from swarm.errors import InvalidStatement
from swarm.ledger.check_records import Check, CheckPhase, SegmentPhase
from swarm.ledger.check_statements import (
    ATTEMPTS,
    DataRequest,
    DisputeVote,
    RevealSegment,
    VerifyCommit,
    VerifyReveal,
)
from swarm.ledger.checks import CHECKS_MAX
from swarm.ledger.economics import ENVELOPE_BYTES, required_fee
from swarm.ledger.phases import answers_end, are_reveals_open, gather_end, open_checks
from swarm.ledger.records import SegmentRecord
from swarm.ledger.sampling import check_eligible
from swarm.ledger.spec_check import leaves_max
from swarm.ledger.state import State
from swarm.spec import RunSpec
from swarm.training.window import WindowKey
from swarm.types import Height, PeerId
from swarm.verify.answers import OwnAnswer, SeatPlace, place_of, window_of
from swarm.verify.places import has_place, is_often_silent
from swarm.verify.sampling import Drawn

RESUBMIT_BLOCKS = 4
"""A statement that has not moved the state after so many blocks is made again."""
REQUEST_BYTES, COMMIT_BYTES, LEAF_BYTES = 160, 80, 34
"""Of a verifier's three statements, about: who cannot pay for all of them does not ask."""

Statement = DataRequest | VerifyCommit | VerifyReveal | RevealSegment | DisputeVote
StepKey = tuple[type[Statement], WindowKey]


@dataclass(frozen=True, slots=True)
class Say:
    """Submit this statement."""

    key: StepKey
    body: Statement


@dataclass(frozen=True, slots=True)
class JudgeWindow:
    """Fetch and replay what is disputed, and find a verdict; ``Say`` follows from it."""

    key: WindowKey


@dataclass(frozen=True, slots=True)
class CheckWindow:
    """Fetch and replay a window we asked for, and keep the answer; ``Say`` follows from it."""

    key: WindowKey


Step = Say | JudgeWindow | CheckWindow


@dataclass(frozen=True, slots=True)
class Known:
    """What the next steps depend on."""

    state: State
    segments: Sequence[SegmentRecord]
    """Those that are open in it, oldest first: ``watching.Watch``."""
    me: PeerId
    draws: Callable[[SegmentRecord, RunSpec], tuple[Drawn, ...]]
    answers: Mapping[WindowKey, OwnAnswer]
    reveals: Mapping[SeatPlace, RevealSegment]
    verdicts: Mapping[WindowKey, bool]
    """Is it guilty? Of disputed windows this node has judged."""
    sent: Mapping[StepKey, Height]
    """The state's height when a statement was last submitted."""
    checks_max: int
    """Windows this node takes on at once; a promise that is broken counts against it."""

    @property
    def next_height(self) -> Height:
        """Of the first block that can hold what is said now."""
        return Height(self.state.height + 1)


def next_steps(known: Known) -> tuple[Step, ...]:
    """Everything that is due: what is to be said, then windows to judge, then windows to check.

    New requests come only for windows that this node has room for.
    """
    says, judged, checked = list[Say](), list[tuple[int, Step]](), list[tuple[int, Step]]()
    open_dice, owed = list[SegmentRecord](), list[SegmentRecord]()
    for record in known.segments:
        spec = known.state.run(record.run).spec
        says += _show_own(known, record)
        if not spec.is_exact:
            continue
        if _is_judge(known, record):
            _judge(known, record, says, judged)
        check = _my_check(known, record)
        if check is not None:
            before = len(checked)
            _check(known, record, spec, check, says, checked)
            owed += [record] * (len(checked) - before)
        if _takes_requests(known, record, spec):
            open_dice.append(record)
    says += _requests(known, open_dice, owed)
    due = [say for say in says if not _is_under_way(known, say.key)]
    return (*due, *_by_deadline(judged), *_by_deadline(checked))


def _show_own(known: Known, record: SegmentRecord) -> list[Say]:
    """Our leaves, once the blind answers are in, or somebody reports what nobody has checked; never earlier."""
    is_due = record.phase is SegmentPhase.SEALED and known.next_height < record.due
    body = known.reveals.get(place_of(record))
    if record.peer != known.me or not is_due or body is None:
        return []
    return [Say((RevealSegment, window_of(record, 0)), body)]


def _is_judge(known: Known, record: SegmentRecord) -> bool:
    dispute = record.dispute
    if record.phase is not SegmentPhase.DISPUTED or dispute is None or record.peer == known.me:
        return False
    is_validator = any(validator.peer == known.me for validator in known.state.validators)
    has_voted = any(ballot.peer == known.me for ballot in dispute.ballots)
    return is_validator and not has_voted and known.next_height < dispute.deadline


def _judge(
    known: Known, record: SegmentRecord, says: list[Say], work: list[tuple[int, Step]]
) -> None:
    dispute = record.dispute
    assert dispute is not None, "a judge has a dispute"
    key = window_of(record, dispute.window)
    is_guilty = known.verdicts.get(key)
    if is_guilty is None:
        work.append((dispute.deadline, JudgeWindow(key)))
    else:
        body = DisputeVote(*place_of(record), dispute.window, is_guilty=is_guilty)
        says.append(Say((DisputeVote, key), body))


def _my_check(known: Known, record: SegmentRecord) -> Check | None:
    return next((check for check in record.checks if check.peer == known.me), None)


def _check(
    known: Known,
    record: SegmentRecord,
    spec: RunSpec,
    check: Check,
    says: list[Say],
    work: list[tuple[int, Step]],
) -> None:
    """What we owe as a verifier that asked."""
    key, height = window_of(record, check.window), known.next_height
    answer = known.answers.get(key)
    if check.phase is CheckPhase.REQUESTED and record.phase is SegmentPhase.SAMPLED:
        deadline = answers_end(record, spec)
        if height >= deadline:
            return
        if answer is None:
            work.append((deadline, CheckWindow(key)))
        else:
            says.append(Say((VerifyCommit, key), answer.hidden(known.me)))
    elif check.phase is CheckPhase.SEALED and record.windows and answer is not None:
        is_mine = answer.commitment(known.me) == check.commitment
        if is_mine and are_reveals_open(record, height):
            says.append(Say((VerifyReveal, key), answer.shown()))


def _takes_requests(known: Known, record: SegmentRecord, spec: RunSpec) -> bool:
    """Whether the next block would take one more verifier of this segment."""
    if record.phase not in {SegmentPhase.POSTED, SegmentPhase.SAMPLED}:
        return False
    under_way = open_checks(record)
    if len(under_way) >= CHECKS_MAX or any(check.peer == known.me for check in under_way):
        return False
    if under_way:
        return known.next_height < gather_end(record, spec)
    is_over = len(record.draws) >= ATTEMPTS and known.next_height >= record.due
    return bool(record.draws) and not is_over


def _requests(
    known: Known, open_dice: Sequence[SegmentRecord], owed: Sequence[SegmentRecord]
) -> list[Say]:
    """Ask for the windows that the dice gave us, as many as we can promise to replay besides those ``owed``."""
    if len(owed) >= known.checks_max:
        return []
    asked = list[tuple[SegmentRecord, Say]]()
    for record in open_dice:
        drawn = _drawn(known, record)
        if drawn is not None:
            key = window_of(record, drawn.window)
            body = DataRequest(*place_of(record), drawn.attempt, drawn.window, drawn.proof)
            asked.append((record, Say((DataRequest, key), body)))
    # Those on their way take their room first: they are promises, too.
    asked.sort(key=lambda one: not _is_under_way(known, one[1].key))
    says, taken = list[Say](), list(owed)
    for record, say in asked:
        if has_place(record, taken, known.checks_max, partial(_is_silent, known)):
            taken.append(record)
            says.append(say)
    return says


def _is_silent(known: Known, record: SegmentRecord) -> bool:
    return is_often_silent(known.state.contribution(record.run, record.peer))


def _drawn(known: Known, record: SegmentRecord) -> Drawn | None:
    """The throw we ask with, if it is ours to ask; who missed asks with a later throw only."""
    state, spec = known.state, known.state.run(record.run).spec
    try:
        check_eligible(state, record, known.me)
    except InvalidStatement:
        return None
    if not _can_pay(known, spec):
        return None
    missed = _my_check(known, record)
    for drawn in known.draws(record, spec):
        if missed is None or record.draws[drawn.attempt].height > missed.height:
            return drawn
    return None


def _can_pay(known: Known, spec: RunSpec) -> bool:
    """Whether we can pay for all three statements of a check: a promise that is broken costs more."""
    shown = ENVELOPE_BYTES + COMMIT_BYTES + LEAF_BYTES * leaves_max(spec)
    sizes = (ENVELOPE_BYTES + REQUEST_BYTES, ENVELOPE_BYTES + COMMIT_BYTES, shown)
    fees = sum(required_fee(known.state.params, size) for size in sizes)
    return known.state.account(known.me).balance >= fees


def _is_under_way(known: Known, key: StepKey) -> bool:
    sent = known.sent.get(key)
    return sent is not None and known.state.height - sent < RESUBMIT_BLOCKS


def _by_deadline(work: Sequence[tuple[int, Step]]) -> list[Step]:
    return [step for _, step in sorted(work, key=lambda due: due[0])]
