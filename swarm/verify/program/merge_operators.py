"""Operators of a merge: the outer step, what a payload leaves unsaid, and what declines a partner.

Core: pure functions of tensors, with the bits of ``training/averaging/outer_step.py`` and ``gossip/codecs``.

A partner may send values so large that the sum with them is no number; such a sum is the same on every machine,
and the largest magnitude of all declines it.

Legend: F values of one fragment, P parameters of the shard.
"""

from collections.abc import Sequence
from math import inf, prod

import torch
from torch import Tensor

from swarm.gossip.codecs.int8 import BLOCK, chunks, steps
from swarm.training.averaging.outer_step import MERGED_MAX
from swarm.training.model.exact.operators import Kernels
from swarm.training.model.operators import FLOAT_MAX
from swarm.verify.program.operators import Attributes, Operator, Read, Shape, one, pointwise
from swarm.verify.program.wire_operators import levels_of, plain


def _difference(_: Attributes, inputs: Sequence[Tensor]) -> Tensor:
    return plain(inputs[0] - inputs[1])


def _kept_mean(_: Attributes, inputs: Sequence[Tensor]) -> Tensor:
    """Return a partner's values less our own, as both payloads say them, and our own as they are."""
    received, said, mine = inputs
    return plain((received - said) + mine)


def _finite_or(_: Attributes, inputs: Sequence[Tensor]) -> Tensor:
    """Return values if the largest magnitude of all, the third input, is finite; else the others."""
    return inputs[0] if float(inputs[2]) <= FLOAT_MAX else inputs[1]


def _momentum(attributes: Attributes, inputs: Sequence[Tensor]) -> Tensor:
    """Return the outer momentum from that before, target, slow weights, and phi if a partner's moves them."""
    alpha, beta, gamma = attributes
    before, target, slow = inputs[:3]
    after = before * alpha + (target - slow) * beta
    if len(inputs) > 3:
        after = after + (slow - inputs[3]) * gamma
    return plain(after)


def _advanced(_: Attributes, inputs: Sequence[Tensor]) -> Tensor:
    """Return the fast weights: phi after the step, and what they have moved since they were copied."""
    phi, now, copied = inputs
    return plain(phi + (now - copied))


def _largest(_: Attributes, inputs: Sequence[Tensor]) -> Tensor:
    """Return the largest magnitude at each place; what is no number is infinitely large."""
    return torch.stack([x.abs().nan_to_num(inf, posinf=inf) for x in inputs]).amax(0)


def _taken(attributes: Attributes, inputs: Sequence[Tensor]) -> Tensor:
    """Return the weight of a partner in billionths, int32: 0 if the largest magnitude declines it."""
    within = inputs[0] <= MERGED_MAX
    return torch.where(within, int(attributes[0]), 0).to(torch.int32)


def _by_weight(_: Attributes, inputs: Sequence[Tensor]) -> Tensor:
    """Return the values with a partner or those without, by its weight, the third input."""
    return inputs[0] if int(inputs[2]) > 0 else inputs[1]


# --- the residual ---


def _unsaid(_: Kernels, attributes: Attributes, shape: Shape, inputs: Sequence[Tensor]) -> Tensor:
    delta_F, peak_B = inputs
    pieces = [
        _left(delta_F[part], peak_B[rows], int(attributes[0]))
        for part, _, rows in chunks(delta_F.numel())
    ]
    return torch.cat(pieces).view(shape)


def _unsaid_element(
    attributes: Attributes, _: Shape, __: Sequence[Shape], index: tuple[int, ...], read: Read
) -> Tensor:
    at = index[0]
    return one(_left(read(0, at, 1), read(1, at // BLOCK, 1), int(attributes[0])))


def _left(delta_N: Tensor, peak_B: Tensor, most: int) -> Tensor:
    """Return what the levels of a payload leave of its values."""
    step_B = steps(peak_B, most).view(-1)
    step_N = step_B if len(step_B) == 1 else step_B.repeat_interleave(BLOCK)[: len(delta_N)]
    return plain(delta_N - levels_of(delta_N, peak_B, most) * step_N)


# --- fragments of a shard ---


def _spliced(_: Kernels, attributes: Attributes, __: Shape, inputs: Sequence[Tensor]) -> Tensor:
    whole_P, fragment_F = inputs
    start = int(attributes[0])
    return torch.cat((whole_P[:start], fragment_F, whole_P[start + len(fragment_F) :]))


def _spliced_element(
    attributes: Attributes, _: Shape, shapes: Sequence[Shape], index: tuple[int, ...], read: Read
) -> Tensor:
    within = index[0] - int(attributes[0])
    is_new = 0 <= within < prod(shapes[1])
    return one(read(1, within, 1) if is_new else read(0, index[0], 1))


def _zeros(_: Kernels, __: Attributes, shape: Shape, ___: Sequence[Tensor]) -> Tensor:
    return torch.zeros(shape)


def _zeros_element(
    _: Attributes, __: Shape, ___: Sequence[Shape], ____: tuple[int, ...], _____: Read
) -> Tensor:
    return torch.zeros(())


MERGE: dict[str, Operator] = {
    "difference": pointwise(_difference),
    "kept_mean": pointwise(_kept_mean),
    "finite_or": pointwise(_finite_or),
    "momentum": pointwise(_momentum),
    "advanced": pointwise(_advanced),
    "largest": pointwise(_largest),
    "taken": pointwise(_taken),
    "by_weight": pointwise(_by_weight),
    "unsaid": Operator(_unsaid, _unsaid_element),
    "spliced": Operator(_spliced, _spliced_element),
    "zeros": Operator(_zeros, _zeros_element),
}
"""Operators of a merge."""
