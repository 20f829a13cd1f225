"""Study the product of a profile ``int8/1``, whose sums no order changes. No run can have this profile.

Core: pure functions of tensors; the compiled kernel is to this module what torch is to the others, as in
``native``. docs/spec/int8.md has the reasons, the figures, and what is unsolved.

A row of each operand is cut into blocks along the terms of its sums. A block has an exponent e and levels q,
whole numbers in [-127, 127]: a value is about q 2^e. A product is

    S_n   = sum of q_a q_b over block n                                 int32, exact
    total = sum over n of S_n 2^24 / 2^s_n, to the nearest              int64, exact sums
    c     = float32(total 2^(E_a + E_b - 24))                           one rounding

where E is the largest exponent of a row, and s_n how far the exponents of a block lie below both of them.

Legend: M rows and N columns of the product, K terms, B blocks.
"""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from swarm.errors import UsageError
from swarm.training.model.exact.native import NotBuilt

NAME = "int8/1"
"""Name of the profile that this would be part of: no table of operators has it."""
LEVEL_MAX = 127
BLOCK = 128
"""Terms of a block, where nothing else is said; a block of all terms, or more, gives a row one exponent."""
DEPTH_MAX = 1 << 15
"""Most terms of a product: 2^15 x 127^2 x 2^24 is below 2^53, so that float64 holds a total exactly."""
INT32_DEPTH_MAX = (2**31 - 1) // LEVEL_MAX**2
"""Most terms that int32 can add up: 133,144."""
UNIT_BITS = 24
EXPONENT_MIN = -160
"""Exponent of a block of zeros, below that of every float32."""
ISAS = ("portable", "vnni")
"""Instruction sets, in the order of int8.c."""
VERSION = 1
_SHIFT_MAX = 62
_PATH = __file__.rpartition("int8")[0] + "_int8.abi3.so"
_Four = ctypes.c_int64 * 4


@dataclass(frozen=True, slots=True)
class Levels:
    """Rows of an operand as levels, with the exponents of their blocks."""

    levels_MK: Tensor
    """int8."""
    exponent_MB: Tensor
    """int32."""
    block: int

    @property
    def most(self) -> Tensor:
        """The largest exponent of each row, M."""
        return self.exponent_MB.amax(1)

    @property
    def below(self) -> Tensor:
        """The distance of each block's exponent from the largest of its row, MB."""
        return self.most[:, None] - self.exponent_MB

    def values(self) -> Tensor:
        """Return the values that the levels stand for, float64: exact."""
        exponent_MK = self.exponent_MB.repeat_interleave(self.block, 1)[
            :, : self.levels_MK.shape[1]
        ]
        return self.levels_MK.double() * powers_of_two(exponent_MK)


