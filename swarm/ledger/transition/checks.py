"""Check segments: verifiers answer blind, the solver reveals its leaves, then the verifiers their answers.

Core: handlers on a draft. Raises ``InvalidStatement``.

    POSTED --request--> SAMPLED: windows are dealt --all have answered--> SEALED
       ^ |                 |                                                |
       | '-no request--.   '-no answer------.               SEALED --reveal--> REVEALED --all agree--> VERIFIED
       '---new draw----'--------------------'--last draw: SEALED            |     '-one differs--> DISPUTED
                             SEALED without an answer --reveal--> UNSAMPLED '-never shown: SILENT

Where bits differ between machines, segments end by the rules of ``tolerance``.

Silence is judged at the end of a phase, when the record is due. No peer can hold a segment up: every phase
ends. A verifier puts up a bond with its request and is paid for an answer that stands; whoever is asked to
show something and does not, pays for it. A verifier that is not served complains (``contests``).

A solver's reveal must match its commit: its windows follow one another from the start root to the end root,
and the tokens in them are those it is paid for. Steps are numbered from 0 in every segment, and window w
begins with step w * window_steps; merges before the first step belong to window 0. What a window has in it,
only a replay can tell: its leaves, both of its states and its tokens are hashed into one claim.

Source: docs/spec/verification.md section 2.
"""

from itertools import pairwise

from swarm.config.tolerance import is_checked
from swarm.errors import BadSignature, InvalidStatement, Reason
from swarm.ledger.check_statements import (
    ATTEMPTS,
    PANEL,
    DataRequest,
    ForcedError,
    RevealSegment,
    VerifyCommit,
    VerifyReveal,
)
from swarm.ledger.state.draft import Draft
from swarm.ledger.state.records import (
    UNDEALT,
    Check,
    CheckPhase,
    SegmentPhase,
    SegmentRecord,
)
from swarm.ledger.state.state import money_in
from swarm.ledger.transition import tolerance
from swarm.ledger.transition.contests import (
    dismiss,
    draw_witnesses,
    is_sustained,
    withdraw,
)
from swarm.ledger.transition.demands import end_demands, silence
from swarm.ledger.transition.disputes import (
    accuse,
    end_reveals,
    move_dispute,
)
from swarm.ledger.transition.forced import (
    end_proofs,
    judge_answer,
    prove_forced,
    punish_silence,
)
from swarm.ledger.transition.payments import (
    count,
    forfeit,
    is_exact,
    lose_bond,
    pay_check,
    with_check,
)
from swarm.ledger.transition.phases import (
    SegmentId,
    answers_end,
    are_reveals_open,
    check_at,
    find_segment,
    gather_end,
    is_open_for_checks,
    is_waiting_for_answers,
    open_checks,
    open_contest,
    proofs_end,
    reveal_end,
)
from swarm.ledger.transition.prices import CHECKS_MAX, request_bond
from swarm.ledger.transition.runs import forget_round
from swarm.ledger.transition.sampling import (
    check_eligible,
    deal_windows,
    is_drawn,
    num_windows,
    record_draw,
    redraw_blocks,
)
from swarm.ledger.transition.storage import move_storage
from swarm.primitives.codec import replace
from swarm.primitives.commitments import (
    REFUSED,
    WindowResult,
    spot_answer,
    trace_commit,
    trace_root,
    verify_commit,
)
from swarm.primitives.parts import Parts
from swarm.types import NO_DIGEST, Amount, Digest, Height, PeerId

Claims = tuple[Digest, ...]
"""Claim of a solver about each window of its segment."""

PART_SEGMENTS = 128
"""Segments that are moved without a pause: some ten milliseconds."""


def shown_claims(
    record: SegmentRecord, window_steps: int, body: RevealSegment, *, with_leaves: bool = True
) -> Claims:
    """Return the claims of the windows of a revealed segment; raise unless they are those of its commit.

    Without exact numerics no two machines have the same leaves: the claims are then those of the states and the
    tokens alone.
    """
    wanted = num_windows(record.num_steps, window_steps)
    if len(body.leaves_roots) != wanted:
        raise InvalidStatement(
            Reason.BAD_PROOF, f"not {wanted} windows of {record.num_steps} steps"
        )
    if NO_DIGEST in body.leaves_roots:  # the answer to a log that no honest seat writes has it
        raise InvalidStatement(Reason.BAD_PROOF, "a window without a step or a merge")
    states = (record.start_root, *body.state_roots, record.end_root)
    parts = zip(body.leaves_roots, pairwise(states), body.tokens, strict=True)
    results = [
        WindowResult(Digest(leaves), Digest(start), Digest(end), tokens)
        for leaves, (start, end), tokens in parts
    ]
    claims = tuple(result.claim for result in results)
    if trace_commit(trace_root(claims), body.salt) != record.trace_commit:
        raise InvalidStatement(Reason.BAD_PROOF, "not the windows and the salt of the commit")
    trained = sum(body.tokens)
    if trained != record.tokens:
        said = f"{trained} tokens in its windows where the commit says {record.tokens}"
        raise InvalidStatement(Reason.BAD_PROOF, said)
    if with_leaves:
        return claims
    return tuple(replace(result, leaves_root=NO_DIGEST).claim for result in results)


