"""The accelerators' operators compute the native ones; in bfloat16 they round where torch's autocast does."""

import pytest
import torch
from torch import Tensor

from swarm.config.spec import OptimizerSpec
from swarm.primitives.codec import replace
from swarm.training.inference.sampling import KeyValueCache, advance
from swarm.training.model.optimizer import OptimizerState, optimizer_step
from swarm.training.model.profiles import BF16_NAME, NATIVE, table, table_on
from swarm.training.model.stages import Stage, init_flat, plan_stages, run_loss
from tests.training.models import TINY

MODEL = replace(TINY, vocab_size=40)
PLAN = plan_stages(MODEL, 1)[0]
FLOAT32, BF16 = table_on("native", "cpu"), table(BF16_NAME)
OPTIMIZER = OptimizerSpec(
    beta1_nano=900_000_000,
    beta2_nano=950_000_000,
    eps_nano=10,
    weight_decay_nano=10_000_000,
    clip_norm_nano=10**9,
    learning_rates_nano=(2_000_000,),
    learning_rate_stride=1,
)
STEPS = 20
"""As many as a window has at most."""
BF16_DRIFT = 0.1
"""Of the way that the weights went in a window: five times what was measured at this size (0.018)."""


def tokens(seed: int) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    text = torch.randint(0, 40, (4, 13), generator=rng)
    return text[:, :-1], text[:, 1:]


def gradients(stage: Stage) -> tuple[float, Tensor]:
    loss, _, grad_P = run_loss(stage, init_flat(PLAN, 3), *tokens(1))
    return loss, grad_P


def trained(stage: Stage) -> Tensor:
    params_P = init_flat(PLAN, 3)
    state = OptimizerState.zeros(params_P.numel())
    for step in range(STEPS):
        _, _, grad_P = run_loss(stage, params_P, *tokens(step))
        optimizer_step(stage.ops, params_P, grad_P, state, 2e-3, OPTIMIZER, PLAN.decayed)
    return params_P


def drift(mine_P: Tensor, theirs_P: Tensor) -> float:
    """How far apart two ends of a window are, in units of the way there."""
    return float((mine_P - theirs_P).norm() / (theirs_P - init_flat(PLAN, 3)).norm())


def test_in_float32_they_are_the_native_ones() -> None:
    loss, grad_P = gradients(Stage(PLAN, FLOAT32))
    expected, theirs_P = gradients(Stage(PLAN, NATIVE))
    assert loss == pytest.approx(expected, rel=1e-6)
    torch.testing.assert_close(grad_P, theirs_P, rtol=1e-4, atol=1e-7)
    assert FLOAT32.name == "native"
    assert FLOAT32 is table_on("native", "cpu")


def test_bf16_is_what_autocast_makes_of_them() -> None:
    loss, grad_P = gradients(Stage(PLAN, BF16))
    params_P = init_flat(PLAN, 3).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        expected = Stage(PLAN, FLOAT32).loss(params_P, *tokens(1))
    (theirs_P,) = torch.autograd.grad(expected, (params_P,))
    assert loss == float(expected.detach())
    assert torch.equal(grad_P, theirs_P)
    assert BF16.name == BF16_NAME


def test_in_bf16_weights_gradients_and_logits_stay_float32() -> None:
    _, grad_P = gradients(Stage(PLAN, BF16))
    logits = Stage(PLAN, BF16).forward(init_flat(PLAN, 3), tokens(1)[0])
    assert grad_P.dtype == logits.dtype == trained(Stage(PLAN, BF16)).dtype == torch.float32


def test_a_window_in_bf16_ends_near_the_one_in_float32_and_too_far_for_its_tolerance() -> None:
    native_P = trained(Stage(PLAN, NATIVE))
    assert drift(trained(Stage(PLAN, FLOAT32)), native_P) < 5e-4
    assert 5e-4 < drift(trained(Stage(PLAN, BF16)), native_P) < BF16_DRIFT


@pytest.mark.parametrize("ops", [FLOAT32, BF16])
def test_a_text_in_pieces_gives_the_logits_of_the_whole(ops: object) -> None:
    stage, params_P = Stage(PLAN, FLOAT32 if ops is FLOAT32 else BF16), init_flat(PLAN, 3)
    text = tokens(1)[0][0]
    cache = KeyValueCache(PLAN)
    advance(stage, params_P, cache, text[:7])
    logits_V = advance(stage, params_P, cache, text[7:])
    whole_V = stage.forward(params_P, text[None])[0, -1]
    torch.testing.assert_close(logits_V, whole_V.detach(), rtol=2e-2, atol=2e-2)


def test_compiled_kernels_are_given_matrices_of_the_cpu_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever the other device is: a tensor without memory stands for it."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    (found,) = table("native").orthogonal([torch.empty(4, 6, device="meta")])
    assert (found.device.type, tuple(found.shape)) == ("meta", (4, 6))
