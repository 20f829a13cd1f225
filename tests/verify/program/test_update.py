"""A step computed operator by operator has the bits of the optimizer, AdamW's and Muon's."""

import dataclasses
import random
from dataclasses import dataclass
from functools import cache

import pytest
import torch
from torch import Tensor

from swarm.config.spec import RunSpec
from swarm.errors import UsageError
from swarm.primitives.codec import replace
from swarm.primitives.merkle import merkle_root
from swarm.training.model.exact.selftest import trusted_kernels
from swarm.training.model.optimizer import (
    GradientSum,
    OptimizerState,
    learning_rate,
    muon_matrices,
    num_second_moments,
    optimizer_step,
)
from swarm.training.model.profiles import table
from swarm.training.model.stages import init_flat, plans_of
from swarm.training.shard import PIECE_VALUES
from swarm.types import RoundIndex, StageIndex
from swarm.verify.program import nodes
from swarm.verify.program.nodes import INPUT, Program
from swarm.verify.program.operators import FOLD
from swarm.verify.program.reveal import computed, reveal, value_roots
from swarm.verify.program.update import StepNumbers, update_program
from tests.training.pipeline import a_spec
from tests.verify.program.test_microbatch import EXACT, bits
from tests.verify.program.test_model_operators import spec_in

NUMBERS = StepNumbers(round=RoundIndex(2), step=3, seen=11, microbatches=3, first=0)


def tuned(spec: RunSpec, **changes: int) -> RunSpec:
    return replace(spec, optimizer=replace(spec.optimizer, **changes))


ADAMW = a_spec(stages=2, numerics=EXACT)
MUON = a_spec(stages=2, numerics=EXACT, optimizer="muon")
RUNS = {
    "adamw": ADAMW,
    "adamw without decay": tuned(ADAMW, weight_decay_nano=0),
    "adamw, never clipped": tuned(ADAMW, clip_norm_nano=0),
    "adamw, always clipped": tuned(ADAMW, clip_norm_nano=1_000_000),
    "muon": MUON,
    "muon without decay": tuned(MUON, weight_decay_nano=0),
    "muon with a bottleneck": a_spec(stages=2, numerics=EXACT, optimizer="muon", rank=4),
}
CASES = [(name, stage) for name in RUNS for stage in (0, 1)]


@dataclass
class Stepped:
    """One step, by the optimizer and by its program."""

    program: Program
    given: dict[str, Tensor]
    moved: dict[str, Tensor]
    values: list[Tensor]


@cache
def stepped(name: str, stage: int) -> Stepped:
    spec, rng = RUNS[name], torch.Generator().manual_seed(3)
    plan, ops = plans_of(spec)[stage], table(EXACT)
    matrices, numel = muon_matrices(spec.optimizer, plan), plan.num_parameters
    params_P = init_flat(plan, 4)
    m_P = 0.01 * torch.randn(numel, generator=rng)
    v_A = 1e-4 * torch.rand(num_second_moments(spec.optimizer, plan), generator=rng)
    gradients = [0.05 * torch.randn(numel, generator=rng) for _ in range(NUMBERS.microbatches)]
    given = {"params": params_P, "m": m_P, "v": v_A}
    given |= {f"gradient_{number}": gradient for number, gradient in enumerate(gradients)}
    state = OptimizerState(m_P.clone(), v_A.clone(), NUMBERS.seen)
    total, after_P = GradientSum(numel, ops), params_P.clone()
    for gradient in gradients:
        total.add(gradient)
    mean_P = total.mean()
    rate = learning_rate(spec.optimizer, spec.inner_steps_max, NUMBERS.round, NUMBERS.step)
    decayed = plan.decayed
    norm = optimizer_step(
        ops, after_P, mean_P.clone(), state, rate, spec.optimizer, decayed, matrices
    )
    moved = {"params": after_P, "m": state.m_P, "v": state.v_A, "piece": mean_P[:PIECE_VALUES]}
    program = update_program(spec, StageIndex(stage), NUMBERS)
    values = program.run(trusted_kernels().kernels, given)
    squares = float(values[program.outputs["squares"]])
    assert squares**0.5 == norm
    return Stepped(program, given, moved, values)


@pytest.mark.rule("V38")
@pytest.mark.parametrize(("name", "stage"), CASES)
def test_a_program_has_the_bits_of_the_optimizer(name: str, stage: int) -> None:
    case = stepped(name, stage)
    for output, expected in case.moved.items():
        value = case.values[case.program.outputs[output]]
        assert torch.equal(bits(value), bits(expected)), output


