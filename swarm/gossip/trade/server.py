"""Serve our fragments to the partners that request them, packed in advance.

Shell: owns the waiting and the worker threads; decides nothing.
"""

import trio

from swarm.errors import Unreachable, UsageError
from swarm.executor import ExecutorPort
from swarm.gossip.trade.messages import (
    Busy,
    ChunkRequest,
    Chunks,
    Codec,
    FirstChunks,
    FragmentKey,
    NotYet,
    Offered,
    OfferRequest,
    Receipt,
    Taken,
    check_count,
    check_key,
    decode_exchange_request,
    sign_offer,
    verify_receipt,
)
from swarm.gossip.trade.outbox import LinkSpeeds, Outbox, PublishedFragment, check_range
from swarm.gossip.trade.payload import choose_codec, pack
from swarm.gossip.trade.pull import ASK_GRACE_S, ASK_WAIT_S
from swarm.primitives.codec import encode
from swarm.primitives.crypto import SecretKey
from swarm.types import Digest, PeerId

OFFER_TURNS = 5
"""Turns of the event loop that an answer takes from its handler to the link: an offer sent behind the first
frame of chunks is read a tenth of a second later on a link of 20 Mbit/s, and so is the next request."""


class TradeServer:
    """Server side of trades: answers requests for offers and chunks, and receipts."""

    def __init__(
        self, secret: SecretKey, chain: Digest, compute: ExecutorPort, desk: Outbox | None
    ) -> None:
        self.desk = desk or Outbox()
        self._secret = secret
        self._chain = chain
        self._compute = compute
        self._lines = LinkSpeeds()
        self._news = trio.Event()
        self._offers = trio.Event()
        self._receipts = trio.Event()
        self._packing = trio.Lock()

    def published(self) -> None:
        """Wake the requests that are parked for a fragment."""
        self._news.set()
        self._news = trio.Event()

    async def prepare(self, key: FragmentKey) -> None:
        """Pack a fragment for a partner with our anchor, while its request is on its way."""
        given = self.desk.given(key)
        if given is None or given.partner is None:
            return
        anchor_root = given.snapshot.anchor_root
        try:
            codec = choose_codec(given.snapshot.codec, anchor_root, anchor_root)
            await self._pack(given, codec, given.partner)
        except Unreachable:
            return  # The partner is told when it asks.

    async def acknowledged(self, key: FragmentKey, deadline: float) -> PublishedFragment | None:
        """Return a fragment of ours once its partner's receipt is here; None if none came by ``deadline``."""
        with trio.move_on_at(deadline):
            while (given := self.desk.given(key)) is not None:
                if given.receipt is not None:
                    return given
                await self._receipts.wait()
        return None

    async def answer(self, peer: PeerId, raw: bytes) -> bytes:
        """Answer one request; raises ``PeerFault`` if no honest peer sends it, ``Unreachable`` to decline."""
        message = decode_exchange_request(raw)
        match message:
            case OfferRequest():
                return encode(await self._offer(peer, message))
            case FirstChunks():
                return await self._first(peer, message)
            case ChunkRequest(payload_hash, first, count):
                return self._chunks(payload_hash, first, count, peer)
            case Receipt():
                verify_receipt(peer, self._chain, message)
                self.desk.acknowledge(message, peer)
                self._measure(message, peer)
                self._receipts.set()
                self._receipts = trio.Event()
                return encode(Taken())

    async def _offer(self, peer: PeerId, asked: OfferRequest) -> Offered | NotYet | Busy:
        check_key(asked.key)
        check_count("wait", asked.wait_ms)
        check_count("seat", asked.to_seat)
        given = self.desk.find(asked.key, peer, asked.to_seat)
        if given is None:
            given = await self._parked(peer, asked)
        if given is None:
            return NotYet()
        if not given.admit(peer, asked.to_seat):
            return Busy()
        codec = _codec(given, asked.anchor_root)
        await self._pack(given, codec, peer)
        offer, listed = given.offers[codec], given.packed[codec].manifest
        given.offered[peer] = offer.payload_hash
        self._offers.set()
        self._offers = trio.Event()
        return Offered(offer, listed.hashes)

    async def _parked(self, peer: PeerId, asked: OfferRequest) -> PublishedFragment | None:
        given: PublishedFragment | None = None
        self.desk.park(peer)
        try:
            with trio.move_on_after(min(asked.wait_ms / 1000, ASK_WAIT_S)):
                while given is None:
                    await self._news.wait()
                    given = self.desk.find(asked.key, peer, asked.to_seat)
        finally:
            self.desk.unpark(peer)
        return given

    async def _first(self, peer: PeerId, asked: FirstChunks) -> bytes:
        """Return the first chunks of the payload offered to ``peer``, after its offer was answered.

        Requests are not parked: ``NotYet`` if the fragment is not published, or not offered within
        ``ASK_GRACE_S``.
        """
        check_key(asked.key)
        check_count("seat", asked.to_seat)
        check_range(asked.first, asked.count)
        given = self.desk.find(asked.key, peer, asked.to_seat)
        if given is None:
            return encode(NotYet())
        codec = _codec(given, asked.anchor_root)
        with trio.move_on_after(ASK_GRACE_S):
            while peer not in given.offered:
                await self._offers.wait()
            await self._pack(given, codec, peer)
        if peer not in given.offered or codec not in given.packed:
            return encode(NotYet())
        for _ in range(OFFER_TURNS):
            await trio.lowlevel.checkpoint()
        packed = given.packed[codec]
        count = min(asked.count, packed.manifest.num_chunks - asked.first)
        if count <= 0:
            return encode(Chunks(()))
        return self._chunks(packed.offer.payload_hash, asked.first, count, peer)

    def _chunks(self, payload_hash: Digest, first: int, count: int, peer: PeerId) -> bytes:
        chunks = self.desk.chunks(payload_hash, first, count, peer)
        self._lines.began(payload_hash, peer, trio.current_time())
        return encode(chunks)

    def _measure(self, receipt: Receipt, peer: PeerId) -> None:
        given = self.desk.given(receipt.key)
        packed = None if given is None else given.acknowledged
        if packed is not None:
            now = trio.current_time()
            self._lines.arrived(receipt.payload_hash, peer, len(packed.wire), now)

    async def _pack(self, given: PublishedFragment, codec: Codec, peer: PeerId) -> None:
        """Pack a fragment for the link to ``peer``, once; raises ``Unreachable`` if it cannot be encoded."""
        async with self._packing:  # One at a time: a second request waits for the first result.
            if codec in given.packed:
                return
            is_plain = self._lines.is_fast(peer)
            try:
                packed = await self._compute.run(pack, given.key, given.snapshot, codec, is_plain)
            except UsageError as error:
                raise Unreachable(f"nothing fit to send: {error}") from None
            given.packed[codec] = packed = self.desk.settled(packed)
            given.offers[codec] = sign_offer(self._secret, self._chain, packed.offer)


def _codec(given: PublishedFragment, anchor_root: Digest) -> Codec:
    return choose_codec(given.snapshot.codec, given.snapshot.anchor_root, anchor_root)
