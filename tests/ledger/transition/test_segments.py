"""Segments are accepted once, in their two rounds, from where they may start; checkpoints from the drawn."""

import pytest

from swarm.config.spec import NANO, CheckSpec
from swarm.errors import InvalidStatement, Reason
from swarm.gossip.pairing import SeatKey, pair_up
from swarm.ledger.state.draft import Draft
from swarm.ledger.state.records import Run, RunPhase, SegmentPhase, SegmentRecord, StartKind
from swarm.ledger.state.state import audit_supply
from swarm.ledger.transactions import (
    START_PREFIX_BYTES,
    Join,
    Leave,
    PostCheckpoint,
    SeatStatement,
    Stake,
    Unstake,
)
from swarm.ledger.transition.prices import CHECKS_MAX, PANEL_SIZE, check_pay, segment_tokens_max
from swarm.ledger.transition.runs import checkpoints_kept, round_info
from swarm.ledger.transition.sampling import check_eligible, record_draw
from swarm.ledger.transition.segments import commit_segment
from swarm.ledger.transition.starts import may_not_begin_anew, shortened
from swarm.primitives.codec import replace
from swarm.primitives.crypto import SecretKey, digest
from swarm.primitives.merkle import merkle_proof, merkle_root
from swarm.primitives.state_parts import COMPONENTS as NUM_PARTS
from swarm.primitives.state_parts import PHI
from swarm.testing.ledger import InMemoryLedger, small_run_spec
from swarm.types import Amount, RoundIndex, RunIndex, StageIndex

SPEC = small_run_spec(round_blocks=3, rounds=12)
COMPONENTS = [digest("component", bytes([i])) for i in range(NUM_PARTS)]
END_ROOT = merkle_root(COMPONENTS)


def a_stage(round_: int = 1, joiners: int = 2) -> tuple[InMemoryLedger, Run]:
    stage = InMemoryLedger()
    run = stage.open_run(SPEC)
    stage.block(*(stage.sign(stage.keys[i + 1], Join(run.index)) for i in range(joiners)))
    return stage, stage.reach_round(run, round_)


def refused(stage: InMemoryLedger, body: SeatStatement, key: SecretKey | None = None) -> Reason:
    root = stage.state.root
    with pytest.raises(InvalidStatement) as caught:
        stage.block(stage.sign(key or stage.keys[0], body))
    assert stage.state.root == root
    return caught.value.reason


def record_of(stage: InMemoryLedger, body: SeatStatement) -> SegmentRecord:
    found = stage.state.segment(body.run, body.round, body.stage, body.seat)
    assert found is not None
    return found


@pytest.mark.rule("L24")
def test_a_commit_is_recorded_and_counted_and_its_pay_set_aside() -> None:
    stage, run = a_stage()
    body = stage.commit(run, 0, 1, 0, tokens=7_900)
    balance = stage.state.account(stage.keys[0].peer).balance
    stage.block(stage.sign(stage.keys[0], body))
    record, after = record_of(stage, body), stage.state.run(run.index)
    assert (record.peer, record.phase) == (stage.keys[0].peer, SegmentPhase.POSTED)
    assert (record.start_kind, record.reward, record.height) == (
        StartKind.INITIAL,
        7,
        stage.state.height,
    )
    per_check = check_pay(stage.state.params, run.spec, 7_900, body.num_steps)
    assert (record.check_pay, record.reserved) == (per_check, (CHECKS_MAX + PANEL_SIZE) * per_check)
    spent = 7 + record.reserved
    assert (after.escrow, after.num_segments, after.tokens) == (run.escrow - spent, 1, 7_900)
    seat = after.seats[1][0]
    assert (seat.last_commit_round, seat.last_end_root, seat.last_tokens) == (
        0,
        body.end_root,
        7_900,
    )
    work = stage.state.contribution(run.index, stage.keys[0].peer)
    assert (work.segments, work.tokens, work.earned) == (1, 7_900, 0)
    assert (record.held, record.is_paid) == (7, False)
    assert stage.state.account(stage.keys[0].peer).balance == balance
    assert audit_supply(stage.state) == stage.state.supply


