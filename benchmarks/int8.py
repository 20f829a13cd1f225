"""Benchmark ``int8``: a study of products whose sums no order changes (docs/spec/int8.md). No run can use them.

Times are of one thread, each product against the exact one in float32 of the same shape. Errors are against
float64. A small model is trained with all of its linear layers' products in int8, forward and backward; the
table of operators for that is built here and nowhere else.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from inspect import getsource
from typing import Protocol

import torch
from torch import Tensor
from torch.autograd import Function

from benchmarks.common import Outcome, say, spread
from benchmarks.verify import OPTIMIZER, a_model
from swarm.training.model.exact import int8, native, reference
from swarm.training.model.exact.selftest import trusted_kernels
from swarm.training.model.operators import OpContext, Ops, apply
from swarm.training.model.optimizer import GradientSum, OptimizerState, optimizer_step
from swarm.training.model.profiles import EXACT_NAME, table
from swarm.training.model.stages import Stage, init_flat, plan_stages, run_loss

SHAPE = (512, 1024, 512)
"""Rows, terms and columns of the product that is timed."""
BLOCKS = (32, 128, 512)
TIMES, STEPS, RATE = 48, 300, 0.004


def measure(quick: bool) -> Outcome:
    """Measure times, errors, and the loss after a short training."""
    outcome = Outcome(parameters={"shape": list(SHAPE), "blocks": list(BLOCKS)})
    torch.set_num_threads(1)
    _times(outcome, 3 if quick else 21)
    _errors(outcome)
    _training(outcome, 10 if quick else STEPS)
    return outcome


def _times(outcome: Outcome, repetitions: int) -> None:
    rows, depth, columns = SHAPE
    a, b = _normal(1, rows, depth), _normal(2, columns, depth)
    kernels = trusted_kernels().kernels
    outcome.parameters["repetitions"] = repetitions
    work: dict[str, Callable[[], object]] = {"exact": partial(kernels.matmul, a, b.t())}
    for block in (int8.BLOCK, depth):
        sides = int8.quantized(a, block), int8.quantized(b, block)
        name = "row" if block == depth else "block"
        work[f"int_mm_{name}"] = partial(int8.product, *sides, int8.by_torch)
        work[f"levels_{name}"] = partial(int8.quantized, a, block)
        try:
            work[f"compiled_{name}"] = partial(int8.load(), *sides)
        except native.NotBuilt as missing:
            outcome.figures[f"compiled_{name}_over_exact"] = None
            outcome.detail[f"compiled_{name}_over_exact"] = str(missing)
    levels = int8.quantized(a).levels_MK, int8.quantized(b).levels_MK
    work["int_mm_alone"] = partial(int8.by_torch, *levels)
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(repetitions):
        for name, run in work.items():
            began = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - began)
    exact_s = statistics.median(seconds.pop("exact"))
    outcome.detail["exact_s"] = exact_s
    for name, values in seconds.items():
        key = f"{name}_over_exact"
        outcome.figures[key] = round(statistics.median(values) / exact_s, 3)
        outcome.detail[key] = spread(values)
        say(f"{key} {outcome.figures[key]}")


def _errors(outcome: Outcome) -> None:
    """Measure ||ours - truth|| / ||truth|| of products of normal values, and of values with outliers."""
    rows, depth, columns = SHAPE
    a, b = _normal(3, rows, depth), _normal(4, columns, depth)
    wild = a.clone()
    wild.view(-1)[:: 4 * depth // 8 + 1] *= 50.0  # two of 1,024 values
    for name, left in (("normal", a), ("outliers", wild)):
        truth = left.double() @ b.double().t()
        exact = reference.matmul(left[:32], b.t()[:, :64])
        outcome.figures[f"float32_error_{name}"] = _relative(exact, truth[:32, :64])
        for block in (*BLOCKS, depth):
            found = int8.product(int8.quantized(left, block), int8.quantized(b, block))
            key = f"int8_error_{name}_{'row' if block == depth else block}"
            outcome.figures[key] = _relative(found, truth)


def _relative(found: Tensor, truth: Tensor) -> float:
    return float(f"{float((found.double() - truth).norm() / truth.norm()):.3g}")


# --- a training ---


class _Context(OpContext, Protocol):
    product: Callable[[Tensor, Tensor], Tensor]
    is_backward: bool


class _Linear(Function):
    """A linear layer with products in int8: the forward one, or all three."""

    @staticmethod
    def forward(
        ctx: _Context, block: int, is_backward: bool, x_ND: Tensor, weight_OD: Tensor
    ) -> Tensor:
        ctx.product, ctx.is_backward = partial(_product, block), is_backward
        ctx.save_for_backward(x_ND, weight_OD)
        return ctx.product(x_ND, weight_OD)

    @staticmethod
    def backward(ctx: _Context, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (grad_NO,), (x_ND, weight_OD) = grad_outputs, ctx.saved_tensors
        if not ctx.is_backward:
            kernels = trusted_kernels().kernels
            gradient_OD = kernels.weight_gradient(grad_NO, x_ND)
            return None, None, kernels.matmul(grad_NO, weight_OD), gradient_OD
        below_ND = ctx.product(grad_NO, weight_OD.t())
        return None, None, below_ND, ctx.product(grad_NO.t(), x_ND.t())


def _product(block: int, a_MK: Tensor, b_NK: Tensor) -> Tensor:
    return int8.product(int8.quantized(a_MK, block), int8.quantized(b_NK, block), int8.by_torch)


def int8_ops(block: int, *, is_backward: bool) -> Ops:
    """Return the exact operators, with linear layers in int8."""
    return replace(table(EXACT_NAME), linear=partial(apply, _Linear, block, is_backward))


def _training(outcome: Outcome, steps: int) -> None:
    outcome.parameters |= {"steps": steps, "hidden": 64, "layers": 2, "tokens_per_step": 8 * TIMES}
    row = int8.DEPTH_MAX
    tables = {
        "float32": table(EXACT_NAME),
        "forward_128": int8_ops(int8.BLOCK, is_backward=False),
        "all_128": int8_ops(int8.BLOCK, is_backward=True),
        "all_row": int8_ops(row, is_backward=True),
    }
    for name, ops in tables.items():
        outcome.figures[f"nats_{name}"] = round(trained(ops, steps), 4)
        say(f"nats_{name} {outcome.figures[f'nats_{name}']}")


def trained(ops: Ops, steps: int) -> float:
    """Return the mean loss of the last tenth of the steps, in nats, of a small model of Python's own text."""
    stage = Stage(plan_stages(a_model(64, 2, TIMES), 1)[0], ops)
    params_P = init_flat(stage.plan, 1)
    state, total = OptimizerState.zeros(params_P.numel()), GradientSum(params_P.numel())
    text = torch.frombuffer(bytearray(getsource(argparse), "utf-8"), dtype=torch.uint8).long()
    losses = list[float]()
    for step in range(steps):
        rng = torch.Generator().manual_seed(step)
        starts = torch.randint(0, len(text) - TIMES - 1, (8,), generator=rng).tolist()
        tokens_BT = torch.stack([text[start : start + TIMES + 1] for start in starts])
        inputs_BT, labels_BT = tokens_BT[:, :-1].contiguous(), tokens_BT[:, 1:].contiguous()
        loss, _, grad_P = run_loss(stage, params_P, inputs_BT, labels_BT)
        total.add(grad_P)
        optimizer_step(ops, params_P, total.mean(), state, RATE, OPTIMIZER, stage.plan.decayed)
        total.clear()
        losses.append(loss)
    last = losses[-max(1, steps // 10) :]
    return sum(last) / len(last)


def _normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
