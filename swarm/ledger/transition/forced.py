"""Judge answers about statements that a solver may have made false on purpose: who looked, and who did not.

Core: handlers on a draft, and pure functions of a record. Raises ``InvalidStatement``.

    verifier   SEALED --"right"--> AGREED: paid               | if its statement was forced:
                                                               PASSED --ForcedError, three elements--> FOOLED
                                                                      --nothing in time--> AGREED: paid
               SEALED --"false"--> FOUND --TraceFraud--> its solver is GUILTY     | forced: JACKPOT
                                         --nothing in time--> MISSED: its bond is gone
               SEALED --not shown--> MISSED: its bond is gone  | forced: and as much as FOOLED costs

Where checks look at elements a verifier is shown the claim that it should agree with, so one that does not look
could agree all the same. Therefore a solver states something false to a few of them, which the salt of its
commit and the draw of the verifier choose: the solver alone knows for whom, until it shows the salt. Only the
statement is false, and not the training.
Source: docs/spec/verification.md section 4a, rules L102 to L104.
"""

from swarm.config.spec import NANO, RunSpec
from swarm.errors import BadSignature, InvalidStatement, PeerFault, Reason
from swarm.ledger.check_statements import FORCED_ELEMENTS, ForcedError, VerifyReveal
from swarm.ledger.state.draft import Draft
from swarm.ledger.state.records import (
    Check,
    CheckPhase,
    Params,
    RunPhase,
    SegmentPhase,
    SegmentRecord,
)
from swarm.ledger.transition.court import Stated, refusal, the_court
from swarm.ledger.transition.payments import (
    FALSE_WITNESS_PERCENT,
    count,
    lose_bond,
    pay_check,
    punish_approver,
    with_check,
)
from swarm.ledger.transition.phases import check_at, find_segment
from swarm.ledger.transition.prices import request_bond
from swarm.primitives.codec import replace
from swarm.primitives.crypto import fast_digest
from swarm.types import Amount, Digest, PeerId

JACKPOT_CHECKS = 25
"""Pay for a forced error that is found, in checks: a verifier that looks earns a quarter more on average, where
one check in a hundred is forced."""

APPROVED = frozenset({CheckPhase.AGREED, CheckPhase.PASSED})
"""Phases of checks that have called a window right."""

SOLVER_PERCENT = 40
"""Percent of what a verifier loses that did not look, for the solver that shows it; the rest is burned."""


def forced_seed(salt: bytes, beacon: Digest, peer: PeerId, window: int) -> Digest:
    """Return what decides whether the statement for a verifier is false on purpose, and where it is false.

    ``beacon`` is that of the draw by which the verifier was drawn; the salt was fixed before it.
    """
    return fast_digest("forced-error", salt, beacon, peer, window.to_bytes(4, "big"))


def is_forced(spec: RunSpec, seed: Digest) -> bool:
    """Return True if a seed forces an error."""
    return int.from_bytes(seed[:8], "big") * NANO < spec.checks.forced_nano << 64


def seed_for(record: SegmentRecord, spec: RunSpec, check: Check, salt: bytes) -> Digest | None:
    """Return the seed of the forced error of a check; None if its statement is to be true.

    A segment without steps has none: the update is what everybody looks at.
    """
    if check.is_report or not record.num_steps or not spec.checks.forced_nano:
        return None
    seed = forced_seed(salt, record.draws[check.attempt].beacon, check.peer, check.window)
    return seed if is_forced(spec, seed) else None


def known_seed(record: SegmentRecord, spec: RunSpec, check: Check) -> Digest | None:
    """Return ``seed_for`` once the solver has shown its salt; None before."""
    return seed_for(record, spec, check, record.salt) if record.salt else None


def convicts(record: SegmentRecord, spec: RunSpec, to: PeerId, window: int) -> bool | None:
    """Return True if something false in the statement for a peer convicts; None while that is not known.

    It may be false on purpose only if its addressee has asked for a window, by any of the draws: one that has
    asked again, or has reported since, still holds what it was told before.
    """
    is_drawn = any(check.peer == to for check in record.checks)
    if not is_drawn or not spec.checks.forced_nano or not record.num_steps:
        return True
    if not record.salt:
        return None
    seeds = (forced_seed(record.salt, draw.beacon, to, window) for draw in record.draws)
    return not any(is_forced(spec, seed) for seed in seeds)


def refuse_forced(record: SegmentRecord, spec: RunSpec, said: Stated) -> None:
    """Raise if a statement is false on purpose, or may be: nobody is convicted by that."""
    match convicts(record, spec, said.to, said.window):
        case None:
            text = "it may be false on purpose, until its solver has shown its salt"
            raise InvalidStatement(Reason.WRONG_PHASE, text)
        case False:
            raise InvalidStatement(Reason.WRONG_PHASE, "it was false on purpose")
        case True:
            pass


def jackpot(params: Params, spec: RunSpec, record: SegmentRecord) -> Amount:
    """Return the pay for a forced error that is found, if the run has as much.

    Where errors are forced often it is less: who says "false" each time would else live on that. It is half of
    what that loses, at most, and never less than the pay of a check.
    """
    forced, pay = spec.checks.forced_nano, record.check_pay
    most = request_bond(params, record) * (NANO - forced) // (2 * forced)
    return Amount(max(pay, min(JACKPOT_CHECKS * pay, most)))


# --- answers ---


