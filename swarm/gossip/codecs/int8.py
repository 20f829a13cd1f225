"""Encode fragments as blockwise int8, bfloat16 or float32, with zstandard on top if that is shorter.

Core: pure functions. The only module that unpacks bytes of a peer by zstandard.

int8 layout of n values in b = ceil(n / 128) blocks: b float16 peaks (largest magnitude of the block), then n
int8 levels in [-127, 127]; value = anchor + level * (peak / 127), computed in float32 in exactly that order, so
both sides and every verifier get the same bits. bfloat16 layout: n values, rounded to nearest even. Everything
is little-endian. Legend: N values, B blocks, K values of a block, C values processed at a time.

Source: docs/spec/training.md section 5; the zstandard guards: docs/spec/reliability.md section 1.
"""

from collections.abc import Iterator
from math import isfinite, sqrt

import numpy as np
import numpy.typing as npt
import torch
import zstandard
from torch import Tensor

from swarm.errors import BadEncoding, UsageError
from swarm.gossip.codecs import native
from swarm.types import Bytes

BLOCK = native.BLOCK
LEVELS = 127
CHUNK = 1 << 16
"""Values processed at a time: every pass over them stays in a core's cache, four times as fast as memory."""
VALUES_MAX = 1 << 31
"""Values in one fragment: 8 GiB of float32, far above any fragment one machine trades in a round."""
_BF16_EXPONENT = 0x7F80
SAMPLED_BLOCKS = 4_096
"""Blocks whose peaks tell how coarse a fragment is, to some percent."""
ZSTD_LEVEL = 1
"""Compression level: levels above 1 win under 1% on int8 noise and cost several times the time."""
ZSTD_WINDOW_BYTES_MAX = 8 << 20
"""Bytes of the largest window accepted: level 1 needs far less, and a frame that wants more is hostile."""


def int8_bytes(numel: int) -> int:
    """Return the length in bytes of ``encode_int8`` of ``numel`` values."""
    return 2 * block_count(numel) + numel


def encode_int8(theta_N: Tensor, anchor_N: Tensor) -> Bytes:
    """Quantize float32 ``theta - anchor`` in blocks of 128.

    Raises ``UsageError`` if the difference is not finite or too large for a float16 peak.
    """
    numel = theta_N.numel()
    blocks = block_count(numel)
    payload = np.empty(int8_bytes(numel), np.uint8)
    peaks_B = payload[: 2 * blocks].view("<f2")
    level_N = payload[2 * blocks :].view(np.int8)
    write_levels(theta_N, anchor_N, LEVELS, peaks_B, level_N)
    check_peaks_sent(peaks_B)
    return payload.data.toreadonly()


def decode_int8(payload: Bytes, anchor_N: Tensor, numel: int) -> Tensor:
    """Decode ``encode_int8`` to float32 (numel,) values; raises ``BadEncoding`` for what it never writes."""
    check_length(payload, int8_bytes(numel))
    blocks = block_count(numel)
    step_B1 = steps(read_peaks(payload, blocks), LEVELS)
    level_N = np.frombuffer(payload, np.int8, numel, 2 * blocks)
    theta_N = roomy(numel)
    read_levels(step_B1, level_N, LEVELS, anchor_N, theta_N)
    return theta_N


def encode_bf16(theta_N: Tensor) -> bytes:
    """Encode ``theta`` as bfloat16; raises ``UsageError`` if it is not finite there."""
    half_N = theta_N.detach().reshape(-1).to(torch.bfloat16)
    bits_N = half_N.view(torch.int16).numpy().view("<u2")
    if not _is_finite_bf16(bits_N):
        raise UsageError("a tensor that is not finite cannot be sent")
    return bits_N.tobytes()


def decode_bf16(payload: Bytes, numel: int) -> Tensor:
    """Decode ``encode_bf16`` to float32 (numel,) values; raises ``BadEncoding`` for what it never writes."""
    check_length(payload, 2 * numel)
    bits_N = np.frombuffer(payload, "<u2")
    if not _is_finite_bf16(bits_N):
        raise BadEncoding("a tensor that is not finite")
    # A bfloat16 is the upper half of a float32.
    return torch.from_numpy(np.left_shift(bits_N, 16, dtype=np.uint32).view(np.float32))


