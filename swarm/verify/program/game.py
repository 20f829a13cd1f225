"""Play a dispute about one program down to one element: the solver opens its trace, the challenger points.

Core: functions of a walk between two moves, which can be stored between two blocks.

    NODES --Split, Pick, ...--> VALUE --Split, Pick, ...--> LEAF --Leaf--> SHOWN --Show--> GUILTY
    the pick of a node that is bound to another digest: GUILTY     of an input that is bound to its own: FALSE

The solver has committed to a trace root, and the challenger says that some value under it is false. The
solver opens up to 32 hashes below the one that is disputed, and the challenger points at one of them: down the
tree of all values to the first that differs from its own, then down the tree of that value to a leaf of 1 KiB,
which the solver shows. Now the challenger shows all that one element in it is computed from (``reveal.py``),
under the solver's own root. If the operator computes something else, the solver is guilty, whatever the
challenger has pointed at before; if it never shows such an element, its accusation is false. So only the
solver's hashes are sent, and a lie of the challenger about where the traces differ hurts itself alone.

What goes into a program and what comes out of it is bound: the trace must have the digests that are committed
elsewhere. Tokens are bound to the text of the run, by position.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from torch import Tensor

from swarm.errors import BadEncoding, BrokenPromise, OutOfTurn
from swarm.primitives.codec import Message, replace
from swarm.primitives.merkle import (
    layer_above,
    layers_above,
    leaf_hash,
    merkle_layers,
    padding_hash,
    proof_in,
    sealed,
)
from swarm.primitives.openings import (
    WHOLE,
    Content,
    Opening,
    Place,
    Tree,
    check_opening,
    children,
    is_leaf,
    lead,
    lead_from_data,
)
from swarm.types import Digest
from swarm.verify.program.nodes import INPUT, Program
from swarm.verify.program.reveal import (
    Reveal,
    computed,
    reveal,
    tree_of,
    value_bytes,
    value_roots,
)
from swarm.verify.program.splits import node_layers, top_level, value_layers


class Split(Message, frozen=True, tag=1):
    """The solver's hashes below the disputed one, some layers deeper."""

    hashes: tuple[bytes, ...]


class Pick(Message, frozen=True, tag=2):
    """The challenger's choice among them."""

    child: int


class Leaf(Message, frozen=True, tag=3):
    """The solver's bytes in the leaf that is disputed."""

    data: bytes


class Show(Message, frozen=True, tag=4):
    """The challenger's element, with all that it is computed from."""

    reveal: Reveal


class ShowTokens(Message, frozen=True, tag=5):
    """The challenger's token: what the text of the run has at the position of an element."""

    place: int
    """Flat index of the element."""
    opening: Opening
    """Of the token file."""


Move = Split | Pick | Leaf | Show | ShowTokens


class Stage(IntEnum):
    """State of a walk."""

    NODES = 0
    VALUE = 1
    LEAF = 2
    SHOWN = 3
    GUILTY = 4
    FALSE = 5
    """The accusation is false."""


OVER = frozenset({Stage.GUILTY, Stage.FALSE})


@dataclass(frozen=True, slots=True)
class Text:
    """Tokens of the run that the elements of an input must be."""

    positions: Sequence[int]
    """Position in the token file of each element."""
    width: int
    """Bytes of a token in the file."""
    content: Content
    root: Digest


@dataclass(frozen=True, slots=True)
class Case:
    """A program, the root of its trace as the solver committed to it, and what its values are bound to."""

    program: Program
    root: Digest
    bound: Mapping[int, Digest]
    """Digests that nodes must have: of every input but tokens, and of what comes out."""
    texts: Mapping[int, Text] = field(default_factory=dict[int, Text])


class NodeSplit(Message, frozen=True):
    """Hashes in the tree of all values that the solver has opened, from a place on."""

    place: Place
    hashes: tuple[bytes, ...]


