"""Gradients are summed exactly in any order, junk changes nothing, AdamW does what torch's does, and Muon
what its authors wrote."""

import random

import pytest
import torch
from torch import Tensor

from swarm.config.spec import MUON, NANO, ModelSpec, OptimizerSpec
from swarm.errors import PeerFault, UsageError
from swarm.primitives.codec import replace
from swarm.training.model.exact.reference import GRADIENT_MAX
from swarm.training.model.optimizer import (
    MICROBATCHES_MAX,
    GradientSum,
    OptimizerState,
    learning_rate,
    muon_matrices,
    num_second_moments,
    optimizer_step,
)
from swarm.training.model.profiles import NATIVE, Ops, table
from swarm.training.model.stages import Span, Stage, init_flat, plan_stages, run_loss

SPEC = OptimizerSpec(
    beta1_nano=900_000_000,
    beta2_nano=950_000_000,
    eps_nano=10,
    weight_decay_nano=100_000_000,
    clip_norm_nano=NANO,
    learning_rates_nano=(1_000_000, 4_000_000, 2_000_000),
    learning_rate_stride=5,
)


MUON_SPEC = replace(SPEC, name=MUON)
MODEL = ModelSpec(
    vocab_size=256,
    hidden_size=24,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    intermediate_size=40,
    seq_len=16,
    rope_theta=10_000,
    norm_eps_nano=10_000,
)
(PLAN,) = plan_stages(MODEL, 1)
EXACT = table("seq-f32/1")


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
    state = OptimizerState.zeros(300)
    for scale in (1e-3, 5.0, 1e-2):
        (grad_P,) = gradients(1, scale=scale)
        theirs.grad = grad_P.clone()
        torch.nn.utils.clip_grad_norm_([theirs], 1.0)
        optimizer.step()
        norm = optimizer_step(NATIVE, ours, grad_P, state, 0.01, SPEC, (Span(0, 300),))
        assert norm == pytest.approx(float(grad_P.norm()))
    assert state.step == 3
    torch.testing.assert_close(ours, theirs.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.rule("T11")
def test_decay_touches_only_its_spans() -> None:
    params_P, zeros_P = torch.ones(300), torch.zeros(300)
    optimizer_step(NATIVE, params_P, zeros_P, OptimizerState.zeros(300), 0.5, SPEC, (Span(10, 20),))
    assert torch.equal(params_P[:10], torch.ones(10))
    assert torch.equal(params_P[20:], torch.ones(280))
    torch.testing.assert_close(params_P[10:20], torch.full((10,), 0.95))


def test_a_step_that_is_not_finite_changes_nothing() -> None:
    params_P, state = torch.ones(4), OptimizerState.zeros(4)
    with pytest.raises(PeerFault):
        optimizer_step(NATIVE, params_P, torch.full((4,), float("nan")), state, 0.1, SPEC, ())
    assert torch.equal(params_P, torch.ones(4))
    assert state.step == 0


def a_gradient(seed: int) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return 1e-3 * torch.randn(PLAN.num_parameters, generator=rng)


@pytest.mark.rule("T11a")
def test_muon_rules_the_matrices_of_the_layers_each_by_itself() -> None:
    shapes = [(matrix.rows, matrix.columns) for matrix in PLAN.matrices]
    layer = [(24, 24), (12, 24), (12, 24), (24, 24), (40, 24), (40, 24), (24, 40)]
    assert shapes == layer * 2, "q, k, v, o, gate, up, down"
    flat_P = init_flat(PLAN, 3)
    named = [x for name, x in PLAN.named(flat_P).items() if "proj" in name]
    for matrix, tensor in zip(PLAN.matrices, named, strict=True):
        assert torch.equal(flat_P[matrix.span.slice].view(matrix.rows, matrix.columns), tensor)
    kept = num_second_moments(MUON_SPEC, PLAN)
    assert kept == 2 * 256 * 24 + 5 * 24, "embedding, head and norms"
    assert num_second_moments(SPEC, PLAN) == PLAN.num_parameters
    assert not muon_matrices(SPEC, PLAN)


@pytest.mark.rule("T11a")
@pytest.mark.parametrize("ops", [NATIVE, EXACT], ids=["native", "exact"])
def test_a_step_with_muon_is_what_its_authors_wrote(ops: Ops) -> None:
    """Nesterov momentum, five steps of Newton-Schulz, sqrt(max(1, rows / columns)), decoupled decay."""
    ours = init_flat(PLAN, 1)
    theirs = {name: x.double().clone() for name, x in PLAN.named(ours).items()}
    buffers = {name: torch.zeros_like(x) for name, x in theirs.items()}
    rest = {n: x.float().clone().requires_grad_() for n, x in theirs.items() if "proj" not in n}
    norms, tables = (
        [x for x in rest.values() if (x.dim() > 1) == is_table] for is_table in (False, True)
    )
    groups = [{"params": tables, "weight_decay": 0.1}, {"params": norms, "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups, lr=0.05 * 0.3, betas=(0.9, 0.95))
    state = OptimizerState.zeros(PLAN.num_parameters, PLAN.matrices)
    for step in range(3):
        grad_P = a_gradient(step)
        optimizer_step(ops, ours, grad_P, state, 0.05, MUON_SPEC, PLAN.decayed, PLAN.matrices)
        for name, grad in PLAN.named(grad_P).items():
            if name in rest:
                rest[name].grad = grad.clone()
                continue
            fresh, buffer = grad.double(), buffers[name]
            buffer.lerp_(fresh, 0.05)
            update = fresh.lerp(buffer, 0.95)
            x = update / update.norm()
            x = x.t() if x.shape[0] > x.shape[1] else x
            for _ in range(5):
                g = x @ x.t()
                x = 3.4445 * x + (-4.7750 * g + 2.0315 * g @ g) @ x
            x = x.t() if update.shape[0] > update.shape[1] else x
            scale = max(1.0, x.shape[0] / x.shape[1]) ** 0.5
            theirs[name] = theirs[name] * (1 - 0.05 * 0.1) - 0.05 * scale * x
        adamw.step()
    assert state.step == 3
    for name, tensor in PLAN.named(ours).items():
        expected = rest[name].detach() if name in rest else theirs[name].float()
        torch.testing.assert_close(tensor, expected, rtol=1e-3, atol=2e-5, msg=name)


@pytest.mark.rule("T11a")
@pytest.mark.parametrize("broken", ["gradient", "momentum"])
def test_a_step_with_muon_that_is_not_finite_changes_nothing(broken: str) -> None:
    params_P, grad_P = init_flat(PLAN, 1), a_gradient(0)
    state = OptimizerState.zeros(PLAN.num_parameters, PLAN.matrices)
    where = PLAN.matrices[3].span.start
    (grad_P if broken == "gradient" else state.m_P)[where] = float("inf")
    before = [x.clone() for x in (params_P, state.m_P, state.v_A)]
    with pytest.raises(PeerFault):
        optimizer_step(EXACT, params_P, grad_P, state, 0.1, MUON_SPEC, PLAN.decayed, PLAN.matrices)
    for tensor, old in zip((params_P, state.m_P, state.v_A), before, strict=True):
        assert torch.equal(tensor, old)
    assert state.step == 0


@pytest.mark.rule("T11a")
def test_a_gradient_of_zeros_moves_nothing_but_the_decay() -> None:
    params_P = torch.ones(PLAN.num_parameters)
    state = OptimizerState.zeros(PLAN.num_parameters, PLAN.matrices)
    zeros_P = torch.zeros(PLAN.num_parameters)
    optimizer_step(EXACT, params_P, zeros_P, state, 0.5, MUON_SPEC, PLAN.decayed, PLAN.matrices)
    for name, tensor in PLAN.named(params_P).items():
        decay = 0.0 if tensor.dim() == 1 else 0.05 if "proj" in name else 0.05 * 0.3
        torch.testing.assert_close(tensor, torch.full_like(tensor, 1.0 - decay))


@pytest.mark.parametrize("ops", [NATIVE, EXACT], ids=["native", "exact"])
def test_a_tiny_training_with_muon_learns(ops: Ops) -> None:
    stage, tokens = Stage(PLAN, ops), torch.arange(8 * 17).view(8, 17) * 7 % 31
    inputs_BT, labels_BT = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    params_P = init_flat(PLAN, 1)
    state = OptimizerState.zeros(PLAN.num_parameters, PLAN.matrices)
    losses = []
    for _ in range(20):
        loss, _, grad_P = run_loss(stage, params_P, inputs_BT, labels_BT)
        optimizer_step(ops, params_P, grad_P, state, 0.03, MUON_SPEC, PLAN.decayed, PLAN.matrices)
        losses.append(loss)
    assert losses[0] > 5.0
    assert losses[-1] < 1.0


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
        params_P, state = torch.linspace(-1, 1, 300), OptimizerState.zeros(300)
        for step in range(5):
            total = GradientSum(300)
            for grad_P in gradients(4):
                total.add(grad_P * (params_P + step))
            optimizer_step(NATIVE, params_P, total.mean(), state, 0.01, SPEC, (Span(0, 128),))
        return params_P

    assert torch.equal(trained(), trained())
