"""A run opens, crosses its boundaries, finishes and gives back what is left; everything is bounded."""

import pytest

from swarm.config.spec import NANO, CheckSpec
from swarm.errors import InvalidStatement, Reason
from swarm.ledger.chain import verify_chain
from swarm.ledger.state.records import ROUNDS_KEPT, RunPhase
from swarm.ledger.state.state import decode_state, encode_state
from swarm.ledger.transactions import CloseRun, Join, Leave, OpenRun, Stake, Transfer, Unstake
from swarm.ledger.transition import runs as runs_module
from swarm.ledger.transition.prices import run_deposit
from swarm.ledger.transition.runs import (
    ACTIVE_RUNS_MAX,
    SETTLE_ROUNDS,
    START_DELAY_BLOCKS,
    VOLUNTEERS_MAX,
    boundary_height,
    current_round,
    round_info,
    rounds_kept,
)
from swarm.primitives.codec import encode
from swarm.testing.ledger import InMemoryLedger, small_run_spec
from swarm.types import Amount, RoundIndex, RunIndex, StageIndex

SPEC = small_run_spec()


def refuses(stage: InMemoryLedger, data: bytes) -> Reason:
    root = stage.state.root
    with pytest.raises(InvalidStatement) as caught:
        stage.block(data)
    assert stage.state.root == root
    return caught.value.reason


@pytest.mark.rule("L13")
def test_a_run_opens_with_its_owner_in_every_stage_and_its_escrow_taken() -> None:
    stage = InMemoryLedger()
    before = stage.state.account(stage.keys[0].peer).balance
    run = stage.open_run(SPEC, escrow=5_000)
    assert (run.index, run.phase, run.escrow) == (1, RunPhase.OPEN, 5_000)
    assert run.start_height == stage.state.height + START_DELAY_BLOCKS
    assert run.spec_digest == SPEC.digest
    assert [[seat.peer for seat in roster] for roster in run.seats] == [[stage.keys[0].peer]] * 2
    assert stage.state.account(stage.keys[0].peer).balance == before - 5_000, (
        "the fee came back to its own leader"
    )


def test_a_round_is_current_from_its_boundary_to_the_next() -> None:
    stage = InMemoryLedger()
    run = stage.open_run(SPEC)
    start, blocks = run.start_height, SPEC.round_blocks
    assert current_round(run, start - 1) is None
    assert current_round(run, start) == 0
    assert current_round(run, start + blocks - 1) == 0
    assert current_round(run, start + blocks) == 1
    assert current_round(run, boundary_height(run, SPEC.rounds) - 1) == SPEC.rounds - 1
    assert current_round(run, boundary_height(run, SPEC.rounds)) is None


@pytest.mark.rule("L18")
def test_each_boundary_freezes_roster_and_beacon_and_four_rounds_are_kept() -> None:
    stage = InMemoryLedger()
    run = stage.open_run(SPEC)
    for round_ in range(SPEC.rounds):
        run = stage.reach_round(run, round_)
        info = round_info(run, round_)
        assert info is not None
        assert (info.height, info.beacon) == (stage.state.height, stage.state.beacon)
        assert info.seats == run.seats
        stage.block(stage.sign(stage.keys[1], Join(run.index))) if round_ == 2 else None
    assert [info.round for info in run.rounds] == [2, 3, 4, 5]
    assert len(run.rounds) == ROUNDS_KEPT
    early, late = round_info(run, 2), round_info(run, 3)
    assert early is not None
    assert late is not None
    assert (len(early.seats[0]), len(late.seats[0])) == (1, 2), (
        "a joiner sits from the next boundary on"
    )
    assert round_info(run, 1) is None


def kept_rounds(stage: InMemoryLedger) -> list[int]:
    """The rounds of run 1 that are on record."""
    rounds = range(SPEC.rounds + 1)
    return [r for r in rounds if stage.state.round_info(RunIndex(1), RoundIndex(r)) is not None]


