"""One element, shown with all that it is computed from, decides between two traces; nothing else passes."""

import random
from functools import cache

import pytest
import torch
from torch import Tensor

from swarm.errors import PeerFault, UsageError
from swarm.primitives.codec import encode, replace
from swarm.training.model.exact.selftest import trusted_kernels
from swarm.types import Digest
from swarm.verify.program.nodes import INPUT, Program
from swarm.verify.program.reveal import (
    CHUNK_BYTES,
    Operand,
    Reveal,
    Run,
    judge,
    reveal,
    trace_root,
    value_root,
)
from tests.verify.program.test_microbatch import RUNS, computed
from tests.verify.program.test_update import stepped

FAULTS = 55
"""Random faults in each of two programs."""
BYTES_MAX = 64 << 10
"""Bytes of a transaction."""


def false_trace(
    program: Program, given: dict[str, Tensor], at: int, place: int, bit: int
) -> list[Tensor]:
    """The trace of who flips one bit of one value and goes on from there."""

    def watch(number: int, value: Tensor) -> Tensor:
        if number != at:
            return value
        false = value.clone().contiguous()
        false.view(-1).view(torch.int32)[place] ^= 1 << bit
        return false

    return program.run(trusted_kernels().kernels, given, watch)


@cache
def case_of(which: str) -> tuple[Program, dict[str, Tensor], list[Tensor], Digest]:
    case = computed("grouped heads", 1) if which == "a micro-batch" else stepped("muon", 1)
    return case.program, case.given, case.values, trace_root(case.values)


@pytest.mark.rule("V40")
@pytest.mark.parametrize("which", ["a micro-batch", "an update"])
def test_random_faults_are_convicted_by_one_element_and_honest_ones_are_not(which: str) -> None:
    program, given, honest, root = case_of(which)
    rng, largest = random.Random(which), 0
    computes = [n for n, node in enumerate(program.nodes) if node.operator != INPUT]
    for _ in range(FAULTS):
        at, bit = rng.choice(computes), rng.randrange(31)
        place = rng.randrange(honest[at].numel())
        false = false_trace(program, given, at, place, bit)
        shown = reveal(program, false, at, place)
        assert not judge(program, trace_root(false), shown)
        assert judge(program, root, reveal(program, honest, at, place))
        largest = max(largest, len(encode(shown)))
    assert largest <= BYTES_MAX


@pytest.mark.rule("V40")
@pytest.mark.parametrize("name", RUNS)
def test_some_element_of_every_operator_stands(name: str) -> None:
    case, rng = computed(name, 0), random.Random(name)
    root = trace_root(case.values)
    seen = set[str]()
    for number, node in enumerate(case.program.nodes):
        if node.operator != INPUT and node.operator not in seen:
            seen.add(node.operator)
            place = rng.randrange(case.values[number].numel())
            assert judge(case.program, root, reveal(case.program, case.values, number, place)), node


@pytest.mark.rule("V40")
def test_a_reveal_out_of_another_trace_or_with_another_value_is_refused() -> None:
    """A liar cannot show operands that make its value right: each is under the root that it committed to."""
    program, given, honest, root = case_of("a micro-batch")
    at = next(n for n, node in enumerate(program.nodes) if node.operator == "weights")
    false = false_trace(program, given, at, 5, 3)
    shown, lie = reveal(program, honest, at, 5), reveal(program, false, at, 5)
    with pytest.raises(PeerFault):
        judge(program, trace_root(false), shown)
    with pytest.raises(PeerFault):
        judge(program, root, lie)
    run = shown.operands[0].runs[0]
    changed = bytearray(run.data)
    changed[3] ^= 1
    forged = replace(run, data=bytes(changed))
    with pytest.raises(PeerFault):
        judge(program, root, with_run(shown, forged))
    with pytest.raises(PeerFault):
        judge(program, root, replace(shown, operands=(replace(shown.operands[0], runs=()),)))


def with_run(shown: Reveal, run: Run) -> Reveal:
    first = shown.operands[0]
    changed: Operand = replace(first, runs=(run, *first.runs[1:]))
    return replace(shown, operands=(changed, *shown.operands[1:]))


@pytest.mark.rule("V40")
def test_whatever_is_shown_nobody_falls_over() -> None:
    program, _, honest, root = case_of("a micro-batch")
    at = next(n for n, node in enumerate(program.nodes) if node.operator == "product")
    shown = reveal(program, honest, at, 7)
    run = shown.operands[0].runs[0]
    lies = [
        replace(shown, node=-1),
        replace(shown, node=10**9),
        replace(shown, node=0),
        replace(shown, place=-1),
        replace(shown, place=10**12),
        replace(shown, operands=()),
        replace(shown, operands=shown.operands * 2),
        replace(shown, claimed=shown.operands[0]),
        replace(shown, claimed=replace(shown.claimed, runs=())),
        with_run(shown, replace(run, first=-1)),
        with_run(shown, replace(run, first=10**9)),
        with_run(shown, replace(run, data=b"")),
        with_run(shown, replace(run, data=run.data[:-1])),
        with_run(shown, replace(run, data=run.data + bytes(CHUNK_BYTES))),
        with_run(shown, replace(run, path=())),
        with_run(shown, replace(run, path=(*run.path, bytes(32)))),
        with_run(shown, replace(run, path=tuple(part[:-1] for part in run.path))),
    ]
    for lie in lies:
        with pytest.raises(PeerFault):
            judge(program, root, lie)
    for number, place in ((0, 0), (at, -1), (at, 10**9)):
        with pytest.raises(UsageError):
            reveal(program, honest, number, place)


@pytest.mark.rule("V40")
def test_a_value_of_another_shape_has_another_root() -> None:
    x = torch.arange(200, dtype=torch.float32)
    assert value_root(x) == value_root(x.view(10, 20)), "a shape is the program's"
    assert len({value_root(x), value_root(x[:-1]), value_root(x[:192]), value_root(-x)}) == 4
