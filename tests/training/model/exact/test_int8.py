"""Sums of whole numbers: every order, blocking and thread count gives the same bits; no run can use them."""

from contextlib import suppress
from fractions import Fraction
from random import Random

import pytest
import torch
from torch import Tensor

from swarm.config.bounds import check_spec
from swarm.config.load import parse_run_file
from swarm.errors import BadConfig, UsageError
from swarm.primitives.codec import replace
from swarm.training.model import profiles
from swarm.training.model.exact import int8
from swarm.training.model.exact.int8 import Levels, by_torch, product, quantized
from swarm.training.model.exact.native import NotBuilt
from swarm.training.model.exact.selftest import numbers
from tests.training.model.exact.inputs import assert_same_bits
from tests.training.pipeline import a_spec

SIZES = [(1, 1, 1), (5, 7, 3), (8, 4, 32), (9, 130, 33), (33, 300, 70)]
BLOCKS = [1, 4, 30, 128, int8.DEPTH_MAX]


def isas_here() -> list[str]:
    found = list[str]()
    for isa in int8.ISAS:
        with suppress(NotBuilt):
            found.append(int8.load(isa).isa)
    return found


def operands(size: tuple[int, int, int], block: int) -> tuple[Levels, Levels]:
    """Rows whose blocks are up to 2^40 apart, and a row of zeros."""
    rows, depth, columns = size
    a, b = numbers(1, rows, depth, spread=20), numbers(2, columns, depth, spread=20)
    b[0] = 0.0
    return quantized(a, block), quantized(b, block)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("size", SIZES)
def test_every_way_to_add_gives_the_same_bits(size: tuple[int, int, int], block: int) -> None:
    a, b = operands(size, block)
    expected = product(a, b)
    assert_same_bits(product(a, b, by_torch), expected)
    for isa in isas_here():
        assert_same_bits(int8.load(isa)(a, b), expected)


@pytest.mark.parametrize("isa", int8.ISAS)
def test_the_compiled_product_is_here(isa: str) -> None:
    """Or says why it is not."""
    try:
        found = int8.load(isa)
    except NotBuilt as missing:
        pytest.skip(f"the compiled int8 product did not run: {missing}")
    assert found.isa == isa


def test_every_number_of_threads_gives_the_same_bits() -> None:
    a, b = operands((64, 512, 64), 128)
    expected, before = product(a, b), torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            assert_same_bits(product(a, b, by_torch), expected)
    finally:
        torch.set_num_threads(before)


def shuffled(levels: Levels, order: list[int]) -> Levels:
    """Terms in another order; whole blocks with their exponents, if ``order`` moves those."""
    return Levels(levels.levels_MK[:, order], levels.exponent_MB, levels.block)


def test_every_order_of_the_terms_gives_the_same_bits() -> None:
    a, b = operands((5, 96, 4), 32)
    expected = product(a, b)
    dice = Random(1)
    for _ in range(5):
        order = [first + i for first in (0, 32, 64) for i in dice.sample(range(32), 32)]
        assert_same_bits(product(shuffled(a, order), shuffled(b, order)), expected)
        moved = dice.sample(range(3), 3)
        order = [32 * block + i for block in moved for i in range(32)]
        left, right = (
            Levels(side.levels_MK[:, order], side.exponent_MB[:, moved], 32) for side in (a, b)
        )
        assert_same_bits(product(left, right), expected)


def test_the_sum_is_that_of_fractions() -> None:
    """One element, term by term in Python's own numbers: what a judge of a dispute would do."""
    a, b = operands((3, 40, 3), 8)
    found = product(a, b)
    below = (a.below[:, None] + b.below[None]).tolist()
    for i in range(3):
        for j in range(3):
            total = 0
            for n, shift in enumerate(below[i][j]):
                here = slice(8 * n, 8 * n + 8)
                terms = zip(
                    a.levels_MK[i, here].tolist(), b.levels_MK[j, here].tolist(), strict=True
                )
                exact = Fraction(sum(x * y for x, y in terms) << 24, 1 << shift)
                total += (2 * exact + 1) // 2  # the nearest, halves upwards
            unit = Fraction(2) ** int(a.most[i] + b.most[j] - 24)
            assert float(found[i, j]) == float(
                torch.tensor(float(total * unit), dtype=torch.float64).float()
            )


def test_the_largest_sums_there_are_fit() -> None:
    assert int8.INT32_DEPTH_MAX == 133_144
    assert int8.INT32_DEPTH_MAX * 127**2 < 2**31 <= (int8.INT32_DEPTH_MAX + 1) * 127**2
    assert int8.DEPTH_MAX * 127**2 << int8.UNIT_BITS < 2**53
    ones = torch.full((1, int8.DEPTH_MAX), 127.0)
    for block in (128, int8.DEPTH_MAX):
        side = quantized(ones, block)
        expected = torch.tensor([[127.0**2 * int8.DEPTH_MAX]])
        assert_same_bits(product(side, side), expected)
        for isa in isas_here():
            assert_same_bits(int8.load(isa)(side, side), expected)


@pytest.mark.parametrize("peak", [127.0, 127.5, 128.0, 1.0, 3e38, 1e-42, 2.0**-149])
def test_levels_fit_and_are_as_fine_as_they_can_be(peak: float) -> None:
    x = torch.tensor([[peak, -peak / 3, 0.0, peak / 1000]])
    levels = quantized(x)
    most = int(levels.levels_MK.abs().max())
    assert 63 <= most <= 127
    step = 2.0 ** int(levels.exponent_MB)
    assert float((levels.values() - x.double()).abs().max()) <= step / 2


def test_what_cannot_be_levels_is_refused() -> None:
    for bad in (torch.tensor([[1.0, float("nan")]]), torch.tensor([[float("inf")]])):
        with pytest.raises(UsageError, match="not finite"):
            quantized(bad)
    with pytest.raises(UsageError, match="terms"):
        quantized(torch.zeros(1, int8.DEPTH_MAX + 1))
    with pytest.raises(UsageError, match="terms"):
        quantized(torch.zeros(2, 0))
    a = quantized(torch.ones(2, 8), 4)
    for other in (quantized(torch.ones(2, 8), 8), quantized(torch.ones(2, 9), 4)):
        with pytest.raises(UsageError, match="same terms"):
            product(a, other)


def error(x: Tensor, y: Tensor, block: int) -> float:
    truth = x.double() @ y.double().t()
    found = product(quantized(x, block), quantized(y, block)).double()
    return float((found - truth).norm() / truth.norm())


def test_small_blocks_hold_outliers_off() -> None:
    x, y = numbers(1, 32, 512), numbers(2, 32, 512)
    assert error(x, y, 128) < 0.02
    x[:, 5] *= 100.0
    y[:, 300] *= 100.0
    assert error(x, y, 32) < error(x, y, 512) / 2


def test_no_run_can_have_this_profile() -> None:
    with pytest.raises(BadConfig, match="int8/1"):
        profiles.table(int8.NAME)
    with pytest.raises(BadConfig, match="int8/1"):
        profiles.table_on(int8.NAME, "cuda:0")
    with pytest.raises(BadConfig, match="numerics"):
        check_spec(replace(a_spec(), numerics=int8.NAME))
    with pytest.raises(BadConfig, match="numerics"):
        parse_run_file('[run]\nname = "a"\nnumerics = "int8/1"\n', "run.toml")
