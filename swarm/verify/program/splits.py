"""Say how many layers of a tree a split opens: few bytes, within ten rounds.

Core: pure functions of a program and a place.

A dispute goes down two trees, that of all values of a program and that of one value. In one round the solver
opens an event, and in another it shows a leaf; the rest are splits, as many as there are between. A split of n
layers has up to 2**n hashes, so many small ones are shorter than few large ones. Where a model has few nodes
and small values there are rounds to spare, and splits are small; for the largest all of them are needed.
Source: docs/spec/verification.md section 4.
"""

from math import prod

from swarm.primitives.openings import WHOLE, Content, Place, layers_below
from swarm.verify.program.nodes import Program

SPLITS_MAX = 8
"""Splits of a dispute of ten rounds."""
LAYERS_WANTED, LAYERS_MAX = 3, 6
"""Layers that one split opens where there are rounds to spare, and at most: 8 and 64 hashes of 32 bytes."""
PART_LAYERS = 5
"""Layers that a split opens of the tree over the parts of a value: only large ones have many."""


def top_level(program: Program) -> int:
    """Return the layers of the tree of all values."""
    return max(len(program.nodes) - 1, 0).bit_length()


def node_layers(program: Program, level: int) -> int:
    """Return the layers that a split opens in the tree of all values, where ``level`` layers are below."""
    return _even(level, _node_most(program))


def value_layers(program: Program, content: Content, place: Place) -> int:
    """Return the layers that a split opens below a place of one value of a program."""
    if place.part == WHOLE and place.level:
        return _even(place.level, PART_LAYERS)
    parts, inner = _heights(content)
    used = _splits(top_level(program), _node_most(program)) + _splits(parts, PART_LAYERS)
    return _even(layers_below(content, place), _most(inner, SPLITS_MAX - used))


def _node_most(program: Program) -> int:
    largest = max(program.nodes, key=lambda node: prod(node.shape) * node.item_bytes)
    below = sum(_splits(layers, PART_LAYERS) for layers in _heights(largest.content))
    return _most(top_level(program), SPLITS_MAX - below)


def _heights(content: Content) -> tuple[int, int]:
    """Return the layers of the tree over the parts of a value, and of the tree of one part."""
    if content.tree_head is None:
        return 0, content.top.level
    return content.top.level, layers_below(content, Place(WHOLE, 0, 0))


def _most(layers: int, splits: int) -> int:
    """Return the most layers of a split: as many as wanted, or more where there are too few splits for that."""
    fits = (most for most in range(LAYERS_WANTED, LAYERS_MAX) if _splits(layers, most) <= splits)
    return next(fits, LAYERS_MAX)


def _splits(layers: int, most: int) -> int:
    return -(-layers // most)


def _even(layers: int, most: int) -> int:
    """Return the layers of the next split where so many are below: the fewest splits, and none much larger."""
    splits = _splits(layers, most)
    return -(-layers // splits) if splits else 0
