"""Settle disputes between verifiers and solvers, and charge the side that was wrong.

Core: handlers on a draft. Raises ``InvalidStatement``.

    DISPUTED --guilty--> GUILTY
       |  ^----------- another window is accused
       +--false, or no verdict in time--> CLEARED
    UNSAMPLED, never shown --report--> SEALED --reveal--> as the report says: UNSAMPLED | it differs: DISPUTED

One accused window at a time is before the validators. ``settle_dispute`` is the only function that derives a
verdict; ``apply_block`` accepts any other ``Arbiter`` in its stead. No dispute is settled while verifiers may
still reveal their answers: the first blind answer that differs wins, not the fastest report.
"""

from collections.abc import Callable
from enum import StrEnum

from swarm.errors import InvalidStatement, Reason
from swarm.ledger.state.draft import Draft
from swarm.ledger.state.records import (
    Accusation,
    Ballot,
    CheckPhase,
    Dispute,
    Params,
    SegmentPhase,
    SegmentRecord,
)
from swarm.ledger.state.state import Reader
from swarm.ledger.transactions import DisputeVote, Report
from swarm.ledger.transition.accounts import (
    count,
    evict,
    is_exact,
    pay,
    punish_accuser,
    punish_approver,
    punish_solver,
    return_bonds,
    void,
)
from swarm.ledger.transition.phases import (
    DISPUTE_ROUNDS,
    REPORTS_MAX,
    are_reveals_open,
    find_segment,
    forget_height,
    is_reportable_at,
    reveal_end,
)
from swarm.ledger.transition.sampling import num_windows
from swarm.ledger.transition.segments import set_back
from swarm.primitives.codec import replace
from swarm.primitives.commitments import window_claim
from swarm.types import Amount, Height, PeerId

BOND_FEES = 10
"""Least bond of a report, in minimum fees: accusing a segment that earned nothing costs something too."""

UNREPORTABLE = {
    SegmentPhase.POSTED: "its verifiers come first",
    SegmentPhase.SAMPLED: "its verifiers come first",
    SegmentPhase.SEALED: "its solver must show its leaves first",
    SegmentPhase.SILENT: "it is silent: nothing was shown or paid that could be accused",
    SegmentPhase.GUILTY: "it is proven false already",
}
"""Reason a report is refused, by phase. Judged segments may be reported: their verifiers may have colluded."""


class Verdict(StrEnum):
    """State of judgement of an accused window."""

    OPEN = "open"
    GUILTY = "guilty"
    FALSE = "false"
    """The accusation is false."""


Arbiter = Callable[[Reader, SegmentRecord], Verdict]
"""Judge of the disputed window of a record; a pure function of what is on the ledger."""


def settle_dispute(reader: Reader, record: SegmentRecord) -> Verdict:
    """Return the verdict of more than half of the validators' power, the solver's own excluded, or ``OPEN``."""
    assert record.dispute is not None, "only disputed segments are judged"
    power = {v.peer: v.power for v in reader.council.current if v.peer != record.peer}
    total, ballots = sum(power.values()), ballots_that_count(reader, record.dispute)
    guilty = sum(power[ballot.peer] for ballot in ballots if ballot.is_guilty)
    false = sum(power[ballot.peer] for ballot in ballots if not ballot.is_guilty)
    if 2 * guilty > total:
        return Verdict.GUILTY
    return Verdict.FALSE if 2 * false > total else Verdict.OPEN


def ballots_that_count(reader: Reader, dispute: Dispute) -> tuple[Ballot, ...]:
    """Return the ballots of those that are validators now: who is none any more counts for nothing."""
    judges = {validator.peer for validator in reader.council.current}
    return tuple(ballot for ballot in dispute.ballots if ballot.peer in judges)


def report(draft: Draft, sender: PeerId, body: Report) -> None:
    """Accuse a window at the risk of a bond; a solver that has revealed nothing yet must do so now."""
    record = find_segment(draft, body, *SegmentPhase)
    spec, height = draft.run(record.run).spec, draft.height
    if record.phase in UNREPORTABLE:
        raise InvalidStatement(Reason.WRONG_PHASE, UNREPORTABLE[record.phase])
    if not is_reportable_at(record, spec, height):
        raise InvalidStatement(Reason.EXPIRED, "its challenge window has passed")
    if sender == record.peer or draft.account(sender).stake < 1:
        raise InvalidStatement(Reason.STAKE, "who reports has a stake, and is not the solver")
    windows = num_windows(record.num_steps, spec.checks.window_steps)
    if body.window >= windows:
        raise InvalidStatement(Reason.BAD_FIELD, f"window {body.window} of {windows}")
    reports = [accusation for accusation in record.accusations if accusation.is_report]
    if body.window in record.judged or any(old.window == body.window for old in reports):
        raise InvalidStatement(Reason.DUPLICATE, "this window is reported or judged")
    if any(old.peer == sender for old in reports):
        raise InvalidStatement(Reason.DUPLICATE, "a report of this peer waits for its verdict")
    if len(reports) >= REPORTS_MAX:
        raise InvalidStatement(Reason.FULL, f"{REPORTS_MAX} reports wait for a verdict")
    claim = window_claim(body.leaves, body.end_root)
    if record.windows and claim == record.windows[body.window].claim:
        raise InvalidStatement(Reason.BAD_FIELD, "it agrees with what the solver has shown")
    bond = report_bond(draft.globals.params, record)
    draft.debit(sender, bond)
    accusation = Accusation(sender, body.window, claim, height, is_report=True, bond=bond)
    if record.windows:
        accuse(draft, record, accusation)
    else:
        due = reveal_end(spec, height)
        sealed = replace(record, phase=SegmentPhase.SEALED, accusations=(accusation,), due=due)
        draft.put_segment(sealed)


