"""The odds that a launch is told are those of the games, or a little on the safe side."""

from collections import Counter
from fractions import Fraction

import pytest

from benchmarks.incentive_games import FILE, exact_spec, make_world
from benchmarks.incentive_odds import caught, refused, sustained
from swarm.config.spec import NANO, CheckSpec
from swarm.ledger import odds
from swarm.ledger.odds import found_odds, hit_odds, odds_of, place_odds
from swarm.ledger.transition.prices import CHECKS_MAX
from swarm.ledger.transition.sampling import BARE_FACTOR, deal_windows, num_windows
from swarm.primitives.codec import replace
from swarm.primitives.crypto import digest
from tests.ledger.checking import a_case

SPEC, SEGMENTS = exact_spec(), FILE.ledger.stake_segments


def test_the_packaged_run_pays_for_no_lie() -> None:
    found = odds_of(SPEC, SEGMENTS)
    assert found.worst < 0, found.worst_way
    assert 0 < found.found_one_window < found.found_all_windows < 1


def test_the_odds_are_those_of_a_ledger_with_a_few_verifiers() -> None:
    """Eight honest verifiers and four friends: Poisson numbers are an approximation from below."""
    world, windows = make_world(Fraction(1, 3)), num_windows(50, 10)
    found = odds_of(SPEC, SEGMENTS)
    assert found.found_one_window == pytest.approx(caught(world, 1), abs=0.02)
    assert found.found_all_windows == pytest.approx(caught(world, windows), abs=0.05)
    assert found.found_all_windows <= caught(world, windows)
    assert odds._upheld() == pytest.approx(sustained(world), abs=0.05)
    new = make_world(Fraction(1, 3), is_volunteer=True)
    places = odds._places(2.0 * BARE_FACTOR)
    assert found_odds(places, windows, windows, odds._upheld()) <= refused(new, windows)


DEALS = 3_000


@pytest.mark.parametrize(
    ("windows", "false", "honest", "friends"),
    [
        (5, 1, 4, 0),
        (5, 2, 2, 2),
        (4, 1, 2, 2),
        (3, 1, 3, 1),
        (3, 2, 1, 3),
        (2, 1, 2, 1),
        (1, 1, 2, 2),
    ],
)
def test_windows_are_dealt_by_the_ledger_as_the_formula_says(
    windows: int, false: int, honest: int, friends: int
) -> None:
    """Friends of the solver ask first, and the first windows are false."""
    record, hits = a_case().record, Counter[int]()
    for number in range(DEALS):
        beacon = digest("beacon", number.to_bytes(4, "big"))
        dealt = deal_windows(beacon, record, windows, honest + friends)
        hits[sum(window < false for window in dealt[friends:])] += 1
    found = [hits[number] / DEALS for number in range(honest + 1)]
    assert found == pytest.approx(list(hit_odds(windows, false, honest, friends)), abs=0.03)


@pytest.mark.parametrize("windows", [2, 3, 5, 50])
def test_different_windows_show_a_lie_more_often_than_windows_by_chance(windows: int) -> None:
    for false in range(1, windows):
        assert hit_odds(windows, false, 1, 0)[0] == pytest.approx(1 - false / windows)
        for verifiers in range(2, CHECKS_MAX + 1):
            missed = hit_odds(windows, false, verifiers, 0)[0]
            assert missed < (1 - false / windows) ** verifiers, f"{verifiers}, {false} windows"
    assert hit_odds(windows, windows, 2, 0) == pytest.approx([0, 0, 1])


@pytest.mark.parametrize("windows", [4, 5, 50, 256])
def test_attack_friends_that_ask_first_take_no_window_where_there_is_one_for_each(
    windows: int,
) -> None:
    for honest in range(1, CHECKS_MAX + 1):
        for false in range(1, windows + 1, max(windows // 10, 1)):
            alone = odds._hit_odds(windows, false, honest, 0)
            for friends in range(CHECKS_MAX - honest + 1):
                found = odds._hit_odds(windows, false, honest, friends)
                assert found == pytest.approx(alone), f"{honest} and {friends}, {false} windows"
    assert hit_odds(2, 1, 2, 0)[0] == 0, "one of two has the window"
    assert hit_odds(2, 1, 2, 2)[0] == pytest.approx(1 / 6), "two friends may have it both"


def test_friends_come_first_where_there_are_not_places_for_all() -> None:
    two, five = [0.0, 0.0, 1.0], [0.0] * 5 + [1.0]
    for honest, friends, places in ((two, two, (2, 2)), (five, two, (2, 2)), (two, five, (0, 4))):
        found = place_odds(honest, friends)
        assert [have for have, p in found.items() if p] == [places]
    assert sum(odds._places(2.0 * BARE_FACTOR).values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("changes", "segments", "is_positive"),
    [
        ({}, SEGMENTS, False),
        ({"probability_nano": NANO}, SEGMENTS, False),
        ({"probability_nano": 0}, SEGMENTS, True),
        ({"probability_nano": NANO // 20}, SEGMENTS, True),
        ({"probability_nano": NANO // 8}, SEGMENTS, True),
    ],
)
def test_a_run_that_checks_too_seldom_pays_for_lies(
    changes: dict[str, int], segments: int, is_positive: bool
) -> None:
    checks = SPEC.checks
    fields = {name: getattr(checks, name) for name in CheckSpec.__struct_fields__}
    found = odds_of(replace(SPEC, checks=CheckSpec(**(fields | changes))), segments)
    assert (found.worst > 0) is is_positive, (found.worst, found.worst_way)
