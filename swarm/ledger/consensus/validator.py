"""Run one validator: statements in, votes out, each saved in the vote log before it is sent.

Shell: owns the inbox, the timer, the vote log and the blame; the consensus machine decides.

The block executor builds and validates blocks: it keeps the state after every block above the final one, so
each block is applied once.
"""

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import trio

from swarm.errors import (
    BadEncoding,
    BrokenPromise,
    InvalidStatement,
    OutOfTurn,
    PeerFault,
)
from swarm.host.service import Host
from swarm.ledger.blocks import BLOCK_BYTES_MAX, Block, block_digest
from swarm.ledger.chain import Head, build_block, validate_block
from swarm.ledger.consensus.journal import ProposalRecord
from swarm.ledger.consensus.simplex import (
    Behind,
    Effect,
    Finalized,
    Muted,
    Simplex,
    batches_of,
    records_of,
    signed_badly,
)
from swarm.ledger.consensus.timers import TimerParams
from swarm.ledger.consensus.votes import (
    BATCH_MESSAGES_MAX,
    Batch,
    Electorate,
    Equivocation,
    Proposal,
    Statement,
    Supply,
)
from swarm.ledger.mempool import Mempool
from swarm.ledger.net.archive import Archive, FinalBlock
from swarm.ledger.net.relay import Broadcaster
from swarm.ledger.state.state import State
from swarm.primitives.codec import decode, encode
from swarm.primitives.crypto import SecretKey, peer_name
from swarm.store import Change
from swarm.types import Digest, Height, PeerId, View

PROTOCOL = "/swarm/consensus/1"
FRAME_BYTES_MAX = BLOCK_BYTES_MAX + (512 << 10)
"""Bytes of one frame: one block, and the certificates of a long stall."""
INBOX_MAX = 1024
"""Statements waiting to be processed: more than a second of 64 validators; the rest is requested again."""
TURN_MAX = 64
"""Statements processed before their effects are carried out: one write to the disk serves them all."""
CONCURRENCY = 64
SMALL_BYTES = 24 << 10
"""Bytes of a vote or certificate of 64 validators, generously estimated."""
EVIDENCE_TABLE = "ledger_evidence"
EVIDENCE_MAX = 256
FINALITY_SAMPLES = 64

log = logging.getLogger("swarm.ledger")


@dataclass(frozen=True, slots=True)
class _Received:
    """A statement and the validator that sent it."""

    sender: int
    statement: Statement


@dataclass(frozen=True, slots=True)
class _Connected:
    """A validator that has just connected."""

    validator: int


