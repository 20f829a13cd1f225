"""Play a dispute about one program down to one element: the solver opens its trace, the challenger points.

Core: a machine that takes moves and heights; what it holds can be stored between two blocks.

    NODES --Split, Pick, ...--> CHUNKS --Split, Pick, ...--> CHUNK --Chunk--> SHOWN --Show--> GUILTY
    the pick of an input: INPUT     whoever does not move in time: the other side wins

The solver has committed to a trace root, and the challenger says that some value under it is false. The solver
opens up to 16 hashes below the one that is disputed, and the challenger points at one of them: down the tree of
all values to the first that differs from its own, then down the tree of that value to a chunk, which the solver
shows. Now the challenger shows one element of it with all that it is computed from (``reveal.py``), under the
solver's own root. If the operator computes something else, the solver is guilty, whatever the challenger has
pointed at before; if it never shows such an element, its accusation is false. So only the solver's hashes are
sent, and a lie of the challenger about where the traces differ hurts itself alone.

Whether an input of a program is the right one is not decided here.
"""

from dataclasses import dataclass
from enum import Enum, auto
from math import prod

from torch import Tensor

from swarm.errors import BadEncoding, BrokenPromise, OutOfTurn
from swarm.primitives.codec import Message, replace
from swarm.primitives.merkle import (
    layers_above,
    leaf_hash,
    merkle_layers,
    padding_hash,
    sealed,
)
from swarm.types import Digest
from swarm.verify.program.nodes import INPUT, Program
from swarm.verify.program.reveal import (
    CHUNK_VALUES,
    VALUE_BYTES,
    Operand,
    Reveal,
    Run,
    chunk_bytes,
    chunk_leaf,
    judge,
    reveal,
    value_root,
)

ARITY_BITS = 4
"""Levels of a tree that one split opens: 16 hashes of 32 bytes."""


class Split(Message, frozen=True, tag=1):
    """The solver's hashes below the disputed one, ``ARITY_BITS`` levels deeper, or as many as there are."""

    hashes: tuple[bytes, ...]


class Pick(Message, frozen=True, tag=2):
    """The challenger's choice among them."""

    child: int


class Chunk(Message, frozen=True, tag=3):
    """The solver's values in the chunk that is disputed."""

    data: bytes


class Show(Message, frozen=True, tag=4):
    """The challenger's element, with all that it is computed from."""

    reveal: Reveal


Move = Split | Pick | Chunk | Show


class Stage(Enum):
    """State of a game."""

    NODES = auto()
    CHUNKS = auto()
    CHUNK = auto()
    SHOWN = auto()
    GUILTY = auto()
    FALSE = auto()
    """The accusation is false."""
    INPUT = auto()
    """The challenger disputes an input of the program."""


OVER = frozenset({Stage.GUILTY, Stage.FALSE, Stage.INPUT})


@dataclass(frozen=True, slots=True)
class Game:
    """A dispute between two moves."""

    root: Digest
    """Trace root that the solver committed to."""
    move_blocks: int
    deadline: int
    """Height from which on whose turn it is has lost."""
    stage: Stage = Stage.NODES
    levels: int = -1
    """Levels between the disputed hash and the leaves of its tree; -1 for the root of a tree."""
    place: int = 0
    """Number of the disputed hash in its layer."""
    disputed: bytes = b""
    """The disputed hash; empty for the root."""
    split: tuple[bytes, ...] = ()
    """Hashes that wait for a pick."""
    node: int = -1
    """Disputed node, once it is found."""

    @property
    def is_solvers_turn(self) -> bool:
        """True if the solver must move."""
        return self.stage in {Stage.NODES, Stage.CHUNKS, Stage.CHUNK} and not self.split


def opened(root: Digest, height: int, move_blocks: int) -> Game:
    """Return the game about a trace root; the solver moves first."""
    return Game(root=root, move_blocks=move_blocks, deadline=height + move_blocks)


