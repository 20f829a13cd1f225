"""Operators between values and the bytes that carry them: bfloat16, float32, and blocks of levels.

Core: pure functions of tensors, with the bits of ``gossip/codecs``.

A block is 128 values with one peak, rounded to bfloat16 (activations) or float16 (fragments); its levels follow
from its values and its peak alone. Bytes that no encoder writes are decoded by the same arithmetic, and values
that cannot be sent are encoded by it: an operator is defined for everything, and what must be refused is not
decided here. What is no number is the same one on every machine.

Legend: N values, B blocks, K values of a block.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import nan, prod

import torch
from torch import Tensor
from torch.nn.functional import pad

from swarm.gossip.codecs.int8 import BLOCK, block_count, chunks, steps
from swarm.training.model.exact.operators import Kernels
from swarm.verify.program.operators import Attributes, Operator, Read, Shape, flat_index, one

BFLOAT16, FLOAT16 = 0, 1
"""Forms of a peak."""
PEAK_BYTES = 2
_INFINITY = 0x7F800000
_NO_NUMBER = 0x7FC00000
"""Bits of the one value that is no number."""


@dataclass(frozen=True, slots=True)
class _Blocks:
    """Attributes of the operators of blocks."""

    most: int
    """Largest level."""
    per_byte: int
    """Levels in a byte: 1 or 2."""
    peak: int
    """``BFLOAT16`` or ``FLOAT16``."""


def _blocks(attributes: Attributes) -> _Blocks:
    return _Blocks(*map(int, attributes))


def plain(x: Tensor) -> Tensor:
    """Return values with one bit pattern for what is no number: that of arithmetic depends on the machine."""
    return torch.where(x.isnan(), nan, x)


# --- peaks of blocks ---


def _rounded_bfloat16(bits: Tensor) -> Tensor:
    """Return the int32 bits of float32 values as bfloat16 to nearest even, in the upper halves."""
    bits = torch.where((bits & 0x7FFFFFFF) > _INFINITY, _NO_NUMBER, bits)
    return (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16


def _rounded(peak_B: Tensor, form: int) -> Tensor:
    if form == BFLOAT16:
        return _rounded_bfloat16(peak_B.view(torch.int32)).view(torch.float32)
    return plain(peak_B).to(torch.float16).to(torch.float32)


def peaks_of(x_N: Tensor, form: int) -> Tensor:
    """Return the largest magnitude of each block as float32 B, rounded to the form of a peak."""
    # As whole numbers the bits of magnitudes have their order, and what is no number is largest.
    bits_N = x_N.reshape(-1).contiguous().view(torch.int32) & 0x7FFFFFFF
    bits_BK = pad(bits_N, (0, -len(bits_N) % BLOCK)).view(-1, BLOCK)
    return _rounded(bits_BK.amax(1).view(torch.float32), form)


def _peaks(_: Kernels, attributes: Attributes, __: Shape, inputs: Sequence[Tensor]) -> Tensor:
    x_N = inputs[0].reshape(-1)
    pieces = [peaks_of(x_N[part], int(attributes[0])) for part, _, _ in chunks(x_N.numel())]
    return torch.cat(pieces)


def _peaks_element(
    attributes: Attributes, _: Shape, shapes: Sequence[Shape], index: tuple[int, ...], read: Read
) -> Tensor:
    start = index[0] * BLOCK
    values = read(0, start, min(BLOCK, prod(shapes[0]) - start))
    return one(peaks_of(values, int(attributes[0])))


# --- levels of blocks ---


def levels_of(x_N: Tensor, peak_B: Tensor, most: int) -> Tensor:
    """Return the levels of values in whole blocks, the last maybe partly filled, as float32 N."""
    step_N = _spread(steps(peak_B, most).view(-1), x_N)
    # A block of zeros has step 0; any positive divisor gives it level 0.
    level_N = (x_N / torch.where(step_N > 0, step_N, 1.0)).nan_to_num(0.0)
    # Added to, a zero is the one without a sign, as a level is a whole number.
    return level_N.round().clamp(-most, most) + 0.0


def _spread(of_B: Tensor, like_N: Tensor) -> Tensor:
    """Return for each value what its block has; a single number is every value's."""
    return of_B if len(of_B) == 1 else of_B.repeat_interleave(BLOCK)[: len(like_N)]


def _level_bytes(level_N: Tensor, per_byte: int) -> Tensor:
    byte_N = level_N.to(torch.int8).view(torch.uint8)
    if per_byte == 1:
        return byte_N
    pairs = pad(byte_N, (0, len(byte_N) % 2)).view(-1, 2)
    return (pairs[:, 0] & 0x0F) | (pairs[:, 1] << 4)


def _byte_levels(bytes_M: Tensor, per_byte: int) -> Tensor:
    """Return the levels in bytes as float32; of two in a byte the earlier one is in the low half."""
    if per_byte == 1:
        return bytes_M.contiguous().view(torch.int8).float()
    pairs = torch.stack((bytes_M & 0x0F, bytes_M >> 4), 1).view(-1)
    return (pairs ^ 8).float() - 8.0


def _peak_bytes(peak_B: Tensor, form: int) -> Tensor:
    if form == BFLOAT16:
        return _upper_bytes(peak_B.contiguous().view(torch.int32))
    return peak_B.to(torch.float16).view(torch.uint8)


