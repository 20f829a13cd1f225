"""Twins (Bano and others, 2020): one validator's key runs twice, and the network is parted anew in every view.

Four validators and a second copy of the first one, all of them the real machine: the faulty behaviour is what
two honest copies say that do not know of each other. A scenario names, for each of the first views, who leads
it and which two groups hear each other in it; what is sent in one group about that view does not reach the
other. After that everything arrives, and the chain has to grow. Scenarios are enumerated: the number of one
is its digits, a view each.

    python -m tests.ledger.consensus.twins --views N [--seeds N] [--from N]

plays many. Source: arXiv 2004.10617.
"""

import argparse
import heapq
import json
import random
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat
from multiprocessing import get_context

from swarm.errors import PeerFault
from swarm.ledger.blocks import (
    FINALIZE,
    NOTARIZE,
    NULLIFY,
    Block,
    Certificate,
    Validator,
    block_digest,
)
from swarm.ledger.consensus.branch import FinalPoint
from swarm.ledger.consensus.simplex import Behind, Effect, Finalized, Muted, Simplex, batches_of
from swarm.ledger.consensus.timers import TimerParams
from swarm.ledger.consensus.votes import (
    Equivocation,
    Heard,
    Proof,
    Proposal,
    Request,
    Statement,
    Supply,
    Vote,
)
from swarm.primitives.crypto import SecretKey
from swarm.types import Amount, Digest, Height, View
from tests.ledger.consensus.plain import CHAIN, PlainElectorate, PlainExecutor

VALIDATORS = 4
NODES = VALIDATORS + 1
"""Validators, and the second copy of validator 0, which comes last."""
PARTS = 1 << (NODES - 1)
"""Ways to part the nodes into two groups, one of which may be empty."""
CHOICES = PARTS * VALIDATORS
"""Ways in which one view may go: a parting and a leader."""
PACE = TimerParams(interval_s=1.0, delta_s=1.0)
DELAY_S = 0.1
HEALS_S = 10.0
"""Time at which everything arrives again; the machines ask for what they lack."""
ENDS_S = 25.0
RIVALS = {NOTARIZE: (NOTARIZE,), NULLIFY: (FINALIZE,), FINALIZE: (FINALIZE, NULLIFY)}


@dataclass(frozen=True)
class Turn:
    """How one view goes."""

    leader: int
    left: frozenset[int]
    """Nodes that hear each other; the others hear each other, too."""


def scenario_of(number: int, views: int) -> tuple[Turn, ...]:
    """Return the scenario of a number below ``CHOICES ** views``."""
    turns = list[Turn]()
    for _ in range(views):
        number, choice = divmod(number, CHOICES)
        parting, leader = divmod(choice, VALIDATORS)
        left = frozenset(i for i in range(NODES - 1) if parting >> i & 1)
        turns.append(Turn(leader, left))
    return tuple(turns)


class ChosenLeaders(PlainElectorate):
    """Validators of whose first views a scenario names the leaders; then all lead in turns."""

    turns: tuple[Turn, ...] = ()

    def leader(self, view: View) -> int:
        if 1 <= view <= len(self.turns):
            return self.turns[view - 1].leader
        return view % len(self.validators)


@dataclass
class Outcome:
    """What became of one scenario."""

    height: int
    """Blocks that every honest validator has."""
    signed_two_ways: bool
    """True if the copies signed what no honest validator signs."""
    is_accused: bool


