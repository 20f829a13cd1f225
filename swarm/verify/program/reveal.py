"""Commit to all values of a program, reveal what one element of one node is computed from, and judge it.

Core: pure functions.

    value root = M(hashes of chunks of 64 values); trace root = M(value roots of all nodes)
    reveal     = node, place of the element | its chunk | the runs of chunks of its operands that it reads,
                 each under its value root, and every value root under the trace root

Whoever has run a program can reveal any element of it, and ``judge`` needs the program, the trace root and the
reveal: it computes the element by its operator's definition, and says whether the trace has that very value.
Two peers whose traces agree up to a node have the same operands for it, so one reveal out of the trace of
either decides between them. A false value that leaves all later ones as they are is found like any other.
"""

from math import prod

import numpy as np
import torch
from torch import Tensor

from swarm.errors import BadEncoding, BrokenPromise, UsageError
from swarm.primitives.codec import Message
from swarm.primitives.crypto import fast_digest
from swarm.primitives.merkle import (
    merkle_proof,
    merkle_root,
    range_proof,
    verify_proof,
    verify_range,
)
from swarm.types import Digest
from swarm.verify.program.nodes import INPUT, Program

CHUNK_VALUES = 64
VALUE_BYTES = 4
CHUNK_BYTES = CHUNK_VALUES * VALUE_BYTES
"""Bytes of a chunk: short against a row, and long against a path."""


class Run(Message, frozen=True):
    """Neighbouring chunks of one value, with what lies beside them up to its root."""

    first: int
    data: bytes
    path: tuple[bytes, ...]


class Operand(Message, frozen=True):
    """Chunks of one operand that are read, under its value root."""

    root: Digest
    path: tuple[bytes, ...]
    """From the value root to the trace root."""
    runs: tuple[Run, ...]


class Reveal(Message, frozen=True):
    """One element of a trace, with all that it is computed from."""

    node: int
    place: int
    """Flat index of the element."""
    claimed: Operand
    """The chunk of the element itself."""
    operands: tuple[Operand, ...]
    """In the order of the node's inputs."""


def value_root(value: Tensor) -> Digest:
    """Return the root over the chunks of a value."""
    return merkle_root(_leaves(value))


def trace_root(values: list[Tensor]) -> Digest:
    """Return the root over the values of all nodes."""
    return merkle_root([value_root(value) for value in values])


