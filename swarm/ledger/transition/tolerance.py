"""Decide about windows that a verifier rejects in a run without exact numerics: a panel of three.

Core: handlers on a draft. Raises ``InvalidStatement``.

    REVEALED --a verifier rejects--> DOUBTED --k--> draw --p, at most three times--> three sit
    three sit --2 rounds--> blind answers --1 round--> shown: all three reject --> REJECTED
                                                             anything else --> the next rejected window
    none left --> WITHIN, or UNSAMPLED if nobody has accepted a window

Two honest machines differ in such a run, so no answer proves anything, and nobody's stake is ever touched. The
pay of the segment is void and its peer is sent away if the verifier and three fresh ones, drawn from the beacon
after it has spoken, all reject the same window. Otherwise the segment stands, and the bond of its first
verifier's request pays the panel.

Who sits is decided by the dice of those that offer to, in proportion to their stakes: who answers first, or
sends many friends, sits no more often.

Source: docs/spec/verification.md section 3.
"""

from swarm.errors import BadSignature, InvalidStatement, Reason
from swarm.ledger.check_statements import ATTEMPTS, DataRequest
from swarm.ledger.state.draft import Draft
from swarm.ledger.state.draws import Panel, PanelSeat
from swarm.ledger.state.records import Check, CheckPhase, SegmentPhase, SegmentRecord
from swarm.ledger.transition.disputes import close
from swarm.ledger.transition.payments import (
    count,
    evict,
    lose_bond,
    pay,
    pay_check,
    void,
    void_checkpoints,
    with_check,
)
from swarm.ledger.transition.phases import ANSWER_ROUNDS, find_segment, reveal_end
from swarm.ledger.transition.prices import PANEL_SIZE, request_bond
from swarm.ledger.transition.sampling import (
    check_eligible,
    panel_dice,
    record_draw,
    redraw_blocks,
)
from swarm.ledger.transition.seats import with_changed_seat
from swarm.primitives.codec import replace
from swarm.types import NO_DIGEST, Amount, Height, PeerId


def rejections(record: SegmentRecord) -> list[Check]:
    """Return the rejections that no panel has decided about, in the order of their blind answers."""
    found = [
        check
        for check in record.checks
        if check.phase is CheckPhase.DIFFERED and check.window not in record.judged
    ]
    return sorted(found, key=lambda check: check.commit_height)


def is_fresh(record: SegmentRecord, peer: PeerId) -> bool:
    """Return True if a peer has answered about no window of this segment, or on another panel only."""
    heard = () if record.panel is None else record.panel.heard
    return peer in heard or all(check.peer != peer for check in record.checks)


def end(draft: Draft, record: SegmentRecord) -> None:
    """Open a panel about the next rejected window, or close the segment if there is none."""
    doubts = rejections(record)
    if doubts:
        _open(draft, record, doubts[0].window)
    else:
        _stand(draft, record)


def offer(draft: Draft, sender: PeerId, body: DataRequest) -> None:
    """Accept the offer of a drawn peer to sit on a panel; the three with the best dice sit."""
    record = find_segment(draft, body, SegmentPhase.DOUBTED)
    panel, spec = record.panel, draft.run(record.run).spec
    assert panel is not None, "a doubted segment has a panel"
    if panel.is_seated or not panel.draws or draft.height <= panel.draws[-1].height:
        raise InvalidStatement(Reason.WRONG_PHASE, "no offers are taken now")
    if not is_fresh(record, sender):
        raise InvalidStatement(Reason.DUPLICATE, "it has answered, or offered to")
    stake, chain = check_eligible(draft, record, spec, sender), draft.globals.chain
    try:
        dice = panel_dice(chain, panel, record, sender, stake, body.proof)
    except BadSignature as error:
        raise InvalidStatement(Reason.BAD_PROOF, str(error)) from None
    if dice is None:
        raise InvalidStatement(Reason.WRONG_PEER, "the draw did not select it")
    bond = request_bond(draft.globals.params, record)
    draft.debit(sender, bond)
    check = Check(
        peer=sender,
        window=panel.window,
        phase=CheckPhase.REQUESTED,
        height=draft.height,
        commitment=NO_DIGEST,
        commit_height=Height(0),
        is_report=False,
        bond=bond,
    )
    record = with_check(record, check)
    draft.put_segment(_seated(draft, record, PanelSeat(sender, dice, stake)))


