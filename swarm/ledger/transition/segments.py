"""Accept or refuse commits and checkpoints of a run's seats.

Core: handlers on a draft. Raises ``InvalidStatement``. Source: docs/spec/protocol.md sections 5 and 6.
"""

from swarm.errors import BrokenPromise, InvalidStatement, Reason
from swarm.ledger.state.draft import Draft
from swarm.ledger.state.records import (
    Checkpoint,
    RoundInfo,
    Run,
    RunPhase,
    Seat,
    SegmentPhase,
    SegmentRecord,
)
from swarm.ledger.state.state import Reader
from swarm.ledger.transactions import (
    CommitSegment,
    PostCheckpoint,
    SeatStatement,
)
from swarm.ledger.transition.phases import COMMIT_ROUNDS
from swarm.ledger.transition.prices import (
    check_pay,
    checks_reserved,
    reward_max,
    segment_reward,
    segment_tokens_max,
    solver_stake,
)
from swarm.ledger.transition.rollbacks import check_not_behind
from swarm.ledger.transition.runs import checkpoints_kept, round_info
from swarm.ledger.transition.sampling import draw_probability, partners_of
from swarm.ledger.transition.seats import with_changed_seat
from swarm.ledger.transition.starts import start_of
from swarm.ledger.transition.storage import note_checkpoints
from swarm.primitives.codec import replace
from swarm.primitives.merkle import blake3_hash, verify_proof
from swarm.primitives.state_parts import COMPONENTS, PHI
from swarm.types import Amount, Height, PeerId, RoundIndex


def statement_seat(reader: Reader, body: SeatStatement) -> Seat:
    """Return the seat that must have signed, from the frozen roster of the statement's round."""
    run = reader.run(body.run)
    info = round_info(run, body.round)
    if info is None:
        raise InvalidStatement(Reason.WRONG_ROUND, f"round {body.round} is not kept")
    roster = info.seats[body.stage] if body.stage < len(info.seats) else ()
    for seat in roster:
        if seat.index == body.seat:
            return seat
    raise InvalidStatement(Reason.UNKNOWN_SEAT, f"{body.stage}/{body.seat} in round {body.round}")


def commit_segment(draft: Draft, seat: Seat, body: CommitSegment) -> None:
    """Accept a segment, count it, and hold its reward and its verifiers' pay until it is checked."""
    run, height = _open_for_work(draft, body), draft.height
    _check_not_barred(draft, run, seat)
    _check_stake(draft, run, seat)
    info = round_info(run, body.round)
    assert info is not None, "its seat was found in this round"
    _within_rounds(run, info.height + run.spec.round_blocks, height)
    if draft.segment(run.index, body.round, body.stage, body.seat) is not None:
        raise InvalidStatement(Reason.DUPLICATE, "this segment is committed")
    _check_work(run, info, body)
    held = _held_now(draft, run, seat)
    kind, start_root = start_of(draft, run, held, body)
    per_check, reserved, reward = _prices(draft, run, body, info.price)
    record = SegmentRecord(
        run=run.index,
        round=body.round,
        stage=body.stage,
        seat=body.seat,
        peer=seat.peer,
        incarnation=body.incarnation,
        start_kind=kind,
        start_root=start_root,
        end_root=body.end_root,
        trace_commit=body.trace_commit,
        sent_root=body.sent_root,
        num_steps=body.num_steps,
        tokens=body.tokens,
        height=height,
        reward=reward,
        held=reward,
        check_pay=per_check,
        reserved=reserved,
        is_volunteer=seat.is_volunteer,
        probability_nano=_probability(draft, run, seat, body.tokens),
        is_paid=False,
        phase=SegmentPhase.POSTED,
        due=Height(height + draft.globals.params.beacon_delay),
        partners=_excluded_partners(run, info, body, seat),
        draws=(),
        checks=(),
        contests=(),
        shown_height=Height(0),
        reveals_end=Height(0),
        claims=(),
        accusations=(),
        dispute=None,
        judged=(),
    )
    draft.put_segment(record)
    changed = replace(
        held,
        last_commit_round=body.round,
        last_end_root=body.end_root,
        last_tokens=body.tokens,
    )
    _count(draft, with_changed_seat(run, changed), record)


def _excluded_partners(
    run: Run, info: RoundInfo, body: CommitSegment, seat: Seat
) -> tuple[PeerId, ...]:
    """Return the partners of a seat, which may not check its segment; none of a volunteer's.

    The only peers with a stake in a small network are mostly its partners: without them nobody would ever find
    its work true, and its trial would not end.
    """
    if seat.is_volunteer:
        return ()
    return tuple(partners_of(info, run.spec, run.spec_digest, body.stage, body.seat))


