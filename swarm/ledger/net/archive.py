"""Keep the final chain on disk and the state after it in memory.

Shell: the only writer of the ledger's tables. A block enters the table once it is final, with its
finalization if it has one of its own; every hundred blocks the state is saved too, so that a restart
replays little.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import trio

from swarm.config.spec import Genesis
from swarm.errors import BadEncoding, Corrupt, InvalidStatement, PeerFault, UsageError
from swarm.ledger.blocks import Block, Certificate, Header, block_digest
from swarm.ledger.chain import (
    Head,
    check_final,
    ends_epoch,
    extend,
    extend_in_parts,
    genesis_head,
    voted_on,
)
from swarm.ledger.consensus.branch import FinalPoint
from swarm.ledger.consensus.journal import TABLE as JOURNAL_TABLE
from swarm.ledger.consensus.journal import Journal, load_journal
from swarm.ledger.light import Handoff, handoff_of
from swarm.ledger.state.state import State, decode_state, encode_state
from swarm.ledger.transition.apply import Known
from swarm.primitives.codec import Message, decode, encode
from swarm.store import Change, Store, key_of
from swarm.types import Digest, Height

BLOCKS = "ledger_blocks"
CERTIFICATES = "ledger_certificates"
SNAPSHOTS = "ledger_snapshots"
FORKS = "ledger_forks"
HANDOFFS = "ledger_handoffs"
CHAIN = "ledger_chain"
GENESIS_KEY = b"genesis"
SNAPSHOT_BLOCKS = 100
"""Blocks between two saved states, the most a restart replays: a tenth of a second of signatures."""
SNAPSHOTS_KEPT = 2
READERS_MAX = 64
"""Subscribers at one time: the node's own tasks, and a browser tab or two."""
READER_BLOCKS_MAX = 64
"""Final blocks queued for a slow subscriber."""
JOURNAL_ROWS_PAGE = 1_000
FORKS_SHOWN_MAX = 8


@dataclass(frozen=True, slots=True)
class FinalBlock:
    """A final block and the state after it."""

    height: Height
    block: Block
    state: State