def quantized(x_MK: Tensor, block: int = BLOCK) -> Levels:
    """Return the levels of float32 rows, rounded to nearest even, under the least exponent that fits a block.

    Raises ``UsageError`` for values that are not finite, no terms, too many of them, or no block.
    """
    rows, depth = x_MK.shape
    if not 0 < depth <= DEPTH_MAX or block < 1:
        raise UsageError(f"a product has 1 to {DEPTH_MAX} terms, not {depth} in blocks of {block}")
    if not bool(x_MK.isfinite().all()):
        raise UsageError("levels of values that are not finite")
    block = min(block, depth)
    blocks = -(-depth // block)
    padded = torch.zeros(rows, blocks * block, dtype=torch.float64)
    padded[:, :depth] = x_MK
    x_MBK = padded.view(rows, blocks, block)
    mantissa_MB, exponent_MB = torch.frexp(x_MBK.abs().amax(2))  # the peak is in [2^(e - 1), 2^e)
    exponent_MB = exponent_MB - 7 + (mantissa_MB > LEVEL_MAX / 128)
    exponent_MB = torch.where(mantissa_MB > 0, exponent_MB, EXPONENT_MIN).int()
    level_MBK = (x_MBK * powers_of_two(-exponent_MB[:, :, None])).round_()
    levels_MK = level_MBK.view(rows, -1)[:, :depth].to(torch.int8).contiguous()
    return Levels(levels_MK, exponent_MB, block)


def powers_of_two(exponents: Tensor) -> Tensor:
    """Return 2^e in float64, for e in [-1022, 1023]; torch's ldexp goes through float32."""
    return ((exponents.long() + 1023) << 52).view(torch.float64)


IntegerProduct = Callable[[Tensor, Tensor], Tensor]


def whole_numbers(a_MK: Tensor, b_NK: Tensor) -> Tensor:
    """Return the sums of a block, MN, by torch's int64: the definition."""
    return a_MK.long() @ b_NK.long().t()


def by_torch(a_MK: Tensor, b_NK: Tensor) -> Tensor:
    """Return the same by torch's own int8 product, which tensor cores compute where there are some.

    Of one term it is wrong in torch 2.13 on the CPU, so those are left to ``whole_numbers``.
    """
    if a_MK.shape[1] == 1:
        return whole_numbers(a_MK, b_NK)
    found: Tensor = torch.ops.aten._int_mm(a_MK.contiguous(), b_NK.contiguous().t())
    return found


def product(a: Levels, b: Levels, sums: IntegerProduct = whole_numbers) -> Tensor:
    """Return a b^T, MN float32, of rows of levels: the reference, over any function for the sums of a block."""
    _check(a, b)
    depth = a.levels_MK.shape[1]
    total_MN = torch.zeros(len(a.levels_MK), len(b.levels_MK), dtype=torch.int64)
    for block, first in enumerate(range(0, depth, a.block)):
        here = slice(first, first + a.block)
        sum_MN = sums(a.levels_MK[:, here], b.levels_MK[:, here]).long()
        total_MN += scaled(sum_MN, a.below[:, block, None] + b.below[:, block])
    exponent_MN = a.most[:, None] + b.most - UNIT_BITS
    return (total_MN.double() * powers_of_two(exponent_MN)).float()


def scaled(sum_MN: Tensor, below_MN: Tensor) -> Tensor:
    """Return sums of blocks in the unit of the total, to the nearest, halves upwards."""
    shift_MN = below_MN.clamp(max=_SHIFT_MAX).long()
    half_MN = torch.where(shift_MN > 0, 1 << (shift_MN - 1).clamp(min=0), 0)
    return ((sum_MN << UNIT_BITS) + half_MN) >> shift_MN


@dataclass(frozen=True, slots=True)
class CompiledProduct:
    """``product``, computed by one instruction set of int8.c."""

    library: ctypes.CDLL
    isa: str

    def __call__(self, a: Levels, b: Levels) -> Tensor:
        """Compute ``product`` in C; raises ``UsageError`` as it does."""
        _check(a, b)
        numbers = _Four(len(a.levels_MK), len(b.levels_MK), a.levels_MK.shape[1], a.block)
        out_MN = torch.empty(numbers[0], numbers[1])
        held = [
            tensor.contiguous()
            for side in (a, b)
            for tensor in (side.levels_MK, side.below, side.most)
        ]
        addresses = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (*held, out_MN)]
        status = self.library.int8_product(ISAS.index(self.isa), numbers, *addresses)
        if status == 1:
            raise MemoryError("no memory for a product of int8")
        assert status == 0, f"the product of int8 answered {status}"
        return out_MN


def load(isa: str | None = None, path: str = "") -> CompiledProduct:
    """Return the compiled product for an instruction set, or the best of this CPU; raises ``NotBuilt``."""
    library = _open(path or _PATH)
    supported = [name for name in ISAS if library.int8_supported() >> ISAS.index(name) & 1]
    if isa is not None and isa not in supported:
        raise NotBuilt(f"the int8 product for {isa} is not built, or this CPU cannot run it")
    return CompiledProduct(library, isa or supported[-1])


@lru_cache(maxsize=4)
def _open(path: str) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(path)
        version = int(library.int8_version())
    except (OSError, AttributeError) as error:
        raise NotBuilt(f"the compiled int8 product cannot be loaded: {error}") from None
    if version != VERSION:
        raise NotBuilt("the compiled int8 product was built from another version")
    return library


def _check(a: Levels, b: Levels) -> None:
    if a.block != b.block or a.levels_MK.shape[1] != b.levels_MK.shape[1]:
        raise UsageError("operands of a product have the same terms, in the same blocks")