def post_checkpoint(draft: Draft, seat: Seat, body: PostCheckpoint) -> None:
    """Accept the canonical checkpoint of a stage from the seat that the beacon drew."""
    run, height = _open_for_work(draft, body), draft.height
    _check_not_barred(draft, run, seat)
    info = round_info(run, body.round)
    assert info is not None, "its seat was found in this round"
    _within_rounds(run, info.height, height)
    if info.drawn[body.stage] != body.seat:
        raise InvalidStatement(Reason.WRONG_PEER, "the draw selected another seat")
    check_not_behind(run, body)
    kept = run.checkpoints[body.stage]
    if any(checkpoint.round == body.round for checkpoint in kept):
        raise InvalidStatement(Reason.DUPLICATE, "this checkpoint is posted")
    before = RoundIndex(body.round - 1)
    segment = draft.segment(run.index, before, body.stage, body.seat)
    if segment is None:
        raise InvalidStatement(Reason.WRONG_START, f"no segment of round {before} is committed")
    try:
        verify_proof(
            segment.end_root,
            body.phi_root,
            PHI,
            COMPONENTS,
            body.proof,
            blake3_hash,
        )
    except BrokenPromise as error:
        raise InvalidStatement(Reason.BAD_PROOF, str(error)) from None
    new = Checkpoint(
        round=body.round,
        phi_root=body.phi_root,
        phi_bytes=body.phi_bytes,
        peer=seat.peer,
        seat=seat.index,
        height=height,
        is_void=False,
    )
    newest = sorted((new, *kept), key=lambda checkpoint: -checkpoint.round)
    newest = newest[: checkpoints_kept(run.spec)]
    checkpoints = tuple(
        tuple(newest) if i == body.stage else old for i, old in enumerate(run.checkpoints)
    )
    draft.put_run(replace(run, checkpoints=checkpoints))
    note_checkpoints(draft, run.index, body.stage, kept, newest)
    work = draft.contribution(run.index, seat.peer)
    draft.put_contribution(run.index, seat.peer, replace(work, checkpoints=work.checkpoints + 1))


def _open_for_work(draft: Draft, body: SeatStatement) -> Run:
    run = draft.run(body.run)
    if run.phase is RunPhase.SETTLED:
        raise InvalidStatement(Reason.WRONG_PHASE, f"the run is {run.phase}")
    return run


def _check_work(run: Run, info: RoundInfo, body: CommitSegment) -> None:
    """Raise unless round, steps and tokens are within bounds: a round of final averaging has no steps."""
    if body.round >= run.final_round:
        raise InvalidStatement(Reason.WRONG_ROUND, "the run had ended")
    steps_max = run.spec.inner_steps_max if info.consensus < 0 else 0
    if not min(steps_max, 1) <= body.num_steps <= steps_max:
        detail = f"{body.num_steps} steps where a segment of this round has at most {steps_max}"
        raise InvalidStatement(Reason.BAD_FIELD, detail)
    origins = len(info.seats[0])
    tokens_max = segment_tokens_max(run.spec, origins) if steps_max else 0
    if body.tokens > tokens_max:
        raise InvalidStatement(Reason.BAD_FIELD, f"{body.tokens} tokens in one segment")


def _check_not_barred(draft: Draft, run: Run, seat: Seat) -> None:
    """Raise if the peer is barred, or silent, also for a segment it began before."""
    work = draft.contribution(run.index, seat.peer)
    if work.is_barred:
        raise InvalidStatement(Reason.BARRED, "found guilty in this run")
    if work.absent and seat.peer != run.owner:
        raise InvalidStatement(Reason.BARRED, "silent when accused: its moves come first")


def _check_stake(draft: Draft, run: Run, seat: Seat) -> None:
    """Raise unless the peer has the stake of a solver at risk, or sits as a volunteer."""
    wanted, held = solver_stake(draft.globals.params, run.spec), draft.account(seat.peer).stake
    if held < wanted and not seat.is_volunteer:
        raise InvalidStatement(Reason.STAKE, f"{held} where a solver of this run has {wanted}")


def _probability(draft: Draft, run: Run, seat: Seat, tokens: int) -> int:
    """Return half of the verifiers that a draw should select, by what is at stake."""
    return draw_probability(
        run.spec,
        is_volunteer=seat.is_volunteer,
        stake=draft.account(seat.peer).stake,
        reward_max=reward_max(run.spec, tokens),
    )


def _prices(
    draft: Draft, run: Run, body: CommitSegment, price: int
) -> tuple[Amount, Amount, Amount]:
    """Return the pay of one verifier, of all, and of the solver; less than usual if the escrow is used up.

    Verifiers come first: a solver that nobody checks is owed nothing.
    """
    per_check = check_pay(draft.globals.params, run.spec, body.tokens, body.num_steps)
    num_checks = checks_reserved(run.spec)
    reserved = min(num_checks * per_check, run.escrow)
    reward = min(segment_reward(body.tokens, price), run.escrow - reserved)
    return Amount(min(per_check, reserved // num_checks)), Amount(reserved), Amount(reward)


def _within_rounds(run: Run, begin: int, height: int) -> None:
    """Raise unless ``height`` is within ``COMMIT_ROUNDS`` rounds from ``begin``; no pause makes them longer."""
    end = begin + COMMIT_ROUNDS * run.spec.round_blocks
    if not begin <= height < end:
        raise InvalidStatement(Reason.WRONG_ROUND, f"accepted from height {begin} to {end - 1}")


def _held_now(draft: Draft, run: Run, seat: Seat) -> Seat:
    """Return the seat as it is now, or, if it was given up since, as its last kept segment left it."""
    for held in run.seats[seat.stage]:
        if held.index == seat.index:
            return held
    for info in reversed(run.rounds):
        last = draft.segment(run.index, info.round, seat.stage, seat.index)
        if last is not None:
            return replace(seat, last_commit_round=last.round, last_end_root=last.end_root)
    return seat


def _count(draft: Draft, run: Run, record: SegmentRecord) -> None:
    """Take reward and checks from the escrow; add the segment to the counts of the run and the peer."""
    is_last_stage = record.stage == len(run.seats) - 1
    draft.put_run(
        replace(
            run,
            escrow=Amount(run.escrow - record.reward - record.reserved),
            num_segments=run.num_segments + 1,
            tokens=run.tokens + (record.tokens if is_last_stage else 0),
        )
    )
    work = draft.contribution(run.index, record.peer)
    draft.put_contribution(
        run.index,
        record.peer,
        replace(
            work,
            segments=work.segments + 1,
            tokens=work.tokens + record.tokens,
        ),
    )
