"""The reference rounds once per term, in the order it says, and its functions are what their names say."""

import math
import random
from fractions import Fraction

import numpy as np
import pytest
import torch

from swarm.training.model.exact import reference
from swarm.training.model.exact.selftest import numbers
from tests.training.model.exact.inputs import assert_same_bits, hard


def rounded(exact: Fraction) -> float:
    """The nearest float32, halves to even, without any floating point on the way."""
    if exact == 0:
        return 0.0
    size = abs(exact)
    exponent = max(size.numerator.bit_length() - size.denominator.bit_length(), -126)
    while size >= Fraction(2) ** (exponent + 1):
        exponent += 1
    while exponent > -126 and size < Fraction(2) ** exponent:
        exponent -= 1
    unit = Fraction(2) ** (exponent - 23)
    return math.copysign(float(round(size / unit) * unit), exact)


@pytest.mark.rule("T1a")
@pytest.mark.parametrize("scale", [1.0, 2.0**-60, 2.0**-75])
def test_fma_rounds_once(scale: float) -> None:
    a, b = numbers(1, 400, spread=30) * scale, numbers(2, 400, spread=30) * scale
    c = -(a * b)  # cancellation, so that a second rounding would show
    c[::2] = hard(3, 200, scale=scale * scale)
    answer = reference.fma(a, b, c).tolist()
    for x, y, z, ours in zip(a.tolist(), b.tolist(), c.tolist(), answer, strict=True):
        assert ours == rounded(Fraction(x) * Fraction(y) + Fraction(z))


def test_fma_of_halfway_cases_rounds_to_even() -> None:
    one, tiny = torch.tensor([1.0, 1.0, 1.0]), torch.tensor([2.0**-24, 2.0**-24, 2.0**-24])
    addend = torch.tensor([1.0, 1.0 + 2.0**-23, 1.0 - 2.0**-24])
    expected = [rounded(Fraction(float(x)) + Fraction(1, 2**24)) for x in addend]
    assert reference.fma(one, tiny, addend).tolist() == expected
    nudged = torch.tensor([1.0 + 2.0**-23])  # the product is just above half a unit
    assert float(reference.fma(nudged, tiny[:1], torch.ones(1))) == 1.0 + 2.0**-23


@pytest.mark.rule("T1a")
def test_a_product_adds_in_the_order_of_k() -> None:
    a, b = numbers(1, 3, 40), numbers(2, 40, 5)
    total = torch.zeros(3, 5)
    for k in range(40):
        total = reference.fma(a[:, k : k + 1], b[k], total)
    assert_same_bits(reference.matmul(a, b), total)


@pytest.mark.parametrize("seed", range(40))
def test_a_chain_of_plain_numbers_has_the_bits_of_fma(seed: int) -> None:
    """At any size of the terms: zeros, sums that cancel, subnormals, and more than float32 holds."""
    rng = torch.Generator().manual_seed(seed)
    dice = random.Random(seed)
    count = dice.randint(1, 200)
    a, b = (torch.randn(count, generator=rng) * 10.0 ** dice.uniform(-25, 19) for _ in range(2))
    if seed % 3 == 0:
        a[::3] = 0.0
    if seed % 4 == 0:
        a, b = -a.abs(), b.abs()
    total = torch.zeros(1)
    for left, right in zip(a, b, strict=True):
        total = reference.fma(left, right, total)
    found = torch.tensor([reference.chain(a, b)])
    assert found.numpy().tobytes() == total.numpy().tobytes()


def test_a_product_of_batches_is_the_product_of_each() -> None:
    a, b = numbers(1, 2, 3, 70, 9), numbers(2, 2, 3, 9, 300)
    together = reference.matmul(a, b)
    for i in range(2):
        for j in range(3):
            assert_same_bits(together[i, j], reference.matmul(a[i, j], b[i, j]))


@pytest.mark.rule("T1a")
def test_a_sum_is_a_tree_over_halves() -> None:
    x = numbers(1, 5)
    a, b, c, d, e = x.tolist()
    f32 = np.float32
    expected = (f32(f32(a) + f32(e)) + f32(c)) + (f32(b) + f32(d))
    assert float(reference.tree_sum(x)) == float(expected)


def test_exp_and_log_are_near_the_truth() -> None:
    x = torch.linspace(-87, 88, 20_001)
    error = (reference.exp(x).double() / x.double().exp() - 1).abs().max()
    assert float(error) < 1.5 * 2.0**-23
    y = torch.logspace(0, 10, 5001, dtype=torch.float64)
    assert float((reference.log(y) - y.log()).abs().max()) < 1e-14


def test_the_square_root_is_rounded_correctly() -> None:
    """torch's own is off by one unit in about every hundredth value."""
    x = numbers(1, 4_000).abs() + 2.0**-30
    expected = [rounded(Fraction(math.sqrt(value))) for value in x.tolist()]
    assert reference.root(x).tolist() == expected


def test_a_row_that_is_not_finite_poisons_itself_and_no_other() -> None:
    logits = numbers(1, 3, 8)
    logits[1, 4] = -math.inf
    loss, shares = reference.cross_entropy(logits, torch.tensor([0, 1, 2]))
    assert loss.isnan().tolist() == [False, True, False]
    assert shares.isnan().any(1).tolist() == [False, True, False]
    grad = numbers(2, 4, 3)
    grad[2, 0] = 2.0 * reference.GRADIENT_MAX
    out = reference.gather_rows(grad, torch.tensor([0, 1, 2, 1]), 4)
    assert out.isnan().any(1).tolist() == [False, False, True, False]


@pytest.mark.rule("T1a")
def test_masked_positions_are_exactly_nothing() -> None:
    weights = reference.causal_weights(numbers(1, 1, 1, 4, 6), 8)
    assert not weights.triu(3).any()
    assert weights[0, 0, 0, :3].sum() > 0.99