def encode_f32(theta_N: Tensor) -> Bytes:
    """Return ``theta`` as little-endian float32, not copied; raises ``UsageError`` if it is not finite."""
    flat_N = theta_N.detach().reshape(-1).contiguous()
    if not is_finite(flat_N):
        raise UsageError("a tensor that is not finite cannot be sent")
    values_N = flat_N.numpy().astype("<f4", copy=False)
    # Python refuses to cast an empty view.
    return values_N.data.cast("B").toreadonly() if values_N.size else b""


def decode_f32(payload: Bytes, numel: int) -> Tensor:
    """Decode ``encode_f32`` to float32 (numel,) values; raises ``BadEncoding`` for what it never writes."""
    check_length(payload, 4 * numel)
    theta_N = torch.from_numpy(np.frombuffer(payload, "<f4").astype(np.float32))
    if not is_finite(theta_N):
        raise BadEncoding("a tensor that is not finite")
    return theta_N


def compress(payload: Bytes) -> Bytes:
    """Return ``payload`` as a zstandard frame, or unchanged if that is not shorter."""
    packed = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_content_size=True).compress(payload)
    return packed if len(packed) < len(payload) else payload


def decompress(wire: Bytes, num_bytes: int) -> Bytes:
    """Undo ``compress``, given the length it was called with; raises ``BadEncoding``.

    The library ignores ``max_output_size`` when the frame states a size, so the stated size and window are
    checked before a byte is allocated.
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
    check_length(payload, num_bytes)
    return payload


def roomy(numel: int) -> Tensor:
    """Return an uninitialised float32 vector of ``numel`` values.

    It is allocated by numpy, which asks the system for large pages as torch does not: the first touch costs
    most of a new vector of 40 MB.
    """
    return torch.from_numpy(np.empty(numel, np.float32))


def block_count(numel: int) -> int:
    """Return the number of blocks that hold ``numel`` values; the last may be partly filled."""
    return -(-numel // BLOCK)


def chunks(numel: int) -> Iterator[tuple[slice, int, slice]]:
    """Yield (slice of values, their number, slice of blocks) for each ``CHUNK`` of ``numel`` values."""
    for start in range(0, numel, CHUNK):
        count = min(CHUNK, numel - start)
        first = start // BLOCK
        yield slice(start, start + count), count, slice(first, first + block_count(count))


def whole_blocks(delta_C: Tensor, count: int) -> Tensor:
    """Return the first ``count`` values as BK, after writing zeros behind them in the last block."""
    length = block_count(count) * BLOCK
    delta_C[count:length] = 0.0
    return delta_C[:length].view(-1, BLOCK)


def write_levels(
    theta_N: Tensor,
    anchor_N: Tensor,
    most: int,
    peaks_B: npt.NDArray[np.float16],
    levels_N: npt.NDArray[np.int8],
    *,
    residual_N: Tensor | None = None,
    left_N: Tensor | None = None,
) -> None:
    """Quantize float32 ``(theta - anchor) + residual`` to levels in [-most, most] of a peak for each block.

    The quantization error goes to ``left_N``. Values that are not finite, or too large, make peaks that are not
    finite.
    """
    kernels = native.load()
    if kernels is not None:
        kernels.encode(
            *(theta_N, anchor_N, most, peaks_B, levels_N), residual_N=residual_N, left_N=left_N
        )
        return
    delta_C, scaled_C = torch.empty(CHUNK), torch.empty(CHUNK)
    for part, count, rows in chunks(theta_N.numel()):
        delta_BK = whole_blocks(delta_C, count)
        torch.sub(theta_N[part], anchor_N[part], out=delta_C[:count])
        if residual_N is not None:
            delta_C[:count].add_(residual_N[part])
        scaled_BK = scaled_C[: delta_BK.numel()].view(-1, BLOCK)
        torch.abs(delta_BK, out=scaled_BK)
        peak_B = scaled_BK.amax(dim=1).to(torch.float16)
        peaks_B[rows] = peak_B.numpy()
        step_B1 = steps(peak_B.to(torch.float32), most)
        # A block of zeros has step 0; any positive divisor gives it level 0.
        torch.div(delta_BK, torch.where(step_B1 > 0, step_B1, 1.0), out=scaled_BK)
        scaled_BK.round_().clamp_(-most, most)
        levels_N[part] = scaled_C[:count].to(torch.int8).numpy()
        if left_N is not None:
            scaled_BK.mul_(step_B1)
            torch.sub(delta_C[:count], scaled_C[:count], out=left_N[part])


def read_levels(
    step_B1: Tensor, levels_N: npt.NDArray[np.int8], most: int, anchor_N: Tensor, theta_N: Tensor
) -> None:
    """Write ``anchor + level * step``; raises ``BadEncoding`` for levels below -most or a result not finite."""
    kernels = native.load()
    if kernels is not None:
        kernels.decode(step_B1.view(-1), levels_N, most, anchor_N, theta_N)
        return
    if levels_N.size and int(levels_N.min()) < -most:
        raise BadEncoding(f"a level below {-most}, which no encoder writes")
    values_C = torch.empty(CHUNK)
    for part, count, rows in chunks(len(levels_N)):
        np.copyto(values_C[:count].numpy(), levels_N[part])
        values_C[: block_count(count) * BLOCK].view(-1, BLOCK).mul_(step_B1[rows])
        torch.add(values_C[:count], anchor_N[part], out=theta_N[part])
        if not is_finite(theta_N[part]):
            raise BadEncoding("a tensor that is not finite")


def rounding_rms(theta_N: Tensor, anchor_N: Tensor, most: int) -> float:
    """Return about the root mean square of what quantization to ``most`` levels each way rounds off.

    An error is taken as uniform over one level, which is the peak of its block over ``most``, and at most twice
    ``SAMPLED_BLOCKS`` blocks are looked at, as far apart as possible. A block that is not full does not count,
    unless there is no other.
    """
    count, width = max(theta_N.numel() // BLOCK, 1), min(BLOCK, theta_N.numel())
    step = max(count // SAMPLED_BLOCKS, 1)
    theta_BK, anchor_BK = (
        x[: count * width].view(count, width)[::step] for x in (theta_N, anchor_N)
    )
    peak_B = (theta_BK - anchor_BK).abs_().amax(dim=1).double()
    return sqrt(float(peak_B.square_().mean()) / 12) / most


def is_finite(values_C: Tensor) -> bool:
    """Return True if all values are finite.

    A sum is finite only if its terms are, and costs a thirtieth of testing each value.
    """
    return isfinite(float(values_C.sum())) or bool(torch.isfinite(values_C).all())


def steps(peak_B: Tensor, most: int) -> Tensor:
    """Return step_B1: the value of one level in each block."""
    return (peak_B / most).unsqueeze(1)


def read_peaks(payload: Bytes, blocks: int) -> Tensor:
    """Read the float32 peaks at the head of a payload; raises ``BadEncoding`` for what no encoder writes."""
    peak_B = np.frombuffer(payload, "<f2", blocks).astype(np.float32)
    if not bool((np.isfinite(peak_B) & (peak_B >= 0)).all()):
        raise BadEncoding("blocks with peaks that are negative or not finite")
    return torch.from_numpy(peak_B)


def check_peaks_sent(peaks_B: npt.NDArray[np.float16]) -> None:
    """Raise ``UsageError`` if a peak is not finite, so that its block cannot be sent."""
    if not np.isfinite(peaks_B).all():
        raise UsageError(
            "a fragment that is not finite, or too far from its anchor to be quantized"
        )


def check_length(payload: Bytes, expected: int) -> None:
    """Raise ``BadEncoding`` unless a payload is as long as it must be."""
    if len(payload) != expected:
        raise BadEncoding(f"{len(payload)} bytes where {expected} belong")


def _is_finite_bf16(bits_N: npt.NDArray[np.uint16]) -> bool:
    """Return True if no exponent is all ones; takes an eighth of the time of torch's own test."""
    return not bits_N.size or int((bits_N & _BF16_EXPONENT).max()) < _BF16_EXPONENT