@dataclass
class Twins:
    """One scenario under way."""

    turns: tuple[Turn, ...]
    now: float = 0.0
    number: int = 0
    heap: list[tuple[float, int, Callable[[], None]]] = field(
        default_factory=list[tuple[float, int, Callable[[], None]]]
    )
    final: dict[int, Digest] = field(default_factory=dict[int, Digest])
    heights: list[int] = field(default_factory=lambda: [0] * NODES)
    signed: dict[tuple[int, int], set[Digest]] = field(
        default_factory=dict[tuple[int, int], set[Digest]]
    )
    """Blocks that the copies voted for, by kind and view."""
    accused: set[int] = field(default_factory=set[int])
    newest: dict[int, tuple[Block, Certificate]] = field(
        default_factory=dict[int, tuple[Block, Certificate]]
    )
    """The newest final block of each node, and its finalization."""
    machines: list[Simplex] = field(default_factory=list[Simplex])
    rung_at: list[float] = field(default_factory=lambda: [float("inf")] * NODES)

    def play(self) -> Outcome:
        """Play to the end; raise ``AssertionError`` for what must never be."""
        secrets = sorted(
            (SecretKey.from_seed(bytes([i]) * 32) for i in range(VALIDATORS)),
            key=lambda secret: secret.peer,
        )
        validators = [Validator(secret.peer, Amount(1)) for secret in secrets]
        electorate = ChosenLeaders(CHAIN, validators, bytes(32), epoch=0, last=1 << 20)
        electorate.turns = self.turns
        tip = FinalPoint(Height(0), View(0), CHAIN)
        for node in range(NODES):
            secret = secrets[node % VALIDATORS]
            executor = PlainExecutor(secret, CHAIN, 0, CHAIN, life=node)
            machine = Simplex(electorate, secret, executor, PACE, tip=tip, certificate=None)
            self.machines.append(machine)
        for node, machine in enumerate(self.machines):
            self.carry_out(node, machine.start(0.0))
        while self.heap and self.heap[0][0] < ENDS_S:
            self.now, _, what = heapq.heappop(self.heap)
            what()
        assert self.accused <= {0}, "an honest validator is accused"
        return Outcome(min(self.heights[1:VALIDATORS]), self.is_guilty(), bool(self.accused))

    def is_guilty(self) -> bool:
        """Return True if the two copies together signed what one honest validator never does."""
        return any(
            kind in RIVALS[other_kind] and (other_kind != kind or len(names) > 1)
            for (kind, view), names in self.signed.items()
            for other_kind in (NOTARIZE, NULLIFY, FINALIZE)
            if (other_kind, view) in self.signed
        )

    def carry_out(self, node: int, effects: list[Effect]) -> None:
        machine = self.machines[node]
        for effect in effects:
            match effect:
                case Finalized(blocks, certificate):
                    self.newest[node] = blocks[-1], certificate
                    for block in blocks:
                        name, height = block_digest(block.header), block.header.height
                        assert self.final.setdefault(height, name) == name, "two final blocks"
                        self.heights[node] = max(self.heights[node], height)
                case Equivocation(first, _):
                    self.accused.add(first.voter)
                case Behind():
                    self.at(self.now + DELAY_S, partial(self.sync, node))
                case Muted():
                    assert node % VALIDATORS == 0, "an honest validator forgot a vote"
                case _:
                    pass
        batches = batches_of(effects, me=machine.me, count=VALIDATORS)
        for to, statements in sorted(batches.items()):
            for copy in (to, NODES - 1) if to == 0 else (to,):
                for statement in statements:
                    self.send(node, copy, statement)
        self.wind(node)

    def send(self, node: int, to: int, statement: Statement) -> None:
        if node % VALIDATORS == 0 and isinstance(statement, Vote):
            self.signed.setdefault((statement.kind, statement.view), set()).add(statement.block)
        view = _view_of(statement)
        if self.now < HEALS_S and 1 <= view <= len(self.turns):
            left = self.turns[view - 1].left
            if (node in left) != (to in left):
                return
        self.at(self.now + DELAY_S, partial(self.receive, node, to, statement))

    def receive(self, node: int, to: int, statement: Statement) -> None:
        try:
            effects = self.machines[to].receive(statement, node % VALIDATORS, self.now)
        except PeerFault:
            assert node % VALIDATORS == 0, "an honest validator is blamed"
            return
        self.carry_out(to, effects)

    def sync(self, node: int) -> None:
        """What bulk sync does for a node that is far behind."""
        machine, (block, certificate) = (
            self.machines[node],
            max(self.newest.values(), key=lambda one: one[0].header.height),
        )
        if block.header.height > machine.tip.height:
            executor = machine._executor
            assert isinstance(executor, PlainExecutor)
            assert executor.known is not None
            executor.known.add(certificate.block)
            self.heights[node], self.newest[node] = block.header.height, (block, certificate)
            self.carry_out(node, machine.adopt(block, certificate, self.now))

    def at(self, when: float, what: Callable[[], None]) -> None:
        self.number += 1
        heapq.heappush(self.heap, (when, self.number, what))

    def wind(self, node: int) -> None:
        deadline = self.machines[node].deadline
        if deadline < self.rung_at[node]:
            self.rung_at[node] = deadline
            self.at(max(deadline, self.now), partial(self.ring, node, deadline))

    def ring(self, node: int, deadline: float) -> None:
        if self.rung_at[node] == deadline:
            self.rung_at[node] = float("inf")
            machine = self.machines[node]
            if machine.deadline <= self.now:
                self.carry_out(node, machine.expire(self.now))
            else:
                self.wind(node)


def _view_of(statement: Statement) -> int:
    match statement:
        case Proof(certificate):
            return certificate.view
        case Supply(block):
            return block.header.view
        case Heard(vote):
            return vote.view
        case Vote() | Proposal() | Request():
            return statement.view


def play(number: int, views: int) -> Outcome:
    """Play the scenario of a number; an assertion that fails names it."""
    try:
        return Twins(scenario_of(number, views)).play()
    except AssertionError as error:
        raise AssertionError(f"{error}; scenario {number} of {views} views") from error


def judged(number: int, views: int) -> tuple[str, Outcome | None]:
    """Return what the scenario of a number violates, empty if nothing, and what became of it."""
    try:
        return "", play(number, views)
    except AssertionError as error:
        return str(error), None


def main() -> None:
    """Play scenarios drawn by the seeds, and print one JSON object."""
    parser = argparse.ArgumentParser(description="Play scenarios of Twins.")
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=2_000)
    parser.add_argument("--from", type=int, default=0, dest="first")
    arguments = parser.parse_args()
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    numbers = [random.Random(seed).randrange(CHOICES**arguments.views) for seed in seeds]
    began, played = time.monotonic(), list[Outcome]()
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        played += pool.map(play, numbers, repeat(arguments.views), chunksize=20)
    guilty = [one for one in played if one.signed_two_ways]
    found = {
        "scenarios": len(played),
        "views": arguments.views,
        "signed_two_ways": len(guilty),
        "accused_of_these": sum(one.is_accused for one in guilty),
        "height_min": min(one.height for one in played),
        "seconds": round(time.monotonic() - began, 1),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