class Walk(Message, frozen=True):
    """State of a dispute about a program between two moves."""

    stage: int = Stage.NODES
    place: Place | None = None
    """Place of the disputed hash, in the tree of all values or in that of one; None for the trace root."""
    disputed: bytes = b""
    split: tuple[bytes, ...] = ()
    """Hashes that wait for a pick."""
    node: int = -1
    """Disputed node, once it is found."""
    data: bytes = b""
    """Bytes of the disputed leaf, once they are shown."""
    nodes: tuple[NodeSplit, ...] = ()
    """Splits of the tree of all values: the challenger shows values under the solver's root by them."""

    @property
    def is_solvers_turn(self) -> bool:
        """True if the solver must move."""
        return self.stage in {Stage.NODES, Stage.VALUE, Stage.LEAF} and not self.split


def moved(case: Case, walk: Walk, move: Move, *, is_solver: bool) -> Walk:
    """Return the walk after a move.

    Raises ``PeerFault``, and the walk is as it was, for a move that is not this side's turn, does not fit what
    was said before, or shows nothing that is false.
    """
    if walk.stage in OVER:
        raise OutOfTurn("the game is over")
    if is_solver != walk.is_solvers_turn:
        raise OutOfTurn("the other side moves")
    match Stage(walk.stage), move:
        case ((Stage.NODES | Stage.VALUE), Split(hashes)) if is_solver:
            _check_split(case, walk, hashes)
            if walk.stage == Stage.NODES:
                noted = NodeSplit(_opens(case, walk)[0], hashes)
                walk = replace(walk, nodes=(*walk.nodes, noted))
            return replace(walk, split=hashes)
        case ((Stage.NODES | Stage.VALUE), Pick(child)) if not is_solver:
            return _picked(case, walk, child)
        case Stage.LEAF, Leaf(data) if is_solver:
            _check_leaf(case, walk, data)
            return replace(walk, stage=Stage.SHOWN, data=data)
        case Stage.SHOWN, Show(shown) if not is_solver:
            _check_false(case, walk, shown)
            return replace(walk, stage=Stage.GUILTY)
        case Stage.SHOWN, ShowTokens() if not is_solver:
            _check_false_token(case, walk, move)
            return replace(walk, stage=Stage.GUILTY)
        case _:
            raise OutOfTurn(f"a {type(move).__name__} where {Stage(walk.stage).name} is disputed")


# --- the tree of all values ---


def _top(program: Program) -> Place:
    return Place(WHOLE, top_level(program), 0)


def _below(program: Program, place: Place) -> list[Place]:
    """Return the places that a split opens, but for those that only pad the tree."""
    down, count = node_layers(program, place.level), len(program.nodes)
    level = place.level - down
    places = range(place.index << down, (place.index + 1) << down)
    return [Place(WHOLE, level, at) for at in places if at << level < count]


def _lead(program: Program, place: Place, hashes: Sequence[bytes]) -> bytes:
    layer, level = list(hashes), place.level - node_layers(program, place.level)
    while level < place.level:
        level += 1
        layer = layer_above(layer, level)
    return layer[0]


# --- moves ---


def _opens(case: Case, walk: Walk) -> list[Place]:
    """Return the places that the next split opens."""
    if walk.stage == Stage.NODES:
        return _below(case.program, walk.place or _top(case.program))
    content = case.program.nodes[walk.node].content
    place = walk.place or content.top
    return children(content, place, value_layers(case.program, content, place))


def _check_split(case: Case, walk: Walk, hashes: tuple[bytes, ...]) -> None:
    count = len(_opens(case, walk))
    if len(hashes) != count or any(len(part) != 32 for part in hashes):
        raise BadEncoding(f"a split of {len(hashes)} where {count} are opened")
    if walk.stage == Stage.NODES:
        nodes = len(case.program.nodes)
        found = _lead(case.program, walk.place or _top(case.program), hashes)
        is_right = found == walk.disputed if walk.place else sealed(found, nodes) == case.root
    else:
        content = case.program.nodes[walk.node].content
        place = walk.place or content.top
        found = lead(content, place, hashes, value_layers(case.program, content, place))
        is_right = _is_disputed(walk, found)
    if not is_right:
        raise BrokenPromise("hashes that do not lead to the disputed one")


