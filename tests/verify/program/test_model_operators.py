"""Values that are not finite spoil their row alone; an element reads what a block has room for."""

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from swarm.config.load import parse_run_file, planned_spec
from swarm.config.spec import RunSpec, WireSpec
from swarm.gossip.trade.messages import Codec
from swarm.primitives.codec import replace
from swarm.training.averaging.outer_step import PRESETS
from swarm.training.averaging.payload import common_codec
from swarm.training.model.exact import reference
from swarm.training.model.exact.selftest import trusted_kernels
from swarm.types import RoundIndex, StageIndex
from swarm.verify.program.merge import MergeNumbers, copy_program, merge_program
from swarm.verify.program.microbatch import microbatch_program
from swarm.verify.program.nodes import INPUT, OPERATORS, Builder, Node, Program
from swarm.verify.program.update import StepNumbers, update_program
from swarm.verify.program.wire import WIRES

ROOT = Path(__file__).parents[3]
INPUT_BYTES_MAX = 64 << 10
"""Bytes of the inputs of one element: they go on the ledger."""
RUNS = (
    "configs/demo.toml",
    "configs/run-125m.toml",
    "configs/run-1b3.toml",
    "configs/run-6b8.toml",
)


def spec_in(file: str) -> RunSpec:
    return planned_spec(parse_run_file((ROOT / file).read_text("utf-8"), file))


def largest_element(program: Program) -> dict[str, int]:
    """Bytes that the last element of each operator reads, at most; no tensor is made."""
    found, seen = dict[str, int](), set[object]()
    for node in program.nodes:
        kind = (node.operator, node.attributes, *(program.nodes[at].shape for at in node.inputs))
        if node.operator == INPUT or kind in seen:
            continue
        seen.add(kind)
        operands = [program.nodes[at] for at in node.inputs]
        shapes, count = [operand.shape for operand in operands], 0

        def read(operand: int, start: int, number: int, of: Sequence[Node] = operands) -> Tensor:
            nonlocal count
            assert 0 <= start <= start + number <= torch.Size(of[operand].shape).numel()
            count += number * of[operand].item_bytes
            return torch.from_numpy(np.zeros(number, of[operand].dtype))

        if node.operator not in {"embedded", "loss_rows", "gathered"}:
            index = tuple(extent - 1 for extent in node.shape)
            OPERATORS[node.operator].element(node.attributes, node.shape, shapes, index, read)
        else:  # these read by token
            count = 8 * shapes[0][-1] if node.operator == "gathered" else 16
        found[node.operator] = max(found.get(node.operator, 0), count)
    return found


UPDATE = StepNumbers(round=RoundIndex(0), step=0, seen=0, microbatches=4, first=0)


def programs_of(spec: RunSpec, stage: StageIndex) -> Iterator[Program]:
    """All programs of a stage, with the merges of every codec, in a run of one tensor and of two."""
    for form in WIRES:
        yield microbatch_program(replace(spec, wire=WireSpec(activations=form)), stage)
    yield update_program(spec, stage, UPDATE)
    yield copy_program(spec, stage, 0)
    for codec, gamma in product(("int8", "int4", "int4-mean", "int3-mean", "bf16"), (0, 1)):
        gamma_nano = spec.outer.beta_nano + gamma
        run = replace(spec, outer=replace(spec.outer, codec=codec, gamma_nano=gamma_nano))
        used = common_codec(run, 0)
        for is_final, sent in ((False, used), (False, Codec.BF16), (True, Codec.F32)):
            numbers = MergeNumbers(
                fragment=0,
                scalars=PRESETS["noloco"],
                weight_nano=1,
                codec=sent,
                my_codec=sent,
                moves_residual=codec == "int4" and sent is Codec.INT4,
                is_final_averaging=is_final,
            )
            yield merge_program(run, stage, numbers)


@pytest.mark.rule("V39")
@pytest.mark.parametrize("file", RUNS)
def test_an_element_reads_what_a_block_has_room_for(
    file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the shapes of the packaged runs, the largest of 6.8 billion parameters; only reads are counted."""
    monkeypatch.setattr(reference, "fma", lambda _a, _b, total: total)
    spec = spec_in(file)
    for stage in {0, spec.num_stages - 1}:
        for program in programs_of(spec, StageIndex(stage)):
            assert max(largest_element(program).values()) <= INPUT_BYTES_MAX


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_row_of_logits_that_is_not_finite_spoils_itself_alone(bad: float) -> None:
    logits = torch.randn(3, 40, generator=torch.Generator().manual_seed(1))
    logits[1, 7] = bad
    labels = torch.tensor([3, 7, 9], dtype=torch.int32)
    builder = Builder()
    given, marks = builder.given("logits", 3, 40), builder.given("labels", 3)
    peak = builder.row_totals(given, "peaks")
    raised = builder.same("raised", given, peak)
    total = builder.row_totals(raised)
    shares = builder.same("shares", raised, total)
    losses = builder.put("loss_rows", (3,), given, peak, total, marks)
    program = builder.program(shares=shares, losses=losses)
    values = program.run(trusted_kernels().kernels, {"logits": logits, "labels": labels})
    loss_N, shares_NV = reference.cross_entropy(logits, labels.long())
    assert torch.equal(values[shares.number].isnan(), shares_NV.isnan())
    assert torch.equal(values[losses.number].isnan(), loss_N.isnan())
    for row in (0, 2):
        assert torch.equal(values[shares.number][row], shares_NV[row])
        assert torch.equal(values[losses.number][row], loss_N[row])


def test_a_chain_that_goes_on_keeps_the_sign_of_a_zero() -> None:
    builder = Builder()
    left, right = builder.given("left", 1, 2), builder.given("right", 1, 2)
    numbers = {"copies": 1, "is_positive": 0}
    first = builder.put("product", (1, 1), left, right, **numbers, start=0, stop=1)
    whole = builder.put("product", (1, 1), left, right, first, **numbers, start=1, stop=2)
    program = builder.program(whole=whole)
    x, y = torch.tensor([[-1e-30, -1.0]]), torch.tensor([[1e-30, 0.0]])
    values = program.run(trusted_kernels().kernels, {"left": x, "right": y})
    for number in (first.number, whole.number):
        one = program.element(number, (0, 0), values)
        assert torch.equal(one.view(1).view(torch.int32), values[number].view(-1).view(torch.int32))


@pytest.mark.rule("V39")
def test_an_element_of_an_update_reads_little() -> None:
    spec = spec_in("configs/demo.toml")
    found = largest_element(update_program(spec, StageIndex(0), UPDATE))
    assert max(found.values()) <= 2 << 10, "rows of the matrices that Muon moves"