@pytest.mark.rule("L36")
def test_who_traded_with_a_seat_is_noted_with_its_commit() -> None:
    stage, run = a_stage(joiners=3)
    info = round_info(run, 0)
    assert info is not None
    body = stage.commit(run, 0, 0, 1)
    stage.block(stage.sign(stage.keys[1], body))
    roster = [SeatKey(seat.index, seat.peer) for seat in info.seats[0]]
    me = next(key for key in roster if key.index == 1)
    wanted = set[bytes]()
    for fragment in range(SPEC.outer.fragments):
        pairs = pair_up(roster, info.beacon, run.spec_digest, StageIndex(0), fragment, info.round)
        wanted |= {pairs[me].peer} if me in pairs else set()
    assert record_of(stage, body).partners == tuple(sorted(wanted))


@pytest.mark.rule("L36")
def test_the_launcher_may_check_a_volunteer_that_trades_with_nobody_else() -> None:
    """A launcher and a machine without a stake: nobody else could ever end its trial."""
    stage, run = a_stage()
    seat = run.rounds[0].seats[0][1]
    key, owner = stage.key_of(seat.peer), run.owner
    body = stage.commit(run, 0, 0, seat.index)
    stage.block(stage.sign(key, body))
    assert record_of(stage, body).partners == (owner,)
    with pytest.raises(InvalidStatement, match="traded with who did"):
        check_eligible(stage.state, record_of(stage, body), run.spec, owner)
    stage.block(stage.sign(key, Unstake(Amount(stage.state.account(seat.peer).stake))))
    run = stage.reach_round(run, 4)
    later = stage.commit(run, 3, 0, seat.index)
    stage.block(stage.sign(key, later))
    record = record_of(stage, later)
    assert record.is_volunteer
    assert record_draw(stage.state, record).stake == stage.state.globals.staked, (
        "by its share alone"
    )
    assert check_eligible(stage.state, record, run.spec, owner) == stage.state.account(owner).stake
    with pytest.raises(InvalidStatement, match="it trained this"):
        check_eligible(stage.state, record, run.spec, seat.peer)


@pytest.mark.rule("L24")
def test_what_is_left_in_escrow_pays_verifiers_first() -> None:
    """A run of which nobody can say how it came to have so little: the rules end it long before."""
    stage, run = a_stage()
    wanted_pay = check_pay(stage.state.params, SPEC, 7_900, 10)
    for left, wanted in ((0, (0, 0)), (3, (3, 0)), (10_000, (7 * wanted_pay, 7))):
        draft = Draft(stage.state, stage.keys[0].peer)
        draft.put_run(replace(run, escrow=Amount(left)))
        body = stage.commit(run, 0, 1, 0, tokens=7_900)
        commit_segment(draft, run.seats[1][0], body)
        record = draft.segment(run.index, RoundIndex(0), StageIndex(1), 0)
        assert record is not None
        assert (record.reserved, record.reward) == wanted
        assert record.check_pay * (CHECKS_MAX + PANEL_SIZE) <= record.reserved
        assert draft.run(run.index).escrow == left - sum(wanted)


@pytest.mark.rule("L54")
def test_who_has_less_than_the_stake_of_a_solver_commits_as_a_volunteer_or_not_at_all() -> None:
    stage, run = a_stage()
    seat = run.rounds[0].seats[0][1]
    key = stage.key_of(seat.peer)
    stage.block(stage.sign(key, Unstake(Amount(281))))
    body = stage.commit(run, 0, 0, seat.index)
    assert refused(stage, body, key) is Reason.STAKE
    stage.block(stage.sign(key, Stake(Amount(1))))
    stage.block(stage.sign(key, body))
    assert not record_of(stage, body).is_volunteer
    stage.block(stage.sign(key, Unstake(Amount(1))))
    run = stage.reach_round(run, 3)
    late = stage.commit(run, 2, 0, seat.index)
    assert refused(stage, late, key) is Reason.STAKE, "its seat of round 2 was no volunteer's"
    run = stage.reach_round(run, 4)
    later = stage.commit(run, 3, 0, seat.index)
    stage.block(stage.sign(key, later))
    assert record_of(stage, later).is_volunteer