def expired(game: Game, height: int) -> Game:
    """Return the game at a height: whose turn it is loses at the deadline."""
    if game.stage in OVER or height < game.deadline:
        return game
    lost = Stage.GUILTY if game.is_solvers_turn else Stage.FALSE
    return replace(game, stage=lost)


def moved(program: Program, game: Game, move: Move, height: int, *, is_solver: bool) -> Game:
    """Return the game after a move.

    Raises ``PeerFault``, and the game is as it was, for a move that is not this side's turn, does not fit what
    was said before, or shows nothing that is false.
    """
    if game.stage in OVER or height >= game.deadline:
        raise OutOfTurn("the game is over")
    if is_solver != game.is_solvers_turn:
        raise OutOfTurn("the other side moves")
    after = replace(game, deadline=height + game.move_blocks)
    match game.stage, move:
        case ((Stage.NODES | Stage.CHUNKS), Split(hashes)) if is_solver:
            return replace(after, split=_checked_split(program, game, hashes))
        case ((Stage.NODES | Stage.CHUNKS), Pick(child)) if not is_solver:
            return _picked(program, game, after, child)
        case Stage.CHUNK, Chunk(data) if is_solver:
            _check_chunk(program, game, data)
            return replace(after, stage=Stage.SHOWN)
        case Stage.SHOWN, Show(shown) if not is_solver:
            in_chunk = shown.place // CHUNK_VALUES == game.place
            if shown.node != game.node or not in_chunk:
                raise OutOfTurn("an element outside of the disputed chunk")
            if judge(program, game.root, shown):
                raise BrokenPromise("an element that is as its operator computes it")
            return replace(after, stage=Stage.GUILTY)
        case _:
            raise OutOfTurn(f"a {type(move).__name__} in a game that is {game.stage.name}")


