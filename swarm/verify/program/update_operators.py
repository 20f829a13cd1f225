"""Operators of an update: mean gradient, clip, AdamW, Muon.

Core: pure functions of tensors, with the bits of ``seq-f32/1``.

Legend: P a flat vector, R rows and C columns of a matrix.
"""

from collections.abc import Sequence
from math import sqrt

import torch
from torch import Tensor

from swarm.training.model.exact import reference
from swarm.training.model.exact.operators import Kernels
from swarm.verify.program.model_operators import product_element
from swarm.verify.program.operators import (
    Attributes,
    Operator,
    Read,
    Shape,
    flat_index,
    one,
    pointwise,
)


def _symmetric(
    kernels: Kernels, attributes: Attributes, _: Shape, inputs: Sequence[Tensor]
) -> Tensor:
    stop = int(attributes[1])
    product = kernels.matmul(inputs[0][:, :stop], inputs[1][:, :stop].t())
    is_above = torch.ones(product.shape, dtype=torch.bool).triu(1)
    return torch.where(is_above, product.t(), product)


def _symmetric_element(
    attributes: Attributes,
    shape: Shape,
    shapes: Sequence[Shape],
    index: tuple[int, ...],
    read: Read,
) -> Tensor:
    below = (max(index), min(index))
    return product_element((1, 0, *attributes), shape, shapes, below, read)


def _sum_units(kernels: Kernels, _: Attributes, __: Shape, inputs: Sequence[Tensor]) -> Tensor:
    """Add up gradients in units of 2^-44, int64: exact, so in any order and in parts."""
    total_P = torch.zeros(inputs[0].numel(), dtype=torch.int64)
    for grad_P in inputs:
        kernels.add_units(total_P, grad_P.contiguous())
    return total_P


def _sum_units_element(
    _: Attributes, __: Shape, shapes: Sequence[Shape], index: tuple[int, ...], read: Read
) -> Tensor:
    total = torch.zeros(1, dtype=torch.int64)
    for number in range(len(shapes)):
        reference.add_units(total, read(number, index[0], 1))
    return one(total)


def _mean_units(
    kernels: Kernels, attributes: Attributes, _: Shape, inputs: Sequence[Tensor]
) -> Tensor:
    """Return the mean of gradients from sums of them; the attribute is how many there are."""
    return kernels.mean_units(_total(inputs), int(attributes[0]))


def _mean_units_element(
    attributes: Attributes, _: Shape, shapes: Sequence[Shape], index: tuple[int, ...], read: Read
) -> Tensor:
    sums = [read(number, index[0], 1) for number in range(len(shapes))]
    return one(reference.mean_units(_total(sums), int(attributes[0])))


def _total(sums: Sequence[Tensor]) -> Tensor:
    total = sums[0].clone()
    for other in sums[1:]:
        total += other
    return total


def _squared(_: Attributes, inputs: Sequence[Tensor]) -> Tensor:
    return inputs[0] * inputs[0]


def _clipped(attributes: Attributes, inputs: Sequence[Tensor]) -> Tensor:
    """Scale a gradient whose sum of squares is too large; the second input is that sum."""
    clip = float(attributes[0])
    norm = sqrt(float(inputs[1]))
    return inputs[0] * (clip / norm) if clip and norm > clip else inputs[0]


def _kept(attributes: Attributes, inputs: Sequence[Tensor]) -> Tensor:
    """Return old values and new ones, weighted."""
    keep, new = attributes
    return inputs[0] * keep + inputs[1] * new


def _kept_squares(attributes: Attributes, inputs: Sequence[Tensor]) -> Tensor:
    keep, new = attributes
    return inputs[0] * keep + (inputs[1] * inputs[1]) * new


def _moved(attributes: Attributes, inputs: Sequence[Tensor]) -> Tensor:
    """Move parameters by AdamW: inputs are parameters and both moments, after this step."""
    rate, eps, correction1, correction2 = attributes
    below = reference.root(inputs[2] * correction2) + eps
    return inputs[0] - (inputs[1] * correction1) / below * rate


def _ahead(attributes: Attributes, inputs: Sequence[Tensor]) -> Tensor:
    """Return the momentum of Muon one step ahead: inputs are momentum before this step, and gradient."""
    mu = float(attributes[0])
    fresh = inputs[1] * (1.0 - mu)
    return (inputs[0] * mu + fresh) * mu + fresh


def _unit(attributes: Attributes, inputs: Sequence[Tensor]) -> Tensor:
    """Divide a matrix by its norm; the second input is its sum of squares."""
    return inputs[0] * (1.0 / (reference.root(inputs[1].reshape(1)) + float(attributes[0])))


def _bend(_: Kernels, attributes: Attributes, __: Shape, inputs: Sequence[Tensor]) -> Tensor:
    a, b, c = attributes
    bend = inputs[0] * b + inputs[1] * c
    bend.diagonal().add_(a)
    return bend


def _bend_element(
    attributes: Attributes, shape: Shape, _: Sequence[Shape], index: tuple[int, ...], read: Read
) -> Tensor:
    a, b, c = attributes
    at = flat_index(shape, index)
    bend = read(0, at, 1) * b + read(1, at, 1) * c
    return one(bend + a if index[0] == index[1] else bend)


def _less(attributes: Attributes, inputs: Sequence[Tensor]) -> Tensor:
    return inputs[0] - inputs[1] * attributes[0]


UPDATE: dict[str, Operator] = {
    "sum_units": Operator(_sum_units, _sum_units_element),
    "mean_units": Operator(_mean_units, _mean_units_element),
    "squared": pointwise(_squared),
    "clipped": pointwise(_clipped),
    "kept": pointwise(_kept),
    "kept_squares": pointwise(_kept_squares),
    "moved": pointwise(_moved),
    "ahead": pointwise(_ahead),
    "unit": pointwise(_unit),
    "symmetric": Operator(_symmetric, _symmetric_element),
    "bend": Operator(_bend, _bend_element),
    "less": pointwise(_less),
}
"""Operators of an optimizer step."""