def _is_disputed(walk: Walk, found: bytes) -> bool:
    """Return True if a hash is the disputed one; that of a whole value is seen as a leaf of the trace."""
    return (found if walk.place else leaf_hash(found)) == walk.disputed


def _check_leaf(case: Case, walk: Walk, data: bytes) -> None:
    content = case.program.nodes[walk.node].content
    if not _is_disputed(walk, lead_from_data(content, walk.place or content.top, data)):
        raise BrokenPromise("not the bytes that are disputed")


def _picked(case: Case, walk: Walk, child: int) -> Walk:
    if not 0 <= child < len(walk.split):
        raise BadEncoding(f"child {child} of {len(walk.split)}")
    place, disputed = _opens(case, walk)[child], walk.split[child]
    after = replace(walk, split=(), place=place, disputed=disputed)
    if walk.stage == Stage.VALUE:
        content = case.program.nodes[walk.node].content
        return replace(after, stage=Stage.LEAF if is_leaf(content, place) else Stage.VALUE)
    return after if place.level else _found(case, after, place.index)


def _found(case: Case, walk: Walk, node: int) -> Walk:
    """Return the walk at a node: over if it is bound to another digest, or an input as it must be."""
    walk = replace(walk, stage=Stage.VALUE, place=None, node=node)
    if node in case.bound:
        if leaf_hash(case.bound[node]) != walk.disputed:
            return replace(walk, stage=Stage.GUILTY)
        if case.program.nodes[node].operator == INPUT:
            return replace(walk, stage=Stage.FALSE)
    content = case.program.nodes[node].content
    return replace(walk, stage=Stage.LEAF if is_leaf(content, content.top) else Stage.VALUE)


def _check_false(case: Case, walk: Walk, shown: Reveal) -> None:
    """Raise unless an element that reaches into the disputed leaf is another one than the solver's."""
    if shown.node != walk.node:
        raise OutOfTurn("an element of another node than the disputed")
    element, size = (
        computed(case.program, case.root, shown),
        case.program.nodes[walk.node].item_bytes,
    )
    right = None if element is None else value_bytes(element)
    _check_differs(case, walk, shown.place * size, size, right)


def _check_false_token(case: Case, walk: Walk, move: ShowTokens) -> None:
    text = case.texts.get(walk.node)
    if text is None or not 0 <= move.place < len(text.positions):
        raise OutOfTurn("tokens of a node that is none of them")
    check_opening(text.content, text.root, move.opening)
    at = text.positions[move.place] * text.width - move.opening.start
    token = move.opening.data[at : at + text.width]
    if at < 0 or len(token) != text.width:
        raise BrokenPromise("the text at another position")
    size = case.program.nodes[walk.node].item_bytes
    right = int.from_bytes(token, "little").to_bytes(size, "little")
    _check_differs(case, walk, move.place * size, size, right)


def _check_differs(case: Case, walk: Walk, first: int, size: int, right: bytes | None) -> None:
    """Raise ``BrokenPromise`` unless the disputed leaf has other bytes at ``first`` than the right ones.

    None stands for what no honest trace has: a NaN, or something that is computed from one.
    """
    content = case.program.nodes[walk.node].content
    start, stop = content.span(walk.place or content.top)
    begin, end = max(first, start), min(first + size, stop)
    if begin >= end:
        raise OutOfTurn("an element outside of the disputed leaf")
    said = walk.data[begin - start : end - start]
    if right is not None and said == right[begin - first : end - first]:
        raise BrokenPromise("an element that is as its operator computes it")


# --- the two sides ---


