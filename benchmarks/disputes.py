"""Play disputes about steps of real windows: a part of the benchmark ``verify``.

Two stages of the demo's model train one segment in this thread. A solver flips one bit of one value anywhere in
a step and goes on from there, and an honest challenger plays against it; then the roles are exchanged. Before
each move the dishonest side also sends something that is none, and now and then it says nothing any more, which
is lost. The games are of a smaller model of the same shape; rounds, bytes and seconds are the demo's own.
"""

import random
import time
from dataclasses import dataclass, replace
from math import prod
from typing import NamedTuple

import numpy as np
from torch import Tensor

from benchmarks.checking import Bench
from benchmarks.common import Outcome, say, spread
from swarm.errors import PeerFault
from swarm.primitives import codec
from swarm.primitives.codec import encode
from swarm.primitives.commitments import leaves_root, step_leaf_digest, tensor_hash
from swarm.training.record.window import StepTaken, WindowData
from swarm.training.shard import Shard
from swarm.types import NO_DIGEST, Digest, StageIndex
from swarm.verify.manifest import WindowManifest
from swarm.verify.program.account import Account, Kind, result_of
from swarm.verify.program.computed import Log, Step
from swarm.verify.program.dispute import OVER, Dispute, Move, Phase, moved, opened
from swarm.verify.program.game import Leaf, Pick, Show, ShowTokens, Split
from swarm.verify.program.nodes import INPUT
from swarm.verify.program.opened import OpenStep, Window, step_number
from swarm.verify.program.players import Challenger, Solver
from swarm.verify.program.reveal import reveal, value_bytes, values_of
from swarm.verify.transcript import state_root

STEPS = 4
GAMES, QUICK_GAMES = 200, 8
"""Games of both roles together."""
TIMED, QUICK_TIMED = 12, 2
"""Games of the demo's own model."""
LONGEST = 4
"""Games besides, about the operators whose elements read the most: for the bytes of inputs alone."""
SILENT = 8
"""One of so many moves of a dishonest side never comes."""
ANYWHERE = Digest(b"\x07" * 32)
JUNK: tuple[Move, ...] = (Pick(-1), Leaf(b"junk"), Split(()))


@dataclass(frozen=True)
class Scene:
    """A window of a seat, with its log and an honest account of it."""

    log: Log
    window: Window
    account: Account
    manifest: WindowManifest | None = None
    """What its solver has signed about the log; None where no inputs are ever shown."""

    def against(self, account: Account) -> Window:
        """Return the window of a solver that says this of it."""
        return replace(self.window, claim=result_of(account).claim)


class FalseStep(Step):
    """A step of which one bit of one value is false, and all that follows from it."""

    lie = (0, 0, 0, 0)
    """Part, node, byte, bit."""

    def watched(self, part: int, number: int, value: Tensor) -> Tensor:
        """Return a value, with its false bit if it is the one that is false."""
        at, node, byte, bit = self.lie
        if (part, number) != (at, node):
            return value
        data = bytearray(value_bytes(value))
        data[byte] ^= 1 << bit
        return values_of(self.program(part).nodes[node], bytes(data)).view(value.shape)


class Liar(Solver):
    """A solver with a false step, and the account that goes with it."""

    def __init__(self, scene: Scene, event: int, lie: tuple[int, int, int, int]) -> None:
        super().__init__(scene.window, scene.log, scene.account)
        kind = type("Liar", (FalseStep,), {"lie": lie})
        self._step = (event, kind(scene.window, scene.log, event, scene.account))
        statement = self.step(event).opened(scene.account)
        leaves, states = list(scene.account.leaves), list(scene.account.states)
        leaves[event] = step_leaf_of(statement, scene, event)
        states[event] = state_root(tuple(map(Digest, statement.after)))
        self.is_false = (leaves[event], states[event]) != (
            scene.account.leaves[event],
            scene.account.states[event],
        )
        states[event + 1 :] = [ANYWHERE] * (len(states) - event - 1)
        self.account = codec.replace(scene.account, leaves=tuple(leaves), states=tuple(states))


@dataclass
class Played:
    """How a dispute went."""

    account: Account
    """With which the challenger has opened it."""
    dispute: Dispute
    moves: list[Move]
    seconds: float

    @property
    def rounds(self) -> int:
        """Moves of the solver."""
        kinds = (Pick, Show, ShowTokens)
        said = [
            m for m in self.moves if not isinstance(m, kinds) and type(m).__name__ != "PickPart"
        ]
        return len(said)

    @property
    def num_bytes(self) -> int:
        """Bytes of all moves, the account that opens the dispute too, but for what the last operator reads."""
        said = [m for m in self.moves if not isinstance(m, Show | ShowTokens)]
        return len(encode(self.account)) + sum(len(encode(m)) for m in said)

    @property
    def input_bytes(self) -> int:
        """Bytes of the move that shows what the last operator reads; 0 if a bound digest has decided."""
        last = self.moves[-1]
        return len(encode(last)) if isinstance(last, Show | ShowTokens) else 0


