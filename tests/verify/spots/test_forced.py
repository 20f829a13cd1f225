"""What is stated falsely on purpose is found by who looks, shown by who made it, and changes nothing else."""

import math
from functools import cache, partial

import pytest
import torch
from torch import Tensor

from swarm.config.tolerance import SPOT_ITEMS
from swarm.errors import BrokenPromise, PeerFault
from swarm.ledger.check_statements import FORCED_ELEMENTS, MOVE_BYTES_MAX
from swarm.primitives.codec import encode, replace
from swarm.primitives.crypto import digest
from swarm.primitives.randomness import stream
from swarm.types import Digest
from swarm.verify.program.computed import Said, as_it_is
from swarm.verify.program.nodes import INPUT, Program
from swarm.verify.spots.checking import case_of, check_opened, result_in
from swarm.verify.spots.elements import drawn
from swarm.verify.spots.forced import FLIPPED_SHARE, Flips, element_of, flip, flippable, flipped
from swarm.verify.spots.proof import FalseTrace, check_drawn
from swarm.verify.spots.solving import Solved
from swarm.verify.spots.statement import UpdateTrace, program_of
from tests.verify.spots.test_checking import CODECS, Sample, samples, with_one_step

DICE = digest("some", b"dice")


def seed_of(number: int) -> Digest:
    """Some seed of a forced error."""
    return digest("seed", number.to_bytes(4, "big"))


@cache
def forced(number: int) -> Solved:
    """A window with nothing but a step, of which something is stated falsely."""
    one = with_one_step("int8", 0)
    return Solved(one.spot.window, one.log, seed_of(number))


def update_in(one: Sample, solved: Solved) -> tuple[int, Program]:
    """Number and program of the update of a window."""
    for at, trace in enumerate(solved.traces):
        if isinstance(trace, UpdateTrace):
            return at, program_of(one.spot.window.facts, trace)
    raise AssertionError("there is a step")


