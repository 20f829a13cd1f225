"""A window is checked at drawn elements: an honest one passes whole, and lies are found or refused."""

import dataclasses
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from swarm.errors import PeerFault
from swarm.ledger.check_statements import MOVE_BYTES_MAX
from swarm.primitives.codec import decode, encode, replace
from swarm.primitives.commitments import leaves_root, step_leaf_digest
from swarm.primitives.crypto import SecretKey
from swarm.testing.ledger import numbered_key
from swarm.training.record.window import StepTaken
from swarm.types import NO_DIGEST, Digest
from swarm.verify.program.account import Account, Kind
from swarm.verify.program.computed import Log, Step
from swarm.verify.program.nodes import INPUT
from swarm.verify.program.opened import OpenStep, Window
from swarm.verify.replay import Committed
from swarm.verify.spots.checking import (
    Spot,
    SpotShown,
    check_opened,
    find_false,
    result_in,
    wanted,
)
from swarm.verify.spots.proof import FalseTrace, check_proof
from swarm.verify.spots.solving import Solved
from swarm.verify.spots.statement import (
    SpotOpened,
    SpotStatement,
    UpdateTrace,
    check_statement,
    decode_opened,
    trace_path,
)
from swarm.verify.transcript import state_root
from tests.verify.program.scenes import TWO_TENSORS, TWO_TRADES, trained
from tests.verify.windows import CHAIN, TOKENS, Harvest, Segment

ITEMS = 96
VERIFIER = numbered_key(77).peer
"""Whom statements are for."""
SEED = bytes(range(32))
CODECS = ("int8", TWO_TENSORS, TWO_TRADES)


@dataclass
class Sample:
    """A window of one step, with its log, as its solver and a verifier have it."""

    crop: Harvest
    segment: Segment
    spot: Spot
    log: Log

    @property
    def secret(self) -> SecretKey:
        """Key of the solver."""
        return self.crop.secrets[self.spot.key.stage, self.spot.key.seat]

    def said(self, solved: Solved) -> SpotStatement:
        """What the solver signs."""
        plan = self.spot.plan
        return solved.statement(self.secret, CHAIN, plan.run_digest, self.spot.key, VERIFIER)

    def find(self, solved: Solved, items: int = ITEMS) -> FalseTrace | None:
        """What a verifier finds in what a solver says; raises ``PeerFault`` where it is refused."""
        said = self.said(solved)
        check_statement(said, self.secret.peer, CHAIN, self.spot.plan.run_digest)
        opened = decode_opened(encode(solved.opened))
        traces = check_opened(self.spot, said, opened)
        asked = wanted(self.spot, opened, traces, SEED, items)
        answer = decode(SpotShown, encode(solved.shown(asked)), limit=64 << 20)
        return find_false(said, traces, asked, answer)

    def check(self, proof: FalseTrace) -> None:
        """Judge a proof as the ledger does."""
        facts = self.spot.window.facts
        check_proof(proof, facts, self.secret.peer, CHAIN, self.spot.plan.run_digest)


@cache
def samples(codec: str, stage: int) -> list[Sample]:
    """All windows of a seat in a run whose windows have one step."""
    crop, found = trained(codec, 1), list[Sample]()
    for (_, where, seat), segment in sorted(crop.segments.items()):
        if (where, seat) != (stage, 0):
            continue
        start = segment.claims()[0].start_root
        committed = Committed(start, segment.log.num_steps, 1 + seat, segment.log.sent)
        for number, data in enumerate(segment.windows):
            log = Log(segment.plan, data, TOKENS, crop.anchors[stage])
            window = Window(
                facts=log.facts,
                seating=log.seating,
                claim=NO_DIGEST,
                number=number,
                steps=sum(isinstance(event, StepTaken) for event in data.events),
                is_last=data.is_last,
                anchors=tuple(crop.anchors[stage]),
            )
            spot = Spot(window, segment.plan, data.key, committed, TOKENS)
            found.append(Sample(crop, segment, spot, log))
    return found