class Element(NamedTuple):
    """An element of a step, and the bytes of the move that shows what it is computed from."""

    shown_bytes: int
    part: int
    node: int
    byte: int
    """Its most significant byte, in the value."""


def measure_disputes(outcome: Outcome, quick: bool) -> None:
    """Fill ``games``, ``honest_wins``, and what a dispute takes: ``dispute_`` ``rounds``, ``bytes``, ``s`` and
    ``input_bytes``.
    """
    rng, games, won = random.Random(3), QUICK_GAMES if quick else GAMES, 0
    small, demo = _scenes(is_small=True), _scenes(is_small=False)
    for number in range(games // 2):
        won += sum(_pair(small[number % len(small)], rng))
    outcome.figures |= {"games": games // 2 * 2, "honest_wins": won}
    say(f"the honest side won {won} of {games // 2 * 2} disputes")
    played = list[Played]()
    for number in range(QUICK_TIMED if quick else TIMED):
        scene = demo[number % len(demo)]
        liar, _ = _some_liar(scene, rng)
        window = scene.against(liar.account)
        played.append(_play(window, liar, Challenger(window, scene.log)))
        assert played[-1].dispute.phase == Phase.GUILTY, "a lie is convicted"
    rounds, sizes = [p.rounds for p in played], [p.num_bytes for p in played]
    seconds, longest = [p.seconds for p in played], _longest_inputs(demo[-1], quick)
    about = [_play_longest(demo[-1], one) for one in [*longest.values()][:LONGEST]]
    shown = [p.input_bytes for p in (*played, *about) if p is not None]
    outcome.figures |= {
        "dispute_rounds": max(rounds),
        "dispute_bytes": max(sizes),
        "dispute_s": spread(seconds)["median"],
        "dispute_input_bytes": max(shown),
    }
    outcome.detail["disputes"] = {
        "rounds": spread(rounds),
        "bytes": spread(sizes),
        "inputs_bytes": spread(shown),
        "inputs_bytes_by_operator": {what: one.shown_bytes for what, one in longest.items()},
        "seconds": spread(seconds),
    }
    say(f"a dispute of the demo takes up to {max(rounds)} rounds and {max(sizes):,} bytes")


def _longest_inputs(scene: Scene, quick: bool) -> dict[str, Element]:
    """Return the element of each operator that reads the most, by the move that shows it; the longest first.

    The operators are those of a micro-batch and an update of a scene, at each of their shapes, and the elements
    the first and the last of these; quick is the micro-batch alone.
    """
    found, step = dict[str, Element](), Step(scene.window, scene.log, 0, scene.account)
    for part in (0,) if quick else (0, step.update):
        program, values, roots = step.program(part), step.values(part), step.roots[part]
        seen = set[tuple[str, tuple[int, ...]]]()
        for number, node in enumerate(program.nodes):
            kind = node.operator, node.shape
            if node.operator == INPUT or kind in seen:
                continue
            seen.add(kind)
            for place in (0, prod(node.shape) - 1):
                size = len(encode(Show(reveal(program, values, roots, number, place))))
                most_byte = (place + 1) * node.item_bytes - 1
                one = Element(size, part, number, most_byte)
                found[node.operator] = max(found.get(node.operator, one), one)
    return dict(sorted(found.items(), key=lambda item: item[1], reverse=True))


def _play_longest(scene: Scene, element: Element) -> Played | None:
    """Play a dispute about a lie in an element; None if no bit of its most significant byte is one."""
    for bit in range(8):
        liar = Liar(scene, 0, (element.part, element.node, element.byte, bit))
        if liar.is_false:
            window = scene.against(liar.account)
            return _play(window, liar, Challenger(window, scene.log))
    return None


def _scenes(*, is_small: bool) -> list[Scene]:
    """Return the first window of both stages of a trained segment."""
    bench = Bench(STEPS)
    spec = bench.spec
    if is_small:
        model = codec.replace(
            spec.model,
            hidden_size=32,
            num_heads=4,
            num_kv_heads=2,
            intermediate_size=64,
            seq_len=16,
        )
        spec = codec.replace(spec, model=model, microbatch_size=2)
    array = bench.tokens[: len(bench.tokens)]
    root = tensor_hash(array.dtype.name, array.shape, np.ascontiguousarray(array).data)
    data = codec.replace(spec.data, train_root=root, dtype=array.dtype.name)
    bench.spec = codec.replace(spec, data=data)
    made = [Shard.initial(bench.spec, StageIndex(stage)) for stage in range(2)]
    bench.anchors = {one.anchor_root: one.anchor_P for one in made}
    windows = list[WindowData]()
    bench.train(windows.append)
    plan = bench.plan(bench.spec)
    return [
        _scene(Log(plan, one, bench.tokens, bench.anchors)) for one in windows if not one.key.window
    ]


def _scene(log: Log) -> Scene:
    account = log.account
    steps = sum(isinstance(event, StepTaken) for event in log.data.events)
    window = Window(
        facts=log.facts,
        seating=log.seating,
        claim=result_of(account).claim,
        number=0,
        steps=steps,
        is_last=log.data.is_last,
        anchors=tuple(log.anchors),
    )
    return Scene(log, window, account)


def _pair(scene: Scene, rng: random.Random) -> tuple[bool, bool]:
    """Play a lie against an honest challenger, and its account against an honest solver; who won honestly."""
    liar, place = _some_liar(scene, rng)
    window = scene.against(liar.account)
    caught = _play(window, liar, Challenger(window, scene.log), rng, is_false_solver=True)
    walk = caught.dispute.walk
    is_pinned = walk is not None and (caught.dispute.part, walk.node) == place
    is_silent = caught.dispute.phase not in OVER and caught.dispute.is_solvers_turn
    accuser = Challenger(scene.window, scene.log, liar.account)
    accuser.take(liar)
    solver = Solver(scene.window, scene.log)
    cleared = _play(scene.window, solver, accuser, rng, is_false_solver=False)
    is_lost = cleared.dispute.phase == Phase.FALSE or not cleared.dispute.is_solvers_turn
    is_guilty = caught.dispute.phase == Phase.GUILTY
    return (is_guilty and is_pinned) or is_silent, is_lost and cleared.dispute.phase != Phase.GUILTY


def _some_liar(scene: Scene, rng: random.Random) -> tuple[Liar, tuple[int, int]]:
    """Return a solver with one false bit anywhere in a step, and the part and the node that it is in."""
    steps = [event for event, kind in enumerate(scene.account.kinds) if kind == Kind.STEP]
    event = rng.choice(steps)
    honest = Step(scene.window, scene.log, event, scene.account)
    while True:
        part = rng.randrange(honest.update + 1)
        program = honest.program(part)
        computed = [n for n, node in enumerate(program.nodes) if node.operator != INPUT]
        node = rng.choice(computed)
        byte = rng.randrange(program.nodes[node].content.num_bytes)
        liar = Liar(scene, event, (part, node, byte, rng.randrange(8)))
        if liar.is_false:  # else it reaches neither a leaf nor the state, and is none
            return liar, (part, node)


def _play(
    window: Window,
    solver: Solver,
    challenger: Challenger,
    rng: random.Random | None = None,
    *,
    is_false_solver: bool = True,
) -> Played:
    """Play until it is over, or whoever's turn it is has no move that stands."""
    began = time.thread_time()
    claim = result_of(challenger.account).claim
    dispute, moves = opened(window, challenger.account, claim), list[Move]()
    while dispute.phase not in OVER:
        is_solver = dispute.is_solvers_turn
        if rng is not None and is_solver == is_false_solver:
            if not rng.randrange(SILENT):
                break
            _refused(window, dispute, rng.choice(JUNK), is_solver)
        try:
            move = (solver if is_solver else challenger).move(dispute)
            dispute = moved(window, dispute, move, is_solver=is_solver)
        except PeerFault:
            break
        moves.append(move)
    return Played(challenger.account, dispute, moves, time.thread_time() - began)


def _refused(window: Window, dispute: Dispute, junk: Move, is_solver: bool) -> None:
    try:
        moved(window, dispute, junk, is_solver=is_solver)
    except PeerFault:
        return
    raise AssertionError("something that is no move was taken for one")


def step_leaf_of(statement: OpenStep, scene: Scene, event: int) -> Digest:
    """Return the leaf that goes with a statement about a step."""
    step = step_number(scene.window, scene.account, event)
    is_first = step % scene.log.plan.spec.checks.window_steps == 0
    root = state_root(tuple(map(Digest, statement.before))) if is_first else NO_DIGEST
    leaves = leaves_root([one.leaf for one in statement.microbatches])
    return step_leaf_digest(step, statement.dropped, root, leaves, Digest(statement.piece))
