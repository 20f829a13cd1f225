"""One element, shown with all that it is computed from, decides between two traces; nothing else passes."""

import random
from functools import cache

import pytest
import torch
from torch import Tensor

from swarm.errors import PeerFault, UsageError
from swarm.primitives.codec import encode, replace
from swarm.primitives.commitments import hash_of
from swarm.primitives.merkle import merkle_proof
from swarm.primitives.openings import Opening
from swarm.training.model.exact.selftest import trusted_kernels
from swarm.verify.program.nodes import INPUT, Program
from swarm.verify.program.reveal import (
    OPENED_BYTES_MAX,
    Operand,
    Reveal,
    computed,
    reveal,
    trace_root,
    tree_of,
    value_bytes,
    value_root,
    value_roots,
)
from tests.verify.program.test_microbatch import RUNS
from tests.verify.program.test_microbatch import computed as microbatch_of
from tests.verify.program.test_update import stepped

FAULTS = 55
"""Random faults in each of two programs."""
BYTES_MAX = 64 << 10
"""Bytes of a transaction."""


def flipped(value: Tensor, place: int, bit: int) -> Tensor:
    """A value with one bit of one element turned."""
    false = value.clone().contiguous()
    size = 8 * false.element_size()
    false.view(-1).view(torch.uint8)[place * (size // 8) + bit % size // 8] ^= 1 << (bit % 8)
    return false


def false_trace(
    program: Program, given: dict[str, Tensor], at: int, place: int, bit: int
) -> list[Tensor]:
    """The trace of who flips one bit of one value and goes on from there."""

    def watch(number: int, value: Tensor) -> Tensor:
        return flipped(value, place, bit) if number == at else value

    return program.run(trusted_kernels().kernels, given, watch)


@cache
def case_of(which: str) -> tuple[Program, dict[str, Tensor], list[Tensor]]:
    case = microbatch_of("grouped heads", 1) if which == "a micro-batch" else stepped("muon", 1)
    return case.program, case.given, case.values


def shown_of(program: Program, values: list[Tensor], node: int, place: int) -> Reveal:
    return reveal(program, values, value_roots(program, values), node, place)


def is_right(program: Program, values: list[Tensor], node: int, place: int) -> bool:
    """Whether the trace has for an element what its operator computes from the trace."""
    shown = shown_of(program, values, node, place)
    right = computed(program, trace_root(program, values), shown)
    assert right is not None
    return value_bytes(right) == value_bytes(values[node].reshape(-1)[place])


@pytest.mark.rule("V40")
@pytest.mark.parametrize("which", ["a micro-batch", "an update"])
def test_random_faults_are_shown_by_one_element_and_honest_ones_are_not(which: str) -> None:
    program, given, honest = case_of(which)
    rng, largest = random.Random(which), 0
    computes = [n for n, node in enumerate(program.nodes) if node.operator != INPUT]
    for _ in range(FAULTS):
        at, bit = rng.choice(computes), rng.randrange(31)
        place = rng.randrange(honest[at].numel())
        false = false_trace(program, given, at, place, bit)
        assert not is_right(program, false, at, place)
        assert is_right(program, honest, at, place)
        largest = max(largest, len(encode(shown_of(program, false, at, place))))
    assert largest <= BYTES_MAX


@pytest.mark.rule("V40")
@pytest.mark.parametrize("name", RUNS)
def test_some_element_of_every_operator_stands(name: str) -> None:
    case, rng = microbatch_of(name, 0), random.Random(name)
    seen = set[str]()
    for number, node in enumerate(case.program.nodes):
        if node.operator != INPUT and node.operator not in seen:
            seen.add(node.operator)
            place = rng.randrange(case.values[number].numel())
            assert is_right(case.program, case.values, number, place), node


@pytest.mark.rule("V40")
def test_attack_operands_that_make_a_false_value_right() -> None:
    """A liar cannot show them: each is under the root that it committed to."""
    program, given, honest = case_of("a micro-batch")
    root = trace_root(program, honest)
    at = next(n for n, node in enumerate(program.nodes) if node.operator == "weights")
    operand = program.nodes[at].inputs[0]
    false = false_trace(program, given, operand, 5, 3)
    with pytest.raises(PeerFault):
        computed(program, trace_root(program, false), shown_of(program, honest, at, 5))
    with pytest.raises(PeerFault):
        computed(program, root, shown_of(program, false, at, 5))
    shown = shown_of(program, honest, at, 5)
    opening = shown.operands[0].openings[0]
    changed = bytearray(opening.data)
    changed[3] ^= 1
    with pytest.raises(PeerFault):
        computed(program, root, with_opening(shown, replace(opening, data=bytes(changed))))
    bare: Operand = replace(shown.operands[0], openings=())
    with pytest.raises(PeerFault):
        computed(program, root, replace(shown, operands=(bare,)))


def with_opening(shown: Reveal, opening: Opening) -> Reveal:
    first = shown.operands[0]
    changed: Operand = replace(first, openings=(opening, *first.openings[1:]))
    return replace(shown, operands=(changed, *shown.operands[1:]))


@pytest.mark.rule("V40")
def test_whatever_is_shown_nobody_falls_over() -> None:
    program, _, honest = case_of("a micro-batch")
    root, roots = trace_root(program, honest), value_roots(program, honest)
    at = next(n for n, node in enumerate(program.nodes) if node.operator == "product")
    shown = shown_of(program, honest, at, 7)
    opening = shown.operands[0].openings[0]
    many = replace(
        shown.operands[0], openings=(replace(opening, data=bytes(OPENED_BYTES_MAX)),) * 2
    )
    lies = [
        replace(shown, node=-1),
        replace(shown, node=10**9),
        replace(shown, node=0),
        replace(shown, place=-1),
        replace(shown, place=10**12),
        replace(shown, operands=()),
        replace(shown, operands=shown.operands * 2),
        replace(shown, operands=(many, *shown.operands[1:])),
        replace(shown, operands=tuple(reversed(shown.operands))),
        with_opening(shown, replace(opening, start=-1)),
        with_opening(shown, replace(opening, start=10**9)),
        with_opening(shown, replace(opening, data=b"")),
        with_opening(shown, replace(opening, data=opening.data[:-1])),
        with_opening(shown, replace(opening, data=opening.data + bytes(1024))),
        with_opening(shown, replace(opening, path=())),
        with_opening(shown, replace(opening, path=(*opening.path, bytes(32)))),
        with_opening(shown, replace(opening, path=tuple(part[:-1] for part in opening.path))),
    ]
    for lie in lies:
        with pytest.raises(PeerFault):
            computed(program, root, lie)
    for number, place in ((0, 0), (at, -1), (at, 10**9)):
        with pytest.raises(UsageError):
            reveal(program, honest, roots, number, place)


@pytest.mark.rule("V40")
def test_a_value_has_the_digest_of_the_part_of_a_state() -> None:
    """So what goes into a program, and what comes out, is compared with what is committed by its digest."""
    program, given, values = case_of("an update")
    at = program.inputs["params"]
    assert value_root(program.nodes[at], values[at]) == hash_of(given["params"])


@pytest.mark.rule("V40")
def test_attack_operands_of_which_nothing_can_be_computed() -> None:
    """A sum of squares below zero has no root: validators say so, and go on."""
    program, given, _ = case_of("an update")
    at = next(n for n, node in enumerate(program.nodes) if node.operator == "clipped")
    squares = program.nodes[at].inputs[1]

    false = program.run(trusted_kernels().kernels, given)
    roots = value_roots(program, false)
    shown = reveal(program, false, roots, at, 0)
    with_lie = [*false[:squares], -false[squares], *false[squares + 1 :]]
    lie = value_roots(program, with_lie)
    operands = tuple(
        Operand(
            root=lie[number],
            path=merkle_proof(lie, number),
            openings=tuple(
                tree_of(program.nodes[number], with_lie[number]).opening(
                    one.start, one.start + len(one.data)
                )
                for one in operand.openings
            ),
        )
        for number, operand in zip(program.nodes[at].inputs, shown.operands, strict=True)
    )
    shown, false = replace(shown, operands=operands), with_lie
    assert computed(program, trace_root(program, false), shown) is None
