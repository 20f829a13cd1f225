"""Trade one fragment with one partner: each side pulls the other's.

Core: time comes in as ``now``, wishes go out as effects.

    ASKING --offer--> ACCEPTED
      |  ^NotYet
      +--- Busy, the deadline, or too many retries --> FAILED

``Pull`` is the side that asks; ``gather.py`` then brings in the chunks. What arrives is opened by
``open_payload``, which is pure and slow and may run in a worker thread. The side that gives is ``desk.py``.
Source: docs/spec/protocol.md section 4.
"""

from dataclasses import dataclass
from enum import Enum, auto

import torch
from torch import Tensor

from swarm.errors import BrokenPromise, OutOfTurn, UsageError
from swarm.gossip.chunks import Manifest, check_manifest, manifest
from swarm.gossip.int4 import decode_int4, encode_int4, int4_bytes
from swarm.gossip.messages import (
    EXCHANGE_CHUNK_BYTES,
    NO_SIGNATURE,
    Busy,
    ChunkRequest,
    Codec,
    ExchangeReply,
    FragmentKey,
    NotYet,
    Offer,
    Offered,
    OfferRequest,
    payload_digest,
    verify_offer,
)
from swarm.gossip.quantize import (
    VALUES_MAX,
    compress,
    decode_bf16,
    decode_f32,
    decode_int8,
    decompress,
    encode_bf16,
    encode_f32,
    encode_int8,
    int8_bytes,
)
from swarm.types import NO_DIGEST, Bytes, Digest, PeerId

ASK_WAIT_S = 5.0
"""How long one ask is parked at the giver: a lost frame costs no more than this before the next ask."""
ASK_GRACE_S = 2.0
"""What the asker waits beyond that before it takes silence for loss."""
ASKS_MAX = 64
"""Asks answered ``NotYet`` before the giver is taken to be playing: over 5 minutes of honest parking."""
RETRIES_MAX = 8
"""Lost calls in one pull before it is given up: at a 10% loss rate one pull in 10^8."""
PAUSE_S = 0.25
"""First pause after a lost call; it doubles up to ``PAUSE_S_MAX``."""
PAUSE_S_MAX = 2.0


class Phase(Enum):
    """Where a pull stands."""

    ASKING = auto()
    ACCEPTED = auto()
    FAILED = auto()


@dataclass(frozen=True, slots=True)
class Call:
    """Effect: not before ``start_at``, send this and wait ``timeout_s`` for the answer."""

    message: OfferRequest | ChunkRequest
    start_at: float
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Accepted:
    """Effect: an offer that is what was wanted; gather its chunks."""

    offer: Offer
    promised: Manifest


@dataclass(frozen=True, slots=True)
class Deliver:
    """Effect: everything arrived and matches its hashes; open it."""

    offer: Offer
    wire: Bytes


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Effect: no trade this round."""

    reason: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one side wants: the partner's fragment, as seen from here."""

    key: FragmentKey
    """``key.seat`` is the partner's seat."""
    partner: PeerId
    to_seat: int
    """Index of our own seat."""
    anchor_root: Digest
    numel: int
    codec: Codec = Codec.INT8
    """What the run says of this round, where both sides have one anchor."""


