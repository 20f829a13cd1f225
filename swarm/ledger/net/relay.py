"""Bring transactions to the validators, and send small statements to many peers in batches.

Shell: a transaction of this node is offered again until a block has it or no block can.

``Relay`` checks transactions and holds them; as news (``gossip/news``) they reach every peer once. Those that
are offered again, or that a validator misses, go to a few peers directly: news is looked at once.
``Broadcaster`` sends several statements in one frame, and a slow peer does not hold up the others.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import trio

from swarm.errors import (
    BadEncoding,
    BadSignature,
    BrokenPromise,
    InvalidStatement,
    PeerFault,
    Reason,
    Unreachable,
)
from swarm.gossip.news.router import Verdict
from swarm.gossip.news.service import News
from swarm.host.ports import Asks
from swarm.host.service import Host
from swarm.ledger.check_statements import ForcedError, TraceFraud
from swarm.ledger.free_joins import Origin
from swarm.ledger.mempool import Mempool
from swarm.ledger.net.archive import Archive, FinalBlock
from swarm.ledger.net.standing import Standings
from swarm.ledger.transactions import (
    TRANSACTION_BYTES_MAX,
    Body,
    FreeStatement,
    Join,
    Leave,
    parse_transaction,
    sign_transaction,
    transaction_digest,
)
from swarm.ledger.transition.apply import check_transaction
from swarm.ledger.transition.prices import sufficient_fee
from swarm.primitives.codec import Message, decode, encode
from swarm.primitives.crypto import SecretKey
from swarm.types import Amount, Digest, Height, PeerId

Item = TypeVar("Item")

QUEUE_MAX = 256
"""Statements queued for one peer: minutes of votes; the oldest are dropped first, they are the stalest."""
REPLY_BYTES_MAX = 16
"""Bytes of a reply at most: it is an empty acknowledgement."""
CALL_TIMEOUT_S = 5.0
REST_S = 0.25
"""Seconds of rest after the first failed call; doubled by every further failure up to ``REST_MAX_S``."""
REST_MAX_S = 4.0
PEERS_MAX = 256


class Broadcaster(Generic[Item]):
    """Batching sender with one queue per peer; ``run`` serves the queues until cancelled."""

    def __init__(
        self,
        host: Asks,
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
        """Send what is posted, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for peer in self._queues:
                nursery.start_soon(self._serve, peer)
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None  # items posted after this are only queued

    def post(self, peer: PeerId, items: Sequence[Item]) -> None:
        """Queue items for a peer; the oldest are dropped when its queue is full.

        Ignored for a new peer when ``PEERS_MAX`` queues exist.
        """
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
        """Send one frame; return True if the peer accepted it.

        A lost frame is not sent again: peers request what they lack.
        """
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


PROTOCOL = "/swarm/transactions/3"
TOPIC = "transactions"
"""Topic of news that every node takes: a follower checks early what it would check in a block."""
BATCH_MAX = 256
"""Transactions in one frame."""
BATCH_BYTES_MAX = 512 << 10
FAN_OUT = 3
"""Validators, or peers if none is connected, that are sent directly what is offered again."""
OWN_MAX = 64
"""Transactions of this node under way at one time."""
OFFER_BLOCKS = 3
"""Blocks after which a transaction of this node that is in none of them is offered again."""
PRUNED_MAX = 256
"""Transactions of the mempool that are looked at after a block: can they be in any block still? A full pool has
been gone through after 20 blocks."""
FLOOD_MAX = 512
"""Transactions examined between two blocks from one peer with standing, or from one origin of others: more than
a block's worth comes from many."""

log = logging.getLogger("swarm.ledger")


class TransactionBatch(Message, frozen=True):
    """One frame of the transactions protocol."""

    transactions: tuple[bytes, ...]