@pytest.mark.rule("V56")
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("stage", [0, 1])
def test_a_forced_statement_is_right_but_for_its_traces_and_everybody_who_looks_sees_it(
    codec: str, stage: int
) -> None:
    """In windows of every kind: nothing else that is checked of it is refused, whatever was flipped."""
    kinds = {one.log.account.kinds: one for one in samples(codec, stage)[:7]}
    for number, one in enumerate(kinds.values()):
        solved = Solved(one.spot.window, one.log, seed_of(number))
        honest = Solved(one.spot.window, one.log)
        assert result_in(solved.opened) == one.segment.claims()[one.spot.key.window]
        assert solved.opened.microbatches == honest.opened.microbatches
        for said, true in zip(solved.traces, honest.traces, strict=True):
            able = flippable(program_of(one.spot.window.facts, true))
            assert (said.root != true.root) is bool(able)
        proof = one.find(solved, SPOT_ITEMS // 4)
        assert proof is not None
        one.check(proof)


@pytest.mark.rule("V56")
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("stage", [0, 1])
def test_what_is_flipped_is_bound_to_nothing_and_no_neighbour_of_it_is(
    codec: str, stage: int
) -> None:
    for one in samples(codec, stage)[:8]:
        solved = Solved(one.spot.window, one.log)
        traces = check_opened(one.spot, one.said(solved), solved.opened)
        for number, trace in enumerate(traces):
            program = program_of(one.spot.window.facts, trace)
            bound = set(case_of(one.spot, solved.opened, trace).bound)
            assert bound.isdisjoint(flippable(program))
            for seed in range(20):
                nodes = flipped(program, seed_of(seed), number)
                assert bool(nodes) is bool(flippable(program))
                for node in nodes:
                    assert program.nodes[node].operator != INPUT
                    assert nodes.isdisjoint(program.nodes[node].inputs)


@pytest.mark.rule("V56")
def test_about_a_sixteenth_is_flipped_each_seed_and_each_trace_apart() -> None:
    one = with_one_step("int8", 0)
    number, program = update_in(one, forced(0))
    counts = [len(flipped(program, seed_of(seed), number)) for seed in range(300)]
    share = sum(counts) / len(counts) / len(flippable(program))
    assert 0.7 / FLIPPED_SHARE < share <= 1.1 / FLIPPED_SHARE
    assert min(counts) >= 1
    assert flipped(program, seed_of(1), 0) != flipped(program, seed_of(1), 1)


@pytest.mark.rule("V56")
def test_a_flip_changes_the_lowest_bit_of_every_element_and_no_other() -> None:
    value = torch.tensor([[0.0, -0.0, 1.0], [float("inf"), -float("inf"), 1e38]])
    bits, changed = value.view(torch.int32), flip(value).view(torch.int32)
    assert torch.equal(bits ^ changed, torch.ones_like(bits))
    assert torch.equal(flip(flip(value)).view(torch.int32), bits)


@pytest.mark.rule("V56")
def test_a_check_misses_a_forced_error_once_in_billions_of_tries() -> None:
    """By the formula for what the update and a micro-batch of 125M have, and by play with few items."""
    miss = 1.0
    for nodes, items in ((1_286, 384), (4_091, 384)):
        bad = nodes // (FLIPPED_SHARE + 4)  # some are neighbours
        miss *= math.comb(nodes - bad, items) / math.comb(nodes, items)
    assert miss < 1e-12
    one = with_one_step("int8", 0)
    number, program = update_in(one, forced(0))
    few, missed = 16, 0
    for seed in range(200):
        false = flipped(program, seed_of(seed), number)
        seen = drawn(program, stream(seed_of(seed), "dice"), few)
        missed += false.isdisjoint(item.node for item in seen)
    assert 0.2 < missed / 200 < 0.6, "who looks at 16 of 1,024 items misses a third"


@pytest.mark.rule("V58")
def test_its_maker_shows_every_drawn_element_of_it_to_anybody() -> None:
    one = with_one_step("int8", 0)
    solved, seed = forced(0), seed_of(0)
    said = one.said(solved)
    found = solved.false_elements(said, DICE)
    assert len(found) == FORCED_ELEMENTS
    for number, proof in enumerate(found):
        check_drawn(proof, one.spot.window.facts, said.digest, seed, DICE, number)
        one.check(proof)
        assert len(encode(proof)) < MOVE_BYTES_MAX
        for changed in (
            (proof, said.digest, seed_of(1), DICE, number),
            (proof, said.digest, seed, digest("other", b"dice"), number),
            (proof, digest("other", b"said"), seed, DICE, number),
            (replace(proof, trace=solved.traces[0]), said.digest, seed, DICE, number),
        ):
            with pytest.raises(PeerFault):
                check_drawn(changed[0], one.spot.window.facts, *changed[1:])


class Sly(Solved):
    """A solver that states falsely only some elements of what is drawn, and hopes that nobody sees them."""

    @property
    def _said(self) -> Said:
        flips = Flips(seed_of(0), self._num_traces)

        def said(program: Program, part: int, number: int, value: Tensor) -> Tensor:
            if value.dtype != torch.float32:
                return as_it_is(program, part, number, value)
            places = torch.arange(value.numel()).reshape(value.shape)
            return torch.where(places % 8 == 0, flips(program, part, number, value), value)

        return said


@pytest.mark.rule("V58")
def test_attack_a_solver_states_little_falsely_that_an_honest_verifier_misses_it() -> None:
    """What it must show is drawn by what the verifier alone knew: one of the three is nearly always true."""
    one = with_one_step("int8", 0)
    sly = Sly(one.spot.window, one.log, seed_of(0))
    said, convicted, tries = one.said(sly), 0, 60
    for dice in range(tries):
        proofs = sly.false_elements(said, seed_of(dice))
        convicted += all(map(partial(is_proof, one), proofs))
    assert convicted <= 1
    assert one.find(sly, SPOT_ITEMS // 4) is not None, "and an honest verifier does not miss it"


def is_proof(one: Sample, proof: FalseTrace) -> bool:
    """Whether something convicts."""
    try:
        one.check(proof)
    except BrokenPromise:
        return False
    return True


@pytest.mark.rule("V58")
def test_where_nothing_can_be_flipped_nothing_is_drawn() -> None:
    empty = Program((), {}, {})
    assert not flipped(empty, seed_of(0), 0)
    with pytest.raises(BrokenPromise, match="nothing can be stated falsely"):
        element_of(empty, seed_of(0), 0, DICE, 0)