def request_data(draft: Draft, sender: PeerId, body: DataRequest) -> None:
    """Accept the request of a drawn verifier for a window, or an offer to sit on a panel."""
    if body.attempt == PANEL:
        tolerance.offer(draft, sender, body)
        return
    record = find_segment(draft, body, SegmentPhase.POSTED, SegmentPhase.SAMPLED)
    spec, height, under_way = draft.run(record.run).spec, draft.height, open_checks(record)
    if not is_checked(spec):
        raise InvalidStatement(Reason.WRONG_PHASE, "nothing in this run can be checked")
    if under_way and height >= gather_end(record, spec):
        raise InvalidStatement(Reason.WRONG_PHASE, "its verifiers are at work")
    if any(check.peer == sender for check in under_way):
        raise InvalidStatement(Reason.DUPLICATE, "it has asked")
    if len(under_way) >= CHECKS_MAX:
        raise InvalidStatement(Reason.FULL, f"{CHECKS_MAX} verifiers are at work")
    if body.attempt >= len(record.draws) or height <= record.draws[body.attempt].height:
        raise InvalidStatement(Reason.WRONG_PHASE, "that draw has not taken place")
    draw, chain = record.draws[body.attempt], draft.globals.chain
    missed = next((old for old in record.checks if old.peer == sender), None)
    if missed is not None and draw.height <= missed.height:
        raise InvalidStatement(Reason.DUPLICATE, "it has asked by that draw, and not answered")
    stake = check_eligible(draft, record, spec, sender)
    try:
        is_selected = is_drawn(chain, draw, record, sender, stake, body.proof)
    except BadSignature as error:
        raise InvalidStatement(Reason.BAD_PROOF, str(error)) from None
    if not is_selected:
        raise InvalidStatement(Reason.WRONG_PEER, "the draw did not select it")
    held = Amount(0) if missed is None else missed.bond
    bond = Amount(max(held, request_bond(draft.globals.params, record)))
    draft.debit(sender, Amount(bond - held))
    check = Check(
        peer=sender,
        window=UNDEALT,
        phase=CheckPhase.REQUESTED,
        height=height,
        commitment=NO_DIGEST,
        commit_height=Height(0),
        is_report=False,
        bond=bond,
        attempt=body.attempt,
    )
    record = replace(with_check(record, check), phase=SegmentPhase.SAMPLED)
    due = record.due if under_way else gather_end(record, spec)
    draft.put_segment(replace(record, due=due))


def commit_check(draft: Draft, body: VerifyCommit) -> PeerId:
    """Accept a verifier's blind answer; return the peer that must have signed it."""
    record = find_segment(draft, body, SegmentPhase.SAMPLED, SegmentPhase.DOUBTED)
    check = _check_at(record, body.check, CheckPhase.REQUESTED)
    if check.window == UNDEALT:
        raise InvalidStatement(Reason.WRONG_PHASE, "it was not dealt a window yet")
    if body.window != check.window:
        raise InvalidStatement(Reason.BAD_FIELD, f"it was dealt window {check.window}")
    if record.panel is not None and not record.panel.is_seated:
        raise InvalidStatement(Reason.WRONG_PHASE, "it is not known yet who sits")
    changed = replace(
        check, phase=CheckPhase.SEALED, commitment=body.commitment, commit_height=draft.height
    )
    record = with_check(withdraw(draft, record, check), changed)
    if record.phase is SegmentPhase.DOUBTED:
        tolerance.note_answer(draft, record)
        return check.peer
    if _have_answered(record):
        _seal(draft, record)
    else:
        draft.put_segment(record)
    return check.peer


def reveal_segment(draft: Draft, body: RevealSegment) -> PeerId:
    """Accept a solver's windows; return the solver.

    Without a verifier that waits for them, the segment is paid on trust.
    """
    record = find_segment(draft, body, SegmentPhase.SEALED)
    spec, height = draft.run(record.run).spec, draft.height
    steps = spec.checks.window_steps
    claims = shown_claims(record, steps, body, with_leaves=spec.is_exact)
    record = replace(record, claims=claims, shown_height=height, salt=body.salt)
    for check in record.checks:
        if check.phase is CheckPhase.MISSED:
            record = lose_bond(draft, record, check)
    if is_waiting_for_answers(record):
        end = reveal_end(spec, height)
        opened = replace(record, phase=SegmentPhase.REVEALED, reveals_end=end, due=end)
        draft.put_segment(opened)
    else:
        _close(draft, record)
    return record.peer


