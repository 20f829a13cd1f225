"""The honest side wins every game, in both roles, against false values, garbage and silence at any move."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest
from torch import Tensor

from swarm.errors import PeerFault
from swarm.primitives.codec import encode
from swarm.primitives.merkle import merkle_root
from swarm.primitives.openings import Tree, tensor_content
from swarm.training.model.exact.selftest import trusted_kernels
from swarm.types import Digest
from swarm.verify.program.game import (
    OVER,
    Attack,
    Case,
    Defence,
    Leaf,
    Move,
    Pick,
    Show,
    ShowTokens,
    Split,
    Stage,
    Text,
    Walk,
    moved,
)
from swarm.verify.program.nodes import INPUT, Program
from swarm.verify.program.reveal import computed, reveal, value_roots
from tests.verify.program.test_reveal import case_of, false_trace, flipped

GAMES = 52
"""Games of each kind; there are two programs, and two roles."""
TOKENS = "ids", "labels"


@dataclass
class Board:
    """A program that was computed honestly, and what it is bound to."""

    program: Program
    given: dict[str, Tensor]
    honest: list[Tensor]
    texts: dict[int, Text]
    text: Tree

    def case(self, solvers: list[Tensor], bound: Mapping[int, Digest] | None = None) -> Case:
        """The case against a solver with these values; what comes out is bound to its own values."""
        program, roots = self.program, value_roots(self.program, solvers)
        honest = value_roots(program, self.honest)
        if bound is None:
            bound = {program.inputs[n]: honest[program.inputs[n]] for n in self._bound_inputs}
            bound |= {number: roots[number] for number in program.outputs.values()}
        return Case(program, merkle_root(roots), bound, self.texts)

    @property
    def _bound_inputs(self) -> list[str]:
        return [name for name in self.program.inputs if name not in TOKENS]


def board_of(which: str) -> Board:
    program, given, honest = case_of(which)
    file = np.concatenate(
        [given[name].numpy() for name in TOKENS if name in given] or [np.zeros(1)]
    )
    data = file.astype("<u2").tobytes()
    content = tensor_content("uint16", (len(file),), len(data))
    texts, first = dict[int, Text](), 0
    for name in TOKENS:
        if name in program.inputs:
            count = given[name].numel()
            root = Tree(content, data).digest
            positions = range(first, first + count)
            texts[program.inputs[name]] = Text(positions, 2, content, root)
        if name in given:
            first += given[name].numel()
    return Board(program, given, honest, texts, Tree(content, data))


@dataclass
class Played:
    """How a game went."""

    walk: Walk
    moves: list[Move] = field(default_factory=list[Move])

    @property
    def bytes_without_inputs(self) -> int:
        """Bytes of all moves but for the operands of the last."""
        return sum(len(encode(m)) for m in self.moves if not isinstance(m, Show | ShowTokens))

    @property
    def rounds(self) -> int:
        """Moves of the solver."""
        return sum(isinstance(move, Split | Leaf) for move in self.moves)


def play(
    board: Board,
    case: Case,
    solvers: list[Tensor],
    challengers: list[Tensor],
    garbage: random.Random | None = None,
) -> Played:
    """Play until it is over, or the challenger has nothing to show."""
    defence = Defence(board.program, solvers)
    attack = Attack(board.program, challengers, text=board.text)
    played = Played(Walk())
    while played.walk.stage not in OVER:
        walk = played.walk
        is_solver = walk.is_solvers_turn
        move = defence.move(case, walk) if is_solver else attack.move(case, walk)
        for junk in _junk(walk, move, garbage):
            with pytest.raises(PeerFault):
                moved(case, walk, junk, is_solver=is_solver)
        with pytest.raises(PeerFault):
            moved(case, walk, move, is_solver=not is_solver)
        try:
            played.walk = moved(case, walk, move, is_solver=is_solver)
        except PeerFault:  # a challenger that has nothing to show
            assert not is_solver
            assert isinstance(move, Show | ShowTokens)
            return played
        played.moves.append(move)
    return played


def _junk(walk: Walk, move: Move, rng: random.Random | None) -> list[Move]:
    """Moves of whose turn it is that are none."""
    if rng is None:
        return []
    if not walk.is_solvers_turn:
        other: Move = Pick(0) if walk.stage == Stage.SHOWN else Leaf(b"")
        return [other, Pick(len(walk.split)), Pick(-1), Split(())]
    found: list[Move] = [Pick(0), Split(()), Split((bytes(32),) * 16), Leaf(rng.randbytes(64))]
    if isinstance(move, Split):
        at = rng.randrange(len(move.hashes))
        changed = list(move.hashes)
        changed[at] = rng.randbytes(32)
        found += [Split(tuple(changed)), Split(move.hashes[:-1]), Split((b"",) * len(changed))]
    if isinstance(move, Leaf):
        found += [Leaf(move.data[:-1]), Leaf(move.data + b"\0")]
    return found


def lies(which: str, seed: str) -> tuple[Board, list[Tensor], int]:
    """A program with a trace that has a false bit, and where it is."""
    board, rng = board_of(which), random.Random(seed)
    computes = [n for n, node in enumerate(board.program.nodes) if node.operator != INPUT]
    at = rng.choice(computes)
    place = rng.randrange(board.honest[at].numel())
    return board, false_trace(board.program, board.given, at, place, rng.randrange(31)), at


@pytest.mark.rule("V41")
@pytest.mark.parametrize("which", ["a micro-batch", "an update"])
@pytest.mark.parametrize("number", range(GAMES))
def test_the_honest_side_wins_in_both_roles(which: str, number: int) -> None:
    board, false, at = lies(which, f"{which} {number}")
    rng = random.Random(number)
    convicted = play(board, board.case(false), false, board.honest, rng)
    assert (convicted.walk.stage, convicted.walk.node) == (Stage.GUILTY, at)
    assert convicted.rounds <= 10
    assert convicted.bytes_without_inputs <= 4 << 10
    cleared = play(board, board.case(board.honest), board.honest, false, rng)
    assert cleared.walk.stage != Stage.GUILTY


@pytest.mark.rule("V41")
def test_attack_another_output_than_the_trace_has() -> None:
    """A right trace, and something else in the leaf or in the state after it: the two contradict."""
    board = board_of("an update")
    case = board.case(board.honest)
    for name, number in board.program.outputs.items():
        bound = {**case.bound, number: Digest(bytes(32))}
        played = play(board, board.case(board.honest, bound), board.honest, board.honest)
        assert (played.walk.stage, played.walk.node) == (Stage.GUILTY, number), name


@pytest.mark.rule("V41")
def test_attack_another_input_than_is_committed() -> None:
    """A program that was computed honestly, from weights that are not those of the state."""
    board = board_of("a micro-batch")
    for name in ("params", "entry_wire", "cos"):
        given = {**board.given, name: flipped(board.given[name], 3, 7)}
        false = board.program.run(trusted_kernels().kernels, given)
        played = play(board, board.case(false), false, board.honest)
        assert (played.walk.stage, played.walk.node) == (Stage.GUILTY, board.program.inputs[name])
        cleared = play(board, board.case(board.honest), board.honest, false)
        assert cleared.walk.stage != Stage.GUILTY


@pytest.mark.rule("V41")
def test_attack_other_tokens_than_the_text_has() -> None:
    board = board_of("a micro-batch")
    labels = board.program.inputs["labels"]
    given = {**board.given, "labels": board.given["labels"].flip(0)}
    false = board.program.run(trusted_kernels().kernels, given)
    played = play(board, board.case(false), false, board.honest)
    assert (played.walk.stage, played.walk.node) == (Stage.GUILTY, labels)
    assert isinstance(played.moves[-1], ShowTokens)
    cleared = play(board, board.case(board.honest), board.honest, false)
    assert cleared.walk.stage != Stage.GUILTY


@pytest.mark.rule("V41")
def test_attack_a_trace_with_a_nan_in_it() -> None:
    """What machines make of one differs, and no honest trace has it: whoever shows it has won."""
    board = board_of("an update")
    program = board.program
    at = next(n for n, node in enumerate(program.nodes) if node.operator == "squared")
    behind = next(n for n, node in enumerate(program.nodes) if at in node.inputs)

    def watch(number: int, value: Tensor) -> Tensor:
        return value * float("nan") if number == at else value

    false = program.run(trusted_kernels().kernels, board.given, watch)
    played = play(board, board.case(false), false, board.honest)
    assert (played.walk.stage, played.walk.node) == (Stage.GUILTY, at)
    # Nor does it help to have the right NaN behind it.
    shown = reveal(program, false, value_roots(program, false), behind, 0)
    assert computed(program, merkle_root(value_roots(program, false)), shown) is None


@pytest.mark.rule("V41")
def test_a_challenger_that_points_anywhere_gains_nothing() -> None:
    """It may pick any child: only an element that is false in the solver's own trace convicts."""
    board = board_of("an update")
    case, defence = board.case(board.honest), Defence(board.program, board.honest)
    for number in range(30):
        rng, walk = random.Random(number), Walk()
        while walk.stage in {Stage.NODES, Stage.VALUE, Stage.LEAF}:
            if walk.is_solvers_turn:
                walk = moved(case, walk, defence.move(case, walk), is_solver=True)
            else:
                walk = moved(case, walk, Pick(rng.randrange(len(walk.split))), is_solver=False)
        assert walk.stage in {Stage.SHOWN, Stage.FALSE}


