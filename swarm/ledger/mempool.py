"""Hold transactions that wait for a block: bounded, checked, and handed out in a valid order.

Core: a machine without time; the shell reports which transactions became final.

A body is taken lane by lane. Free statements first, oldest round first: seats and bonds bound their number.
Then requests, disputes and evidence: they are late soon, and a flood of payments must not hold them up. Then
the few that a run's escrow sponsors. Then the others by fee per byte, highest first, each sender's nonces in
order. In a full lane who pays more per byte takes the place of who pays least.

What a validator has held in the first two lanes for some blocks, a block must not omit without a reason.
"""

import heapq
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from swarm.errors import InvalidStatement, Reason
from swarm.ledger.blocks import BODY_BYTES_MAX, BODY_TRANSACTIONS_MAX
from swarm.ledger.check_statements import (
    FORCED_ELEMENTS,
    SHORT_MAX,
    ContestService,
    DataRequest,
    DisputeMove,
    ForcedError,
    PaidCheck,
    Report,
    RevealSegment,
    TraceFraud,
    VerifyCommit,
    VerifyReveal,
    WitnessService,
)
from swarm.ledger.demands import DemandEntry, ShowEntry
from swarm.ledger.edges import EdgeFraud
from swarm.ledger.free_joins import FreeJoins, Origin
from swarm.ledger.state.draft import Draft
from swarm.ledger.state.state import State
from swarm.ledger.storage_statements import StorageProof, StorageStatement
from swarm.ledger.transactions import (
    CommitSegment,
    Evidence,
    FreeCheck,
    FreeStatement,
    Join,
    PostCheckpoint,
    Transaction,
    transaction_digest,
)
from swarm.ledger.transition.accounts import NONCE_WINDOW
from swarm.ledger.transition.apply import apply_transaction, begin_in_parts, check_transaction
from swarm.primitives.parts import Parts, at_once
from swarm.types import Digest, Height, PeerId, View

POOL_MAX = 5_000
"""Transactions held: five full blocks, a few megabytes."""

PART_TRANSACTIONS = 64
"""Transactions that are applied without a pause: a few milliseconds."""

OVERDUE_BLOCKS = 10
"""Blocks for which a validator holds a statement before it rejects a block without it."""

EARLY_BLOCKS = 4
"""Blocks by which a transaction may be early: its sender may have finalised more blocks than this node."""

RAISE_PERCENT = 10
"""Percent by which a replacement with the same nonce must raise the fee."""

STATEMENT_KINDS: tuple[type[FreeCheck], ...] = (
    CommitSegment,
    PostCheckpoint,
    VerifyCommit,
    ContestService,
    RevealSegment,
    VerifyReveal,
    ShowEntry,
)
"""Kinds in the order in which a body takes them: a checkpoint needs its commit."""

LAST_RUN = SHORT_MAX + 1
"""Number above that of every run: the long proofs of holders come after all other free statements."""

Slot = tuple[int | bytes, ...]
"""Key held by one transaction at a time, so that a flood of the same costs its senders their places: a free
statement of a segment, what one sender says about a segment, evidence against one validator, or a nonce."""


class Lane(IntEnum):
    """Lane of a transaction: a body takes the lower ones first."""

    FREE = 0
    """Statements of seats and verifiers, as many as there are seats and bonds."""
    DUTY = 1
    """Requests, reports, moves and evidence."""
    SPONSORED = 2
    """Statements that the escrow of a run pays for."""
    OPEN = 3
    """Everything else, by fee per byte."""


HEAP_SLACK = 256
"""Entries of transactions that are gone, beyond those that are there, in a heap of a lane."""

LANE_MAX = {Lane.FREE: POOL_MAX, Lane.DUTY: 1_000, Lane.SPONSORED: 256, Lane.OPEN: 3_000}
"""Transactions held of each lane: the rest is kept for free statements. A flood fills the last two."""


@dataclass(frozen=True, slots=True)
class _Item:
    data: bytes
    transaction: Transaction
    signer: PeerId
    slot: Slot
    lane: Lane
    height: Height
    """Height of the state at which it came."""

    @property
    def price(self) -> int:
        """Fee per byte, in 1/1024."""
        return (self.transaction.fee << 10) // len(self.data)


class _Body:
    """The body of a block while it is put together."""

    def __init__(self, draft: Draft, known: Mapping[Digest, PeerId], limit_bytes: int) -> None:
        self.transactions: list[bytes] = []
        self._draft, self._known, self._left = draft, known, limit_bytes

    def take(self, item: _Item) -> bool:
        """Append a transaction if there is room and it is valid here; return True if it was."""
        if len(self.transactions) >= BODY_TRANSACTIONS_MAX or len(item.data) > self._left:
            return False
        attempt = self._draft.attempt()
        try:
            apply_transaction(attempt, item.data, known=self._known)
        except InvalidStatement:
            return False
        self._draft.absorb(attempt)
        self.transactions.append(item.data)
        self._left -= len(item.data)
        return True


