"""Represent a computation as a list of nodes, run it node by node, and compute one element of one node.

Core: frozen records, and a builder that derives shapes.

A program is derived from the run spec by every peer alone (``microbatch.py``, ``update.py``): nothing of it
ever comes from a stranger. Its nodes are in the order of computation, each the result of one operator of
``operators.py``; an input has no operator. Two runs of a program over the same inputs have the same bits, so
the first node in which two peers differ is where one of them is wrong, and one element of it shows which.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np
from torch import Tensor

from swarm.errors import UsageError
from swarm.primitives.openings import Content, message_content, tensor_content
from swarm.training.model.exact.operators import Kernels
from swarm.verify.program.merge_operators import MERGE
from swarm.verify.program.model_operators import MODEL
from swarm.verify.program.operators import FOLD, LAYOUT, Attributes, Operator, Read, Shape
from swarm.verify.program.update_operators import UPDATE
from swarm.verify.program.wire_operators import WIRE

OPERATORS: dict[str, Operator] = {**LAYOUT, **MODEL, **UPDATE, **WIRE, **MERGE}
DEPTH = 4096
"""Terms of a product that one element computes; a deeper one goes on from the product of what comes before."""
INPUT = "input"
"""Operator of a node that is given."""


@dataclass(frozen=True, slots=True)
class Node:
    """One tensor of a program."""

    operator: str
    inputs: tuple[int, ...]
    """Numbers of earlier nodes."""
    shape: Shape
    attributes: Attributes = ()
    dtype: str = "float32"
    """Type of its values, by numpy's name: int32 for tokens and labels, int64 for sums, uint8 for bytes."""
    purpose: str = ""
    """Purpose under which its bytes are hashed as a message; empty for a tensor."""

    @property
    def item_bytes(self) -> int:
        """Bytes of one value."""
        return np.dtype(self.dtype).itemsize

    @property
    def content(self) -> Content:
        """Form of what the digest of its value is of."""
        num_bytes = prod(self.shape) * self.item_bytes
        if self.purpose:
            return message_content(self.purpose, num_bytes)
        return tensor_content(self.dtype, self.shape, num_bytes)


@dataclass(frozen=True, slots=True)
class Program:
    """Nodes in order, with the names of what is given and of what comes out."""

    nodes: tuple[Node, ...]
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]

    def run(
        self,
        kernels: Kernels,
        given: Mapping[str, Tensor],
        watch: Callable[[int, Tensor], Tensor] = lambda _, value: value,
    ) -> list[Tensor]:
        """Return the values of all nodes.

        Args:
            kernels: Kernels of this machine.
            given: Value of each input, of its shape.
            watch: Called with every computed value; what it returns stands in its place.

        Raises:
            UsageError: If an input is missing, or of another shape.
        """
        alive = dict[int, Tensor]()
        for _ in self.computing(kernels, given, alive, watch, drops=False):
            pass
        return [alive[number] for number in range(len(self.nodes))]

    def computing(
        self,
        kernels: Kernels,
        given: Mapping[str, Tensor],
        alive: dict[int, Tensor],
        watch: Callable[[int, Tensor], Tensor] = lambda _, value: value,
        *,
        drops: bool = True,
    ) -> Iterator[int]:
        """Compute node after node, and yield the number of each as soon as its value is in ``alive``.

        The values that it is computed from are there, too. With ``drops`` a value leaves once no later
        node reads it, unless it is an output: a whole trace is many times as large as what is needed at a time.
        Other arguments and errors are those of ``run``.
        """
        names = {number: name for name, number in self.inputs.items()}
        over = self._over() if drops else {}
        for number, node in enumerate(self.nodes):
            if node.operator == INPUT:
                name = names[number]
                if name not in given or tuple(given[name].shape) != node.shape:
                    raise UsageError(f"the program takes {name} of shape {node.shape}")
                alive[number] = given[name]
            else:
                operands = [alive[at] for at in node.inputs]
                whole = OPERATORS[node.operator].whole
                value = whole(kernels, node.attributes, node.shape, operands)
                alive[number] = watch(number, value)
            yield number
            for at in over.get(number, ()):
                del alive[at]

    def _over(self) -> dict[int, list[int]]:
        """Return, for each node, the nodes that no later one reads, and that are no outputs."""
        last = {number: number for number in range(len(self.nodes))}
        for number, node in enumerate(self.nodes):
            last.update(dict.fromkeys(node.inputs, number))
        over = dict[int, list[int]]()
        for at, number in last.items():
            if at not in self.outputs.values():
                over.setdefault(number, []).append(at)
        return over

    def element(self, number: int, index: tuple[int, ...], values: Sequence[Tensor]) -> Tensor:
        """Compute one element of a node from the nodes before it, by the definition of its operator.

        Raises ``UsageError`` for an input, and for an index outside of the node.
        """
        node = self.nodes[number]
        fits = len(index) == len(node.shape) and all(
            0 <= at < extent for at, extent in zip(index, node.shape, strict=True)
        )
        if node.operator == INPUT or not fits:
            raise UsageError(f"node {number} has no element {index} that is computed")

        def read(operand: int, start: int, count: int) -> Tensor:
            return values[node.inputs[operand]].reshape(-1)[start : start + count]

        return self.element_of(number, index, read)

    def element_of(self, number: int, index: tuple[int, ...], read: Read) -> Tensor:
        """Compute one element of a node from the values of its operands that ``read`` returns."""
        node = self.nodes[number]
        shapes = [self.nodes[at].shape for at in node.inputs]
        element = OPERATORS[node.operator].element
        return element(node.attributes, node.shape, shapes, index, read)


