"""The odds that a launch is told are those of the games, or a little on the safe side."""

from fractions import Fraction

import pytest

from benchmarks.incentive_games import FILE, exact_spec, make_world
from benchmarks.incentive_odds import caught, refused, sustained
from swarm.config.spec import NANO, CheckSpec
from swarm.ledger import odds
from swarm.ledger.odds import odds_of
from swarm.ledger.transition.sampling import BARE_FACTOR, num_windows
from swarm.primitives.codec import replace

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
    drawn = 2.0 * BARE_FACTOR
    assert odds._found(drawn, 1.0, odds._upheld()) <= refused(new, windows)


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
