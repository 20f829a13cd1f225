"""Inputs that are hard on rounding: sizes around the tiles, exponents far apart, subnormals."""

from contextlib import suppress

import torch
from torch import Tensor

from swarm.training.model.exact import native
from swarm.training.model.exact.selftest import numbers

SIZES = [(1, 1, 1), (5, 7, 3), (8, 33, 32), (13, 300, 35), (67, 520, 49), (2, 3, 530)]
"""(rows, depth, columns) of products: single values, edges of tiles, several blocks of depth."""


def isas_here() -> list[str]:
    """The instruction sets that were built and that this machine can run: none without the extension."""
    found = list[str]()
    for isa in native.ISAS:
        with suppress(native.NotBuilt):
            found.append(native.load(isa).isa)
    return found


def hard(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    """Values over 120 binary orders of magnitude, the tail subnormal or zero."""
    values = numbers(seed, *shape, spread=60) * scale
    flat = values.view(-1)
    flat[::7] *= 2.0**-80
    flat[3::11] = -0.0
    return values


def assert_same_bits(ours: object, theirs: object) -> None:
    """Tensors (or tuples of them, or numbers) that agree in every bit."""
    if isinstance(ours, Tensor):
        assert isinstance(theirs, Tensor)
        assert ours.shape == theirs.shape
        mine, other = (x.contiguous().view(torch.int32) for x in (ours, theirs))
        assert torch.equal(mine, other), f"{int((mine != other).sum())} of {mine.numel()} differ"
    elif isinstance(ours, tuple):
        assert isinstance(theirs, tuple)
        for one, other in zip(ours, theirs, strict=True):
            assert_same_bits(one, other)
    else:
        assert ours == theirs
