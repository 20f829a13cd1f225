"""Define what an operator of a program is: it computes a whole tensor, and any one element of it.

Core: pure functions of tensors, with the bits of ``seq-f32/1`` (training/model/exact/reference.py).

``whole`` is what a solver or a verifier computes, by the fast kernels of its machine. ``element`` computes one
value from the few values of the inputs that it asks for: runs of neighbours, so that Merkle paths are few. What
a program reads by columns it first transposes. Both give the same bits for every element; a dispute ends with
``element``, which every validator can afford.

Longest runs are rows: of a matrix product, of a softmax, of a sum of the rows of a micro-batch. Sums over more
than that are folded, ``FOLD`` values at a time, in the order of ``reference.tree_sum``.

Legend: N rows (batch x time), D columns, O outputs, V vocabulary, B batch, H heads, K key-value heads, T time,
E features of a head, P a flat vector.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from swarm.training.model.exact.operators import Kernels

FOLD = 16
"""Values that one element of a folded sum is the sum of."""

Number = int | float
Attributes = tuple[Number, ...]
Shape = tuple[int, ...]
Read = Callable[[int, int, int], Tensor]
"""Reader of inputs: (number of the input, flat index of the first value, count) -> that many values."""
Whole = Callable[[Kernels, Attributes, Shape, Sequence[Tensor]], Tensor]
"""Function of (kernels, attributes, shape of the result, inputs) -> result."""
Element = Callable[[Attributes, Shape, Sequence[Shape], tuple[int, ...], Read], Tensor]
"""Function of (attributes, shape of the result, shapes of the inputs, index, reader) -> one value."""


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator, as a whole and by the element."""

    whole: Whole
    element: Element


def flat_index(shape: Shape, index: Sequence[int]) -> int:
    """Return the place of an element in its tensor, in C order."""
    at = 0
    for extent, position in zip(shape, index, strict=True):
        at = at * extent + position
    return at


def row_start(shape: Shape, index: Sequence[int]) -> int:
    """Return the flat index of the first value of the last-axis row that ``index`` is in."""
    return flat_index(shape, (*index[:-1], 0))


def one(values: Tensor) -> Tensor:
    """Return a single value as a tensor without axes."""
    return values.reshape(())


# --- where values lie: nothing is computed ---


def _slice(_: Kernels, attributes: Attributes, shape: Shape, inputs: Sequence[Tensor]) -> Tensor:
    start = int(attributes[0])
    return inputs[0].reshape(-1)[start : start + prod(shape)].view(shape)


def _slice_element(
    attributes: Attributes, shape: Shape, _: Sequence[Shape], index: tuple[int, ...], read: Read
) -> Tensor:
    return one(read(0, int(attributes[0]) + flat_index(shape, index), 1))


def _columns(_: Kernels, attributes: Attributes, shape: Shape, inputs: Sequence[Tensor]) -> Tensor:
    first = int(attributes[0])
    return inputs[0][..., first : first + shape[-1]].contiguous()


def _columns_element(
    attributes: Attributes, _: Shape, shapes: Sequence[Shape], index: tuple[int, ...], read: Read
) -> Tensor:
    there = (*index[:-1], index[-1] + int(attributes[0]))
    return one(read(0, flat_index(shapes[0], there), 1))


def _joined(_: Kernels, __: Attributes, ___: Shape, inputs: Sequence[Tensor]) -> Tensor:
    return torch.cat(tuple(inputs), -1)


def _joined_element(
    _: Attributes, __: Shape, shapes: Sequence[Shape], index: tuple[int, ...], read: Read
) -> Tensor:
    at = index[-1]
    for number, shape in enumerate(shapes):
        if at < shape[-1]:
            return one(read(number, flat_index(shape, (*index[:-1], at)), 1))
        at -= shape[-1]
    raise AssertionError("an index within the shape")


def _transposed(_: Kernels, attributes: Attributes, __: Shape, inputs: Sequence[Tensor]) -> Tensor:
    return inputs[0].permute(*map(int, attributes)).contiguous()


def _transposed_element(
    attributes: Attributes, _: Shape, shapes: Sequence[Shape], index: tuple[int, ...], read: Read
) -> Tensor:
    there = [0] * len(index)
    for axis, position in zip(attributes, index, strict=True):
        there[int(axis)] = position
    return one(read(0, flat_index(shapes[0], there), 1))


def _reshaped(_: Kernels, __: Attributes, shape: Shape, inputs: Sequence[Tensor]) -> Tensor:
    return inputs[0].reshape(shape)


def _reshaped_element(
    _: Attributes, shape: Shape, __: Sequence[Shape], index: tuple[int, ...], read: Read
) -> Tensor:
    return one(read(0, flat_index(shape, index), 1))