@pytest.mark.rule("L18")
def test_a_round_is_on_record_as_it_was_frozen_until_nobody_can_check_it() -> None:
    spec = small_run_spec(round_blocks=3, rounds=30, checks=CheckSpec(NANO, 10, 20))
    stage = InMemoryLedger()
    run = stage.reach_round(stage.open_run(spec), 1)
    frozen = stage.state.round_info(run.index, RoundIndex(1))
    assert frozen == round_info(run, 1)
    stage.block(stage.sign(stage.keys[1], Join(run.index)), *stage.commit_all(run, 0))
    run = stage.reach_round(run, 4)
    end = boundary_height(run, 4) + 20
    stage.empty_blocks(end - 1 - stage.state.height)
    assert stage.state.round_info(run.index, RoundIndex(1)) == frozen
    assert round_info(stage.state.run(run.index), 1) is None
    held = [r for r in range(30) if stage.state.round_info(run.index, RoundIndex(r)) is not None]
    assert len(held) <= rounds_kept(spec)
    stage.block()
    assert stage.state.round_info(run.index, RoundIndex(1)) is None
    assert stage.state.round_info(run.index, RoundIndex(2)) is not None


def test_the_last_possible_commit_of_a_round_is_forgotten_with_it_and_not_after() -> None:
    spec = small_run_spec(round_blocks=3, rounds=30, checks=CheckSpec(NANO, 10, 20))
    stage = InMemoryLedger()
    run = stage.reach_round(stage.open_run(spec), 1)
    stage.empty_blocks(boundary_height(run, 4) - stage.state.height - 2)
    stage.block(stage.sign(stage.keys[0], stage.commit(run, 1, 0, 0)))
    last = stage.state.segment(run.index, RoundIndex(1), StageIndex(0), 0)
    assert last is not None
    assert last.height == boundary_height(run, 4) - 1
    stage.empty_blocks(20)
    assert stage.state.segments(run, RoundIndex(1)) != ()
    assert stage.state.round_info(run.index, RoundIndex(1)) is not None
    stage.block()
    assert stage.state.segments(run, RoundIndex(1)) == ()
    assert stage.state.round_info(run.index, RoundIndex(1)) is None


@pytest.mark.rule("L18", "L20")
def test_rounds_are_forgotten_after_the_run_is_settled_too() -> None:
    stage = InMemoryLedger()
    run = stage.reach_round(stage.open_run(SPEC), SPEC.rounds + SETTLE_ROUNDS)
    assert run.phase is RunPhase.SETTLED
    assert kept_rounds(stage) == [*range(SPEC.rounds + 1)]
    before = stage.state.root
    again = decode_state(encode_state(stage.state))
    assert again.root == before
    end = boundary_height(run, SPEC.rounds + 3) + SPEC.checks.challenge_window_blocks
    while stage.state.height < end - 1:
        height = stage.block().height
        assert len(kept_rounds(stage)) == min(
            SPEC.rounds + 1,
            1 + (end - 1 - height) // SPEC.round_blocks,
        )
    stage.block()
    assert kept_rounds(stage) == []
    assert not [key for key, _ in stage.state.entries.items() if key[:1] in {b"b", b"d"}]
    verify_chain(stage.genesis, stage.links)


@pytest.mark.rule("L20")
def test_a_run_finishes_then_settles_and_gives_back_its_escrow() -> None:
    stage = InMemoryLedger()
    owner = stage.keys[0].peer
    balance = stage.state.account(owner).balance
    run = stage.open_run(SPEC, escrow=5_000)
    run = stage.reach_round(run, SPEC.rounds)
    assert run.phase is RunPhase.FINISHED
    run = stage.reach_round(run, SPEC.rounds + SETTLE_ROUNDS)
    assert (run.phase, run.escrow, run.rounds) == (RunPhase.SETTLED, 0, ())
    assert stage.state.account(owner).balance == balance
    assert stage.state.globals.active_runs == ()
    stage.empty_blocks(9)
    assert stage.state.run(run.index) == run


