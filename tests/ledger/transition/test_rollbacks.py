"""In a run that asks for it, the stage of a proven lie begins again from the checkpoint before it."""

import dataclasses

import pytest

from swarm.config.spec import RunSpec
from swarm.errors import InvalidStatement, Reason
from swarm.ledger.state.draft import Draft
from swarm.ledger.state.records import (
    NO_ROLLBACK,
    Checkpoint,
    Rollback,
    RunPhase,
    SegmentPhase,
    StartKind,
)
from swarm.ledger.transactions import PostCheckpoint
from swarm.ledger.transition.rollbacks import check_not_behind, is_set_back, set_back
from swarm.ledger.transition.seats import NEVER, draw_posters
from swarm.primitives.codec import replace
from swarm.testing.ledger import InMemoryLedger
from swarm.types import NO_DIGEST, Digest, Height, PeerId, RoundIndex, StageIndex
from tests.ledger.checking import EXACT, Case, a_case

BACK = replace(EXACT, checks=replace(EXACT.checks, on_fraud="rollback"))


def convicted(spec: RunSpec = BACK) -> Case:
    case = a_case(spec, lie=0)
    windows = case.up_to_reveal()
    case.show(windows)
    assert case.is_now(SegmentPhase.DISPUTED)
    case.decide(is_guilty=True)
    assert case.is_now(SegmentPhase.GUILTY)
    return case


def listed(*rounds: int) -> tuple[Checkpoint, ...]:
    return tuple(
        Checkpoint(
            round=RoundIndex(r),
            phi_root=Digest(bytes([r]) * 32),
            phi_bytes=4,
            peer=PeerId(b""),
            seat=0,
            height=Height(1),
            is_void=False,
        )
        for r in sorted(rounds, reverse=True)
    )


@pytest.mark.rule("L45a")
def test_only_a_run_that_says_so_goes_back() -> None:
    case = convicted(EXACT)
    assert set(case.ledger.state.run(case.run.index).rollbacks) == {NO_ROLLBACK}


@pytest.mark.rule("L45a")
def test_the_stage_of_the_lie_begins_again_at_the_next_boundary_and_the_others_go_on() -> None:
    case = convicted()
    run = case.ledger.state.run(case.run.index)
    assert run.rollbacks == (Rollback(0, run.next_round), NO_ROLLBACK), "no checkpoint was posted"


@pytest.mark.rule("L45a")
def test_every_seat_of_the_stage_must_begin_again_and_may() -> None:
    ledger = InMemoryLedger()
    run = ledger.reach_round(ledger.open_run(BACK), 2)
    ledger.block(*ledger.commit_all(run, 1))
    draft = Draft(ledger.state, ledger.keys[0].peer)
    draft.put_run(replace(ledger.state.run(run.index), rollbacks=(Rollback(0, 3), NO_ROLLBACK)))
    ledger.head = dataclasses.replace(ledger.head, state=draft.finish())
    run = ledger.reach_round(run, 3)
    ledger.block(ledger.sign(ledger.keys[0], ledger.commit(run, 2, 0, 0)))
    run = ledger.reach_round(run, 4)
    seat = run.seats[0][0]
    assert is_set_back(run, seat, 0, RoundIndex(3))
    tainted = ledger.commit(run, 3, 0, 0, start=seat.last_end_root)
    with pytest.raises(InvalidStatement) as caught:
        ledger.block(ledger.sign(ledger.keys[0], tainted))
    assert caught.value.reason is Reason.WRONG_START
    fresh = replace(tainted, start=b"")
    ledger.block(ledger.sign(ledger.keys[0], fresh))
    record = ledger.state.segment(run.index, RoundIndex(3), StageIndex(0), 0)
    assert record is not None
    assert record.start_kind is StartKind.INITIAL
    run = ledger.reach_round(ledger.state.run(run.index), 5)
    assert not is_set_back(run, run.seats[0][0], 0, RoundIndex(4))
    after = ledger.commit(run, 4, 0, 0, start=run.seats[0][0].last_end_root)
    ledger.block(ledger.sign(ledger.keys[0], after))


@pytest.mark.rule("L45a")
def test_the_newest_checkpoint_from_before_the_lie_stands_and_those_after_it_do_not() -> None:
    case = convicted()
    state = case.ledger.state
    run, lie = state.run(case.run.index), case.record
    early, late = lie.round, lie.round + 1
    run = replace(run, rollbacks=(NO_ROLLBACK,) * 2, checkpoints=(listed(early, late), ()))
    draft = Draft(state, case.ledger.keys[0].peer)
    draft.put_run(run)
    set_back(draft, lie)
    run = draft.run(run.index)
    assert run.rollbacks[0] == Rollback(early, run.next_round)
    assert [c.round for c in run.standing(0)] == [early]
    assert len(run.checkpoints[0]) == 2, "still an anchor for who replays"
    draft.put_run(replace(run, rollbacks=(Rollback(late + 2, late + 4), NO_ROLLBACK)))
    assert [c.round for c in draft.run(run.index).standing(0)] == [early], "nor after another one"
    proof = (b"",) * 4
    for round_ in (late, run.next_round):
        body = PostCheckpoint(
            run=run.index,
            round=RoundIndex(round_),
            stage=StageIndex(0),
            seat=0,
            phi_root=NO_DIGEST,
            phi_bytes=4,
            proof=proof,
        )
        with pytest.raises(InvalidStatement):
            check_not_behind(run, body)
    check_not_behind(run, replace(body, round=RoundIndex(run.next_round + 1)))


@pytest.mark.rule("L45a")
def test_a_lie_that_was_undone_already_and_a_run_that_is_over_set_nothing_back() -> None:
    case = convicted()
    state = case.ledger.state
    run = state.run(case.run.index)
    draft = Draft(state, case.ledger.keys[0].peer)
    set_back(draft, case.record)
    assert draft.run(run.index) == run
    for phase in (RunPhase.COOLING, RunPhase.FINISHED, RunPhase.SETTLED):
        draft.put_run(replace(run, phase=phase, rollbacks=(NO_ROLLBACK,) * 2))
        set_back(draft, case.record)
        assert set(draft.run(run.index).rollbacks) == {NO_ROLLBACK}


def test_nobody_posts_the_boundary_at_which_a_stage_begins_again() -> None:
    run = replace(convicted().run, rollbacks=(Rollback(0, 4), NO_ROLLBACK))
    run = replace(run, spec=replace(run.spec, checkpoint_rounds=1), seats=run.seats)
    seats = tuple(tuple(replace(s, last_commit_round=3) for s in roster) for roster in run.seats)
    drawn = draw_posters(replace(run, seats=seats), RoundIndex(4), Digest(bytes(32)))
    assert drawn[0] == NEVER != drawn[1]
