"""Check segments: verifiers answer blind, the solver reveals its leaves, then the verifiers their answers.

Core: handlers on a draft. Raises ``InvalidStatement``.

    POSTED --request--> SAMPLED --all have answered--> SEALED --reveal--> REVEALED --all agree--> VERIFIED
       ^ |                 |                             |                    |
       | '-no request--.   '-no answer------.   never shown: SILENT           '-one differs--> DISPUTED
       '---new draw----'--------------------'--last draw: SEALED if no verifier asked, else SILENT
                             SEALED and never asked for --reveal--> UNSAMPLED

Silence is judged at the end of a phase, when the record is due. No peer can hold a segment up: every phase
ends. A verifier puts up a bond with its request and is paid for an answer that stands; whoever is asked to
show something and does not, pays for it.

A solver's reveal must match its commit: its leaves, the starts of its windows, and the tokens it is paid for.
Steps are numbered from 0 in every segment, and window w begins with step w * window_steps; merges before the
first step belong to window 0. The tokens are part of the state: the totals under the start root and the end
root differ by the claim of the commit.

Source: docs/spec/verification.md section 2.
"""

from collections.abc import Sequence
from itertools import pairwise

from swarm.errors import BadSignature, BrokenPromise, InvalidStatement, Reason
from swarm.ledger.state.draft import Draft
from swarm.ledger.state.records import (
    Check,
    CheckPhase,
    SegmentPhase,
    SegmentRecord,
    Window,
)
from swarm.ledger.state.state import money_in
from swarm.ledger.transactions import (
    ATTEMPTS,
    STATE_COMPONENTS,
    TOKENS_COMPONENT,
    DataRequest,
    Opening,
    RevealSegment,
    TokensOpening,
    VerifyCommit,
    VerifyReveal,
)
from swarm.ledger.transition.disputes import (
    Arbiter,
    accuse,
    close,
    end_reveals,
    move_dispute,
)
from swarm.ledger.transition.payments import (
    STRIKES_MAX,
    count,
    evict,
    fine_silence,
    forfeit,
    lose_bond,
    pay_check,
    rest,
    strikes,
    void,
    with_check,
)
from swarm.ledger.transition.phases import (
    answers_end,
    are_reveals_open,
    find_segment,
    gather_end,
    is_waiting_for_answers,
    open_checks,
    reveal_end,
)
from swarm.ledger.transition.prices import CHECKS_MAX, request_bond
from swarm.ledger.transition.runs import forget_round
from swarm.ledger.transition.sampling import (
    check_eligible,
    drawn_window,
    num_windows,
    record_draw,
    redraw_blocks,
)
from swarm.primitives.codec import replace
from swarm.primitives.commitments import (
    step_leaf_digest,
    tensor_hash,
    trace_commit,
    trace_root,
    verify_commit,
    window_claim,
)
from swarm.primitives.merkle import blake3_hash, verify_proof
from swarm.types import NO_DIGEST, Amount, Digest, Height, PeerId

COUNT_BYTES = 8
"""Bytes of a count, an int64."""


def open_windows(
    record: SegmentRecord, window_steps: int, body: RevealSegment
) -> tuple[Window, ...]:
    """Return the windows of a revealed segment; raise unless leaves and openings match the commit."""
    if trace_commit(trace_root(body.leaves), body.salt) != record.trace_commit:
        raise InvalidStatement(Reason.BAD_PROOF, "not the leaves and the salt of the commit")
    _check_openings(record, window_steps, body)
    roots = [record.start_root, *(o.state_root for o in body.openings[1:]), record.end_root]
    bounds = [0, *(opening.leaf for opening in body.openings[1:]), len(body.leaves)]
    return tuple(
        Window(start, end, last - first, window_claim(body.leaves[first:last], Digest(end)))
        for (first, last), (start, end) in zip(pairwise(bounds), pairwise(roots), strict=True)
    )


