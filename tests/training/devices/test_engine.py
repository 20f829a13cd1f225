"""One device computes what the stages do; where torch.compile fails, one word is said and all goes on."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from swarm.training.devices.engine import CompiledStage, LocalEngine, local_engine
from swarm.training.model.exact import selftest
from swarm.training.model.optimizer import GradientSum
from swarm.training.model.profiles import BF16_NAME, EXACT_NAME
from swarm.training.model.stages import init_flat, run_backward, run_forward, run_loss, stage_of
from tests.training.model.exact.emulated import emulated_kernels
from tests.training.pipeline import a_spec

SPEC = a_spec()
PARAMS = [init_flat(stage_of(SPEC, stage).plan, 1) for stage in range(2)]
SHAPE = (SPEC.microbatch_size, SPEC.model.seq_len)


def ids(seed: int) -> Tensor:
    return torch.randint(0, 256, SHAPE, generator=torch.Generator().manual_seed(seed))


def micro_batch(engines: list[LocalEngine]) -> tuple[float, Tensor, Tensor]:
    """(loss, gradient of stage 0, gradient of stage 1)."""
    passed = engines[0].forward(PARAMS[0], 1, ids(1))
    loss, grad_inputs, last_P = engines[1].loss(PARAMS[1], 1, passed.output, ids(2))
    assert grad_inputs is not None
    nothing, first_P = engines[0].backward(passed, grad_inputs)
    assert nothing is None
    return loss, first_P, last_P


def test_a_pass_that_is_computed_again_has_the_same_bits_and_keeps_nothing() -> None:
    again = [local_engine(SPEC, stage, recompute="always") for stage in range(2)]
    kept = [local_engine(SPEC, stage, recompute="never") for stage in range(2)]
    assert again[0].forward(PARAMS[0], 1, ids(1)).graph is None
    assert kept[0].forward(PARAMS[0], 1, ids(1)).graph is not None
    found, expected = micro_batch(again), micro_batch(kept)
    assert found[0] == expected[0]
    assert torch.equal(found[1], expected[1])
    assert torch.equal(found[2], expected[2])


def test_on_the_cpu_it_is_the_stages_bit_for_bit() -> None:
    stages = [stage_of(SPEC, stage) for stage in range(2)]
    passed = run_forward(stages[0], PARAMS[0], ids(1))
    loss, grad, last_P = run_loss(stages[1], PARAMS[1], passed.output, ids(2))
    assert grad is not None
    _, first_P = run_backward(passed, grad)
    engines = [local_engine(SPEC, stage) for stage in range(2)]
    mine = micro_batch(engines)
    assert mine[0] == loss
    assert torch.equal(mine[1], first_P)
    assert torch.equal(mine[2], last_P)
    assert engines[1].probe(PARAMS[1], passed.output, ids(2)) == loss
    assert isinstance(engines[0].gradients(3), GradientSum)
    assert not engines[0].is_gone


@pytest.mark.rule("T2a")
def test_exact_runs_are_neither_moved_nor_compiled() -> None:
    engine = local_engine(a_spec(numerics=EXACT_NAME), 0, "cuda:0", compiles=True)
    assert engine.home.type == "cpu"
    assert not isinstance(engine._stage, CompiledStage)


@pytest.mark.rule("T2a")
def test_on_a_device_that_passed_exact_runs_are_not_compiled_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(selftest, "_TESTED", {"cuda:7": emulated_kernels()})
    engine = local_engine(a_spec(numerics=EXACT_NAME), 0, "cuda:7", compiles=True)
    assert engine.home == torch.device("cuda:7")
    assert not isinstance(engine._stage, CompiledStage)
    assert engine._stage.ops.name == EXACT_NAME


def test_a_bf16_run_computes_in_bf16_here_too() -> None:
    engines = [local_engine(a_spec(numerics=BF16_NAME), stage) for stage in range(2)]
    loss = micro_batch(engines)[0]
    expected = micro_batch([local_engine(SPEC, stage) for stage in range(2)])[0]
    assert loss != expected
    assert loss == pytest.approx(expected, rel=0.01)


def broken(_: Callable[..., Tensor], **__: object) -> Callable[..., Tensor]:
    def fail(*_: Tensor) -> Tensor:
        raise RuntimeError("no C++ compiler\nand a long story")

    return fail


def test_a_compiler_that_fails_costs_one_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", broken)
    engines = [local_engine(SPEC, stage, compiles=True) for stage in range(2)]
    expected = micro_batch([local_engine(SPEC, stage) for stage in range(2)])
    for _ in range(2):
        loss, first_P, last_P = micro_batch(engines)
        assert loss == pytest.approx(expected[0], rel=1e-6)
        torch.testing.assert_close(first_P, expected[1], rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(last_P, expected[2], rtol=1e-4, atol=1e-7)
    for engine in engines:
        assert list(engine.notices) == [
            "torch.compile failed, going on without it: no C++ compiler"
        ]


def test_a_backward_half_that_fails_to_compile_is_computed_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_: Tensor) -> Tensor:
        raise RuntimeError("no room for the backward half")

    def half(pass_: Callable[..., Tensor], **_: object) -> Callable[..., Tensor]:
        def passing(*inputs: Tensor) -> Tensor:
            out = pass_(*inputs)
            out.register_hook(fail)  # type: ignore[no-untyped-call]
            return out

        return passing

    monkeypatch.setattr(torch, "compile", half)
    engines = [local_engine(SPEC, stage, compiles=True) for stage in range(2)]
    assert micro_batch(engines)[0] > 0
    assert all(len(engine.notices) == 1 for engine in engines)


def test_what_is_wrong_without_a_compiler_is_raised() -> None:
    engine = local_engine(SPEC, 1)
    with pytest.raises(RuntimeError):
        engine.loss(PARAMS[1].double(), 1, torch.zeros(*SHAPE, 16), ids(2))
