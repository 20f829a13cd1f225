"""Carry trades over real links: the door of the gossip room.

Shell: owns the waiting, the worker threads and the blame; decides nothing.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import trio
from torch import Tensor

from swarm.codec import encode
from swarm.compute import ComputePort
from swarm.crypto import SecretKey
from swarm.errors import PeerFault, Unreachable, UsageError
from swarm.gossip.desk import PARKED_MAX, Desk, Given
from swarm.gossip.exchange import (
    ASK_WAIT_S,
    Accepted,
    Call,
    Deliver,
    GiveUp,
    Pull,
    Snapshot,
    Wanted,
    choose_codec,
    open_payload,
    pack,
)
from swarm.gossip.gather import Effect, Gather
from swarm.gossip.messages import (
    NO_SIGNATURE,
    REPLY_BYTES_MAX,
    REQUEST_BYTES_MAX,
    ChunkRequest,
    ExchangeReply,
    ExchangeRequest,
    FragmentKey,
    NotYet,
    Offer,
    Offered,
    OfferRequest,
    Receipt,
    Taken,
    check_count,
    check_key,
    decode_exchange_reply,
    decode_exchange_request,
    sign_offer,
    sign_receipt,
    verify_receipt,
)
from swarm.types import Bytes, Digest, PeerId

EXCHANGE_PROTOCOL = "/swarm/exchange/1"
RECEIPT_WAIT_S = 5.0
"""A receipt is a courtesy: its loss costs the giver a proof, not a trade, and no trade waits long for it."""
EXCHANGES_MAX = PARKED_MAX + 64
"""Exchange requests served at once: all that may be parked, which cost nothing, and room to serve chunks."""
EXCHANGES_PER_PEER_MAX = 40
"""What may be parked for one peer (``desk.PARKED_PER_PEER_MAX``) and room to serve its chunks."""

Handler = Callable[[PeerId, bytes], Awaitable[bytes]]


class Links(Protocol):
    """The part of ``swarm.host.Host`` that this room uses."""

    @property
    def peer(self) -> PeerId:
        """Our own key."""
        ...

    async def call(
        self,
        peer: PeerId,
        protocol: str,
        request: bytes,
        *,
        timeout_s: float,
        reply_limit: int = ...,
    ) -> bytes:
        """Ask and wait for the answer; raises ``Unreachable`` or ``PeerFault``."""
        ...

    def serve(
        self,
        protocol: str,
        handler: Handler,
        *,
        request_limit: int,
        concurrency: int = ...,
        per_peer: int = ...,
    ) -> None:
        """Answer requests; what the handler raises becomes blame or a refusal."""
        ...

    def blame(self, peer: PeerId, fault: PeerFault) -> None:
        """Count a fault against a peer."""
        ...


@dataclass(frozen=True, slots=True)
class Traded:
    """A fragment that arrived whole."""

    theta_hat: Tensor
    """The partner's theta (and phi behind it, where both travel): flat float32, finite."""
    payload: Bytes
    """The quantized bytes it was read from: what ``offer.payload_hash`` covers."""
    offer: Offer
    receipt: Receipt
    """What we signed for it."""
    my_payload_hash: Digest | None
    """What the partner was offered of ours so far; ``Trades.given`` tells what came later."""


