"""A validator whose key runs twice makes no two final blocks, harms no honest name, and mostly its own."""

import random

import pytest

from tests.ledger.consensus import twins
from tests.ledger.consensus.twins import CHOICES, VALIDATORS, Outcome, Twins, play, scenario_of

TWO_VIEWS, THREE_VIEWS = 32, 16
"""Scenarios of two and three views that are played here; the module ``twins`` plays more."""


def drawn(count: int, views: int) -> list[int]:
    return random.Random(views).sample(range(CHOICES**views), count)


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    """All scenarios of one view, and some of two and three."""
    numbers = [(number, 1) for number in range(CHOICES)]
    numbers += [(number, 2) for number in drawn(TWO_VIEWS, 2)]
    numbers += [(number, 3) for number in drawn(THREE_VIEWS, 3)]
    return [play(number, views) for number, views in numbers]


@pytest.mark.rule("L31", "L33", "S9")
def test_twins_in_parted_networks_make_no_two_final_blocks_and_no_honest_one_is_accused(
    outcomes: list[Outcome],
) -> None:
    assert min(one.height for one in outcomes) >= 8
    assert all(one.signed_two_ways for one in outcomes if one.is_accused)


@pytest.mark.rule("L51", "S9b")
def test_twins_that_sign_two_ways_are_mostly_found(outcomes: list[Outcome]) -> None:
    guilty = [one for one in outcomes if one.signed_two_ways]
    assert len(guilty) > len(outcomes) // 2
    assert 4 * sum(one.is_accused for one in guilty) > 3 * len(guilty)


def test_a_scenario_is_what_its_digits_say() -> None:
    first, second = scenario_of(5 + CHOICES * 7, 2)
    assert (first.leader, first.left) == (5 % VALIDATORS, frozenset({0}))
    assert (second.leader, second.left) == (7 % VALIDATORS, frozenset({0}))
    assert len({scenario_of(number, 1) for number in range(CHOICES)}) == CHOICES


def test_two_final_blocks_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a quorum of two of four, twins have their way."""
    quorum = twins.ChosenLeaders.is_quorum
    monkeypatch.setattr(
        twins.ChosenLeaders,
        "is_quorum",
        lambda self, votes: len(votes) >= 2 or quorum(self, votes),
    )
    parting = 0b0011  # nodes 0 and 1 hear each other; 2, 3 and the second copy do
    with pytest.raises(AssertionError, match="two final blocks"):
        Twins(scenario_of(parting * VALIDATORS, 1)).play()