def judge_answer(
    draft: Draft, record: SegmentRecord, check: Check, body: VerifyReveal
) -> SegmentRecord:
    """Return the record with an answer that says "right" to the claim of the solver, or "false".

    Who was told something false on purpose shows the signed statement, or one could name any.
    """
    spec = draft.run(record.run).spec
    seed = known_seed(record, spec, check)
    _check_shown(draft, record, check, body, is_wanted=seed is not None)
    answered = replace(check, said=body.said)
    if seed is None:
        if body.is_false:
            return with_check(record, replace(answered, phase=CheckPhase.FOUND))
        return pay_check(draft, record, replace(answered, phase=CheckPhase.AGREED))
    if body.is_false:
        return _win(draft, record, replace(answered, phase=CheckPhase.JACKPOT))
    dice = fast_digest("forced-elements", seed, body.salt)
    return with_check(record, replace(answered, phase=CheckPhase.PASSED, dice=dice))


def _check_shown(
    draft: Draft, record: SegmentRecord, check: Check, body: VerifyReveal, *, is_wanted: bool
) -> None:
    """Raise unless a statement is shown where it is wanted, which its solver signed for this verifier."""
    if bool(body.statement) != is_wanted:
        text = "shows" if is_wanted else "does not show"
        raise InvalidStatement(Reason.BAD_FIELD, f"such an answer {text} the statement itself")
    if not is_wanted:
        return
    try:
        said = the_court().stated(draft, record, body.statement)
    except BadSignature as fault:
        raise InvalidStatement(Reason.BAD_PROOF, str(fault)) from None
    except PeerFault as fault:
        raise refusal(fault) from None
    if (said.digest, said.to, said.window) != (body.said, check.peer, check.window):
        raise InvalidStatement(Reason.BAD_PROOF, "not the statement that its answer is about")


def _win(draft: Draft, record: SegmentRecord, check: Check) -> SegmentRecord:
    """Pay the jackpot, first out of what the record holds for its verifiers, then out of the escrow."""
    run = draft.run(record.run)
    wanted = jackpot(draft.globals.params, run.spec, record)
    kept = min(record.check_pay, record.reserved)
    more = 0 if run.phase is RunPhase.SETTLED else min(wanted - kept, run.escrow)
    if more:
        draft.put_run(replace(run, escrow=Amount(run.escrow - more)))
    draft.credit(check.peer, kept + more + check.bond)
    record = replace(record, reserved=Amount(record.reserved - kept))
    return with_check(record, replace(check, bond=Amount(0)))


def punish_silence(draft: Draft, record: SegmentRecord, check: Check) -> None:
    """Punish who does not show its answer about a forced error like one that approved it.

    It knows by then that it was forced: not to show it would else be cheaper than not to have looked.
    """
    if known_seed(record, draft.run(record.run).spec, check) is not None:
        punish_approver(draft, check.peer)


# --- proofs ---


def prove_forced(draft: Draft, sender: PeerId, body: ForcedError) -> SegmentRecord:
    """Take one drawn element of a false statement that a verifier approved; return the changed record.

    All ``FORCED_ELEMENTS`` together punish it. They are drawn by what the verifier alone knew: a solver that
    makes a few elements false, which hardly anybody sees, has not made those.
    """
    record = find_segment(draft, body, SegmentPhase.REVEALED, SegmentPhase.DISPUTED)
    if sender != record.peer:
        raise InvalidStatement(Reason.WRONG_PEER, "the solver alone shows its forced errors")
    check = check_at(record, body.check)
    if check.phase is not CheckPhase.PASSED or check.proved >> body.number & 1:
        raise InvalidStatement(Reason.DUPLICATE, f"its check is {check.phase}")
    seed = known_seed(record, draft.run(record.run).spec, check)
    assert seed is not None, "only a forced check is passed"
    try:
        the_court().check_forced(draft, record, body.proof, check, seed, body.number)
    except BadSignature as fault:
        raise InvalidStatement(Reason.BAD_SIGNATURE, str(fault)) from None
    except PeerFault as fault:
        raise refusal(fault) from None
    check = replace(check, proved=check.proved | 1 << body.number)
    if check.proved.bit_count() < FORCED_ELEMENTS:
        return with_check(record, check)
    taken = draft.take_stake(check.peer, FALSE_WITNESS_PERCENT)
    to_solver = taken * SOLVER_PERCENT // 100
    draft.credit(record.peer, to_solver)
    draft.burn(taken - to_solver)
    return lose_bond(draft, record, replace(check, phase=CheckPhase.FOOLED))


def end_proofs(draft: Draft, record: SegmentRecord) -> SegmentRecord:
    """Return the record once no proof is waited for: who was not proved wrong is paid."""
    for check in record.checks:
        if check.phase is CheckPhase.PASSED:
            agreed = replace(check, phase=CheckPhase.AGREED, dice=b"", proved=0)
            record = pay_check(draft, record, agreed)
        elif check.phase is CheckPhase.FOUND:
            count(draft, record, check.peer, "missed")
            record = lose_bond(draft, record, replace(check, phase=CheckPhase.MISSED))
    return record


def believe_finders(draft: Draft, record: SegmentRecord) -> SegmentRecord:
    """Return the record of a convicted solver: who called a statement of it false need prove that no more.

    It is not paid: it has shown nothing, and the proof of another may be of another statement.
    """
    for check in record.checks:
        if check.phase is CheckPhase.FOUND:
            draft.credit(check.peer, check.bond)
            record = with_check(record, replace(check, phase=CheckPhase.DIFFERED, bond=Amount(0)))
    return record


def settle_convicted(draft: Draft, record: SegmentRecord, said: Digest) -> SegmentRecord:
    """Return the record once a statement convicts: who called it false is paid, who approved it is punished."""
    for check in record.checks:
        if check.said != said:
            continue
        if check.phase is CheckPhase.FOUND:
            record = pay_check(draft, record, replace(check, phase=CheckPhase.DIFFERED))
        elif check.phase in APPROVED:
            punish_approver(draft, check.peer)
    return record