class ValidatorRunner:
    """Validator run by this node. ``run`` serves until cancelled."""

    def __init__(
        self, archive: Archive, pool: Mempool, secret: SecretKey, host: Host, pace: TimerParams
    ) -> None:
        genesis = archive.genesis
        self._archive, self._pool, self._host = archive, pool, host
        self._journal = archive.load_journal()
        self._electorate = Electorate(genesis.chain, archive.head.state.validators, genesis.seed)
        self._executor = StateExecutor(archive.head, pool, secret)
        tip, certificate = archive.final_point()
        self.machine = Simplex(
            self._electorate,
            secret,
            self._executor,
            pace,
            tip=tip,
            certificate=certificate,
            records=self._journal.records,
        )
        self._inbox_send, self._inbox = trio.open_memory_channel[_Received | _Connected | None](
            INBOX_MAX
        )
        self.broadcaster = Broadcaster[Statement](
            host,
            PROTOCOL,
            _encode_batch,
            frame_items_max=BATCH_MESSAGES_MAX,
            frame_bytes_max=FRAME_BYTES_MAX - SMALL_BYTES,
            size_of=_size_of,
        )
        self.is_behind = trio.Event()
        """Event set when bulk sync is needed; the follower replaces it."""
        self.num_evidence = 0
        self._first_seen: dict[Digest, float] = {}
        self._finality_s = deque[float](maxlen=FINALITY_SAMPLES)
        host.serve(PROTOCOL, self._answer, request_limit=FRAME_BYTES_MAX, concurrency=CONCURRENCY)

    @property
    def finality_s(self) -> float | None:
        """Mean seconds from a block's first sight to its finality, over the last 64 blocks; None before one."""
        samples = self._finality_s
        return sum(samples) / len(samples) if samples else None

    async def run(self) -> None:
        """Vote until cancelled.

        Raises ``VerificationFailed`` if more than a third of the power is proved to be dishonest.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.broadcaster.run)
            nursery.start_soon(self._watch_links)
            nursery.start_soon(self._watch_archive)
            await self._carry_out(self.machine.start(trio.current_time()))
            while True:
                effects = self._turn(await self._next_items())
                await self._carry_out(effects)

    async def _answer(self, peer: PeerId, request: bytes) -> bytes:
        """Take a frame of another validator into the inbox; it is acknowledged before it is processed."""
        sender = self._electorate.index_of(peer)
        if sender is None:
            raise OutOfTurn("not a validator")
        batch = decode(Batch, request, limit=FRAME_BYTES_MAX)
        if len(batch.statements) > BATCH_MESSAGES_MAX:
            raise BadEncoding("too many statements in a frame")
        for statement in batch.statements:
            self._put(_Received(sender, statement))
        return b""

    def _put(self, item: _Received | _Connected | None) -> None:
        try:
            self._inbox_send.send_nowait(item)
        except trio.WouldBlock:
            log.debug("the inbox is full: a statement is dropped and will be asked for again")

    async def _next_items(self) -> list[_Received | _Connected | None]:
        """Wait for an item or the machine's deadline; return the items that have arrived, maybe none."""
        items = list[_Received | _Connected | None]()
        with trio.move_on_at(self.machine.deadline):
            items.append(await self._inbox.receive())
        while len(items) < TURN_MAX:
            try:
                items.append(self._inbox.receive_nowait())
            except trio.WouldBlock:
                break
        return items

    def _turn(self, items: Sequence[_Received | _Connected | None]) -> list[Effect]:
        """Feed the items and the time to the machine; return its effects."""
        effects = list[Effect]()
        for item in items:
            now = trio.current_time()
            match item:
                case _Received(sender, statement):
                    try:
                        effects += self.machine.receive(statement, sender, now)
                    except PeerFault as fault:
                        self._host.blame(self._electorate.validators[sender].peer, fault)
                        continue
                    if isinstance(statement, Proposal):
                        self._see(statement, now)
                case _Connected(validator):
                    effects += self.machine.greet(validator, now)
                case None:
                    effects += self._adopt(now)
        now = trio.current_time()
        if now >= self.machine.deadline:
            effects += self.machine.expire(now)
        return effects

    async def _carry_out(self, effects: Sequence[Effect]) -> None:
        changes = list[Change]()
        for record in records_of(effects):
            changes += self._journal.append(record)
            if isinstance(record, ProposalRecord):
                self._see(record.proposal, trio.current_time())
        finals = [effect for effect in effects if isinstance(effect, Finalized)]
        if finals:
            await self._finalize(finals, changes)
        elif changes:
            await self._archive.store.write_soon(changes)
        for effect in effects:
            match effect:
                case Behind():
                    self.is_behind.set()
                case Muted(view):
                    log.error(
                        "a vote of ours in view %d is not in our journal: we vote no more", view
                    )
                case Equivocation():
                    self._keep(effect)
                case _:
                    pass
        batches = batches_of(effects, me=self.machine.me, count=len(self._electorate))
        for to, statements in sorted(batches.items()):
            self.broadcaster.post(self._electorate.validators[to].peer, statements)

    async def _finalize(self, finals: Sequence[Finalized], changes: list[Change]) -> None:
        """Write votes and final blocks in one database transaction per certificate."""
        for final in finals:
            changes += self._journal.prune(final.certificate.view)
            try:
                appended = await self._archive.append(
                    final.blocks,
                    final.certificate,
                    known=self._pool.known,
                    state_after=self._executor.state_after,
                    changes=changes,
                )
            except (PeerFault, InvalidStatement) as error:
                raise signed_badly(error) from None
            changes.clear()
            self._settle(appended)

    def _settle(self, appended: Sequence[FinalBlock]) -> None:
        self._executor.settle(self._archive.head)
        now = trio.current_time()
        for final in appended:
            seen = self._first_seen.pop(final.block.header.parent, None)
            if seen is not None:
                self._finality_s.append(now - seen)

    def _see(self, proposal: Proposal, now: float) -> None:
        """Note when a block was first seen, by its parent: competing blocks have the same."""
        self._first_seen.setdefault(proposal.block.header.parent, now)
        while len(self._first_seen) > FINALITY_SAMPLES:
            del self._first_seen[next(iter(self._first_seen))]

    def _adopt(self, now: float) -> list[Effect]:
        """Pass the newest final block of bulk sync to the machine."""
        tip, certificate = self._archive.final_point()
        if certificate is None or tip.view <= self.machine.tip.view:
            return []
        link = self._archive.block_at(tip.height)
        assert link is not None, "the last final block is kept"
        self._executor.settle(self._archive.head)
        return self.machine.adopt(link[0], certificate, now)

    def _keep(self, evidence: Equivocation) -> None:
        """Store the proof that a validator signed two conflicting votes."""
        first, second = evidence.first, evidence.second
        offender = self._electorate.validators[first.voter].peer
        log.warning("%s signed two ways in view %d", peer_name(offender), first.view)
        self.num_evidence += 1
        if self._archive.store.count(EVIDENCE_TABLE) < EVIDENCE_MAX:
            key = first.view.to_bytes(8, "big") + offender
            self._archive.store.put(EVIDENCE_TABLE, key, encode((first, second)))

    async def _watch_links(self) -> None:
        """Greet every validator that connects: each may have what the other lacks."""
        async for event in self._host.subscribe():
            index = self._electorate.index_of(event.peer)
            if index is not None and self._host.is_connected(event.peer):
                self._put(_Connected(index))

    async def _watch_archive(self) -> None:
        """Wake the machine when bulk sync has moved the chain past it."""
        view = self._archive.view
        while True:
            async with self._archive.moved:
                while self._archive.view == view:
                    await self._archive.moved.wait()
            view = self._archive.view
            if view > self.machine.tip.view:
                self._put(None)


