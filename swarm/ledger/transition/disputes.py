"""Settle disputes between accusers and solvers, and charge the side that was wrong.

Core: handlers on a draft. Raises ``InvalidStatement``.

    DISPUTED --guilty--> GUILTY
       |  ^----------- another window is accused
       +--false--> CLEARED
       +--no verdict in time--> UNDECIDED
    VERIFIED, UNSAMPLED, CLEARED --blind report--> REVEALED --it differs--> DISPUTED
                                                      '-------it agrees---> as before

    any but GUILTY --proof of a lie--> GUILTY                        (frauds.py)
    DISPUTED --moves of both sides--> GUILTY, or an accusation less   (hearings.py)

One accused window at a time is before the validators. ``settle_dispute`` is the only function that derives a
verdict; ``apply_block`` accepts any other ``Arbiter`` in its stead. No dispute is settled while answers may
still be revealed: the first blind answer that differs wins, not the fastest report.
"""

from collections.abc import Callable
from enum import StrEnum

from swarm.errors import InvalidStatement, Reason
from swarm.ledger.check_statements import DisputeMove, DisputeVote, Report
from swarm.ledger.state.accusations import Accusation, Ballot, Dispute, Turn
from swarm.ledger.state.draft import APPROVING, Draft
from swarm.ledger.state.records import Check, CheckPhase, SegmentPhase, SegmentRecord
from swarm.ledger.state.state import Reader
from swarm.ledger.transition.court import Outcome
from swarm.ledger.transition.forced import APPROVED, end_proofs
from swarm.ledger.transition.hearings import (
    abandon,
    asking_end,
    fallen_silent,
    hear,
    in_hearing,
    to_judges,
    without,
)
from swarm.ledger.transition.payments import (
    count,
    dismiss,
    expel,
    is_exact,
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
    DISPUTE_ROUNDS,
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
    SegmentPhase.UNDECIDED: "its judges gave no verdict, and it does not count as verified",
}
"""Reason a report is refused, by phase. Judged segments may be reported: their verifiers may have colluded."""


class Verdict(StrEnum):
    """State of judgement of an accused window."""

    OPEN = "open"
    GUILTY = "guilty"
    EXPELLED = "expelled"
    """The accuser is the only judge there is: the solver loses pay and seat, and no stake."""
    FALSE = "false"
    """The accusation is false."""


Arbiter = Callable[[Reader, SegmentRecord], Verdict]
"""Judge of the disputed window of a record; a pure function of what is on the ledger."""


def settle_dispute(reader: Reader, record: SegmentRecord) -> Verdict:
    """Return the verdict of more than two thirds of the validators' power, or ``OPEN``.

    The solver and its first accuser do not count. An accuser with more than two thirds of all power is judge
    already over everything on this ledger; alone it may send a solver away, and not take its stake.
    """
    assert record.dispute is not None, "only disputed segments are judged"
    accuser = first_accusation(record, record.dispute.window).peer
    everybody = {validator.peer: validator.power for validator in reader.council.current}
    if 3 * everybody.get(accuser, 0) > 2 * sum(everybody.values()):
        return Verdict.EXPELLED
    power = {peer: power for peer, power in everybody.items() if peer not in {record.peer, accuser}}
    total, ballots = sum(power.values()), record.dispute.ballots
    guilty = sum(power.get(ballot.peer, 0) for ballot in ballots if ballot.is_guilty)
    false = sum(power.get(ballot.peer, 0) for ballot in ballots if not ballot.is_guilty)
    if 3 * guilty > 2 * total:
        return Verdict.GUILTY
    return Verdict.FALSE if 3 * false > 2 * total else Verdict.OPEN


def first_accusation(record: SegmentRecord, window: int) -> Accusation:
    """Return the accusation of a window that answered blind first; a report only if no verifier did."""
    right = [accusation for accusation in record.accusations if accusation.window == window]
    return min(right, key=lambda accusation: (accusation.is_report, accusation.height))


def heard_accusation(record: SegmentRecord, dispute: Dispute) -> Accusation:
    """Return the accusation that both sides are heard about; the first one before they are."""
    heard = [one for one in record.accusations if one.peer == dispute.accuser]
    return heard[0] if heard else first_accusation(record, dispute.window)


