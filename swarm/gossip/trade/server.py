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
from swarm.gossip.trade.pull import REQUEST_GRACE_S, REQUEST_WAIT_S
from swarm.primitives.codec import encode, replace
from swarm.primitives.crypto import SecretKey
from swarm.types import Digest, PeerId

OFFER_TURNS = 5
"""Turns of the event loop that an answer takes from its handler to the link: an offer sent behind the first
frame of chunks is read a tenth of a second later on a link of 20 Mbit/s, and so is the next request."""


class TradeServer:
    """Server side of trades: answers requests for offers and chunks, and receipts."""

    def __init__(
        self,
        secret: SecretKey,
        chain: Digest,
        compute: ExecutorPort,
        outbox: Outbox | None,
        incarnation: int = 0,
    ) -> None:
        self.outbox = outbox or Outbox()
        self._secret = secret
        self._chain = chain
        self._compute = compute
        self._incarnation = incarnation
        self._link_speeds = LinkSpeeds()
        self._publication = trio.Event()
        self._offers = trio.Event()
        self._receipts = trio.Event()
        self._packing = trio.Lock()

    def wake_parked(self) -> None:
        """Wake the requests that are parked for a fragment."""
        self._publication.set()
        self._publication = trio.Event()

    async def prepare(self, key: FragmentKey) -> None:
        """Pack a fragment for a partner with our anchor, while its request is on its way."""
        fragment = self.outbox.published(key)
        if fragment is None or fragment.partner is None:
            return
        anchor_root = fragment.snapshot.anchor_root
        try:
            codec = choose_codec(fragment.snapshot.codec, anchor_root, anchor_root)
            await self._pack(fragment, codec, fragment.partner)
        except Unreachable:
            return  # The partner is told when it asks.

    async def acknowledged(self, key: FragmentKey, deadline: float) -> PublishedFragment | None:
        """Return a fragment of ours once its partner's receipt is here; None if none came by ``deadline``."""
        with trio.move_on_at(deadline):
            while (fragment := self.outbox.published(key)) is not None:
                if fragment.receipt is not None:
                    return fragment
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
                self.outbox.acknowledge(message, peer)
                self._measure(message, peer)
                self._receipts.set()
                self._receipts = trio.Event()
                return encode(Taken())

    async def _offer(self, peer: PeerId, request: OfferRequest) -> Offered | NotYet | Busy:
        check_key(request.key)
        check_count("wait", request.wait_ms)
        check_count("seat", request.to_seat)
        fragment = self.outbox.find(request.key, peer, request.to_seat)
        if fragment is None:
            fragment = await self._parked(peer, request)
        if fragment is None:
            return NotYet()
        if not fragment.admit(peer, request.to_seat):
            return Busy()
        codec = _codec(fragment, request.anchor_root)
        await self._pack(fragment, codec, peer)
        offer, listed = fragment.offers[codec], fragment.packed[codec].manifest
        fragment.offered[peer] = offer.payload_hash
        self._offers.set()
        self._offers = trio.Event()
        return Offered(offer, listed.hashes)

    async def _parked(self, peer: PeerId, request: OfferRequest) -> PublishedFragment | None:
        fragment: PublishedFragment | None = None
        self.outbox.park(peer)
        try:
            with trio.move_on_after(min(request.wait_ms / 1000, REQUEST_WAIT_S)):
                while fragment is None:
                    await self._publication.wait()
                    fragment = self.outbox.find(request.key, peer, request.to_seat)
        finally:
            self.outbox.unpark(peer)
        return fragment

    async def _first(self, peer: PeerId, request: FirstChunks) -> bytes:
        """Return the first chunks of the payload offered to ``peer``, after its offer was answered.

        Requests are not parked: ``NotYet`` if the fragment is not published, or not offered within
        ``REQUEST_GRACE_S``.
        """
        check_key(request.key)
        check_count("seat", request.to_seat)
        check_range(request.first, request.count)
        fragment = self.outbox.find(request.key, peer, request.to_seat)
        if fragment is None:
            return encode(NotYet())
        codec = _codec(fragment, request.anchor_root)
        with trio.move_on_after(REQUEST_GRACE_S):
            while peer not in fragment.offered:
                await self._offers.wait()
            await self._pack(fragment, codec, peer)
        if peer not in fragment.offered or codec not in fragment.packed:
            return encode(NotYet())
        for _ in range(OFFER_TURNS):
            await trio.lowlevel.checkpoint()
        packed = fragment.packed[codec]
        count = min(request.count, packed.manifest.num_chunks - request.first)
        if count <= 0:
            return encode(Chunks(()))
        return self._chunks(packed.offer.payload_hash, request.first, count, peer)

    def _chunks(self, payload_hash: Digest, first: int, count: int, peer: PeerId) -> bytes:
        chunks = self.outbox.chunks(payload_hash, first, count, peer)
        self._link_speeds.began(payload_hash, peer, trio.current_time())
        return encode(chunks)

    def _measure(self, receipt: Receipt, peer: PeerId) -> None:
        fragment = self.outbox.published(receipt.key)
        packed = None if fragment is None else fragment.acknowledged
        if packed is not None:
            now = trio.current_time()
            self._link_speeds.arrived(receipt.payload_hash, peer, len(packed.wire), now)

    async def _pack(self, fragment: PublishedFragment, codec: Codec, peer: PeerId) -> None:
        """Pack a fragment for the link to ``peer``, once.

        Raises ``Unreachable`` if it cannot be encoded, or if its seat may sign nothing more about it.
        """
        async with self._packing:  # One at a time: a second request waits for the first result.
            if codec in fragment.packed:
                return
            is_plain = self._link_speeds.is_fast(peer)
            try:
                packed = await self._compute.run(
                    pack, fragment.key, fragment.snapshot, codec, is_plain
                )
            except UsageError as error:
                raise Unreachable(f"nothing fit to send: {error}") from None
            packed = self.outbox.settled(packed)
            offer = replace(packed.offer, incarnation=self._incarnation)
            if fragment.note is not None and not fragment.note(offer):
                raise Unreachable("the segment of this fragment is over")
            fragment.packed[codec] = packed
            fragment.offers[codec] = sign_offer(self._secret, self._chain, offer)


def _codec(fragment: PublishedFragment, anchor_root: Digest) -> Codec:
    return choose_codec(fragment.snapshot.codec, fragment.snapshot.anchor_root, anchor_root)
