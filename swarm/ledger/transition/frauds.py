"""Convict a solver by what it has signed itself: one transaction, no hearing.

Core: handlers on a draft. Raises ``InvalidStatement``.

    any but GUILTY --proof of a lie about an edge--> GUILTY
    any but GUILTY --proof of a false statement about a window--> GUILTY   (runs with exact numerics)

Every validator sees the proof in the block. What an edge needs is two signatures and an opening of a list; a
statement about a window is judged by the court, as the last move of a dispute is. Source: rules L92 and L99.
"""

from swarm.errors import BadSignature, InvalidStatement, PeerFault, Reason
from swarm.ledger.check_statements import Fraud, TraceFraud
from swarm.ledger.edges import EdgeFraud, check_fraud
from swarm.ledger.state.draft import Draft
from swarm.ledger.state.records import CheckPhase, SegmentPhase, SegmentRecord
from swarm.ledger.transition.court import Stated, refusal, the_court
from swarm.ledger.transition.disputes import close, first_accusation
from swarm.ledger.transition.forced import refuse_forced, settle_convicted
from swarm.ledger.transition.hearings import come_back
from swarm.ledger.transition.payments import (
    expel,
    is_exact,
    punish_solver,
    return_bonds,
    void,
    with_check,
    with_contest,
)
from swarm.ledger.transition.phases import find_segment, is_reportable_at, open_contest
from swarm.ledger.transition.rollbacks import set_back
from swarm.primitives.codec import replace
from swarm.types import Amount, PeerId

CONVICTABLE = tuple(phase for phase in SegmentPhase if phase is not SegmentPhase.GUILTY)
"""Phases of a segment in which a lie may be proved."""


def convict_by_proof(draft: Draft, sender: PeerId, body: Fraud) -> None:
    """Convict the solver of a segment of a lie that its own signature proves, or refuse the proof."""
    record = find_segment(draft, body, *CONVICTABLE)
    if not is_reportable_at(record, draft.run(record.run).spec, draft.height):
        raise InvalidStatement(Reason.EXPIRED, "its challenge window has passed")
    match body:
        case EdgeFraud():
            _check_edge(draft, record, body)
            _convict(draft, sender, record, _finder(record, sender))
        case TraceFraud():
            said = _check_trace(draft, record, body)
            finder = _finder(record, sender, said.digest)
            record = settle_convicted(draft, record, said.digest)
            _convict(draft, sender, record, finder)


def _check_edge(draft: Draft, record: SegmentRecord, body: EdgeFraud) -> None:
    """Raise unless a solver sent something else than its commit says."""
    check_fraud(
        body,
        peer=record.peer,
        incarnation=record.incarnation,
        sent_root=record.sent_root,
        chain=draft.globals.chain,
        run_digest=draft.run(record.run).spec_digest,
    )


def _check_trace(draft: Draft, record: SegmentRecord, body: TraceFraud) -> Stated:
    """Return what a solver has stated of a window, if something in it is false, and not on purpose; else raise.

    A signature in the proof that is not the solver's never comes from a difference in height, so who passes
    such a proof on is blamed for it, as for the signature of a transaction.
    """
    if not is_exact(draft, record):
        raise InvalidStatement(Reason.WRONG_PHASE, "honest machines differ in a run like this")
    try:
        said = the_court().lie_about(body.proof)
        if said.is_element:
            refuse_forced(record, draft.run(record.run).spec, said)
        the_court().check_lie(draft, record, body.proof)
    except BadSignature as fault:
        raise InvalidStatement(Reason.BAD_SIGNATURE, str(fault)) from None
    except PeerFault as fault:
        raise refusal(fault) from None
    return said


def convict_at_once(draft: Draft, sender: PeerId, record: SegmentRecord) -> None:
    """Convict a solver of what ``sender`` has found."""
    _convict(draft, sender, record, _finder(record, sender))


def _convict(draft: Draft, sender: PeerId, record: SegmentRecord, finder: PeerId | None) -> None:
    """Convict a solver; all others get back what they put up.

    While answers are compared, the part of an accuser goes to who answered blind first and differs, or is
    burned: a solver that sees its verdict come would save it by a lie that its friend proves.
    """
    for check in record.checks:
        draft.credit(check.peer, check.bond)
        record = with_check(record, replace(check, bond=Amount(0)))
    case = open_contest(record)
    if case is not None:
        draft.credit(record.checks[case.check].peer, case.bond)
        record = with_contest(record, replace(case, is_open=False, bond=Amount(0)))
    record = void(draft, return_bonds(draft, record))
    if is_exact(draft, record):
        punish_solver(draft, record, finder)
    come_back(draft, record)
    expel(draft, record)
    set_back(draft, record)
    close(draft, replace(record, dispute=None, proved_by=sender), SegmentPhase.GUILTY)


def _finder(record: SegmentRecord, sender: PeerId, said: bytes = b"") -> PeerId | None:
    """Return who gets the part of an accuser for a proof; None if nobody does.

    ``said``: digest of the statement that convicts: a verifier that called it false blind has found it.
    """
    if record.phase not in {SegmentPhase.REVEALED, SegmentPhase.DISPUTED}:
        return sender
    for check in record.checks:
        if check.phase is CheckPhase.FOUND and check.said == said:
            return check.peer
    if record.dispute is None:
        return None
    return first_accusation(record, record.dispute.window).peer
