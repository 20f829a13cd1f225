"""Gradients are summed exactly in any order, junk changes nothing, and AdamW does what torch's does."""

import random

import pytest
import torch
from torch import Tensor

from swarm.config.spec import NANO, OptimizerSpec
from swarm.errors import PeerFault, UsageError
from swarm.training.model.exact.reference import GRADIENT_MAX
from swarm.training.model.optimizer import (
    MICROBATCHES_MAX,
    AdamState,
    GradientSum,
    adamw_step,
    learning_rate,
)
from swarm.training.model.profiles import NATIVE
from swarm.training.model.stages import Span

SPEC = OptimizerSpec(
    beta1_nano=900_000_000,
    beta2_nano=950_000_000,
    eps_nano=10,
    weight_decay_nano=100_000_000,
    clip_norm_nano=NANO,
    learning_rates_nano=(1_000_000, 4_000_000, 2_000_000),
    learning_rate_stride=5,
)


def gradients(count: int, *, scale: float = 1e-3) -> list[Tensor]:
    rng = torch.Generator().manual_seed(7)
    return [scale * torch.randn(300, generator=rng) for _ in range(count)]


@pytest.mark.rule("T8")
@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_arrival_cannot_matter(seed: int) -> None:
    arrivals = [*gradients(8), *gradients(8, scale=30.0), *gradients(8, scale=1e-9)]
    in_order, shuffled = GradientSum(300), GradientSum(300)
    for grad_P in arrivals:
        in_order.add(grad_P)
    random.Random(seed).shuffle(arrivals)
    for grad_P in arrivals:
        shuffled.add(grad_P)
    assert torch.equal(in_order.mean(), shuffled.mean())


@pytest.mark.rule("T9")
def test_the_mean_is_over_those_that_arrived() -> None:
    total = GradientSum(300)
    arrived = gradients(3)
    for grad_P in arrived:
        total.add(grad_P)
    expected = torch.stack(arrived).double().mean(0)
    torch.testing.assert_close(total.mean().double(), expected, rtol=1e-6, atol=1e-12)
    total.clear()
    assert total.count == 0
    with pytest.raises(UsageError):
        total.mean()


@pytest.mark.rule("S29", "T8")
@pytest.mark.parametrize("junk", [float("nan"), float("inf"), -float("inf"), 2 * GRADIENT_MAX])
def test_a_gradient_no_honest_peer_causes_changes_nothing(junk: float) -> None:
    total = GradientSum(300)
    (good,) = gradients(1)
    total.add(good)
    bad = good.clone()
    bad[17] = junk
    before = total.mean()
    with pytest.raises(PeerFault):
        total.add(bad)
    assert total.count == 1
    assert torch.equal(total.mean(), before)


@pytest.mark.rule("T8")
def test_the_largest_sum_does_not_overflow() -> None:
    total = GradientSum(2)
    extreme = torch.tensor([GRADIENT_MAX, -GRADIENT_MAX])
    for _ in range(MICROBATCHES_MAX):
        total.add(extreme)
    assert torch.equal(total.mean(), extreme)
    with pytest.raises(UsageError):
        total.add(extreme)


@pytest.mark.rule("T11")
def test_a_step_matches_torchs_adamw_with_its_clip() -> None:
    ours = torch.linspace(-1, 1, 300)
    theirs = ours.clone().requires_grad_()
    optimizer = torch.optim.AdamW([theirs], lr=0.01, betas=(0.9, 0.95), weight_decay=0.1)
    state = AdamState.zeros(300)
    for scale in (1e-3, 5.0, 1e-2):
        (grad_P,) = gradients(1, scale=scale)
        theirs.grad = grad_P.clone()
        torch.nn.utils.clip_grad_norm_([theirs], 1.0)
        optimizer.step()
        norm = adamw_step(NATIVE, ours, grad_P, state, 0.01, SPEC, (Span(0, 300),))
        assert norm == pytest.approx(float(grad_P.norm()))
    assert state.step == 3
    torch.testing.assert_close(ours, theirs.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.rule("T11")
def test_decay_touches_only_its_spans() -> None:
    params_P, zeros_P = torch.ones(300), torch.zeros(300)
    adamw_step(NATIVE, params_P, zeros_P, AdamState.zeros(300), 0.5, SPEC, (Span(10, 20),))
    assert torch.equal(params_P[:10], torch.ones(10))
    assert torch.equal(params_P[20:], torch.ones(280))
    torch.testing.assert_close(params_P[10:20], torch.full((10,), 0.95))


def test_a_step_that_is_not_finite_changes_nothing() -> None:
    params_P, state = torch.ones(4), AdamState.zeros(4)
    with pytest.raises(PeerFault):
        adamw_step(NATIVE, params_P, torch.full((4,), float("nan")), state, 0.1, SPEC, ())
    assert torch.equal(params_P, torch.ones(4))
    assert state.step == 0


@pytest.mark.rule("T10")
@pytest.mark.parametrize(
    ("round_index", "step", "rate"),
    [(0, 0, 0.001), (0, 4, 0.001), (0, 5, 0.004), (1, 0, 0.002), (9, 9, 0.002)],
)
def test_the_rate_is_read_from_the_runs_table(round_index: int, step: int, rate: float) -> None:
    assert learning_rate(SPEC, 10, round_index, step) == rate


@pytest.mark.rule("T2")
def test_two_trainings_give_the_same_bits() -> None:
    def trained() -> Tensor:
        params_P, state = torch.linspace(-1, 1, 300), AdamState.zeros(300)
        for step in range(5):
            total = GradientSum(300)
            for grad_P in gradients(4):
                total.add(grad_P * (params_P + step))
            adamw_step(NATIVE, params_P, total.mean(), state, 0.01, SPEC, (Span(0, 128),))
        return params_P

    assert torch.equal(trained(), trained())