class Trades:
    """Gives our fragments to their partners and pulls theirs."""

    def __init__(
        self,
        host: Links,
        secret: SecretKey,
        chain: Digest,
        compute: ComputePort,
        *,
        desk: Desk | None = None,
    ) -> None:
        self._host = host
        self._secret = secret
        self._chain = chain
        self._compute = compute
        self._desk = desk or Desk()
        self._news = trio.Event()
        self._receipts = trio.Event()
        self._packing = trio.Lock()
        host.serve(
            EXCHANGE_PROTOCOL,
            self._answer,
            request_limit=REQUEST_BYTES_MAX,
            concurrency=EXCHANGES_MAX,
            per_peer=EXCHANGES_PER_PEER_MAX,
        )

    def publish(self, key: FragmentKey, snapshot: Snapshot, *, partner: PeerId | None) -> None:
        """Put our fragment on the table (``key.seat`` is our seat); wakes whoever waits for it.

        Nobody may write to the snapshot's tensors afterwards. Raises ``UsageError`` if published twice
        or malformed.
        """
        self._desk.publish(key, snapshot, partner)
        self._news.set()
        self._news = trio.Event()

    def given(self, key: FragmentKey) -> Given | None:
        """What became of a fragment of ours; None once it is two rounds old."""
        return self._desk.given(key)

    async def acknowledged(self, key: FragmentKey, *, deadline: float) -> Given | None:
        """A fragment of ours once its partner's receipt is here; None when none came by ``deadline``."""
        with trio.move_on_at(deadline):
            while (given := self._desk.given(key)) is not None:
                if given.receipt is not None:
                    return given
                await self._receipts.wait()
        return None

    async def pull(
        self, wanted: Wanted, anchor: Tensor, *, mine: FragmentKey | None = None, deadline: float
    ) -> Traded | None:
        """Fetch the partner's fragment by ``deadline`` (trio's clock); None if there is no trade.

        The deadline bounds the transfer; opening what arrived in time takes as long as the workers need.
        ``anchor`` is flat float32 of ``wanted.numel`` values; ``mine`` is what we published in return.
        Lies are blamed on the partner, silence on nobody.
        """
        partner = wanted.partner
        machine = Pull(wanted, chain=self._chain, deadline=deadline)
        try:
            accepted = await self._ask(machine, partner)
            if accepted is None:
                return None
            delivered = await self._gather(accepted, partner, deadline)
            if delivered is None:
                return None
            payload, theta_hat = await self._compute.run(
                open_payload, delivered.offer, delivered.wire, anchor
            )
        except PeerFault as fault:
            self._host.blame(partner, fault)
            return None
        receipt = await self._acknowledge(wanted, delivered.offer, deadline)
        given = self._desk.given(mine) if mine is not None else None
        mine_hash = given.payload_hash if given else None
        return Traded(theta_hat, payload, delivered.offer, receipt, mine_hash)

    async def _ask(self, machine: Pull, partner: PeerId) -> Accepted | None:
        effect: Call | Accepted | GiveUp = machine.start(trio.current_time())
        while True:
            match effect:
                case Accepted():
                    return effect
                case GiveUp():
                    return None
                case Call(message, start_at, timeout_s):
                    await trio.sleep_until(start_at)
                    try:
                        reply = await self._call(partner, message, timeout_s)
                    except Unreachable:
                        effect = machine.lost(trio.current_time())
                    else:
                        effect = machine.receive(reply, trio.current_time())

    async def _gather(self, accepted: Accepted, partner: PeerId, deadline: float) -> Deliver | None:
        """Carry out the requests of one gathering, each in a task of its own; raises ``PeerFault``."""
        machine = Gather(accepted.offer, accepted.promised, deadline=deadline)
        ended: Deliver | GiveUp | PeerFault | None = None

        def carry_out(effects: tuple[Effect, ...]) -> None:
            nonlocal ended
            for effect in effects:
                if isinstance(effect, Call):
                    nursery.start_soon(carry, effect)
                else:
                    ended = effect
                    nursery.cancel_scope.cancel()

        async def carry(call: Call) -> None:
            nonlocal ended
            assert isinstance(call.message, ChunkRequest), "only chunks are gathered"
            await trio.sleep_until(call.start_at)
            try:
                reply = await self._call(partner, call.message, call.timeout_s)
                effects = machine.receive(call.message, reply, trio.current_time())
            except Unreachable:
                effects = machine.lost(call.message, trio.current_time())
            except PeerFault as fault:
                ended = fault
                nursery.cancel_scope.cancel()
                return
            carry_out(effects)

        async with trio.open_nursery() as nursery:
            carry_out(machine.start(trio.current_time()))
        if isinstance(ended, PeerFault):
            raise ended
        return ended if isinstance(ended, Deliver) else None

    async def _call(
        self, partner: PeerId, message: ExchangeRequest, timeout_s: float
    ) -> ExchangeReply:
        raw = await self._host.call(
            partner,
            EXCHANGE_PROTOCOL,
            encode(message),
            timeout_s=timeout_s,
            reply_limit=REPLY_BYTES_MAX,
        )
        return decode_exchange_reply(raw)

    async def _acknowledge(self, wanted: Wanted, offer: Offer, deadline: float) -> Receipt:
        unsigned = Receipt(wanted.key, wanted.to_seat, offer.payload_hash, NO_SIGNATURE)
        receipt = sign_receipt(self._secret, self._chain, unsigned)
        left_s = deadline - trio.current_time()
        if left_s <= 0:
            return receipt
        try:
            await self._call(wanted.partner, receipt, min(RECEIPT_WAIT_S, left_s))
        except Unreachable:
            pass
        except PeerFault as fault:
            self._host.blame(wanted.partner, fault)
        return receipt

    async def _answer(self, peer: PeerId, raw: bytes) -> bytes:
        message = decode_exchange_request(raw)
        match message:
            case OfferRequest():
                return encode(await self._offer(peer, message))
            case ChunkRequest(payload_hash, first, count):
                return encode(self._desk.chunks(payload_hash, first, count, peer))
            case Receipt():
                verify_receipt(peer, self._chain, message)
                self._desk.acknowledge(message, peer)
                self._receipts.set()
                self._receipts = trio.Event()
                return encode(Taken())

    async def _offer(self, peer: PeerId, asked: OfferRequest) -> Offered | NotYet:
        check_key(asked.key)
        check_count("wait", asked.wait_ms)
        given = self._desk.find(asked.key, peer)
        if given is None:
            given = await self._parked(peer, asked)
        return NotYet() if given is None else await self._packed(given, asked.anchor_root)

    async def _parked(self, peer: PeerId, asked: OfferRequest) -> Given | None:
        given: Given | None = None
        self._desk.park(peer)
        try:
            with trio.move_on_after(min(asked.wait_ms / 1000, ASK_WAIT_S)):
                while given is None:
                    await self._news.wait()
                    given = self._desk.find(asked.key, peer)
        finally:
            self._desk.unpark(peer)
        return given

    async def _packed(self, given: Given, anchor_root: Digest) -> Offered:
        snapshot = given.snapshot
        codec = choose_codec(snapshot.codec, snapshot.anchor_root, anchor_root)
        async with self._packing:  # One at a time: a second asker waits for the first one's result.
            if codec not in given.packed:
                try:
                    packed = await self._compute.run(pack, given.key, snapshot, codec)
                except UsageError as error:
                    raise Unreachable(f"nothing fit to send: {error}") from None
                given.packed[codec] = packed
                given.offers[codec] = sign_offer(self._secret, self._chain, packed.offer)
        offer, listed = given.offers[codec], given.packed[codec].manifest
        given.payload_hash = offer.payload_hash
        return Offered(offer, listed.hashes)