def reveal_check(draft: Draft, body: VerifyReveal) -> PeerId:
    """Accept the answer of a verifier or a reporter, compare it with the solver's, and return who gave it."""
    phases = (SegmentPhase.REVEALED, SegmentPhase.DISPUTED, SegmentPhase.DOUBTED)
    record = find_segment(draft, body, *phases)
    check = _check_at(record, body.check, CheckPhase.SEALED)
    if not are_reveals_open(record, draft.height):
        raise InvalidStatement(Reason.WRONG_PHASE, "answers are not taken any more")
    shown = record.claims[check.window]
    if body.claim == shown:
        raise InvalidStatement(Reason.BAD_FIELD, "what is equal to the solver's is left out")
    claim, spec = Digest(body.claim or shown), draft.run(record.run).spec
    is_spot = spec.checks.spots and not check.is_report
    if bool(body.said) != is_spot:
        raise InvalidStatement(Reason.BAD_FIELD, "a statement goes with a check of elements alone")
    answer = spot_answer(claim, Digest(body.said), is_false=body.is_false) if is_spot else claim
    if claim == REFUSED.claim and is_exact(draft, record):
        raise InvalidStatement(Reason.BAD_FIELD, "a log that is refused counts as not served")
    if verify_commit(answer, body.salt, check.peer) != check.commitment:
        raise InvalidStatement(Reason.BAD_PROOF, "not the answer it gave blind")
    count(draft, record, check.peer, "checked")
    is_same = claim == shown
    if is_spot and (is_same or body.is_false):
        draft.put_segment(judge_answer(draft, record, check, body))
        _end_if_over(draft, body)
        return check.peer
    answered = replace(check, phase=CheckPhase.AGREED if is_same else CheckPhase.DIFFERED)
    if record.phase is SegmentPhase.DOUBTED:
        tolerance.note_shown(draft, with_check(record, answered))
        return check.peer
    if is_same:
        draft.put_segment(_agree(draft, record, answered))
    elif is_exact(draft, record):
        accuse(draft, record, check, claim)
    else:  # its bond stays: a panel decides
        draft.put_segment(with_check(record, answered))
    _end_if_over(draft, body)
    return check.peer


def prove_passed(draft: Draft, sender: PeerId, body: ForcedError) -> None:
    """Take what a solver shows of an error that it made on purpose, and a verifier approved."""
    draft.put_segment(prove_forced(draft, sender, body))
    _end_if_over(draft, body)


def _end_if_over(draft: Draft, segment_id: SegmentId) -> None:
    """End the reveals if nothing is waited for any more."""
    record = find_segment(draft, segment_id, SegmentPhase.REVEALED, SegmentPhase.DISPUTED)
    if not are_reveals_open(record, draft.height):
        _end_reveals(draft, record)


def _agree(draft: Draft, record: SegmentRecord, check: Check) -> SegmentRecord:
    """Pay a verifier that agrees; a report that agrees has accused nothing, and its bond is lost."""
    if not check.is_report:
        return pay_check(draft, record, check)
    count(draft, record, check.peer, "refuted")
    return forfeit(draft, record, check)


def meet_deadlines(draft: Draft) -> Parts[None]:
    """Move every segment and every storage that is due at this height, and forget the rounds that are due."""
    records, queue = draft.take_due()
    for number, record in enumerate(records):
        if number % PART_SEGMENTS == PART_SEGMENTS - 1:
            yield
        _meet_deadline(draft, record)
    for segment_id in dict.fromkeys(queue.demands):
        end_demands(draft, segment_id)
    for round_key in queue.rounds:
        forget_round(draft, *round_key)
    for number, place in enumerate(queue.storages):
        if number % PART_SEGMENTS == PART_SEGMENTS - 1:
            yield
        move_storage(draft, *place)


def _meet_deadline(draft: Draft, record: SegmentRecord) -> None:
    match record.phase:
        case SegmentPhase.POSTED:
            _draw_or_give_up(draft, record)
        case SegmentPhase.SAMPLED if any(check.window == UNDEALT for check in open_checks(record)):
            _deal(draft, record)
        case SegmentPhase.SAMPLED:
            _move_contest(draft, record)
        case SegmentPhase.SEALED:
            silence(draft, record)
        case SegmentPhase.REVEALED:
            _end_reveals(draft, record)
        case SegmentPhase.DOUBTED:
            tolerance.move(draft, record)
        case SegmentPhase.DISPUTED if are_reveals_open(record, draft.height):
            move_dispute(draft, record)
        case SegmentPhase.DISPUTED:
            _end_reveals(draft, record)
        case _:
            assert not money_in(record), "what is judged holds no money"
            draft.drop_segment(record)


