"""A dispute about a real window goes down to the one program and node in which its solver lied."""

import dataclasses
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from torch import Tensor

from swarm.errors import OutOfTurn, PeerFault
from swarm.primitives.codec import encode, replace
from swarm.primitives.commitments import leaves_root, step_leaf_digest
from swarm.training.record.window import SnapshotTaken, StepTaken
from swarm.types import NO_DIGEST, Digest
from swarm.verify.inputs import InputTree
from swarm.verify.program.account import Account, Kind, result_of
from swarm.verify.program.computed import Log, Step
from swarm.verify.program.dispute import (
    OVER,
    Dispute,
    Move,
    OpenOther,
    OpenTokens,
    Phase,
    PickPart,
    moved,
    opened,
)
from swarm.verify.program.events import OpenAnchor, OpenCopy, OpenEnd, OpenMerge
from swarm.verify.program.game import Leaf, Pick, Show, ShowTokens, Split
from swarm.verify.program.nodes import INPUT
from swarm.verify.program.opened import (
    OpenedMicrobatch,
    OpenMicrobatch,
    OpenStep,
    Window,
    step_number,
)
from swarm.verify.program.players import Challenger, Solver
from swarm.verify.program.shown import ShowInputs
from swarm.verify.transcript import microbatch_leaf, state_root
from tests.verify.program.scenes import ANYWHERE, Scene, manifest_for, scene, steps_in
from tests.verify.program.test_reveal import flipped
from tests.verify.windows import WINDOW_STEPS

GAMES = 24
"""Random lies in a step of each stage."""


@dataclass
class Played:
    """How a dispute went."""

    dispute: Dispute
    moves: list[Move] = field(default_factory=list[Move])

    @property
    def rounds(self) -> int:
        """Moves of the solver."""
        opens = (OpenStep, OpenCopy, OpenMerge, OpenAnchor, OpenEnd, OpenTokens, OpenOther)
        solvers = (*opens, OpenMicrobatch, Split, Leaf)
        return sum(isinstance(move, solvers) for move in self.moves)

    @property
    def num_bytes(self) -> int:
        """Bytes of all moves but for what the last operator reads."""
        moves = [move for move in self.moves if not isinstance(move, Show | ShowTokens)]
        return sum(len(encode(move)) for move in moves)


def play(
    window: Window, solver: Solver, challenger: Challenger, rng: random.Random | None = None
) -> Played:
    """Play until it is over, or one side has no move that stands."""
    claim = result_of(challenger.account).claim
    played = Played(opened(window, challenger.account, claim))
    while played.dispute.phase not in OVER:
        dispute = played.dispute
        is_solver = dispute.is_solvers_turn
        try:
            move = (solver if is_solver else challenger).move(dispute)
        except OutOfTurn:  # a challenger with a log that says the same has none
            return played
        for junk in _junk(move, rng):
            with pytest.raises(PeerFault):
                moved(window, dispute, junk, is_solver=is_solver)
        with pytest.raises(PeerFault):
            moved(window, dispute, move, is_solver=not is_solver)
        try:
            played.dispute = moved(window, dispute, move, is_solver=is_solver)
        except PeerFault:
            return played
        played.moves.append(move)
    return played


def _junk(move: Move, rng: random.Random | None) -> list[Move]:
    """Moves that are none, whoever's turn it is."""
    if rng is None:
        return []
    bad: list[Move] = [PickPart(-1), PickPart(10**6), Pick(-1), Leaf(rng.randbytes(7)), Split(())]
    match move:
        case OpenStep():
            shown = move.microbatches[0]
            bad += [
                replace(move, before=move.after),
                replace(move, before=move.before[:-1]),
                replace(move, after=(ANYWHERE, *move.after[1:])),
                replace(move, seen=move.seen + 1),
                replace(move, seen=-1),
                replace(move, tokens=()),
                replace(move, tokens=(move.tokens[0] + 1, *move.tokens[1:])),
                replace(move, piece=ANYWHERE),
                replace(move, piece=b""),
                replace(move, dropped=((0, 0, 0),)),
                replace(move, microbatches=()),
                replace(move, microbatches=move.microbatches * 2),
                replace(move, microbatches=(replace(shown, leaf=ANYWHERE),)),
                replace(move, microbatches=(replace(shown, trace=b""), *move.microbatches[1:])),
                OpenOther(move.account),
                OpenTokens(move.account, move.before, move.after, move.tokens, move.tokens),
            ]
        case OpenMicrobatch():
            bad += [
                replace(move, out_activation=ANYWHERE),
                replace(move, origin=-1),
                replace(move, sample_ids_root=ANYWHERE),
                replace(move, hashes=()),
                replace(move, in_gradient=b""),
            ]
        case _:
            pass
    return bad