class Mempool:
    """Mempool of one node."""

    def __init__(self) -> None:
        self._items: dict[Digest, _Item] = {}
        self._slots: dict[Slot, Digest] = {}
        self._known: dict[Digest, PeerId] = {}
        self._paid_by: Counter[PeerId] = Counter()
        self._in_lane: Counter[Lane] = Counter()
        self._cheapest: dict[Lane, list[tuple[int, int, Digest]]] = {lane: [] for lane in Lane}
        """Heaps by price, the newest first on ties; what is gone from the pool is skipped."""
        self._num_added = 0
        self._free_joins = FreeJoins()
        self._turns = OrderedDict[Digest, None]()
        """Names in the order in which ``prune`` looks at them."""

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

    def add(self, data: bytes, state: State, origin: Origin | None = None) -> bool:
        """Add a transaction that could be in the next block; return True if it is new.

        Args:
            data: The encoded transaction.
            state: The newest final state.
            origin: Where it came from; None for one of this node.

        Raises ``InvalidStatement`` if it could not, if its slot is taken, if there is no room and it pays no
        more than what it would replace, or if too many free keys of that network join.
        """
        name = transaction_digest(data)
        if name in self._items:
            return False
        if len(self._items) >= POOL_MAX:
            raise InvalidStatement(Reason.FULL, f"the pool holds {POOL_MAX} transactions")
        transaction, signer = _check_soon(state, data, {})
        item = _Item(
            data=data,
            transaction=transaction,
            signer=signer,
            slot=_slot(transaction),
            lane=_lane(transaction),
            height=state.height,
        )
        holder = self._slots.get(item.slot)
        old = None if holder is None else self._items[holder]
        if old is not None:
            self._check_replaces(item, old)
        self._check_sender(item, old)
        if (
            origin is not None
            and item.lane is Lane.SPONSORED
            and isinstance(transaction.body, Join)
        ):
            self._free_joins.admit(signer, origin, state.next_epoch)
        if old is None or old.lane is not item.lane:
            self._make_room(item)
        if holder is not None:
            self._drop(holder)
        self._items[name], self._slots[item.slot], self._known[name] = item, name, signer
        self._count(item, 1)
        self._num_added += 1
        self._turns[name] = None
        self._rank(item, name)
        return True

    def overdue(self, height: int) -> tuple[bytes, ...]:
        """Return what a block after ``height`` must not omit without a reason, in the order of a body."""
        late = list[_Item]()
        for item in self._items.values():
            if height - item.height < OVERDUE_BLOCKS:
                break  # in order of arrival
            if item.lane <= Lane.DUTY:
                late.append(item)
        return tuple(item.data for item in sorted(late, key=lambda item: (item.lane, item.slot)))

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
        parts = self.assemble_in_parts(
            state, leader=leader, beta=beta, view=view, limit_bytes=limit_bytes
        )
        return at_once(parts)

    def assemble_in_parts(
        self,
        state: State,
        *,
        leader: PeerId,
        beta: bytes,
        view: View | None = None,
        limit_bytes: int = BODY_BYTES_MAX,
    ) -> Parts[tuple[tuple[bytes, ...], State]]:
        """Assemble a body as ``assemble`` does, and let the caller do something else in between.

        What comes or goes meanwhile may be missed, or taken all the same: it was valid.
        """
        draft = yield from begin_in_parts(state, leader=leader, beta=beta, view=view)
        body, skipped = _Body(draft, self._known, limit_bytes), list[_Item]()
        for number, item in enumerate([*self._ordered()]):
            if number % PART_TRANSACTIONS == 0:
                yield
            if not body.take(item):
                skipped.append(item)
        # What waits for another statement of this body would be missed by voters, view after view.
        again = [item for item in skipped if item.lane <= Lane.DUTY]
        while again:
            left = list[_Item]()
            for number, item in enumerate(again):
                if number % PART_TRANSACTIONS == 0:
                    yield
                if not body.take(item):
                    left.append(item)
            again = left if len(left) < len(again) else []
        after = yield from draft.finish_in_parts()
        return tuple(body.transactions), after

    def remove(self, transactions: Iterable[bytes]) -> None:
        """Forget the transactions of a final block; what else their signers have here is looked at next."""
        signers = set[PeerId]()
        for data in transactions:
            name = transaction_digest(data)
            if name in self._items:
                signers.add(self._items[name].signer)
                self._drop(name)
        for name, item in self._items.items() if signers else ():
            if item.signer in signers:
                self._turns.move_to_end(name, last=False)

    def prune(self, state: State, limit: int = POOL_MAX) -> int:
        """Look at ``limit`` transactions, in turns, and forget those that can be in no future block.

        Returns the number of those forgotten.
        """
        num_stale = 0
        for _ in range(min(limit, len(self._turns))):
            name = next(iter(self._turns))
            self._turns.move_to_end(name)
            try:
                _check_soon(state, self._items[name].data, self._known)
            except InvalidStatement:
                self._drop(name)
                num_stale += 1
        return num_stale

    def _check_replaces(self, new: _Item, old: _Item) -> None:
        least = old.transaction.fee + old.transaction.fee * RAISE_PERCENT // 100 + 1
        if new.lane is Lane.FREE or new.transaction.fee < least:
            raise InvalidStatement(Reason.DUPLICATE, "another one is on its way")

    def _check_sender(self, item: _Item, old: _Item | None) -> None:
        """Raise if a sender would have too many, what the item replaces left out."""
        replaced = old is not None and old.signer == item.signer and old.lane is not Lane.FREE
        if item.lane is not Lane.FREE and self._paid_by[item.signer] - replaced >= NONCE_WINDOW:
            raise InvalidStatement(Reason.FULL, "the pool has no room for this sender")

    def _make_room(self, item: _Item) -> None:
        """Drop the cheapest of a full lane for an item that pays more per byte; raise if none does."""
        if self._in_lane[item.lane] < LANE_MAX[item.lane]:
            return
        heap = self._cheapest[item.lane]
        while heap[0][2] not in self._items:
            heapq.heappop(heap)
        price, _, name = heap[0]
        if price >= item.price:
            raise InvalidStatement(Reason.FULL, "the pool has no room at this fee")
        self._drop(name)

    def _rank(self, item: _Item, name: Digest) -> None:
        """Put an item into the heap of its lane, without those that are gone where they are the most."""
        heap = self._cheapest[item.lane]
        heapq.heappush(heap, (item.price, -self._num_added, name))
        if len(heap) > 2 * self._in_lane[item.lane] + HEAP_SLACK:
            newest = {entry[2]: entry for entry in heap if entry[2] in self._items}
            heap[:] = newest.values()
            heapq.heapify(heap)

    def _count(self, item: _Item, step: int) -> None:
        self._in_lane[item.lane] += step
        if item.lane is not Lane.FREE:
            self._paid_by[item.signer] += step
            if not self._paid_by[item.signer]:
                del self._paid_by[item.signer]

    def _drop(self, name: Digest) -> None:
        item = self._items.pop(name, None)
        if item is not None:
            del self._slots[item.slot], self._known[name], self._turns[name]
            self._count(item, -1)

    def _ordered(self) -> Iterable[_Item]:
        items = self._items.values()
        yield from sorted((i for i in items if i.lane is Lane.FREE), key=lambda item: item.slot)
        yield from self._by_fee([item for item in items if item.lane is Lane.DUTY])
        yield from [item for item in items if item.lane is Lane.SPONSORED]
        yield from self._by_fee([item for item in items if item.lane is Lane.OPEN])

    @staticmethod
    def _by_fee(items: Iterable[_Item]) -> Iterable[_Item]:
        """Yield items by fee per byte, highest first, those of a sender in the order of their nonces."""
        queues: dict[PeerId, list[_Item]] = {}
        for item in items:
            queues.setdefault(item.signer, []).append(item)
        for queue in queues.values():
            queue.sort(key=lambda item: -item.transaction.nonce)
        heap = [(_order(queue[-1]), signer) for signer, queue in queues.items()]
        heapq.heapify(heap)
        while heap:
            _, signer = heapq.heappop(heap)
            yield queues[signer].pop()
            if queues[signer]:
                heapq.heappush(heap, (_order(queues[signer][-1]), signer))


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
    if isinstance(body, StorageStatement):
        is_proof = int(isinstance(body, StorageProof))
        return LAST_RUN + body.run, body.round, is_proof, body.stage, body.holder
    if isinstance(body, FreeStatement):
        kind = STATEMENT_KINDS.index(type(body))
        return body.run, body.round, kind, body.stage, body.seat, _number(body)
    if isinstance(body, Evidence):
        return b"evidence", body.peer
    if isinstance(body, PaidCheck):
        return transaction.sender, *_which(body), body.run, body.round, body.stage, body.seat
    return transaction.sender, transaction.nonce


