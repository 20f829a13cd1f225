"""A node trusts kernels only with every golden hash right, and says plainly what to do otherwise."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from swarm.errors import BadConfig
from swarm.training.model import profiles
from swarm.training.model.exact import native, reference, selftest
from swarm.training.model.exact.native import Compiled, NotBuilt
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
