"""Settle disputes between accusers and solvers, and charge the side that was wrong.

Core: handlers on a draft. Raises ``InvalidStatement``.

    DISPUTED --its solver is convicted, or stays silent--> GUILTY
       |  ^----------- another window is accused
       '--its accuser is refuted, or gives up--> as before
    VERIFIED, UNSAMPLED --blind report--> REVEALED --it differs--> DISPUTED
                                             '-------it agrees---> as before

    any but GUILTY --proof of a lie--> GUILTY                        (frauds.py)
    DISPUTED --moves of both sides--> GUILTY, or an accusation less   (hearings.py)

One accused window at a time is heard, from the block on that opens its dispute. Nobody votes: moves are
arithmetic, and silence is judged by the clock. Of all accusers of a window that is found false the first that
answered blind wins, not the fastest.
"""

from swarm.errors import InvalidStatement, Reason
from swarm.ledger.check_statements import DisputeMove, Report
from swarm.ledger.state.accusations import Accusation, Dispute, Turn
from swarm.ledger.state.draft import APPROVING, Draft
from swarm.ledger.state.records import Check, CheckPhase, SegmentPhase, SegmentRecord
from swarm.ledger.transition.court import Outcome
from swarm.ledger.transition.forced import APPROVED, believe_finders, end_proofs
from swarm.ledger.transition.hearings import (
    abandon,
    begin,
    come_back,
    fall_silent,
    hear,
    without,
)
from swarm.ledger.transition.payments import (
    count,
    expel,
    pay,
    pay_check,
    punish_accuser,
    punish_approver,
    punish_solver,
    release,
    return_bonds,
    return_demands,
    void,
    with_check,
)
from swarm.ledger.transition.phases import (
    REPORTS_MAX,
    are_reveals_open,
    find_segment,
    forget_height,
    is_open_for_checks,
    is_reportable_at,
    reveal_end,
)
from swarm.ledger.transition.prices import report_bond, solver_stake
from swarm.ledger.transition.rollbacks import set_back
from swarm.ledger.transition.sampling import num_windows
from swarm.ledger.transition.seats import with_changed_seat
from swarm.primitives.codec import replace
from swarm.types import Amount, Digest, Height, PeerId

UNREPORTABLE = {
    SegmentPhase.POSTED: "its verifiers come first",
    SegmentPhase.SAMPLED: "its verifiers come first",
    SegmentPhase.SEALED: "its solver must show its windows first",
    SegmentPhase.SILENT: "it is silent: nothing was shown or paid that could be accused",
    SegmentPhase.GUILTY: "it is proven false already",
}
"""Reason a report is refused, by phase. Judged segments may be reported: their verifiers may have colluded."""


STANDING = frozenset({CheckPhase.AGREED, CheckPhase.PASSED, CheckPhase.FOUND, CheckPhase.JACKPOT})
"""Answers that a report of the same peer would take back."""


def first_accusation(record: SegmentRecord, window: int) -> Accusation:
    """Return the accusation of a window that answered blind first; a report only if no verifier did."""
    right = [accusation for accusation in record.accusations if accusation.window == window]
    return min(right, key=lambda accusation: (accusation.is_report, accusation.height))


def heard_accusation(record: SegmentRecord, dispute: Dispute) -> Accusation:
    """Return the accusation that both sides are heard about."""
    return next(one for one in record.accusations if one.peer == dispute.accuser)