class Archive:
    """The final chain of one node: blocks on disk, the latest state in memory."""

    def __init__(self, store: Store, genesis: Genesis, head: Head) -> None:
        self.store, self.genesis = store, genesis
        self.head = head
        """State and digest of the last final block."""
        self.moved = trio.Condition()
        """Condition notified at every new head."""
        self._lock = trio.Lock()
        self._readers = list[trio.MemorySendChannel[FinalBlock]]()

    @classmethod
    def open(cls, store: Store, genesis: Genesis) -> "Archive":
        """Load the chain from ``store``, or start it from ``genesis`` if the store is empty.

        Raises ``Corrupt`` if the disk holds anything but one valid chain, and ``UsageError`` if it is the chain
        of another network.
        """
        own = store.get(CHAIN, GENESIS_KEY)
        if own is None:
            store.put(CHAIN, GENESIS_KEY, encode(genesis))
        elif own != encode(genesis):
            raise UsageError(
                "this home belongs to another network", hint="choose another one with --home"
            )
        try:
            head = _load(store, genesis)
        except (BadEncoding, PeerFault, InvalidStatement) as error:
            raise _damaged(store, str(error)) from None
        return cls(store, genesis, head)

    def block_at(self, height: Height) -> tuple[Block, Certificate | None] | None:
        """Return a final block and its own finalization if it has one; None if there is no such block."""
        return read_block(self.store, height)

    def final_point(self) -> tuple[FinalPoint, Certificate | None]:
        """Return the newest final block's position and finalization, from which consensus continues.

        At the start of an epoch its first view lies ahead, and the finalization is of other validators: None.
        """
        state = self.head.state
        link = None if ends_epoch(state) else self.block_at(state.height)
        return FinalPoint(state.height, state.globals.view, self.head.digest), link[
            1
        ] if link else None

    def load_journal(self) -> Journal:
        """Load this validator's vote log, created if there is none; raise ``Corrupt`` if it is damaged."""
        rows, after = list[tuple[bytes, bytes]](), b""
        while page := self.store.items(JOURNAL_TABLE, after=after, limit=JOURNAL_ROWS_PAGE):
            rows, after = rows + page, page[-1][0]
        journal = load_journal(rows)
        if not rows:
            self.store.write(journal.opening())
        return journal

    def keep_fork(self, headers: Sequence[Header], certificate: Certificate) -> None:
        """Keep what makes another block final at a height of ours, for ``swarm ledger verify``."""
        fork = Fork(tuple(headers), certificate)
        self.store.put(FORKS, key_of(headers[0].height), encode(fork))

    def restart_journal(self, number: int) -> Journal:
        """Replace a damaged vote log by an empty one whose numbers go on behind ``number``."""
        journal = Journal.after(number)
        while rows := self.store.items(JOURNAL_TABLE, limit=JOURNAL_ROWS_PAGE):
            self.store.write([(JOURNAL_TABLE, key, None) for key, _ in rows])
        self.store.write(journal.opening())
        return journal

    async def append(
        self,
        blocks: Sequence[Block],
        certificate: Certificate,
        *,
        known: Known,
        state_after: Callable[[Digest], State | None] = lambda _: None,
        changes: Sequence[Change] = (),
    ) -> tuple[FinalBlock, ...]:
        """Append blocks that the caller has proved final; return those that were new.

        Args:
            blocks: Blocks in ascending order; those at or below the current height are skipped.
            certificate: The finalization of one of them, or of a later block that covers them.
            known: Transactions whose signatures are not verified again.
            state_after: Returns the state after a block that was applied before, or None to apply it here.
            changes: Table changes to make durable in the same database transaction.

        Raises:
            PeerFault, InvalidStatement: A quorum signed a block that is not valid; nothing is kept.
        """
        async with self._lock:
            head, appended, writes = self.head, list[FinalBlock](), list(changes)
            for block in blocks:
                if block.header.height <= head.state.height:
                    continue
                state = state_after(block_digest(block.header))
                if state is None:
                    head = await _extended(head, block, known)
                else:
                    head = Head(block_digest(block.header), state)
                appended.append(FinalBlock(head.state.height, block, head.state))
                writes += self._writes(
                    appended[-1], certificate if certificate.block == head.digest else None
                )
            if writes:
                await self.store.write_soon(writes)
            if appended:
                self.head = head
                await self._publish(appended)
            return tuple(appended)

    def subscribe(self) -> trio.MemoryReceiveChannel[FinalBlock]:
        """Return a channel of final blocks; a slow reader misses some and finds the state in the next.

        Raises ``UsageError`` if there are ``READERS_MAX`` subscribers already.
        """
        if len(self._readers) >= READERS_MAX:
            raise UsageError(f"more than {READERS_MAX} readers of the ledger")
        send, receive = trio.open_memory_channel[FinalBlock](READER_BLOCKS_MAX)
        self._readers.append(send)
        return receive

    async def wait_height(self, height: int) -> State:
        """Wait until the final height is ``height`` or more; return the final state."""
        async with self.moved:
            while self.head.state.height < height:
                await self.moved.wait()
        return self.head.state

    def _writes(self, final: FinalBlock, certificate: Certificate | None) -> list[Change]:
        key = key_of(final.height)
        writes: list[Change] = [(BLOCKS, key, encode(final.block))]
        if certificate is not None:
            writes.append((CERTIFICATES, key, encode(certificate)))
            if ends_epoch(final.state):
                header = final.block.header
                handoff = handoff_of(header, certificate, final.state.validators)
                writes.append((HANDOFFS, key_of(header.epoch), encode(handoff)))
        if final.height % SNAPSHOT_BLOCKS == 0:
            writes.append((SNAPSHOTS, key, encode_state(final.state)))
            old = final.height - SNAPSHOTS_KEPT * SNAPSHOT_BLOCKS
            if old > 0:
                writes.append((SNAPSHOTS, key_of(old), None))
        return writes

    async def _publish(self, appended: Sequence[FinalBlock]) -> None:
        for reader in list(self._readers):
            try:
                for final in appended:
                    reader.send_nowait(final)
            except trio.WouldBlock:
                pass  # a slow reader finds the state in the next block it receives
            except trio.BrokenResourceError:
                self._readers.remove(reader)
        async with self.moved:
            self.moved.notify_all()


