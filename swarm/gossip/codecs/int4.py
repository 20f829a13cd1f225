"""Encode fragments as blockwise int4 or int3, and carry the quantization error into the next payload.

Core: pure functions.

Layout of n values in b = ceil(n / 128) blocks: b float16 peaks, then ceil(n / 2) bytes of two levels in [-7, 7]
each, as four-bit integers, the earlier value in the low half; value = anchor + level * (peak / 7), in float32
in that order. The unused half of a last byte is 0.

int3 has the same layout with levels in [-3, 3] and steps of peak / 3. It is as long, and zstandard leaves .29
bytes a value of it, of int4 .42: large levels are rare, which it would not see if they were packed three bits
apart, across the borders of bytes.

Error feedback: the encoded values are (theta - anchor) + residual, and the residual of the next payload is the
error of this one. ``Coded.residual_N`` replaces the old residual only when the payload was acknowledged: a
payload that never arrived transferred nothing. The error keeps replicas from agreeing below a floor, so the
last tenth of a run is traded in int8 (``is_coarse``). Without feedback the error of a payload is lost, which
costs nothing where a merge takes the difference of two payloads (``mean_kept`` of
training/averaging/payload.py), and int3 has none. Source: docs/spec/training.md section 5.

Legend: N values, B blocks, K values of a block, C values processed at a time.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from swarm.errors import BadEncoding, UsageError
from swarm.gossip.codecs.int8 import (
    CHUNK,
    block_count,
    check_length,
    check_peaks_sent,
    chunks,
    read_levels,
    read_peaks,
    roomy,
    steps,
    write_levels,
)
from swarm.types import Bytes

LEVELS = 7
INT3_LEVELS = 3
FINE_SHARE = 10
"""Divisor of a run's rounds: one in so many, at the end, is traded in the finer codec."""
_LOW, _HIGH = 0x000F, 0x00F0
_SIGN = 0x0808
"""Sign bits of two levels; flipping them counts the levels from -8 on."""


@dataclass(frozen=True, slots=True)
class Coded:
    """Payload, and the residual to keep once it was acknowledged."""

    payload: Bytes
    residual_N: Tensor


def int4_bytes(numel: int) -> int:
    """Return the length in bytes of the payload of ``numel`` values, int4 or int3."""
    return 2 * block_count(numel) + (numel + 1) // 2


def is_coarse(round_index: int, rounds: int) -> bool:
    """Return True if a round may trade in int4: all but the last tenth of a run, and never the last one."""
    return round_index < rounds - -(-rounds // FINE_SHARE)


def encode_int4(theta_N: Tensor, anchor_N: Tensor, residual_N: Tensor) -> Coded:
    """Quantize float32 ``(theta - anchor) + residual`` in blocks of 128; nothing is written in place.

    Raises ``UsageError`` if that is not finite or too large for a float16 peak, or if a shape differs.
    """
    left_N = roomy(theta_N.numel())
    return Coded(_encoded(theta_N, anchor_N, residual_N, left_N, LEVELS), left_N)


def encode_int4_once(theta_N: Tensor, anchor_N: Tensor) -> Bytes:
    """Quantize float32 ``theta - anchor`` without error feedback: what is rounded off is not kept.

    Raises ``UsageError`` like ``encode_int4``.
    """
    return _encoded(theta_N, anchor_N, None, None, LEVELS)


def encode_int3(theta_N: Tensor, anchor_N: Tensor) -> Bytes:
    """Quantize float32 ``theta - anchor`` to seven levels, without error feedback.

    Raises ``UsageError`` like ``encode_int4``.
    """
    return _encoded(theta_N, anchor_N, None, None, INT3_LEVELS)


def decode_int4(payload: Bytes, anchor_N: Tensor, numel: int) -> Tensor:
    """Decode int4 to float32 (numel,) values; raises ``BadEncoding`` for what no encoder writes."""
    return _decoded(payload, anchor_N, numel, LEVELS)


def decode_int3(payload: Bytes, anchor_N: Tensor, numel: int) -> Tensor:
    """Decode int3 to float32 (numel,) values; raises ``BadEncoding`` for what no encoder writes."""
    return _decoded(payload, anchor_N, numel, INT3_LEVELS)


def _decoded(payload: Bytes, anchor_N: Tensor, numel: int, most: int) -> Tensor:
    check_length(payload, int4_bytes(numel))
    blocks = block_count(numel)
    step_B1 = steps(read_peaks(payload, blocks), most)
    pairs = np.frombuffer(payload, np.uint8, offset=2 * blocks)
    if numel % 2 and int(pairs[-1]) & _HIGH:
        raise BadEncoding("a level behind the last value")
    theta_N = roomy(numel)
    for part, count, rows in chunks(numel):
        level_C = unpacked(pairs[part.start // 2 : (part.stop + 1) // 2])
        if most < LEVELS and int(level_C.max()) > most:
            raise BadEncoding(f"a level above {most}, which no encoder writes")
        read_levels(step_B1[rows], level_C[:count], most, anchor_N[part], theta_N[part])
    return theta_N


def _encoded(
    theta_N: Tensor, anchor_N: Tensor, residual_N: Tensor | None, left_N: Tensor | None, most: int
) -> Bytes:
    """Return the payload of levels up to ``most``; the error goes to ``left_N``, if there is one."""
    numel = theta_N.numel()
    residuals = () if residual_N is None else (residual_N,)
    if any(part.shape != (numel,) for part in (theta_N, anchor_N, *residuals)):
        raise UsageError("a fragment, its anchor and its residual are flat and equally long")
    blocks = block_count(numel)
    payload = np.empty(int4_bytes(numel), np.uint8)
    peaks_B, pairs = payload[: 2 * blocks].view("<f2"), payload[2 * blocks :]
    level_C = np.zeros(CHUNK, np.int8)
    for part, count, rows in chunks(numel):
        values = (theta_N[part], anchor_N[part], most, peaks_B[rows], level_C[:count])
        more_C = None if residual_N is None else residual_N[part]
        write_levels(*values, residual_N=more_C, left_N=None if left_N is None else left_N[part])
        level_C[count:] = 0  # an odd number of levels leaves half a byte unused
        pairs[part.start // 2 : (part.stop + 1) // 2] = packed(level_C[: count + count % 2])
    check_peaks_sent(peaks_B)
    return payload.data.toreadonly()


def packed(levels_C: npt.NDArray[np.int8]) -> npt.NDArray[np.uint8]:
    """Pack an even number of levels, two to a byte."""
    twice = levels_C.view("<u2")
    shifted = np.right_shift(twice, 4)
    shifted &= _HIGH
    shifted |= twice & _LOW
    pairs: npt.NDArray[np.uint8] = shifted.astype(np.uint8)
    return pairs


def unpacked(pairs: npt.NDArray[np.uint8]) -> npt.NDArray[np.int8]:
    """Unpack the two levels of each byte; raises ``BadEncoding`` for a level of -8."""
    twice = pairs.astype("<u2")
    twice |= np.left_shift(twice, 4)
    twice &= _LOW << 8 | _LOW
    twice ^= _SIGN
    levels_C = twice.view(np.int8)
    if levels_C.size and int(levels_C.min()) == 0:
        raise BadEncoding("an int4 level of -8, which no encoder writes")
    levels_C -= 8
    return levels_C
