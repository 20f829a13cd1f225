"""Bring transactions to the validators: check, keep, pass on once.

Shell: our own statements are offered again until they are in a block or can be in none.

Send small statements to many peers, several in one frame, without one slow peer holding up the rest.

one bounded queue and one task per peer; what is too old is dropped, never waited for.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

import trio

from swarm.errors import BadEncoding, BadSignature, InvalidStatement, PeerFault, Reason, Unreachable
from swarm.host.service import Host
from swarm.ledger.mempool import Mempool
from swarm.ledger.net.archive import Archive, FinalBlock
from swarm.ledger.transactions import (
    TRANSACTION_BYTES_MAX,
    Body,
    Join,
    Leave,
    SeatStatement,
    sign_transaction,
    transaction_digest,
)
from swarm.ledger.transition.accounts import sufficient_fee
from swarm.ledger.transition.apply import check_transaction
from swarm.primitives.codec import Message, decode, encode
from swarm.primitives.crypto import SecretKey
from swarm.types import Amount, Digest, Height, PeerId

Item = TypeVar("Item")

QUEUE_MAX = 256
"""Statements waiting for one peer: minutes of votes; the oldest make room, they are the stalest."""
REPLY_BYTES_MAX = 16
"""The answer is an empty acknowledgement."""
CALL_TIMEOUT_S = 5.0
REST_S = 0.25
"""First rest after a failed call; doubles up to ``REST_MAX_S``."""
REST_MAX_S = 4.0
PEERS_MAX = 256


class BatchSender(Protocol):
    """The part of the host a courier needs."""

    async def call(
        self,
        peer: PeerId,
        protocol: str,
        request: bytes,
        *,
        timeout_s: float,
        reply_limit: int = ...,
    ) -> bytes:
        """Ask ``peer`` one question."""
        ...

    def blame(self, peer: PeerId, fault: PeerFault) -> None:
        """Note a fault."""
        ...


class Broadcaster(Generic[Item]):
    """Queues by peer; ``run`` serves them until cancelled."""

    def __init__(
        self,
        host: BatchSender,
        protocol: str,
        encode_frame: Callable[[Sequence[Item]], bytes],
        *,
        frame_items_max: int,
        frame_bytes_max: int,
        size_of: Callable[[Item], int],
    ) -> None:
        self._host, self._protocol, self._encode = host, protocol, encode_frame
        self._items_max, self._bytes_max, self._size_of = frame_items_max, frame_bytes_max, size_of
        self._queues: dict[PeerId, deque[Item]] = {}
        self._bells: dict[PeerId, trio.Event] = {}
        self._nursery: trio.Nursery | None = None
        self.num_frames, self.num_bytes, self.num_items = 0, 0, 0

    async def run(self) -> None:
        """Carry what is posted, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for peer in self._queues:
                nursery.start_soon(self._serve, peer)
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None  # the host may still bring in what would be passed on

    def post(self, peer: PeerId, items: Sequence[Item]) -> None:
        """Queue items for a peer; the oldest make room when its queue is full."""
        if peer not in self._queues:
            if len(self._queues) >= PEERS_MAX:
                return
            self._queues[peer], self._bells[peer] = deque[Item](maxlen=QUEUE_MAX), trio.Event()
            if self._nursery is not None:
                self._nursery.start_soon(self._serve, peer)
        self._queues[peer].extend(items)
        self._bells[peer].set()

    async def _serve(self, peer: PeerId) -> None:
        queue, rest_s = self._queues[peer], REST_S
        while True:
            await self._bells[peer].wait()
            self._bells[peer] = trio.Event()
            while queue:
                if await self._deliver(peer, self._take(queue)):
                    rest_s = REST_S
                else:
                    await trio.sleep(rest_s)
                    rest_s = min(2 * rest_s, REST_MAX_S)

    def _take(self, queue: deque[Item]) -> list[Item]:
        items, room = [queue.popleft()], self._bytes_max
        room -= self._size_of(items[0])
        while queue and len(items) < self._items_max and self._size_of(queue[0]) <= room:
            items.append(queue.popleft())
            room -= self._size_of(items[-1])
        return items

    async def _deliver(self, peer: PeerId, items: list[Item]) -> bool:
        """Whether the peer took the frame. A lost frame is not sent again: those who lack it ask."""
        frame = self._encode(items)
        self.num_frames, self.num_items = self.num_frames + 1, self.num_items + len(items)
        self.num_bytes += len(frame)
        try:
            await self._host.call(
                peer, self._protocol, frame, timeout_s=CALL_TIMEOUT_S, reply_limit=REPLY_BYTES_MAX
            )
        except Unreachable:
            return False
        except PeerFault as fault:
            self._host.blame(peer, fault)
            return False
        return True


PROTOCOL = "/swarm/transactions/1"
PARCEL_MAX = 256
"""Transactions in one frame."""
PARCEL_BYTES_MAX = 512 << 10
FAN_OUT = 3
"""Validators, or peers if none is connected, that a follower tells: one of them may be dead or silent."""
OWN_MAX = 64
"""Our own transactions on their way."""
OFFER_BLOCKS = 3
"""A transaction of ours that is not in a block after so many is offered again."""
PRUNE_BLOCKS = 10
"""How often the pool is searched for what can be in no block any more."""
FLOOD_MAX = 512
"""New transactions taken from one peer between two blocks: more than a block's worth comes from many."""

log = logging.getLogger("swarm.ledger")


class TransactionBatch(Message, frozen=True):
    """One frame of the transactions protocol."""

    transactions: tuple[bytes, ...]