def _byte_peaks(bytes_2B: Tensor, form: int) -> Tensor:
    if form == BFLOAT16:
        return _from_upper(bytes_2B)
    halves_B = bytes_2B.clone().view(
        torch.float16
    )  # in a place of its own, since a half must be aligned
    return plain(halves_B.to(torch.float32))


def _block_bytes(
    _: Kernels, attributes: Attributes, shape: Shape, inputs: Sequence[Tensor]
) -> Tensor:
    form, x_N, peak_B = _blocks(attributes), inputs[0].reshape(-1), inputs[1]
    pieces = [_peak_bytes(peak_B, form.peak)]
    for part, _count, rows in chunks(x_N.numel()):
        level_C = levels_of(x_N[part], peak_B[rows], form.most)
        pieces.append(_level_bytes(level_C, form.per_byte))
    return torch.cat(pieces).view(shape)


def _block_bytes_element(
    attributes: Attributes, _: Shape, shapes: Sequence[Shape], index: tuple[int, ...], read: Read
) -> Tensor:
    form, at = _blocks(attributes), index[0]
    behind = at - PEAK_BYTES * prod(shapes[1])
    if behind < 0:
        peak = read(1, at // PEAK_BYTES, 1)
        return one(_peak_bytes(peak, form.peak)[at % PEAK_BYTES])
    start = behind * form.per_byte
    values = read(0, start, min(form.per_byte, prod(shapes[0]) - start))
    levels = levels_of(values, read(1, start // BLOCK, 1), form.most)
    return one(_level_bytes(levels, form.per_byte))


def _block_values(
    _: Kernels, attributes: Attributes, shape: Shape, inputs: Sequence[Tensor]
) -> Tensor:
    form, numel, wire = _blocks(attributes), prod(shape), inputs[0]
    behind = PEAK_BYTES * block_count(numel)
    step_B = steps(_byte_peaks(wire[:behind], form.peak), form.most).view(-1)
    pieces = list[Tensor]()
    for part, count, rows in chunks(numel):
        first, stop = part.start // form.per_byte, -(-part.stop // form.per_byte)
        level_C = _byte_levels(wire[behind + first : behind + stop], form.per_byte)[:count]
        pieces.append(plain(level_C * _spread(step_B[rows], level_C)))
    return torch.cat(pieces).view(shape)


def _block_values_element(
    attributes: Attributes, shape: Shape, _: Sequence[Shape], index: tuple[int, ...], read: Read
) -> Tensor:
    form, at = _blocks(attributes), flat_index(shape, index)
    peak = _byte_peaks(read(0, PEAK_BYTES * (at // BLOCK), PEAK_BYTES), form.peak)
    behind = PEAK_BYTES * block_count(prod(shape))
    levels = _byte_levels(read(0, behind + at // form.per_byte, 1), form.per_byte)
    return one(plain(levels[at % form.per_byte] * steps(peak, form.most)))


# --- bfloat16 and float32 ---


def _upper_bytes(bits_N: Tensor) -> Tensor:
    return (bits_N >> 16).to(torch.int16).view(torch.uint8)


def _from_upper(bytes_2N: Tensor) -> Tensor:
    low, high = bytes_2N.to(torch.int32).view(-1, 2).unbind(1)
    return (low << 16 | high << 24).view(torch.float32)


def _bfloat16_bytes(x_N: Tensor) -> Tensor:
    return _upper_bytes(_rounded_bfloat16(x_N.contiguous().view(torch.int32)))


def _float32_bytes(x_N: Tensor) -> Tensor:
    return x_N.contiguous().view(torch.uint8)


def _from_float32(bytes_4N: Tensor) -> Tensor:
    return bytes_4N.clone().view(
        torch.float32
    )  # in a place of its own, since a float must be aligned


def _to_bytes(function: Callable[[Tensor], Tensor], width: int) -> Operator:
    """Return the operator that writes every value as ``width`` bytes."""

    def whole(_: Kernels, __: Attributes, shape: Shape, inputs: Sequence[Tensor]) -> Tensor:
        return function(inputs[0].reshape(-1)).view(shape)

    def element(
        _: Attributes, __: Shape, ___: Sequence[Shape], index: tuple[int, ...], read: Read
    ) -> Tensor:
        return one(function(read(0, index[0] // width, 1))[index[0] % width])

    return Operator(whole, element)


def _from_bytes(function: Callable[[Tensor], Tensor], width: int) -> Operator:
    """Return the operator that reads a value from every ``width`` bytes."""

    def whole(_: Kernels, __: Attributes, shape: Shape, inputs: Sequence[Tensor]) -> Tensor:
        return plain(function(inputs[0])).view(shape)

    def element(
        _: Attributes, shape: Shape, __: Sequence[Shape], index: tuple[int, ...], read: Read
    ) -> Tensor:
        return one(plain(function(read(0, width * flat_index(shape, index), width))))

    return Operator(whole, element)


WIRE: dict[str, Operator] = {
    "block_peaks": Operator(_peaks, _peaks_element),
    "block_bytes": Operator(_block_bytes, _block_bytes_element),
    "block_values": Operator(_block_values, _block_values_element),
    "bfloat16_bytes": _to_bytes(_bfloat16_bytes, 2),
    "bfloat16_values": _from_bytes(_from_upper, 2),
    "float32_bytes": _to_bytes(_float32_bytes, 4),
    "float32_values": _from_bytes(_from_float32, 4),
}
"""Operators of values on a wire."""