@pytest.mark.rule("L22")
def test_a_commit_is_accepted_for_two_rounds_after_its_own() -> None:
    stage, run = a_stage(round_=0)
    body = stage.commit(run, 1, 0, 0)
    accepted: list[int] = []
    while stage.state.height < run.start_height + 5 * SPEC.round_blocks:
        block_height = stage.state.height + 1
        probe = InMemoryLedger()
        probe.head, probe.links = stage.head, list(stage.links)
        try:
            probe.block(probe.sign(probe.keys[0], body))
            accepted.append(block_height)
        except InvalidStatement as error:
            assert error.reason is Reason.WRONG_ROUND  # noqa: PT017
        stage.block()
    first = run.start_height + 2 * SPEC.round_blocks
    assert accepted == list(range(first, first + 2 * SPEC.round_blocks))


@pytest.mark.rule("L22")
def test_a_segment_is_committed_once() -> None:
    stage, run = a_stage()
    stage.block(stage.sign(stage.keys[0], stage.commit(run, 0, 0, 0)))
    again = stage.commit(run, 0, 0, 0, incarnation=1)
    assert refused(stage, again) is Reason.DUPLICATE


@pytest.mark.rule("L21")
def test_only_the_holder_of_the_seat_in_that_round_can_sign() -> None:
    stage, run = a_stage()
    body = stage.commit(run, 0, 0, 1)
    assert refused(stage, body, stage.keys[2]) is Reason.BAD_SIGNATURE
    stage.block(stage.sign(stage.keys[1], body))
    assert refused(stage, stage.commit(run, 0, 0, 9)) is Reason.UNKNOWN_SEAT
    assert refused(stage, replace(stage.commit(run, 0, 1, 0), stage=5)) is Reason.UNKNOWN_SEAT
    assert (
        refused(stage, replace(stage.commit(run, 0, 0, 0), run=RunIndex(9))) is Reason.UNKNOWN_RUN
    )
    assert refused(stage, stage.commit(run, 9, 0, 0)) is Reason.WRONG_ROUND


@pytest.mark.rule("L22")
def test_steps_and_tokens_beyond_what_the_run_allows_are_refused() -> None:
    stage, run = a_stage()
    steps = SPEC.inner_steps_max + 1
    assert refused(stage, stage.commit(run, 0, 0, 0, num_steps=steps)) is Reason.BAD_FIELD
    most = segment_tokens_max(SPEC, len(run.rounds[0].seats[0]))
    assert refused(stage, stage.commit(run, 0, 0, 0, tokens=most + 1)) is Reason.BAD_FIELD
    stage.block(stage.sign(stage.keys[0], stage.commit(run, 0, 0, 0, tokens=most)))


@pytest.mark.rule("L23")
def test_a_segment_starts_from_its_own_end_another_end_or_afresh_after_a_pause() -> None:
    stage, run = a_stage(joiners=3)
    stage.block(*stage.commit_all(run, 0))
    run = stage.reach_round(run, 2)
    ends = {f"{r.stage}/{r.seat}": r.end_root for r in stage.state.segments(run, RoundIndex(0))}
    own = stage.commit(run, 1, 0, 0)
    adopted = stage.commit(run, 1, 0, 1, start=ends["0/0"])
    stage.block(stage.sign(stage.keys[0], own), stage.sign(stage.keys[1], adopted))
    assert record_of(stage, own).start_kind is StartKind.CONTINUED
    assert record_of(stage, adopted).start_kind is StartKind.ADOPTED
    stranger = stage.commit(run, 1, 1, 0, start=digest("x", b"nowhere"))
    assert refused(stage, stranger) is Reason.WRONG_START
    other_stage = stage.commit(run, 1, 1, 0, start=ends["0/0"])
    assert refused(stage, other_stage) is Reason.WRONG_START
    run = stage.reach_round(run, 3)
    late = stage.commit(run, 2, 1, 0, start=b"")
    stage.block(stage.sign(stage.keys[0], late))
    assert record_of(stage, late).start_kind is StartKind.INITIAL


@pytest.mark.rule("L23")
def test_the_end_of_a_seats_last_segment_may_be_named_by_its_first_bytes() -> None:
    stage, run = a_stage(joiners=3)
    stage.block(*stage.commit_all(run, 0))
    run = stage.reach_round(run, 2)
    one, *others = [seat for seat in run.seats[0] if seat.last_commit_round == 0]
    own = stage.commit(run, 1, 0, one.index)
    short = shortened(run, own)
    assert short.start == own.start[:START_PREFIX_BYTES]
    borrowed = stage.commit(run, 1, 0, others[0].index, start=own.start)
    assert shortened(run, borrowed) == borrowed, "the end of another seat is named in full"
    key = stage.key_of(one.peer)
    wrong = replace(short, start=bytes(START_PREFIX_BYTES))
    assert refused(stage, wrong, key) is Reason.WRONG_START
    stage.block(stage.sign(key, short))
    record = record_of(stage, short)
    assert (record.start_kind, record.start_root) == (StartKind.CONTINUED, own.start)


