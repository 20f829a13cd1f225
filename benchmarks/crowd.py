"""Make the statements of a run with many seats: commits, checks and reveals of all its peers, block by block.

A ledger in memory whose peers all have an account, a stake and one seat. Who is drawn to check whom, and how
many bytes everybody signs, is what the rules say; only the leaves behind the statements are invented.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from swarm.config.spec import NANO, CheckSpec, RunSpec
from swarm.errors import InvalidStatement
from swarm.ledger.chain import Head, build_block, extend
from swarm.ledger.check_statements import DataRequest
from swarm.ledger.mempool import Mempool
from swarm.ledger.state.draft import Draft
from swarm.ledger.state.draws import Draw
from swarm.ledger.state.records import UNDEALT, CheckPhase, Run, SegmentPhase, SegmentRecord
from swarm.ledger.state.state import State
from swarm.ledger.transactions import Body, FreeStatement
from swarm.ledger.transition.phases import are_reveals_open, gather_end, open_checks
from swarm.ledger.transition.prices import CHECKS_MAX
from swarm.ledger.transition.sampling import prove_draw, selects
from swarm.ledger.transition.seats import with_seat
from swarm.primitives import vrf
from swarm.primitives.codec import replace
from swarm.primitives.crypto import SecretKey
from swarm.testing.ledger import (
    CheckedSegment,
    InMemoryLedger,
    make_segment,
    numbered_key,
    small_run_spec,
)
from swarm.types import Digest, PeerId, RoundIndex, View
from swarm.verify.answers import SegmentKey, key_of
from swarm.verify.changes import OpenSegments
from swarm.verify.duties import SHOWN

ROUND_BLOCKS = 40
"""Blocks of a round: one a second makes a round of 40 s."""


def crowd_spec(num_stages: int, replicas: int, **changes: object) -> RunSpec:
    """Return the spec of a run with exact numerics and so many seats."""
    checks = CheckSpec(NANO, 10, 3 * ROUND_BLOCKS)
    spec = small_run_spec(
        num_stages=num_stages,
        replicas_max=replicas,
        round_blocks=ROUND_BLOCKS,
        rounds=40,
        numerics="seq-f32/1",
        checks=checks,
    )
    return replace(spec, model=replace(spec.model, num_layers=num_stages), **changes)


Mark = tuple[type[Body], SegmentKey, PeerId]
"""Kind, segment and sender of a statement: it is signed once, and again only if it was refused."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One encoded statement of a peer."""

    mark: Mark
    data: bytes


