"""Derive the verification duties that the ledger expects of this node now.

Core: a function of the final state, what this node has stored, and the statements it has under way.

After a restart the same steps are derived again, except those whose statement is already on the ledger. A
statement that got lost is repeated some blocks later, as long as its phase is open. A block applies deadlines
before it takes statements, so every condition is evaluated at the next height.

VRF draws decide which segments this node may check; few windows are replayed at a time, and as many more asked
for. A solver that serves nothing holds its slot until the deadline, and that costs it no more than the pay of
its segment. So no solver gets two slots, and one slot is never given to a solver that is often silent: silent
peers, one or many, cannot keep a verifier from the work of the others.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from swarm.config.spec import RunSpec
from swarm.config.tolerance import is_checked
from swarm.errors import InvalidStatement
from swarm.ledger.check_statements import (
    ATTEMPTS,
    PANEL,
    ContestService,
    DataRequest,
    DisputeMove,
    ForcedError,
    RevealSegment,
    TraceFraud,
    VerifyCommit,
    VerifyReveal,
    WitnessService,
)
from swarm.ledger.state.accusations import Dispute, Turn
from swarm.ledger.state.draws import Contest, Panel
from swarm.ledger.state.records import (
    UNDEALT,
    Check,
    CheckPhase,
    Contribution,
    SegmentPhase,
    SegmentRecord,
)
from swarm.ledger.state.state import State
from swarm.ledger.transition.forced import known_seed
from swarm.ledger.transition.phases import (
    answers_end,
    are_reveals_open,
    contest_start,
    gather_end,
    open_checks,
    open_contest,
    proofs_end,
)
from swarm.ledger.transition.prices import (
    CHECKS_MAX,
    PANEL_SIZE,
    check_fee,
    contest_bond,
    request_bond,
)
from swarm.ledger.transition.sampling import (
    check_eligible,
)
from swarm.ledger.transition.tolerance import is_fresh
from swarm.training.record.window import WindowKey
from swarm.types import Amount, Height, PeerId
from swarm.verify.answers import (
    ForcedKey,
    OwnAnswer,
    SegmentKey,
    is_proof_due,
    key_of,
    seat_of,
    window_of,
)
from swarm.verify.draws import SelectedDraw

SILENT_SHARE = 8
"""Verified segments that outweigh one silent segment: a solver with fewer of them is often silent."""


SHOWN = frozenset({SegmentPhase.REVEALED, SegmentPhase.DISPUTED, SegmentPhase.DOUBTED})
"""Phases in which verifiers and reporters show their answers."""


def is_often_silent(done: Contribution) -> bool:
    """Return True if a solver was silent too often for the number of its verified segments in this run."""
    return done.silent * SILENT_SHARE > done.verified


def has_slot(
    record: SegmentRecord,
    owed: Sequence[SegmentRecord],
    asked: Sequence[SegmentRecord],
    num_slots: int,
    is_silent: Callable[[SegmentRecord], bool],
) -> bool:
    """Return True if a slot is free for a window of ``record``.

    Windows that are ``owed`` have ``num_slots`` slots, and so have those that are ``asked`` for and not dealt
    yet: a node would else do nothing while others ask.
    """
    taken = [*owed, *asked]
    if max(len(owed), len(asked)) >= num_slots or any(one.peer == record.peer for one in taken):
        return False
    num_silent = sum(map(is_silent, taken))
    return not is_silent(record) or num_silent < max(num_slots - 1, 1)


RESUBMIT_BLOCKS = 4
"""Blocks after which a statement that has not changed the state is submitted again."""

SPEAK_BLOCKS_MIN = 2
"""Blocks before the end of a complaint at which a witness says that it could not get the log, at least."""

Statement = (
    DataRequest
    | VerifyCommit
    | VerifyReveal
    | RevealSegment
    | DisputeMove
    | ContestService
    | WitnessService
    | TraceFraud
    | ForcedError
)
StepKey = tuple[type[Statement], WindowKey] | tuple[type[Statement], WindowKey, int]
"""Kind and window of a statement, and its number, where there are several."""


@dataclass(frozen=True, slots=True)
class Submit:
    """Step that submits a statement to the ledger."""

    key: StepKey
    body: Statement
    since: int = 0
    """Height below which its key stood for another statement, as for the move before this one."""


@dataclass(frozen=True, slots=True)
class CheckWindow:
    """Step that fetches and replays a requested window and stores the answer; a ``Submit`` follows from it."""

    key: WindowKey


@dataclass(frozen=True, slots=True)
class HoldWindow:
    """Step that gets the log of a contested window as a witness, and replays it; a ``Submit`` follows."""

    key: WindowKey


@dataclass(frozen=True, slots=True)
class MoveKey:
    """Id of a move in a dispute: the window, and since when it is whose turn."""

    key: WindowKey
    turn: int
    since: Height


@dataclass(frozen=True, slots=True)
class FindMove:
    """Step that finds this node's move in a dispute; a ``Submit`` follows from it."""

    move: MoveKey

    @property
    def key(self) -> WindowKey:
        """Key of the window."""
        return self.move.key


