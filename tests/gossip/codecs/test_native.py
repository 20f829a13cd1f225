"""The compiled kernels have the bits of the tensor operations, with every instruction set of this machine."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from swarm.errors import BadEncoding
from swarm.gossip.codecs import native
from swarm.gossip.codecs.int8 import block_count, read_levels, steps, write_levels
from swarm.gossip.codecs.native import BLOCK, ISAS, Levels

HERE = [isa for isa in ISAS if native.load(isa) is not None]
"""None where the extension was not built."""
SIZES = [1, 127, 128, 129, 1000, 65_536, 65_537]
needs_the_extension = pytest.mark.skipif(not HERE, reason="the C extension was not built")


@pytest.fixture(params=HERE)
def kernels(request: pytest.FixtureRequest) -> Levels:
    found = native.load(request.param)
    assert found is not None
    return found


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Calls a function of ``quantize.py`` as if there were no extension."""

    def call(function: Callable[..., Any], *arguments: object, **more: object) -> object:
        with monkeypatch.context() as patch:
            patch.setattr(native, "load", lambda: None)
            return function(*arguments, **more)

    return call


def some(numel: int, seed: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(numel, generator=torch.Generator().manual_seed(seed))


def hard(numel: int, seed: int) -> Tensor:
    """Values over 200 binary orders of magnitude, a tail of zeros of both signs and subnormals."""
    generator = torch.Generator().manual_seed(seed)
    exponents = torch.randint(-140, 60, (numel,), generator=generator).float()
    values = some(numel, seed) * torch.exp2(exponents)
    values[::7], values[3::11] = -0.0, 1e-42
    return values


def wild(numel: int, seed: int) -> Tensor:
    """Also what is no number."""
    values = hard(numel, seed)
    values[5::300], values[17::500], values[40::700] = float("nan"), float("inf"), -float("inf")
    return values


def empty_outputs(numel: int) -> tuple[Any, Any, Tensor]:
    return np.zeros(block_count(numel), "<f2"), np.zeros(numel, np.int8), torch.zeros(numel)


def bits(x: Tensor) -> Tensor:
    return x.view(torch.int32)


@pytest.mark.rule("G3")
@pytest.mark.parametrize("most", [127, 7])
@pytest.mark.parametrize("numel", SIZES)
@pytest.mark.parametrize("values", [some, hard])
def test_levels_peaks_and_what_is_left(
    kernels: Levels,
    without: Callable[..., Any],
    values: Callable[[int, int], Tensor],
    numel: int,
    most: int,
) -> None:
    theta, anchor, residual = (values(numel, seed) for seed in (1, 2, 3))
    for more in (None, residual):
        compiled, reference = empty_outputs(numel), empty_outputs(numel)
        inputs = (theta, anchor, most)
        kernels.encode(*inputs, *compiled[:2], residual_N=more, left_N=compiled[2])
        without(write_levels, *inputs, *reference[:2], residual_N=more, left_N=reference[2])
        assert compiled[0].tobytes() == reference[0].tobytes()
        finite = np.repeat(np.isfinite(reference[0]), BLOCK)[:numel]
        assert compiled[1][finite].tobytes() == reference[1][finite].tobytes()
        kept = torch.from_numpy(finite)
        assert torch.equal(bits(compiled[2])[kept], bits(reference[2])[kept])


@pytest.mark.parametrize("numel", [1000, 65_537])
def test_what_is_no_number_has_a_peak_that_is_none(
    kernels: Levels, without: Callable[..., Any], numel: int
) -> None:
    theta, anchor = wild(numel, 1), some(numel, 2)
    compiled, reference = empty_outputs(numel), empty_outputs(numel)
    kernels.encode(theta, anchor, 127, *compiled[:2])
    without(write_levels, theta, anchor, 127, *reference[:2])
    assert np.isfinite(compiled[0]).tolist() == np.isfinite(reference[0]).tolist()
    assert not np.isfinite(compiled[0]).all()


def test_peaks_are_rounded_to_float16_like_numpy_rounds(kernels: Levels) -> None:
    """Every float16 there is, the middles between neighbours, and the floats next to both."""
    halves = np.arange(0x7C00, dtype="<u2").view("<f2").astype(np.float32)
    middles = (halves[1:] + halves[:-1]) / 2
    edges = np.concatenate(
        (halves, middles, np.array([65_519.99, 65_520, 65_536, 1e30], np.float32))
    )
    near = [np.nextafter(edges, np.float32(side)) for side in (0, 3e38)]
    peaks = np.abs(np.concatenate((edges, *near)).astype(np.float32))
    theta = torch.zeros(len(peaks), BLOCK)
    theta[:, 77] = torch.from_numpy(peaks) * -1
    found, sent, _ = empty_outputs(theta.numel())
    kernels.encode(theta.view(-1), torch.zeros(theta.numel()), 127, found, sent)
    with np.errstate(over="ignore"):
        assert found.tobytes() == peaks.astype("<f2").tobytes()
    finite = peaks < 65_520
    step = found[finite].astype(np.float32) / np.float32(127)
    quotient = -peaks[finite] / np.where(step > 0, step, np.float32(1))
    due = np.rint(quotient).clip(-127, 127).astype(np.int8)
    assert sent.reshape(-1, BLOCK)[finite, 77].tobytes() == due.tobytes()


@pytest.mark.rule("G3")
@pytest.mark.parametrize("numel", SIZES)
@pytest.mark.parametrize("values", [some, hard])
def test_values(
    kernels: Levels,
    without: Callable[..., Any],
    values: Callable[[int, int], Tensor],
    numel: int,
) -> None:
    anchor = values(numel, 1)
    level_N = np.random.default_rng(2).integers(-127, 128, numel, np.int8)
    step = steps(values(block_count(numel), 3).abs().clamp(max=65_504), 127)
    compiled, reference = torch.zeros(numel), torch.zeros(numel)
    kernels.decode(step.view(-1), level_N, 127, anchor, compiled)
    without(read_levels, step, level_N, 127, anchor, reference)
    assert torch.equal(bits(compiled), bits(reference))


@pytest.mark.rule("G4")
@pytest.mark.parametrize("most", [127, 7])
@pytest.mark.parametrize("at", [0, 127, 128, 999])
def test_a_level_that_no_encoder_writes_is_refused_wherever_it_stands(
    kernels: Levels, most: int, at: int
) -> None:
    level_N = np.full(1000, -most, np.int8)
    inputs = torch.ones(8), level_N, most, torch.zeros(1000), torch.zeros(1000)
    kernels.decode(*inputs)
    level_N[at] = -most - 1
    with pytest.raises(BadEncoding, match="level"):
        kernels.decode(*inputs)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 3.4e38])