def report(draft: Draft, sender: PeerId, body: Report) -> None:
    """Accuse a window blind, at the risk of a bond; the answer is shown within a round."""
    record = find_segment(draft, body, *SegmentPhase)
    spec, params, height = draft.run(record.run).spec, draft.globals.params, draft.height
    if not spec.is_exact:
        raise InvalidStatement(
            Reason.WRONG_PHASE, "where bits differ, drawn verifiers alone reject"
        )
    if record.phase in UNREPORTABLE:
        raise InvalidStatement(Reason.WRONG_PHASE, UNREPORTABLE[record.phase])
    if not is_reportable_at(record, spec, height):
        raise InvalidStatement(Reason.EXPIRED, "its challenge window has passed")
    if sender == record.peer or draft.account(sender).stake < solver_stake(params, spec):
        raise InvalidStatement(Reason.STAKE, "who reports has a stake, and is not the solver")
    windows = num_windows(record.num_steps, spec.checks.window_steps)
    if body.window >= windows:
        raise InvalidStatement(Reason.BAD_FIELD, f"window {body.window} of {windows}")
    _check_first_word(record, sender, body.window)
    bond = report_bond(params, spec, record, draft.contribution(record.run, sender).refuted)
    draft.debit(sender, bond)
    check = Check(
        peer=sender,
        window=body.window,
        phase=CheckPhase.SEALED,
        height=height,
        commitment=body.commitment,
        commit_height=height,
        is_report=True,
        bond=bond,
    )
    record = replace(with_check(record, check), reveals_end=reveal_end(spec, height))
    if record.dispute is None:
        record = replace(record, phase=SegmentPhase.REVEALED)
    draft.put_segment(replace(record, due=_next_due(record, height)))


def _check_first_word(record: SegmentRecord, sender: PeerId, window: int) -> None:
    """Raise unless the window is not judged yet, and the sender has said nothing of the segment that stands."""
    if window in record.judged:
        raise InvalidStatement(Reason.DUPLICATE, "this window is judged")
    waiting = [check for check in record.checks if check.phase is CheckPhase.SEALED]
    answered = {check.peer for check in waiting} | {one.peer for one in record.accusations}
    if sender in answered:
        raise InvalidStatement(Reason.DUPLICATE, "an answer of this peer waits for its verdict")
    stands = [check for check in record.checks if check.phase in STANDING]
    if any(check.peer == sender and not check.is_report for check in stands):
        raise InvalidStatement(Reason.DUPLICATE, "this peer has answered about the segment")
    num_reports = sum(check.is_report for check in waiting)
    if num_reports + sum(one.is_report for one in record.accusations) >= REPORTS_MAX:
        raise InvalidStatement(Reason.FULL, f"{REPORTS_MAX} reports wait for a verdict")


def accuse(draft: Draft, record: SegmentRecord, check: Check, claim: Digest) -> None:
    """Turn a check that differs into an accusation; the first of a segment opens a dispute."""
    accusation = Accusation(
        peer=check.peer,
        window=check.window,
        claim=claim,
        height=check.commit_height,
        is_report=check.is_report,
        bond=check.bond,
    )
    record = with_check(record, replace(check, phase=CheckPhase.DIFFERED, bond=Amount(0)))
    record = replace(record, accusations=(*record.accusations, accusation))
    if record.dispute is not None:
        draft.put_segment(record)
    else:
        _open_next(draft, record)


def move_dispute(draft: Draft, record: SegmentRecord) -> None:
    """Go on without the side that is too late: an accuser loses its bond, a solver its seat, then its stake."""
    dispute = record.dispute
    assert dispute is not None, "a disputed segment has a dispute"
    if draft.height < dispute.deadline:
        _wait(draft, record)
    elif dispute.turn == Turn.ACCUSER:
        accusation = heard_accusation(record, dispute)
        abandon(draft, record, accusation)
        _go_on(draft, without(record, accusation))
    elif dispute.turn == Turn.SOLVER and not dispute.has_returned:
        _wait(draft, fall_silent(draft, record, dispute))
    else:
        _convict(draft, record, dispute)


def make_move(draft: Draft, sender: PeerId, body: DisputeMove) -> None:
    """Hear one side of a dispute, and carry out what its move decides."""
    record = find_segment(draft, body, SegmentPhase.DISPUTED)
    assert record.dispute is not None, "a disputed segment has a dispute"
    accusation = heard_accusation(record, record.dispute)
    record, outcome = hear(draft, sender, body, record, accusation)
    dispute = record.dispute
    assert dispute is not None, "it is over only now"
    match outcome:
        case Outcome.GUILTY:
            _convict(draft, record, dispute)
        case Outcome.FALSE:
            punish_accuser(draft, record, accusation)
            _go_on(draft, without(record, accusation))
        case Outcome.OPEN:
            _wait(draft, record)


