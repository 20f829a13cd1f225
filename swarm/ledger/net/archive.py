"""Keep the final chain on disk and the state after it in memory.

Shell: the only writer of the ledger's tables. A block enters the table once it is final, with its
finalization if it has one of its own; every hundred blocks the state is saved too, so that a restart
replays little. The states at the ends of the last two epochs are kept for newcomers.

The chain on a disk begins with block 1, with the first block after a snapshot that peers sent, or where older
blocks were pruned. Handoffs are kept from epoch 0 on; those between equal validators give way to newer ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import trio

from swarm.config.spec import Genesis
from swarm.errors import (
    BadEncoding,
    BrokenPromise,
    Corrupt,
    InvalidStatement,
    PeerFault,
    Pruned,
    UsageError,
)
from swarm.ledger.blocks import (
    Block,
    Certificate,
    Header,
    block_digest,
    epoch_of,
    is_last_of_epoch,
)
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
from swarm.ledger.light import Handoff, handoff_digest, handoff_of, needed, stay_of
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
"""Last headers of epochs, by epoch."""
STAYS = "ledger_stays"
"""First certified headers of epochs with the validators of the epoch before, by epoch."""
BOUNDARIES = "ledger_boundaries"
"""States at the ends of epochs, by height."""
BOUNDARIES_KEPT = 2
CHAIN = "ledger_chain"
GENESIS_KEY = b"genesis"
FIRST_KEY = b"first"
BLOCKS_KEPT_MIN = 256
"""Newest blocks that are always kept: more than lie between two saved states."""
PRUNED_AT_ONCE = 1_000
"""Blocks deleted in one database transaction."""
SNAPSHOT_BLOCKS = 100
"""Blocks between two saved states, the most a restart replays: a tenth of a second of signatures."""
SNAPSHOTS_KEPT = 2
READERS_MAX = 64
"""Subscribers at one time: the node's own tasks, and a browser tab or two."""
READER_BLOCKS_MAX = 64
"""Final blocks queued for a slow subscriber."""
JOURNAL_ROWS_PAGE = 1_000
FORKS_SHOWN_MAX = 8
HANDOFFS_PAGE = 1_000


@dataclass(frozen=True, slots=True)
class FinalBlock:
    """A final block and the state after it."""

    height: Height
    block: Block
    state: State


@dataclass(frozen=True, slots=True)
class Boundary:
    """The end of an epoch: its last header, made final, and the state after it."""

    handoff: Handoff
    state: State

    @property
    def height(self) -> Height:
        """Height of the last block of the epoch."""
        return self.handoff.height

    @property
    def head(self) -> Head:
        """The head from which the next epoch goes on."""
        return Head(handoff_digest(self.handoff, self.handoff.validators), self.state)


class BoundaryRow(Message, frozen=True):
    """A boundary on the disk."""

    handoff: Handoff
    state: bytes


class Archive:
    """The final chain of one node: blocks on disk, the latest state in memory."""

    def __init__(self, store: Store, genesis: Genesis, head: Head) -> None:
        self.store, self.genesis = store, genesis
        self.head = head
        """State and digest of the last final block."""
        self.first = first_height(store)
        """Height from which on all blocks are here; that of the next one where none is."""
        self._newest: Boundary | None = None
        self._is_loaded = False
        self._stayed = -1
        """Last epoch whose first certified header was seen."""
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

    def newest_boundary(self) -> Boundary | None:
        """Return the last end of an epoch whose state is here; decodes it at the first call after a start.

        Raises ``Corrupt`` if it is damaged.
        """
        if not self._is_loaded:
            found = read_boundaries(self.store)
            self._newest = self._newest or (found[-1] if found else None)
            self._is_loaded = True
        return self._newest

    async def adopt(self, boundary: Boundary, handoffs: Sequence[Handoff]) -> None:
        """Go on from a boundary that the caller has proved final, with the handoffs that lead to it.

        Blocks before it are forgotten, those that are here already too. Nothing changes if it is not ahead.
        """
        epoch_blocks = self.genesis.epoch_blocks
        async with self._lock:
            if boundary.height <= self.head.state.height:
                return
            writes = [_handoff_row(one, epoch_blocks) for one in (*handoffs, boundary.handoff)]
            writes += [(SNAPSHOTS, key, None) for key, _ in self.store.last(SNAPSHOTS, limit=64)]
            writes += self._boundary_rows(boundary)
            writes.append((CHAIN, FIRST_KEY, key_of(boundary.height + 1)))
            await self.store.write_soon(writes)
            self.head, self.first = boundary.head, Height(boundary.height + 1)
            await self._publish([])
        await self.forget_before(self.first)

    async def prepend(self, blocks: Sequence[Block]) -> None:
        """Keep blocks before the first one here, newest first.

        Raises ``BrokenPromise`` unless each is the parent of the next one.
        """
        async with self._lock:
            parent, writes = self.first_parent(), list[Change]()
            for block in blocks:
                if block_digest(block.header) != parent:
                    raise BrokenPromise(
                        f"block {block.header.height} is not the parent of the next"
                    )
                writes.append((BLOCKS, key_of(block.header.height), encode(block)))
                parent = block.header.parent
            if writes:
                first = Height(self.first - len(blocks))
                await self.store.write_soon([*writes, (CHAIN, FIRST_KEY, key_of(first))])
                self.first = first

    def first_parent(self) -> Digest:
        """Return the digest of the block before the first one here."""
        link = self.block_at(self.first)
        return self.head.digest if link is None else link[0].header.parent

    async def forget_before(self, height: Height) -> int:
        """Delete the blocks below a height, but not the newest; return how many it were."""
        count = 0
        async with self._lock:
            limit = min(height, max(self.first, self.head.state.height - BLOCKS_KEPT_MIN))
            if limit > self.first:
                await self.store.write_soon([(CHAIN, FIRST_KEY, key_of(limit))])
                self.first = Height(limit)
        for table in (BLOCKS, CERTIFICATES):
            while deleted := await trio.to_thread.run_sync(
                partial(self.store.delete_below, limit=PRUNED_AT_ONCE), table, key_of(self.first)
            ):
                count += deleted if table == BLOCKS else 0
        return count

    def _writes(self, final: FinalBlock, certificate: Certificate | None) -> list[Change]:
        key = key_of(final.height)
        writes: list[Change] = [(BLOCKS, key, encode(final.block))]
        if certificate is not None:
            writes.append((CERTIFICATES, key, encode(certificate)))
            writes += self._epoch_rows(final, certificate)
        if final.height % SNAPSHOT_BLOCKS == 0:
            writes.append((SNAPSHOTS, key, encode_state(final.state)))
            old = final.height - SNAPSHOTS_KEPT * SNAPSHOT_BLOCKS
            if old > 0:
                writes.append((SNAPSHOTS, key_of(old), None))
        return writes

    def _epoch_rows(self, final: FinalBlock, certificate: Certificate) -> list[Change]:
        """Return what leads light readers to this epoch, or to the next one."""
        header, state = final.block.header, final.state
        epoch, council = header.epoch, state.council
        if ends_epoch(state):
            boundary = Boundary(handoff_of(header, certificate, state.validators), state)
            return [
                _handoff_row(boundary.handoff, self.genesis.epoch_blocks),
                *self._boundary_rows(boundary),
            ]
        if epoch == self._stayed or self.store.get(STAYS, key_of(epoch)) is not None:
            return []
        self._stayed = epoch
        rows = list[Change]()
        if council.current == council.previous and epoch:
            rows.append((STAYS, key_of(epoch), encode(stay_of(header, certificate))))
        old = key_of(max(epoch - BOUNDARIES_KEPT, 0))
        if (
            self.store.get(STAYS, old) is not None
        ):  # the validators are the same in the epoch before
            rows += [
                (table, key_of(epoch - BOUNDARIES_KEPT - 1), None) for table in (STAYS, HANDOFFS)
            ]
        return rows

    def _boundary_rows(self, boundary: Boundary) -> list[Change]:
        """Return the writes that keep a boundary in place of the oldest one."""
        self._newest = boundary
        kept = [key for key, _ in self.store.last(BOUNDARIES, limit=2 * BOUNDARIES_KEPT)]
        row = BoundaryRow(boundary.handoff, encode_state(boundary.state))
        return [
            *((BOUNDARIES, key, None) for key in kept[BOUNDARIES_KEPT - 1 :]),
            (BOUNDARIES, key_of(boundary.height), encode(row)),
        ]

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


