"""A partner is declined by its largest value; a residual is what a payload leaves; no payload stops a judge."""

import random
from math import inf, nan

import pytest
import torch
from torch import Tensor

from swarm.gossip.codecs.int4 import encode_int4
from swarm.gossip.trade.messages import Codec
from swarm.training.averaging.outer_step import MERGED_MAX
from swarm.training.model.exact.selftest import trusted_kernels
from swarm.training.model.stages import plans_of
from swarm.verify.program.merge import MergeNumbers, merge_program
from swarm.verify.program.nodes import INPUT, Builder, Node, Program
from swarm.verify.program.wire import CODECS, peaks_of
from tests.verify.program.test_merge import SCALARS, STAGE, a_run, noise
from tests.verify.program.test_microbatch import bits, on_wire
from tests.verify.program.test_wire import drawn


def run(program: Program, **given: Tensor) -> list[Tensor]:
    return program.run(trusted_kernels().kernels, given)


@pytest.mark.rule("V38", "V39")
@pytest.mark.parametrize("count", [1, 16, 17, 300])
@pytest.mark.parametrize(
    ("worst", "is_declined"),
    [
        (MERGED_MAX, False),
        (-MERGED_MAX, False),
        (MERGED_MAX * (1 + 2**-23), True),
        (-MERGED_MAX * (1 + 2**-23), True),
        (inf, True),
        (-inf, True),
        (nan, True),
    ],
)
def test_a_partner_is_declined_by_one_value_past_the_bound(
    worst: float, is_declined: bool, count: int
) -> None:
    b = Builder()
    given = (b.given("phi", count), b.given("momentum", count))
    largest = b.total(b.same("largest", *given), "peaks")
    weight = b.append(Node("taken", (largest.number,), (1,), (400_000_001,), dtype="int32"))
    program = b.program(weight=weight)
    x, y = torch.ones(count), -torch.ones(count)
    y[count // 2] = worst
    values = run(program, phi=x, momentum=y)
    assert values[weight.number].tolist() == [0 if is_declined else 400_000_001]
    for number in range(2, len(program.nodes)):
        last = tuple(extent - 1 for extent in program.nodes[number].shape)
        value = program.element(number, last, values)
        assert torch.equal(bits(value.view(1)), bits(values[number][last].view(1)))


@pytest.mark.rule("V39")
def test_what_is_no_number_has_one_bit_pattern() -> None:
    """On x86 the difference of two infinities has a sign, elsewhere it has none."""
    b = Builder()
    x, y = b.given("x", 4), b.given("y", 4)
    sums = (
        b.same("difference", x, y),
        b.same("kept_mean", x, y, y),
        b.same("momentum", x, x, y, alpha=1.0, beta=-1.0, gamma=1.0),
        b.same("advanced", x, y, x),
    )
    program = b.program(**{str(number): value for number, value in enumerate(sums)})
    values = run(program, x=torch.full((4,), inf), y=torch.full((4,), inf))
    for value in sums:
        assert set(bits(values[value.number]).tolist()) == {0x7FC00000}


@pytest.mark.rule("V38", "V39")
@pytest.mark.parametrize("numel", [1, 127, 128, 131, 300, (1 << 16) + 130])
def test_what_a_payload_leaves_is_the_residual_of_its_codec(numel: int) -> None:
    b = Builder()
    delta = b.given("delta", numel)
    peaks = peaks_of(b, delta, CODECS[Codec.INT4])
    left = b.same("unsaid", delta, peaks, most=7)
    program = b.program(left=left)
    x = drawn(numel, numel)
    residual = encode_int4(x, torch.zeros(numel), torch.zeros(numel)).residual_N
    values = run(program, delta=x)
    assert torch.equal(bits(values[left.number]), bits(residual))
    for at in {0, numel // 2, numel - 1}:
        value = program.element(left.number, (at,), values)
        assert torch.equal(bits(value.view(1)), bits(residual[at].view(1)))


@pytest.mark.rule("V39")
@pytest.mark.parametrize("name", ["int4-mean", "int4"])
@pytest.mark.parametrize("codec", list(Codec))
def test_attack_no_payload_stops_a_judge(codec: Codec, name: str) -> None:
    spec, rng = a_run(name, is_two=True), random.Random(codec.name)
    numel = plans_of(spec)[STAGE].num_parameters
    numbers = MergeNumbers(
        fragment=0, scalars=SCALARS, weight_nano=300_000_000, codec=codec, my_codec=codec
    )
    program = merge_program(spec, STAGE, numbers)
    given = {
        known: noise(program.nodes[number].shape[0], number)
        for known, number in program.inputs.items()
    }
    assert given["params"].numel() == numel
    length = program.nodes[program.inputs["payload"]].shape[0]
    for payload in (b"\xff" * length, rng.randbytes(length)):
        values = run(program, **{**given, "payload": on_wire(payload)})
        for number, node in enumerate(program.nodes):
            for _ in range(0 if node.operator == INPUT else 6):
                place = rng.randrange(values[number].numel())
                index = tuple(map(int, torch.unravel_index(torch.tensor(place), node.shape)))
                value = program.element(number, index, values)
                assert torch.equal(bits(value.view(1)), bits(values[number][index].view(1)))