async def _extended(head: Head, block: Block, known: Known) -> Head:
    """Return the head after a block; other tasks have their turns meanwhile."""
    parts = extend_in_parts(head, block, known=known)
    while True:
        try:
            next(parts)
        except StopIteration as done:
            return cast("Head", done.value)
        await trio.lowlevel.checkpoint()


class Fork(Message, frozen=True):
    """Proof of a second final block at one height: its header, and those from it to a finalized one."""

    headers: tuple[Header, ...]
    certificate: Certificate


def read_forks(store: Store) -> list[Fork]:
    """Return the final blocks of other histories that this node has seen; raise ``Corrupt``."""
    try:
        return [decode(Fork, data) for _, data in store.last(FORKS, limit=FORKS_SHOWN_MAX)]
    except BadEncoding as error:
        raise _damaged(store, f"a fork: {error}") from None


def read_block(store: Store, height: Height) -> tuple[Block, Certificate | None] | None:
    """Return a final block of a store, which may be read-only; raise ``Corrupt`` if it is unreadable."""
    if height < 1 or (data := store.get(BLOCKS, key_of(height))) is None:
        return None
    certificate = store.get(CERTIFICATES, key_of(height))
    try:
        block = decode(Block, data)
        return block, None if certificate is None else decode(Certificate, certificate)
    except BadEncoding as error:
        raise _damaged(store, f"block {height}: {error}") from None


def read_handoffs(store: Store, epoch: int) -> list[Handoff]:
    """Return the ends of all epochs before ``epoch``, from epoch 0 on; raise ``Corrupt`` if one is missing."""
    rows = (store.get(HANDOFFS, key_of(number)) for number in range(epoch))
    try:
        return [decode(Handoff, data or b"") for data in rows]
    except BadEncoding as error:
        raise _damaged(store, f"the end of an epoch: {error}") from None


def proved_height(store: Store) -> Height:
    """Return the height of the newest block with a finalization of its own; 0 if there is none."""
    rows = store.last(CERTIFICATES)
    return Height(int.from_bytes(rows[0][0], "big") if rows else 0)


def newest_height(store: Store) -> Height:
    """Return the greatest height at which a store has a block; 0 if it has none."""
    rows = store.last(BLOCKS)
    return Height(int.from_bytes(rows[0][0], "big") if rows else 0)


def read_genesis(store: Store) -> Genesis | None:
    """Return the genesis a store was opened with, or None; raise ``Corrupt`` if it is unreadable."""
    data = store.get(CHAIN, GENESIS_KEY)
    try:
        return None if data is None else decode(Genesis, data, limit=len(data))
    except BadEncoding as error:
        raise _damaged(store, f"genesis: {error}") from None


def load_state(store: Store, genesis: Genesis, height: Height) -> State:
    """Return the state after a final block, one of the newest; raise ``Corrupt`` if it cannot be had."""
    try:
        return _load(store, genesis, height).state
    except (BadEncoding, PeerFault, InvalidStatement) as error:
        raise _damaged(store, str(error)) from None


def _load(store: Store, genesis: Genesis, last: Height | None = None) -> Head:
    """Load the newest snapshot and replay the blocks after it up to ``last``; raise what the checks raise."""
    head = genesis_head(genesis)
    last = newest_height(store) if last is None else last
    for key, data in store.last(SNAPSHOTS, limit=SNAPSHOTS_KEPT):
        height = Height(int.from_bytes(key, "big"))
        if height > last or head.state.height:
            continue
        link = read_block(store, height)
        state = decode_state(data)
        if link is None or state.root != link[0].header.state_root or state.height != height:
            raise BadEncoding(f"the snapshot of height {height} is not its block's")
        head = Head(block_digest(link[0].header), state)
    for number in range(head.state.height + 1, last + 1):
        link = read_block(store, Height(number))
        if link is None:
            raise BadEncoding(f"block {number} is missing")
        head = extend(head, link[0])
    link = read_block(store, last)
    if link is not None:
        block, certificate = link
        if certificate is not None:
            check_final(block.header, certificate, voted_on(head.state))
    return head


def _damaged(store: Store, detail: str) -> Corrupt:
    return Corrupt(
        f"the ledger on this disk is damaged: {detail}",
        hint=f"mv {store.path} {store.path}.damaged   (then swarm join TICKET syncs it again)",
    )
