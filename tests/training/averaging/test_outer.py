"""The outer step is the equation of the specification, alone, in pairs, and inside its stability bound."""

import numpy as np
import pytest
import torch
from torch import Tensor

from swarm.config.spec import NANO, OuterSpec
from swarm.errors import PeerFault, UsageError
from swarm.training.averaging.outer_step import (
    PRESETS,
    OuterScalars,
    OuterState,
    Partner,
    advanced,
    final_averaging_step,
    outer_scalars,
    outer_step,
    stability_bound,
    weight_nano,
)

NOLOCO = PRESETS["noloco"]
SPEC = OuterSpec(
    alpha_nano=500_000_000,
    beta_nano=700_000_000,
    gamma_nano=700_000_000,
    alpha_ramp_rounds=5,
    age_weights_nano=(NANO, NANO // 2),
    fragments=4,
    pull_only_rounds=1,
    num_retries=1,
    codec="int8",
)


def noise(seed: int) -> Tensor:
    return torch.randn(64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.rule("T17")
def test_a_pair_moves_as_the_specification_says() -> None:
    phi, momentum, theta, theta_hat = (noise(seed) for seed in range(4))
    after = outer_step(OuterState(phi, momentum), theta, Partner(theta_hat, 0.25), NOLOCO)
    target = 0.75 * theta + 0.25 * theta_hat
    expected = 0.5 * momentum + 0.7 * (target - phi)
    torch.testing.assert_close(after.momentum_F, expected)
    torch.testing.assert_close(after.phi_F, phi + expected)


@pytest.mark.rule("T18")
@pytest.mark.parametrize("partner", [None, Partner(noise(9), 0.0)], ids=["nobody", "pull only"])
def test_a_step_alone_takes_ones_own_weights_for_the_target(partner: Partner | None) -> None:
    phi, momentum, theta = (noise(seed) for seed in range(3))
    after = outer_step(OuterState(phi, momentum), theta, partner, NOLOCO)
    torch.testing.assert_close(after.phi_F, phi + 0.5 * momentum + 0.7 * (theta - phi))


@pytest.mark.rule("T20a")
def test_the_two_tensor_form_with_equal_factors_is_the_one_tensor_form() -> None:
    phi, momentum, theta, theta_hat, phi_hat = (noise(seed) for seed in range(5))
    state = OuterState(phi, momentum)
    one = outer_step(state, theta, Partner(theta_hat, 0.5), NOLOCO)
    two = outer_step(state, theta, Partner(theta_hat, 0.5, phi_hat), NOLOCO)
    torch.testing.assert_close(one.phi_F, two.phi_F)


@pytest.mark.rule("T20a")
def test_two_tensors_move_by_the_deltas_and_towards_the_partners_slow_weights() -> None:
    phi, momentum, theta, theta_hat, phi_hat = (noise(seed) for seed in range(5))
    scalars = OuterScalars(0.5, 0.7, 0.2)
    state, partner = OuterState(phi, momentum), Partner(theta_hat, 0.5, phi_hat)
    deltas = ((theta - phi) + (theta_hat - phi_hat)) / 2
    expected = 0.5 * momentum + 0.7 * deltas + 0.2 * ((phi + phi_hat) / 2 - phi)
    torch.testing.assert_close(outer_step(state, theta, partner, scalars).momentum_F, expected)
    with pytest.raises(UsageError):
        outer_step(state, theta, Partner(theta_hat, 0.5), scalars)
    with pytest.raises(PeerFault):
        outer_step(state, theta, Partner(theta_hat, 0.5, phi_hat[1:]), scalars)


def test_gossip_is_the_plain_average() -> None:
    phi, theta, theta_hat = (noise(seed) for seed in range(3))
    state = OuterState(phi, torch.zeros(64))
    after = outer_step(state, theta, Partner(theta_hat, 0.5), PRESETS["gossip"])
    torch.testing.assert_close(after.phi_F, (theta + theta_hat) / 2)


@pytest.mark.rule("T20b")
def test_consensus_gives_both_partners_the_same_bits_and_no_momentum() -> None:
    left, right = noise(0), noise(1)
    mine, theirs = (
        final_averaging_step(a, Partner(b, 0.5)) for a, b in ((left, right), (right, left))
    )
    assert torch.equal(mine.phi_F, theirs.phi_F)
    assert not bool(mine.momentum_F.any())
    for nobody in (None, Partner(right, 0.0)):
        assert torch.equal(final_averaging_step(left, nobody).phi_F, left)
    with pytest.raises(PeerFault):
        final_averaging_step(left, Partner(right * float("nan"), 0.5))


def test_nothing_is_written_in_place() -> None:
    tensors = [noise(seed) for seed in range(4)]
    copies = [x.clone() for x in tensors]
    phi, momentum, theta, theta_hat = tensors
    outer_step(OuterState(phi, momentum), theta, Partner(theta_hat, 0.5), NOLOCO)
    assert all(torch.equal(x, y) for x, y in zip(tensors, copies, strict=True))


@pytest.mark.rule("T17")
def test_steps_taken_during_the_exchange_are_kept() -> None:
    phi, now, snapshot = (noise(seed) for seed in range(3))
    torch.testing.assert_close(advanced(phi, now, snapshot), phi + now - snapshot)
    assert torch.equal(advanced(phi, snapshot, snapshot), phi)


@pytest.mark.parametrize("bad", [noise(3)[:-1], noise(3) * float("inf")], ids=["short", "infinite"])
def test_a_partners_junk_is_the_partners_fault(bad: Tensor) -> None:
    with pytest.raises(PeerFault):
        outer_step(OuterState(noise(0), noise(1)), noise(2), Partner(bad, 0.5), NOLOCO)


@pytest.mark.rule("S10", "T18")
@pytest.mark.parametrize(
    ("mine", "theirs", "lag", "expected"),
    [
        (100, 100, 0, NANO // 2),
        (100, 900, 0, NANO // 2),
        (200, 100, 0, NANO // 3),
        (900, 100, 0, NANO // 4),
        (0, 0, 0, NANO // 2),
        (100, 100, 1, NANO // 4),
        (100, 100, 2, 0),
    ],
)
def test_weights_follow_tokens_within_bounds_and_age(
    mine: int, theirs: int, lag: int, expected: int
) -> None:
    assert weight_nano(mine, theirs, lag, SPEC.age_weights_nano) == expected


@pytest.mark.rule("T20")
def test_alpha_ramps_up_and_stays() -> None:
    assert [outer_scalars(SPEC, r).alpha for r in range(7)] == [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.5]
    assert outer_scalars(SPEC, 3).beta == outer_scalars(SPEC, 3).gamma == 0.7


@pytest.mark.rule("T19")
@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5])
@pytest.mark.parametrize(("share", "stable"), [(0.5, True), (0.9, True), (1.3, False)])
def test_random_pairs_converge_inside_the_bound_and_not_outside(
    alpha: float, share: float, stable: bool
) -> None:
    gamma = share * stability_bound(alpha)
    scalars = OuterScalars(alpha, gamma, gamma)
    rng = torch.Generator().manual_seed(0)
    phi = torch.randn(8, 400, generator=rng)
    momentum = torch.zeros(8, 400)
    start = float(phi.var(0).mean())
    for _ in range(150):
        order = torch.randperm(8, generator=rng).tolist()
        before = phi.clone()
        for left, right in zip(order[::2], order[1::2], strict=True):
            for mine, other in ((left, right), (right, left)):
                state = OuterState(before[mine], momentum[mine])
                after = outer_step(state, before[mine], Partner(before[other], 0.5), scalars)
                phi[mine], momentum[mine] = after.phi_F, after.momentum_F
    assert (float(phi.var(0).mean()) < start) == stable


def second_moment_radius(alpha: float, gamma: float) -> float:
    """Spectral radius of the exact second moments (phi^2, phi m, m^2) of a pair's disagreement."""
    c = np.array([gamma * gamma / 2, -alpha * gamma, alpha * alpha])
    cross = np.array([-gamma / 2, alpha, 0.0])
    moves = np.stack([np.array([1.0, 0, 0]) + 2 * cross + c, cross + c, c])
    return float(np.abs(np.linalg.eigvals(moves)).max())


@pytest.mark.rule("T19")
@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 0.7, 0.9])
def test_the_bound_is_where_the_exact_second_moment_stops_shrinking(alpha: float) -> None:
    bound = stability_bound(alpha)
    assert second_moment_radius(alpha, 0.99 * bound) < 1 < second_moment_radius(alpha, 1.01 * bound)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_is_stable(name: str) -> None:
    assert 0 < PRESETS[name].gamma < stability_bound(PRESETS[name].alpha)
