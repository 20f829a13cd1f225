"""Make a statement false on purpose, where the draw of a verifier forces it, and draw what shows that it was.

Core: pure functions of a program and a seed.

    seed --flipped--> nodes of a trace of which every value is stated with its lowest bit flipped
    seed, what the verifier alone knew --element_of--> elements by which a solver shows that

Training, state and messages are right: only what a trace says of values between them is not. A sixteenth of the
nodes is flipped, none of which is computed from another, so that each value of them is false in its trace. A
check that looks at everything that it asks for misses that once in many billions of tries.
Source: docs/spec/verification.md section 4a.
"""

from math import prod

import torch
from torch import Tensor

from swarm.errors import BrokenPromise
from swarm.primitives.randomness import stream
from swarm.types import Digest
from swarm.verify.program.nodes import INPUT, Program
from swarm.verify.spots.elements import Item

FLIPPED_SHARE = 16
"""One in so many nodes is flipped: at most, since none of two neighbours is."""


def flippable(program: Program) -> list[int]:
    """Return the nodes whose values are bound to nothing by digest: neither taken nor made by a program.

    Numbers alone: a bit of an index would change what is read, and not only what is computed.
    """
    made = set(program.outputs.values())
    return [
        number
        for number, node in enumerate(program.nodes)
        if node.operator != INPUT and node.dtype == "float32" and number not in made
    ]


def flipped(program: Program, seed: bytes, trace: int) -> frozenset[int]:
    """Return the nodes of a trace that are flipped; ``trace``: its number among those of the statement.

    Empty if nothing in the program can be flipped, else at least one.
    """
    dice, found, able = stream(seed, "forced-nodes", trace), set[int](), flippable(program)
    for number in able:
        is_drawn = dice.below(FLIPPED_SHARE) == 0
        if is_drawn and found.isdisjoint(program.nodes[number].inputs):
            found.add(number)
    if able and not found:
        found.add(dice.choice(able))
    return frozenset(found)


def flip(value: Tensor) -> Tensor:
    """Return a value of which the lowest bit of every element is flipped."""
    return (value.contiguous().view(torch.int32) ^ 1).view(torch.float32)


def element_of(program: Program, seed: bytes, trace: int, dice: bytes, number: int) -> Item:
    """Return the ``number``-th drawn element of those that are flipped in a trace.

    Raises ``BrokenPromise`` for a program in which nothing can be flipped.
    """
    nodes = sorted(flipped(program, seed, trace))
    if not nodes:
        raise BrokenPromise("a program of which nothing can be stated falsely")
    drawn = stream(dice, "forced-element", number)
    node = drawn.choice(nodes)
    return Item(node, drawn.below(prod(program.nodes[node].shape)), 1)


class Flips:
    """Statement of the values of a window in which what is drawn is flipped."""

    def __init__(self, seed: Digest, first: int) -> None:
        """``first``: number of the first trace that it is asked for."""
        self._seed, self._first = seed, first
        self._nodes = dict[int, frozenset[int]]()

    def __call__(self, program: Program, part: int, number: int, value: Tensor) -> Tensor:
        """Return what is stated of the value of a node."""
        if part not in self._nodes:
            self._nodes[part] = flipped(program, self._seed, self._first + part)
        return flip(value) if number in self._nodes[part] else value