@pytest.mark.rule("L23")
def test_a_first_segment_has_no_end_before_it_to_name() -> None:
    stage, run = a_stage(joiners=3)
    first = stage.commit(run, 0, 0, 0)
    assert shortened(run, first) == first
    assert refused(stage, replace(first, start=bytes(START_PREFIX_BYTES))) is Reason.WRONG_START


@pytest.mark.rule("L22")
def test_rounds_of_one_seat_only_go_up() -> None:
    stage, run = a_stage(round_=2)
    stage.block(stage.sign(stage.keys[0], stage.commit(run, 1, 0, 0)))
    assert refused(stage, stage.commit(run, 0, 0, 0)) is Reason.WRONG_ROUND


@pytest.mark.rule("L21")
def test_who_left_is_still_paid_for_the_round_it_sat_through() -> None:
    stage, run = a_stage()
    stage.block(stage.sign(stage.keys[1], Leave(run.index)))
    body = stage.commit(run, 1, 0, 1)
    run = stage.reach_round(run, 2)
    assert all(seat.peer != stage.keys[1].peer for seat in run.seats[0])
    stage.block(stage.sign(stage.keys[1], body))
    assert record_of(stage, body).reward == 5


def test_segments_are_forgotten_with_their_challenge_window() -> None:
    stage, run = a_stage()
    body = stage.commit(run, 0, 0, 0)
    stage.block(stage.sign(stage.keys[0], body))
    stage.empty_blocks(SPEC.checks.challenge_window_blocks)
    record_of(stage, body)
    stage.block()
    assert stage.state.segment(run.index, RoundIndex(0), StageIndex(0), 0) is None


def checkpointed(stage: InMemoryLedger, run: Run, round_: int, **changes: object) -> PostCheckpoint:
    info = round_info(run, round_)
    assert info is not None
    body = PostCheckpoint(
        run=run.index,
        round=RoundIndex(round_),
        stage=StageIndex(0),
        seat=info.drawn[0],
        phi_root=COMPONENTS[PHI],
        phi_bytes=4_096,
        proof=merkle_proof(COMPONENTS, PHI),
    )
    return replace(body, **changes)


def at_a_draw() -> tuple[InMemoryLedger, Run, SecretKey]:
    """Round 2, whose dice drew one of three seats of stage 0; every end root holds the components."""
    stage, run = a_stage(joiners=3)
    stage.block(*stage.commit_all(run, 0))
    run = stage.reach_round(run, 2)
    info = round_info(run, 2)
    assert info is not None
    seat = next(seat for seat in info.seats[0] if seat.index == info.drawn[0])
    return stage, run, stage.key_of(seat.peer)


@pytest.mark.rule("L25")
def test_the_drawn_seat_posts_the_checkpoint_of_its_stage() -> None:
    stage, run, drawn = at_a_draw()
    body = checkpointed(stage, run, 2)
    assert refused(stage, body, drawn) is Reason.WRONG_START, "its segment comes first"
    stage.block(stage.sign(drawn, stage.commit(run, 1, 0, body.seat, end_root=END_ROOT)))
    for wrong in (
        {"phi_root": COMPONENTS[3]},
        {"proof": merkle_proof(COMPONENTS, 3)},
        {"proof": (bytes(32),) * 4},
    ):
        assert refused(stage, checkpointed(stage, run, 2, **wrong), drawn) is Reason.BAD_PROOF
    stage.block(stage.sign(drawn, body))
    newest = stage.state.run(run.index).checkpoints[0][0]
    assert (newest.round, newest.phi_root, newest.peer) == (2, body.phi_root, drawn.peer)
    assert stage.state.contribution(run.index, drawn.peer).checkpoints == 1
    assert refused(stage, body, drawn) is Reason.DUPLICATE


