"""A past round reads as it did when it was trained, as long as a segment of it can be checked."""

import pytest

from swarm.primitives.codec import replace
from swarm.training.terms import is_pull_only
from swarm.types import NO_DIGEST, RoundIndex
from swarm.verify.round_plan import past_plan, round_plan
from tests.ledger.checking import a_case


@pytest.mark.rule("V17")
def test_a_round_is_read_the_same_when_it_is_long_gone() -> None:
    case = a_case()
    state, run = case.ledger.state, case.run
    (info,) = [info for info in run.rounds if info.round == 1]
    then = round_plan(run, info, state.chain)
    assert then.beacon == info.beacon
    seat = then.seat(0, 1)
    assert seat is not None
    assert seat.peer == case.record.peer
    assert seat.joined_round == info.seats[0][1].joined_round
    case.ledger.reach_round(case.run, 9)
    run = case.ledger.state.run(run.index)
    assert all(info.round > 1 for info in run.rounds)
    assert past_plan(case.ledger.state, run, RoundIndex(1)) == then
    assert past_plan(case.ledger.state, run, RoundIndex(999)) is None


@pytest.mark.parametrize("trained", [(640, 640, 640), (640, 640, 479), (640, 479, 0), (0, 0, 0)])
def test_who_trails_is_read_off_the_last_commits_of_its_stage(trained: tuple[int, ...]) -> None:
    case = a_case()
    (info,) = [info for info in case.run.rounds if info.round == 1]
    seat = info.seats[0][0]
    roster = tuple(
        replace(seat, index=index, last_tokens=count) for index, count in enumerate(trained)
    )
    plan = round_plan(case.run, replace(info, seats=(roster, *info.seats[1:])), NO_DIGEST)
    slow = [other.index for other in plan.rosters[0] if other.trails]
    assert slow == ([2] if trained == (640, 640, 479) else [])


def test_who_is_on_trial_is_read_off_the_seat_that_the_round_froze() -> None:
    case = a_case()
    (info,) = [info for info in case.run.rounds if info.round == 1]
    seats = (info.seats[0][0], replace(info.seats[0][1], is_on_trial=True))
    plan = round_plan(case.run, replace(info, seats=(seats, *info.seats[1:])), NO_DIGEST)
    assert [seat.is_on_trial for seat in plan.rosters[0]] == [False, True]
    assert [is_pull_only(plan, seat) for seat in plan.rosters[0]] == [False, True]
