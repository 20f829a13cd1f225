"""The CUDA kernels have the reference's bits: their own text, run on the CPU, a thread at a time."""

import re

import pytest
import torch
from torch import Tensor

from swarm.config.spec import MUON
from swarm.errors import UsageError
from swarm.primitives.codec import replace
from swarm.training.model.exact import device, reference, selftest
from swarm.training.model.exact.cuda import THREADS, source
from swarm.training.model.exact.device import PRODUCT_FIELDS, TILE, DeviceKernels
from swarm.training.model.exact.operators import exact_ops
from swarm.training.model.exact.selftest import numbers
from swarm.training.model.optimizer import OptimizerState, muon_matrices, optimizer_step
from swarm.training.model.profiles import EXACT_NAME, table
from swarm.training.model.stages import (
    Stage,
    init_flat,
    plans_of,
    run_backward,
    run_forward,
    run_loss,
)
from tests.training.model.exact.emulated import Emulated, emulated_kernels
from tests.training.model.exact.inputs import SIZES, assert_same_bits, hard
from tests.training.pipeline import a_spec


@pytest.fixture
def kernels() -> DeviceKernels:
    return emulated_kernels()


@pytest.mark.rule("T1b")
def test_the_text_of_the_cuda_kernels_has_the_golden_hashes(kernels: DeviceKernels) -> None:
    assert selftest.answers(kernels) == selftest.GOLDEN


@pytest.mark.rule("T1b")
@pytest.mark.parametrize("backwards", [False, True])
def test_and_the_bits_of_this_machine_over_several_tiles_whichever_thread_comes_first(
    kernels: DeviceKernels, backwards: bool
) -> None:
    assert isinstance(kernels.launcher, Emulated)
    kernels.launcher.take_turns(backwards=backwards)
    try:
        assert selftest.passed(kernels, selftest.trusted_kernels().kernels) is kernels
    finally:
        kernels.launcher.take_turns(backwards=False)


@pytest.mark.parametrize("wild", [False, True])
@pytest.mark.parametrize("size", [*SIZES, (129, 9, 257)])
def test_products(kernels: DeviceKernels, size: tuple[int, int, int], wild: bool) -> None:
    rows, depth, columns = size
    draw = hard if wild else numbers
    a, b = draw(1, rows, depth), draw(2, depth, columns)
    expected = reference.matmul(a, b)
    for left in (a, a.t().contiguous().t()):
        for right in (b, b.t().contiguous().t()):
            assert_same_bits(kernels.matmul(left, right), expected)


def test_products_of_nothing(kernels: DeviceKernels) -> None:
    assert_same_bits(kernels.matmul(torch.empty(3, 0), torch.empty(0, 4)), torch.zeros(3, 4))
    assert kernels.matmul(torch.empty(0, 3), numbers(1, 3, 4)).shape == (0, 4)


def test_a_sum_that_is_minus_zero_stays_it(kernels: DeviceKernels) -> None:
    """A term too many, 0 x 0, would turn it into +0."""
    a, b = torch.full((1, 3), -(2.0**-100)), torch.full((3, 1), 2.0**-100)
    found = kernels.matmul(a, b)
    assert_same_bits(found, reference.matmul(a, b))
    assert str(float(found)) == "-0.0"