def ballots_that_count(
    reader: Reader, record: SegmentRecord, dispute: Dispute
) -> tuple[Ballot, ...]:
    """Return the ballots of validators of now that are no party: who is none any more counts for nothing."""
    parties = {record.peer, first_accusation(record, dispute.window).peer}
    judges = {validator.peer for validator in reader.council.current} - parties
    return tuple(ballot for ballot in dispute.ballots if ballot.peer in judges)


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
    agreed = [check for check in record.checks if check.phase is CheckPhase.AGREED]
    if any(check.peer == sender and not check.is_report for check in agreed):
        raise InvalidStatement(Reason.DUPLICATE, "this peer has approved the segment")
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


def join_dispute(
    draft: Draft, sender: PeerId, body: DisputeVote | DisputeMove, arbiter: Arbiter
) -> None:
    """Take a ballot of a judge, or a move of one of the two sides."""
    if isinstance(body, DisputeVote):
        cast_ballot(draft, sender, body, arbiter)
    else:
        make_move(draft, sender, body)


def cast_ballot(draft: Draft, sender: PeerId, body: DisputeVote, arbiter: Arbiter) -> None:
    """Count a validator's verdict in the open dispute."""
    record = find_segment(draft, body, *SegmentPhase)
    dispute = record.dispute
    if dispute is None:
        raise InvalidStatement(Reason.WRONG_PHASE, f"no dispute: the segment is {record.phase}")
    if body.window != dispute.window:
        raise InvalidStatement(Reason.WRONG_PHASE, f"window {dispute.window} is disputed now")
    is_judge = any(validator.peer == sender for validator in draft.council.current)
    if not is_judge or sender in {record.peer, first_accusation(record, dispute.window).peer}:
        raise InvalidStatement(Reason.WRONG_PEER, "validators judge, and no party its own case")
    if any(ballot.peer == sender for ballot in dispute.ballots):
        raise InvalidStatement(Reason.DUPLICATE, "it has voted")
    if in_hearing(dispute):
        raise InvalidStatement(Reason.WRONG_PHASE, "both sides are heard: arithmetic decides")
    left = ballots_that_count(draft, record, dispute)
    ballots = (*left, Ballot(sender, is_guilty=body.is_guilty))
    record = replace(record, dispute=replace(dispute, ballots=ballots))
    move_dispute(draft, record, arbiter)


def move_dispute(draft: Draft, record: SegmentRecord, arbiter: Arbiter) -> None:
    """Settle a dispute if there is a verdict or its deadline has come; wait otherwise.

    While answers may still be revealed it waits for them, but not beyond the deadline.
    """
    dispute, height = record.dispute, draft.height
    assert dispute is not None, "a disputed segment has a dispute"
    is_over = height >= dispute.deadline
    round_blocks = draft.run(record.run).spec.round_blocks
    may_ask = is_exact(draft, record) and height < asking_end(dispute, round_blocks)
    waits = in_hearing(dispute) or may_ask or are_reveals_open(record, height)
    if waits and not is_over:
        _wait(draft, record)
        return
    if in_hearing(dispute):
        _run_out(draft, record, dispute)
        return
    verdict = arbiter(draft, record)
    if dispute.turn == Turn.SILENT and is_over and verdict is not Verdict.FALSE:
        verdict = Verdict.GUILTY
    if verdict in {Verdict.GUILTY, Verdict.EXPELLED}:
        _convict(draft, record, dispute, takes_stake=verdict is Verdict.GUILTY)
    elif verdict is Verdict.FALSE or is_over:
        _dismiss(draft, record, dispute, is_false=verdict is Verdict.FALSE)
    else:
        _wait(draft, record)


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
            _convict(draft, record, replace(dispute, ballots=()), takes_stake=True)
        case Outcome.FALSE:
            punish_accuser(draft, record, accusation, ())
            _go_on(draft, without(record, accusation))
        case Outcome.ELSEWHERE:
            round_blocks = draft.run(record.run).spec.round_blocks
            dispute = to_judges(dispute, round_blocks, draft.height)
            _wait(draft, replace(record, dispute=dispute))
        case Outcome.OPEN:
            _wait(draft, record)


def _run_out(draft: Draft, record: SegmentRecord, dispute: Dispute) -> None:
    """Go on without the side that has not moved in time: an accuser loses its bond, a solver its say."""
    if dispute.turn == Turn.SOLVER:
        round_blocks = draft.run(record.run).spec.round_blocks
        silent = fallen_silent(dispute, round_blocks, draft.height)
        _wait(draft, replace(record, dispute=silent))
        return
    accusation = heard_accusation(record, dispute)
    abandon(draft, record, accusation)
    _go_on(draft, without(record, accusation))


