"""Make the sides of many disputes whose traces are computed once: a part of the benchmark ``verify``.

Two stages of two replicas train a tiny model, and trade; a scene is one window of a seat, with an honest
account of it. A lie is one of these, by ``WEIGHTS``:

* *bit*: one bit of any value of a step, a copy or a merge, and all that follows from it
* *bits*: the same, and bits of other values of that event, from which nothing follows
* *forged*: weights or a piece of the gradient that no program has computed, beside honest traces
* *state*: a state after any event that is none
* *tokens*: more tokens than were trained

Each has two sides: a solver that has claimed it, and an accuser that says it of an honest solver. The honest
sides of a scene serve all its disputes: a side keeps nothing but what it has computed from its log.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from torch import Tensor

from benchmarks.disputes import ANYWHERE, Scene, step_leaf_of
from swarm.primitives import codec
from swarm.primitives.codec import encode
from swarm.training.model.exact.selftest import trusted_kernels
from swarm.types import Digest
from swarm.verify.court import read_game
from swarm.verify.program.account import Account, Kind
from swarm.verify.program.computed import Copied, Log, Merged, Step, Values
from swarm.verify.program.dispute import (
    Dispute,
    Move,
    Phase,
)
from swarm.verify.program.events import OpenMerge
from swarm.verify.program.nodes import INPUT, Program
from swarm.verify.program.opened import OpenStep, Window
from swarm.verify.program.players import Challenger, Side, Solver
from swarm.verify.program.reveal import value_bytes, values_of
from swarm.verify.transcript import merge_leaf, state_root

WEIGHTS: Final = {"bit": 8, "bits": 4, "forged": 1, "state": 1, "tokens": 1}
"""How often each kind of lie is told."""
DECOYS_MAX = 3
"""False bits beside the lie, from which nothing follows."""
SHUT = frozenset({INPUT, "taken"})
"""Operators of values that are not made false: a weight that is neither the due one nor 0 cannot be opened."""

Bit = tuple[int, int, int, int]
"""Part of the event, node, byte and bit that is false."""
TRADED = frozenset({Kind.COPY, Kind.MERGE})


class _KeptStep(Step):
    """A step whose values are all kept."""

    def __init__(self, window: Window, log: Log, event: int, account: Account) -> None:
        self._kept = dict[int, Values]()
        super().__init__(window, log, event, account)

    def values(self, part: int) -> Values:
        """Return the values of a part, computed once."""
        if part not in self._kept:
            self._kept[part] = super().values(part)
        return self._kept[part]


class _FalseStep(_KeptStep):
    """A step with false bits; something follows from the first alone."""

    def __init__(self, here: Scene, event: int, bits: Sequence[Bit]) -> None:
        self._bits = bits
        super().__init__(here.window, here.log, event, here.account)

    def computed(self, part: int, program: Program, given: Mapping[str, Tensor]) -> Values:
        """Run the program of a part, with its false values."""
        mine = [bit for bit in self._bits if bit[0] == part]
        return _falsely(program, given, mine, self._bits[0])


class _FalseCopied(Copied):
    """A copy with false bits; something follows from the first alone."""

    def __init__(self, here: Scene, event: int, bits: Sequence[Bit]) -> None:
        self._bits = bits
        super().__init__(here.window, here.log, event)

    def computed(self, program: Program, given: Mapping[str, Tensor]) -> Values:
        """Run the program, with its false values."""
        return _falsely(program, given, self._bits, self._bits[0])


class _FalseMerged(Merged):
    """A merge with false bits; something follows from the first alone."""

    def __init__(self, here: Scene, event: int, bits: Sequence[Bit]) -> None:
        self._bits = bits
        super().__init__(here.window, here.log, event)

    def computed(self, program: Program, given: Mapping[str, Tensor]) -> Values:
        """Run the program, with its false values."""
        return _falsely(program, given, self._bits, self._bits[0])


class Traces:
    """The events of a window, each computed once."""

    def __init__(self, window: Window, log: Log, account: Account) -> None:
        self._window, self._log, self._account = window, log, account
        self.steps = dict[int, Step]()
        self.trades = dict[int, Copied | Merged]()

    def step(self, event: int) -> Step:
        """Return a step."""
        if event not in self.steps:
            self.steps[event] = _KeptStep(self._window, self._log, event, self._account)
        return self.steps[event]

    def traded(self, event: int) -> Copied | Merged:
        """Return a copy or a merge."""
        if event not in self.trades:
            kind = Copied if self._account.kinds[event] == Kind.COPY else Merged
            self.trades[event] = kind(self._window, self._log, event)
        return self.trades[event]


class _Traced(Side):
    """A side that has computed every event already, and finds no move twice."""

    def __init__(self, here: Scene, traces: Traces, account: Account | None = None) -> None:
        super().__init__(here.window, here.log, account or here.account)
        self._traces = traces
        self._said = dict[bytes, bytes]()

    def step(self, event: int) -> Step:
        """Return a step of its traces."""
        return self._traces.step(event)

    def traded(self, event: int, like: OpenMerge | None = None) -> Copied | Merged:
        """Return a copy or a merge of its traces; that of another codec is computed."""
        mine = self._traces.traded(event)
        said = mine.said
        if like is not None and isinstance(said, OpenMerge) and said.my_codec != like.my_codec:
            return Merged(self._window, self._log, event, like)
        return mine

    def said(self, game: bytes) -> bytes:
        """Return its move in a dispute, both as bytes; an accuser begins with its account."""
        if game not in self._said:
            move = self.move(read_game(game)) if game else self.account
            self._said[game] = encode(move)
        return self._said[game]

    def move(self, dispute: Dispute) -> Move:
        """Return its move."""
        raise NotImplementedError


class TracedSolver(_Traced, Solver):
    """A solver; ``forged`` is what it says of its event instead of what it has computed."""

    def __init__(
        self,
        here: Scene,
        traces: Traces,
        account: Account | None = None,
        forged: OpenStep | None = None,
    ) -> None:
        super().__init__(here, traces, account)
        self._forged = forged

    def move(self, dispute: Dispute) -> Move:
        """Return its move."""
        if dispute.phase == Phase.OPEN and self._forged is not None:
            return codec.replace(self._forged, account=self.account)
        return Solver.move(self, dispute)


class TracedChallenger(_Traced, Challenger):
    """A challenger that was served the log."""

    def __init__(self, here: Scene, traces: Traces, account: Account | None = None) -> None:
        super().__init__(here, traces, account)
        self.manifest = here.manifest

    def move(self, dispute: Dispute) -> Move:
        """Return its move."""
        return Challenger.move(self, dispute)


# --- lies ---


@dataclass(frozen=True, slots=True)
class Lie:
    """A lie about a window, and who tells it."""

    kind: str
    solver: TracedSolver
    accuser: TracedChallenger

    @property
    def account(self) -> Account:
        """The window as it is lied about."""
        return self.solver.account


@dataclass(frozen=True, slots=True)
class Cast:
    """All sides of the disputes about one window."""

    scene: Scene
    solver: TracedSolver
    challenger: TracedChallenger
    lies: tuple[Lie, ...]


def make_cast(here: Scene, number: int, rng: random.Random) -> Cast:
    """Return honest sides of a window, and so many lies about it."""
    traces, lies = Traces(here.window, here.log, here.account), list[Lie]()
    kinds, weights = list(WEIGHTS), list(WEIGHTS.values())
    while len(lies) < number:
        lie = _some_lie(here, traces, rng.choices(kinds, weights)[0], rng)
        if lie is not None and lie.account != here.account:
            lies.append(lie)
    return Cast(here, TracedSolver(here, traces), TracedChallenger(here, traces), tuple(lies))


def _some_lie(here: Scene, honest: Traces, kind: str, rng: random.Random) -> Lie | None:
    """Return a lie of a kind about any event; None for one that reaches neither a leaf nor the state."""
    account = here.account
    if kind == "tokens":
        more = codec.replace(account, tokens=account.tokens + rng.randrange(1, 1000))
        return _told(kind, here, honest, more)
    if kind == "state":
        event = rng.randrange(len(account.kinds))
        return _told(
            kind, here, honest, _from_there(account, event, account.leaves[event], ANYWHERE)
        )
    able = [e for e, what in enumerate(account.kinds) if what == Kind.STEP or what in TRADED]
    if kind == "forged":
        event = rng.choice([event for event in able if account.kinds[event] == Kind.STEP])
        said = _forged(honest.step(event).opened(account), rng)
        leaf, state = step_leaf_of(said, here, event), state_root(tuple(map(Digest, said.after)))
        return _told(kind, here, honest, _from_there(account, event, leaf, state), said)
    num_bits = 1 if kind == "bit" else 1 + rng.randrange(1, DECOYS_MAX + 1)
    return _of_bits(kind, here, honest, rng.choice(able), num_bits, rng)


def _of_bits(
    kind: str, here: Scene, honest: Traces, event: int, num_bits: int, rng: random.Random
) -> Lie | None:
    """Return a lie by false bits of one event; None for one that reaches neither its leaf nor the state."""
    account, false = here.account, Traces(here.window, here.log, here.account)
    leaf = account.leaves[event]
    if account.kinds[event] == Kind.STEP:
        step = honest.step(event)
        programs = {part: step.program(part) for part in range(step.update + 1)}
        made = _FalseStep(here, event, [_some_bit(programs, rng) for _ in range(num_bits)])
        false.steps[event], opened = made, made.opened(account)
        leaf, after = step_leaf_of(opened, here, event), opened.after
    else:
        program = {0: honest.traded(event).program}
        bits = [_some_bit(program, rng) for _ in range(num_bits)]
        kind_of = _FalseCopied if account.kinds[event] == Kind.COPY else _FalseMerged
        false.trades[event] = lied = kind_of(here, event, bits)
        said, after = lied.said, lied.said.after
        if isinstance(said, OpenMerge):
            leaf = merge_leaf(said.record)
    state = state_root(tuple(map(Digest, after)))
    if (leaf, state) == (account.leaves[event], account.states[event]):
        return None
    return _told(kind, here, false, _from_there(account, event, leaf, state))


def _told(
    kind: str, here: Scene, traces: Traces, account: Account, forged: OpenStep | None = None
) -> Lie:
    solver = TracedSolver(here, traces, account, forged)
    return Lie(kind, solver, TracedChallenger(here, traces, account))


def _from_there(account: Account, event: int, leaf: bytes, state: bytes) -> Account:
    """Return an account that is false from an event on; what it says of later ones is not looked at."""
    leaves, states = list(account.leaves), list(account.states)
    leaves[event], states[event] = leaf, state
    states[event + 1 :] = [ANYWHERE] * (len(states) - event - 1)
    return codec.replace(account, leaves=tuple(leaves), states=tuple(states))


def _forged(said: OpenStep, rng: random.Random) -> OpenStep:
    match rng.randrange(3):
        case 0:
            return codec.replace(said, after=(ANYWHERE, *said.after[1:]))
        case 1:
            return codec.replace(said, after=(said.after[0], ANYWHERE, *said.after[2:]))
        case _:
            return codec.replace(said, piece=ANYWHERE)


def _some_bit(programs: Mapping[int, Program], rng: random.Random) -> Bit:
    part = rng.choice(list(programs))
    nodes = programs[part].nodes
    number = rng.choice([n for n, node in enumerate(nodes) if node.operator not in SHUT])
    return part, number, rng.randrange(nodes[number].content.num_bytes), rng.randrange(8)


def _falsely(
    program: Program, given: Mapping[str, Tensor], bits: Sequence[Bit], first: Bit
) -> Values:
    """Run a program with its false bits; the values after the first follow from it."""

    def turned(number: int, value: Tensor, bit: Bit) -> Tensor:
        data = bytearray(value_bytes(value))
        data[bit[2]] ^= 1 << bit[3]
        return values_of(program.nodes[number], bytes(data)).view(value.shape)

    def watch(number: int, value: Tensor) -> Tensor:
        return turned(number, value, first) if first in bits and first[1] == number else value

    values = program.run(trusted_kernels().kernels, given, watch)
    for bit in bits:
        if bit != first:
            values[bit[1]] = turned(bit[1], values[bit[1]], bit)
    return values
