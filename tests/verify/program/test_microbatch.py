"""A micro-batch computed operator by operator has the bits of training, in every kind of stage."""

import random
from dataclasses import dataclass, field
from functools import cache
from math import prod

import numpy as np
import pytest
import torch
from torch import Tensor

from swarm.config.spec import AdapterSpec, RunSpec
from swarm.gossip.codecs.activations import from_wire, to_wire
from swarm.primitives.codec import replace
from swarm.training.messages import wire_of
from swarm.training.model.exact import reference
from swarm.training.model.exact.operators import rotary_tables
from swarm.training.model.exact.selftest import trusted_kernels
from swarm.training.model.llama import head_width
from swarm.training.model.stages import (
    Stage,
    init_flat,
    plans_of,
    run_backward,
    run_forward,
    run_loss,
    stage_of,
)
from swarm.types import Bytes, StageIndex
from swarm.verify.program.microbatch import microbatch_program
from swarm.verify.program.nodes import INPUT, Program
from tests.training.pipeline import a_spec

EXACT = "seq-f32/1"


def wide(spec: RunSpec, **model: int) -> RunSpec:
    return replace(spec, model=replace(spec.model, **model))


def adapted(spec: RunSpec, *targets: str) -> RunSpec:
    return replace(
        spec, adapter=AdapterSpec(rank=2, lora_alpha_nano=4_000_000_000, targets=targets)
    )


RUNS = {
    "one stage": a_spec(stages=1, numerics=EXACT),
    "two stages": a_spec(stages=2, numerics=EXACT),
    "three stages": a_spec(stages=3, numerics=EXACT),
    "a bottleneck": a_spec(stages=2, numerics=EXACT, rank=4),
    "int8 on the wire": a_spec(stages=2, numerics=EXACT, form="int8"),
    "int4 on the wire": a_spec(stages=3, numerics=EXACT, form="int4", rank=5),
    "bottlenecks in one stage": replace(a_spec(stages=2, numerics=EXACT, rank=4), num_stages=1),
    "grouped heads": wide(a_spec(stages=2, numerics=EXACT), num_kv_heads=1),
    "an adapter": adapted(a_spec(stages=2, numerics=EXACT), "q", "v", "o", "gate", "down"),
    "an adapter of queries": adapted(a_spec(stages=1, numerics=EXACT), "q"),
}
CASES = [(name, stage) for name, spec in RUNS.items() for stage in range(spec.num_stages)]


@dataclass
class Computed:
    """One micro-batch of a stage: by training, and by its program."""

    stage: Stage
    program: Program
    given: dict[str, Tensor]
    trained: dict[str, Tensor]
    values: list[Tensor] = field(default_factory=list[Tensor])


@cache
def computed(name: str, stage: int) -> Computed:
    spec = RUNS[name]
    plan, rng = plans_of(spec)[stage], torch.Generator().manual_seed(7)
    params_P = init_flat(plan, 5) + 0.02 * torch.randn(plan.num_parameters, generator=rng)
    base_W = None if plan.base is None else init_flat(plan.base, 3)
    model, shape = spec.model, (spec.microbatch_size, spec.model.seq_len)
    ids = torch.randint(0, model.vocab_size, shape, generator=rng)
    labels = torch.randint(0, model.vocab_size, shape, generator=rng)
    wires, floats = dict[str, Tensor](), dict[str, Tensor]()
    for side, scale in (("entry", 1.0), ("pull", 0.01)):
        x = scale * torch.randn(*shape, plan.signal_width, generator=rng)
        data = to_wire(x, spec.wire.activations)
        wires[f"{side}_wire"] = on_wire(data)
        floats[side] = from_wire(data, x.shape, spec.wire.activations)
    entry, pull = floats["entry"], floats["pull"]
    trained_by = stage_of(spec, stage, base_W)
    inputs = ids if plan.is_first else entry
    if model.bottleneck_rank and not plan.is_first:
        inputs = torch.cat((entry, ids.unsqueeze(-1).float()), -1)
    cos, sin = rotary_tables(shape[1], head_width(model), model.rope_theta, model.rope)
    rows = prod(shape)
    given = {
        "params": params_P,
        "ids": ids.view(rows).to(torch.int32),
        "labels": labels.view(rows).to(torch.int32),
        **wires,
        "cos": cos,
        "sin": sin,
    }
    if base_W is not None:
        given["base"] = base_W
    if plan.is_last:
        loss, down, gradient = run_loss(trained_by, params_P, inputs, labels)
        trained = {"loss": torch.tensor([loss]), "gradient": gradient}
    else:
        passed = run_forward(trained_by, params_P, inputs)
        down, gradient = run_backward(passed, pull)
        trained = {"activations": passed.output.view(rows, -1), "gradient": gradient}
        trained["activations_wire"] = on_wire(wire_of(spec, passed.output))
    if down is not None:
        trained["gradient_down"] = down.view(rows, -1)
        trained["gradient_down_wire"] = on_wire(wire_of(spec, down))
    program = microbatch_program(spec, StageIndex(stage))
    result = Computed(trained_by, program, given, trained)
    result.values = program.run(trusted_kernels().kernels, given)
    return result


def on_wire(data: Bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(data, np.uint8).copy())


def bits(x: Tensor) -> Tensor:
    return x if x.dtype is torch.uint8 else x.contiguous().view(torch.int32)


@pytest.mark.rule("V38")
@pytest.mark.parametrize(("name", "stage"), CASES)
def test_a_program_has_the_bits_of_training(name: str, stage: int) -> None:
    case = computed(name, stage)
    assert set(case.program.outputs) == set(case.trained)
    for output, expected in case.trained.items():
        value = case.values[case.program.outputs[output]]
        assert torch.equal(bits(value), bits(expected)), output


@pytest.mark.rule("V38")
def test_the_reference_gives_the_same_bits_for_every_node() -> None:
    """A machine without the compiled kernels, and every validator in a dispute, computes by these."""
    case = computed("grouped heads", 1)
    slow = case.program.run(reference, case.given)
    for number, (one, other) in enumerate(zip(case.values, slow, strict=True)):
        assert torch.equal(one, other), case.program.nodes[number]


@pytest.mark.rule("V39")
@pytest.mark.parametrize(("name", "stage"), CASES)
def test_every_node_can_be_computed_by_the_element(name: str, stage: int) -> None:
    """Of each node some elements: the first, the last, and a few at random."""
    case, rng = computed(name, stage), random.Random(f"{name}{stage}")
    for number, node in enumerate(case.program.nodes):
        if node.operator == INPUT:
            continue
        extents = node.shape
        places = {tuple(0 for _ in extents), tuple(extent - 1 for extent in extents)}
        places |= {tuple(rng.randrange(extent) for extent in extents) for _ in range(6)}
        for index in sorted(places):
            value = case.program.element(number, index, case.values)
            expected = case.values[number][index]
            assert torch.equal(bits(value.view(1)), bits(expected.view(1))), (node, index)