@pytest.mark.rule("L90")
@pytest.mark.usefixtures("unshown")
def test_nobody_begins_from_initial_weights_in_a_stage_that_has_a_checkpoint_and_trains() -> None:
    stage, run, drawn = at_a_draw()
    posted = checkpointed(stage, run, 2)
    stage.block(stage.sign(drawn, stage.commit(run, 1, 0, posted.seat, end_root=END_ROOT)))
    stage.block(stage.sign(drawn, posted))
    late = next(seat for seat in run.seats[0] if seat.index != posted.seat)
    accepted = list[bool]()
    for round_ in (2, 3, 4, 5, 6, 7):
        run = stage.reach_round(run, round_ + 1)
        if round_ < 5:
            stage.block(stage.sign(drawn, stage.commit(run, round_, 0, posted.seat)))
        accepted.append(not may_not_begin_anew(run, StageIndex(0), RoundIndex(round_)))
        if not accepted[-1]:
            anew = stage.commit(run, round_, 0, late.index, start=b"")
            assert refused(stage, anew, stage.key_of(late.peer)) is Reason.WRONG_START
    assert accepted == [True, True, False, False, False, True], "its first news, then lost for long"


@pytest.mark.rule("L25")
def test_nobody_else_and_no_other_round_posts_a_checkpoint() -> None:
    stage, run, drawn = at_a_draw()
    body = checkpointed(stage, run, 2)
    stage.block(
        *(stage.sign(stage.key_of(seat.peer), stage.commit(run, 1, 0, seat.index, end_root=END_ROOT))
          for seat in run.seats[0])
    )  # fmt: skip
    others = [seat for seat in run.seats[0] if seat.index != body.seat]
    for seat in others:
        stolen = replace(body, seat=seat.index)
        assert refused(stage, stolen, stage.key_of(seat.peer)) is Reason.WRONG_PEER
        assert refused(stage, body, stage.key_of(seat.peer)) is Reason.BAD_SIGNATURE
    assert refused(stage, replace(body, round=RoundIndex(1)), drawn) is Reason.WRONG_PEER
    stage.reach_round(run, 4)
    assert refused(stage, body, drawn) is Reason.WRONG_ROUND


@pytest.mark.rule("L25")
@pytest.mark.usefixtures("unshown")
def test_checkpoints_are_kept_newest_first_as_long_as_anybody_may_need_them() -> None:
    stage = InMemoryLedger()
    spec = replace(SPEC, rounds=100, checkpoint_rounds=8, checks=CheckSpec(NANO, 10, 3))
    run = stage.reach_round(stage.open_run(spec, escrow=900_000), 1)
    for round_ in range(1, 81):
        run = stage.reach_round(run, round_)
        ends = [
            stage.commit(run, round_ - 1, index, run.seats[index][0].index, end_root=END_ROOT)
            for index in (0, 1)
        ]
        stage.block(*(stage.sign(stage.keys[0], body) for body in ends))
        if round_ % spec.checkpoint_rounds == 0:
            stage.block(stage.sign(stage.keys[0], checkpointed(stage, run, round_)))
    kept = stage.state.run(run.index).checkpoints
    assert [checkpoint.round for checkpoint in kept[0]] == [80, 72, 64, 56, 48, 40, 32]
    assert len(kept[0]) == checkpoints_kept(spec)
    assert kept[1] == ()


def test_the_last_round_is_committed_and_checkpointed_after_the_end() -> None:
    stage = InMemoryLedger()
    run = stage.reach_round(stage.open_run(SPEC), SPEC.rounds - 1)
    stage.block(*stage.commit_all(run, SPEC.rounds - 2))
    run = stage.reach_round(run, SPEC.rounds)
    assert run.phase is RunPhase.FINISHED
    last = stage.commit(run, SPEC.rounds - 1, 0, 0, end_root=END_ROOT)
    stage.block(stage.sign(stage.keys[0], last))
    stage.block(stage.sign(stage.keys[0], checkpointed(stage, run, SPEC.rounds)))
    assert stage.state.run(run.index).checkpoints[0][0].round == SPEC.rounds
    beyond = stage.commit(run, SPEC.rounds, 0, 0)
    stage.reach_round(run, SPEC.rounds + 1)
    assert refused(stage, beyond) is Reason.WRONG_ROUND
    stage.reach_round(run, SPEC.rounds + 2)
    assert refused(stage, last) in {Reason.WRONG_ROUND, Reason.WRONG_PHASE}
    assert stage.state.run(run.index).checkpoints[0], "the model outlives the run"
