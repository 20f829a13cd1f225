"""The compiled kernels have the reference's bits, with every instruction set this machine can run."""

from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from swarm.errors import UsageError
from swarm.training.model.exact import native, reference
from swarm.training.model.exact.native import Compiled, NotBuilt
from swarm.training.model.exact.selftest import numbers
from tests.training.model.exact.inputs import SIZES, assert_same_bits, hard, isas_here

SCALARS = (0.01, 0.9, 1 - 0.9, 0.95, 1 - 0.95, 1e-8, 1 / (1 - 0.9**3), 1 / (1 - 0.95**3))


needs_the_extension = pytest.mark.skipif(not isas_here(), reason="the C extension was not built")


@pytest.fixture(params=isas_here())
def kernels(request: pytest.FixtureRequest) -> Compiled:
    return native.load(request.param)


def values(wild: bool, seed: int, *shape: int) -> Tensor:
    return hard(seed, *shape) if wild else numbers(seed, *shape)


@pytest.mark.parametrize("wild", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_products(kernels: Compiled, size: tuple[int, int, int], wild: bool) -> None:
    rows, depth, columns = size
    a, b = values(wild, 1, rows, depth), values(wild, 2, depth, columns)
    expected = reference.matmul(a, b)
    for left in (a, a.t().contiguous().t()):
        for right in (b, b.t().contiguous().t()):
            assert_same_bits(kernels.matmul(left, right), expected)


def test_products_of_batches_and_views(kernels: Compiled) -> None:
    a = numbers(1, 2, 9, 3, 17).transpose(1, 2)
    b = numbers(2, 2, 3, 20, 17).transpose(2, 3)
    assert_same_bits(kernels.matmul(a, b), reference.matmul(a, b))


def test_products_with_subnormal_terms(kernels: Compiled) -> None:
    a, b = numbers(1, 9, 40) * 2.0**-70, numbers(2, 40, 33) * 2.0**-72
    expected = reference.matmul(a, b)
    assert 0 < float(expected.abs().max()) < 2.0**-126
    assert_same_bits(kernels.matmul(a, b), expected)


def test_flush_to_zero_around_the_call_does_not_reach_the_kernels(kernels: Compiled) -> None:
    a, b = numbers(1, 4, 9) * 2.0**-70, numbers(2, 9, 5) * 2.0**-75
    expected = reference.matmul(a, b)
    torch.set_flush_denormal(True)
    try:
        answer = kernels.matmul(a, b)
    finally:
        torch.set_flush_denormal(False)
    assert_same_bits(answer, expected)


@pytest.mark.parametrize("rows", [1, 128, 129, 400])
def test_gradients_of_weights(kernels: Compiled, rows: int) -> None:
    grad, x = hard(1, rows, 19), hard(2, rows, 35)
    assert_same_bits(kernels.weight_gradient(grad, x), reference.weight_gradient(grad, x))


@pytest.mark.parametrize("scale", [1.0, 60.0, 1e-20])
@pytest.mark.parametrize(
    "shape", [(2, 7, 7, 4, 2, 6), (1, 40, 40, 2, 2, 16), (1, 5, 9, 6, 2, 4), (1, 1, 20, 3, 1, 8)]
)
def test_attention(kernels: Compiled, shape: tuple[int, ...], scale: float) -> None:
    batch, times, keys, heads, groups, width = shape
    q, grad = numbers(1, batch, times, heads, width) * scale, hard(4, batch, times, heads, width)
    k, v = numbers(2, batch, keys, groups, width), hard(3, batch, keys, groups, width)
    assert_same_bits(kernels.attention(q, k, v), reference.attention(q, k, v))
    ours = kernels.attention_backward(grad, q, k, v)
    assert_same_bits(ours, reference.attention_backward(grad, q, k, v))


@pytest.mark.parametrize("wild", [False, True])
def test_element_by_element(kernels: Compiled, wild: bool) -> None:
    grad, gate, up = (values(wild, seed, 7, 33) for seed in (1, 2, 3))
    assert_same_bits(kernels.swiglu(gate, up), reference.swiglu(gate, up))
    ours = kernels.swiglu_backward(grad, gate, up)
    assert_same_bits(ours, reference.swiglu_backward(grad, gate, up))
    x, cos, sin = values(wild, 4, 2, 5, 3, 6), numbers(5, 5, 6), numbers(6, 5, 6)
    assert_same_bits(kernels.rotate(x, cos, sin), reference.rotate(x, cos, sin))
    params, m, v, step_grad = (values(wild, seed, 1003) * 0.01 for seed in (7, 8, 9, 10))
    mine, theirs = ((params.clone(), m.clone(), v.abs()) for _ in range(2))
    kernels.adamw(*mine, step_grad, SCALARS)
    reference.adamw(*theirs, step_grad, SCALARS)
    assert_same_bits(mine, theirs)


@cache  # the reference takes seconds, and is the same for every set of kernels
def orthogonal_by_the_book(shape: tuple[int, int]) -> list[tuple[Tensor, Tensor]]:
    updates = (numbers(1, *shape), hard(2, *shape), numbers(3, *shape) * 1e-25)
    return [(update, reference.orthogonal(update)) for update in updates]


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (13, 37), (40, 9), (33, 33), (64, 300)])
def test_orthogonal_matrices(kernels: Compiled, shape: tuple[int, int]) -> None:
    for update, truth in orthogonal_by_the_book(shape):
        for view in (update, update.t().contiguous().t()):
            assert_same_bits(kernels.orthogonal(view), truth)
    assert not bool(kernels.orthogonal(torch.zeros(shape)).any())