def _number(body: FreeStatement) -> int:
    """Return the number of a free statement among those of its kind about one segment."""
    match body:
        case VerifyCommit() | ContestService() | VerifyReveal():
            return body.check
        case ShowEntry():
            return body.demand
        case _:
            return 0


def _which(body: PaidCheck) -> tuple[int, int]:
    """Return kind and number of a statement among those of one sender about one segment."""
    match body:
        case DataRequest():
            return 0, body.attempt
        case Report() | DemandEntry():
            return (1 if isinstance(body, Report) else 7), 0
        case EdgeFraud() | TraceFraud():
            return 4, 0
        case WitnessService():
            return 3, body.check
        case DisputeMove():
            return 5, body.window
        case ForcedError():
            return 6, body.check * FORCED_ELEMENTS + body.number


def _lane(transaction: Transaction) -> Lane:
    body = transaction.body
    if isinstance(body, FreeStatement):
        return Lane.FREE
    if isinstance(body, PaidCheck | Evidence):
        return Lane.DUTY
    return Lane.OPEN if transaction.fee else Lane.SPONSORED


def _order(item: _Item) -> tuple[int, int]:
    """Return the sort key, lowest first: most fee per byte (in 1/1024), then the lowest nonce."""
    return -item.price, item.transaction.nonce
