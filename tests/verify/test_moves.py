"""A node asks to be heard when it must, moves when it is its turn, and repeats what was lost."""

import pytest

from swarm.ledger.check_statements import DisputeMove, DisputeVote
from swarm.ledger.state.accusations import Turn
from swarm.ledger.state.records import SegmentPhase
from swarm.ledger.transition import hearings
from swarm.verify.answers import window_of
from swarm.verify.duties import FindMove, Submit
from tests.ledger.checking import Case, a_case
from tests.ledger.transition.test_hearings import TestCourt, disputed, turn
from tests.verify.actors import Actor, BlockProducer, honest, peers_of


@pytest.fixture(autouse=True)
def court(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hearings, "the_court", TestCourt)


def actor_of(actors: list[Actor], peer: bytes) -> Actor:
    return next(actor for actor in actors if actor.key.peer == peer)


def go_on(case: Case, producer: BlockProducer, actors: list[Actor], blocks: int) -> None:
    for _ in range(blocks):
        if not case.is_now(SegmentPhase.DISPUTED):
            return
        for actor in actors:
            actor.act()
        producer.block()


@pytest.mark.rule("L93", "V49")
def test_an_honest_solver_asks_at_once_and_a_false_accuser_loses_before_bought_judges() -> None:
    case, reporter = disputed()
    producer, actors = peers_of(case, replay=honest(case.true.with_lie(0)))
    stake = case.stake(case.solver)
    solver = actor_of(actors, case.solver.peer)

    def solvers(step: FindMove) -> bytes:
        return b"" if step.move.turn == Turn.JUDGES else b"false"

    solver.moving = solvers
    actor_of(actors, reporter.peer).moving = lambda _: b"open"
    go_on(case, producer, actors, 40)
    assert case.is_now(SegmentPhase.UNSAMPLED)
    assert case.stake(case.solver) == stake
    kinds = [type(step.body) for actor in actors for step in actor.submitted]
    assert kinds.count(DisputeMove) == 3
    assert DisputeVote in kinds, "they have tried"


@pytest.mark.rule("L93", "V49")
def test_an_accuser_asks_when_a_judge_doubts_and_not_before() -> None:
    case, reporter = disputed(lie=0)
    producer, actors = peers_of(case, replay=honest(case.true))
    accuser = actor_of(actors, reporter.peer)
    assert not [step for step in accuser.steps() if isinstance(step, FindMove)]
    case.submit(case.judges[0], case.claimed.vote(0, is_guilty=False))
    assert [step for step in accuser.steps() if isinstance(step, FindMove)]
    accuser.moving = lambda step: b"open" if step.move.turn == Turn.JUDGES else b"guilty"
    actor_of(actors, case.solver.peer).moving = lambda step: (
        None if step.move.turn == Turn.JUDGES else b"next"
    )
    go_on(case, producer, actors, 40)
    assert case.is_now(SegmentPhase.GUILTY)


@pytest.mark.rule("V25")
def test_a_move_that_was_lost_is_made_again_and_the_next_one_waits_for_nothing() -> None:
    case, reporter = disputed()
    _, actors = peers_of(case)
    solver = actor_of(actors, case.solver.peer)
    case.submit(reporter, case.claimed.move(0, b"open"))
    assert turn(case) is Turn.SOLVER
    find = next(step for step in solver.steps() if isinstance(step, FindMove))
    solver.moves[find.move] = b"next"

    def moves() -> list[Submit]:
        steps = solver.steps()
        return [s for s in steps if isinstance(s, Submit) and isinstance(s.body, DisputeMove)]

    assert len(moves()) == 1
    solver.sent[DisputeMove, window_of(case.record, 0)] = case.ledger.state.height
    assert not moves()
    case.ledger.empty_blocks(4)
    assert len(moves()) == 1, "it was lost"
    case.submit(case.solver, case.claimed.move(0, b"next"))
    case.submit(reporter, case.claimed.move(0, b"next"))
    find = next(step for step in solver.steps() if isinstance(step, FindMove))
    solver.moves[find.move] = b"next"
    assert len(moves()) == 1


def test_nothing_is_due_in_a_dispute_of_others() -> None:
    case, reporter = disputed()
    _, actors = peers_of(case)
    strangers = [a for a in actors if a.key.peer not in {reporter.peer, case.solver.peer}]
    found = [step for actor in strangers for step in actor.steps() if isinstance(step, FindMove)]
    assert not found
    assert a_case().is_now(SegmentPhase.POSTED)