@dataclass(frozen=True, slots=True)
class SitWindow:
    """Step that replays every log of a doubted window, as a member of its panel; a ``Submit`` follows."""

    key: WindowKey


@dataclass(frozen=True, slots=True)
class ProveForced:
    """Step that finds what shows that a verifier approved an error of ours; several ``Submit`` follow."""

    key: WindowKey
    place: int
    """Place of its check in the record."""


DutyStep = Submit | CheckWindow | HoldWindow | FindMove | SitWindow | ProveForced


@dataclass(frozen=True, slots=True)
class VerifierView:
    """Inputs of ``next_duties``."""

    state: State
    segments: Sequence[SegmentRecord]
    """Segments that are open in ``state``, oldest first: ``changes.OpenSegments``."""
    me: PeerId
    draws: Callable[[SegmentRecord, Amount], tuple[SelectedDraw, ...]]
    witness: Callable[[SegmentRecord, Contest, Amount], bytes | None]
    """Our proof if we are drawn as a witness of a complaint; ``Draws.witness``."""
    panel: Callable[[SegmentRecord, Panel, Amount], tuple[bytes, int] | None]
    """Our proof and dice if we are drawn to sit on a panel; ``Draws.panel``."""
    holds: Callable[[WindowKey], bool | None]
    """True if a window was served to this node; None while it cannot tell (``Logs.holds``)."""
    answers: Mapping[WindowKey, OwnAnswer]
    reveals: Mapping[SegmentKey, RevealSegment]
    moves: Mapping[MoveKey, bytes | None]
    """Moves of this node in disputes; None where it has none to make."""
    proofs: Mapping[WindowKey, bytes]
    """Proofs that something was stated falsely to this node as a verifier, on purpose or not."""
    forced: Mapping[ForcedKey, tuple[bytes, ...]]
    """Proofs that verifiers approved what this node made false on purpose; empty where it was not false."""
    sent: Mapping[StepKey, Height]
    """Height of the state at which each statement was last submitted."""
    checks_max: int
    """Windows that this node replays at a time; one that it requests and does not answer counts against it."""

    @property
    def next_height(self) -> Height:
        """Height of the first block that can hold a statement submitted now."""
        return Height(self.state.height + 1)


class Taken(NamedTuple):
    """Segments that hold the slots of this node."""

    owed: list[SegmentRecord]
    """Those of which it has been dealt a window that it has not replayed."""
    asked: list[SegmentRecord]
    """Those of which it has asked for one."""


