"""Peers that do what their agenda says find forced errors, show who approved one, and convict liars."""

from dataclasses import dataclass, field

import pytest

from swarm.errors import BrokenPromise
from swarm.ledger.check_statements import ForcedError, TraceFraud
from swarm.ledger.state.records import CheckPhase, SegmentPhase
from swarm.ledger.transition.forced import seed_for
from swarm.primitives.codec import encode
from swarm.primitives.commitments import WindowResult
from swarm.primitives.crypto import SecretKey
from swarm.testing.ledger import SALT, STAKE, verifier_salt
from swarm.training.record.window import WindowKey
from swarm.types import Digest
from swarm.verify.answers import OwnAnswer, seat_of
from swarm.verify.duties import CheckWindow, DutyStep, ProveForced, Submit
from swarm.verify.spots.elements import FalseElement, check_false
from swarm.verify.spots.proof import FalseTrace
from swarm.verify.spots.solving import Solved
from swarm.verify.spots.statement import program_of
from tests.ledger.forcing import OFTEN
from tests.ledger.traces import elements_of, honest, recorded, traced
from tests.ledger.transition.test_forced_errors import Real, forced_window
from tests.verify.actors import Actor, BlockProducer, play

NOBODYS = Digest(bytes(32))
"""Seed of an error that no draw has forced."""


@dataclass
class World:
    """A segment in a run with forced errors, everybody who may check it, and what its solver tells them."""

    case: Real
    producer: BlockProducer
    actors: list["Looker"]
    lies: bool = False
    """Whether the solver tells everybody something false that no draw has forced."""

    def told(self, key: SecretKey) -> Solved:
        """What a verifier is told about its window."""
        case, check = self.case, self.case.check(key)
        if self.lies:
            return forced_window(check.window, NOBODYS)
        seed = seed_for(case.record, case.run.spec, check, SALT)
        return honest(check.window) if seed is None else forced_window(check.window, seed)

    def proofs(self, step: ProveForced) -> tuple[bytes, ...]:
        """What the solver shows of an error that it made on purpose."""
        check = self.case.record.checks[step.place]
        key = self.case.ledger.key_of(check.peer)
        shown = self.case.solved(key).false_elements(self.case.said(key), check.dice)
        return tuple(map(encode, shown))

    def actor(self, key: SecretKey) -> "Looker":
        """The actor of a key."""
        return next(one for one in self.actors if one.key.peer == key.peer)

    def phases(self) -> dict[CheckPhase, int]:
        """How many checks have ended how."""
        found = [check.phase for check in self.case.record.checks]
        return {phase: found.count(phase) for phase in found}


@dataclass
class Looker(Actor):
    """A verifier that looks at elements, or does not."""

    world: World = field(init=False)
    is_lazy: bool = False

    def _work(self, step: DutyStep) -> None:
        if not isinstance(step, CheckWindow):
            super()._work(step)
            return
        told, window = self.world.told(self.key), step.key.window
        said = self.world.case.states(told, window, None, self.key.peer)
        proof = None if self.is_lazy else self.found(told, window)
        if proof is not None:
            self.proofs[step.key] = proof
        self.answers[step.key] = OwnAnswer(
            *seat_of(step.key),
            window=window,
            salt=verifier_salt(self.key.peer),
            result=self.world.case.claimed.results[window],
            root=Digest(bytes(32)),
            statement=encode(said),
            is_false=proof is not None,
        )

    def found(self, told: Solved, window: int) -> bytes | None:
        """What it finds in what it is told: a proof, or nothing."""
        if told is honest(window):
            return None
        case = self.world.case
        said = case.states(told, window, None, self.key.peer)
        for one in elements_of(recorded()[window], told, said, 1, 256):
            if is_false(one):
                return encode(one)
        raise AssertionError("it is false, and was looked at")


def is_false(one: FalseTrace) -> bool:
    """Whether an element is false in its trace, whoever signed that."""
    program = program_of(recorded()[0].spot.window.facts, one.trace)
    try:
        check_false(program, Digest(one.trace.root), FalseElement(one.values, one.reveal))
    except BrokenPromise:
        return False
    return True


def nothing(key: WindowKey) -> WindowResult | None:
    """Nobody replays here."""
    del key
    return None