class FalseStep(Step):
    """A step of which one bit of one value is false, and all that follows from it."""

    lie: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Part, node, place, bit."""

    def watched(self, part: int, number: int, value: Tensor) -> Tensor:
        at, node, place, bit = self.lie
        return flipped(value, place, bit) if (part, number) == (at, node) else value


Forge = Callable[[OpenStep], OpenStep]


class Liar(Solver):
    """A solver with a false step; ``forged`` changes what it says of that step besides."""

    def __init__(
        self,
        scene: Scene,
        event: int,
        lie: tuple[int, int, int, int] | None,
        forged: Forge = lambda opened: opened,
    ) -> None:
        super().__init__(scene.window, scene.log, scene.account)
        honest = self.step(event)
        if lie is not None:
            kind = type("Liar", (FalseStep,), {"lie": lie})
            self._step = (event, kind(scene.window, scene.log, event, scene.account))
        self.event, self._forged, self.honest = event, forged, honest
        statement = forged(self.step(event).opened(scene.account))
        leaf = step_leaf_of(statement, scene, event)
        leaves, states = list(scene.account.leaves), list(scene.account.states)
        leaves[event], states[event] = leaf, state_root(tuple(map(Digest, statement.after)))
        said = (leaf, states[event])
        self.is_false = said != (scene.account.leaves[event], scene.account.states[event])
        # It goes on from there; what it says of that is not looked at.
        states[event + 1 :] = [ANYWHERE] * (len(states) - event - 1)
        self.account = replace(scene.account, leaves=tuple(leaves), states=tuple(states))

    def move(self, dispute: Dispute) -> Move:
        if dispute.phase == Phase.OPEN:
            return self._forged(self.step(self.event).opened(self.account))
        return super().move(dispute)


def step_leaf_of(statement: OpenStep, scene: Scene, event: int) -> Digest:

    step = step_number(scene.window, scene.account, event)
    is_first = step % WINDOW_STEPS == 0
    root = state_root(tuple(map(Digest, statement.before))) if is_first else NO_DIGEST
    leaves = leaves_root([one.leaf for one in statement.microbatches])
    return step_leaf_digest(step, statement.dropped, root, leaves, Digest(statement.piece))


def some_liar(here: Scene, rng: random.Random) -> tuple[Liar, int, int]:
    """A solver with one false bit anywhere in a step, and its part and node."""
    event = rng.choice(steps_in(here.account))
    honest = Step(here.window, here.log, event, here.account)
    while True:
        part = rng.randrange(len(honest.records) + 1)
        program = honest.program(part)
        computed = [n for n, node in enumerate(program.nodes) if node.operator != INPUT]
        node = rng.choice(computed)
        place = rng.randrange(honest.values(part)[node].numel())
        liar = Liar(here, event, (part, node, place, rng.randrange(31)))
        if liar.is_false:  # else it reaches neither a leaf nor the state, and is none
            return liar, part, node


@pytest.mark.rule("V42")
@pytest.mark.parametrize("stage", [0, 1])
@pytest.mark.parametrize("number", range(GAMES))
def test_a_false_step_is_pinned_to_its_node_and_an_honest_solver_wins(
    stage: int, number: int
) -> None:
    here, rng = scene(stage, number % 2), random.Random(f"{stage} {number}")
    liar, part, node = some_liar(here, rng)
    window = here.against(liar.account)
    played = play(window, liar, Challenger(window, here.log), rng)
    walk = played.dispute.walk
    assert played.dispute.phase == Phase.GUILTY
    assert walk is not None
    assert (played.dispute.part, walk.node) == (part, node)
    assert played.rounds <= 10
    # The other way round: an honest solver, and a challenger that says what the liar says.
    accuser = Challenger(here.window, here.log, liar.account)
    accuser.take(liar)
    cleared = play(here.window, Solver(here.window, here.log), accuser, rng)
    assert cleared.dispute.phase != Phase.GUILTY
    assert cleared.dispute.is_solvers_turn is False


FORGERIES: dict[str, Forge] = {
    "other weights after it": lambda s: replace(s, after=(ANYWHERE, *s.after[1:])),
    "other moments after it": lambda s: replace(s, after=(s.after[0], ANYWHERE, *s.after[2:])),
    "another piece of the gradient": lambda s: replace(s, piece=ANYWHERE),
}


@pytest.mark.rule("V42")
@pytest.mark.parametrize("what", FORGERIES)
def test_attack_a_right_program_and_something_else_behind_it(what: str) -> None:
    here = scene(0)
    event = steps_in(here.account)[1]
    liar = Liar(here, event, None, FORGERIES[what])
    window = here.against(liar.account)
    played = play(window, liar, Challenger(window, here.log))
    assert played.dispute.phase == Phase.GUILTY


@pytest.mark.rule("V42")
@pytest.mark.parametrize("stage", [0, 1])
def test_attack_other_bytes_for_a_neighbour_than_the_program_gives(stage: int) -> None:
    """The leaf names what was sent; the list of what was sent would agree with it, and both lie."""
    here = scene(stage)
    event = steps_in(here.account)[0]
    honest = Step(here.window, here.log, event, here.account)
    first = honest.records[0]
    record = (
        dataclasses.replace(first, out_gradient=ANYWHERE)
        if stage
        else dataclasses.replace(first, out_activation=ANYWHERE)
    )

    def forged(statement: OpenStep) -> OpenStep:
        first = statement.microbatches[0]
        lie: OpenedMicrobatch = replace(first, leaf=microbatch_leaf(record))
        return replace(statement, microbatches=(lie, *statement.microbatches[1:]))

    liar = Liar(here, event, None, forged)
    liar.step(event).records[0] = record
    window = here.against(liar.account)
    played = play(window, liar, Challenger(window, here.log))
    assert played.dispute.phase == Phase.GUILTY
    assert played.dispute.part == 0


@pytest.mark.rule("V42")
def test_attack_a_claim_of_more_tokens_than_were_trained() -> None:
    here = scene(0)
    more = replace(here.account, tokens=here.account.tokens + 100)
    window = here.against(more)
    liar = Solver(window, here.log, more)
    played = play(window, liar, Challenger(window, here.log))
    assert (played.dispute.phase, played.dispute.is_solvers_turn) == (Phase.OPEN, True)
    accuser = Challenger(here.window, here.log, more)
    cleared = play(here.window, Solver(here.window, here.log), accuser)
    assert cleared.dispute.phase == Phase.FALSE


@pytest.mark.rule("V42")
def test_attack_an_account_of_something_else_than_was_claimed() -> None:
    here = scene(0)
    other = replace(here.account, tokens=here.account.tokens + 1)
    claim = result_of(other).claim
    with pytest.raises(PeerFault):
        opened(here.window, here.account, claim)
    with pytest.raises(PeerFault):
        opened(here.window, here.account, here.window.claim)
    for lie in (
        replace(other, kinds=other.kinds[:-1]),
        replace(other, kinds=(9, *other.kinds[1:])),
        replace(other, leaves=(b"", *other.leaves[1:]), kinds=(Kind.STEP, *other.kinds[1:])),
        replace(other, states=(*other.states[:-1], b"")),
        Account(other.start, (), (), (), 0),
    ):
        with pytest.raises(PeerFault):
            opened(here.window, lie, claim)


def fewer(log: Log) -> Log:
    """The log without the last micro-batch of its first step."""
    events = list(log.data.events)
    at = next(n for n, event in enumerate(events) if isinstance(event, StepTaken))
    taken = events[at]
    assert isinstance(taken, StepTaken)
    events[at] = replace(taken, microbatches=taken.microbatches[:-1])
    return dataclasses.replace(log, data=dataclasses.replace(log.data, events=tuple(events)))


@pytest.mark.rule("V42a", "V64")
def test_attack_a_solver_that_computes_from_other_messages_than_it_has_served() -> None:
    """Its arithmetic is right for what it opens: its own manifest convicts it, in one move."""
    here = scene(1)
    other = fewer(here.log)
    served = dataclasses.replace(here, log=other)
    window = here.against(here.account)
    played = play(window, Solver(here.window, here.log), served.accuser(window))
    assert played.dispute.phase == Phase.GUILTY
    shown = played.moves[-1]
    assert isinstance(shown, ShowInputs)
    assert len(encode(shown)) < 2 << 10, "a move of a few hundred bytes, whatever the log has"


@pytest.mark.rule("V64")
def test_attack_a_false_accuser_with_another_log_has_no_move() -> None:
    """What its solver has not signed shows nothing, and what it has signed is as it opened it."""
    here = scene(1)
    other = fewer(here.log)
    accuser = Challenger(here.window, other, manifest=here.manifest)
    forged = manifest_for(other, scene(0).secret)
    tree = InputTree(other.data)
    event = next(n for n, kind in enumerate(other.account.kinds) if kind == Kind.STEP)
    for manifest in (forged, here.manifest):
        move = ShowInputs(manifest, tree.events[event], tree.path(event))
        begun = opened(here.window, accuser.account, result_of(accuser.account).claim)
        solvers = Solver(here.window, here.log).move(begun)
        begun = moved(here.window, begun, solvers, is_solver=True)
        with pytest.raises(PeerFault):
            moved(here.window, begun, move, is_solver=False)
        with pytest.raises(PeerFault):
            moved(here.window, begun, move, is_solver=True)


@pytest.mark.rule("V42a", "V64")
def test_attack_another_state_before_all_events_than_the_log_begins_with() -> None:
    here = scene(0)
    liar = Solver(here.window, here.log, replace(here.account, start=ANYWHERE))
    window = here.against(liar.account)
    played = play(window, liar, here.accuser(window))
    assert played.dispute.phase == Phase.GUILTY
    assert isinstance(played.moves[-1], ShowInputs)
    # The other way round the solver has said it, and signed nothing else: its accuser has no move.
    accuser = Challenger(here.window, here.log, liar.account, here.manifest)
    lost = play(here.window, Solver(here.window, here.log), accuser)
    assert (lost.dispute.phase, lost.dispute.is_solvers_turn) == (Phase.INPUTS, False)
    assert isinstance(lost.moves[-1], OpenOther)


@pytest.mark.rule("V42a", "V64")
def test_attack_fewer_events_than_the_log_has() -> None:
    here = scene(0)
    assert not here.window.is_last
    added = {
        "kinds": (*here.account.kinds, Kind.COPY),
        "leaves": (*here.account.leaves, b""),
        "states": (*here.account.states, ANYWHERE),
    }
    accuser = Challenger(here.window, here.log, replace(here.account, **added), here.manifest)
    lost = play(here.window, Solver(here.window, here.log), accuser)
    assert (lost.dispute.phase, lost.dispute.is_solvers_turn) == (Phase.INPUTS, False)
    longer = dataclasses.replace(
        here.log,
        data=dataclasses.replace(here.log.data, events=(*here.log.data.events, SnapshotTaken(0))),
    )
    served = dataclasses.replace(here, log=longer)
    assert served.manifest.num_events == here.manifest.num_events + 1
    played = play(here.window, Solver(here.window, here.log), served.accuser(here.window))
    assert played.dispute.phase == Phase.GUILTY


@pytest.mark.rule("V42")
def test_attack_an_event_that_is_kept_shut() -> None:
    """Whatever has a program, or needs none, must be opened."""
    here = scene(0)
    for event in range(len(here.account.kinds)):
        states = (*here.account.states[:event], *[ANYWHERE] * len(here.account.states[event:]))
        other = replace(here.account, states=states)
        dispute = opened(here.window, other, result_of(other).claim)
        with pytest.raises(PeerFault):
            moved(here.window, dispute, OpenOther(here.account), is_solver=True)


@pytest.mark.rule("V42")
def test_attack_events_in_an_order_that_no_log_has() -> None:
    for number in (0, 1, 2):
        here = scene(0, number)
        kinds = here.account.kinds
        orders = {
            "an anchor later": (*kinds[:1], Kind.ANCHOR, *kinds[2:]),
            "no end, or one too many": (
                *kinds[:-1],
                Kind.COPY if here.window.is_last else Kind.END,
            ),
            "an end in the middle": (kinds[0], Kind.END, *kinds[2:]),
            "fewer steps": tuple(Kind.COPY if kind == Kind.STEP else kind for kind in kinds),
            "a copy before the first step": (Kind.COPY, *kinds[1:])
            if number
            else (*kinds[1:], kinds[0]),
        }
        for what, order in orders.items():
            if order == kinds:
                continue
            leaves = [
                (leaf or ANYWHERE) if kind in {Kind.MERGE, Kind.STEP} else b""
                for kind, leaf in zip(order, here.account.leaves, strict=True)
            ]
            lie = replace(here.account, kinds=order, leaves=tuple(leaves))
            with pytest.raises(PeerFault, match=r"account|anchor|end"):
                opened(here.window, lie, result_of(lie).claim)
            assert what
