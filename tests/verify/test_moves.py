"""A node moves when it is its turn, comes back when it was away, and repeats what was lost."""

import pytest

from swarm.ledger.check_statements import DisputeMove
from swarm.ledger.state.accusations import Turn
from swarm.ledger.state.records import SegmentPhase
from swarm.testing.ledger import STAKE
from swarm.verify.answers import window_of
from swarm.verify.changes import OpenSegments
from swarm.verify.duties import FindMove, Submit
from tests.ledger.checking import Case, a_case
from tests.ledger.transition.test_hearings import disputed, turn
from tests.verify.actors import Actor, BlockProducer, peers_of


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
def test_an_accuser_opens_at_once_and_an_honest_solver_answers() -> None:
    case, reporter = disputed()
    producer, actors = peers_of(case)
    stake = case.stake(case.solver)
    finds = [step for step in actor_of(actors, reporter.peer).steps() if isinstance(step, FindMove)]
    assert len(finds) == 1
    go_on(case, producer, actors, 40)
    assert case.is_now(SegmentPhase.UNSAMPLED)
    assert case.stake(case.solver) == stake
    kinds = [type(step.body) for actor in actors for step in actor.submitted]
    assert kinds == [DisputeMove, DisputeMove], "nobody else says anything"


@pytest.mark.rule("L114", "V65")
def test_a_solver_that_was_without_power_comes_back_by_itself() -> None:
    case, reporter = disputed()
    producer, actors = peers_of(case)
    solver = actor_of(actors, case.solver.peer)
    others = [actor for actor in actors if actor is not solver]
    go_on(case, producer, others, 40)
    assert turn(case) is Turn.SILENT
    solver.restart()
    go_on(case, producer, actors, 20)
    assert case.is_now(SegmentPhase.UNSAMPLED)
    assert case.stake(case.solver) == STAKE
    assert case.ledger.state.contribution(case.run.index, reporter.peer).refuted == 1


@pytest.mark.rule("V65")
def test_a_node_that_starts_while_a_solver_is_silent_sees_the_dispute() -> None:
    """Its deadline is epochs away, and far beyond all others."""
    case, _ = disputed(lie=0)
    case.fall_silent()
    case.ledger.empty_blocks(30)
    watch = OpenSegments()
    for _ in range(3):
        watch.look(case.ledger.state)
        assert [record.peer for record in watch.open] == [case.solver.peer]
        case.ledger.block()


@pytest.mark.rule("V25")
def test_a_move_that_was_lost_is_made_again_and_the_next_one_waits_for_nothing() -> None:
    case, reporter = disputed()
    _, actors = peers_of(case)
    solver = actor_of(actors, case.solver.peer)
    case.move(reporter, b"open")
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
    case.move(case.solver, b"next")
    case.move(reporter, b"next")
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