def tokens_component(counts: Sequence[int]) -> Digest:
    """Return component 8 of a state: the total, then the total at each fragment's last merge, as int64."""
    data = b"".join(count.to_bytes(COUNT_BYTES, "little", signed=True) for count in counts)
    return tensor_hash("int64", (len(counts),), data)


def check_tokens(record: SegmentRecord, fragments: int, body: RevealSegment) -> None:
    """Raise unless the totals belong to the segment's states and differ by the tokens it claimed."""
    start, end = body.tokens
    _check_total(start, record.start_root, fragments)
    _check_total(end, record.end_root, fragments)
    trained = end.counts[0] - start.counts[0]
    if trained != record.tokens:
        said = f"the state counts {trained} tokens where the commit says {record.tokens}"
        raise InvalidStatement(Reason.BAD_PROOF, said)


def _check_total(opening: TokensOpening, root: Digest, fragments: int) -> None:
    if len(opening.counts) != 1 + fragments:
        raise InvalidStatement(Reason.BAD_PROOF, f"not a total and {fragments} fragments")
    leaf, position = tokens_component(opening.counts), (TOKENS_COMPONENT, STATE_COMPONENTS)
    try:
        verify_proof(root, leaf, *position, opening.proof, blake3_hash)
    except BrokenPromise as error:
        raise InvalidStatement(Reason.BAD_PROOF, f"not the tokens of its state: {error}") from None


def _check_openings(record: SegmentRecord, window_steps: int, body: RevealSegment) -> None:
    if not record.num_steps:  # Final averaging: one window from start to end root.
        if body.openings or not body.leaves:
            raise InvalidStatement(
                Reason.BAD_PROOF, "merges alone, and no step that opens a window"
            )
        return
    wanted = num_windows(record.num_steps, window_steps)
    if len(body.leaves) < record.num_steps or len(body.openings) != wanted:
        raise InvalidStatement(
            Reason.BAD_PROOF, f"not {wanted} windows of {record.num_steps} steps"
        )
    steps = [opening.step for opening in body.openings]
    positions = [opening.leaf for opening in body.openings]
    if steps != [w * window_steps for w in range(wanted)] or positions != sorted(set(positions)):
        raise InvalidStatement(Reason.BAD_PROOF, "windows begin at other steps")
    if positions[-1] >= len(body.leaves) or not all(map(_has_state, body.openings)):
        raise InvalidStatement(Reason.BAD_PROOF, "a window without its state")
    for opening in body.openings:
        if _leaf_of(opening) != body.leaves[opening.leaf]:
            raise InvalidStatement(Reason.BAD_PROOF, f"step {opening.step} is not in its leaf")


def _has_state(opening: Opening) -> bool:
    return opening.state_root != NO_DIGEST


def _leaf_of(opening: Opening) -> Digest:
    return step_leaf_digest(opening.step, opening.dropped, opening.state_root, opening.leaves_root)


def request_data(draft: Draft, sender: PeerId, body: DataRequest) -> None:
    """Accept the request of a drawn verifier for its window."""
    record = find_segment(draft, body, SegmentPhase.POSTED, SegmentPhase.SAMPLED)
    spec, height, under_way = draft.run(record.run).spec, draft.height, open_checks(record)
    if under_way and height >= gather_end(record, spec):
        raise InvalidStatement(Reason.WRONG_PHASE, "its verifiers are at work")
    if any(check.peer == sender for check in under_way):
        raise InvalidStatement(Reason.DUPLICATE, "it has asked")
    if len(under_way) >= CHECKS_MAX:
        raise InvalidStatement(Reason.FULL, f"{CHECKS_MAX} verifiers are at work")
    if body.attempt >= len(record.draws) or height <= record.draws[body.attempt].height:
        raise InvalidStatement(Reason.WRONG_PHASE, "that draw has not taken place")
    stake = check_eligible(draft, record, spec, sender)
    draw, chain = record.draws[body.attempt], draft.globals.chain
    try:
        window = drawn_window(chain, draw, record, spec, sender, stake, body.proof)
    except BadSignature as error:
        raise InvalidStatement(Reason.BAD_PROOF, str(error)) from None
    if window is None:
        raise InvalidStatement(Reason.WRONG_PEER, "the draw did not select it")
    if window != body.window:
        raise InvalidStatement(Reason.BAD_FIELD, f"the draw selected window {window}")
    missed = next((old.bond for old in record.checks if old.peer == sender), Amount(0))
    bond = Amount(max(missed, request_bond(draft.globals.params, record)))
    draft.debit(sender, bond - missed)
    check = Check(
        peer=sender,
        window=window,
        phase=CheckPhase.REQUESTED,
        height=height,
        commitment=NO_DIGEST,
        commit_height=Height(0),
        is_report=False,
        bond=bond,
    )
    others = tuple(old for old in record.checks if old.peer != sender)
    record = replace(record, phase=SegmentPhase.SAMPLED, checks=(*others, check))
    due = record.due if under_way else gather_end(record, spec)
    draft.put_segment(replace(record, due=due))