def a_world(*, lies: bool = False, num_accounts: int = 14) -> World:
    made = traced(num_accounts=num_accounts, checks=OFTEN)
    case = Real(made.ledger, made.run, made.true, made.claimed)
    producer = BlockProducer(case)
    keys = [key for key in case.ledger.keys if case.stake(key)]
    actors = [Looker(producer, key, nothing) for key in keys]
    world = World(case, producer, actors, lies=lies)
    c = case.claimed.commit
    for actor in actors:
        actor.world = world
    solver = world.actor(case.solver)
    solver.reveals[c.run, c.round, c.stage, c.seat] = case.claimed.reveal()
    solver.proving = world.proofs
    return world


def said(world: World, kind: type) -> int:
    """How many statements of a kind were submitted."""
    return sum(isinstance(one.body, kind) for actor in world.actors for one in actor.submitted)


def with_forced(*, lies: bool = False) -> tuple[World, SecretKey]:
    """A world in which somebody asks whom the draw forces, and who that will be."""
    for num_accounts in range(12, 32):
        world = a_world(lies=lies, num_accounts=num_accounts)
        while world.case.is_now(SegmentPhase.POSTED) and not world.case.record.checks:
            world.producer.block()
            for actor in world.actors:
                for step in actor.steps():
                    if isinstance(step, Submit):
                        actor._submit(step)
        world.case.deal()
        forced = [
            key
            for key in world.case.able
            if any(check.peer == key.peer for check in world.case.record.checks)
            and world.case.is_forced(key)
        ]
        if forced:
            return world, forced[0]
    raise AssertionError("nobody is forced")


@pytest.mark.rule("V57")
def test_peers_that_look_find_what_was_forced_and_nobody_loses_anything() -> None:
    world, key = with_forced()
    assert play(world.producer, list(world.actors)) is SegmentPhase.VERIFIED
    assert world.case.check(key).phase is CheckPhase.JACKPOT
    assert set(world.phases()) <= {CheckPhase.JACKPOT, CheckPhase.AGREED}
    assert not said(world, TraceFraud)
    assert not said(world, ForcedError)
    assert all(world.case.stake(actor.key) == STAKE for actor in world.actors)
    assert not [error for actor in world.actors for error in actor.refused]


@pytest.mark.rule("V58")
def test_attack_a_peer_that_does_not_look_is_shown_what_it_approved() -> None:
    world, key = with_forced()
    world.actor(key).is_lazy = True
    play(world.producer, list(world.actors))
    assert world.case.check(key).phase is CheckPhase.FOOLED
    assert said(world, ForcedError) == 3
    assert world.case.stake(key) == STAKE - STAKE // 10
    others = [actor.key for actor in world.actors if actor.key.peer != key.peer]
    assert all(world.case.stake(other) == STAKE for other in others)


@pytest.mark.rule("V58")
def test_a_solver_that_has_lost_its_log_shows_nothing_and_its_verifier_is_paid() -> None:
    world, key = with_forced()
    world.actor(key).is_lazy = True
    world.actor(world.case.solver).proving = lambda _: ()
    assert play(world.producer, list(world.actors)) is SegmentPhase.VERIFIED
    assert world.case.check(key).phase is CheckPhase.AGREED
    assert world.case.stake(key) == STAKE


@pytest.mark.rule("V57")
def test_a_lie_that_no_draw_forced_is_proved_by_who_found_it_once_that_is_known() -> None:
    """Who was forced has found it, too, and has its jackpot: the statement for somebody else convicts."""
    for num_accounts in range(12, 32):
        world = a_world(lies=True, num_accounts=num_accounts)
        play(world.producer, list(world.actors))
        checks = world.case.record.checks
        if any(check.phase is CheckPhase.DIFFERED for check in checks):
            break
    assert world.case.is_now(SegmentPhase.GUILTY)
    assert said(world, TraceFraud)
    assert world.case.stake(world.case.solver) == 0
    assert {check.phase for check in checks} <= {CheckPhase.DIFFERED, CheckPhase.JACKPOT}
    reporters = [one for one in world.actors if one.key.peer != world.case.solver.peer]
    assert all(world.case.stake(one.key) == STAKE for one in reporters)


@pytest.mark.rule("V57")
def test_what_was_found_false_is_hidden_until_the_solver_has_shown_its_salt() -> None:
    world, key = with_forced(lies=True)
    actor = world.actor(key)
    while world.case.check(key).phase is CheckPhase.REQUESTED:
        actor.act()
        world.producer.block()
        kinds = {type(step.body) for step in actor.steps() if isinstance(step, Submit)}
        assert TraceFraud not in kinds
    assert actor.proofs
    actor.restart()
    assert not [step for step in actor.steps() if isinstance(step, Submit)]