def reveal(program: Program, values: list[Tensor], number: int, place: int) -> Reveal:
    """Return the reveal of one element; raise ``UsageError`` for one that is given, or is not there."""
    node = program.nodes[number]
    if node.operator == INPUT or not 0 <= place < values[number].numel():
        raise UsageError(f"node {number} has no element {place} that is computed")
    wanted: list[list[tuple[int, int]]] = [[] for _ in node.inputs]

    def read(operand: int, start: int, count: int) -> Tensor:
        wanted[operand].append((start // CHUNK_VALUES, -(-(start + count) // CHUNK_VALUES)))
        return values[node.inputs[operand]].reshape(-1)[start : start + count]

    program.element_of(number, _index(node.shape, place), read)
    roots = [value_root(value) for value in values]
    chunk = place // CHUNK_VALUES
    return Reveal(
        node=number,
        place=place,
        claimed=_operand(roots, number, values[number], [(chunk, chunk + 1)]),
        operands=tuple(
            _operand(roots, at, values[at], ranges)
            for at, ranges in zip(node.inputs, wanted, strict=True)
        ),
    )


def judge(program: Program, root: Digest, shown: Reveal) -> bool:
    """Return True if a trace has for an element what its operator computes from the trace's own operands.

    Raises ``PeerFault`` for a reveal that is not of this program, or does not lead to the trace root, or lacks
    a value that the element reads.
    """
    if not 0 <= shown.node < len(program.nodes):
        raise BadEncoding(f"node {shown.node} of {len(program.nodes)}")
    node = program.nodes[shown.node]
    numel = prod(node.shape)
    if node.operator == INPUT or not 0 <= shown.place < numel:
        raise BadEncoding("an element that is not computed")
    if len(shown.operands) != len(node.inputs):
        raise BadEncoding(f"{len(shown.operands)} operands of {len(node.inputs)}")
    claimed = _Shown(program, root, shown.node, shown.claimed)
    operands = [
        _Shown(program, root, at, operand)
        for at, operand in zip(node.inputs, shown.operands, strict=True)
    ]

    def read(operand: int, start: int, count: int) -> Tensor:
        return operands[operand].read(start, count)

    computed = program.element_of(shown.node, _index(node.shape, shown.place), read)
    said = claimed.read(shown.place, 1)
    return torch.equal(_bits(computed.view(1)), _bits(said))


class _Shown:
    """Values of one operand that a reveal shows, once its proofs are checked."""

    def __init__(self, program: Program, root: Digest, number: int, operand: Operand) -> None:
        node = program.nodes[number]
        self._dtype = np.dtype("<i4" if node.is_integer else "<f4")
        self._numel = prod(node.shape)
        count = -(-self._numel // CHUNK_VALUES)
        verify_proof(root, operand.root, number, len(program.nodes), operand.path)
        self._runs = list[tuple[int, bytes]]()
        for run in operand.runs:
            pieces = _chunks(run.data)
            is_last = run.first + len(pieces) == count
            whole = (len(pieces) - is_last) * CHUNK_BYTES
            rest = (self._numel - (count - 1) * CHUNK_VALUES) * VALUE_BYTES if is_last else 0
            if len(run.data) != whole + rest:
                raise BadEncoding("chunks of another length than the value's")
            leaves = [chunk_leaf(piece) for piece in pieces]
            verify_range(operand.root, leaves, run.first, count, run.path)
            self._runs.append((run.first * CHUNK_BYTES, run.data))

    def read(self, start: int, count: int) -> Tensor:
        """Return shown values; raise ``BrokenPromise`` if one is missing."""
        first, stop = start * VALUE_BYTES, (start + count) * VALUE_BYTES
        if start < 0 or start + count > self._numel:
            raise BrokenPromise("an element outside of an operand")
        for at, data in self._runs:
            if at <= first and stop <= at + len(data):
                part = data[first - at : stop - at]
                return torch.from_numpy(np.frombuffer(part, self._dtype).copy())
        raise BrokenPromise("a value that is read and not shown")


def _operand(
    roots: list[Digest], number: int, value: Tensor, ranges: list[tuple[int, int]]
) -> Operand:
    leaves, data = _leaves(value), _bytes(value)
    runs = tuple(
        Run(
            first=first,
            data=data[first * CHUNK_BYTES : stop * CHUNK_BYTES],
            path=range_proof(leaves, first, stop - first),
        )
        for first, stop in _merged(ranges)
    )
    return Operand(roots[number], merkle_proof(roots, number), runs)


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return ranges joined where they touch."""
    merged = list[tuple[int, int]]()
    for first, stop in sorted(ranges):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((first, stop))
    return merged


def _leaves(value: Tensor) -> list[Digest]:
    return [chunk_leaf(chunk) for chunk in _chunks(_bytes(value))]


def chunk_leaf(chunk: bytes) -> Digest:
    """Return the leaf of a chunk in the tree of its value."""
    return fast_digest("program-chunk", chunk)


def _chunks(data: bytes) -> list[bytes]:
    return [data[at : at + CHUNK_BYTES] for at in range(0, len(data), CHUNK_BYTES)]


def _bytes(value: Tensor) -> bytes:
    return value.detach().contiguous().numpy().tobytes()


def chunk_bytes(value: Tensor, number: int) -> bytes:
    """Return the bytes of one chunk of a value."""
    start = number * CHUNK_VALUES
    return _bytes(value.reshape(-1)[start : start + CHUNK_VALUES])


def _bits(value: Tensor) -> Tensor:
    return value.contiguous().view(torch.int32)


def _index(shape: tuple[int, ...], place: int) -> tuple[int, ...]:
    return tuple(int(at) for at in np.unravel_index(place, shape))
