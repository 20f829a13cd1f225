"""Elements that are drawn after a trace was committed: an honest one has no false, a false one is found."""

import random
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from swarm.errors import PeerFault
from swarm.primitives.codec import decode, encode, replace
from swarm.primitives.randomness import RandomStream, stream
from swarm.types import Digest
from swarm.verify.program.nodes import INPUT, Program
from swarm.verify.program.reveal import trace_root
from swarm.verify.program.tracing import Traced
from swarm.verify.spots.elements import (
    RUN_MAX,
    Item,
    ShownItem,
    check_false,
    drawn,
    first_false,
    shown,
)
from tests.verify.program.test_microbatch import CASES
from tests.verify.program.test_microbatch import computed as microbatch_of


def liar(program: Program, given: Mapping[str, Tensor], node: int) -> Traced:
    """A trace in which the values of one node are others, and all after it follows from them."""

    def bend(number: int, value: Tensor) -> Tensor:
        return value + torch.ones_like(value) if number == node else value

    return Traced(program, given, bend)


def dice(seed: int = 0) -> RandomStream:
    """Dice of a seed."""
    return stream(seed.to_bytes(32, "big"), "spot")


@pytest.mark.parametrize(("name", "stage"), CASES)
def test_an_honest_trace_has_no_false_element(name: str, stage: int) -> None:
    """The trace that drops what it needs no more has the root of the whole one."""
    made = microbatch_of(name, stage)
    traced = Traced(made.program, made.given)
    assert traced.root == trace_root(made.program, made.values)
    items = drawn(made.program, dice(), len(made.program.nodes))
    said = [decode(ShownItem, encode(one), limit=1 << 20) for one in shown(traced, items)]
    assert first_false(made.program, traced.root, items, said) is None


@pytest.mark.rule("V53")
def test_every_node_is_drawn_once_before_any_is_drawn_again() -> None:
    program = microbatch_of("two stages", 1).program
    computed = {at for at, node in enumerate(program.nodes) if node.operator != INPUT}
    items = drawn(program, dice(), 2 * len(computed))
    assert {item.node for item in items[: len(computed)]} == computed
    assert {item.node for item in items[len(computed) :]} == computed
    assert items != drawn(program, dice(1), len(items))


@pytest.mark.parametrize("name", ["two stages", "int8 on the wire", "an adapter"])
def test_a_node_that_is_false_is_found_and_proves_itself(name: str) -> None:
    rng = random.Random(name)
    made = microbatch_of(name, 1)
    program = made.program
    floats = [
        at
        for at, node in enumerate(program.nodes)
        if node.operator != INPUT and node.dtype == "float32"
    ]
    items = drawn(program, dice(), len(program.nodes))
    for node in rng.sample(floats, 3):
        lied = liar(program, made.given, node)
        found = first_false(program, lied.root, items, shown(lied, items))
        assert found is not None, program.nodes[node]
        assert found.reveal.node == node
        check_false(program, lied.root, found)
        with pytest.raises(PeerFault):
            check_false(program, Digest(bytes(32)), found)


def test_nothing_else_than_what_was_drawn_is_taken() -> None:
    """Fewer items, others, moved ones, other bytes, and an element that is true."""
    made = microbatch_of("two stages", 0)
    program = made.program
    traced = Traced(program, made.given)
    items = drawn(program, dice(), 30)
    said = shown(traced, items)
    first = said[0]
    opening = first.values.openings[0]
    other = bytes(opening.data[:-1]) + bytes([opening.data[-1] ^ 1])
    forged = replace(first.values, openings=(replace(opening, data=other),))
    bad: list[list[ShownItem]] = [
        said[1:],
        [said[1], *said[1:]],
        [replace(first, values=forged), *said[1:]],
        [replace(first, values=replace(first.values, openings=())), *said[1:]],
        [replace(first, reveal=replace(first.reveal, operands=())), *said[1:]],
        [replace(first, reveal=replace(first.reveal, node=len(program.nodes))), *said[1:]],
    ]
    for wrong in bad:
        with pytest.raises(PeerFault):
            first_false(program, traced.root, items, wrong)
    with pytest.raises(PeerFault):
        first_false(program, traced.root, [Item(len(program.nodes), 0, 1)], [first])


def test_an_item_reads_about_as_much_in_a_wide_model_as_in_a_narrow_one() -> None:
    program = microbatch_of("two stages", 0).program
    assert all(1 <= item.count <= RUN_MAX for item in drawn(program, dice(), len(program.nodes)))
