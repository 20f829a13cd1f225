"""What the outer step is compared with: an all-reduce every H steps (DiLoCo), and one at every step.

Core: arithmetic on flat vectors; no run uses it, benchmarks and tests do.

Both need every replica at once, which is what a swarm of strangers does not have. Source:
docs/spec/training.md section 3 (DiLoCo, arXiv 2311.08105). Legend: P parameters.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from swarm.errors import UsageError
from swarm.training.averaging.outer_step import OuterScalars, OuterState, outer_step
from swarm.training.model.optimizer import GradientSum


def all_reduced(tensors: Sequence[Tensor]) -> Tensor:
    """The mean of every replica's tensor, summed in float64; raise ``UsageError`` when there is none."""
    if not tensors:
        raise UsageError("a mean of nothing")
    total_P = torch.zeros_like(tensors[0], dtype=torch.float64)
    for tensor_P in tensors:
        total_P += tensor_P
    return total_P.div_(len(tensors)).to(tensors[0].dtype)


def shares(numel: int, count: int) -> list[slice]:
    """Which part of a vector each of ``count`` replicas sums in an all-reduce: as equal as can be, all of it.

    Raises ``UsageError`` unless there is a value for each.
    """
    if not 0 < count <= numel:
        raise UsageError(f"no {count} shares of {numel} values")
    ends = [numel * number // count for number in range(count + 1)]
    return [slice(start, stop) for start, stop in pairwise(ends)]


def diloco_step(state: OuterState, thetas: Sequence[Tensor], scalars: OuterScalars) -> OuterState:
    """The slow half that all replicas share after an all-reduce of their fast weights."""
    return outer_step(state, all_reduced(thetas), None, scalars)


def data_parallel_gradient(gradients: Sequence[Tensor]) -> Tensor:
    """Synchronous data parallelism: the mean gradient of all replicas, exact as within one step."""
    if not gradients:
        raise UsageError("a mean of nothing")
    total = GradientSum(gradients[0].numel())
    for grad_P in gradients:
        total.add(grad_P)
    return total.mean()
