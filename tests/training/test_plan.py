"""Every seat of a round derives the same routes, and a stranger has no seat."""

from dataclasses import replace

import pytest

from swarm.training.plan import RosterSeat
from swarm.types import StageIndex
from tests.training.pipeline import Swarm, a_spec

PLAN = Swarm(a_spec(), replicas=3).plan


@pytest.mark.rule("T16")
def test_candidates_are_the_whole_stage_drawn_replica_first() -> None:
    routes = [
        PLAN.candidates(origin=origin, step=5, microbatch=1, stage=StageIndex(1))
        for origin in range(3)
    ]
    assert all(sorted(seat.index for seat in route) == [0, 1, 2] for route in routes)
    assert sorted(route[0].index for route in routes) == [0, 1, 2]


def test_routes_follow_the_beacon_not_the_asker() -> None:
    where = {"origin": 0, "step": 5, "microbatch": 1, "stage": StageIndex(1)}
    again = replace(PLAN, rosters=PLAN.rosters)
    assert PLAN.candidates(**where) == again.candidates(**where)  # type: ignore[arg-type]


def test_a_seat_is_found_by_stage_and_index_or_not_at_all() -> None:
    assert PLAN.seat(1, 2) == PLAN.rosters[1][2]
    assert PLAN.seat(1, 3) is None
    assert PLAN.seat(2, 0) is None
    assert PLAN.seat(-1, 0) is None


def test_a_thin_stage_is_expected_to_answer_more() -> None:
    assert PLAN.quota(StageIndex(1)) == PLAN.spec.microbatches_per_step
    solo = RosterSeat(0, PLAN.rosters[1][0].peer, 0)
    thin = replace(PLAN, rosters=(PLAN.rosters[0], (solo,)))
    assert thin.quota(StageIndex(1)) == 3 * PLAN.spec.microbatches_per_step