def _encode_batch(statements: Sequence[Statement]) -> bytes:
    return encode(Batch(tuple(statements)))


def _size_of(statement: Statement) -> int:
    """Return an upper bound on the bytes of a statement in a frame."""
    match statement:
        case Proposal():
            return len(encode(statement))
        case Supply(block):
            return sum(map(len, block.transactions)) + 8 * len(block.transactions) + 1024
        case _:
            return SMALL_BYTES


REFUSED_MAX = 64
"""Invalid blocks remembered: as many as the views a proposal may be ahead."""


class StateExecutor:
    """Block executor of one validator, over the mempool of its node."""

    def __init__(self, head: Head, pool: Mempool, secret: SecretKey) -> None:
        self._states = {head.digest: head.state}
        self._refused: list[Digest] = []
        self._pool, self._secret = pool, secret

    def build(self, parent: Digest, height: Height, view: View) -> Block:
        """Build this node's block on ``parent``, which was validated before."""
        state = self._states[parent]
        assert state.height + 1 == height, "the parent is one below"
        block, after = build_block(Head(parent, state), self._pool, self._secret, view)
        self._states[block_digest(block.header)] = after
        return block

    def validate(self, block: Block) -> None:
        """Raise ``InvalidStatement`` or ``PeerFault`` unless ``block`` is valid on its parent."""
        name = block_digest(block.header)
        if name in self._states:
            return
        state = self._states.get(block.header.parent)
        if name in self._refused or state is None:
            raise BrokenPromise("a block that was refused, or stands on one")
        try:
            self._states[name] = validate_block(state, block, known=self._pool.known)
        except (InvalidStatement, PeerFault):
            self._refused = [*self._refused, name][-REFUSED_MAX:]
            raise

    def state_after(self, name: Digest) -> State | None:
        """Return the state after a block that was built or validated here, or None."""
        return self._states.get(name)

    def settle(self, head: Head) -> None:
        """Forget the states at or below the new final block, except the state after that block."""
        height = head.state.height
        self._states = {name: s for name, s in self._states.items() if s.height > height}
        self._states[head.digest] = head.state