def next_duties(known: VerifierView) -> tuple[DutyStep, ...]:
    """Return all steps that are due: statements to submit, then moves to find, then windows to check.

    Moves and checks come in the order of their deadlines. New windows are requested only while this node
    has the capacity to replay them.
    """
    submissions, sought, checked = (
        list[Submit](),
        list[tuple[int, DutyStep]](),
        list[tuple[int, DutyStep]](),
    )
    open_draws, taken = list[SegmentRecord](), Taken([], [])
    for record in known.segments:
        spec = known.state.run(record.run).spec
        submissions += _show_own(known, record)
        _show_forced(known, record, spec, submissions, checked)
        if not is_checked(spec):
            continue
        _move(known, record, submissions, sought)
        _witness(known, record, spec, submissions, checked)
        check = _my_check(known, record)
        if check is not None and check.window == UNDEALT:
            taken.asked.append(record)
        elif check is not None:
            before = len(checked)
            _check(known, record, spec, check, submissions, checked)
            if not _has_complained(known, record):
                taken.owed.extend([record] * (len(checked) - before))
        if _takes_requests(known, record, spec):
            open_draws.append(record)
    submissions += _proofs(known)
    submissions += _requests(known, open_draws, taken)
    if len(taken.owed) < known.checks_max:
        submissions += _offers(known)
    due = [one for one in submissions if not _is_under_way(known, one)]
    return (*due, *_by_deadline(sought), *_by_deadline(checked))


def _show_own(known: VerifierView, record: SegmentRecord) -> list[Submit]:
    """Return our reveal once the blind answers are in, or nobody was drawn to give one; never earlier."""
    is_due = record.phase is SegmentPhase.SEALED and known.next_height < record.due
    body = known.reveals.get(key_of(record))
    if record.peer != known.me or not is_due or body is None:
        return []
    return [Submit((RevealSegment, window_of(record, 0)), body)]


def _show_forced(
    known: VerifierView,
    record: SegmentRecord,
    spec: RunSpec,
    submissions: list[Submit],
    work: list[tuple[int, DutyStep]],
) -> None:
    """Add the steps by which we show that a verifier approved what we had stated falsely on purpose."""
    if record.peer != known.me or record.phase not in SHOWN:
        return
    for place, check in enumerate(record.checks):
        if check.phase is not CheckPhase.PASSED:
            continue
        key, end = window_of(record, check.window), proofs_end(record, spec)
        proofs = known.forced.get((key, place))
        if proofs is None:
            work.append((end, ProveForced(key, place)))
            continue
        for number, proof in enumerate(proofs):
            if not check.proved >> number & 1:
                body = ForcedError(*key_of(record), place, number, proof)
                submissions.append(Submit((ForcedError, key, place * len(proofs) + number), body))


def _proofs(known: VerifierView) -> list[Submit]:
    """Return the proofs of what was stated falsely to us, and not on purpose, once that is known."""
    found, height = list[Submit](), known.next_height
    for key, proof in known.proofs.items():
        record, run = known.state.segment(*seat_of(key)), known.state.find_run(key.run)
        if record and run and is_proof_due(record, run.spec, known.me, key.window, height):
            body = TraceFraud(*key_of(record), proof)
            found.append(Submit((TraceFraud, key), body))
    return found


def _move(
    known: VerifierView,
    record: SegmentRecord,
    submissions: list[Submit],
    work: list[tuple[int, DutyStep]],
) -> None:
    """Add the step that is due from this node as a side of a dispute: to find its move, or to make it."""
    dispute = record.dispute
    if record.phase is not SegmentPhase.DISPUTED or dispute is None:
        return
    if not _is_my_turn(known, record, dispute) or known.next_height >= dispute.deadline:
        return
    key = window_of(record, dispute.window)
    step = FindMove(MoveKey(key, dispute.turn, dispute.since))
    if step.move not in known.moves:
        work.append((dispute.deadline, step))
        return
    move = known.moves[step.move]
    if move is not None:
        body = DisputeMove(
            run=key.run,
            round=key.round,
            stage=key.stage,
            seat=key.seat,
            window=key.window,
            move=move,
        )
        submissions.append(Submit((DisputeMove, key), body, dispute.since))


def _is_my_turn(known: VerifierView, record: SegmentRecord, dispute: Dispute) -> bool:
    """Return True if this node moves; a solver that was silent comes back as long as it may."""
    mover = dispute.accuser if dispute.turn == Turn.ACCUSER else record.peer
    return mover == known.me