def note_answer(draft: Draft, record: SegmentRecord) -> None:
    """Write a record with a blind answer of a member; the answers are shown once all are in."""
    if all(check.phase is not CheckPhase.REQUESTED for check in members(record)):
        _open_reveals(draft, record)
    else:
        draft.put_segment(record)


def note_shown(draft: Draft, record: SegmentRecord) -> None:
    """Write a record with a shown answer of a member; decide once all are shown."""
    if any(check.phase is CheckPhase.SEALED for check in members(record)):
        draft.put_segment(record)
    else:
        _decide(draft, record)


def move(draft: Draft, record: SegmentRecord) -> None:
    """Move a doubted segment that is due: draw, seat, end the answers, or decide."""
    panel, spec = record.panel, draft.run(record.run).spec
    assert panel is not None, "a doubted segment has a panel"
    if panel.is_seated:
        _end_phase(draft, record)
    elif len(panel.seats) == PANEL_SIZE:
        seated = replace(record, panel=replace(panel, is_seated=True), reveals_end=Height(0))
        due = Height(draft.height + ANSWER_ROUNDS * spec.round_blocks)
        draft.put_segment(replace(seated, due=due))
    elif len(panel.draws) < ATTEMPTS:
        draws = (*panel.draws, record_draw(draft, record))
        due = Height(draft.height + redraw_blocks(spec))
        draft.put_segment(replace(record, panel=replace(panel, draws=draws), due=due))
    else:
        _decide(draft, _spared(draft, record))


def members(record: SegmentRecord) -> list[Check]:
    """Return the checks of those that sit on the panel of a record, or offer to."""
    panel = record.panel
    sitting = set[PeerId]() if panel is None else {seat.peer for seat in panel.seats}
    return [check for check in record.checks if check.peer in sitting]


def _open(draft: Draft, record: SegmentRecord, window: int) -> None:
    """Open a panel; the beacon that draws it comes after the rejection is final."""
    old = record.panel
    heard = () if old is None else (*old.heard, *(seat.peer for seat in old.seats))
    panel = Panel(window=window, draws=(), seats=(), is_seated=False, heard=heard)
    due = Height(draft.height + draft.globals.params.beacon_delay)
    draft.put_segment(replace(record, phase=SegmentPhase.DOUBTED, panel=panel, due=due))


def _seated(draft: Draft, record: SegmentRecord, new: PanelSeat) -> SegmentRecord:
    """Return the record with an offer; the worst of more than three gets its bond back."""
    panel = record.panel
    assert panel is not None, "a doubted segment has a panel"
    seats = list(panel.seats)
    # The lowest dice in proportion to the stake is best; who came first on ties.
    at = next((i for i, old in enumerate(seats) if new.dice * old.stake < old.dice * new.stake), -1)
    seats.insert(at if at >= 0 else len(seats), new)
    panel = replace(
        panel,
        seats=tuple(seats[:PANEL_SIZE]),
        heard=tuple(peer for peer in panel.heard if peer != new.peer),
    )
    record = replace(record, panel=panel)
    for out in seats[PANEL_SIZE:]:
        record = _spare(draft, record, out.peer)
    return record


def _spared(draft: Draft, record: SegmentRecord) -> SegmentRecord:
    """Return the record without a panel: too few offered to sit, and get their bonds back."""
    for check in members(record):
        record = _spare(draft, record, check.peer)
    assert record.panel is not None, "a doubted segment has a panel"
    return replace(record, panel=replace(record.panel, seats=()))


