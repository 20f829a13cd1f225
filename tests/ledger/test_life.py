"""A run rests when its owner says so, ends with rounds of consensus, and nobody else decides either."""

import pytest

from swarm.errors import InvalidStatement, Reason
from swarm.ledger.state.records import Run, RunPhase
from swarm.ledger.state.state import audit_supply, decode_state, encode_state
from swarm.ledger.transactions import Body, CloseRun, Join, Leave, PauseRun, ResumeRun
from swarm.ledger.transition import runs
from swarm.ledger.transition.runs import (
    SETTLE_ROUNDS,
    START_DELAY_BLOCKS,
    boundary_height,
    current_round,
    first_checkpoint_blocks,
    round_info,
)
from swarm.primitives.codec import replace
from swarm.testing.ledger import InMemoryLedger, small_run_spec
from swarm.types import RoundIndex, RunIndex, StageIndex

SPEC = small_run_spec(rounds=8, replicas_max=4)


def refused(stage: InMemoryLedger, body: Body, number: int = 0) -> Reason:
    root = stage.state.root
    with pytest.raises(InvalidStatement) as caught:
        stage.block(stage.sign(stage.keys[number], body))
    assert stage.state.root == root
    return caught.value.reason


def submit(stage: InMemoryLedger, body: Body, number: int = 0) -> Run:
    stage.block(stage.sign(stage.keys[number], body))
    return stage.state.run(RunIndex(1))


pytestmark = pytest.mark.usefixtures("unshown")


def with_joiners(count: int, upto: int = 1, **changes: object) -> tuple[InMemoryLedger, Run]:
    """A run whose joiners all sit and commit until round ``upto`` begins."""
    stage = InMemoryLedger(8)
    run = stage.open_run(replace(SPEC, **changes))
    stage.block(*(stage.sign(stage.keys[i + 1], Join(run.index)) for i in range(count)))
    run = stage.reach_round(run, 1)
    for round_ in range(upto - 1):
        stage.block(*stage.commit_all(run, round_))
        run = stage.reach_round(run, round_ + 2)
    return stage, run


@pytest.mark.parametrize(("every", "rounds"), [(1, 8), (3, 8), (4, 4), (9, 3)])
def test_the_first_checkpoint_is_drawn_when_a_dry_run_says(every: int, rounds: int) -> None:
    """Counted in blocks from the opening of the run; a short run has its only one at the end."""
    stage = InMemoryLedger(8)
    run = stage.open_run(replace(SPEC, checkpoint_rounds=every, rounds=rounds))
    for round_ in range(rounds):
        run = stage.reach_round(run, round_ + 1)
        drawn = [info for info in run.rounds if max(info.drawn) >= 0]
        if drawn:
            break
        stage.block(*stage.commit_all(run, round_))
    (first,) = drawn
    assert first.height == run.opened_height + first_checkpoint_blocks(run.spec)


# --- pause and resume ---


@pytest.mark.rule("L19b")
def test_a_pause_begins_at_the_boundary_and_the_schedule_goes_on_where_it_stopped() -> None:
    stage, run = with_joiners(1)
    run = submit(stage, PauseRun(run.index))
    assert (run.phase, run.is_pausing) == (RunPhase.TRAINING, True)
    run = stage.reach_round(run, 2)
    assert (run.phase, run.paused_height) == (RunPhase.PAUSED, stage.state.height)
    assert [info.round for info in run.rounds] == [0, 1], "round 2 has not begun"
    assert current_round(run, stage.state.height) is None
    stage.empty_blocks(30)
    run = stage.state.run(run.index)
    assert (run.phase, run.rounds[-1].round) == (RunPhase.PAUSED, 1)
    run = submit(stage, ResumeRun(run.index))
    start = stage.state.height + START_DELAY_BLOCKS
    assert (run.phase, run.start_height, run.start_round) == (RunPhase.OPEN, start, 2)
    run = stage.reach_round(run, 2)
    assert (run.phase, stage.state.height) == (RunPhase.TRAINING, start)
    assert run.rounds[-1].round == current_round(run, start) == 2
    run = stage.reach_round(run, 3)
    assert stage.state.height == start + SPEC.round_blocks
    assert round_info(run, 1) is not None
    assert decode_state(encode_state(stage.state)).root == stage.state.root


