"""The honest side wins every game, in both roles, against false values, garbage and silence at any move."""

import random
from dataclasses import dataclass, field
from math import prod

import pytest
from torch import Tensor

from swarm.config.load import parse_run_file, planned_spec
from swarm.errors import PeerFault
from swarm.primitives.codec import encode
from swarm.primitives.merkle import layers_above, merkle_layers, sealed
from swarm.types import Digest, StageIndex
from swarm.verify.program.game import (
    ARITY_BITS,
    OVER,
    Attack,
    Chunk,
    Defence,
    Game,
    Move,
    Pick,
    Show,
    Split,
    Stage,
    expired,
    moved,
    opened,
)
from swarm.verify.program.microbatch import microbatch_program
from swarm.verify.program.nodes import INPUT, Program
from swarm.verify.program.reveal import (
    CHUNK_VALUES,
    chunk_bytes,
    chunk_leaf,
    trace_root,
    value_root,
)
from tests.verify.program.test_model_operators import ROOT
from tests.verify.program.test_reveal import case_of, false_trace

GAMES = 52
"""Games of each kind; there are four kinds, and as many again of silence."""
MOVE_BLOCKS = 10


@dataclass
class Played:
    """How a game went."""

    game: Game
    moves: list[Move] = field(default_factory=list[Move])

    @property
    def bytes_without_inputs(self) -> int:
        """Bytes of all moves but for the operands of the last."""
        return sum(len(encode(m)) for m in self.moves if not isinstance(m, Show))


def play(
    program: Program,
    solvers: list[Tensor],
    challengers: list[Tensor],
    *,
    garbage: random.Random | None = None,
    silent: int = -1,
) -> Played:
    """Play to the end; ``silent``: number of the move that never comes."""
    defence, attack = Defence(program, solvers), Attack(program, challengers)
    game, height, last = opened(trace_root(solvers), 100, MOVE_BLOCKS), 100, None
    played = Played(game)
    while game.stage not in OVER:
        is_solver = game.is_solvers_turn
        move = defence.move(game) if is_solver else attack.move(game, last)
        if len(played.moves) == silent:
            return Played(expired(game, game.deadline), played.moves)
        for junk in _junk(game, move, garbage):
            before = game
            with pytest.raises(PeerFault):
                moved(program, game, junk, height, is_solver=is_solver)
            assert game == before
        with pytest.raises(PeerFault):
            moved(program, game, move, height, is_solver=not is_solver)
        height += 1
        try:
            game = moved(program, game, move, height, is_solver=is_solver)
        except PeerFault:  # a challenger that has nothing to show
            assert not is_solver
            assert isinstance(move, Show)
            game = expired(game, game.deadline)
            return Played(game, [*played.moves, move])
        last = move if is_solver else last
        played.moves.append(move)
    played.game = game
    return played


def _junk(game: Game, move: Move, rng: random.Random | None) -> list[Move]:
    """Moves of whose turn it is that are none."""
    if rng is None:
        return []
    if not game.is_solvers_turn:
        other: Move = Pick(-1) if game.stage is Stage.SHOWN else Chunk(b"")
        return [other, Pick(16), Pick(-1), Split(())]
    found: list[Move] = [Pick(0), Split(()), Split((bytes(32),) * 16), Chunk(rng.randbytes(64))]
    if isinstance(move, Split):
        at = rng.randrange(len(move.hashes))
        changed = list(move.hashes)
        changed[at] = rng.randbytes(32)
        found += [Split(tuple(changed)), Split(move.hashes[:-1]), Split((b"",) * len(changed))]
    if isinstance(move, Chunk):
        found += [Chunk(move.data[:-1]), Chunk(move.data + b"\0")]
    return found


def lies(which: str, seed: str) -> tuple[Program, list[Tensor], list[Tensor], int]:
    """A program with an honest trace and one with a false bit, and where it is."""
    program, given, honest, _ = case_of(which)
    rng = random.Random(seed)
    computed = [n for n, node in enumerate(program.nodes) if node.operator != INPUT]
    at = rng.choice(computed)
    place = rng.randrange(honest[at].numel())
    return program, honest, false_trace(program, given, at, place, rng.randrange(31)), at


@pytest.mark.rule("V41")
@pytest.mark.parametrize("which", ["a micro-batch", "an update"])
@pytest.mark.parametrize("number", range(GAMES))
def test_the_honest_side_wins_in_both_roles(which: str, number: int) -> None:
    program, honest, false, at = lies(which, f"{which} {number}")
    rng = random.Random(number)
    convicted = play(program, false, honest, garbage=rng)
    assert (convicted.game.stage, convicted.game.node) == (Stage.GUILTY, at)
    rounds = sum(isinstance(move, Split | Chunk) for move in convicted.moves)
    assert rounds <= 10
    assert convicted.bytes_without_inputs <= 4 << 10
    cleared = play(program, honest, false, garbage=rng)
    assert cleared.game.stage is Stage.FALSE


@pytest.mark.rule("V41")
def test_whoever_is_silent_loses_at_any_move() -> None:
    program, honest, false, _ = lies("a micro-batch", "silence")
    for solvers, challengers in ((false, honest), (honest, false)):
        for silent in range(len(play(program, solvers, challengers).moves)):
            played = play(program, solvers, challengers, silent=silent)
            assert len(played.moves) == silent
            is_solver = silent % 2 == 0
            assert played.game.stage is (Stage.GUILTY if is_solver else Stage.FALSE)