def _spare(draft: Draft, record: SegmentRecord, peer: PeerId) -> SegmentRecord:
    check = next(check for check in record.checks if check.peer == peer)
    draft.credit(peer, check.bond)
    return with_check(record, replace(check, phase=CheckPhase.SPARED, bond=Amount(0)))


def _end_phase(draft: Draft, record: SegmentRecord) -> None:
    """End the blind answers, or the reveals: who is late loses its bond, unless no member could answer."""
    late = [c for c in members(record) if c.phase in {CheckPhase.REQUESTED, CheckPhase.SEALED}]
    has_answers = any(check.phase is CheckPhase.SEALED for check in late)
    if not record.reveals_end and has_answers:
        late = [check for check in late if check.phase is CheckPhase.REQUESTED]
    is_nobody_served = len(late) == PANEL_SIZE and not has_answers
    for check in late:
        missed = replace(check, phase=CheckPhase.MISSED)
        if is_nobody_served:
            draft.credit(check.peer, check.bond)
            record = with_check(record, replace(missed, bond=Amount(0)))
        else:
            record = lose_bond(draft, record, missed)
            count(draft, record, check.peer, "missed")
    if not record.reveals_end and has_answers:
        _open_reveals(draft, record)
    else:
        _decide(draft, record)


def _open_reveals(draft: Draft, record: SegmentRecord) -> None:
    due = reveal_end(draft.run(record.run).spec, draft.height)
    draft.put_segment(replace(record, reveals_end=due, due=due))


def _decide(draft: Draft, record: SegmentRecord) -> None:
    """Send the solver away if all three reject; otherwise the verifier's bond pays the panel."""
    panel = record.panel
    assert panel is not None, "a doubted segment has a panel"
    sitting, window = members(record), panel.window
    first = [check for check in rejections(record) if check not in sitting]
    rejecters = [check for check in first if check.window == window]
    said = [c for c in sitting if c.phase in {CheckPhase.AGREED, CheckPhase.DIFFERED}]
    is_upheld = [c.phase for c in sitting] == PANEL_SIZE * [CheckPhase.DIFFERED]
    if not is_upheld:
        for check in rejecters:
            record = with_check(record, replace(check, bond=Amount(0)))
            record = replace(record, reserved=Amount(record.reserved + check.bond))
            count(draft, record, check.peer, "refuted")
    for check in [*said, *(rejecters if is_upheld else ())]:
        record = pay_check(draft, record, check)
    record = replace(record, judged=(*record.judged, window))
    if is_upheld:
        _send_away(draft, record)
    else:
        end(draft, record)


def _send_away(draft: Draft, record: SegmentRecord) -> None:
    """Void the pay of a rejected segment and evict its peer for an epoch; no stake is touched."""
    for check in rejections(record):  # of other windows, about which nobody has decided
        draft.credit(check.peer, check.bond)
        record = with_check(record, replace(check, bond=Amount(0)))
    record = void(draft, record)
    evict(draft, record)
    void_checkpoints(draft, record)
    work = draft.contribution(record.run, record.peer)
    until = Height(draft.height + draft.globals.params.epoch_blocks)
    rested = replace(work, rest_until=max(work.rest_until, until))
    draft.put_contribution(record.run, record.peer, rested)
    close(draft, record, SegmentPhase.REJECTED)


def _stand(draft: Draft, record: SegmentRecord) -> None:
    """Pay a segment that no panel rejected; it is within tolerance if anybody has accepted a window."""
    is_accepted = any(check.phase is CheckPhase.AGREED for check in record.checks)
    phase = SegmentPhase.WITHIN if is_accepted else SegmentPhase.UNSAMPLED
    if is_accepted:
        run = draft.run(record.run)
        for seat in run.seats[record.stage] if run.seats else ():
            if seat.index == record.seat and seat.last_verified_round < record.round:
                changed = replace(seat, last_verified_round=record.round)
                draft.put_run(with_changed_seat(run, changed))
    close(draft, pay(draft, record), phase)