def _handoff_row(handoff: Handoff, epoch_blocks: int) -> Change:
    table = HANDOFFS if is_last_of_epoch(epoch_blocks, handoff.height) else STAYS
    return table, key_of(epoch_of(epoch_blocks, handoff.height)), encode(handoff)


def read_handoffs(store: Store, epoch_blocks: int, known: int, upto: int) -> list[Handoff]:
    """Return what leads from the validators of epoch ``known`` to those of ``upto``; raise ``Corrupt``."""
    rows = list[bytes]()
    for table in (HANDOFFS, STAYS):
        after = b"" if known == 0 else key_of(known - 1)
        while page := store.items(table, after=after, limit=HANDOFFS_PAGE):
            rows, after = rows + [data for _, data in page], page[-1][0]
    try:
        found = [decode(Handoff, data) for data in rows]
    except BadEncoding as error:
        raise _damaged(store, f"the end of an epoch: {error}") from None
    found.sort(key=lambda handoff: handoff.height)
    return needed(found, epoch_blocks, known, upto)


def read_boundaries(store: Store) -> list[Boundary]:
    """Return the ends of epochs whose states are here, oldest first; raise ``Corrupt`` if one is damaged."""
    found = list[Boundary]()
    try:
        for _, data in reversed(store.last(BOUNDARIES, limit=BOUNDARIES_KEPT)):
            row = decode(BoundaryRow, data, limit=len(data))
            state = decode_state(row.state)
            if state.root != row.handoff.state_root:
                raise BadEncoding(f"the state of height {row.handoff.height} is not its block's")
            found.append(Boundary(row.handoff, state))
    except BadEncoding as error:
        raise _damaged(store, str(error)) from None
    return found


def first_height(store: Store) -> Height:
    """Return the height from which on a store has all blocks: 1 unless a snapshot or pruning says otherwise."""
    return Height(int.from_bytes(store.get(CHAIN, FIRST_KEY) or key_of(1), "big"))


def missing_block(store: Store, height: int) -> UsageError:
    """Return the error for a block that a store does not have."""
    first = first_height(store)
    if 1 <= height < first:
        return Pruned(
            f"block {height} is pruned: this home keeps blocks from {first} on",
            hint="a home with archive = true in node.toml keeps all",
        )
    return UsageError(f"there is no block {height} here", hint="swarm ledger tail")


def proved_height(store: Store) -> Height:
    """Return the height of the newest block with a finalization of its own; 0 if there is none."""
    rows = store.last(CERTIFICATES)
    return Height(int.from_bytes(rows[0][0], "big") if rows else 0)


def newest_height(store: Store) -> Height:
    """Return the greatest height at which a store has a block; 0 if it has none."""
    keys = [key for table in (BLOCKS, BOUNDARIES) for key, _ in store.last(table)]
    return Height(int.from_bytes(max(keys, default=b""), "big"))


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
    for boundary in read_boundaries(store) if not head.state.height else ():
        if boundary.height <= last:
            head = boundary.head
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
