"""Encode activations and gradients as bfloat16, or as blockwise int8 or int4 with a scale for every block.

Core: pure functions.

Layout of n values in b = ceil(n / 128) blocks: b bfloat16 peaks (largest magnitude of the block), then the
levels; value = level * (peak / most) in float32. int8 has n levels in [-127, 127]. int4 has levels in [-7, 7],
two to a byte, the earlier one in the low half, and the unused half of a last byte is 0. A peak is bfloat16
where that of a fragment is float16 (gossip/codecs/int8.py): the gradient of a mean over many tokens is below
6e-5, where a float16 begins to lose precision. Both sides compute from the decoded values. Source:
docs/spec/training.md section 5.

Legend: N values, B blocks, K values of a block, C values processed at a time.
"""

from collections.abc import Sequence
from math import prod

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from swarm.errors import BadEncoding, UsageError
from swarm.gossip.codecs import int4, int8
from swarm.gossip.codecs.int4 import int4_bytes, packed, unpacked
from swarm.gossip.codecs.int8 import (
    BLOCK,
    CHUNK,
    block_count,
    check_length,
    chunks,
    decode_bf16,
    encode_bf16,
    int8_bytes,
    steps,
    whole_blocks,
)

FORMS = ("bf16", "int8", "int4")
"""Encodings that a run may choose for its activations."""
_MOST = {"int8": int8.LEVELS, "int4": int4.LEVELS}
"""Largest level of each blockwise form."""


def wire_bytes(form: str, numel: int) -> int:
    """Return the bytes in ``to_wire`` of ``numel`` values; raises ``UsageError`` for an unknown form."""
    if _most(form) is None:
        return 2 * numel
    return int8_bytes(numel) if form == "int8" else int4_bytes(numel)


def to_wire(x: Tensor, form: str = "bf16") -> bytes:
    """Encode activations or gradients in C order; raises ``UsageError`` if they are not finite."""
    most = _most(form)
    if most is None:
        return encode_bf16(x)
    peaks_B, level_N = _quantized(x, most)
    levels = level_N if form == "int8" else _pairs(level_N)
    return peaks_B + levels.tobytes()


def from_wire(payload: bytes, shape: Sequence[int], form: str = "bf16") -> Tensor:
    """Decode ``to_wire`` to float32 of ``shape``, the values that the receiver computes from.

    Raises ``BadEncoding`` for anything ``to_wire`` never writes.
    """
    most, numel = _most(form), prod(shape)
    check_length(payload, wire_bytes(form, numel))
    if most is None:
        return decode_bf16(payload, numel).view(*shape)
    at = 2 * block_count(numel)
    if form == "int8":
        level_N = np.frombuffer(payload, np.int8, numel, at)
    else:
        level_N = _levels(np.frombuffer(payload, np.uint8, offset=at), numel)
    return _dequantized(payload[:at], level_N, most).view(*shape)


def _quantized(x: Tensor, most: int) -> tuple[bytes, npt.NDArray[np.int8]]:
    """Return the peaks as bytes, and the levels; raises ``UsageError`` if a peak is not finite as bfloat16."""
    x_N = x.detach().reshape(-1)
    numel = x_N.numel()
    level_N = np.empty(numel, np.int8)
    sent_N = torch.from_numpy(level_N)
    peaks_B = torch.empty(block_count(numel))
    delta_C, levels_BK = torch.empty(CHUNK), torch.empty(CHUNK // BLOCK, BLOCK)
    for part, count, rows in chunks(numel):
        delta_BK = whole_blocks(delta_C, count)
        delta_C[:count] = x_N[part]
        filled_BK = levels_BK[: len(delta_BK)]
        torch.abs(delta_BK, out=filled_BK)
        peak_B = filled_BK.amax(dim=1).to(torch.bfloat16).to(torch.float32)
        peaks_B[rows] = peak_B
        step_B1 = steps(peak_B, most)
        # A block of zeros has step 0; any positive divisor gives it level 0.
        torch.div(delta_BK, torch.where(step_B1 > 0, step_B1, 1.0), out=filled_BK)
        filled_BK.round_().clamp_(-most, most)
        sent_N[part] = levels_BK.view(-1)[:count]
    return encode_bf16(peaks_B), level_N


def _dequantized(peaks: bytes, level_N: npt.NDArray[np.int8], most: int) -> Tensor:
    """Return float32 (N,) values; raises ``BadEncoding`` for peaks and levels that no encoder writes."""
    blocks, numel = block_count(len(level_N)), len(level_N)
    peak_B = decode_bf16(peaks, blocks)
    if bool((peak_B < 0).any()):
        raise BadEncoding("blocks with peaks that are negative")
    step_B1 = steps(peak_B, most)
    if numel and int(level_N.min()) < -most:
        raise BadEncoding(f"a level below {-most}, which no encoder writes")
    x_N = torch.empty(blocks * BLOCK)
    for part, count, rows in chunks(numel):
        values_C = x_N[part.start : rows.stop * BLOCK]
        np.copyto(values_C[:count].numpy(), level_N[part])
        values_C.view(-1, BLOCK).mul_(step_B1[rows])
    return x_N[:numel]


def _pairs(level_N: npt.NDArray[np.int8]) -> npt.NDArray[np.uint8]:
    """Pack levels two to a byte; the unused half of a last byte is 0."""
    return packed(np.append(level_N, np.int8(0)) if len(level_N) % 2 else level_N)


def _levels(pairs: npt.NDArray[np.uint8], numel: int) -> npt.NDArray[np.int8]:
    """Unpack ``numel`` levels; raises ``BadEncoding`` if the half behind the last one is not 0."""
    level_N = unpacked(pairs)
    if numel % 2 and int(level_N[-1]):
        raise BadEncoding("a level behind the last value")
    return level_N[:numel]


def _most(form: str) -> int | None:
    """Return the largest level of a form, None for bfloat16."""
    if form not in FORMS:
        raise UsageError(f"activations do not travel as {form!r}")
    return _MOST.get(form)
