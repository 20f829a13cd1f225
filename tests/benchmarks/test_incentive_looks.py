"""What verifiers have where checks look at elements is what a launch says: nothing for who does not look."""

from typing import cast

import pytest

from benchmarks.common import Outcome
from benchmarks.incentive_looks import FORCED, STEPS, measure_looks, prices_of, spot_run
from swarm.config.spec import NANO
from swarm.ledger.odds import LAZY_MARGIN, look_odds_of, odds_of
from swarm.primitives.codec import replace


@pytest.mark.rule("V58")
def test_attack_no_verifier_that_does_not_look_gains_in_any_run_that_a_launch_accepts() -> None:
    outcome = Outcome({})
    measure_looks(3_000, outcome)
    figures = cast("dict[str, float]", outcome.figures)
    assert figures["lazy_look_ev_max"] < 0
    assert figures["says_false_ev_max"] <= 0
    assert figures["look_ev_min"] > 0


def test_what_a_launch_says_is_what_the_ledger_pays() -> None:
    for steps in STEPS:
        for forced in FORCED:
            world, spec, record = spot_run(steps, forced)
            prices = prices_of(world, spec, record)
            odds = look_odds_of(spec, world.ledger.state.params.stake_segments)
            share = forced / NANO
            assert odds.looks == pytest.approx(
                (1 - share) * prices.pay + share * prices.win, rel=0.05
            )
            assert prices.bond >= prices.pay, "who says false loses more than the pay of a check"
            assert share * prices.win <= (1 - share) * prices.bond


@pytest.mark.rule("N22", "V58")
def test_the_least_part_that_a_launch_accepts_is_twice_the_one_at_which_laziness_costs() -> None:
    world, spec, _ = spot_run(50, NANO // 100)
    segments = world.ledger.state.params.stake_segments
    least = look_odds_of(spec, segments).least_forced
    for factor, is_negative in ((0.9 / LAZY_MARGIN, False), (1.1 / LAZY_MARGIN, True), (1, True)):
        checks = replace(spec.checks, forced_nano=round(least * factor * NANO))
        odds = look_odds_of(replace(spec, checks=checks), segments)
        assert (odds.lazy < 0) is is_negative


def test_forced_errors_hide_few_lies() -> None:
    """One check in a hundred convicts nobody, and what a lie is worth changes by as little."""
    world, spec, _ = spot_run(50, NANO // 100)
    segments = world.ledger.state.params.stake_segments
    never = odds_of(replace(spec, checks=replace(spec.checks, forced_nano=0)), segments)
    found = odds_of(spec, segments)
    assert never.found_one_window * 0.98 < found.found_one_window < never.found_one_window
    assert found.worst < 0