def _has_complained(known: VerifierView, record: SegmentRecord) -> bool:
    """Return True if this node was not served and has said so: the window holds no place of another any more.

    A solver that serves nobody would else have its next segments for nothing, while all verifiers wait.
    """
    return any(record.checks[case.check].peer == known.me for case in record.contests)


def _my_check(known: VerifierView, record: SegmentRecord) -> Check | None:
    return next((check for check in record.checks if check.peer == known.me), None)


def _check(
    known: VerifierView,
    record: SegmentRecord,
    spec: RunSpec,
    check: Check,
    submissions: list[Submit],
    work: list[tuple[int, DutyStep]],
) -> None:
    """Add the step that is due from this node as a verifier that requested a window."""
    key, height = window_of(record, check.window), known.next_height
    place = record.checks.index(check)
    answer = known.answers.get(key)
    if check.phase is CheckPhase.REQUESTED and record.phase is SegmentPhase.SAMPLED:
        deadline = answers_end(record, spec)
        if height >= deadline:
            return
        if answer is None:
            work.append((deadline, CheckWindow(key)))
            submissions += _complaint(known, record, spec, check)
        else:
            submissions.append(Submit((VerifyCommit, key), answer.hidden(known.me, place)))
    elif check.phase is CheckPhase.REQUESTED and _sits(record) and height < record.due:
        if answer is None:
            work.append((record.due, SitWindow(key)))
        else:
            submissions.append(Submit((VerifyCommit, key), answer.hidden(known.me, place)))
    elif check.phase is CheckPhase.SEALED and record.phase in SHOWN and answer is not None:
        is_mine = answer.commitment(known.me) == check.commitment
        if is_mine and are_reveals_open(record, height):
            is_forced = known_seed(record, spec, check) is not None
            body = answer.shown(place, record.claims[check.window], is_forced=is_forced)
            submissions.append(Submit((VerifyReveal, key), body))


def _sits(record: SegmentRecord) -> bool:
    """Return True if a panel about the segment is seated: its members replay, and answer blind."""
    is_seated = record.panel is not None and record.panel.is_seated
    return record.phase is SegmentPhase.DOUBTED and is_seated


def _offers(known: VerifierView) -> list[Submit]:
    """Return the offer to sit on a panel that is due from this node; one at a time, where its dice count."""
    for record in known.segments:
        panel, height = record.panel, known.next_height
        if record.phase is not SegmentPhase.DOUBTED or panel is None or panel.is_seated:
            continue
        if not panel.draws or not panel.draws[-1].height < height < record.due:
            continue
        spec = known.state.run(record.run).spec
        if not is_checked(spec) or not is_fresh(record, known.me):
            continue
        try:
            stake = check_eligible(known.state, record, spec, known.me)
        except InvalidStatement:
            continue
        found = known.panel(record, panel, stake)
        bond = request_bond(known.state.params, record) + check_fee(known.state.params)
        if found is None or known.state.account(known.me).balance < bond:
            continue
        proof, dice = found
        worst = panel.seats[-1] if len(panel.seats) == PANEL_SIZE else None
        if worst is None or dice * worst.stake < worst.dice * stake:
            body = DataRequest(*key_of(record), PANEL, proof)
            return [Submit((DataRequest, window_of(record, panel.window)), body)]
    return []


def _complaint(
    known: VerifierView, record: SegmentRecord, spec: RunSpec, check: Check
) -> list[Submit]:
    """Return our complaint if we have no log of our window a round after it was dealt."""
    key, place = window_of(record, check.window), record.checks.index(check)
    was_heard = any(c.check == place and c.height > check.height for c in record.contests)
    is_early = known.next_height < contest_start(record, spec)
    if is_early or was_heard or open_contest(record) is not None or known.holds(key) is not False:
        return []
    body = ContestService(*key_of(record), place, check.window)
    return [Submit((ContestService, key), body)]


