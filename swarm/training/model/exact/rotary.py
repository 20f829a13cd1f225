"""Build rotary tables from integer arithmetic: the same bits with any libm.

Core: a pure function, slow (about a microsecond a value) and called once per run.

Angle of position p and pair i is p x theta^(-2i/E). Everything is a whole number in units of 2^-160: the root
by bisection, sine and cosine of one step by their series, then one addition of angles per position. The last
line rounds to float64 and then to float32. Legend: T positions, E features of one head.
"""

import numpy as np
import torch
from torch import Tensor

from swarm.errors import UsageError

_BITS = 160
"""Bits after the point, far more than 24: errors grow by one unit per position, and there are at most a few
million."""
_ONE = 1 << _BITS


def rotary_tables(positions: int, width: int, theta: int) -> tuple[Tensor, Tensor]:
    """Return (cos_TE, sin_TE), each half of E holding the same frequencies.

    Raises ``UsageError`` unless ``theta`` is at least 1 and ``width`` (E) even and positive.
    """
    if positions < 0 or width < 2 or width % 2 or theta < 1:
        raise UsageError(f"no rotary tables for {positions} positions of {width}, theta {theta}")
    pairs = width // 2
    cos_TE = np.empty((positions, width), dtype=np.float32)
    sin_TE = np.empty((positions, width), dtype=np.float32)
    step, frequency = _inverse_root(theta, pairs), _ONE
    for pair in range(pairs):
        turn = _cos_sin(frequency)
        cos, sin = _ONE, 0
        for position in range(positions):
            cos_TE[position, pair::pairs] = cos / _ONE
            sin_TE[position, pair::pairs] = sin / _ONE
            cos, sin = (
                _times(cos, turn[0]) - _times(sin, turn[1]),
                _times(sin, turn[0]) + _times(cos, turn[1]),
            )
        frequency = _times(frequency, step)
    return torch.from_numpy(cos_TE), torch.from_numpy(sin_TE)


def _times(a: int, b: int) -> int:
    return a * b >> _BITS


def _inverse_root(theta: int, degree: int) -> int:
    """Return the largest r with r^degree x theta <= 1: theta^(-1/degree), rounded down."""
    low, high = 0, _ONE + 1
    limit = _ONE**degree
    while high - low > 1:
        middle = (low + high) // 2
        if middle**degree * theta <= limit:
            low = middle
        else:
            high = middle
    return low


def _cos_sin(angle: int) -> tuple[int, int]:
    """Return cosine and sine of an angle in [0, 1] radian, by the series of the exponential function."""
    parts, term, order = [0, 0], _ONE, 0
    while term:
        sign = -1 if order & 2 else 1
        parts[order & 1] += sign * term
        order += 1
        term = _times(term, angle) // order
    return parts[0], parts[1]