def _stacked(_: Kernels, __: Attributes, ___: Shape, inputs: Sequence[Tensor]) -> Tensor:
    return torch.cat([x.reshape(-1) for x in inputs])


def _stacked_element(
    _: Attributes, __: Shape, shapes: Sequence[Shape], index: tuple[int, ...], read: Read
) -> Tensor:
    at = index[0]
    for number, shape in enumerate(shapes):
        if at < prod(shape):
            return one(read(number, at, 1))
        at -= prod(shape)
    raise AssertionError("an index within the shape")


# --- value by value ---

Pointwise = Callable[[Attributes, Sequence[Tensor]], Tensor]


def pointwise(function: Pointwise) -> Operator:
    """Return the operator that computes every value from those at the same place of its inputs."""

    def whole(_: Kernels, attributes: Attributes, __: Shape, inputs: Sequence[Tensor]) -> Tensor:
        return function(attributes, inputs)

    def element(
        attributes: Attributes,
        shape: Shape,
        shapes: Sequence[Shape],
        index: tuple[int, ...],
        read: Read,
    ) -> Tensor:
        at = flat_index(shape, index)
        # An input of one value is the same for all.
        values = [read(n, at if prod(s) > 1 else 0, 1) for n, s in enumerate(shapes)]
        return one(function(attributes, values))

    return Operator(whole, element)


# --- rows ---

RowFunction = Callable[[Attributes, tuple[int, ...], Sequence[Tensor]], Tensor]


def rowwise(function: RowFunction, *, shared: Sequence[int] = ()) -> Operator:
    """Return the operator that computes a row from the rows at its place, and whole vectors.

    ``function`` takes the attributes, the row's index and its inputs with a leading axis of rows; inputs
    numbered in ``shared`` are vectors that every row uses.
    """

    def whole(_: Kernels, attributes: Attributes, shape: Shape, inputs: Sequence[Tensor]) -> Tensor:
        rows = [x if n in shared else x.reshape(-1, x.shape[-1]) for n, x in enumerate(inputs)]
        return function(attributes, (), rows).reshape(shape)

    def element(
        attributes: Attributes,
        shape: Shape,
        shapes: Sequence[Shape],
        index: tuple[int, ...],
        read: Read,
    ) -> Tensor:
        rows = list[Tensor]()
        for number, its in enumerate(shapes):
            width = its[-1]
            if number in shared:
                rows.append(read(number, 0, width))
            else:
                row = flat_index(shape[:-1], index[:-1])
                rows.append(read(number, row * width, width).view(1, width))
        return one(function(attributes, index, rows).reshape(-1)[index[-1]])

    return Operator(whole, element)


# --- sums of more than a row ---


def _folded(_: Kernels, __: Attributes, shape: Shape, inputs: Sequence[Tensor]) -> Tensor:
    width = shape[-1]
    return _sums(inputs[0].reshape(*shape[:-1], -1), width).reshape(shape)


def _folded_element(
    _: Attributes, shape: Shape, shapes: Sequence[Shape], index: tuple[int, ...], read: Read
) -> Tensor:
    width, length = shape[-1], shapes[0][-1]
    start = flat_index(shapes[0], (*index[:-1], 0))
    places = range(index[-1], length, width)
    values = torch.cat([read(0, start + at, 1) for at in places])
    return one(_sums(values, 1))


def _sums(x: Tensor, width: int) -> Tensor:
    """Fold rows until ``width`` sums are left, in the order of ``reference.tree_sum``."""
    padded = 1 << (x.shape[-1] - 1).bit_length()
    wanted = max(width, 1)
    while padded < wanted:
        padded *= 2
    if padded != x.shape[-1]:
        x = torch.cat((x, x.new_zeros(*x.shape[:-1], padded - x.shape[-1])), -1)
    while x.shape[-1] > wanted:
        half = x.shape[-1] // 2
        x = x[..., :half] + x[..., half:]
    return x


LAYOUT: dict[str, Operator] = {
    "slice": Operator(_slice, _slice_element),
    "columns": Operator(_columns, _columns_element),
    "joined": Operator(_joined, _joined_element),
    "transposed": Operator(_transposed, _transposed_element),
    "reshaped": Operator(_reshaped, _reshaped_element),
    "stacked": Operator(_stacked, _stacked_element),
    "add": pointwise(lambda _, inputs: inputs[0] + inputs[1]),
    "scaled": pointwise(lambda attributes, inputs: inputs[0] * attributes[0]),
    "folded": Operator(_folded, _folded_element),
}
"""Operators that every program uses."""