class Relay:
    """This node's way into the blocks."""

    def __init__(self, archive: Archive, pool: Mempool, secret: SecretKey, host: Host) -> None:
        self._archive, self._pool, self._secret, self._host = archive, pool, secret, host
        self._own: dict[Digest, tuple[bytes, Height]] = {}
        self._nonces: dict[Digest, int] = {}
        self._taken: dict[PeerId, int] = {}
        self._landed: deque[tuple[Digest, Height]] = deque(maxlen=4 * OWN_MAX)
        self._finals = archive.subscribe()
        self._moved = trio.Condition()
        self.courier = Broadcaster[bytes](
            host,
            PROTOCOL,
            lambda parcel: encode(TransactionBatch(tuple(parcel))),
            frame_items_max=PARCEL_MAX,
            frame_bytes_max=PARCEL_BYTES_MAX,
            size_of=len,
        )
        limit = PARCEL_BYTES_MAX + TRANSACTION_BYTES_MAX + 8 * PARCEL_MAX
        host.serve(PROTOCOL, self._answer, request_limit=limit)

    async def run(self) -> None:
        """Pass transactions on, and clean up after every final block, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.courier.run)
            async for final in self._finals:
                self._settle(final)
                async with self._moved:
                    self._moved.notify_all()

    def submit(self, body: Body) -> Digest:
        """Sign a statement of ours and send it on its way.

        Raises ``InvalidStatement`` if it cannot be valid now, is under way already, or if too many are.
        """
        if len(self._own) >= OWN_MAX:
            raise InvalidStatement(Reason.FULL, f"{OWN_MAX} transactions of ours are on their way")
        nonce, data = self._signed(body)
        name = transaction_digest(data)
        if not self._pool.add(data, self._archive.head.state):
            raise InvalidStatement(Reason.DUPLICATE, "on its way already")
        self._own[name] = (data, self._archive.head.state.height)
        self._nonces[name] = nonce
        self._offer([data], None)
        return name

    async def wait_final(self, name: Digest) -> Height:
        """The height of the block that holds a transaction of ours.

        Raises ``InvalidStatement`` when it can be in no block any more.
        """
        async with self._moved:
            while True:
                for landed, height in self._landed:
                    if landed == name:
                        return height
                if name not in self._own:
                    raise InvalidStatement(Reason.EXPIRED, "it was not taken into a block in time")
                await self._moved.wait()

    def _signed(self, body: Body) -> tuple[int, bytes]:
        state = self._archive.head.state
        if isinstance(body, SeatStatement):
            return 0, sign_transaction(self._secret, state.chain, body)
        account = state.account(self._secret.peer)
        under_way = sorted(self._nonces.values())
        nonce = next(n for n in range(account.nonce + 1, 1 << 62) if n not in under_way)
        fee = sufficient_fee(state.params, body)
        if account.balance < fee and isinstance(body, Join | Leave):
            fee = Amount(0)  # a volunteer without money: the run's escrow pays
        expiry = state.height + state.params.epoch_blocks
        signed = sign_transaction(
            self._secret, state.chain, body, nonce=nonce, fee=fee, expiry=expiry
        )
        return nonce, signed

    async def _answer(self, peer: PeerId, request: bytes) -> bytes:
        """Take a peer's transactions: what is new and possible goes on to the others."""
        parcel = decode(TransactionBatch, request)
        if len(parcel.transactions) > PARCEL_MAX:
            raise BadEncoding("too many transactions in a frame")
        news = list[bytes]()
        for data in parcel.transactions:
            if self._taken.get(peer, 0) >= FLOOD_MAX:
                break
            self._taken[peer] = self._taken.get(peer, 0) + 1
            try:
                if self._pool.add(data, self._archive.head.state):
                    news.append(data)
            except InvalidStatement as refusal:
                if refusal.reason is Reason.BAD_SIGNATURE:
                    # Every other reason can be a difference in height; this one is nobody's honest mistake.
                    raise BadSignature("a transaction nobody signed") from None
            await trio.lowlevel.checkpoint()
        if news:
            self._offer(news, peer)
        return b""

    def _offer(self, transactions: Sequence[bytes], source: PeerId | None) -> None:
        """Pass on: validators to all validators, others to a few."""
        voters = [voter.peer for voter in self._archive.head.state.validators]
        others = [p for p in self._host.connected() if p not in (source, self._host.peer)]
        targets = [peer for peer in others if peer in voters]
        if self._host.peer not in voters:
            targets = targets[:FAN_OUT] or (others[:FAN_OUT] if source is None else [])
        for peer in targets:
            self.courier.post(peer, transactions)

    def _settle(self, final: FinalBlock) -> None:
        """Forget what has landed; offer again what should have."""
        self._taken.clear()
        self._pool.remove(final.block.transactions)
        for data in final.block.transactions:
            name = transaction_digest(data)
            if name in self._own:
                self._drop(name)
                self._landed.append((name, final.height))
        if final.height % PRUNE_BLOCKS == 0:
            self._pool.prune(final.state)
        for name, (data, height) in list(self._own.items()):
            if final.height - height >= OFFER_BLOCKS:
                self._offer_again(name, data, final)

    def _offer_again(self, name: Digest, data: bytes, final: FinalBlock) -> None:
        try:
            if name not in self._pool:
                self._pool.add(data, final.state)
            check_transaction(final.state, data, known=self._pool.known)
        except InvalidStatement as error:
            if error.reason is not Reason.WRONG_ROUND:
                log.info("a transaction of ours can be in no block: %s", error)
                self._drop(name)
                return
        self._own[name] = (data, final.height)
        self._offer([data], None)

    def _drop(self, name: Digest) -> None:
        self._own.pop(name, None)
        self._nonces.pop(name, None)