@pytest.mark.rule("L19b")
def test_what_was_trained_before_a_pause_is_committed_in_it_and_not_for_ever() -> None:
    stage, run = with_joiners(1)
    submit(stage, PauseRun(run.index))
    run = stage.reach_round(run, 2)
    commits = stage.commit_all(run, 1)
    stage.block(commits[0])
    assert stage.state.run(run.index).num_segments == 1
    stage.empty_blocks(2 * SPEC.round_blocks)
    with pytest.raises(InvalidStatement) as caught:
        stage.block(commits[1])
    assert caught.value.reason is Reason.WRONG_ROUND
    run = submit(stage, ResumeRun(run.index))
    run = stage.reach_round(run, 3)
    stage.block(*stage.commit_all(run, 2))
    assert stage.state.run(run.index).num_segments == 1 + len(stage.commit_all(run, 2))
    assert audit_supply(stage.state) == stage.state.supply


@pytest.mark.rule("L19b")
def test_only_the_owner_pauses_resumes_and_stops_and_only_when_there_is_something_to() -> None:
    stage, run = with_joiners(1)
    for body in (PauseRun(run.index), ResumeRun(run.index), CloseRun(run.index)):
        assert refused(stage, body, 1) is Reason.WRONG_PEER
    assert refused(stage, ResumeRun(run.index)) is Reason.WRONG_PHASE
    submit(stage, PauseRun(run.index))
    assert refused(stage, PauseRun(run.index)) is Reason.DUPLICATE
    run = submit(stage, ResumeRun(run.index))
    assert not run.is_pausing, "taken back before it began"
    submit(stage, PauseRun(run.index))
    run = stage.reach_round(run, 2)
    assert refused(stage, PauseRun(run.index)) is Reason.DUPLICATE
    assert refused(stage, ResumeRun(run.index), 1) is Reason.WRONG_PEER
    run = submit(stage, ResumeRun(run.index))
    assert refused(stage, PauseRun(run.index)) is Reason.WRONG_PHASE
    run = stage.reach_round(run, 2)
    submit(stage, CloseRun(run.index))
    assert refused(stage, PauseRun(run.index)) is Reason.WRONG_ROUND


def test_a_paused_run_takes_joiners_and_lets_who_leaves_go_when_it_goes_on() -> None:
    stage, run = with_joiners(1)
    submit(stage, PauseRun(run.index))
    run = stage.reach_round(run, 2)
    submit(stage, Join(run.index), 2)
    run = submit(stage, Leave(run.index), 1)
    assert (len(run.waiting), len(run.leaving)) == (1, 1)
    run = submit(stage, ResumeRun(run.index))
    run = stage.reach_round(run, 2)
    seated = {seat.peer for roster in run.seats for seat in roster}
    assert seated == {stage.keys[0].peer, stage.keys[2].peer}


@pytest.mark.rule("L20")
def test_a_run_that_is_stopped_while_it_rests_goes_on_to_agree() -> None:
    stage, run = with_joiners(2, upto=3)
    submit(stage, PauseRun(run.index))
    run = stage.reach_round(run, 4)
    assert run.phase is RunPhase.PAUSED
    run = submit(stage, CloseRun(run.index))
    assert (run.phase, run.end_round) == (RunPhase.OPEN, 4)
    run = stage.reach_round(run, 4)
    assert run.phase is RunPhase.COOLING


@pytest.mark.rule("L19b")
def test_a_pause_that_nobody_ends_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "PAUSE_EPOCHS_MAX", 2)
    stage, run = with_joiners(0)
    submit(stage, PauseRun(run.index))
    run = stage.reach_round(run, 2)
    stage.empty_blocks(2 * stage.genesis.epoch_blocks - 1)
    assert stage.state.run(run.index).phase is RunPhase.PAUSED
    stage.empty_blocks(1 + START_DELAY_BLOCKS)
    run = stage.state.run(run.index)
    assert (run.phase, run.end_round) == (RunPhase.FINISHED, 2)


