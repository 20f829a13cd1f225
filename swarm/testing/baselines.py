"""Baselines for the outer step: an all-reduce every H steps (DiLoCo), and one at every step.

Core: arithmetic on flat vectors, used by benchmarks and tests only.

Both need every replica at once, which an open network cannot guarantee. Source: docs/spec/training.md section 3
(DiLoCo, arXiv 2311.08105). Legend: P parameters.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from swarm.errors import UsageError
from swarm.training.averaging.outer_step import OuterScalars, OuterState, outer_step
from swarm.training.model.optimizer import GradientSum


def all_reduced(tensors: Sequence[Tensor]) -> Tensor:
    """Return the mean of all replicas' tensors, summed in float64; raise ``UsageError`` for no tensors."""
    if not tensors:
        raise UsageError("a mean of nothing")
    total_P = torch.zeros_like(tensors[0], dtype=torch.float64)
    for tensor_P in tensors:
        total_P += tensor_P
    return total_P.div_(len(tensors)).to(tensors[0].dtype)


def shares(numel: int, count: int) -> list[slice]:
    """Return the slice of a vector that each of ``count`` replicas sums in an all-reduce.

    The slices cover the vector and differ by at most one value. Raises ``UsageError`` unless each has a value.
    """
    if not 0 < count <= numel:
        raise UsageError(f"no {count} shares of {numel} values")
    ends = [numel * number // count for number in range(count + 1)]
    return [slice(start, stop) for start, stop in pairwise(ends)]


def diloco_step(state: OuterState, thetas: Sequence[Tensor], scalars: OuterScalars) -> OuterState:
    """Return the slow state that all replicas share after an all-reduce of their fast weights."""
    return outer_step(state, all_reduced(thetas), None, scalars)


def data_parallel_gradient(gradients: Sequence[Tensor]) -> Tensor:
    """Return the mean gradient of all replicas (synchronous data parallelism), exact as within one step."""
    if not gradients:
        raise UsageError("a mean of nothing")
    total = GradientSum(gradients[0].numel())
    for grad_P in gradients:
        total.add(grad_P)
    return total.mean()