@pytest.mark.rule("L20")
def test_a_closed_run_ends_at_its_next_boundary() -> None:
    stage = InMemoryLedger()
    run = stage.reach_round(stage.open_run(SPEC), 1)
    assert refuses(stage, stage.sign(stage.keys[1], CloseRun(run.index))) is Reason.WRONG_PEER
    stage.block(stage.sign(stage.keys[0], CloseRun(run.index)))
    assert refuses(stage, stage.sign(stage.keys[0], CloseRun(run.index))) is Reason.DUPLICATE
    run = stage.reach_round(run, 2)
    assert (run.phase, run.end_round) == (RunPhase.FINISHED, 2)
    assert refuses(stage, stage.sign(stage.keys[0], CloseRun(run.index))) is Reason.WRONG_PHASE


def test_a_run_closed_before_its_start_never_trains() -> None:
    stage = InMemoryLedger()
    run = stage.open_run(SPEC)
    stage.block(stage.sign(stage.keys[0], CloseRun(run.index)))
    run = stage.reach_round(run, 0)
    assert run.phase is RunPhase.FINISHED
    assert stage.reach_round(run, SETTLE_ROUNDS).phase is RunPhase.SETTLED


@pytest.mark.rule("L13")
def test_opening_needs_a_deposit_a_balance_and_a_readable_spec() -> None:
    stage = InMemoryLedger()
    deposit = run_deposit(stage.state.params, SPEC)
    sign, owner = stage.sign, stage.keys[1]
    assert refuses(stage, sign(owner, OpenRun(encode(SPEC), Amount(deposit - 1)))) is Reason.BALANCE
    assert refuses(stage, sign(owner, OpenRun(encode(SPEC), Amount(10**12)))) is Reason.BALANCE
    assert refuses(stage, sign(owner, OpenRun(b"junk", deposit))) is Reason.BAD_FIELD
    too_long = small_run_spec(checks=CheckSpec(NANO, 10, 180))
    assert refuses(stage, sign(owner, OpenRun(encode(too_long), deposit))) is Reason.BAD_FIELD, (
        "a stake would be free before its segments are"
    )
    bad = small_run_spec(num_stages=65)
    assert refuses(stage, sign(owner, OpenRun(encode(bad), deposit))) is Reason.BAD_FIELD
    stage.block(sign(owner, Unstake(Amount(281))))
    assert refuses(stage, sign(owner, OpenRun(encode(SPEC), deposit))) is Reason.STAKE, (
        "719 where its owner, who trains at first, has 720"
    )
    stage.block(sign(owner, Stake(Amount(1))))
    stage.block(sign(owner, OpenRun(encode(SPEC), deposit)))


@pytest.mark.rule("L20")
def test_a_run_ends_at_the_boundary_at_which_it_could_not_pay_another_round() -> None:
    """Nobody trains what the escrow may not be able to pay."""
    stage = InMemoryLedger()
    run = stage.reach_round(stage.open_run(SPEC, escrow=run_deposit(stage.state.params, SPEC)), 1)
    assert run.phase is RunPhase.TRAINING
    stage.block(*stage.commit_all(run, 0))
    run = stage.reach_round(run, 2)
    assert (run.phase, run.end_round) == (RunPhase.FINISHED, 2)
    held = [record for record in stage.state.live_segments() if record.run == run.index]
    assert [record.reward for record in held] == [5, 5], "what was trained is paid"


@pytest.mark.rule("L17")
def test_the_number_of_open_runs_is_bounded() -> None:
    stage = InMemoryLedger()
    body = OpenRun(encode(SPEC), run_deposit(stage.state.params, SPEC))
    for _ in range(ACTIVE_RUNS_MAX // 16):
        nonce = stage.state.account(stage.keys[0].peer).nonce
        stage.block(*(stage.sign(stage.keys[0], body, nonce=nonce + 1 + i) for i in range(16)))
    assert len(stage.state.globals.active_runs) == ACTIVE_RUNS_MAX
    assert refuses(stage, stage.sign(stage.keys[1], body)) is Reason.FULL


@pytest.mark.rule("L17", "S19")
def test_a_peer_waits_once_and_sits_once() -> None:
    stage = InMemoryLedger()
    run = stage.reach_round(stage.open_run(SPEC), 0)
    ask = Join(run.index)
    assert refuses(stage, stage.sign(stage.keys[0], ask)) is Reason.DUPLICATE
    stage.block(stage.sign(stage.keys[1], ask))
    assert refuses(stage, stage.sign(stage.keys[1], ask)) is Reason.DUPLICATE
    stage.reach_round(run, 1)
    assert refuses(stage, stage.sign(stage.keys[1], ask)) is Reason.DUPLICATE
    assert refuses(stage, stage.sign(stage.keys[1], Join(RunIndex(7)))) is Reason.UNKNOWN_RUN


@pytest.mark.rule("L17", "S19")
def test_the_queue_for_seats_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs_module, "WAITING_MAX", 2)
    stage = InMemoryLedger()
    run = stage.reach_round(stage.open_run(SPEC), 0)
    stage.block(*(stage.sign(key, Join(run.index)) for key in stage.keys[1:3]))
    assert refuses(stage, stage.sign(stage.keys[3], Join(run.index))) is Reason.FULL


