"""A false value anywhere in a program is pinned to its node and element; other inputs are refused."""

import random

import pytest
import torch
from torch import Tensor

from swarm.errors import UsageError
from swarm.primitives.commitments import hash_of
from swarm.training.model.exact.selftest import trusted_kernels
from swarm.types import StageIndex
from swarm.verify.program import nodes
from swarm.verify.program.microbatch import microbatch_program
from swarm.verify.program.nodes import INPUT, Program
from tests.verify.program.test_microbatch import RUNS, bits, computed
from tests.verify.program.test_update import stepped

FAULTS = 60
"""Of each program; half of them in a micro-batch, half in an update."""


def with_fault(program: Program, given: dict[str, Tensor], at: int, place: int) -> list[Tensor]:
    """The values of who changes the lowest bit of one value, and goes on from there."""

    def watch(number: int, value: Tensor) -> Tensor:
        if number != at:
            return value
        false = value.clone().contiguous()
        bits(false.view(-1))[place] ^= 1
        return false

    return program.run(trusted_kernels().kernels, given, watch)


def first_difference(honest: list[Tensor], false: list[Tensor]) -> int:
    """As both sides of a dispute find it: by the hashes of values."""
    pairs = enumerate(zip(honest, false, strict=True))
    return next(number for number, (a, b) in pairs if hash_of(a) != hash_of(b))


@pytest.mark.rule("V39")
@pytest.mark.parametrize("which", ["a micro-batch", "an update"])
def test_random_faults_are_pinned_to_their_node_and_element(which: str) -> None:
    rng, pinned = random.Random(which), 0
    case = computed("grouped heads", 1) if which == "a micro-batch" else stepped("muon", 1)
    program, given, honest = case.program, case.given, case.values
    computes = [n for n, node in enumerate(program.nodes) if node.operator != INPUT]
    while pinned < FAULTS:
        at = rng.choice(computes)
        place = rng.randrange(honest[at].numel())
        false = with_fault(program, given, at, place)
        number = first_difference(honest, false)
        assert number == at
        differing = (bits(honest[at]) != bits(false[at])).nonzero().tolist()
        assert len(differing) == 1
        index = tuple(differing[0])
        judged = program.element(number, index, honest)  # all before it is as both sides have it
        assert torch.equal(bits(judged.view(1)), bits(honest[at][index].view(1)))
        assert not torch.equal(bits(judged.view(1)), bits(false[at][index].view(1)))
        pinned += 1


@pytest.mark.rule("V38", "V39")
def test_a_deep_product_goes_on_from_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a run whose rows are longer than a block has room for."""
    case = computed("grouped heads", 1)
    monkeypatch.setattr(nodes, "DEPTH", 12)
    program = microbatch_program(RUNS["grouped heads"], StageIndex(1))
    assert len(program.nodes) > len(case.program.nodes)
    values = program.run(trusted_kernels().kernels, case.given)
    for name, number in program.outputs.items():
        assert torch.equal(bits(values[number]), bits(case.values[case.program.outputs[name]]))
    rng = random.Random(0)
    for number, node in enumerate(program.nodes):
        if node.operator == "product":
            index = tuple(rng.randrange(extent) for extent in node.shape)
            value = program.element(number, index, values)
            assert torch.equal(bits(value.view(1)), bits(values[number][index].view(1)))


def test_what_does_not_fit_a_program_is_our_own_mistake() -> None:
    case = computed("two stages", 0)
    kernels = trusted_kernels().kernels
    with pytest.raises(UsageError):
        case.program.run(kernels, {k: v for k, v in case.given.items() if k != "pull_wire"})
    with pytest.raises(UsageError):
        case.program.run(kernels, {**case.given, "pull_wire": case.given["pull_wire"][:-1]})
    last = len(case.program.nodes) - 1
    for number, index in ((0, (0,)), (last, (0, 0)), (last, (-1,)), (last, (10**9,))):
        with pytest.raises(UsageError):
            case.program.element(number, index, case.values)