class Pull:
    """One side of one trade. Feed it answers and the time; carry out what it returns."""

    def __init__(self, wanted: Wanted, *, chain: Digest, deadline: float) -> None:
        if not 0 < wanted.numel <= VALUES_MAX:
            raise UsageError(f"a fragment of {wanted.numel} values")
        self.phase = Phase.ASKING
        self.deadline: float | None = deadline
        self._end = deadline
        self._wanted = wanted
        self._chain = chain
        self._asks = 0
        self._retries = 0

    def start(self, now: float) -> Call | GiveUp:
        """Return the first thing to do."""
        return self._next(now)

    def receive(self, message: ExchangeReply, now: float) -> Call | Accepted | GiveUp:
        """Take one answer; raise ``PeerFault``, changing nothing, if no honest peer sends it."""
        if now >= self._end:
            return self.expire(now)
        match self.phase, message:
            case Phase.ASKING, NotYet():
                if self._asks >= ASKS_MAX:
                    raise OutOfTurn(f"not yet, {ASKS_MAX} times in one trade")
                return self._next(now)
            case Phase.ASKING, Busy():
                return self._fail("the partner gives to others in our place")
            case Phase.ASKING, Offered(offer, hashes):
                return self._accept(offer, hashes)
            case _:
                raise OutOfTurn(f"{type(message).__name__} while {self.phase.name}")

    def lost(self, now: float) -> Call | GiveUp:
        """The last call broke or timed out; ask the same again after a pause, within limits."""
        if now >= self._end:
            return self.expire(now)
        self._retries += 1
        if self._retries > RETRIES_MAX:
            return self._fail("the partner cannot be reached")
        pause_s = min(PAUSE_S * 2 ** (self._retries - 1), PAUSE_S_MAX)
        return self._next(now + pause_s)

    def expire(self, now: float) -> GiveUp:
        """End a pull whose time has come."""
        assert now >= self._end, "expired before the deadline"
        return self._fail("the deadline passed")

    def _accept(self, offer: Offer, hashes: bytes) -> Accepted:
        wanted = self._wanted
        if offer.key != wanted.key:
            raise OutOfTurn("an offer of another fragment than was asked for")
        verify_offer(wanted.partner, self._chain, offer)
        check_codec(offer, wanted.codec, wanted.anchor_root)
        if offer.num_bytes != payload_bytes(offer.codec, wanted.numel):
            raise BrokenPromise("an offer of the wrong size for this fragment")
        if not 0 < offer.wire_bytes <= offer.num_bytes:
            raise BrokenPromise("an offer that grows on the wire")
        promised = Manifest(offer.wire_bytes, EXCHANGE_CHUNK_BYTES, hashes)
        check_manifest(promised, offer.chunk_root)
        self.phase, self.deadline = Phase.ACCEPTED, None
        return Accepted(offer, promised)

    def _next(self, start_at: float) -> Call | GiveUp:
        left_s = self._end - start_at
        if left_s <= 0:
            return self._fail("the deadline passed")
        self._asks += 1
        wait_s = min(left_s, ASK_WAIT_S)
        wanted = self._wanted
        ask = OfferRequest(wanted.key, wanted.to_seat, wanted.anchor_root, int(wait_s * 1000))
        return Call(ask, start_at, min(left_s, wait_s + ASK_GRACE_S))

    def _fail(self, reason: str) -> GiveUp:
        self.phase, self.deadline = Phase.FAILED, None
        return GiveUp(reason)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A fragment as it was when its optimizer step reached the height of the trade.

    ``theta`` and ``anchor`` are flat float32 of equal length, and nobody writes to them any more. A run that
    trades slow weights too has them behind the fast ones, in one ``theta``, and the anchor twice.
    """

    theta: Tensor
    anchor: Tensor
    anchor_root: Digest
    step: int
    tokens: int
    codec: Codec = Codec.INT8
    """What the run says of this round, where both sides have one anchor."""
    residual: Tensor | None = None
    """As long as theta: what int4 has not said so far. Only int4 needs it."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A snapshot under one codec, ready to travel."""

    offer: Offer
    """Not signed yet."""
    manifest: Manifest
    wire: Bytes
    residual: Tensor | None = None
    """Of int4: what holds instead of the snapshot's once this payload has been acknowledged."""


def choose_codec(common: Codec, mine: Digest, theirs: Digest) -> Codec:
    """The ``common`` codec of the round where both sides have one anchor or need none, else bfloat16."""
    is_shared = mine == theirs and mine != NO_DIGEST
    return common if is_shared or common is Codec.F32 else Codec.BF16


