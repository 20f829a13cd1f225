"""Commit to all values of a program, reveal what one element of one node is computed from, and judge it.

Core: pure functions.

    trace root = M(digests of the values of all nodes), each that of a state's part or of a message
    reveal     = node, place of the element | the leaves of its operands that it reads, each under the digest of
                 its value, and every digest under the trace root

A value has the digest under which it is committed anywhere else (primitives/openings.py), so what goes into a
program and what comes out of it is compared by its digest. Whoever has run a program can reveal any element of
it, and ``computed`` needs the program, the trace root and the reveal: it computes the element by its operator's
definition, from the trace's own operands. Two peers whose traces agree up to a node have the same operands for
it, so one reveal out of the trace of either decides between them. A false value that leaves all later ones as
they are is found like any other.
"""

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np
import torch
from torch import Tensor

from swarm.errors import BadEncoding, BrokenPromise, UsageError
from swarm.primitives.codec import Message
from swarm.primitives.merkle import merkle_proof, merkle_root, verify_proof
from swarm.primitives.openings import Opening, Tree, check_opening, covered
from swarm.types import Digest
from swarm.verify.program.nodes import INPUT, Node, Program
from swarm.verify.program.operators import Read

OPENED_BYTES_MAX = 256 << 10
"""Bytes of values in one reveal: a transaction is shorter, and an opening cannot be longer."""


class Operand(Message, frozen=True):
    """Leaves of one value that are read, under its digest."""

    root: Digest
    path: tuple[bytes, ...]
    """From the digest to the trace root."""
    openings: tuple[Opening, ...]


class Reveal(Message, frozen=True):
    """One element of a trace, with all that it is computed from."""

    node: int
    place: int
    """Flat index of the element."""
    operands: tuple[Operand, ...]
    """In the order of the node's inputs."""


def tree_of(node: Node, value: Tensor) -> Tree:
    """Return the hashes of the value of a node."""
    return Tree(node.content, value_bytes(value))


def value_root(node: Node, value: Tensor) -> Digest:
    """Return the digest of the value of a node."""
    return tree_of(node, value).digest


def value_roots(program: Program, values: Sequence[Tensor]) -> list[Digest]:
    """Return the digests of the values of all nodes."""
    return [value_root(node, value) for node, value in zip(program.nodes, values, strict=True)]


def trace_root(program: Program, values: Sequence[Tensor]) -> Digest:
    """Return the root over the values of all nodes."""
    return merkle_root(value_roots(program, values))


def reveal(
    program: Program, values: Sequence[Tensor], roots: Sequence[Digest], number: int, place: int
) -> Reveal:
    """Return the reveal of one element; ``roots`` are the digests of all values.

    Raises ``UsageError`` for an element that is given, or is not there.
    """
    node = program.nodes[number]
    if node.operator == INPUT or not 0 <= place < prod(node.shape):
        raise UsageError(f"node {number} has no element {place} that is computed")
    wanted = operands_of(program, number, place, 1, values)

    def operand(at: int, ranges: list[tuple[int, int]]) -> Operand:
        tree, shown = tree_of(program.nodes[at], values[at]), program.nodes[at]
        openings = tuple(tree.opening(*part) for part in leaves_of(shown, ranges))
        return Operand(roots[at], merkle_proof(roots, at), openings)

    return Reveal(
        node=number,
        place=place,
        operands=tuple(map(operand, node.inputs, wanted)),
    )


def operands_of(
    program: Program,
    number: int,
    place: int,
    count: int,
    values: Sequence[Tensor] | Mapping[int, Tensor],
) -> list[list[tuple[int, int]]]:
    """Return, for each operand of a node, the ranges (start, stop) that some elements are computed from."""
    node = program.nodes[number]
    wanted: list[list[tuple[int, int]]] = [[] for _ in node.inputs]

    def read(operand: int, start: int, length: int) -> Tensor:
        wanted[operand].append((start, start + length))
        return values[node.inputs[operand]].reshape(-1)[start : start + length]

    for at in range(place, place + count):
        program.element_of(number, index_of(node.shape, at), read)
    return wanted


