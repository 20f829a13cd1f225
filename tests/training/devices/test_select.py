"""A node computes on what its file names, or is told what there is; exact runs where the bits are right."""

import pytest

from swarm.errors import BadConfig
from swarm.node.seat.compute import present
from swarm.primitives.codec import replace
from swarm.training.devices import select
from swarm.training.devices.select import (
    Present,
    chosen,
    device_notice,
    devices_for,
    devices_text,
    exact_text,
    is_recomputed,
    may_be_exact,
    shares,
)
from swarm.training.model.stages import stage_of
from tests.training.pipeline import a_spec

TWO = Present(("A", "B"))
NONE = Present()
MAC = Present(has_mps=True)
NATIVE = a_spec()
EXACT = replace(NATIVE, numerics="seq-f32/1")


@pytest.mark.parametrize(
    ("wished", "here", "found"),
    [
        ("auto", NONE, ("cpu",)),
        ("auto", MAC, ("mps",)),
        ("auto", TWO, ("cuda:0",)),
        ("cuda", TWO, ("cuda:0",)),
        ("cuda:1", TWO, ("cuda:1",)),
        ("cpu", TWO, ("cpu",)),
        ("mps", MAC, ("mps",)),
        (("auto",), TWO, ("cuda:0",)),
        (("cuda:0", "cuda:1"), TWO, ("cuda:0", "cuda:1")),
        (("cpu", "cpu"), NONE, ("cpu", "cpu")),
    ],
)
def test_a_wish_becomes_devices(wished: str, here: Present, found: tuple[str, ...]) -> None:
    assert chosen(wished, here) == found


@pytest.mark.parametrize(
    ("wished", "here", "cause"),
    [
        ("cuda:2", TWO, r"no cuda:2; present: cpu, cuda:0 \(A\), cuda:1 \(B\)"),
        ("cuda", NONE, "no cuda; present: cpu"),
        ("mps", TWO, "no mps"),
        ("cuda", MAC, "present: cpu, mps"),
        (("cuda:0", "cpu"), TWO, "cannot share"),
        (("mps", "mps"), MAC, "cannot share"),
        (("cuda:0", "cuda"), TWO, "cuda:0 twice"),
        (("auto", "cuda:1"), TWO, "stands alone"),
    ],
)
def test_a_wish_that_cannot_be_granted_says_what_there_is(
    wished: str, here: Present, cause: str
) -> None:
    with pytest.raises(BadConfig, match=cause) as caught:
        chosen(wished, here)
    assert "node.toml" in caught.value.hint


@pytest.mark.rule("T2a")
def test_exact_runs_stay_on_the_cpu_and_the_person_is_told() -> None:
    """Unless a device was tested, as below."""
    assert devices_for(EXACT, ("cuda:0",)) == ("cpu",)
    assert devices_for(NATIVE, ("cuda:0",)) == ("cuda:0",)
    notice = device_notice(EXACT, ("cuda:0",), TWO)
    assert "cuda:0 will rest" in notice
    assert "seq-f32/1" in notice
    assert not device_notice(EXACT, ("cpu",), TWO)


@pytest.mark.rule("T2a")
def test_an_exact_run_has_one_device_whose_bits_were_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "is_exact_device", lambda name: name == "cuda:0")
    assert devices_for(EXACT, ("cuda:0", "cuda:1")) == ("cuda:0",)
    assert devices_for(EXACT, ("cuda:1",)) == ("cpu",)
    assert "on one device, cuda:0" in device_notice(EXACT, ("cuda:0", "cuda:1"), TWO)
    assert not device_notice(EXACT, ("cuda:0",), TWO)


def test_a_refused_device_rests_and_the_reason_is_told() -> None:
    notice = device_notice(EXACT, ("cuda:0",), TWO, "A gets matmul wrong")
    assert "cuda:0 will rest" in notice
    assert notice.endswith("A gets matmul wrong")


@pytest.mark.parametrize(
    ("wished", "devices", "is_tried"),
    [
        ("auto", ("cuda:0",), False),
        (("auto",), ("cuda:0",), False),
        ("cuda:0", ("cuda:0",), True),
        (("cuda:1", "cuda:0"), ("cuda:1", "cuda:0"), True),
        ("mps", ("mps",), False),
        ("cpu", ("cpu",), False),
    ],
)
def test_only_a_cuda_device_that_a_person_named_is_tried_for_exact_runs(
    wished: str, devices: tuple[str, ...], is_tried: bool
) -> None:
    assert may_be_exact(wished, devices) is is_tried


def test_one_line_says_where_exact_kernels_run() -> None:
    assert exact_text("auto", NONE) == "no CUDA device: exact kernels run on the CPU"
    assert exact_text("cuda:0", MAC) == "no CUDA device: exact kernels run on the CPU"
    assert 'device = "cuda:0"' in exact_text("auto", TWO)
    assert "run on cuda:1 if" in exact_text(("cuda:1", "cuda:0"), TWO)


def test_a_second_gpu_that_is_not_used_is_mentioned() -> None:
    assert '["cuda:0", "cuda:1"]' in device_notice(NATIVE, ("cuda:0",), TWO)
    assert not device_notice(NATIVE, ("cuda:0", "cuda:1"), TWO)
    assert not device_notice(NATIVE, ("cuda:0",), Present(("A",)))
    assert devices_text(("cuda:0", "cuda:1")) == "cuda:0 + cuda:1"


@pytest.mark.parametrize(("rows", "count"), [(8, 2), (8, 3), (1, 2), (5, 4), (2, 16)])
def test_every_sequence_has_one_device(rows: int, count: int) -> None:
    parts = shares(rows, count)
    assert [i for start, stop in parts for i in range(start, stop)] == list(range(rows))
    sizes = [stop - start for start, stop in parts]
    assert max(sizes) - min(sizes) <= 1


def test_what_is_present_can_be_chosen() -> None:
    assert chosen("auto", present())


def test_waiting_passes_are_computed_again_where_they_keep_too_much() -> None:
    first, last = (stage_of(NATIVE, stage).plan for stage in range(2))
    assert not is_recomputed(NATIVE, first, "auto")
    vast = replace(NATIVE, model=replace(NATIVE.model, seq_len=1 << 20))
    assert is_recomputed(vast, first, "auto")
    assert not is_recomputed(vast, last, "auto"), "nothing waits behind the loss"
    assert not is_recomputed(vast, first, "never")
    assert is_recomputed(NATIVE, first, "always")
