"""Decide complaints of verifiers that were not served: drawn witnesses try, and the majority is believed.

Core: handlers on a draft. Raises ``InvalidStatement``.

    SAMPLED --complaint--> open --beacon_delay--> witnesses drawn --1 round--> most could not get it: SILENT
                                                                          '--> else: one more round to answer

What a solver says to a verifier is not on the ledger, so neither can be believed alone. A verifier that has
no log a round after it was dealt its window complains, at the risk of as much as a false report costs. Peers
with a stake, drawn like verifiers, ask for the log, keep it, and state whether they could get it. A solver that
serves any honest witness serves the verifier too: it fetches the log from there. A solver that serves none of
them is silent.

Who gains? A solver that refuses only who would find its lie is found silent as often as most of the drawn stake
is not its own. A verifier that complains falsely loses its bond as often. Witnesses that are with the majority
have twice their fee, others lose theirs.

Source: docs/spec/protocol.md section 6.
"""

from swarm.errors import BadSignature, InvalidStatement, Reason
from swarm.ledger.check_statements import ContestService, WitnessService
from swarm.ledger.state.draft import Draft
from swarm.ledger.state.draws import Contest
from swarm.ledger.state.records import Check, CheckPhase, SegmentPhase, SegmentRecord
from swarm.ledger.transition.payments import pay_witnesses, with_check, with_contest
from swarm.ledger.transition.phases import (
    check_at,
    contest_end,
    contest_start,
    find_segment,
    open_contest,
)
from swarm.ledger.transition.prices import contest_bond
from swarm.ledger.transition.sampling import check_eligible, drawn_witness, record_draw
from swarm.primitives.codec import replace
from swarm.types import Amount, Height, PeerId

WITNESSES_MAX = 48
"""Statements that are heard about one complaint: four times as many as are drawn on average."""


def contest(draft: Draft, body: ContestService) -> PeerId:
    """Accept a complaint of a verifier that was not served; return the peer that must have signed it."""
    record = find_segment(draft, body, SegmentPhase.SAMPLED)
    check, spec, height = check_at(record, body.check), draft.run(record.run).spec, draft.height
    if check.phase is not CheckPhase.REQUESTED or check.window != body.window:
        raise InvalidStatement(Reason.WRONG_PHASE, f"its check is {check.phase}")
    if height < contest_start(record, spec):
        raise InvalidStatement(Reason.WRONG_PHASE, "the solver has a round to serve it")
    if open_contest(record) is not None:
        raise InvalidStatement(Reason.FULL, "witnesses of another complaint are heard")
    if any(old.check == body.check and old.height > check.height for old in record.contests):
        raise InvalidStatement(Reason.DUPLICATE, "its complaint was heard")
    bond = contest_bond(draft.globals.params, spec, record)
    draft.debit(check.peer, bond)
    new = Contest(
        check=body.check,
        window=body.window,
        height=height,
        bond=bond,
        draw=None,
        served=(),
        refused=(),
        end=contest_end(spec, draft.globals.params.beacon_delay, height),
        is_open=True,
    )
    due = Height(height + draft.globals.params.beacon_delay)
    draft.put_segment(replace(record, contests=(*record.contests, new), due=due))
    return check.peer


def bear_witness(draft: Draft, sender: PeerId, body: WitnessService) -> None:
    """Accept what a drawn witness says about an open complaint."""
    record = find_segment(draft, body, SegmentPhase.SAMPLED)
    case, spec, chain = open_contest(record), draft.run(record.run).spec, draft.globals.chain
    if case is None or case.check != body.check:
        raise InvalidStatement(Reason.WRONG_PHASE, "no such complaint is heard")
    if case.draw is None or draft.height <= case.draw.height:
        raise InvalidStatement(Reason.WRONG_PHASE, "its witnesses are not drawn yet")
    if sender == record.checks[case.check].peer:
        raise InvalidStatement(Reason.WRONG_PEER, "no witness in its own case")
    if sender in {*case.served, *case.refused}:
        raise InvalidStatement(Reason.DUPLICATE, "it was heard")
    if len(case.served) + len(case.refused) >= WITNESSES_MAX:
        raise InvalidStatement(Reason.FULL, f"{WITNESSES_MAX} witnesses were heard")
    stake = check_eligible(draft, record, spec, sender)
    try:
        is_drawn = drawn_witness(chain, case, record, sender, stake, body.proof)
    except BadSignature as error:
        raise InvalidStatement(Reason.BAD_PROOF, str(error)) from None
    if not is_drawn:
        raise InvalidStatement(Reason.WRONG_PEER, "the draw did not select it")
    if body.is_served:
        case = replace(case, served=(*case.served, sender))
    else:
        case = replace(case, refused=(*case.refused, sender))
    draft.put_segment(with_contest(record, case))


def draw_witnesses(draft: Draft, record: SegmentRecord, case: Contest) -> None:
    """Note the beacon of this block as the draw of the witnesses."""
    drawn = with_contest(record, replace(case, draw=record_draw(draft, record)))
    draft.put_segment(replace(drawn, due=case.end))


def is_sustained(record: SegmentRecord, case: Contest) -> bool:
    """Return True if the solver is found not to serve.

    Where no witness was heard at all, one that has served nobody is believed no more than the verifier.
    """
    if not case.served and not case.refused:
        return all(check.phase is not CheckPhase.SEALED for check in record.checks)
    return len(case.refused) > len(case.served)


def dismiss(draft: Draft, record: SegmentRecord, case: Contest) -> SegmentRecord:
    """Close a complaint that was not sustained; where there was no majority, nobody is blamed."""
    closed = replace(case, is_open=False, bond=Amount(0))
    check = record.checks[case.check]
    if len(case.served) > len(case.refused):
        draft.burn(pay_witnesses(draft, case.bond, case.served))
    else:
        draft.credit(check.peer, case.bond + check.bond)
        record = with_check(record, replace(check, bond=Amount(0)))
    return with_contest(record, closed)


def withdraw(draft: Draft, record: SegmentRecord, check: Check) -> SegmentRecord:
    """Close the complaint of a verifier that was served after all, and answers: its bond is back."""
    case = open_contest(record)
    if case is None or record.checks[case.check].peer != check.peer:
        return record
    draft.credit(check.peer, case.bond)
    return with_contest(record, replace(case, is_open=False, bond=Amount(0), end=draft.height))