def answer_report(draft: Draft, record: SegmentRecord) -> None:
    """Compare the leaves just revealed with the report that demanded them.

    If they agree, the reporter may be an accomplice that shielded the segment. It stays open to further
    reports for a round at least.
    """
    (accusation,) = record.accusations
    spec, height = draft.run(record.run).spec, draft.height
    record = replace(record, reveals_end=reveal_end(spec, height))
    if accusation.claim != record.windows[accusation.window].claim:
        _open_next(draft, record)
        return
    draft.credit(record.peer, accusation.bond)
    _close(draft, replace(record, phase=SegmentPhase.UNSAMPLED, accusations=()))


def report_bond(params: Params, record: SegmentRecord) -> Amount:
    """Return the bond a reporter loses if it is wrong: the solver's reward, or a few fees if that is more."""
    return Amount(max(record.reward, BOND_FEES * params.fee_min))


def accuse(draft: Draft, record: SegmentRecord, accusation: Accusation) -> None:
    """Record an accusation; the first of a segment opens a dispute."""
    record = replace(record, accusations=(*record.accusations, accusation))
    if record.dispute is not None:
        draft.put_segment(record)
    else:
        _open_next(draft, record)


def cast_ballot(draft: Draft, sender: PeerId, body: DisputeVote, arbiter: Arbiter) -> None:
    """Count a validator's verdict in the open dispute."""
    record = find_segment(draft, body, *SegmentPhase)
    dispute = record.dispute
    if dispute is None:
        raise InvalidStatement(Reason.WRONG_PHASE, f"no dispute: the segment is {record.phase}")
    if body.window != dispute.window:
        raise InvalidStatement(Reason.WRONG_PHASE, f"window {dispute.window} is disputed now")
    is_judge = any(validator.peer == sender for validator in draft.council.current)
    if not is_judge or sender == record.peer:
        raise InvalidStatement(Reason.WRONG_PEER, "validators judge, and nobody its own work")
    if any(ballot.peer == sender for ballot in dispute.ballots):
        raise InvalidStatement(Reason.DUPLICATE, "it has voted")
    ballots = (*ballots_that_count(draft, dispute), Ballot(sender, is_guilty=body.is_guilty))
    record = replace(record, dispute=replace(dispute, ballots=ballots))
    move_dispute(draft, record, arbiter)


def move_dispute(draft: Draft, record: SegmentRecord, arbiter: Arbiter) -> None:
    """Settle a dispute if there is a verdict or its deadline has come; wait otherwise."""
    dispute = record.dispute
    assert dispute is not None, "a disputed segment has a dispute"
    if are_reveals_open(record, draft.height):
        draft.put_segment(record)
        return
    verdict = arbiter(draft, record)
    if verdict is Verdict.GUILTY:
        _convict(draft, record, dispute)
    elif verdict is Verdict.FALSE or draft.height >= dispute.deadline:
        _dismiss(draft, record, dispute, is_false=verdict is Verdict.FALSE)
    else:
        draft.put_segment(replace(record, due=dispute.deadline))


def _open_next(draft: Draft, record: SegmentRecord) -> None:
    """Open a dispute about the oldest accusation."""
    height = draft.height
    deadline = Height(height + DISPUTE_ROUNDS * draft.run(record.run).spec.round_blocks)
    dispute = Dispute(record.accusations[0].window, deadline, ())
    due = record.reveals_end if are_reveals_open(record, height) else deadline
    draft.put_segment(replace(record, phase=SegmentPhase.DISPUTED, dispute=dispute, due=due))


def _convict(draft: Draft, record: SegmentRecord, dispute: Dispute) -> None:
    """Convict the solver: it loses pay and seat, and in exact runs its stake.

    In exact runs the first accuser and the validators that voted guilty are rewarded, and verifiers that
    approved the window lose a part of their stake.
    """
    right = [a for a in record.accusations if a.window == dispute.window]
    first = min(right, key=lambda accusation: (accusation.is_report, accusation.height))
    record = void(draft, return_bonds(draft, record))
    if is_exact(draft, record):
        judges = [b.peer for b in ballots_that_count(draft, dispute) if b.is_guilty]
        punish_solver(draft, record, first.peer, judges)
        for check in record.checks:
            if check.phase is CheckPhase.AGREED and check.window == dispute.window:
                punish_approver(draft, check.peer)
    evict(draft, record)
    set_back(draft, record)
    count(draft, record, record.peer, "failed")
    judged = (*record.judged, dispute.window)
    _close(draft, replace(record, phase=SegmentPhase.GUILTY, dispute=None, judged=judged))


def _dismiss(draft: Draft, record: SegmentRecord, dispute: Dispute, *, is_false: bool) -> None:
    """Dismiss the accusations of the disputed window; an accuser pays only if proven false."""
    left = tuple(a for a in record.accusations if a.window != dispute.window)
    for accusation in (a for a in record.accusations if a.window == dispute.window):
        if is_false:
            punish_accuser(draft, record, accusation)
        else:
            draft.credit(accusation.peer, accusation.bond)
    judged = (*record.judged, dispute.window)
    record = replace(record, accusations=left, dispute=None, judged=judged)
    if left:
        _open_next(draft, record)
        return
    if not record.is_paid:
        count(draft, record, record.peer, "verified")
    _close(draft, replace(pay(draft, record), phase=SegmentPhase.CLEARED))


def _close(draft: Draft, record: SegmentRecord) -> None:
    spec = draft.run(record.run).spec
    draft.put_segment(replace(record, due=forget_height(record, spec, draft.height)))