class Relay:
    """Submission of this node's transactions and forwarding of other peers'."""

    def __init__(
        self, archive: Archive, pool: Mempool, secret: SecretKey, host: Host, news: News
    ) -> None:
        self._archive, self._pool, self._secret, self._host = archive, pool, secret, host
        self._news, self._standings = news, Standings(lambda: archive.head.state)
        self._own: dict[Digest, tuple[bytes, Height]] = {}
        self._nonces: dict[Digest, int] = {}
        self._taken: dict[PeerId | str, int] = {}
        self._landed: deque[tuple[Digest, Height]] = deque(maxlen=4 * OWN_MAX)
        self._finals = archive.subscribe()
        self._moved = trio.Condition()
        self.broadcaster = Broadcaster[bytes](
            host,
            PROTOCOL,
            lambda batch: encode(TransactionBatch(tuple(batch))),
            frame_items_max=BATCH_MAX,
            frame_bytes_max=BATCH_BYTES_MAX,
            size_of=len,
        )
        limit = BATCH_BYTES_MAX + TRANSACTION_BYTES_MAX + 8 * BATCH_MAX
        host.serve(PROTOCOL, self._answer, request_limit=limit)
        news.join(TOPIC, self._judge)

    async def run(self) -> None:
        """Forward transactions, and clean up after every final block, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.broadcaster.run)
            async for final in self._finals:
                self._settle(final)
                async with self._moved:
                    self._moved.notify_all()

    def submit(self, body: Body) -> Digest:
        """Sign a statement of this node and send it to validators; return the transaction's digest.

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
        self._news.publish(TOPIC, data)
        return name

    def try_submit(self, body: Body) -> None:
        """Submit a statement that others submit, too: the first one counts, and the rest are refused."""
        try:
            self.submit(body)
        except InvalidStatement as refusal:
            log.info("a statement of ours was refused: %s", refusal)

    @property
    def traffic(self) -> tuple[int, int]:
        """Bytes and frames sent, those of all news included."""
        sent = self.broadcaster
        return sent.num_bytes + self._news.num_bytes, sent.num_frames + self._news.num_frames

    def remind(self, peer: PeerId, data: bytes) -> None:
        """Send a peer a transaction that it should have."""
        self.broadcaster.post(peer, [data])

    async def wait_final(self, name: Digest) -> Height:
        """Wait for the final block that holds a transaction of this node; return its height.

        Raises ``InvalidStatement`` if it can be in no block any more.
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
        if isinstance(body, FreeStatement):
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
        """Take transactions that a peer sends directly; those that are new and valid are news to others."""
        batch = decode(TransactionBatch, request)
        if len(batch.transactions) > BATCH_MAX:
            raise BadEncoding("too many transactions in a frame")
        for data in batch.transactions:
            verdict = self._judge(peer, data)
            if verdict is Verdict.ACCEPT:
                self._news.publish(TOPIC, data)
            await trio.lowlevel.checkpoint()
        return b""

    def _judge(self, peer: PeerId, data: bytes) -> Verdict:
        """Take a transaction that a peer brought into the mempool; raise ``PeerFault`` if it is to blame."""
        state = self._archive.head.state
        is_known = self._standings.has_any(peer)
        payer = peer if is_known else self._host.origin(peer) or peer
        if self._taken.get(payer, 0) >= FLOOD_MAX:
            return Verdict.SKIP
        self._taken[payer] = self._taken.get(payer, 0) + 1
        try:
            is_new = self._pool.add(data, state, Origin(peer, self._host.network(peer)))
        except InvalidStatement as refusal:
            if refusal.reason is Reason.BAD_SIGNATURE:
                # Other reasons can come from a difference in height; a bad signature never does.
                raise BadSignature("a transaction without a valid signature") from None
            if refusal.reason is Reason.BAD_PROOF and _is_proof(data):
                # Nor does a trace that proves nothing, and each costs a judgement without a fee.
                raise BrokenPromise("a proof of a lie that proves nothing") from None
            # What has no room by the share of who brought it may have some by that of another.
            return Verdict.SKIP if refusal.reason is Reason.FULL else Verdict.IGNORE
        return Verdict.ACCEPT if is_new else Verdict.IGNORE

    def _offer(self, transactions: Sequence[bytes]) -> None:
        """Send transactions of this node directly: to a few validators, or to peers if none is connected."""
        voters = [voter.peer for voter in self._archive.head.state.validators]
        others = [peer for peer in self._host.connected() if peer != self._host.peer]
        targets = [peer for peer in others if peer in voters]
        if self._host.peer not in voters:
            targets = targets[:FAN_OUT] or others[:FAN_OUT]
        for peer in targets:
            self.broadcaster.post(peer, transactions)

    def _settle(self, final: FinalBlock) -> None:
        """Forget transactions that are final; offer this node's overdue ones again."""
        self._taken.clear()
        self._pool.remove(final.block.transactions)
        for data in final.block.transactions:
            name = transaction_digest(data)
            if name in self._own:
                self._drop(name)
                self._landed.append((name, final.height))
        self._pool.prune(final.state, PRUNED_MAX)
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
        self._offer([data])

    def _drop(self, name: Digest) -> None:
        self._own.pop(name, None)
        self._nonces.pop(name, None)


def _is_proof(data: bytes) -> bool:
    return isinstance(parse_transaction(data).body, TraceFraud | ForcedError)