def _draw_or_give_up(draft: Draft, record: SegmentRecord) -> None:
    """Record the beacon of this block as a draw of verifiers, or close the segment after the last draw.

    The drawn may request from the next block on. A verifier that requested and did not answer was served, or it
    could have complained: it counts for nothing, and verifiers are drawn again. After the last draw the solver
    shows its windows to be paid.
    """
    if len(record.draws) >= ATTEMPTS:
        _seal(draft, record)
        return
    due = Height(draft.height + redraw_blocks(draft.run(record.run).spec))
    draws = (*record.draws, record_draw(draft, record))
    draft.put_segment(replace(record, phase=SegmentPhase.POSTED, draws=draws, due=due))


def _deal(draft: Draft, record: SegmentRecord) -> None:
    """Deal the windows to those that have asked, by the beacon of this block: they asked before it."""
    spec, under_way = draft.run(record.run).spec, open_checks(record)
    windows = num_windows(record.num_steps, spec.checks.window_steps)
    dealt = deal_windows(draft.globals.beacon, record, windows, len(under_way))
    for check, window in zip(under_way, dealt, strict=True):
        record = with_check(record, replace(check, window=window))
    draft.put_segment(replace(record, due=answers_end(record, spec)))


def _move_contest(draft: Draft, record: SegmentRecord) -> None:
    """Draw the witnesses of an open complaint, or decide it; without one the time for answers is over."""
    case = open_contest(record)
    if case is not None and case.draw is None:
        draw_witnesses(draft, record, case)
    elif case is not None and is_sustained(record, case):
        silence(draft, record)
    elif case is not None:
        _end_answers(draft, dismiss(draft, record, case))
    else:
        _end_answers(draft, record)


def _end_answers(draft: Draft, record: SegmentRecord) -> None:
    """Move on when the time for blind answers is over, if a complaint has not put that off."""
    end = answers_end(record, draft.run(record.run).spec)
    if _have_answered(record):
        _seal(draft, record)
    elif draft.height < end:
        draft.put_segment(replace(record, due=end))
    elif is_waiting_for_answers(record):
        _seal(draft, record)
    else:
        _draw_or_give_up(draft, _missed(draft, record))


def _seal(draft: Draft, record: SegmentRecord) -> None:
    """Mark missed checks and start the time in which the solver must reveal its leaves."""
    record = _missed(draft, record)
    due = reveal_end(draft.run(record.run).spec, draft.height)
    draft.put_segment(replace(record, phase=SegmentPhase.SEALED, due=due))


def _end_reveals(draft: Draft, record: SegmentRecord) -> None:
    """End the reveals: who did not reveal its answer loses its bond; continue an open dispute, or close."""
    for check in record.checks:
        if check.phase is CheckPhase.SEALED and not are_reveals_open(record, draft.height):
            count(draft, record, check.peer, "missed")
            punish_silence(draft, record, check)
            missed = replace(check, phase=CheckPhase.MISSED)
            record = (forfeit if check.is_report else lose_bond)(draft, record, missed)
    end = proofs_end(record, draft.run(record.run).spec)
    if record.dispute is not None:
        move_dispute(draft, record)
    elif is_open_for_checks(record) and draft.height < end:
        draft.put_segment(replace(record, due=end))
    else:
        _close(draft, record)


def _close(draft: Draft, record: SegmentRecord) -> None:
    """Close a segment once all answers are shown, or let a panel decide where one rejects it."""
    if is_exact(draft, record):
        end_reveals(draft, end_proofs(draft, record))
    else:
        tolerance.end(draft, record)


def _have_answered(record: SegmentRecord) -> bool:
    return all(check.phase is not CheckPhase.REQUESTED for check in record.checks)


def _missed(draft: Draft, record: SegmentRecord) -> SegmentRecord:
    """Return the record with every request that was not answered marked as missed; the bonds stay."""
    for check in record.checks:
        if check.phase is CheckPhase.REQUESTED:
            record = with_check(record, replace(check, phase=CheckPhase.MISSED))
            count(draft, record, check.peer, "missed")
    return record


def _check_at(record: SegmentRecord, index: int, phase: CheckPhase) -> Check:
    """Return a check of a record by its index; raise unless it is in this phase."""
    check = check_at(record, index)
    if check.phase is not phase:
        raise InvalidStatement(Reason.DUPLICATE, f"its check is {check.phase}")
    return check