def _leaves(program: Program, game: Game) -> int:
    """Return the number of leaves of the disputed tree."""
    if game.stage is Stage.NODES:
        return len(program.nodes)
    return -(-prod(program.nodes[game.node].shape) // CHUNK_VALUES)


def _depth(program: Program, game: Game) -> int:
    """Return the levels from the disputed hash to the leaves."""
    if game.levels >= 0:
        return game.levels
    return max(_leaves(program, game) - 1, 0).bit_length()


def _checked_split(program: Program, game: Game, hashes: tuple[bytes, ...]) -> tuple[bytes, ...]:
    depth, leaves = _depth(program, game), _leaves(program, game)
    bits = min(depth, ARITY_BITS)
    width, levels = 1 << bits, depth - bits
    if len(hashes) != width or any(len(part) != 32 for part in hashes):
        raise BadEncoding(f"a split of {len(hashes)} where {width} are opened")
    top = layers_above(hashes)[-1][0]
    if game.levels >= 0:
        is_right = top == game.disputed
    else:
        root = sealed(top, leaves)
        is_root = game.stage is Stage.NODES
        is_right = root == game.root if is_root else leaf_hash(root) == game.disputed
    if not is_right:
        raise BrokenPromise("hashes that do not lead to the disputed one")
    # False padding makes another root of right values: no element would be false, and who accuses would lose.
    padding, first = padding_hash(levels), game.place << bits
    if any((first + at) << levels >= leaves and hashes[at] != padding for at in range(width)):
        raise BrokenPromise("a child that only pads the tree, with another hash")
    return hashes


def _check_chunk(program: Program, game: Game, data: bytes) -> None:
    """Raise unless the values are the disputed ones: a chunk of another length has no element to show."""
    rest = prod(program.nodes[game.node].shape) - game.place * CHUNK_VALUES
    if len(data) != min(rest, CHUNK_VALUES) * VALUE_BYTES:
        raise BadEncoding("a chunk of another length than the value's")
    if leaf_hash(chunk_leaf(data)) != game.disputed:
        raise BrokenPromise("not the chunk that is disputed")


def _picked(program: Program, game: Game, after: Game, child: int) -> Game:
    if not 0 <= child < len(game.split):
        raise BadEncoding(f"child {child} of {len(game.split)}")
    bits = len(game.split).bit_length() - 1
    levels = _depth(program, game) - bits
    place = (game.place << bits) + child
    if place << levels >= _leaves(program, game):
        raise OutOfTurn("a child that only pads the tree")
    after = replace(after, split=(), disputed=game.split[child], levels=levels, place=place)
    if levels:
        return after
    if game.stage is Stage.CHUNKS:
        return replace(after, stage=Stage.CHUNK)
    if program.nodes[place].operator == INPUT:
        return replace(after, stage=Stage.INPUT, node=place)
    return replace(after, stage=Stage.CHUNKS, node=place, levels=-1, place=0)


class Defence:
    """The moves of a solver, from its values."""

    def __init__(self, program: Program, values: list[Tensor]) -> None:
        self._program, self._values = program, values
        self._nodes = merkle_layers([value_root(value) for value in values])

    def move(self, game: Game) -> Move:
        """Return the move of the solver."""
        if game.stage is Stage.CHUNK:
            return Chunk(chunk_bytes(self._values[game.node], game.place))
        layers = self._nodes if game.stage is Stage.NODES else _layers(self._values[game.node])
        depth = _depth(self._program, game)
        bits = min(depth, ARITY_BITS)
        first = game.place << bits
        return Split(tuple(layers[depth - bits][first : first + (1 << bits)]))


class Attack:
    """The moves of a challenger, from its values and what the solver has opened."""

    def __init__(self, program: Program, values: list[Tensor]) -> None:
        self._program, self._values = program, values
        self._nodes = merkle_layers([value_root(value) for value in values])
        self._chunks: list[list[bytes]] = []
        self._data = b""

    def move(self, game: Game, last: Move | None) -> Move:
        """Return the move of the challenger; ``last`` is the solver's."""
        if game.stage is Stage.SHOWN:
            assert isinstance(last, Chunk), "the solver has shown a chunk"
            return Show(self._reveal(game, last.data))
        if game.stage is Stage.CHUNKS and game.levels < 0:
            self._chunks = _layers(self._values[game.node])
        mine = self._nodes if game.stage is Stage.NODES else self._chunks
        bits = len(game.split).bit_length() - 1
        depth = _depth(self._program, game)
        first, level = game.place << bits, depth - bits
        own = mine[level][first : first + len(game.split)]
        pairs = enumerate(zip(own, game.split, strict=True))
        child = next((number for number, (a, b) in pairs if a != b), 0)
        # From here on these layers are the solver's, as far as it has opened them.
        for up, hashes in enumerate(layers_above(game.split)):
            at = first >> up
            mine[level + up][at : at + len(hashes)] = hashes
        return Pick(child)

    def _reveal(self, game: Game, data: bytes) -> Reveal:
        """Return the first element of a chunk that is false, under the solver's root."""
        own = chunk_bytes(self._values[game.node], game.place)
        size = len(own) // max(len(own) // 4, 1)
        words = range(0, len(own), size)
        differs = next((at for at in words if own[at : at + size] != data[at : at + size]), 0)
        place = game.place * CHUNK_VALUES + differs // size
        mine = reveal(self._program, self._values, game.node, place)
        root = sealed(self._chunks[-1][0], len(_real(self._values[game.node])))
        run = Run(game.place, data, _path(self._chunks, game.place))
        claimed = Operand(root, _path(self._nodes, game.node), (run,))
        numbers = self._program.nodes[game.node].inputs
        operands = tuple(
            replace(operand, path=_path(self._nodes, number))
            for operand, number in zip(mine.operands, numbers, strict=True)
        )
        return replace(mine, claimed=claimed, operands=operands)


def _real(value: Tensor) -> range:
    return range(-(-value.numel() // CHUNK_VALUES))


def _layers(value: Tensor) -> list[list[bytes]]:
    return merkle_layers([chunk_leaf(chunk_bytes(value, at)) for at in _real(value)])


def _path(layers: list[list[bytes]], index: int) -> tuple[bytes, ...]:
    return tuple(layer[(index >> level) ^ 1] for level, layer in enumerate(layers[:-1]))
