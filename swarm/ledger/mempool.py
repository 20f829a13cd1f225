"""Hold transactions that wait for a block: bounded, checked, and handed out in a valid order.

Core: a machine without time; the shell reports which transactions became final.

Seat statements first, oldest round first: their number is bounded by the seats. Then the few that a run's
escrow sponsors. Then the others by fee per byte, highest first, each sender's nonces in order.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from swarm.errors import InvalidStatement, Reason
from swarm.ledger.blocks import BODY_BYTES_MAX, BODY_TRANSACTIONS_MAX
from swarm.ledger.state.state import State
from swarm.ledger.transactions import (
    CommitSegment,
    PostCheckpoint,
    RevealSegment,
    SeatStatement,
    Transaction,
    transaction_digest,
)
from swarm.ledger.transition.accounts import NONCE_WINDOW
from swarm.ledger.transition.apply import apply_transaction, begin_block, check_transaction
from swarm.types import Digest, PeerId, View

POOL_MAX = 5_000
"""Transactions held: five full blocks, a few megabytes."""

PAID_MAX = 4_000
"""Transactions held other than seat statements, at most: the rest of the mempool is kept for those."""

SPONSORED_MAX = 256
"""Transactions held that an escrow pays for, at most: keys are free, so a flood can fill this part."""

EARLY_BLOCKS = 4
"""Blocks by which a transaction may be early: its sender may have finalised more blocks than this node."""

RAISE_PERCENT = 10
"""Percent by which a replacement with the same nonce must raise the fee."""

STATEMENT_KINDS: tuple[type[SeatStatement], ...] = (CommitSegment, PostCheckpoint, RevealSegment)
"""Kinds in the order in which a body takes them: a checkpoint needs its commit."""

Slot = tuple[int | bytes, ...]
"""Key held by one transaction at a time: a seat's statement of a round, or a sender's nonce."""


@dataclass(frozen=True, slots=True)
class _Item:
    data: bytes
    transaction: Transaction
    signer: PeerId
    slot: Slot

    @property
    def is_statement(self) -> bool:
        return isinstance(self.transaction.body, SeatStatement)

    @property
    def is_sponsored(self) -> bool:
        return not self.is_statement and self.transaction.fee == 0


class Mempool:
    """Mempool of one node."""

    def __init__(self) -> None:
        self._items: dict[Digest, _Item] = {}
        self._slots: dict[Slot, Digest] = {}
        self._known: dict[Digest, PeerId] = {}
        self._paid_by: Counter[PeerId] = Counter()
        self._num_paid = 0
        self._num_sponsored = 0

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, name: object) -> bool:
        return name in self._items

    @property
    def known(self) -> Mapping[Digest, PeerId]:
        """Signers of verified signatures: ``apply_block(..., known=pool.known)`` does not verify them again."""
        return self._known

    def get(self, name: Digest) -> bytes | None:
        """Return the encoded transaction of a digest, or None."""
        item = self._items.get(name)
        return item.data if item is not None else None

    def transactions(self) -> tuple[bytes, ...]:
        """Return all transactions in order of arrival, to offer to a newly connected peer."""
        return tuple(item.data for item in self._items.values())

    def add(self, data: bytes, state: State) -> bool:
        """Add a transaction that could be in the next block; return True if it is new.

        Raises ``InvalidStatement`` if it could not, if its slot is taken, or if there is no room.
        """
        name = transaction_digest(data)
        if name in self._items:
            return False
        if len(self._items) >= POOL_MAX:
            raise InvalidStatement(Reason.FULL, f"the pool holds {POOL_MAX} transactions")
        transaction, signer = _check_soon(state, data, {})
        item = _Item(data, transaction, signer, _slot(transaction))
        holder = self._slots.get(item.slot)
        if holder is not None:
            self._check_replaces(item, self._items[holder])
            self._drop(holder)
        self._check_room(item)
        self._items[name], self._slots[item.slot], self._known[name] = item, name, signer
        self._count(item, 1)
        return True

    def take(
        self, state: State, *, leader: PeerId, beta: bytes, limit_bytes: int = BODY_BYTES_MAX
    ) -> tuple[bytes, ...]:
        """Return the body of the block after ``state``: every transaction is valid at its position."""
        return self.assemble(state, leader=leader, beta=beta, limit_bytes=limit_bytes)[0]

    def assemble(
        self,
        state: State,
        *,
        leader: PeerId,
        beta: bytes,
        view: View | None = None,
        limit_bytes: int = BODY_BYTES_MAX,
    ) -> tuple[tuple[bytes, ...], State]:
        """Return the body of the block after ``state``, and the state after that block.

        Args:
            state: The state after the parent block.
            leader: The validator that makes the block.
            beta: The leader's 64-byte VRF output.
            view: The view of the block in its epoch; None if no view was skipped before it.
            limit_bytes: Most bytes of all transactions together.
        """
        draft = begin_block(state, leader=leader, beta=beta, view=view)
        body, left = list[bytes](), limit_bytes
        for item in self._ordered():
            if len(body) >= BODY_TRANSACTIONS_MAX:
                break
            if len(item.data) > left:
                continue
            attempt = draft.attempt()
            try:
                apply_transaction(attempt, item.data, known=self._known)
            except InvalidStatement:
                continue
            draft.absorb(attempt)
            body.append(item.data)
            left -= len(item.data)
        return tuple(body), draft.finish()

    def remove(self, transactions: Iterable[bytes]) -> None:
        """Forget the transactions of a final block."""
        for data in transactions:
            self._drop(transaction_digest(data))

    def prune(self, state: State) -> int:
        """Forget transactions that can be in no future block; return their number."""
        stale: list[Digest] = []
        for name, item in self._items.items():
            try:
                _check_soon(state, item.data, self._known)
            except InvalidStatement:
                stale.append(name)
        for name in stale:
            self._drop(name)
        return len(stale)

    def _check_replaces(self, new: _Item, old: _Item) -> None:
        least = old.transaction.fee + old.transaction.fee * RAISE_PERCENT // 100 + 1
        if new.is_statement or new.transaction.fee < least:
            raise InvalidStatement(Reason.DUPLICATE, "another one is on its way")

    def _check_room(self, item: _Item) -> None:
        if item.is_statement:
            return
        is_full = self._num_paid >= PAID_MAX or self._paid_by[item.signer] >= NONCE_WINDOW
        if is_full or (item.is_sponsored and self._num_sponsored >= SPONSORED_MAX):
            raise InvalidStatement(Reason.FULL, "the pool has no room for this sender")

    def _count(self, item: _Item, step: int) -> None:
        if item.is_statement:
            return
        self._num_paid += step
        self._num_sponsored += step * item.is_sponsored
        self._paid_by[item.signer] += step
        if not self._paid_by[item.signer]:
            del self._paid_by[item.signer]

    def _drop(self, name: Digest) -> None:
        item = self._items.pop(name, None)
        if item is not None:
            del self._slots[item.slot], self._known[name]
            self._count(item, -1)

    def _ordered(self) -> Iterable[_Item]:
        items = self._items.values()
        yield from sorted((i for i in items if i.is_statement), key=lambda item: item.slot)
        yield from [item for item in items if item.is_sponsored]
        queues: dict[PeerId, list[_Item]] = {}
        for item in items:
            if not (item.is_statement or item.is_sponsored):
                queues.setdefault(item.signer, []).append(item)
        for queue in queues.values():
            queue.sort(key=lambda item: -item.transaction.nonce)
        heap = [(_rank(queue[-1]), signer) for signer, queue in queues.items()]
        heapq.heapify(heap)
        while heap:
            _, signer = heapq.heappop(heap)
            yield queues[signer].pop()
            if queues[signer]:
                heapq.heappush(heap, (_rank(queues[signer][-1]), signer))


def _check_soon(
    state: State, data: bytes, known: Mapping[Digest, PeerId]
) -> tuple[Transaction, PeerId]:
    """Check a transaction for the next block, or for one a little later if it is too early for that."""
    try:
        return check_transaction(state, data, known=known)
    except InvalidStatement as error:
        if error.reason not in {Reason.WRONG_ROUND, Reason.EXPIRED}:
            raise
    return check_transaction(state, data, known=known, blocks_ahead=1 + EARLY_BLOCKS)


def _slot(transaction: Transaction) -> Slot:
    body = transaction.body
    if isinstance(body, SeatStatement):
        kind = STATEMENT_KINDS.index(type(body))
        return body.run, body.round, kind, body.stage, body.seat
    return transaction.sender, transaction.nonce


def _rank(item: _Item) -> tuple[int, int]:
    """Return the sort key, lowest first: most fee per byte (in 1/1024), then the lowest nonce."""
    return -(item.transaction.fee << 10) // len(item.data), item.transaction.nonce
