"""Draw elements of a trace, show them with all that they are computed from, and check what is shown.

Core: pure functions.

    trace root, seed --drawn--> items --shown, by who has run the program--> values and operands of each
                                items, trace root --first_false, by anybody--> an element that is none, or None

The solver has signed the root of a trace before the seed is known, so it cannot compute only what is asked for.
Each item is a run of neighbours: as many as are computed from ``RUN_BYTES`` of operands. So an item costs about
the same in any model, and more elements of a small one are seen. Nodes are drawn in turns, so
that one which is false as a whole is found as soon as there are as many items as nodes.

A false element is under the solver's own root, with operands that are, too: it convicts without a replay, and
without anything that the finder says.
Source: docs/spec/verification.md section 4.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import prod

import torch
from torch import Tensor

from swarm.errors import BadEncoding, BrokenPromise
from swarm.primitives.codec import Message
from swarm.primitives.openings import Tree
from swarm.primitives.randomness import RandomStream
from swarm.types import Digest
from swarm.verify.program.nodes import INPUT, OPERATORS, Node, Program
from swarm.verify.program.operators import Attributes, Shape
from swarm.verify.program.reveal import (
    Operand,
    Reveal,
    computed_run,
    index_of,
    leaves_of,
    operands_of,
    shown_values,
    tree_of,
    value_bytes,
)
from swarm.verify.program.tracing import Traced

RUN_BYTES = 32 << 10
"""Bytes of operands that an item has about: one row of a wide weight, or several of a narrow one."""
RUN_MAX = 16
"""Elements of an item."""


class Item(Message, frozen=True):
    """Neighbouring elements of a node that are checked."""

    node: int
    place: int
    """Flat index of the first."""
    count: int


class ShownItem(Message, frozen=True):
    """Values of an item as the trace has them, and what they are computed from."""

    values: Operand
    reveal: Reveal
    """Of the first element; its operands are those of all."""


class FalseElement(Message, frozen=True):
    """An element that its operator does not compute from the operands of its own trace."""

    values: Operand
    reveal: Reveal


# --- which ---


def drawn(program: Program, dice: RandomStream, count: int) -> list[Item]:
    """Draw items of a trace: every computed node once before any is drawn again."""
    nodes = [at for at, node in enumerate(program.nodes) if node.operator != INPUT]
    items, turn = list[Item](), list[int]()
    while len(items) < count:
        turn = turn or dice.shuffled(nodes)
        number = turn.pop()
        length, numel = run_length(program, number), prod(program.nodes[number].shape)
        items.append(Item(number, dice.below(numel - length + 1), length))
    return items


def run_length(program: Program, number: int) -> int:
    """Return the neighbours of a node that an item has."""
    node = program.nodes[number]
    operands = (program.nodes[at] for at in node.inputs)
    known = tuple((one.shape, one.dtype, one.purpose) for one in operands)
    return _length_of(node.operator, node.attributes, node.shape, known)


@lru_cache(maxsize=4096)
def _length_of(
    operator: str,
    attributes: Attributes,
    shape: Shape,
    operands: tuple[tuple[Shape, str, str], ...],
) -> int:
    """Return the length of a run, from what is read about the middle of a node whose operands are zero."""
    given = [
        Node(INPUT, (), extents, dtype=dtype, purpose=purpose)
        for extents, dtype, purpose in operands
    ]
    shapes, numel = [one.shape for one in given], prod(shape)
    element, length = OPERATORS[operator].element, 1
    while 2 * length <= min(RUN_MAX, numel):
        wanted: list[list[tuple[int, int]]] = [[] for _ in given]

        def read(operand: int, start: int, count: int) -> Tensor:
            wanted[operand].append((start, start + count))  # noqa: B023  read at once
            return torch.zeros(count, dtype=getattr(torch, given[operand].dtype))

        first = min(numel // 2, numel - 2 * length)
        try:
            for place in range(first, first + 2 * length):
                element(attributes, shape, shapes, index_of(shape, place), read)
        except (ArithmeticError, LookupError, RuntimeError, ValueError):
            return length  # nothing can be computed from zeros
        leaves = (leaves_of(one, ranges) for one, ranges in zip(given, wanted, strict=True))
        if sum(stop - start for parts in leaves for start, stop in parts) > RUN_BYTES:
            return length
        length *= 2
    return length


# --- shown by who has run the program ---


def shown(traced: Traced, items: Sequence[Item]) -> list[ShownItem]:
    """Show items of a trace, in their order; its program is run once more."""
    found = dict[int, ShownItem]()
    wanted = dict[int, list[int]]()
    for at, item in enumerate(items):
        wanted.setdefault(item.node, []).append(at)
    alive, trees = dict[int, Tensor](), dict[int, Tree]()
    for number in traced.computing(alive):
        for at in wanted.get(number, ()):
            found[at] = _shown_item(traced, items[at], alive, trees)
        for gone in [one for one in trees if one not in alive]:
            del trees[gone]
    return [found[at] for at in range(len(items))]


def _shown_item(
    traced: Traced, item: Item, alive: Mapping[int, Tensor], trees: dict[int, Tree]
) -> ShownItem:
    nodes = traced.program.nodes

    def opened(at: int, ranges: list[tuple[int, int]]) -> Operand:
        if at not in trees:
            trees[at] = tree_of(nodes[at], traced.said(at, alive[at]))
        openings = tuple(trees[at].opening(*part) for part in leaves_of(nodes[at], ranges))
        return Operand(traced.roots[at], traced.path(at), openings)

    values = opened(item.node, [(item.place, item.place + item.count)])
    ranges = operands_of(traced.program, item.node, item.place, item.count, alive)
    operands = tuple(map(opened, nodes[item.node].inputs, ranges))
    return ShownItem(values, Reveal(node=item.node, place=item.place, operands=operands))


# --- checked by anybody ---


def first_false(
    program: Program, root: Digest, items: Sequence[Item], said: Sequence[ShownItem]
) -> FalseElement | None:
    """Return an element that is false in its own trace; None if all that were drawn are true.

    Raises ``PeerFault`` if something else is shown than what was drawn, or it is not under the trace root.
    """
    if len(said) != len(items):
        raise BadEncoding(f"{len(said)} items where {len(items)} were drawn")
    for item, one in zip(items, said, strict=True):
        if (one.reveal.node, one.reveal.place) != (item.node, item.place):
            raise BrokenPromise("another element than the one that was drawn")
        place = _false_place(program, root, one, item.count)
        if place is not None:
            reveal = Reveal(node=item.node, place=place, operands=one.reveal.operands)
            return FalseElement(one.values, reveal)
    return None


def check_false(program: Program, root: Digest, found: FalseElement) -> None:
    """Raise ``PeerFault`` unless an element is false in the trace under a root, as it is shown."""
    if _false_place(program, root, ShownItem(found.values, found.reveal), 1) is None:
        raise BrokenPromise("an element that is what its operator computes")


def _false_place(program: Program, root: Digest, shown: ShownItem, count: int) -> int | None:
    first = shown.reveal.place
    values = shown_values(program, root, shown.reveal.node, shown.values, first, count)
    for place, value, element in zip(
        range(first, first + count),
        values,
        computed_run(program, root, shown.reveal, count),
        strict=True,
    ):
        if element is None or value_bytes(element) != value_bytes(value):
            return place
    return None
