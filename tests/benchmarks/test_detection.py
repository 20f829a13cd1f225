"""The draws of the benchmark are those of the ledger, and find a full cheat as often as the formula says."""

import random

import pytest

from benchmarks.detection import SEGMENTS, Lottery, cheat, formula, make_lottery
from benchmarks.incentive_odds import caught_in_row
from swarm.ledger.check_statements import ATTEMPTS

KEYS, BEACONS = 16, 6
CHEATS = 400


@pytest.fixture(scope="module")
def lottery() -> Lottery:
    return make_lottery(KEYS, BEACONS)


def test_a_draw_selects_one_verifier_of_many_on_average(lottery: Lottery) -> None:
    assert lottery.chance * KEYS == pytest.approx(1.0)
    assert formula(lottery, KEYS, 0) == pytest.approx(1 - (1 - 1 / KEYS) ** (KEYS * ATTEMPTS))


def test_a_full_cheat_is_found_as_often_as_the_formula_says(lottery: Lottery) -> None:
    rng = random.Random(1)
    found = [cheat(lottery, KEYS // 4, KEYS // 4, rng) for _ in range(CHEATS)]
    within = [one is not None for one in found]
    at_once = [one is not None and one[0] == 0 for one in found]
    one = formula(lottery, KEYS // 4, KEYS // 4)
    assert sum(at_once) / CHEATS == pytest.approx(one, abs=0.08)
    assert sum(within) / CHEATS == pytest.approx(caught_in_row(one, SEGMENTS), abs=0.08)


def test_nobody_is_found_by_friends_or_by_those_who_are_away(lottery: Lottery) -> None:
    rng = random.Random(2)
    assert all(cheat(lottery, 0, KEYS, rng) is None for _ in range(20))
    assert cheat(lottery, 0, 0, rng) is None
    assert formula(lottery, 0, KEYS) == 0