def _wait(draft: Draft, record: SegmentRecord) -> None:
    """Keep a disputed segment until something is due: a side is too late, or answers end."""
    draft.put_segment(replace(record, due=_next_due(record, draft.height)))


def end_reveals(draft: Draft, record: SegmentRecord) -> None:
    """Close a revealed segment that nobody accuses, once all answers are in: verified, or paid on trust."""
    is_verified = any(c.phase in APPROVING and not c.is_report for c in record.checks)
    phase = SegmentPhase.VERIFIED if is_verified else SegmentPhase.UNSAMPLED
    if is_verified and not record.is_paid:
        count_verified(draft, record)
    record = pay(draft, record)
    close(draft, record, phase)


def close(draft: Draft, record: SegmentRecord, phase: SegmentPhase) -> None:
    """Give a segment its verdict, and the rest of its verifiers' pay back to the run."""
    if phase in {SegmentPhase.GUILTY, SegmentPhase.SILENT}:
        record = return_demands(draft, record)
    if phase is SegmentPhase.GUILTY:
        record = believe_finders(draft, record)
    record = release(draft, end_proofs(draft, record))
    due = forget_height(record, draft.run(record.run).spec, draft.height)
    draft.put_segment(replace(record, phase=phase, due=due))


def count_verified(draft: Draft, record: SegmentRecord) -> None:
    """Count a segment that was checked and stands, for its peer and its seat."""
    count(draft, record, record.peer, "verified")
    run = draft.run(record.run)
    for seat in run.seats[record.stage] if run.seats else ():
        if seat.index == record.seat and seat.last_verified_round < record.round:
            draft.put_run(with_changed_seat(run, replace(seat, last_verified_round=record.round)))


def _next_due(record: SegmentRecord, height: int) -> Height:
    """Return the height at which silence moves a revealed segment: answers end, or the dispute."""
    ends = [record.dispute.deadline] if record.dispute is not None else []
    if are_reveals_open(record, height):
        ends.append(record.reveals_end)
    return min(ends)


def _open_next(draft: Draft, record: SegmentRecord) -> None:
    """Open the dispute about the window of the oldest accusation: its first accuser is heard."""
    accusation = first_accusation(record, record.accusations[0].window)
    dispute = begin(draft, record, accusation)
    _wait(draft, replace(record, phase=SegmentPhase.DISPUTED, dispute=dispute))


def _convict(draft: Draft, record: SegmentRecord, dispute: Dispute) -> None:
    """Convict the solver: it loses pay, seat and stake.

    The first accuser has a part of the stake, and verifiers that approved the window lose a part of theirs.
    Drawn accusers of the window are paid for their work.
    """
    first = first_accusation(record, dispute.window)
    for check in record.checks:
        if check.phase is CheckPhase.DIFFERED and check.window == dispute.window:
            record = record if check.is_report else pay_check(draft, record, check)
        elif check.phase is CheckPhase.SEALED:  # it had time left, and says nothing any more
            draft.credit(check.peer, check.bond)
            record = with_check(record, replace(check, bond=Amount(0)))
    record = void(draft, return_bonds(draft, record))
    punish_solver(draft, record, first.peer)
    for check in record.checks:
        if check.phase in APPROVED and check.window == dispute.window:
            punish_approver(draft, check.peer)
    come_back(draft, record)
    expel(draft, record)
    set_back(draft, record)
    judged = (*record.judged, dispute.window)
    close(draft, replace(record, dispute=None, judged=judged), SegmentPhase.GUILTY)


def _go_on(draft: Draft, record: SegmentRecord) -> None:
    """Go on after an accusation is settled: with the next one, with answers still to come, or to the end."""
    if record.accusations:
        _open_next(draft, record)
    elif is_open_for_checks(record):
        record = replace(record, phase=SegmentPhase.REVEALED)
        draft.put_segment(replace(record, due=max(record.reveals_end, Height(draft.height + 1))))
    else:
        end_reveals(draft, record)
