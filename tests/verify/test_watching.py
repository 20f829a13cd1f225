"""Every open segment is seen in every phase, and nothing is looked up that only waits to be forgotten."""

from swarm.config.spec import NANO, CheckSpec
from swarm.ledger.state.records import DueQueue, SegmentPhase
from swarm.ledger.state.state import State
from swarm.ledger.transition.hearings import CLOCK_BLOCKS_MIN, MOVE_BLOCKS_MIN, silence_blocks
from swarm.primitives.commitments import REFUSED
from swarm.testing.ledger import small_run_spec
from swarm.verify.answers import key_of
from swarm.verify.changes import OPEN, OpenSegments
from tests.ledger.checking import Case, a_case
from tests.ledger.panels import a_native_case
from tests.verify.actors import Actor, BlockProducer, peers_of


def all_open(state: State) -> set[tuple[int, ...]]:
    return {key_of(record) for record in state.live_segments() if record.phase in OPEN}


def test_a_segment_is_seen_until_it_is_judged_and_once_more_then() -> None:
    case = a_case(lie=0)
    seen = seen_of(case, *peers_of(case))
    assert seen[0] is SegmentPhase.POSTED
    assert seen[-1] is SegmentPhase.GUILTY
    assert seen.count(SegmentPhase.GUILTY) == 1
    assert set(seen) == {*OPEN, SegmentPhase.GUILTY} - {SegmentPhase.DOUBTED}


def test_a_segment_is_seen_where_a_panel_decides_about_it() -> None:
    case = a_native_case()
    seen = seen_of(case, *peers_of(case, replay=lambda _: REFUSED))
    assert set(seen) == {*OPEN, SegmentPhase.REJECTED} - {SegmentPhase.DISPUTED}


def seen_of(case: Case, producer: BlockProducer, actors: list[Actor]) -> list[SegmentPhase]:
    """The phases of a case's segment in 60 blocks in which everybody acts, as a watch sees them."""
    watch, seen, place = OpenSegments(), list[SegmentPhase](), key_of(case.record)
    for _ in range(60):
        _, after = watch.look(case.ledger.state)
        assert {key_of(record) for record in watch.open} == all_open(case.ledger.state)
        if place in after:
            seen.append(after[place].phase)
        for actor in actors:
            actor.act()
        producer.block()
    return seen


def test_the_first_look_has_no_news() -> None:
    case = a_case()
    before, after = OpenSegments().look(case.ledger.state)
    assert before == after != {}


def test_a_look_costs_what_is_open_and_not_the_length_of_the_challenge_window() -> None:
    checks = CheckSpec(NANO, 10, 150)
    spec = small_run_spec(round_blocks=4, rounds=40, numerics="seq-f32/1", checks=checks)
    case = a_case(spec)
    case.wait(SegmentPhase.SEALED)
    case.submit(case.solver, case.claimed.reveal())
    assert case.is_now(SegmentPhase.UNSAMPLED)
    state, asked = case.ledger.state, list[int]()

    class Counting(State):
        def due_queue(self, height: int) -> DueQueue:
            asked.append(height)
            return super().due_queue(height)

    assert state.globals.last_due > state.height + 100
    watch = OpenSegments()
    watch.look(Counting(state.entries))
    most = max(silence_blocks(3, state.params.epoch_blocks), CLOCK_BLOCKS_MIN)
    assert 0 < len(asked) <= most, "once after a start"
    asked.clear()
    watch.look(Counting(state.entries))
    assert 0 < len(asked) <= MOVE_BLOCKS_MIN + state.params.beacon_delay