@dataclass(frozen=True, slots=True)
class Value:
    """Node of a program that is being built."""

    number: int
    shape: Shape


@dataclass(slots=True)
class Builder:
    """A program under construction."""

    nodes: list[Node] = field(default_factory=list[Node])
    inputs: dict[str, int] = field(default_factory=dict[str, int])
    _transposes: dict[tuple[int, Attributes], Value] = field(
        default_factory=dict[tuple[int, Attributes], Value]
    )

    def given(self, name: str, *shape: int, dtype: str = "float32", purpose: str = "") -> Value:
        """Add an input."""
        self.inputs[name] = len(self.nodes)
        return self.append(Node(INPUT, (), shape, dtype=dtype, purpose=purpose))

    def put(self, operator: str, shape: Shape, *operands: Value, **attributes: float) -> Value:
        """Add a node; attributes are kept in the order in which they are written."""
        numbers = tuple(operand.number for operand in operands)
        return self.append(Node(operator, numbers, shape, tuple(attributes.values())))

    def same(self, operator: str, *operands: Value, **attributes: float) -> Value:
        """Add a node of the shape of its first operand."""
        return self.put(operator, operands[0].shape, *operands, **attributes)

    def add(self, left: Value | None, right: Value | None) -> Value | None:
        """Add two values, either of which may be nothing."""
        if left is None or right is None:
            return right if left is None else left
        return self.same("add", left, right)

    def reshaped(self, x: Value, *shape: int) -> Value:
        """Give a value another shape of as many elements."""
        if prod(shape) != prod(x.shape):
            raise UsageError(f"{x.shape} is not {shape}")
        return self.put("reshaped", shape, x)

    def transposed(self, x: Value, *axes: int) -> Value:
        """Exchange the axes of a value: of a matrix without ``axes``. The same one is made once."""
        order = axes or (1, 0)
        known = self._transposes.get((x.number, order))
        if known is None:
            shape = tuple(x.shape[axis] for axis in order)
            node = Node("transposed", (x.number,), shape, order)
            known = self._transposes[x.number, order] = self.append(node)
        return known

    def product(self, left: Value, right: Value, *, is_positive: bool = False) -> Value:
        """Multiply rows by rows; a head of the right side serves several of the left where it has fewer."""
        shape, depth = (*left.shape[:-1], right.shape[-2]), left.shape[-1]
        has_heads = len(shape) > 2
        copies = left.shape[1] // right.shape[1] if has_heads else 1

        def part(operands: tuple[Value, ...], start: int, stop: int) -> Value:
            numbers = {
                "copies": copies,
                "is_positive": int(is_positive and stop == depth),
                "start": start,
                "stop": stop,
            }
            return self.put("product", shape, *operands, **numbers)

        return _by_depth(left, right, part)

    def symmetric(self, left: Value, right: Value) -> Value:
        """Multiply rows of a matrix by rows of another one where the product is symmetric."""
        shape = (left.shape[0], right.shape[0])

        def part(operands: tuple[Value, ...], start: int, stop: int) -> Value:
            return self.put("symmetric", shape, *operands, start=start, stop=stop)

        return _by_depth(left, right, part)

    def total(self, x: Value, operator: str = "folded") -> Value:
        """Add up all values of a tensor, or fold them by another operator: one value."""
        return self.reshaped(self.row_totals(self.reshaped(x, 1, prod(x.shape)), operator), 1)

    def row_totals(self, x: Value, operator: str = "folded") -> Value:
        """Add up each row by folds, in the order of a binary tree: (rows, 1).

        ``operator`` is another one that folds, in the place of the sum.
        """
        rows, length = x.shape
        width = 1 << (length - 1).bit_length()
        while width > 1 or x.shape[1] > 1:
            width = max(width // FOLD, 1)
            x = self.put(operator, (rows, width), x)
        return x

    def program(self, **outputs: Value | None) -> Program:
        """Return the finished program; outputs that are nothing are left out."""
        named = {name: out.number for name, out in outputs.items() if out is not None}
        return Program(tuple(self.nodes), dict(self.inputs), named)

    def append(self, node: Node) -> Value:
        """Add a node as it is."""
        self.nodes.append(node)
        return Value(len(self.nodes) - 1, node.shape)


def _by_depth(
    left: Value, right: Value, part: Callable[[tuple[Value, ...], int, int], Value]
) -> Value:
    """Return a product of rows, ``DEPTH`` terms at a time; each part goes on from the one before."""
    depth = left.shape[-1]
    out = part((left, right), 0, min(DEPTH, depth))
    for start in range(DEPTH, depth, DEPTH):
        out = part((left, right, out), start, min(start + DEPTH, depth))
    return out
