"""Values that are not finite spoil their row alone; an element reads what a block has room for."""

import dataclasses
from collections.abc import Iterator
from itertools import product
from math import prod
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from swarm.config.load import parse_run_file, planned_spec
from swarm.config.spec import RunSpec, WireSpec
from swarm.gossip.trade.messages import Codec
from swarm.ledger.check_statements import MOVE_BYTES_MAX
from swarm.primitives.codec import encode, replace
from swarm.primitives.openings import Content, Opening, Place, children, is_leaf
from swarm.training.averaging.outer_step import PRESETS
from swarm.training.averaging.payload import common_codec
from swarm.training.model.exact import reference
from swarm.training.model.exact.selftest import trusted_kernels
from swarm.training.model.optimizer import MICROBATCHES_MAX
from swarm.types import Digest, RoundIndex, StageIndex
from swarm.verify.program.game import Show
from swarm.verify.program.merge import MergeNumbers, copy_program, merge_program
from swarm.verify.program.microbatch import microbatch_program
from swarm.verify.program.nodes import INPUT, Builder, Program
from swarm.verify.program.reveal import Operand, Reveal, index_of, leaves_of
from swarm.verify.program.update import StepNumbers, update_program
from swarm.verify.program.wire import WIRES

ROOT = Path(__file__).parents[3]
INPUT_BYTES_MAX = 64 << 10
"""Bytes of the inputs of one element: they go on the ledger."""
HASH = Digest(b"\xff" * 32)
RUNS = (
    "configs/demo.toml",
    "configs/run-125m.toml",
    "configs/run-1b3.toml",
    "configs/run-6b8.toml",
)


def spec_in(file: str) -> RunSpec:
    return planned_spec(parse_run_file((ROOT / file).read_text("utf-8"), file))


Ranges = list[list[tuple[int, int]]]
"""Of each operand, the runs of values that an element reads."""


def kinds_in(program: Program) -> Iterator[tuple[int, object]]:
    """Computed nodes, with what the reads of their elements depend on."""
    for number, node in enumerate(program.nodes):
        if node.operator != INPUT:
            shapes = tuple(program.nodes[at].shape for at in node.inputs)
            yield number, (node.operator, node.attributes, shapes)


def reads_of(program: Program, number: int, place: int) -> Ranges:
    """What an element reads; no tensor is made."""
    node = program.nodes[number]
    operands = [program.nodes[at] for at in node.inputs]
    found: Ranges = [[] for _ in operands]

    def read(operand: int, start: int, count: int) -> Tensor:
        assert 0 <= start <= start + count <= prod(operands[operand].shape)
        found[operand].append((start, start + count))
        return torch.from_numpy(np.zeros(count, operands[operand].dtype))

    program.element_of(number, index_of(node.shape, place), read)
    return found


def largest_element(program: Program) -> dict[str, int]:
    """Bytes that the last element of each operator reads, at most."""
    found, seen = dict[str, int](), set[object]()
    for number, kind in kinds_in(program):
        if kind not in seen:
            seen.add(kind)
            node = program.nodes[number]
            ranges = reads_of(program, number, prod(node.shape) - 1)
            read = zip(node.inputs, ranges, strict=True)
            count = sum(
                program.nodes[at].item_bytes * (b - a) for at, part in read for a, b in part
            )
            found[node.operator] = max(found.get(node.operator, 0), count)
    return found


def reveal_bytes(program: Program, number: int, place: int) -> int:
    """Bytes of the move that shows an element, with all its leaves and paths."""
    shown, depth = list[Operand](), (len(program.nodes) - 1).bit_length()
    inputs = program.nodes[number].inputs
    for at, ranges in zip(inputs, reads_of(program, number, place), strict=True):
        node = program.nodes[at]
        openings = tuple(
            Opening(start, bytes(stop - start), (HASH,) * beside(node.content, start, stop))
            for start, stop in leaves_of(node, ranges)
        )
        shown.append(Operand(HASH, (HASH,) * depth, openings))
    return len(encode(Show(Reveal(number, place, tuple(shown)))))


def beside(content: Content, start: int, stop: int, place: Place | None = None) -> int:
    """Hashes that lie beside some bytes, up to their digest."""
    here = place or content.top
    first, last = content.span(here)
    if not (first < stop and start < last):
        return 1
    below = [] if is_leaf(content, here) else children(content, here, 1)
    return sum(beside(content, start, stop, one) for one in below)


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


@pytest.mark.rule("V39", "V40")
def test_what_shows_an_element_fits_into_a_move(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the largest packaged run, with as many micro-batches as a step may count."""
    monkeypatch.setattr(reference, "fma", lambda _a, _b, total: total)
    spec, seen = spec_in(RUNS[-1]), set[object]()
    full = dataclasses.replace(UPDATE, microbatches=MICROBATCHES_MAX)
    for stage in {0, spec.num_stages - 1}:
        programs = programs_of(spec, StageIndex(stage))
        for program in (update_program(spec, StageIndex(stage), full), *programs):
            for number, kind in kinds_in(program):
                if kind not in seen:
                    seen.add(kind)
                    last = prod(program.nodes[number].shape) - 1
                    for place in {0, last // 3, last // 2, last}:
                        assert reveal_bytes(program, number, place) <= MOVE_BYTES_MAX, kind


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
