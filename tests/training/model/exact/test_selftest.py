"""A node trusts kernels only with every golden hash right, and says plainly what to do otherwise."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from swarm.errors import BadConfig
from swarm.training.model import profiles
from swarm.training.model.exact import native, reference, selftest
from swarm.training.model.exact.cuda import CudaLauncher
from swarm.training.model.exact.device import DeviceKernels
from swarm.training.model.exact.native import Compiled, NotBuilt
from tests.training.model.exact.emulated import emulated_kernels
from tests.training.model.exact.inputs import isas_here


def broken(name: str, **more: object) -> SimpleNamespace:
    """Kernels in which one function is off by one unit in the last place of one value."""
    right = getattr(reference, name)

    def wrong(*arguments: object) -> Tensor:
        out: Tensor = right(*arguments).clone()
        out.view(-1).view(torch.int32)[0] ^= 1
        return out

    return SimpleNamespace(**{**vars(reference), name: wrong, **more})


@pytest.mark.rule("T1b")
def test_the_reference_has_the_golden_hashes() -> None:
    assert selftest.answers(reference) == selftest.GOLDEN


@pytest.mark.parametrize("isa", isas_here())
def test_so_has_every_instruction_set_of_this_machine(isa: str) -> None:
    assert selftest.wrong_operators(native.load(isa)) == ()


@pytest.mark.rule("T1b")
def test_one_wrong_bit_names_the_operator() -> None:
    assert selftest.wrong_operators(broken("matmul")) == ("matmul",)
    assert selftest.wrong_operators(broken("swiglu")) == ("swiglu",)


@pytest.mark.rule("T1b")
def test_without_the_extension_the_reference_works_and_the_node_reports_it() -> None:
    def absent() -> Compiled:
        raise NotBuilt("the compiled kernels cannot be loaded: no such file")

    trusted = selftest.choose(absent)
    assert trusted.kernels is reference
    assert "no such file" in trusted.notice
    assert "pip install" in trusted.notice


@pytest.mark.rule("T1b")
def test_compiled_kernels_with_a_wrong_bit_give_way_to_the_reference() -> None:
    trusted = selftest.choose(lambda: broken("swiglu", isa="avx2"))  # type: ignore[arg-type, return-value]
    assert trusted.kernels is reference
    assert "(avx2) get swiglu wrong" in trusted.notice


@pytest.mark.rule("T1b")
def test_a_machine_that_gets_the_reference_wrong_may_not_compute_exactly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def absent() -> Compiled:
        raise NotBuilt("not here")

    monkeypatch.setitem(selftest.GOLDEN, "codec", "0" * 16)
    with pytest.raises(BadConfig, match="codec") as caught:
        selftest.choose(absent)
    assert "native" in caught.value.hint


def test_flush_to_zero_is_found() -> None:
    if not torch.set_flush_denormal(True):
        pytest.skip("this machine cannot flush to zero")
    try:
        assert "codec" in selftest.wrong_operators(reference)
    finally:
        torch.set_flush_denormal(False)


def test_the_profile_is_chosen_by_name() -> None:
    assert profiles.table("seq-f32/1").name == "seq-f32/1"
    assert profiles.notice("native") == ""
    assert profiles.notice("seq-f32/1") == selftest.trusted_kernels().notice


def broken_device(name: str) -> DeviceKernels:
    """The emulated GPU, off by one unit in the last place of one value."""

    class Broken(DeviceKernels):
        pass

    right = getattr(DeviceKernels, name)

    def wrong(self: DeviceKernels, *arguments: object) -> Tensor:
        out: Tensor = right(self, *arguments).clone()
        out.view(-1).view(torch.int32)[-1] ^= out.numel() > 1000
        return out

    setattr(Broken, name, wrong)
    return Broken(emulated_kernels().launcher)


@pytest.mark.rule("T1b")
def test_a_device_with_a_wrong_bit_is_refused_with_the_operator() -> None:
    trusted = selftest.trusted_kernels().kernels
    with pytest.raises(NotBuilt, match=r"emulated gets .*of large tensors wrong: .*seq-f32/1"):
        selftest.passed(broken_device("matmul"), trusted)


@pytest.mark.rule("T1b")
def test_a_device_that_fails_is_refused_with_what_it_said() -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("cuda:0: cuLaunchKernel answered 700\nand more")

    launcher = SimpleNamespace(device=torch.device("cpu"), name="A100", launch=fail)
    with pytest.raises(NotBuilt, match=r"failed on A100: cuda:0: cuLaunchKernel answered 700$"):
        selftest.passed(DeviceKernels(launcher), selftest.trusted_kernels().kernels)


@pytest.mark.rule("T1b")
def test_a_device_is_tested_once_and_a_refusal_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = list[str]()

    def absent(device: str) -> CudaLauncher:
        opened.append(device)
        raise NotBuilt("no CUDA device: torch finds no driver, or no GPU")

    monkeypatch.setattr(selftest, "_TESTED", {})
    monkeypatch.setattr(selftest, "open_device", absent)
    assert not selftest.is_exact_device("cuda:0")
    assert not opened
    for _ in range(2):
        with pytest.raises(NotBuilt, match="no driver"):
            selftest.device_kernels("cuda:0")
    assert opened == ["cuda:0"]
    assert not selftest.is_exact_device("cuda:0")


@pytest.mark.rule("T1b")
def test_a_device_that_passed_computes_exact_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "_TESTED", {"cuda:0": emulated_kernels()})
    assert selftest.is_exact_device("cuda:0")
    ops = profiles.table_on.__wrapped__("seq-f32/1", "cuda:0")
    assert ops.name == "seq-f32/1"
    assert ops.add_units.__self__ is selftest.device_kernels("cuda:0")  # type: ignore[attr-defined]