@pytest.mark.parametrize("width", [1, 5, 16, 33, 200])
@pytest.mark.parametrize("rows", [1, 9])
def test_norms(kernels: Compiled, rows: int, width: int) -> None:
    x, weight, grad = hard(1, rows, width, scale=1e-10), numbers(2, width), numbers(3, rows, width)
    ours = kernels.rms_norm(x, weight, 1e-5)
    assert_same_bits(ours, reference.rms_norm(x, weight, 1e-5))
    back = kernels.rms_norm_backward(grad, x, ours[1], weight)
    assert_same_bits(back, reference.rms_norm_backward(grad, x, ours[1], weight))


@pytest.mark.parametrize("width", [3, 16, 100, 257])
def test_labels_and_tables(kernels: Compiled, width: int) -> None:
    logits = numbers(1, 20, width, spread=6)
    labels = torch.arange(20) * 7 % width
    ours = kernels.cross_entropy(logits, labels)
    assert_same_bits(ours, reference.cross_entropy(logits, labels))
    back = kernels.cross_entropy_backward(ours[1], labels, 0.037)
    assert_same_bits(back, reference.cross_entropy_backward(ours[1], labels, 0.037))
    grad = numbers(2, 20, 9, spread=9)
    gathered = kernels.gather_rows(grad, labels, width)
    assert_same_bits(gathered, reference.gather_rows(grad, labels, width))


@pytest.mark.parametrize("count", [0, 1, 3, 1000, 1024, 1025, 5000])
def test_sums_of_squares(kernels: Compiled, count: int) -> None:
    x = numbers(1, count, spread=9)
    assert kernels.sum_of_squares(x) == reference.sum_of_squares(x)


@pytest.mark.parametrize("count", [0, 1, 17, 5000])
def test_sums_of_gradients(kernels: Compiled, count: int) -> None:
    arrivals = [numbers(seed, count, spread=9) for seed in range(3)]
    arrivals.append(numbers(3, count) * 2.0**-21)  # halves of a unit
    ours, theirs = (torch.zeros(count, dtype=torch.int64) for _ in range(2))
    for grad in arrivals:
        assert kernels.add_units(ours, grad)
        assert reference.add_units(theirs, grad)
    assert_same_bits(ours, theirs)
    assert_same_bits(kernels.mean_units(ours, 4), reference.mean_units(theirs, 4))


@pytest.mark.parametrize("junk", [float("nan"), float("inf"), 1025.0, -1025.0])
def test_a_gradient_that_is_none_leaves_the_sum_as_it_was(kernels: Compiled, junk: float) -> None:
    total, grad = torch.zeros(100, dtype=torch.int64), numbers(1, 100)
    grad[99] = junk
    for either in (kernels, reference):
        assert not either.add_units(total, grad)
        assert not total.any()


def test_what_is_not_finite_poisons_the_same_rows(kernels: Compiled) -> None:
    logits = numbers(1, 4, 21)
    logits[1, 4], logits[3, 0] = float("-inf"), float("nan")
    labels = torch.tensor([0, 1, 2, 3])
    ours, theirs = kernels.cross_entropy(logits, labels), reference.cross_entropy(logits, labels)
    assert ours[0].isnan().tolist() == theirs[0].isnan().tolist() == [False, True, False, True]
    q = numbers(2, 1, 6, 2, 4)
    q[0, 3, 1, 2] = float("inf")
    mixed, expected = kernels.attention(q, q, q), reference.attention(q, q, q)
    assert torch.equal(mixed.isnan(), expected.isnan())
    assert mixed.isnan().any()
    grad = numbers(3, 4, 5)
    grad[2, 3] = float("nan")
    assert (
        kernels.gather_rows(grad, labels, 6).isnan().any(1).tolist()
        == [False] * 2 + [True] + [False] * 3
    )


@needs_the_extension
def test_a_call_that_would_leave_the_tensors_is_refused() -> None:
    kernels = native.load()
    x, labels = numbers(1, 4, 5), torch.tensor([0, 1, 2, 5])
    for call in (
        lambda: kernels.matmul(x, x),
        lambda: kernels.matmul(x.double(), x.t().double()),
        lambda: kernels.swiglu(x, x[:3]),
        lambda: kernels.cross_entropy(x, labels),
        lambda: kernels.gather_rows(x, -labels, 6),
        lambda: kernels.attention(numbers(2, 1, 3, 2, 4), numbers(2, 1, 2, 2, 4), numbers(2, 1, 2, 2, 4)),
        lambda: kernels.adamw(x, x, x[:3], x, SCALARS),
        lambda: kernels.add_units(labels, x[0]),
        lambda: kernels.mean_units(x, 1),
    ):  # fmt: skip
        with pytest.raises(UsageError):
            call()


@needs_the_extension
def test_an_instruction_set_that_is_not_here_is_named() -> None:
    missing = next(isa for isa in ("neon", "avx512") if isa != native.load().isa)
    with pytest.raises(NotBuilt, match=missing):
        native.load(missing)


def test_no_library_or_another_one_is_no_crash(tmp_path: Path) -> None:
    with pytest.raises(NotBuilt, match="were not built here"):
        native.load(path=str(tmp_path / "absent.so"))
    junk = tmp_path / "junk.so"
    junk.write_bytes(b"not a library")
    with pytest.raises(NotBuilt, match="cannot be loaded"):
        native.load(path=str(junk))
