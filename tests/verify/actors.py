"""A ledger without consensus in which peers act by their duties alone, block by block."""

from collections.abc import Callable
from dataclasses import dataclass, field

from swarm.errors import InvalidStatement
from swarm.ledger.chain import build_block, extend
from swarm.ledger.check_statements import RevealSegment
from swarm.ledger.mempool import Mempool
from swarm.ledger.state.records import SegmentPhase
from swarm.ledger.state.state import State, audit_supply
from swarm.ledger.transactions import Body, FreeStatement, sign_transaction
from swarm.ledger.transition.prices import sufficient_fee
from swarm.primitives.codec import replace
from swarm.primitives.commitments import WindowResult
from swarm.primitives.crypto import SecretKey
from swarm.testing.ledger import CheckedSegment, verifier_salt
from swarm.training.record.window import WindowKey
from swarm.types import NO_DIGEST, Digest, Height, PeerId, View
from swarm.verify.answers import ForcedKey, OwnAnswer, SegmentKey, seat_of, window_of
from swarm.verify.changes import OpenSegments
from swarm.verify.draws import Draws
from swarm.verify.duties import (
    DutyStep,
    FindMove,
    HoldWindow,
    MoveKey,
    ProveForced,
    StepKey,
    Submit,
    VerifierView,
    next_duties,
)
from tests.ledger.checking import Case, true_move
from tests.ledger.scripted import scripted_court

FINAL = {
    SegmentPhase.VERIFIED,
    SegmentPhase.UNSAMPLED,
    SegmentPhase.SILENT,
    SegmentPhase.GUILTY,
    SegmentPhase.WITHIN,
    SegmentPhase.REJECTED,
}
Replay = Callable[[WindowKey], WindowResult | None]
"""What a peer's replay of a window gives; None: it gets no log."""


class BlockProducer:
    """Blocks of what was submitted, as a validator would build them."""

    def __init__(self, case: Case) -> None:
        self.case, self.ledger, self.pool = case, case.ledger, Mempool()
        self.landed: list[Body] = []
        self._nonces: dict[PeerId, set[int]] = {}

    @property
    def state(self) -> State:
        return self.ledger.state

    def submit(self, key: SecretKey, body: Body) -> None:
        """Sign and pool a statement, as a node's relay does; raises ``InvalidStatement``."""
        if isinstance(body, FreeStatement):
            data = sign_transaction(key, self.state.chain, body)
        else:
            account, used = self.state.account(key.peer), self._nonces.setdefault(key.peer, set())
            nonce = next(n for n in range(account.nonce + 1, 1 << 30) if n not in used)
            fee, expiry = sufficient_fee(self.state.params, body), self.state.height + 20
            data = sign_transaction(
                key, self.state.chain, body, nonce=nonce, fee=fee, expiry=expiry
            )
            with scripted_court():
                self.pool.add(data, self.state)
            used.add(nonce)
            return
        self.pool.add(data, self.state)

    def block(self) -> State:
        """The next block, with whatever of the pool is valid in it."""
        ledger = self.ledger
        leader = ledger.keys[self.state.height % ledger.num_validators]
        with scripted_court():
            made, _ = build_block(ledger.head, self.pool, leader, View(self.state.height + 1))
            ledger.head = extend(ledger.head, made)
        ledger.links.append((made, ledger.certificate(made)))
        self.pool.remove(made.transactions)
        self.pool.prune(self.state)
        if not len(self.pool):
            self._nonces.clear()
        assert audit_supply(self.state) == self.state.supply
        return self.state

    @property
    def phase(self) -> SegmentPhase:
        return self.case.phase