def _witness(
    known: VerifierView,
    record: SegmentRecord,
    spec: RunSpec,
    submissions: list[Submit],
    work: list[tuple[int, DutyStep]],
) -> None:
    """Add the step that is due from this node as a drawn witness: get the log, then say whether it could.

    Who has a log and has not replayed it says nothing: it does not know.
    """
    case, height = open_contest(record), known.next_height
    if case is None or case.draw is None or not case.draw.height < height < case.end:
        return
    if known.me in {record.checks[case.check].peer, *case.served, *case.refused}:
        return
    try:
        stake = check_eligible(known.state, record, spec, known.me)
    except InvalidStatement:
        return
    proof = known.witness(record, case, stake)
    if proof is None or known.state.account(known.me).balance < check_fee(known.state.params):
        return
    key = window_of(record, case.window)
    is_served = known.holds(key)
    is_time = height >= case.end - max(spec.round_blocks // 3, SPEAK_BLOCKS_MIN)
    if is_served or (is_served is False and is_time):
        body = WitnessService(*key_of(record), case.check, is_served, proof)
        submissions.append(Submit((WitnessService, key), body))
    else:
        work.append((case.end, HoldWindow(key)))


def _takes_requests(known: VerifierView, record: SegmentRecord, spec: RunSpec) -> bool:
    """Return True if the next block would take one more verifier of this segment."""
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
    known: VerifierView, open_draws: Sequence[SegmentRecord], taken: Taken
) -> list[Submit]:
    """Return requests for which our VRF draws select us, that we can pay, and have a slot for."""
    if max(map(len, taken)) >= known.checks_max:
        return []
    asked, spare = (
        list[tuple[SegmentRecord, Submit]](),
        int(known.state.account(known.me).balance),
    )
    for record in open_draws:
        selected = _first_draw(known, record, spare)
        if selected is not None:
            body = DataRequest(*key_of(record), selected.attempt, selected.proof)
            since = record.draws[selected.attempt].height
            asked.append((record, Submit((DataRequest, window_of(record, 0)), body, since)))
    # Requests that are already submitted take capacity first: their answers are owed, too.
    asked.sort(key=lambda one: not _is_under_way(known, one[1]))
    submissions, waiting = list[Submit](), list(taken.asked)
    for record, submission in asked:
        price = _price(known, record)
        silent = partial(_is_silent, known)
        is_free = has_slot(record, taken.owed, waiting, known.checks_max, silent)
        if is_free and price <= spare:
            spare -= price
            waiting.append(record)
            submissions.append(submission)
    return submissions


def _is_silent(known: VerifierView, record: SegmentRecord) -> bool:
    return is_often_silent(known.state.contribution(record.run, record.peer))


def _first_draw(known: VerifierView, record: SegmentRecord, spare: int) -> SelectedDraw | None:
    """Return the first VRF draw with which this node may request a window; None if there is none.

    A verifier that missed its check needs a beacon draw later than its request.
    """
    state, spec = known.state, known.state.run(record.run).spec
    try:
        stake = check_eligible(state, record, spec, known.me)
    except InvalidStatement:
        return None
    if _price(known, record) > spare:
        return None
    missed = _my_check(known, record)
    for selected in known.draws(record, stake):
        if missed is None or record.draws[selected.attempt].height > missed.height:
            return selected
    return None


def _price(known: VerifierView, record: SegmentRecord) -> int:
    """Return the bond of a check, the fee of its request, and the bond of a complaint, if it is not served."""
    params, spec = known.state.params, known.state.run(record.run).spec
    return check_fee(params) + request_bond(params, record) + contest_bond(params, spec, record)


def _is_under_way(known: VerifierView, submission: Submit) -> bool:
    sent = known.sent.get(submission.key)
    return sent is not None and submission.since <= sent > known.state.height - RESUBMIT_BLOCKS


def _by_deadline(work: Sequence[tuple[int, DutyStep]]) -> list[DutyStep]:
    return [step for _, step in sorted(work, key=lambda due: due[0])]