# --- consensus ---


@pytest.mark.rule("L19a")
@pytest.mark.parametrize(("joiners", "rounds"), [(0, 0), (2, 1), (4, 3), (7, 2)])
def test_a_run_ends_with_as_many_rounds_of_consensus_as_its_largest_stage_takes(
    joiners: int, rounds: int
) -> None:
    stage, run = with_joiners(joiners, upto=SPEC.rounds - 1)
    stage.block(*stage.commit_all(run, SPEC.rounds - 2))
    assert run.consensus_round == 0
    run = stage.reach_round(run, SPEC.rounds)
    assert (run.consensus_rounds, run.final_round) == (rounds, SPEC.rounds + rounds)
    assert run.phase is (RunPhase.COOLING if rounds else RunPhase.FINISHED)
    first = run.rounds[-1]
    for number in range(rounds):
        info = run.rounds[-1]
        assert (info.round, info.consensus) == (SPEC.rounds + number, number)
        assert run.consensus_round == number + 1
        assert (info.seats, info.beacon) == (first.seats, first.beacon), "one roster, one draw"
        run = stage.reach_round(run, info.round + 1)
    assert (run.phase, run.rounds[-1].consensus) == (RunPhase.FINISHED, -1)
    assert run.consensus_round == rounds
    assert stage.reach_round(run, run.final_round + SETTLE_ROUNDS).phase is RunPhase.SETTLED


@pytest.mark.rule("L22")
def test_a_segment_of_consensus_takes_no_steps_earns_nothing_and_leads_to_the_last_checkpoint() -> (
    None
):
    stage, run = with_joiners(3, upto=SPEC.rounds)
    stage.block(*stage.commit_all(run, SPEC.rounds - 1))
    run = stage.reach_round(run, run.final_round)
    assert run.phase is RunPhase.FINISHED
    seat = run.rounds[-2].seats[0][0]
    key = stage.key_of(seat.peer)
    commit = stage.commit(run, SPEC.rounds, 0, seat.index, num_steps=0, tokens=0)
    for wrong in (
        replace(commit, num_steps=1),
        replace(commit, tokens=1),
        replace(commit, round=run.final_round, num_steps=0),
    ):
        with pytest.raises(InvalidStatement):
            stage.block(stage.sign(key, wrong))
    escrow = run.escrow
    stage.block(stage.sign(key, commit))
    record = stage.state.segment(run.index, RoundIndex(SPEC.rounds), StageIndex(0), seat.index)
    assert record is not None
    left = escrow - record.reserved
    assert (record.reward, stage.state.run(run.index).escrow) == (0, left)
    assert len(record.partners) == 1
    assert -1 not in run.rounds[-1].drawn, "everybody agreed, so anybody may post"


@pytest.mark.rule("L22")
def test_a_round_of_training_takes_at_least_a_step() -> None:
    stage, run = with_joiners(0, upto=2)
    with pytest.raises(InvalidStatement):
        stage.block(stage.sign(stage.keys[0], stage.commit(run, 1, 0, 0, num_steps=0, tokens=0)))


@pytest.mark.rule("L19a")
def test_who_was_silent_at_the_end_is_not_waited_for() -> None:
    stage, run = with_joiners(2, upto=1)
    silent = next(s for roster in run.seats for s in roster if s.peer != run.owner)
    for round_ in range(1, SPEC.rounds):
        run = stage.reach_round(run, round_ + 1)
        if run.phase is RunPhase.TRAINING:
            info = round_info(run, round_)
            assert info is not None
            seats = [s for r in info.seats for s in r if s.peer != silent.peer]
            commits = [stage.commit(run, round_, s.stage, s.index) for s in seats]
            stage.block(
                *(stage.sign(stage.key_of(s.peer), b) for s, b in zip(seats, commits, strict=True))
            )
    assert silent.peer not in {s.peer for roster in run.rounds[-1].seats for s in roster}
    assert all(run.rounds[-1].seats)
    last = boundary_height(run, run.final_round)
    assert last >= stage.state.height
