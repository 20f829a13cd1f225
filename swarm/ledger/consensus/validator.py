"""Run one validator: statements in, votes out, each saved in the vote log before it is sent.

Shell: owns the inbox, the timer, the vote log and the blame; the consensus machine decides.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import trio

from swarm.errors import (
    BadEncoding,
    Corrupt,
    InvalidStatement,
    OutOfTurn,
    PeerFault,
)
from swarm.host.service import Host
from swarm.ledger.blocks import BLOCK_BYTES_MAX, is_quorum, last_height
from swarm.ledger.consensus.executor import StateExecutor
from swarm.ledger.consensus.journal import Journal, ProposalRecord, VoteLog, unsettled
from swarm.ledger.consensus.memory import UNKNOWN, VoteMemory
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
    Said,
    Statement,
    Supply,
)
from swarm.ledger.mempool import Mempool
from swarm.ledger.net.archive import Archive, FinalBlock
from swarm.ledger.net.relay import Broadcaster
from swarm.ledger.transactions import Evidence, SignedVote
from swarm.primitives.codec import decode, encode
from swarm.primitives.crypto import SecretKey, peer_name
from swarm.store import Change
from swarm.types import Digest, Height, PeerId, View

PROTOCOL = "/swarm/consensus/4"
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
ALONE_S = 5.0
"""Seconds for which a validator that is a quorum alone looks for peers before it votes after a restart."""

log = logging.getLogger("swarm.ledger")


@dataclass(frozen=True, slots=True)
class _Received:
    """A statement, the epoch that it is about, and the validator of that epoch that sent it."""

    epoch: int
    sender: int
    statement: Statement


@dataclass(frozen=True, slots=True)
class _Connected:
    """A peer that has just connected."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class _Voting:
    """One epoch in which this node votes."""

    electorate: Electorate
    machine: Simplex
    executor: StateExecutor


_Item = _Received | _Connected | None
"""An entry of the inbox; None: bulk sync has moved the chain."""