@dataclass
class Crowd:
    """A ledger, a run with many seats, and what its peers know of their own segments."""

    ledger: InMemoryLedger
    run: Run
    steps: int = 50
    """Steps of a segment, as in the packaged runs."""
    _keys: dict[PeerId, SecretKey] = field(default_factory=dict[PeerId, SecretKey])
    _segments: dict[SegmentKey, CheckedSegment] = field(
        default_factory=dict[SegmentKey, CheckedSegment]
    )
    _drawn: dict[tuple[SegmentKey, int], dict[PeerId, DataRequest]] = field(
        default_factory=dict[tuple[SegmentKey, int], dict[PeerId, DataRequest]]
    )
    _proofs: dict[tuple[Digest, PeerId], tuple[bytes, bytes]] = field(
        default_factory=dict[tuple[Digest, PeerId], tuple[bytes, bytes]]
    )
    _sent: set[Mark] = field(default_factory=set[Mark])
    _nonces: dict[PeerId, int] = field(default_factory=dict[PeerId, int])
    absent: frozenset[PeerId] = frozenset()
    """Peers that check for themselves: nothing of that is signed for them here."""
    _watch: OpenSegments = field(default_factory=OpenSegments)

    @classmethod
    def seated(
        cls, num_stages: int, replicas: int, num_validators: int = 1, **genesis: object
    ) -> "Crowd":
        """Return a run in which ``num_stages * replicas`` peers hold a seat each, its owner in stage 0."""
        count = num_stages * replicas
        ledger = InMemoryLedger(count, num_validators, epoch_blocks=1_000, **genesis)
        ledger.keys = [numbered_key(number) for number in range(count)]
        run = ledger.open_run(crowd_spec(num_stages, replicas), escrow=900_000)
        run = replace(run, seats=(run.seats[0], *((),) * (num_stages - 1)))
        others = iter(ledger.keys[1:])
        for stage in range(num_stages):
            for _ in range(replicas - len(run.seats[stage])):
                run = with_seat(run, stage, next(others).peer, RoundIndex(0))
        draft = Draft(ledger.state, ledger.keys[0].peer)
        draft.put_run(run)
        ledger.head = Head(ledger.head.digest, draft.finish())
        return cls(ledger, run, _keys={key.peer: key for key in ledger.keys})

    def statements(self, state: State) -> list[Statement]:
        """Return what all peers sign once they have seen ``state``; what they have signed is not repeated."""
        self._watch.look(state)
        found = list[Statement]()
        for where, peer, body in (*self._commits(state), *self._checks(state)):
            mark = type(body), where, peer
            if mark not in self._sent:
                self._sent.add(mark)
                found.append(Statement(mark, self._signed(state, peer, body)))
        return found

    def refused(self, statement: Statement) -> None:
        """Let a peer sign again what no block can have: it may be valid later."""
        self._sent.discard(statement.mark)

    def block(self, pool: Mempool, *, quiet: bool = False) -> Sequence[bytes]:
        """Make the next block of what all peers sign and what waits in ``pool``; return its body."""
        ledger, state = self.ledger, self.ledger.state
        for statement in () if quiet else self.statements(state):
            try:
                pool.add(statement.data, state)
            except InvalidStatement:
                self.refused(statement)
        leader = self._keys[state.validators[state.height % len(state.validators)].peer]
        block, _ = build_block(ledger.head, pool, leader, View(state.globals.view + 1))
        certificate = ledger.certificate(block)
        ledger.head = extend(ledger.head, block, known=pool.known)
        ledger.links.append((block, certificate))
        pool.remove(block.transactions)
        return block.transactions

    def _signed(self, state: State, peer: PeerId, body: Body) -> bytes:
        key = self._keys[peer]
        if isinstance(body, FreeStatement):
            return self.ledger.sign(key, body)
        nonce = max(self._nonces.get(peer, 0), state.account(peer).nonce) + 1
        self._nonces[peer] = nonce
        return self.ledger.sign(key, body, nonce=nonce)

    def _commits(self, state: State) -> Iterator[tuple[SegmentKey, PeerId, Body]]:
        run = state.run(self.run.index)
        for info in run.rounds[-2:-1]:
            for seat in (seat for roster in info.seats for seat in roster):
                where = run.index, info.round, seat.stage, seat.index
                if where not in self._segments:
                    self._segments[where] = make_segment(
                        self.ledger, run, info.round, seat.stage, seat.index, num_steps=self.steps
                    )
                    yield where, seat.peer, self._segments[where].commit

    def _checks(self, state: State) -> Iterator[tuple[SegmentKey, PeerId, Body]]:
        spec, height = self.run.spec, state.height + 1
        for record in self._watch.open:
            where = key_of(record)
            mine = self._segments.get(where)
            if mine is None:
                continue
            under_way = open_checks(record)
            takes = len(under_way) < CHECKS_MAX and record.draws
            if record.phase is SegmentPhase.POSTED and takes:
                yield from ((where, *one) for one in self._requests(state, record))
            elif record.phase is SegmentPhase.SAMPLED:
                if takes and height < gather_end(record, spec):
                    yield from ((where, *one) for one in self._requests(state, record))
                for check in under_way:
                    is_due = check.phase is CheckPhase.REQUESTED and check.window != UNDEALT
                    if is_due and check.peer not in self.absent:
                        yield where, check.peer, mine.blind(state, check.peer, check.window)
            elif record.phase is SegmentPhase.SEALED:
                yield where, record.peer, mine.reveal()
            elif record.phase in SHOWN and are_reveals_open(record, height):
                for check in under_way:
                    if check.phase is CheckPhase.SEALED and check.peer not in self.absent:
                        yield where, check.peer, mine.shown(state, check.peer, check.window)

    def _requests(self, state: State, record: SegmentRecord) -> list[tuple[PeerId, DataRequest]]:
        attempt = len(record.draws) - 1
        known = self._drawn.get((key_of(record), attempt))
        if known is None:
            known = dict(self._find_drawn(state, record, attempt))
            self._drawn[key_of(record), attempt] = known
        return list(known.items())

    def _find_drawn(
        self, state: State, record: SegmentRecord, attempt: int
    ) -> Iterator[tuple[PeerId, DataRequest]]:
        draw = record.draws[attempt]
        for peer in self._keys:
            if peer == record.peer or peer in record.partners or peer in self.absent:
                continue
            proof, beta = self._proved(state, draw, peer)
            if selects(draw, record, state.account(peer).stake, beta):
                yield peer, DataRequest(*key_of(record), attempt, proof)

    def _proved(self, state: State, draw: Draw, peer: PeerId) -> tuple[bytes, bytes]:
        found = self._proofs.get((draw.beacon, peer))
        if found is None:
            proof = prove_draw(self._keys[peer], state.chain, draw)
            found = self._proofs[draw.beacon, peer] = proof, vrf.output(proof)
        return found