@pytest.mark.parametrize("rows", [1, 128, 129, 300])
def test_a_weight_gradient_in_little_memory_is_the_same(
    kernels: DeviceKernels, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    grad, x = numbers(1, rows, 10, spread=9), numbers(2, rows, 6, spread=9)
    expected = reference.weight_gradient(grad, x)
    assert_same_bits(kernels.weight_gradient(grad, x), expected)
    monkeypatch.setattr(device, "SCRATCH_BYTES", 4 * 6 * 3 * 4)
    assert_same_bits(kernels.weight_gradient(grad, x), expected)


def test_attention_of_one_sequence_at_a_time_is_the_same(
    kernels: DeviceKernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    q, grad = numbers(1, 3, 5, 6, 8), numbers(4, 3, 5, 6, 8)
    k, v = numbers(2, 3, 7, 2, 8), numbers(3, 3, 7, 2, 8)
    expected = reference.attention(q, k, v), *reference.attention_backward(grad, q, k, v)
    for scratch in (device.SCRATCH_BYTES, 1):
        monkeypatch.setattr(device, "SCRATCH_BYTES", scratch)
        found = kernels.attention(q, k, v), *kernels.attention_backward(grad, q, k, v)
        assert_same_bits(found, expected)


@pytest.mark.parametrize("count", [1, 2, 255, 256, 257, 1023, 1025, 3000])
def test_sums_of_any_length(kernels: DeviceKernels, count: int) -> None:
    x = hard(1, count)
    assert kernels.sum_of_squares(x) == reference.sum_of_squares(x)
    rows, weight = hard(2, 2, count), numbers(3, count)
    assert_same_bits(kernels.rms_norm(rows, weight, 1e-5), reference.rms_norm(rows, weight, 1e-5))


def test_a_row_that_is_not_finite_is_nan(kernels: DeviceKernels) -> None:
    logits = numbers(1, 3, 300)
    logits[1, 299] = float("inf")
    loss, shares = kernels.cross_entropy(logits, torch.zeros(3, dtype=torch.int64))
    assert loss.isnan().tolist() == [False, True, False]
    assert shares.isnan().all(1).tolist() == [False, True, False]


def test_other_tensors_are_refused(kernels: DeviceKernels) -> None:
    x = numbers(1, 4, 4)
    with pytest.raises(UsageError, match="float32"):
        kernels.matmul(x.double(), x)
    with pytest.raises(UsageError, match="on meta"):
        kernels.matmul(x, torch.empty(4, 4, device="meta"))
    with pytest.raises(UsageError, match="no product"):
        kernels.matmul(x, numbers(1, 3, 4))
    with pytest.raises(UsageError, match="no attention"):
        kernels.attention(numbers(1, 1, 3, 2, 4), numbers(2, 1, 2, 2, 4), numbers(3, 1, 2, 2, 4))
    with pytest.raises(UsageError, match="outside"):
        kernels.gather_rows(x, torch.tensor([0, 1, 2, 9]), 9)


def test_python_and_the_kernels_mean_the_same_numbers() -> None:
    text = source()
    body = text[text.index("struct Product {") : text.index("};", text.index("struct Product {"))]
    listed = [name for line in re.findall(r"Index ([^;]+);", body) for name in line.split(", ")]
    assert tuple(listed) == PRODUCT_FIELDS
    constants = dict(re.findall(r"(\w+) = (\d+)", text[: text.index("struct Product")]))
    assert int(constants["THREADS"]) == THREADS
    assert int(constants["TILE"]) == TILE
    shapes = ("WHOLE", "LOWER", "UPTO_DIAGONAL", "FROM_DIAGONAL")
    assert [int(constants[name]) for name in shapes] == [getattr(device, name) for name in shapes]


@pytest.mark.rule("T1a")
def test_a_step_on_a_device_has_the_bits_of_a_step_on_the_cpu(kernels: DeviceKernels) -> None:
    """A micro-batch through two stages, and an update by Muon and AdamW."""
    spec = a_spec(numerics=EXACT_NAME)
    optimizer = replace(spec.optimizer, name=MUON)
    answers = list[list[Tensor]]()
    for ops in (table(EXACT_NAME), exact_ops(kernels)):
        lower, upper = (Stage(plan, ops) for plan in plans_of(spec))
        ids = torch.arange(2 * spec.model.seq_len).view(2, -1) * 7 % spec.model.vocab_size
        params = [init_flat(stage.plan, 5) for stage in (lower, upper)]
        passed = run_forward(lower, params[0], ids)
        loss, grad, grad_P = run_loss(upper, params[1], passed.output, ids.flip(0))
        assert grad is not None
        _, below_P = run_backward(passed, grad)
        matrices = muon_matrices(optimizer, lower.plan)
        state = OptimizerState.zeros(len(below_P), matrices)
        optimizer_step(
            ops, params[0], below_P, state, 0.01, optimizer, lower.plan.decayed, matrices
        )
        answers.append([torch.tensor(loss), grad, grad_P, params[0], state.m_P, state.v_A])
    for mine, theirs in zip(*answers, strict=True):
        assert_same_bits(mine, theirs)