@pytest.mark.parametrize("at", [0, 127, 128, 999])
def test_a_sum_that_is_not_finite_is_refused_wherever_it_stands(
    kernels: Levels, bad: float, at: int
) -> None:
    anchor = torch.full((1000,), 3.0e38)
    inputs = torch.full((8,), 1e35), np.full(1000, 50, np.int8), 127, anchor, torch.zeros(1000)
    kernels.decode(*inputs)
    anchor[at] = bad
    with pytest.raises(BadEncoding, match="finite"):
        kernels.decode(*inputs)


def test_flush_to_zero_around_the_call_does_not_reach_the_kernels(kernels: Levels) -> None:
    anchor, level_N = torch.full((BLOCK,), 2e-45), np.full(BLOCK, 3, np.int8)
    values, step = torch.zeros(BLOCK), torch.full((1,), 4e-45)
    torch.set_flush_denormal(True)
    try:
        kernels.decode(step, level_N, 127, anchor, values)
    finally:
        torch.set_flush_denormal(False)
    assert torch.equal(bits(values), torch.full((BLOCK,), 10, dtype=torch.int32))


def test_views_that_skip_are_read_as_what_they_show(kernels: Levels) -> None:
    wide, anchor = some(2000, 1), some(2000, 2)
    compiled, reference = empty_outputs(1000), empty_outputs(1000)
    kernels.encode(wide[::2], anchor[::2], 127, *compiled[:2])
    kernels.encode(wide[::2].clone(), anchor[::2].clone(), 127, *reference[:2])
    assert compiled[1].tobytes() == reference[1].tobytes()
    assert compiled[0].tobytes() == reference[0].tobytes()


@needs_the_extension
@pytest.mark.parametrize("bad", [torch.zeros(9), torch.zeros(10).double(), torch.zeros(2, 5)])
def test_a_call_that_would_leave_the_tensors_is_refused(bad: Tensor) -> None:
    kernels, good = native.load(), torch.zeros(10)
    assert kernels is not None
    peaks, sent, _ = empty_outputs(10)
    for inputs in ((good, bad), (bad, good)):
        with pytest.raises(AssertionError):
            kernels.encode(*inputs, 127, peaks, sent)
    with pytest.raises(AssertionError):
        kernels.decode(torch.ones(1), sent, 127, good, bad)


def test_no_library_or_another_one_is_none(tmp_path: Path) -> None:
    assert native.load(path=str(tmp_path / "absent.so")) is None
    junk = tmp_path / "junk.so"
    junk.write_bytes(b"not a library")
    assert native.load(path=str(junk)) is None


@needs_the_extension
def test_the_best_instruction_set_is_taken() -> None:
    best = native.load()
    assert best is not None
    assert ISAS[best.isa] == HERE[-1]