@dataclass
class Actor:
    """One peer that does its duties at once."""

    producer: BlockProducer
    key: SecretKey
    replay: Replay
    reveals: dict[SegmentKey, RevealSegment] = field(default_factory=dict)
    checks_max: int = 2
    answers: dict[WindowKey, OwnAnswer] = field(default_factory=dict)
    held: set[WindowKey] = field(default_factory=set)
    unsure: bool = False
    """Whether it has every log, and has replayed none as a witness."""
    moves: dict[MoveKey, bytes | None] = field(default_factory=dict)
    proofs: dict[WindowKey, bytes] = field(default_factory=dict)
    forced: dict[ForcedKey, tuple[bytes, ...]] = field(default_factory=dict)
    proving: Callable[[ProveForced], tuple[bytes, ...]] = lambda _: ()
    """What this actor shows of errors that it made on purpose."""
    moving: Callable[[FindMove], bytes | None] | None = None
    """What this actor says in a dispute; None: what is true, before the scripted court."""
    sent: dict[StepKey, Height] = field(default_factory=dict)
    watch: OpenSegments = field(default_factory=OpenSegments)
    submitted: list[Submit] = field(default_factory=list)
    refused: list[InvalidStatement] = field(default_factory=list)

    def restart(self) -> None:
        """Forget all that is not on the disk."""
        self.moves, self.sent = {}, {}

    def steps(self) -> tuple[DutyStep, ...]:
        state = self.producer.state
        self.watch.look(state)
        draws = Draws(self.key, state.chain)
        return next_duties(
            VerifierView(
                state=state,
                segments=self.watch.open,
                me=self.key.peer,
                draws=draws.of,
                witness=draws.witness,
                panel=draws.panel,
                holds=self._holds,
                answers=self.answers,
                reveals=self.reveals,
                moves=self.moves,
                proofs=self.proofs,
                forced=self.forced,
                sent=self.sent,
                checks_max=self.checks_max,
            )
        )

    def _holds(self, key: WindowKey) -> bool | None:
        record = self.producer.state.segment(*seat_of(key))
        is_contested = record is not None and bool(record.contests)
        if self.unsure and is_contested:
            return None
        return key in self.held or key in self.answers

    def act(self) -> None:
        """Do every step there is, and those that follow from them."""
        for step in self.steps():
            if not isinstance(step, Submit):
                self._work(step)
        for step in self.steps():
            if isinstance(step, Submit):
                self._submit(step)

    def _submit(self, step: Submit) -> None:
        self.sent[step.key] = self.producer.state.height
        self.submitted.append(step)
        try:
            self.producer.submit(self.key, step.body)
        except InvalidStatement as error:
            self.refused.append(error)

    def _work(self, step: DutyStep) -> None:
        assert not isinstance(step, Submit)
        if isinstance(step, FindMove):
            mine = scripted_move(self.producer.case, step.move, self.key.peer)
            self.moves[step.move] = mine if self.moving is None else self.moving(step)
            return
        if isinstance(step, ProveForced):
            self.forced[step.key, step.place] = self.proving(step)
            return
        found = self.replay(step.key)
        if found is None:
            return
        if isinstance(step, HoldWindow):
            self.held.add(step.key)
        else:
            key, salt = (*seat_of(step.key), step.key.window), verifier_salt(self.key.peer)
            self.answers[step.key] = OwnAnswer(*key, salt, found, Digest(bytes(32)))


def scripted_move(case: Case, move: MoveKey, me: PeerId) -> bytes | None:
    """What a side that is sure of its own log says before the scripted court."""
    record = case.ledger.state.segment(*seat_of(move.key))
    assert record is not None
    if record.dispute is None:
        return None
    window = move.key.window
    is_lie = case.true.results[window].claim != record.claims[window]
    return true_move(record, me, is_lie=is_lie)


def honest(segment: CheckedSegment) -> Replay:
    """A replay of a log that gives this segment."""
    return lambda key: segment.results[key.window]


def within(segment: CheckedSegment) -> Replay:
    """A replay that ends within the tolerance of a run: it has no leaves."""
    return lambda key: replace(segment.results[key.window], leaves_root=NO_DIGEST)


def nothing(key: WindowKey) -> None:
    """Nobody serves."""
    return


def peers_of(
    case: Case, *, replay: Replay | None = None, shows: bool = True
) -> tuple[BlockProducer, list[Actor]]:
    """The block producer, and an actor for everybody with an account; the solver keeps its reveal."""
    producer = BlockProducer(case)
    keys = [key for key in case.ledger.keys if case.stake(key)]
    actors = [Actor(producer, key, replay or honest(case.true)) for key in keys]
    c = case.claimed.commit
    for actor in actors:
        if actor.key.peer == case.record.peer and shows:
            actor.reveals[c.run, c.round, c.stage, c.seat] = case.claimed.reveal()
    return producer, actors


def play(producer: BlockProducer, actors: list[Actor], blocks_max: int = 120) -> SegmentPhase:
    """Everybody acts, block by block, until the segment is judged; its last phase."""
    for _ in range(blocks_max):
        if producer.phase in FINAL:
            return producer.phase
        for actor in actors:
            actor.act()
        producer.block()
    raise AssertionError(f"still {producer.phase} after {blocks_max} blocks")


def window_key(case: Case, window: int) -> WindowKey:
    """A window of the case's segment."""
    return window_of(case.record, window)
