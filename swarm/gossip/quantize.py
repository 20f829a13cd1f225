"""Fewer bytes for the same weights: blockwise int8, bfloat16, and zstandard on top where it pays.

Core: pure functions. Door: zstandard.

int8 layout of n values in b = ceil(n / 128) blocks: b float16 peaks (largest magnitude of the block),
then n int8 levels in [-127, 127]; value = anchor + level * (peak / 127), computed in float32 in exactly
that order, so both sides and every verifier get the same bits. bfloat16 layout: n values, rounded to
nearest even. Everything is little-endian. Legend: N values, B blocks.
Source: docs/spec/training.md section 5; the zstandard guards: docs/spec/reliability.md section 1.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import torch
import zstandard
from torch import Tensor

from swarm.errors import BadEncoding, UsageError

BLOCK = 128
LEVELS = 127
VALUES_MAX = 1 << 31
"""Values in one fragment: 8 GiB of float32, far above any fragment one machine trades in a round."""
ZSTD_LEVEL = 1
"""Levels above 1 win under 1% on int8 noise and cost several times the time."""
ZSTD_WINDOW_BYTES_MAX = 8 << 20
"""What level 1 can ever ask for is far less; a frame that wants more memory is hostile."""


def int8_bytes(numel: int) -> int:
    """Length of ``encode_int8`` of ``numel`` values."""
    return 2 * _blocks(numel) + numel


def encode_int8(theta_N: Tensor, anchor_N: Tensor) -> bytes:
    """Quantize float32 ``theta - anchor`` in blocks of 128.

    Raises ``UsageError`` if the difference is not finite or too large for a float16 peak.
    """
    numel = theta_N.numel()
    delta_BK = torch.zeros(_blocks(numel) * BLOCK, dtype=torch.float32)
    torch.sub(theta_N, anchor_N, out=delta_BK[:numel])
    delta_BK = delta_BK.view(-1, BLOCK)
    peak_B = delta_BK.abs().amax(dim=1).to(torch.float16)
    if not bool(torch.isfinite(peak_B).all()):
        raise UsageError("a fragment that is not finite, or too far from its anchor for int8")
    step_B1 = (peak_B.to(torch.float32) / LEVELS).unsqueeze(1)
    # A block of zeros has step 0; any positive divisor gives it level 0.
    levels_BK = delta_BK.div_(torch.where(step_B1 > 0, step_B1, 1.0)).round_()
    levels_N = levels_BK.clamp_(-LEVELS, LEVELS).to(torch.int8).view(-1)[:numel]
    return peak_B.numpy().tobytes() + levels_N.numpy().tobytes()


def decode_int8(payload: bytes, anchor_N: Tensor, numel: int) -> Tensor:
    """The float32 (numel,) values of ``encode_int8``; raises ``BadEncoding`` for anything it never writes."""
    _check_length(payload, int8_bytes(numel))
    blocks = _blocks(numel)
    peak_B = _tensor(payload, np.dtype("<f2"), blocks).to(torch.float32)
    if not bool((torch.isfinite(peak_B) & (peak_B >= 0)).all()):
        raise BadEncoding("int8 blocks with peaks that are negative or not finite")
    level_N = _tensor(payload, np.dtype("i1"), numel, offset=2 * blocks)
    if bool((level_N < -LEVELS).any()):
        raise BadEncoding("an int8 level of -128, which nobody writes")
    out_BK = torch.zeros(blocks * BLOCK, dtype=torch.float32)
    out_BK[:numel] = level_N
    out_BK.view(-1, BLOCK).mul_((peak_B / LEVELS).unsqueeze(1))
    theta_N = out_BK[:numel].add_(anchor_N)
    return _finite(theta_N)


def encode_bf16(theta_N: Tensor) -> bytes:
    """``theta`` as bfloat16; raises ``UsageError`` if it is not finite there."""
    half_N = theta_N.detach().reshape(-1).to(torch.bfloat16)
    if not bool(torch.isfinite(half_N).all()):
        raise UsageError("a tensor that is not finite cannot be sent")
    return half_N.view(torch.int16).numpy().tobytes()


def decode_bf16(payload: bytes, numel: int) -> Tensor:
    """The float32 (numel,) values of ``encode_bf16``; else ``BadEncoding``."""
    _check_length(payload, 2 * numel)
    return _finite(_tensor(payload, np.dtype("<i2"), numel).view(torch.bfloat16).to(torch.float32))


def to_wire(x: Tensor) -> bytes:
    """Activations or gradients as they travel: bfloat16, C order. Raises ``UsageError`` if not finite."""
    return encode_bf16(x)


def from_wire(payload: bytes, shape: Sequence[int]) -> Tensor:
    """What the receiver computes from: float32 of ``shape``; raises ``BadEncoding`` like ``decode_bf16``."""
    return decode_bf16(payload, prod(shape)).view(*shape)


def compress(payload: bytes) -> bytes:
    """zstandard of ``payload``, or ``payload`` itself where that is not shorter."""
    packed = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_content_size=True).compress(payload)
    return packed if len(packed) < len(payload) else payload


def decompress(wire: bytes, num_bytes: int) -> bytes:
    """Undo ``compress``, given the length it was called with; raises ``BadEncoding``.

    The library ignores ``max_output_size`` when the frame states a size, so the stated size and window
    are checked before a byte is allocated.
    """
    if len(wire) == num_bytes:
        return wire
    try:
        head = zstandard.get_frame_parameters(wire)
        if head.content_size != num_bytes or head.window_size > ZSTD_WINDOW_BYTES_MAX:
            raise BadEncoding("a zstandard frame that states another size than was promised")
        unpacker = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES_MAX)
        payload = unpacker.decompress(wire, max_output_size=num_bytes, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise BadEncoding(f"not a zstandard frame: {error}") from None
    _check_length(payload, num_bytes)
    return payload


def _blocks(numel: int) -> int:
    return -(-numel // BLOCK)


def _check_length(payload: bytes, expected: int) -> None:
    if len(payload) != expected:
        raise BadEncoding(f"{len(payload)} bytes where {expected} belong")


def _tensor(payload: bytes, dtype: np.dtype[Any], count: int, *, offset: int = 0) -> Tensor:
    # A copy: torch warns about, and would allow, writing into immutable bytes.
    return torch.from_numpy(np.frombuffer(payload, dtype, count, offset).copy())


def _finite(theta: Tensor) -> Tensor:
    if not bool(torch.isfinite(theta).all()):
        raise BadEncoding("a tensor that is not finite")
    return theta
