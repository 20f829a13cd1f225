"""A past round reads as it did when it was trained, as long as a segment of it can be checked."""

from swarm.types import RoundIndex
from swarm.verify.plans import past_plan, round_plan
from tests.ledger.checking import a_case


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