def _wait(draft: Draft, record: SegmentRecord) -> None:
    """Keep a disputed segment until something is due: a side is too late, answers end, or a verdict counts."""
    height, dispute = draft.height, record.dispute
    due = _next_due(record, height)
    if dispute is not None and is_exact(draft, record):
        asking = asking_end(dispute, draft.run(record.run).spec.round_blocks)
        due = min(due, asking) if height < asking else due
    draft.put_segment(replace(record, due=due))


def end_reveals(draft: Draft, record: SegmentRecord) -> None:
    """Close a revealed segment that nobody accuses, once all answers are in: verified, or paid on trust."""
    if record.is_undecided:
        phase = SegmentPhase.UNDECIDED
    elif record.judged:
        phase = SegmentPhase.CLEARED
    elif any(c.phase in APPROVING and not c.is_report for c in record.checks):
        phase = SegmentPhase.VERIFIED
    else:
        phase = SegmentPhase.UNSAMPLED
    if phase is SegmentPhase.UNDECIDED:
        record = record if record.is_paid else void(draft, record)
    else:
        if not record.is_paid and phase is not SegmentPhase.UNSAMPLED:
            count_verified(draft, record)
        record = pay(draft, record)
    close(draft, record, phase)


def close(draft: Draft, record: SegmentRecord, phase: SegmentPhase) -> None:
    """Give a segment its verdict, and the rest of its verifiers' pay back to the run."""
    if phase in {SegmentPhase.GUILTY, SegmentPhase.SILENT}:
        record = return_demands(draft, record)
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
    """Open a dispute about the oldest accusation."""
    height = draft.height
    deadline = Height(height + DISPUTE_ROUNDS * draft.run(record.run).spec.round_blocks)
    dispute = Dispute(record.accusations[0].window, deadline, ())
    _wait(draft, replace(record, phase=SegmentPhase.DISPUTED, dispute=dispute))


def _convict(draft: Draft, record: SegmentRecord, dispute: Dispute, *, takes_stake: bool) -> None:
    """Convict the solver: it loses pay and seat, and in exact runs its stake.

    The first accuser and the validators that voted guilty share in the stake, and verifiers that approved the
    window lose a part of theirs. Drawn accusers of the window are paid for their work.
    """
    first = first_accusation(record, dispute.window)
    judges = [b.peer for b in ballots_that_count(draft, record, dispute) if b.is_guilty]
    for check in record.checks:
        if check.phase is CheckPhase.DIFFERED and check.window == dispute.window:
            record = record if check.is_report else pay_check(draft, record, check)
        elif check.phase is CheckPhase.SEALED:  # it had time left, and says nothing any more
            draft.credit(check.peer, check.bond)
            record = with_check(record, replace(check, bond=Amount(0)))
    record = void(draft, return_bonds(draft, record))
    if takes_stake and is_exact(draft, record):
        punish_solver(draft, record, first.peer, judges)
        for check in record.checks:
            if check.phase in APPROVED and check.window == dispute.window:
                punish_approver(draft, check.peer)
    expel(draft, record)
    set_back(draft, record)
    judged = (*record.judged, dispute.window)
    close(draft, replace(record, dispute=None, judged=judged), SegmentPhase.GUILTY)


def _dismiss(draft: Draft, record: SegmentRecord, dispute: Dispute, *, is_false: bool) -> None:
    """Settle the accusations of a window that were found false, or of which nothing was found in time."""
    judges = [b.peer for b in ballots_that_count(draft, record, dispute) if not b.is_guilty]
    left = tuple(a for a in record.accusations if a.window != dispute.window)
    for accusation in (a for a in record.accusations if a.window == dispute.window):
        if is_false:
            punish_accuser(draft, record, accusation, judges)
        else:
            dismiss(draft, record, accusation)
    record = replace(
        record,
        accusations=left,
        dispute=None,
        judged=(*record.judged, dispute.window),
        is_undecided=record.is_undecided or not is_false,
    )
    _go_on(draft, record)


def _go_on(draft: Draft, record: SegmentRecord) -> None:
    """Go on after an accusation is settled: with the next one, with answers still to come, or to the end."""
    if record.accusations:
        _open_next(draft, record)
    elif is_open_for_checks(record):
        record = replace(record, phase=SegmentPhase.REVEALED)
        draft.put_segment(replace(record, due=max(record.reveals_end, Height(draft.height + 1))))
    else:
        end_reveals(draft, record)