FORGERIES = ("a leaf cut short", "no leaf", "another shape", "another type", "a node less")


@pytest.mark.rule("V41")
@pytest.mark.parametrize("what", FORGERIES)
def test_attack_a_root_under_which_no_element_is_false(what: str) -> None:
    """Whoever accuses it would lose, if its solver could open it down to an element that is right."""
    board = board_of("an update")
    program, values = board.program, board.honest
    roots = value_roots(program, values)
    at = next(n for n, node in enumerate(program.nodes) if node.operator != INPUT)
    node, data = program.nodes[at], values[at].numpy().tobytes()
    shape = {"another shape": (1, *node.shape)}.get(what, node.shape)
    kind = "int32" if what == "another type" else node.dtype
    cut = {"a leaf cut short": data[:-4], "no leaf": b""}.get(what, data)
    roots[at] = Tree(tensor_content(kind, shape, len(cut)), cut).digest
    if what == "a node less":
        roots.pop()
    assert merkle_root(roots) != merkle_root(value_roots(program, values))
    case, walk = Case(program, merkle_root(roots), {}), Walk()
    defence, attack = Defence(program, values, roots), Attack(program, values)
    while walk.stage not in OVER:
        assert walk.is_solvers_turn, "it cannot open what it has committed to"
        try:
            walk = moved(case, walk, defence.move(case, walk), is_solver=True)
        except PeerFault:
            return
        if not walk.is_solvers_turn:
            walk = moved(case, walk, attack.move(case, walk), is_solver=False)
    raise AssertionError("opened")


@pytest.mark.rule("V41")
def test_nothing_moves_after_the_end() -> None:
    board, false, _ = lies("a micro-batch", "end")
    case = board.case(false)
    done = play(board, case, false, board.honest)
    with pytest.raises(PeerFault):
        moved(case, done.walk, Pick(0), is_solver=False)