def computed(program: Program, root: Digest, shown: Reveal) -> Tensor | None:
    """Return what an operator computes for an element from the trace's own operands; None if that is no number.

    That is a NaN, or anything that is computed from one, since machines differ in what they make of it, or what
    cannot be computed at all: no honest trace has them. Raises ``PeerFault`` for a reveal that is not of this
    program, or does not lead to the trace root, or lacks a value that the element reads.
    """
    (element,) = computed_run(program, root, shown, 1)
    return element


def computed_run(program: Program, root: Digest, shown: Reveal, count: int) -> list[Tensor | None]:
    """Return what is computed for ``count`` neighbours from the revealed one on; as ``computed`` does."""
    if not 0 <= shown.node < len(program.nodes):
        raise BadEncoding(f"node {shown.node} of {len(program.nodes)}")
    node = program.nodes[shown.node]
    if node.operator == INPUT or not 0 <= shown.place <= prod(node.shape) - count:
        raise BadEncoding("an element that is not computed")
    if len(shown.operands) != len(node.inputs):
        raise BadEncoding(f"{len(shown.operands)} operands of {len(node.inputs)}")
    opened = (one for part in shown.operands for one in part.openings)
    if sum(len(one.data) for one in opened) > OPENED_BYTES_MAX:
        raise BadEncoding("more values than an element is computed from")
    operands = [
        _Shown(program, root, at, operand)
        for at, operand in zip(node.inputs, shown.operands, strict=True)
    ]

    def read(operand: int, start: int, count: int) -> Tensor:
        values = operands[operand].read(start, count)
        if bool(values.isnan().any()):
            raise _ReadNaNError
        return values

    places = range(shown.place, shown.place + count)
    return [_element(program, shown.node, place, read) for place in places]


def _element(program: Program, number: int, place: int, read: Read) -> Tensor | None:
    """Return an element; None if it is no number, or nothing can be computed from what is read."""
    index = index_of(program.nodes[number].shape, place)
    try:
        element = program.element_of(number, index, read)
    except _ReadNaNError:
        return None
    except (ArithmeticError, LookupError, RuntimeError, ValueError):
        # A root of a negative sum, a token that is none: whoever has such operands has not computed them, and
        # no replica of the ledger may stop here.
        return None
    return None if bool(element.isnan().any()) else element


def shown_values(
    program: Program, root: Digest, number: int, shown: Operand, place: int, count: int
) -> Tensor:
    """Return values of a node that are shown under a trace root; raise ``PeerFault`` if they are not."""
    if not 0 <= number < len(program.nodes):
        raise BadEncoding(f"node {number} of {len(program.nodes)}")
    return _Shown(program, root, number, shown).read(place, count)


class _ReadNaNError(Exception):
    """An operand that is NaN."""


class _Shown:
    """Values of one node that are shown, once their openings are checked."""

    def __init__(self, program: Program, root: Digest, number: int, operand: Operand) -> None:
        verify_proof(root, operand.root, number, len(program.nodes), operand.path)
        self._node = program.nodes[number]
        for opening in operand.openings:
            check_opening(self._node.content, operand.root, opening)
        self._openings = operand.openings

    def read(self, start: int, count: int) -> Tensor:
        """Return shown values; raise ``BrokenPromise`` if one is missing."""
        width = self._node.item_bytes
        first, stop = start * width, (start + count) * width
        if start < 0 or stop > self._node.content.num_bytes:
            raise BrokenPromise("an element outside of an operand")
        for opening in self._openings:
            at = opening.start
            if at <= first and stop <= at + len(opening.data):
                return values_of(self._node, opening.data[first - at : stop - at])
        raise BrokenPromise("a value that is read and not shown")


def values_of(node: Node, data: bytes) -> Tensor:
    """Return values of a node from their bytes."""
    return torch.from_numpy(np.frombuffer(data, np.dtype(node.dtype).newbyteorder("<")).copy())


def value_bytes(value: Tensor) -> bytes:
    """Return a value as the bytes that its digest covers."""
    return value.detach().contiguous().numpy().tobytes()


def index_of(shape: tuple[int, ...], place: int) -> tuple[int, ...]:
    """Return the index of an element from its place in C order."""
    return tuple(int(at) for at in np.unravel_index(place, shape))


def leaves_of(node: Node, ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the bytes of whole leaves that have ranges of values, joined where they touch."""
    content, width = node.content, node.item_bytes
    merged = list[tuple[int, int]]()
    for first, stop in sorted(covered(content, a * width, b * width) for a, b in ranges):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((first, stop))
    return merged
