"""A replica behind by two rounds still counts, by its age; further behind it starts from another's state.

One that trains far less than most is seen to by everybody, and no minority can make another look so.
"""

import pytest
import torch

from swarm.config.spec import NANO
from swarm.errors import PeerFault, UsageError
from swarm.primitives.randomness import stream
from swarm.training.averaging.adoption import OfferedState, adopt
from swarm.training.averaging.outer_step import weight_nano
from swarm.training.terms import (
    STEPS_MAX,
    Catching,
    catching_up,
    is_trailing,
    lag_rounds,
    pulls_only,
)
from swarm.types import Digest

AGES = (NANO, NANO // 2, NANO // 4)


def offered(phi: float = 1.0, v: float = 0.5, step: int = 7, count: int = 6) -> OfferedState:
    return OfferedState(torch.full((count,), phi), torch.full((count,), v), step, ())


def test_a_lag_counts_the_rounds_behind_the_newest() -> None:
    assert [lag_rounds(mine, 5) for mine in (5, 4, 2, 9)] == [0, 1, 3, 0]


@pytest.mark.rule("T20c")
def test_up_to_two_rounds_a_laggard_trades_and_then_it_adopts() -> None:
    assert [catching_up(lag) for lag in range(5)] == [Catching.TRADE] * 3 + [Catching.ADOPT] * 2
    with pytest.raises(UsageError):
        catching_up(-1)


@pytest.mark.rule("T18", "T20c")
def test_whoever_may_still_trade_weighs_by_the_table_of_the_run() -> None:
    weights = [weight_nano(100, 100, lag, AGES) for lag in range(4)]
    assert weights == [NANO // 2, NANO // 4, NANO // 8, 0]
    assert all((w > 0) == (catching_up(lag) is Catching.TRADE) for lag, w in enumerate(weights))


@pytest.mark.rule("T20d")
def test_adopting_takes_phi_and_second_moments_and_forgets_the_rest() -> None:
    source = offered()
    state = adopt(source, 6, 6)
    assert torch.equal(state.phi_P, source.phi_P)
    assert torch.equal(state.optimizer.v_A, source.v_A)
    assert state.optimizer.step == 7
    assert not bool(state.momentum_P.any() or state.optimizer.m_P.any())
    state.phi_P.zero_()
    state.optimizer.v_A.zero_()
    assert bool(source.phi_P.all() and source.v_A.all())


@pytest.mark.rule("T20d")
@pytest.mark.parametrize(
    "bad",
    [
        offered(count=5),
        offered(phi=float("nan")),
        offered(v=float("inf")),
        offered(v=-0.1),
        offered(step=-1),
        offered(step=STEPS_MAX + 1),
    ],
    ids="shape nan infinite negative before behind".split(),
)
def test_a_state_that_no_replica_has_is_the_givers_fault(bad: OfferedState) -> None:
    with pytest.raises(PeerFault):
        adopt(bad, 6, 6)


def test_a_newcomer_only_pulls_for_the_rounds_of_the_run() -> None:
    assert [pulls_only(r, 10, 2) for r in (10, 11, 12)] == [True, True, False]
    assert not pulls_only(10, 10, 0)


def trailing(*tokens: int) -> list[int]:
    """The places of those who trail."""
    return [at for at, mine in enumerate(tokens) if is_trailing(mine, tokens)]


@pytest.mark.rule("T18c")
def test_with_equal_tokens_nobody_trails() -> None:
    for count in range(1, 9):
        assert trailing(*[640] * count) == []
    assert trailing(100, 75, 100, 99) == [], "three quarters are enough"
    assert trailing(100, 74, 100, 99) == [1]
    assert trailing(1, 1, 1, 1, 1) == []


@pytest.mark.rule("T18c")
def test_who_has_half_of_the_tokens_of_the_other_half_trails() -> None:
    assert trailing(50, 100, 50, 100) == [0, 2]
    assert trailing(50, 50, 100) == [], "most are as slow as they"
    assert trailing(50, 100, 100) == [0]
    assert trailing(1, 2, 3, 4, 5, 6, 7, 8) == [0, 1, 2]


@pytest.mark.rule("T18c")
def test_of_two_nobody_trails_for_the_other_would_be_left_alone() -> None:
    assert trailing(1, 100) == []
    assert trailing(0, 1, 100) == []


def test_a_seat_without_a_segment_neither_trails_nor_says_what_is_usual() -> None:
    assert trailing(0, 0, 0, 40, 100, 100) == [3]
    assert trailing(0, 0, 0) == []
    assert trailing() == []


@pytest.mark.rule("T18c")
@pytest.mark.parametrize("others", [3, 4, 7])
def test_a_minority_that_claims_absurd_tokens_makes_nobody_trail(others: int) -> None:
    inflated = [1 << 50] * (others - 1)
    assert trailing(*[640] * others, *inflated) == []


@pytest.mark.rule("T18c")
@pytest.mark.parametrize("seed", range(20))
def test_at_most_half_of_a_stage_trails_and_two_are_left_to_give(seed: int) -> None:
    rng = stream(Digest(bytes(32)), "tests.trailing", seed)
    tokens = [1 + rng.below(1000) for _ in range(3 + seed)]
    slow = trailing(*tokens)
    assert 2 * len(slow) <= len(tokens)
    assert len(tokens) - len(slow) >= 2