def check_codec(offer: Offer, common: Codec, mine: Digest) -> None:
    """Raise ``BrokenPromise`` unless an offer is in the codec that follows from the round and both anchors."""
    due = choose_codec(common, offer.anchor_root, mine)
    if offer.codec is not due:
        raise BrokenPromise(f"{offer.codec.name} where the round and the anchors say {due.name}")


def payload_bytes(codec: Codec, numel: int) -> int:
    """Length of the quantized bytes of ``numel`` values."""
    match codec:
        case Codec.INT8:
            return int8_bytes(numel)
        case Codec.INT4:
            return int4_bytes(numel)
        case Codec.BF16:
            return 2 * numel
        case Codec.F32:
            return 4 * numel


def encode_payload(snapshot: Snapshot, codec: Codec) -> tuple[Bytes, Tensor | None]:
    """The quantized bytes, and the residual that holds once they have been acknowledged. Slow.

    Raises ``UsageError`` if the snapshot is not finite, or too far from its anchor for the codec.
    """
    match codec:
        case Codec.INT8:
            return encode_int8(snapshot.theta, snapshot.anchor), None
        case Codec.INT4:
            if snapshot.residual is None:
                raise UsageError("int4 needs the residual of what it said before")
            coded = encode_int4(snapshot.theta, snapshot.anchor, snapshot.residual)
            return coded.payload, coded.residual_N
        case Codec.BF16:
            return encode_bf16(snapshot.theta), None
        case Codec.F32:
            return encode_f32(snapshot.theta), None


def pack(key: FragmentKey, snapshot: Snapshot, codec: Codec, is_plain: bool = False) -> Packed:
    """Quantize, compress unless it is to stay ``is_plain``, and hash a snapshot. Slow.

    Raises ``UsageError`` if it is not finite.
    """
    payload, residual = encode_payload(snapshot, codec)
    wire = payload if is_plain else compress(payload)
    listed = manifest(wire, EXCHANGE_CHUNK_BYTES)
    offer = Offer(
        key,
        snapshot.step,
        snapshot.tokens,
        codec,
        snapshot.anchor_root,
        payload_digest(payload),
        len(payload),
        len(wire),
        listed.root,
        NO_SIGNATURE,
    )
    return Packed(offer, listed, wire, residual)


def read_payload(codec: Codec, payload: Bytes, anchor_N: Tensor) -> Tensor:
    """The partner's theta from its quantized bytes: float32 of the anchor's length. Slow.

    The same bits on every machine. Raises ``PeerFault`` for values that no honest peer sends.
    """
    match codec:
        case Codec.INT8:
            return decode_int8(payload, anchor_N, anchor_N.numel())
        case Codec.INT4:
            return decode_int4(payload, anchor_N, anchor_N.numel())
        case Codec.BF16:
            return decode_bf16(payload, anchor_N.numel())
        case Codec.F32:
            return decode_f32(payload, anchor_N.numel())


def open_payload(offer: Offer, wire: Bytes, anchor_N: Tensor) -> tuple[Bytes, Tensor]:
    """The partner's quantized bytes, and the theta they stand for. Slow.

    Raises ``PeerFault``: it does not unpack to what the offer promised, or has values no honest peer sends.
    """
    payload = decompress(wire, offer.num_bytes)
    if payload_digest(payload) != offer.payload_hash:
        raise BrokenPromise("a payload that is not the one promised")
    return payload, read_payload(offer.codec, payload, anchor_N)


def check_snapshot(snapshot: Snapshot) -> None:
    """Raise ``UsageError`` unless a snapshot has the form its users rely on."""
    theta, anchor = snapshot.theta, snapshot.anchor
    if theta.dtype != torch.float32 or anchor.dtype != torch.float32:
        raise UsageError("a snapshot is float32")
    if theta.dim() != 1 or theta.shape != anchor.shape or not 0 < theta.numel() <= VALUES_MAX:
        raise UsageError("a snapshot is flat, as long as its anchor, and not empty")
    residual = snapshot.residual
    if residual is not None and (residual.dtype, residual.shape) != (theta.dtype, theta.shape):
        raise UsageError("a residual is as long as its snapshot")
