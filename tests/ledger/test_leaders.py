"""Leaders: in every cycle each validator with power leads once, in an order that the seed decides."""

from swarm.ledger.blocks import Validator
from swarm.ledger.leaders import LeaderSchedule
from swarm.testing.ledger import numbered_key
from swarm.types import Amount, View

POWERS = (5, 0, 1, 1, 90)
VALIDATORS = [Validator(numbered_key(i).peer, Amount(power)) for i, power in enumerate(POWERS)]
ABLE = [0, 2, 3, 4]


def leaders(seed: bytes, cycles: int) -> list[list[int]]:
    schedule = LeaderSchedule(seed, VALIDATORS)
    views = [[View(4 * cycle + i) for i in range(4)] for cycle in range(cycles)]
    return [[schedule.leader(view) for view in cycle] for cycle in views]


def test_each_validator_with_power_leads_once_in_a_cycle() -> None:
    assert all(sorted(cycle) == ABLE for cycle in leaders(bytes(32), 50))


def test_the_order_follows_from_the_seed_and_changes_with_every_cycle() -> None:
    first = leaders(bytes(32), 20)
    assert first == leaders(bytes(32), 20)
    assert first != leaders(b"\x01" * 32, 20)
    assert len({tuple(cycle) for cycle in first}) > 3


def test_a_view_asked_for_again_has_the_same_leader() -> None:
    schedule = LeaderSchedule(bytes(32), VALIDATORS)
    there = [schedule.leader(View(view)) for view in range(40)]
    assert [schedule.leader(View(view)) for view in reversed(range(40))] == there[::-1]


def test_more_power_leads_earlier_in_a_cycle() -> None:
    places = [cycle.index(4) for cycle in leaders(bytes(32), 200)]
    assert places.count(0) > 150