@pytest.mark.rule("V7", "V38")
def test_the_piece_of_a_gradient_is_the_one_that_is_drawn() -> None:
    spec = spec_in("configs/demo.toml")
    numel = plans_of(spec)[0].num_parameters
    last = numel // PIECE_VALUES * PIECE_VALUES
    for first, length in ((0, PIECE_VALUES), (PIECE_VALUES, PIECE_VALUES), (last, numel - last)):
        program = update_program(spec, StageIndex(0), dataclasses.replace(NUMBERS, first=first))
        piece = program.nodes[program.outputs["piece"]]
        (mean,) = piece.inputs
        assert program.nodes[mean].operator == "mean_units", "before it is clipped"
        assert (piece.operator, piece.shape) == ("slice", (length,))
        assert piece.attributes == (first,)
    for first in (-1, numel):
        with pytest.raises(UsageError):
            update_program(spec, StageIndex(0), dataclasses.replace(NUMBERS, first=first))


@pytest.mark.rule("V39")
@pytest.mark.parametrize(("name", "stage"), CASES)
def test_every_node_of_a_step_can_be_computed_by_the_element(name: str, stage: int) -> None:
    case, rng = stepped(name, stage), random.Random(f"{name}{stage}")
    for number, node in enumerate(case.program.nodes):
        if node.operator == INPUT:
            continue
        places = {tuple(0 for _ in node.shape), tuple(extent - 1 for extent in node.shape)}
        places |= {tuple(rng.randrange(extent) for extent in node.shape) for _ in range(4)}
        for index in sorted(places):
            value = case.program.element(number, index, case.values)
            expected = case.values[number][index]
            assert torch.equal(bits(value.view(1)), bits(expected.view(1))), (node, index)


@pytest.mark.rule("V38", "V39")
@pytest.mark.parametrize("count", [1, 16, 17, 40])
def test_many_gradients_are_added_up_a_few_at_a_time_to_the_same_bits(count: int) -> None:
    case, rng = stepped("adamw", 0), torch.Generator().manual_seed(count)
    numel = case.given["params"].numel()
    gradients = [torch.randn(numel, generator=rng) for _ in range(count)]
    given = case.given | {f"gradient_{number}": one for number, one in enumerate(gradients)}
    numbers = dataclasses.replace(NUMBERS, microbatches=count)
    program = update_program(ADAMW, StageIndex(0), numbers)
    values, total = program.run(trusted_kernels().kernels, given), GradientSum(numel, table(EXACT))
    for gradient in gradients:
        total.add(gradient)
    roots = value_roots(program, values)
    root, kinds = merkle_root(roots), {"sum_units", "mean_units"}
    nodes_ = [n for n, node in enumerate(program.nodes) if node.operator in kinds]
    assert len(nodes_) == 1 + -(-count // FOLD)
    assert torch.equal(bits(values[nodes_[-1]]), bits(total.mean()))
    for number in nodes_:
        node = program.nodes[number]
        assert len(node.inputs) <= FOLD
        assert node.dtype == str(values[number].dtype).removeprefix("torch.")
        for at in (0, numel // 2, numel - 1):
            value = program.element(number, (at,), values)
            assert torch.equal(bits(value.view(1)), bits(values[number][at].view(1)))
            right = computed(program, root, reveal(program, values, roots, number, at))
            assert right is not None
            assert torch.equal(right, values[number][at])


@pytest.mark.rule("V38", "V39")
def test_a_deep_symmetric_product_goes_on_from_the_one_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in a run whose matrices have rows longer than a block has room for."""
    case, rng = stepped("muon", 1), random.Random(2)
    monkeypatch.setattr(nodes, "DEPTH", 12)
    program = update_program(RUNS["muon"], StageIndex(1), NUMBERS)
    assert len(program.nodes) > len(case.program.nodes)
    values = program.run(trusted_kernels().kernels, case.given)
    for name, number in program.outputs.items():
        assert torch.equal(bits(values[number]), bits(case.values[case.program.outputs[name]]))
    for number, node in enumerate(program.nodes):
        if node.operator == "symmetric":
            index = tuple(rng.randrange(extent) for extent in node.shape)
            value = program.element(number, index, values)
            assert torch.equal(bits(value.view(1)), bits(values[number][index].view(1)))
