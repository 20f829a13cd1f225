"""Whoever has a wrong clock is told so, and nobody else."""

import pytest

from swarm.host.clocks import SKEW_MAX_S, clock_warning


@pytest.mark.rule("H21")
@pytest.mark.parametrize(
    "skews",
    [
        {},
        {"ann": 0},
        {"ann": SKEW_MAX_S},
        {"ann": -SKEW_MAX_S, "bob": 3},
        {"ann": 900, "bob": 1, "cat": -2},
        {"ann": 900, "bob": 0},
        {"ann": 900, "bob": 90_000, "cat": -900, "dan": -90_000},
    ],
    ids=["alone", "equal", "near", "two", "another is off", "one of two", "nobody agrees"],
)
def test_nothing_is_said_where_this_clock_may_be_right(skews: dict[str, int]) -> None:
    assert clock_warning(skews) == ""


@pytest.mark.rule("H21")
def test_a_machine_whose_clock_is_off_is_told_how_far_and_what_mends_it() -> None:
    slow = clock_warning({"ann": 901, "bob": 899, "cat": 4_000})
    assert slow == (
        "the clock of this machine is 15 minutes behind that of 2 of 3 peers; try: timedatectl set-ntp true"
    )
    fast = clock_warning({"ann": -90_000, "bob": -90_001})
    assert fast.startswith("the clock of this machine is 25 hours ahead of that of 2 of 2 peers")
    assert "3 days behind" in clock_warning({"ann": 260_000, "bob": 260_000})


@pytest.mark.rule("H21")
def test_two_alone_are_both_told_that_one_is_off() -> None:
    assert clock_warning({"ann": 70}).startswith(
        "the clock of ann is 70 seconds ahead of this machine's"
    )
    assert clock_warning({"bob": -70}).startswith(
        "the clock of bob is 70 seconds behind this machine's"
    )
