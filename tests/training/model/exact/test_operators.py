"""The exact operators are true, as accurate as torch's own, and one arithmetic everywhere."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from math import sqrt
from pathlib import Path

import pytest
import torch
from torch import Tensor
from trio.testing import MockClock

from swarm.config.spec import NANO, ModelSpec, OptimizerSpec
from swarm.errors import PeerFault
from swarm.training.model.exact import reference
from swarm.training.model.exact.operators import exact_ops
from swarm.training.model.exact.selftest import numbers
from swarm.training.model.optimizer import GradientSum, OptimizerState, optimizer_step
from swarm.training.model.profiles import BF16_NAME, NATIVE, AdamWScalars, Ops, table
from swarm.training.model.stages import Stage, init_flat, plan_stages, run_loss
from tests.training.model.exact.inputs import assert_same_bits, isas_here
from tests.training.pipeline import Swarm, a_spec

EXACT = table("seq-f32/1")
BY_THE_BOOK = exact_ops(reference)
ROOT = Path(__file__).parents[4]
MODEL = ModelSpec(
    vocab_size=256,
    hidden_size=32,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    intermediate_size=80,
    seq_len=32,
    rope_theta=10_000,
    norm_eps_nano=10_000,
)
OPTIMIZER = OptimizerSpec(
    beta1_nano=900_000_000,
    beta2_nano=950_000_000,
    eps_nano=10,
    weight_decay_nano=10_000_000,
    clip_norm_nano=NANO,
    learning_rates_nano=(4_000_000,),
    learning_rate_stride=1,
)
TEXT = (ROOT / "swarm" / "primitives/merkle.py").read_bytes() + (
    ROOT / "swarm" / "primitives/codec.py"
).read_bytes()


def wide_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    copies = query.shape[2] // key.shape[2]
    q, k, v = (x.transpose(1, 2) for x in (query, key, value))
    k, v = k.repeat_interleave(copies, 1), v.repeat_interleave(copies, 1)
    scores = q @ k.transpose(2, 3) / sqrt(q.shape[3])
    rows, columns = scores.shape[-2:]
    scores = scores + torch.full((rows, columns), float("-inf")).triu(columns - rows + 1)
    mixed: Tensor = (scores.softmax(-1) @ v).transpose(1, 2)
    return mixed


def wide_rope(x: Tensor, cos_TE: Tensor, sin_TE: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    swapped = torch.cat((-x[..., half:], x[..., :half]), -1)
    return x * cos_TE[:, None].double() + swapped * sin_TE[:, None].double()


WIDE = replace(
    NATIVE,
    name="float64",
    attention=wide_attention,
    rms_norm=lambda x, w, eps: x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt() * w,
    rope=wide_rope,
    rope_tables=EXACT.rope_tables,
)
LABELS = torch.tensor([0, 4, 4, 1, 3])
COS_TE, SIN_TE = EXACT.rope_tables(5, 6, 10_000)
CASES: dict[str, tuple[Callable[[Ops], Callable[..., Tensor]], tuple[Tensor, ...]]] = {
    "linear": (lambda ops: ops.linear, (numbers(1, 200, 7), numbers(2, 9, 7))),
    "add": (lambda ops: ops.add, (numbers(1, 5, 7), numbers(2, 5, 7))),
    "swiglu": (lambda ops: ops.swiglu, (numbers(1, 5, 7) * 6, numbers(2, 5, 7))),
    "attention": (
        lambda ops: ops.attention,
        (numbers(1, 2, 5, 4, 6) * 4, numbers(2, 2, 8, 2, 6), numbers(3, 2, 8, 2, 6)),
    ),
    "rms_norm": (
        lambda ops: lambda x, w: ops.rms_norm(x, w, 1e-5),
        (numbers(1, 5, 7), numbers(2, 7)),
    ),
    "rope": (lambda ops: lambda x: ops.rope(x, COS_TE, SIN_TE), (numbers(1, 2, 5, 3, 6),)),
    "embedding": (lambda ops: lambda w: ops.embedding(w, LABELS), (numbers(1, 6, 7),)),
    "cross_entropy": (lambda ops: lambda z: ops.cross_entropy(z, LABELS), (numbers(1, 5, 7) * 5,)),
}


@pytest.mark.rule("T1a")
@pytest.mark.parametrize("name", sorted(CASES))
def test_values_and_gradients_match_float64_and_the_book(name: str) -> None:
    pick, arguments = CASES[name]

    def both_ways(ops: Ops, dtype: torch.dtype) -> list[Tensor]:
        leaves = [x.detach().to(dtype).requires_grad_() for x in arguments]
        out = pick(ops)(*leaves)
        grad = numbers(9, *out.shape).to(dtype)
        return [out.detach(), *torch.autograd.grad(out, leaves, grad)]

    exact = both_ways(EXACT, torch.float32)
    for ours, truth in zip(exact, both_ways(WIDE, torch.float64), strict=True):
        torch.testing.assert_close(ours, truth.float(), rtol=2e-5, atol=2e-6)
    assert_same_bits(tuple(exact), tuple(both_ways(BY_THE_BOOK, torch.float32)))


@pytest.mark.parametrize("shape", [(24, 24), (16, 60), (60, 16)])
def test_an_orthogonal_matrix_matches_float64_and_the_native_one(shape: tuple[int, int]) -> None:
    update = numbers(1, *shape)
    (wide,) = NATIVE.orthogonal([update.double()])
    truth = wide.float()
    for ops in (EXACT, NATIVE, BY_THE_BOOK):
        torch.testing.assert_close(ops.orthogonal([update])[0], truth, rtol=1e-3, atol=1e-4)
    (rounded,) = table(BF16_NAME).orthogonal([update])
    assert float((rounded - truth).norm() / truth.norm()) < 0.05
    values = torch.linalg.svdvals(EXACT.orthogonal([update])[0])
    assert 0.3 < float(values.min()) < float(values.max()) < 1.25


@pytest.mark.parametrize("name", ["native", BF16_NAME, EXACT.name])
def test_matrices_of_several_shapes_are_made_orthogonal_each_by_itself(name: str) -> None:
    shapes = [(8, 20), (20, 8), (8, 8), (20, 8), (8, 20), (1, 3)]
    updates = [numbers(seed, *shape, spread=seed) for seed, shape in enumerate(shapes, 1)]
    for ops in (table(name), NATIVE):
        together = ops.orthogonal(updates)
        assert [update.shape for update in together] == shapes
        for update, found in zip(updates, together, strict=True):
            torch.testing.assert_close(found, ops.orthogonal([update])[0], rtol=1e-4, atol=2e-5)
    assert table(name).orthogonal([]) == []


def test_adamw_and_the_norm_match_the_native_ones() -> None:
    scalars = AdamWScalars(0.01, 0.9, 0.95, 1e-8, 1 / (1 - 0.9**3), 1 / (1 - 0.95**3))
    params, m, v, grad = numbers(1, 500), numbers(2, 500), numbers(3, 500).abs(), numbers(4, 500)
    ours, theirs = ([x.clone() for x in (params, m, v)] for _ in range(2))
    EXACT.adamw(ours[0], ours[1], ours[2], grad, scalars)
    NATIVE.adamw(theirs[0], theirs[1], theirs[2], grad, scalars)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)
    assert EXACT.norm(grad) == pytest.approx(float(grad.double().norm()), rel=1e-6)


@pytest.mark.rule("T1")
def test_no_operator_writes_into_its_arguments() -> None:
    for pick, arguments in CASES.values():
        before = [x.clone() for x in arguments]
        leaves = [x.requires_grad_() for x in (y.clone() for y in arguments)]
        pick(EXACT)(*leaves).sum().backward()  # type: ignore[no-untyped-call]
        assert_same_bits(tuple(x.detach() for x in leaves), tuple(before))


def windows(seed: int, rows: int) -> tuple[Tensor, Tensor]:
    text = torch.frombuffer(bytearray(TEXT), dtype=torch.uint8).long()
    rng = torch.Generator().manual_seed(seed)
    starts = torch.randint(0, len(text) - 33, (rows,), generator=rng).tolist()
    tokens_BT = torch.stack([text[start : start + 33] for start in starts])
    return tokens_BT[:, :-1].contiguous(), tokens_BT[:, 1:].contiguous()


def test_a_whole_gradient_is_as_near_to_float64_as_torchs_own() -> None:
    model = replace_model(hidden=64, layers=2)
    plan = plan_stages(model, 1)[0]
    params_P = init_flat(plan, 1)
    inputs_BT, labels_BT = windows(3, 32)  # 1,024 rows: sums long enough to lose accuracy
    truth_P = run_loss(Stage(plan, WIDE), params_P.double(), inputs_BT, labels_BT)[2]

    def error(ops: Ops) -> float:
        grad_P = run_loss(Stage(plan, ops), params_P, inputs_BT, labels_BT)[2]
        return float((grad_P.double() - truth_P).norm() / truth_P.norm())

    assert error(EXACT) < 1.05 * error(NATIVE)


def replace_model(*, hidden: int, layers: int) -> ModelSpec:
    fields = {name: getattr(MODEL, name) for name in MODEL.__struct_fields__}
    inner = hidden * 21 // 64 * 8
    return ModelSpec(
        **{**fields, "hidden_size": hidden, "num_layers": layers, "intermediate_size": inner}
    )


def trained(ops: Ops, steps: int) -> float:
    """The mean loss of the last 20 steps."""
    stage = Stage(plan_stages(MODEL, 1)[0], ops)
    params_P = init_flat(stage.plan, 1)
    adam, total = OptimizerState.zeros(params_P.numel()), GradientSum(params_P.numel())
    losses = list[float]()
    for step in range(steps):
        loss, _, grad_P = run_loss(stage, params_P, *windows(step, 4))
        total.add(grad_P)
        optimizer_step(ops, params_P, total.mean(), adam, 0.002, OPTIMIZER, stage.plan.decayed)
        total.clear()
        losses.append(loss)
    return sum(losses[-20:]) / 20


@pytest.mark.skipif(EXACT.linear.args[1] is reference, reason="150 steps take long here")  # type: ignore[attr-defined]
def test_after_150_steps_the_loss_is_the_native_one() -> None:
    native = trained(NATIVE, 150)
    assert native < 3.0
    assert abs(trained(EXACT, 150) - native) < 0.001


def test_a_step_that_is_not_finite_is_invalid() -> None:
    stage = Stage(plan_stages(MODEL, 1)[0], EXACT)
    for junk in (float("inf"), float("-inf"), float("nan"), 3e38):
        params_P = init_flat(stage.plan, 1)
        params_P[-1000] = junk
        grad_P = run_loss(stage, params_P, *windows(0, 2))[2]
        with pytest.raises(PeerFault):
            GradientSum(grad_P.numel()).add(grad_P)


async def test_a_swarm_trains_with_it(autojump_clock: MockClock) -> None:
    swarm = Swarm(a_spec(numerics="seq-f32/1"), replicas=2)
    assert {node.runner.shard.module.ops for node in swarm.nodes.values()} == {EXACT}
    rounds = await swarm.train(4.0, rounds=2)
    first, second = (logs[0, 0].loss_micro for logs in rounds)
    assert 0 < second < first


def trail(kernels: str, threads: int, capability: str) -> str:
    """The hash of a short training in a process of its own: scripts/bench verify runs all configurations."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    if capability != "default":
        environment["ATEN_CPU_CAPABILITY"] = capability
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.verify", kernels, str(threads)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout.strip()


@pytest.mark.rule("T1a")
def test_one_hash_over_instruction_sets_threads_and_kernels() -> None:
    built = [(isa, 2, "avx512") for isa in isas_here()]
    hashes = {trail(*where) for where in [("referee", 1, "avx2"), *built[:1], *built[-1:]]}
    assert len(hashes) == 1
    assert len(hashes.pop()) == 16