@pytest.mark.rule("V51", "V52")
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("stage", [0, 1])
def test_an_honest_window_passes(codec: str, stage: int) -> None:
    """Steps, copies, merges and ends, in runs of several kinds; the answer is that of a replay."""
    kinds = set[int]()
    for one in samples(codec, stage):
        solved = Solved(one.spot.window, one.log)
        assert one.find(solved, 32) is None
        assert result_in(solved.opened) == one.segment.claims()[one.spot.key.window]
        kinds |= set(solved.account.kinds)
    assert {Kind.STEP, Kind.COPY, Kind.MERGE, Kind.END} <= kinds


class FalseStep(Step):
    """A step of which all values of one node are others, and all that follows from it."""

    lie: tuple[int, int] = (0, 0)

    def watched(self, part: int, number: int, value: Tensor) -> Tensor:
        """Return the false value."""
        return value + torch.ones_like(value) if (part, number) == self.lie else value


class Liar(Solved):
    """A solver with a false step, and an account that goes with it."""

    def __init__(self, window: Window, log: Log, lie: tuple[int, int]) -> None:
        self._kind = type("Lied", (FalseStep,), {"lie": lie})
        super().__init__(window, log)

    def step(self, at: int) -> Step:
        """Compute the false step."""
        step: Step = self._kind(self._window, self._log, at, self.account)
        self.account = with_step(self.account, at, step)
        return step


def with_step(account: Account, at: int, step: Step) -> Account:
    """An account of which a step is another one."""
    said = step.opened(account)
    leaf = step_leaf_digest(
        step.number,
        said.dropped,
        state_root(tuple(map(Digest, said.before))),
        leaves_root([one.leaf for one in said.microbatches]),
        Digest(said.piece),
    )
    leaves, states = list(account.leaves), list(account.states)
    leaves[at], states[at] = leaf, state_root(tuple(map(Digest, said.after)))
    return replace(account, leaves=tuple(leaves), states=tuple(states))


def with_one_step(codec: str, stage: int) -> Sample:
    """A window that has nothing but a step."""
    return next(one for one in samples(codec, stage) if one.log.account.kinds == (Kind.STEP,))


@pytest.mark.rule("V54")
@pytest.mark.parametrize("stage", [0, 1])
def test_every_false_node_of_the_update_is_found_and_proves_itself(stage: int) -> None:
    """The proof convicts without a replay, and only its solver, its segment, and as it is."""
    one = with_one_step("int8", stage)
    honest = Step(one.spot.window, one.log, 0, one.log.account)
    program = honest.program(honest.update)
    floats = [
        at
        for at, node in enumerate(program.nodes)
        if node.operator != INPUT and node.dtype == "float32"
    ]
    for node in random.Random(stage).sample(floats, 5):
        proof = one.find(
            Liar(one.spot.window, one.log, (honest.update, node)), 2 * len(program.nodes)
        )
        assert proof is not None, program.nodes[node]
        assert (type(proof.trace), proof.reveal.node) == (UpdateTrace, node)
        one.check(proof)
        assert len(encode(proof)) < MOVE_BYTES_MAX
        other = replace(proof.statement, claim=Digest(bytes(32)))
        for forged in (
            replace(proof, statement=other),
            replace(proof, number=0),
            replace(proof, trace=replace(proof.trace, root=bytes(32))),
            replace(proof, trace=replace(proof.trace, root=b"")),
            replace(proof, reveal=replace(proof.reveal, place=proof.reveal.place + 10**6)),
            replace(proof, values=replace(proof.values, openings=())),
        ):
            with pytest.raises(PeerFault):
                one.check(forged)


def test_a_proof_of_something_true_is_none() -> None:
    one = with_one_step("int8", 0)
    solved = Solved(one.spot.window, one.log)
    said = one.said(solved)
    asked = wanted(one.spot, solved.opened, solved.traces, SEED, ITEMS)
    first, answer = asked[0], solved.shown(asked)
    item = answer.traces[0].items[0]
    path = trace_path(solved.traces, first.trace)
    proof = FalseTrace(
        said, solved.traces[first.trace], first.trace, path, item.values, item.reveal
    )
    with pytest.raises(PeerFault, match="what its operator computes"):
        one.check(proof)


Forge = Callable[[SpotOpened], SpotOpened]


def step_in(opened: SpotOpened) -> OpenStep:
    """The step of a window."""
    (step,) = (event for event in opened.events if isinstance(event, OpenStep))
    return step