class ValidatorRunner:
    """Votes of this node, in the epochs for which it is chosen. ``run`` serves until cancelled.

        not chosen --an epoch begins that it is chosen for--> voting --it is over--> the next, or not chosen

    The machine of the epoch before stays to answer validators that have not seen the end of it.
    """

    def __init__(
        self,
        archive: Archive,
        pool: Mempool,
        secret: SecretKey,
        host: Host,
        pace: TimerParams,
        memory: VoteMemory | None = None,
        report: Callable[[str], None] = log.warning,
    ) -> None:
        self._report = report
        self._archive, self._pool, self._secret = archive, pool, secret
        self._host, self._pace, self._memory = host, pace, memory
        self._journal, self._is_whole = _recalled(archive, memory, report)
        self._began_at = archive.head.state.height
        self._before: _Voting | None = None
        self._voting: _Voting | None = None
        self.synced = trio.Event()
        """Event that the follower sets once a peer has nothing that is not here."""
        self._inbox_send, self._inbox = trio.open_memory_channel[_Item](INBOX_MAX)
        self.broadcaster = Broadcaster[Said](
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
        self.num_omissions = 0
        """Blocks that this node voted against because they omit a statement."""
        self.accuse: Callable[[Evidence], None] = lambda _: None
        """Called with evidence against a validator, to bring it to the ledger."""
        self.remind: Callable[[PeerId, bytes], None] = lambda _, __: None
        """Called with a validator and a transaction that its block omits: it may not have it."""
        self._first_seen: dict[Digest, float] = {}
        self._finality_s = deque[float](maxlen=FINALITY_SAMPLES)
        host.serve(PROTOCOL, self._answer, request_limit=FRAME_BYTES_MAX, concurrency=CONCURRENCY)

    @property
    def finality_samples(self) -> tuple[float, ...]:
        """Seconds from a block's first sight to its finality, of the last 64 blocks."""
        return tuple(self._finality_s)

    @property
    def traffic(self) -> tuple[int, int]:
        """Bytes and frames sent."""
        return self.broadcaster.num_bytes, self.broadcaster.num_frames

    @property
    def is_voting(self) -> bool:
        """True if this node is a validator of this epoch, and votes."""
        return self._voting is not None and not self._voting.machine.is_muted

    @property
    def is_silent(self) -> bool:
        """True if this node is a validator of this epoch, and does not vote: it may have forgotten votes."""
        return self._voting is not None and self._voting.machine.is_muted

    async def run(self) -> None:
        """Vote until cancelled.

        Raises ``VerificationFailed`` if more than a third of the power is proved to be dishonest.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.broadcaster.run)
            nursery.start_soon(self._watch_links)
            nursery.start_soon(self._watch_archive)
            await self._recall()
            await self._turn_epoch()
            while True:
                items = await self._next_items()
                await self._look_ahead(items)
                await self._carry_out(self._hear(items))
                await self._build_ahead()
                await self._carry_out(self._expire())
                await self._turn_epoch()

    async def _recall(self) -> None:
        """Wait until this node has what the others have; be silent for the epoch if its memory is not whole."""
        memory, head = self._memory, self._journal.head
        if memory is None:
            return
        is_new = self._is_whole and head.number == self._began_at == 0
        if not is_new:
            alone = is_quorum(self._power(), self._archive.head.state.validators)
            with trio.move_on_after(ALONE_S if alone and self._is_whole else float("inf")):
                await self.synced.wait()
        if not self._is_whole or self._has_forgotten():
            self._be_silent("what it has signed is not all on record")

    def _power(self) -> int:
        voters = self._archive.head.state.validators
        return sum(voter.power for voter in voters if voter.peer == self._secret.peer)

    def _has_forgotten(self) -> bool:
        """Return True if a finalization that came since the start holds a vote that is not in the vote log."""
        state = self._archive.head.state
        epoch, voters = state.next_epoch, [voter.peer for voter in state.validators]
        if self._secret.peer not in voters:
            return False
        log_ = VoteLog()
        for vote in unsettled(self._journal.records, epoch, View(0))[0]:
            log_.add(vote)
        first = max(self._began_at, last_height(state.params.epoch_blocks, epoch - 1)) + 1
        links = (self._archive.block_at(Height(at)) for at in range(first, state.height + 1))
        certificates = [link[1] for link in links if link is not None and link[1] is not None]
        return any(log_.lack(one, voters.index(self._secret.peer)) for one in certificates)

    def _be_silent(self, cause: str) -> None:
        """Vote no more until the epoch is over, also after a restart."""
        epoch = self._archive.head.state.next_epoch
        self._report(f"{cause}: this node does not vote before epoch {epoch + 1}")
        self._is_whole = True  # from the next epoch on
        if self._memory is not None:
            self._memory.be_silent(epoch, self._journal)

    def _chosen(self) -> _Voting | None:
        """Return what this node votes with in the epoch of the next block; None if it is not chosen for it."""
        head, (tip, certificate) = self._archive.head, self._archive.final_point()
        state = head.state
        if all(validator.peer != self._secret.peer for validator in state.validators):
            return None
        epoch, council = state.next_epoch, state.council
        electorate = Electorate(
            state.chain,
            council.current,
            council.seed,
            epoch=epoch,
            last=last_height(state.params.epoch_blocks, epoch),
        )
        silent = UNKNOWN if self._memory is None else self._memory.silent_through
        executor = StateExecutor(head, self._pool, self._secret, self._miss)
        machine = Simplex(
            electorate,
            self._secret,
            executor,
            self._pace,
            tip=tip,
            certificate=certificate,
            records=self._journal.records,
            is_muted=epoch <= silent,
        )
        return _Voting(electorate, machine, executor)

    def _miss(self, leader: PeerId, data: bytes) -> None:
        self.num_omissions += 1
        if leader != self._secret.peer:
            self.remind(leader, data)

    async def _turn_epoch(self) -> None:
        """Begin the next epoch if the chain has come to it."""
        epoch, voting = self._archive.head.state.next_epoch, self._voting
        if voting is not None and voting.electorate.epoch == epoch:
            return
        after = self._chosen()
        if voting is None and after is None:
            return
        self._before = None if voting is None else self._ended(voting)
        self._voting = after
        if after is None:
            log.info("this node is no validator of epoch %d", epoch)
            self.is_behind.set()
            return
        log.info("this node is one of %d validators of epoch %d", len(after.electorate), epoch)
        paced_from = None if voting is None else voting.machine.paced_from
        await self._carry_out(after.machine.start(trio.current_time(), paced_from=paced_from))

    def _ended(self, voting: _Voting) -> _Voting | None:
        """Return what voted in an epoch that is over, once its machine knows; None if it was too long ago."""
        if not voting.machine.is_over:  # bulk sync was faster
            link = self._archive.block_at(Height(voting.electorate.last))
            if link is None or link[1] is None:
                return None
            voting.machine.adopt(link[0], link[1], trio.current_time())
        return voting

    def _of(self, epoch: int) -> _Voting | None:
        both = (self._voting, self._before)
        return next((v for v in both if v is not None and v.electorate.epoch == epoch), None)

    async def _answer(self, peer: PeerId, request: bytes) -> bytes:
        """Take a frame of another validator into the inbox; it is acknowledged before it is processed."""
        batch = decode(Batch, request, limit=FRAME_BYTES_MAX)
        if len(batch.statements) > BATCH_MESSAGES_MAX:
            raise BadEncoding("too many statements in a frame")
        state = self._archive.head.state
        known = (*state.council.previous, *state.validators, *state.council.next)
        if all(validator.peer != peer for validator in known):
            raise OutOfTurn("not a validator")
        for said in batch.statements:
            voting = self._of(said.epoch)
            sender = None if voting is None else voting.electorate.index_of(peer)
            if sender is not None:
                self._put(_Received(said.epoch, sender, said.statement))
            elif said.epoch > state.next_epoch:
                self.is_behind.set()  # its sender has seen the end of this epoch
        return b""

    def _put(self, item: _Item) -> None:
        try:
            self._inbox_send.send_nowait(item)
        except trio.WouldBlock:
            log.debug("the inbox is full: a statement is dropped and will be asked for again")

    async def _next_items(self) -> list[_Item]:
        """Wait for an item or the machine's deadline; return the items that have arrived, maybe none."""
        items = list[_Item]()
        deadline = float("inf") if self._voting is None else self._voting.machine.deadline
        with trio.move_on_at(deadline):
            items.append(await self._inbox.receive())
        while len(items) < TURN_MAX:
            try:
                items.append(self._inbox.receive_nowait())
            except trio.WouldBlock:
                break
        return items

    async def _look_ahead(self, items: Sequence[_Item]) -> None:
        """Validate what the machine is told next, in parts between which other tasks run."""
        for item in items:
            voting = self._voting
            if (
                voting is None
                or not isinstance(item, _Received)
                or voting is not self._of(item.epoch)
            ):
                continue
            proposal = item.statement
            if isinstance(proposal, Proposal) and voting.machine.awaits(proposal, item.sender):
                with suppress(InvalidStatement, PeerFault):  # the machine is told the same
                    for _ in voting.executor.look_at_in_parts(proposal.block):
                        await trio.lowlevel.checkpoint()

    async def _build_ahead(self) -> None:
        """Build the block that the machine proposes next, in parts between which other tasks run."""
        voting = self._voting
        proof = None if voting is None else voting.machine.proposes(trio.current_time())
        if voting is not None and proof is not None and voting.executor.state_after(proof.parent):
            height, view = Height(proof.height + 1), voting.machine.view
            for _ in voting.executor.build_in_parts(proof.parent, height, view):
                await trio.lowlevel.checkpoint()

    def _hear(self, items: Sequence[_Item]) -> list[Effect]:
        """Feed the items to the machine; return its effects."""
        effects = list[Effect]()
        for item in items:
            now = trio.current_time()
            match item:
                case _Received(epoch, sender, statement):
                    voting = self._of(epoch)
                    if voting is not None:
                        effects += self._heard(voting, sender, statement, now)
                case _Connected(peer):
                    effects += self._greeted(peer, now)
                case None:
                    effects += self._adopt(now)
        return effects

    def _expire(self) -> list[Effect]:
        """Let the machine act on the time; return its effects."""
        now = trio.current_time()
        if self._voting is not None and now >= self._voting.machine.deadline:
            return self._voting.machine.expire(now)
        return []

    def _heard(
        self, voting: _Voting, sender: int, statement: Statement, now: float
    ) -> list[Effect]:
        """Feed a statement to the machine of its epoch; one of the epoch before only answers."""
        try:
            effects = voting.machine.receive(statement, sender, now)
        except PeerFault as fault:
            self._host.blame(voting.electorate.validators[sender].peer, fault)
            return []
        if voting is not self._voting:
            self._send(voting, effects)
            return []
        if isinstance(statement, Proposal):
            self._see(statement, now)
        return effects

    def _greeted(self, peer: PeerId, now: float) -> list[Effect]:
        voting = self._voting
        index = None if voting is None else voting.electorate.index_of(peer)
        return [] if voting is None or index is None else voting.machine.greet(index, now)

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
        if self._memory is not None and records_of(effects):
            await trio.to_thread.run_sync(self._memory.note, self._journal)
        for effect in effects:
            match effect:
                case Behind():
                    self.is_behind.set()
                case Muted(view):
                    self._be_silent(f"a vote of ours in view {view} is not on record")
                case Equivocation():
                    self._keep(effect)
                case _:
                    pass
        if self._voting is not None:
            self._send(self._voting, effects)

    def _send(self, voting: _Voting, effects: Sequence[Effect]) -> None:
        electorate = voting.electorate
        batches = batches_of(effects, me=voting.machine.me, count=len(electorate))
        for to, statements in sorted(batches.items()):
            said = [Said(electorate.epoch, statement) for statement in statements]
            self.broadcaster.post(electorate.validators[to].peer, said)

    async def _finalize(self, finals: Sequence[Finalized], changes: list[Change]) -> None:
        """Write votes and final blocks in one database transaction per certificate."""
        voting = self._voting
        assert voting is not None, "only a machine of this epoch makes blocks final"
        for final in finals:
            changes += self._journal.prune(voting.electorate.epoch, final.certificate.view)
            try:
                appended = await self._archive.append(
                    final.blocks,
                    final.certificate,
                    known=self._pool.known,
                    state_after=voting.executor.state_after,
                    changes=changes,
                )
            except (PeerFault, InvalidStatement) as error:
                raise signed_badly(error) from None
            changes.clear()
            self._settle(voting, appended)

    def _settle(self, voting: _Voting, appended: Sequence[FinalBlock]) -> None:
        voting.executor.settle(self._archive.head)
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
        """Pass the newest final block of bulk sync to the machine, unless the next epoch has begun."""
        voting, state = self._voting, self._archive.head.state
        if voting is None or state.next_epoch != voting.electorate.epoch:
            return []
        tip, certificate = self._archive.final_point()
        if certificate is None or tip.height <= voting.machine.tip.height:
            return []
        link = self._archive.block_at(tip.height)
        assert link is not None, "the last final block is kept"
        voting.executor.settle(self._archive.head)
        return voting.machine.adopt(link[0], certificate, now)

    def _keep(self, evidence: Equivocation) -> None:
        """Store the proof that a validator signed two conflicting votes, and bring it to the ledger."""
        voting, first, second = self._voting, evidence.first, evidence.second
        assert voting is not None, "evidence comes from the machine of this epoch"
        offender = voting.electorate.validators[first.voter].peer
        epoch = voting.electorate.epoch
        self._report(f"{peer_name(offender)} signed two ways in view {first.view} of epoch {epoch}")
        self.num_evidence += 1
        if self._archive.store.count(EVIDENCE_TABLE) < EVIDENCE_MAX:
            key = epoch.to_bytes(8, "big") + first.view.to_bytes(8, "big") + offender
            self._archive.store.put(EVIDENCE_TABLE, key, encode((first, second)))
        if offender != self._secret.peer:
            votes = [SignedVote(vote.kind, vote.block, vote.signature) for vote in (first, second)]
            self.accuse(Evidence(offender, epoch, first.view, *votes))

    async def _watch_links(self) -> None:
        """Greet every validator that connects: each may have what the other lacks."""
        async for event in self._host.subscribe():
            if self._host.is_connected(event.peer):
                self._put(_Connected(event.peer))

    async def _watch_archive(self) -> None:
        """Wake the machine when bulk sync has moved the chain past it."""
        head = self._archive.head
        while True:
            async with self._archive.moved:
                while self._archive.head is head:
                    await self._archive.moved.wait()
            head = self._archive.head
            voting = self._voting
            if voting is None or head.state.height > voting.machine.tip.height:
                self._put(None)


def _encode_batch(said: Sequence[Said]) -> bytes:
    return encode(Batch(tuple(said)))


def _size_of(said: Said) -> int:
    """Return an upper bound on the bytes of a statement in a frame."""
    match said.statement:
        case Proposal():
            return len(encode(said.statement))
        case Supply(block):
            return sum(map(len, block.transactions)) + 8 * len(block.transactions) + 1024
        case _:
            return SMALL_BYTES


def _recalled(
    archive: Archive, memory: VoteMemory | None, report: Callable[[str], None]
) -> tuple[Journal, bool]:
    """Return the vote log, and True if it holds all that was signed; a damaged one is begun anew.

    Raises ``Corrupt`` if it is damaged and there is no memory beside it.
    """
    try:
        journal = archive.load_journal()
    except Corrupt as damage:
        if memory is None:
            raise
        report(str(damage))
        return archive.restart_journal(memory.number), False
    if memory is None or memory.is_whole(journal):
        return journal, True
    return archive.restart_journal(max(journal.head.number, memory.number)), False
