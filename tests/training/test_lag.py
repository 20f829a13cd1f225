"""A replica behind by two rounds still counts, by its age; further behind it starts from another's state."""

import pytest
import torch

from swarm.errors import PeerFault, UsageError
from swarm.spec import NANO
from swarm.training.lag import (
    STEPS_MAX,
    Catching,
    Given,
    adopt,
    catching_up,
    lag_rounds,
    pulls_only,
)
from swarm.training.outer import weight_nano

AGES = (NANO, NANO // 2, NANO // 4)


def given(phi: float = 1.0, v: float = 0.5, step: int = 7, count: int = 6) -> Given:
    return Given(torch.full((count,), phi), torch.full((count,), v), step)


def test_a_lag_counts_the_rounds_behind_the_newest() -> None:
    assert [lag_rounds(mine, 5) for mine in (5, 4, 2, 9)] == [0, 1, 3, 0]


def test_up_to_two_rounds_a_laggard_trades_and_then_it_adopts() -> None:
    assert [catching_up(lag) for lag in range(5)] == [Catching.TRADE] * 3 + [Catching.ADOPT] * 2
    with pytest.raises(UsageError):
        catching_up(-1)


def test_whoever_may_still_trade_weighs_by_the_table_of_the_run() -> None:
    weights = [weight_nano(100, 100, lag, AGES) for lag in range(4)]
    assert weights == [NANO // 2, NANO // 4, NANO // 8, 0]
    assert all((w > 0) == (catching_up(lag) is Catching.TRADE) for lag, w in enumerate(weights))


def test_adopting_takes_phi_and_second_moments_and_forgets_the_rest() -> None:
    source = given()
    state = adopt(source, 6)
    assert torch.equal(state.phi_P, source.phi_P)
    assert torch.equal(state.adam.v_P, source.v_P)
    assert state.adam.step == 7
    assert not bool(state.momentum_P.any() or state.adam.m_P.any())
    state.phi_P.zero_()
    state.adam.v_P.zero_()
    assert bool(source.phi_P.all() and source.v_P.all())


@pytest.mark.parametrize(
    "bad",
    [
        given(count=5),
        given(phi=float("nan")),
        given(v=float("inf")),
        given(v=-0.1),
        given(step=-1),
        given(step=STEPS_MAX + 1),
    ],
    ids="shape nan infinite negative before behind".split(),
)
def test_a_state_that_no_replica_has_is_the_givers_fault(bad: Given) -> None:
    with pytest.raises(PeerFault):
        adopt(bad, 6)


def test_a_newcomer_only_pulls_for_the_rounds_of_the_run() -> None:
    assert [pulls_only(r, 10, 2) for r in (10, 11, 12)] == [True, True, False]
    assert not pulls_only(10, 10, 0)