def with_step_opened(**changes: object) -> Forge:
    """A step of which something else is said."""

    def forge(opened: SpotOpened) -> SpotOpened:
        step = step_in(opened)
        events = tuple(replace(e, **changes) if e is step else e for e in opened.events)
        return replace(opened, events=events)

    return forge


def with_request(**changes: object) -> Forge:
    """A request of the log of which something else is said."""

    def forge(opened: SpotOpened) -> SpotOpened:
        head = next(one for one in opened.heads if isinstance(one, StepTaken))
        first = head.microbatches[0]
        assert first.request is not None
        counted = (
            replace(first, request=replace(first.request, **changes)),
            *head.microbatches[1:],
        )
        changed = replace(head, microbatches=counted)
        return replace(opened, heads=tuple(changed if h is head else h for h in opened.heads))

    return forge


FORGERIES: dict[str, Forge] = {
    "no events": lambda o: replace(o, events=()),
    "no heads": lambda o: replace(o, heads=()),
    "no micro-batches": lambda o: replace(o, microbatches=()),
    "other micro-batches": lambda o: replace(o, microbatches=o.microbatches[::-1]),
    "another start": lambda o: replace(o, account=replace(o.account, start=bytes(32))),
    "other tokens": lambda o: replace(o, account=replace(o.account, tokens=1)),
    "another step count": with_step_opened(seen=99),
    "another piece": with_step_opened(piece=bytes(32)),
    "another state before": with_step_opened(before=(bytes(32),) * 10),
    "dropped micro-batches": with_step_opened(dropped=((0, 0, 0),)),
    "another sender": with_request(source=1),
    "an unsigned request": with_request(signature=bytes(64)),
    "another round": with_request(round=7),
}


@pytest.mark.rule("V52")
@pytest.mark.parametrize("name", list(FORGERIES))
def test_a_statement_that_contradicts_itself_is_refused(name: str) -> None:
    one = with_one_step("int8", 1)
    solved = Solved(one.spot.window, one.log)
    solved.opened = FORGERIES[name](solved.opened)
    with pytest.raises(PeerFault):
        one.find(solved)


@pytest.mark.rule("V53")
def test_nothing_else_than_what_was_asked_for_is_taken() -> None:
    one = with_one_step("int8", 1)
    solved = Solved(one.spot.window, one.log)
    said = one.said(solved)
    asked = wanted(one.spot, solved.opened, solved.traces, SEED, ITEMS)
    answer = solved.shown(asked)
    first = answer.traces[0]
    wrong = [
        replace(answer, traces=answer.traces[:1]),
        replace(answer, traces=answer.traces[::-1]),
        replace(answer, traces=(replace(first, bound=()), *answer.traces[1:])),
        replace(answer, traces=(replace(first, bound=first.bound[::-1]), *answer.traces[1:])),
        replace(answer, traces=(replace(first, items=first.items[1:]), *answer.traces[1:])),
        solved.shown(wanted(one.spot, solved.opened, solved.traces, bytes(32), ITEMS)),
    ]
    for bad in wrong:
        with pytest.raises(PeerFault):
            find_false(said, solved.traces, asked, bad)


@pytest.mark.rule("V52")
def test_answers_for_another_start_of_the_process_and_a_list_out_of_order_are_refused() -> None:
    one = with_one_step("int8", 0)
    solved, committed = Solved(one.spot.window, one.log), one.spot.committed
    for wrong in (
        dataclasses.replace(committed, incarnation=9),
        dataclasses.replace(committed, sent=committed.sent[::-1]),
        dataclasses.replace(committed, sent=()),
    ):
        other = dataclasses.replace(one, spot=dataclasses.replace(one.spot, committed=wrong))
        with pytest.raises(PeerFault):
            other.find(solved)


@pytest.mark.rule("V53")
def test_text_that_is_not_the_runs_is_refused() -> None:
    """Tokens are bound: a solver that trains on other text has no path to those of the draw."""
    one = with_one_step("int8", 0)
    tokens = np.ascontiguousarray(TOKENS[::-1])
    log = dataclasses.replace(one.log, tokens=tokens)
    with pytest.raises(PeerFault):
        one.find(Solved(one.spot.window, log))