class Defence:
    """The moves of a solver, from its values."""

    def __init__(
        self, program: Program, values: Sequence[Tensor], roots: Sequence[Digest] | None = None
    ) -> None:
        """``roots``: digests of the values, if they are known."""
        self._program, self._values = program, values
        self._nodes = merkle_layers(roots or value_roots(program, values))

    def move(self, case: Case, walk: Walk) -> Move:
        """Return the move of the solver."""
        opens = [] if walk.stage == Stage.LEAF else _opens(case, walk)
        if walk.stage == Stage.NODES:
            return Split(tuple(self._nodes[place.level][place.index] for place in opens))
        node = self._program.nodes[walk.node]
        tree = tree_of(node, self._values[walk.node])
        top = walk.place or node.content.top
        if walk.stage == Stage.LEAF:
            return Leaf(tree.data(top))
        return Split(tree.split(top, value_layers(self._program, node.content, top)))


class Attack:
    """The moves of a challenger, from its values and what the solver has opened."""

    def __init__(
        self,
        program: Program,
        values: Sequence[Tensor],
        roots: Sequence[Digest] | None = None,
        text: Tree | None = None,
    ) -> None:
        """``roots``: digests of the values, if they are known; ``text``: hashes of the token file."""
        self._program, self._values, self._text = program, values, text
        self._roots = roots or value_roots(program, values)

    def move(self, case: Case, walk: Walk) -> Move:
        """Return the move of the challenger."""
        if walk.stage == Stage.SHOWN:
            return self._shown(case, walk)
        if walk.stage == Stage.VALUE:
            node = self._program.nodes[walk.node]
            tree = tree_of(node, self._values[walk.node])
            place = walk.place or node.content.top
            own = tree.split(place, value_layers(self._program, node.content, place))
            return Pick(_first_difference(own, walk.split) or 0)
        opens, nodes = _opens(case, walk), merkle_layers(self._roots)
        child = _first_difference([nodes[p.level][p.index] for p in opens], walk.split)
        return Pick(self._contradicted(case, opens) if child is None else child)

    def _contradicted(self, case: Case, opens: Sequence[Place]) -> int:
        """Return the child with a node that is bound to another digest than ours, which is the trace's."""
        wrong = [node for node, digest in case.bound.items() if digest != self._roots[node]]
        for child, place in enumerate(opens):
            if any(node >> place.level == place.index for node in wrong):
                return child
        return 0

    def _shown(self, case: Case, walk: Walk) -> Move:
        """Return the first element of the leaf that is false, under the solver's root."""
        node = self._program.nodes[walk.node]
        start, _ = node.content.span(walk.place or node.content.top)
        own = value_bytes(self._values[walk.node])[start : start + len(walk.data)]
        place = (start + (_first_difference(own, walk.data) or 0)) // node.item_bytes
        if node.operator == INPUT:
            assert self._text is not None, "whoever computes from tokens has the text"
            text = case.texts[walk.node]
            at = text.positions[place] * text.width
            return ShowTokens(place, self._text.opening(at, at + text.width))
        mine = reveal(self._program, self._values, self._roots, walk.node, place)
        nodes = _learned(merkle_layers(self._roots), walk.nodes)
        operands = tuple(
            replace(operand, path=proof_in(nodes, number))
            for operand, number in zip(mine.operands, node.inputs, strict=True)
        )
        return Show(replace(mine, operands=operands))


def _learned(layers: list[list[bytes]], splits: Sequence[NodeSplit]) -> list[list[bytes]]:
    """Return the layers of a trace with all hashes that the solver has opened in their places."""
    for split in splits:
        level, first = split.place.level, split.place.index
        width = 1 << max(len(split.hashes) - 1, 0).bit_length()
        filled = [*split.hashes, *[padding_hash(level)] * (width - len(split.hashes))]
        for up, hashes in enumerate(layers_above(filled)):
            at = first >> up
            layers[level + up][at : at + len(hashes)] = hashes
    return layers


def _first_difference(own: Sequence[object], said: Sequence[object]) -> int | None:
    pairs = enumerate(zip(own, said, strict=True))
    return next((number for number, (a, b) in pairs if a != b), None)