@pytest.mark.rule("L10")
def test_a_volunteer_without_an_account_joins_and_leaves_at_the_expense_of_the_run() -> None:
    stage = InMemoryLedger()
    run, volunteer = stage.open_run(SPEC, escrow=50_000), stage.keys[20]
    stage.block(stage.sign(volunteer, Join(run.index), fee=0))
    run = stage.state.run(run.index)
    assert run.waiting[0].is_volunteer
    paid = 50_000 - run.escrow
    assert paid > 0
    assert stage.state.account(volunteer.peer).balance == 0
    run = stage.reach_round(run, 0)
    assert run.seats[0][1].is_volunteer
    stage.block(stage.sign(volunteer, Leave(run.index), fee=0))
    assert refuses(stage, stage.sign(volunteer, Leave(run.index), fee=0)) is Reason.DUPLICATE
    assert stage.reach_round(run, 1).seats[0][1:] == ()
    assert refuses(stage, stage.sign(volunteer, Leave(run.index), fee=0)) is Reason.UNKNOWN_SEAT


@pytest.mark.rule("L10")
def test_only_joining_and_leaving_are_free_and_only_for_those_who_cannot_pay() -> None:
    stage = InMemoryLedger()
    run = stage.open_run(SPEC)
    gift = Transfer(stage.keys[0].peer, Amount(1))
    assert refuses(stage, stage.sign(stage.keys[20], gift, fee=0)) is Reason.FEE
    assert refuses(stage, stage.sign(stage.keys[1], Join(run.index), fee=0)) is Reason.FEE
    assert refuses(stage, stage.sign(stage.keys[20], Join(run.index), fee=1)) is Reason.FEE


@pytest.mark.rule("L17", "S19")
def test_volunteers_are_bounded_per_run_and_others_are_not_kept_out() -> None:
    stage = InMemoryLedger()
    run = stage.open_run(small_run_spec(round_blocks=20))
    stage.keys += [type(stage.keys[0]).from_seed(bytes([i]) * 32) for i in range(VOLUNTEERS_MAX)]
    crowd = stage.keys[32:]
    stage.block(*(stage.sign(key, Join(run.index), fee=0) for key in crowd))
    assert refuses(stage, stage.sign(stage.keys[20], Join(run.index), fee=0)) is Reason.FULL
    stage.block(stage.sign(stage.keys[1], Join(run.index)))


def test_the_owner_closes_instead_of_leaving_and_a_stranger_has_nothing_to_leave() -> None:
    stage = InMemoryLedger()
    run = stage.open_run(SPEC)
    assert refuses(stage, stage.sign(stage.keys[0], Leave(run.index))) is Reason.WRONG_PEER
    assert refuses(stage, stage.sign(stage.keys[1], Leave(run.index))) is Reason.UNKNOWN_SEAT


def test_nobody_joins_a_run_that_is_over() -> None:
    stage = InMemoryLedger()
    run = stage.reach_round(stage.open_run(SPEC), SPEC.rounds)
    assert refuses(stage, stage.sign(stage.keys[1], Join(run.index))) is Reason.WRONG_PHASE
    assert round_info(run, RoundIndex(SPEC.rounds)) is not None