def commit_check(draft: Draft, sender: PeerId, body: VerifyCommit) -> None:
    """Accept a verifier's blind answer."""
    record = find_segment(draft, body, SegmentPhase.SAMPLED)
    check = _check_of(record, sender, CheckPhase.REQUESTED)
    changed = replace(
        check, phase=CheckPhase.SEALED, commitment=body.commitment, commit_height=draft.height
    )
    record = with_check(record, changed)
    spec, under_way = draft.run(record.run).spec, open_checks(record)
    is_gathered = len(under_way) == CHECKS_MAX or draft.height >= gather_end(record, spec)
    if is_gathered and _have_answered(record):
        _seal(draft, record)
    else:
        draft.put_segment(record)


def reveal_segment(draft: Draft, body: RevealSegment) -> PeerId:
    """Accept a solver's leaves; return the peer that must have signed the statement.

    Without a verifier that waits for them, the segment is paid on trust.
    """
    record = find_segment(draft, body, SegmentPhase.SEALED)
    spec, height = draft.run(record.run).spec, draft.height
    windows = open_windows(record, spec.checks.window_steps, body)
    check_tokens(record, spec.outer.fragments, body)
    record = replace(record, windows=windows, shown_height=height)
    for check in record.checks:
        if check.phase is CheckPhase.MISSED:
            record = lose_bond(draft, record, check)
    if is_waiting_for_answers(record):
        end = reveal_end(spec, height)
        opened = replace(record, phase=SegmentPhase.REVEALED, reveals_end=end, due=end)
        draft.put_segment(opened)
    else:
        end_reveals(draft, record)
    return record.peer


def reveal_check(draft: Draft, sender: PeerId, body: VerifyReveal, arbiter: Arbiter) -> None:
    """Accept a verifier's or a reporter's answer and compare it with the solver's leaves."""
    record = find_segment(draft, body, SegmentPhase.REVEALED, SegmentPhase.DISPUTED)
    check = _check_of(record, sender, CheckPhase.SEALED)
    if not are_reveals_open(record, draft.height):
        raise InvalidStatement(Reason.WRONG_PHASE, "answers are not taken any more")
    if verify_commit(body.leaves, body.end_root, body.salt, sender) != check.commitment:
        raise InvalidStatement(Reason.BAD_PROOF, "not the answer it gave blind")
    claim = window_claim(body.leaves, body.end_root)
    count(draft, record, sender, "checked")
    if claim != record.windows[check.window].claim:
        accuse(draft, record, check, claim)
    else:
        draft.put_segment(_agree(draft, record, replace(check, phase=CheckPhase.AGREED)))
    record = find_segment(draft, body, SegmentPhase.REVEALED, SegmentPhase.DISPUTED)
    if not are_reveals_open(record, draft.height):
        _end_reveals(draft, record, arbiter)


def _agree(draft: Draft, record: SegmentRecord, check: Check) -> SegmentRecord:
    """Pay a verifier that agrees; a report that agrees has accused nothing, and its bond is lost."""
    if not check.is_report:
        return pay_check(draft, record, check)
    count(draft, record, check.peer, "refuted")
    return forfeit(draft, record, check)