@pytest.mark.rule("V41")
def test_a_challenger_that_points_anywhere_gains_nothing() -> None:
    """It may pick any child: only an element that is false in the solver's own trace convicts."""
    program, honest, _, _ = lies("an update", "anywhere")
    for number in range(20):
        rng = random.Random(number)
        defence, game = Defence(program, honest), opened(trace_root(honest), 0, MOVE_BLOCKS)
        while game.stage in {Stage.NODES, Stage.CHUNKS, Stage.CHUNK}:
            if game.is_solvers_turn:
                game = moved(program, game, defence.move(game), 1, is_solver=True)
                continue
            try:
                pick = Pick(rng.randrange(len(game.split)))
                game = moved(program, game, pick, 1, is_solver=False)
            except PeerFault:
                pass  # a child that only pads the tree
        assert game.stage in {Stage.SHOWN, Stage.INPUT}


@dataclass
class Forger:
    """A solver whose tree is of no trace: a value, or the list of values, that no program makes."""

    nodes: list[list[bytes]]
    num_nodes: int
    chunks: list[list[bytes]]
    chunk: bytes = b""

    @property
    def root(self) -> Digest:
        """Its trace root."""
        return sealed(self.nodes[-1][0], self.num_nodes)

    def move(self, game: Game) -> Move:
        """Open what there is."""
        if game.stage is Stage.CHUNK:
            return Chunk(self.chunk)
        layers = self.nodes if game.stage is Stage.NODES else self.chunks
        depth = game.levels if game.levels >= 0 else len(layers) - 1
        bits = min(depth, ARITY_BITS)
        first = game.place << bits
        return Split(tuple(layers[depth - bits][first : first + (1 << bits)]))


FORGERIES = (
    *("a chunk cut short", "a chunk too long", "no chunk", "false padding of chunks"),
    *("another number of chunks", "false padding of nodes", "another number of nodes"),
)


def forger(program: Program, values: list[Tensor], what: str) -> Forger:
    """Return a solver with the right values and a wrong tree."""
    counts = [-(-prod(node.shape) // CHUNK_VALUES) for node in program.nodes]
    at = next(
        number
        for number, (node, count) in enumerate(zip(program.nodes, counts, strict=True))
        if node.operator != INPUT and count & (count - 1)
    )
    data = [chunk_bytes(values[at], chunk) for chunk in range(counts[at])]
    forged = {"a chunk cut short": data[0][:-4], "a chunk too long": data[0] + bytes(4)}
    chunk = forged.get(what, b"" if what == "no chunk" else data[0])
    chunks = merkle_layers([chunk_leaf(part) for part in (chunk, *data[1:])])
    num_chunks, num_nodes = counts[at], len(values)
    if what == "false padding of chunks":
        chunks = layers_above([*chunks[0][:-1], bytes(32)])
    if what == "another number of chunks":
        num_chunks -= 1
    roots = [value_root(value) for value in values]
    roots[at] = sealed(chunks[-1][0], num_chunks)
    nodes = merkle_layers(roots)
    assert len(nodes[0]) > num_nodes, "a tree without padding"
    if what == "false padding of nodes":
        nodes = layers_above([*nodes[0][:-1], bytes(32)])
    if what == "another number of nodes":
        num_nodes += 1
    return Forger(nodes, num_nodes, chunks, chunk)


@pytest.mark.rule("V41")
@pytest.mark.parametrize("what", FORGERIES)
def test_attack_a_root_under_which_no_element_is_false(what: str) -> None:
    """Whoever accuses it would lose, if its solver could open it down to an element that is right."""
    program, honest, _, _ = lies("an update", "forger")
    solver, attack = forger(program, honest, what), Attack(program, honest)
    assert solver.root != trace_root(honest)
    game = opened(solver.root, 0, MOVE_BLOCKS)
    while game.stage is not Stage.SHOWN:
        assert game.is_solvers_turn
        try:
            game = moved(program, game, solver.move(game), 1, is_solver=True)
        except PeerFault:
            break
        if game.split:
            game = moved(program, game, attack.move(game, None), 1, is_solver=False)
    assert expired(game, game.deadline).stage is Stage.GUILTY


@pytest.mark.rule("V41")
def test_an_input_is_not_judged_here() -> None:
    program, honest, _, _ = lies("a micro-batch", "input")
    changed = [honest[0] + 1, *honest[1:]]
    played = play(program, changed, honest)
    assert (played.game.stage, played.game.node) == (Stage.INPUT, 0)


def test_nothing_moves_after_the_end_or_the_deadline() -> None:
    program, honest, false, _ = lies("a micro-batch", "end")
    done = play(program, false, honest)
    with pytest.raises(PeerFault):
        moved(program, done.game, Pick(0), 101, is_solver=False)
    assert expired(done.game, 10**9) == done.game
    game = opened(trace_root(honest), 0, MOVE_BLOCKS)
    with pytest.raises(PeerFault):
        moved(program, game, Defence(program, honest).move(game), MOVE_BLOCKS, is_solver=True)
    assert expired(game, MOVE_BLOCKS - 1) == game


@pytest.mark.rule("V41")
@pytest.mark.parametrize(
    "file", ["configs/demo.toml", "configs/run-125m.toml", "configs/run-6b8.toml"]
)
def test_ten_rounds_are_enough_at_the_shapes_of_the_packaged_runs(file: str) -> None:
    spec = planned_spec(parse_run_file((ROOT / file).read_text("utf-8"), file))
    program = microbatch_program(spec, StageIndex(spec.num_stages - 1))
    chunks = max(-(-prod(node.shape) // CHUNK_VALUES) for node in program.nodes)
    depths = [(count - 1).bit_length() for count in (len(program.nodes), chunks)]
    rounds = sum(-(-depth // ARITY_BITS) for depth in depths) + 1
    assert rounds <= 10
    assert rounds * (32 << ARITY_BITS) <= 5 << 10