def meet_deadlines(draft: Draft, arbiter: Arbiter) -> None:
    """Move every segment that is due at this height, and forget the rounds that are due."""
    records, queue = draft.take_due()
    for record in records:
        _meet_deadline(draft, record, arbiter)
    for round_key in queue.rounds:
        forget_round(draft, *round_key)


def _meet_deadline(draft: Draft, record: SegmentRecord, arbiter: Arbiter) -> None:
    match record.phase:
        case SegmentPhase.POSTED:
            _draw_or_give_up(draft, record)
        case SegmentPhase.SAMPLED:
            _end_answers(draft, record)
        case SegmentPhase.SEALED:
            _silence(draft, record)
        case SegmentPhase.REVEALED:
            _end_reveals(draft, record, arbiter)
        case SegmentPhase.DISPUTED if are_reveals_open(record, draft.height):
            move_dispute(draft, record, arbiter)
        case SegmentPhase.DISPUTED:
            _end_reveals(draft, record, arbiter)
        case _:
            assert not money_in(record), "what is judged holds no money"
            draft.drop_segment(record)


def _draw_or_give_up(draft: Draft, record: SegmentRecord) -> None:
    """Record the beacon of this block as a draw of verifiers, or close the segment after the last draw.

    The drawn may request from the next block on. A verifier that requested and did not answer may be cheating,
    or may not have been served, so verifiers are drawn again. After the last draw, a segment with requests but
    no answer counts as silent: otherwise a solver could be paid without ever serving its data. If nobody asked,
    the solver shows its leaves to be paid.
    """
    if len(record.draws) >= ATTEMPTS:
        if record.checks:
            _silence(draft, record)
        else:
            _seal(draft, record)
        return
    due = Height(draft.height + redraw_blocks(draft.run(record.run).spec))
    draws = (*record.draws, record_draw(draft, record))
    draft.put_segment(replace(record, phase=SegmentPhase.POSTED, draws=draws, due=due))


def _end_answers(draft: Draft, record: SegmentRecord) -> None:
    """Move on when the time for requests, or the time for blind answers, is over."""
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


def _end_reveals(draft: Draft, record: SegmentRecord, arbiter: Arbiter) -> None:
    """End the reveals: who did not reveal its answer loses its bond; continue an open dispute, or close."""
    for check in record.checks:
        if check.phase is CheckPhase.SEALED and not are_reveals_open(record, draft.height):
            count(draft, record, check.peer, "missed")
            missed = replace(check, phase=CheckPhase.MISSED)
            record = (forfeit if check.is_report else lose_bond)(draft, record, missed)
    if record.dispute is not None:
        move_dispute(draft, record, arbiter)
    else:
        end_reveals(draft, record)


def _silence(draft: Draft, record: SegmentRecord) -> None:
    """Close the segment as silent: void its pay, fine it, and evict its peer after some strikes."""
    record = void(draft, fine_silence(draft, record))
    count(draft, record, record.peer, "silent")
    if strikes(draft.contribution(record.run, record.peer)) >= STRIKES_MAX:
        evict(draft, record)
        rest(draft, record)
    close(draft, record, SegmentPhase.SILENT)


def _have_answered(record: SegmentRecord) -> bool:
    return all(check.phase is not CheckPhase.REQUESTED for check in record.checks)


def _missed(draft: Draft, record: SegmentRecord) -> SegmentRecord:
    """Return the record with every request that was not answered marked as missed; the bonds stay."""
    for check in record.checks:
        if check.phase is CheckPhase.REQUESTED:
            record = with_check(record, replace(check, phase=CheckPhase.MISSED))
            count(draft, record, check.peer, "missed")
    return record


def _check_of(record: SegmentRecord, peer: PeerId, phase: CheckPhase) -> Check:
    for check in record.checks:
        if check.peer == peer:
            if check.phase is not phase:
                raise InvalidStatement(Reason.DUPLICATE, f"its check is {check.phase}")
            return check
    raise InvalidStatement(Reason.WRONG_PEER, "it did not ask for a window")
