"""Hold the outgoing fragments of this node until their receipts, and estimate each partner's link speed.

Core: tables with limits.

    published --request--> packed with the codec both sides can use --chunks--> sent --receipt--> acknowledged
    link speed:            packed --first chunk sent--> in transit --receipt--> measured

A fragment is for the partner that the beacon drew and, first come first served, for a limited number of
fallback partners: peers whose own partner failed. Fragments are kept for their round and the next one. A
request that comes too early is parked by the shell; this module limits how many are parked.

The link speed decides whether compression is worth its time. It is not announced, and no partner has to be
trusted: one that delays its receipt gets compressed payloads, as does every partner whose link has not been
measured.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from swarm.errors import OutOfTurn, Unreachable, UsageError
from swarm.gossip.codecs.int8 import VALUES_MAX
from swarm.gossip.trade.messages import (
    CHUNKS_PER_REPLY_MAX,
    EXCHANGE_CHUNK_BYTES,
    Chunks,
    Codec,
    FragmentKey,
    Offer,
    Receipt,
)
from swarm.gossip.trade.payload import FragmentPayload, Packed, check_snapshot
from swarm.primitives.codec import replace as changed
from swarm.types import Digest, PeerId, RoundIndex, RunIndex

ROUNDS_KEPT = 2
"""Rounds whose fragments are kept, the newest and the one before: a later requester adopts a state instead."""
EARLY_ROUNDS_MAX = 1
"""Rounds by which a request may precede its fragment (docs/spec/protocol.md section 4)."""
FRAGMENTS_MAX = 256
"""Published fragments: several seats of eight fragments for two rounds."""
PUBLISHED_BYTES_MAX = 4 << 30
"""Bytes of memory for published fragments; the oldest are dropped first."""
PARKED_MAX = 256
"""Requests parked at once, of all peers together."""
PARKED_PER_PEER_MAX = 32
"""Requests parked at once from one peer: several seats of eight fragments."""


@dataclass(frozen=True, slots=True)
class StandbyReceivers:
    """Rule that admits fallback partners: peers that lost their own partner, up to a limit."""

    is_one: Callable[[int, PeerId], bool]
    """Predicate of (seat, peer): True if that peer may step in. Called only when a peer asks."""
    most: int


NO_STANDBY = StandbyReceivers(lambda _seat, _peer: False, 0)
"""Rule without fallback partners: only the drawn partner gets the fragment."""


NoteOffer = Callable[[Offer], bool]
"""Function that puts an offer on the list of what its seat has sent; False if the list is closed, and the offer
must not be signed any more."""


@dataclass(slots=True)
class PublishedFragment:
    """Published fragment and its delivery state."""

    key: FragmentKey
    snapshot: FragmentPayload
    partner: PeerId | None
    """Partner that the beacon drew; None if it drew none."""
    fallbacks: StandbyReceivers = NO_STANDBY
    note: NoteOffer | None = None
    """Called with each offer before it is signed; None where nothing lists them."""
    receivers: dict[PeerId, int] = field(default_factory=dict[PeerId, int])
    """Seats of the fallback partners admitted so far, by peer."""
    packed: dict[Codec, Packed] = field(default_factory=dict[Codec, Packed])
    offers: dict[Codec, Offer] = field(default_factory=dict[Codec, Offer])
    offered: dict[PeerId, Digest] = field(default_factory=dict[PeerId, Digest])
    """Hash of the payload that each requester was offered last, by peer."""
    receipt: Receipt | None = None
    """Receipt of the drawn partner; None until it arrives."""

    def is_for(self, peer: PeerId) -> bool:
        """Return True if a peer is the drawn partner or an admitted fallback partner."""
        return peer == self.partner or peer in self.receivers

    def admit(self, peer: PeerId, seat: int) -> bool:
        """Admit a requester that may have the fragment; return False if too many others were admitted."""
        if not self.is_for(peer):
            if len(self.receivers) >= self.fallbacks.most:
                return False
            self.receivers[peer] = seat
        return True

    @property
    def num_bytes(self) -> int:
        """Bytes of memory this takes: theta, its share of the anchor, residuals, and packed payloads."""
        numel, packed = self.snapshot.theta.numel(), self.packed.values()
        residuals = (self.snapshot.residual, *(one.residual for one in packed))
        left = sum(residual is not None for residual in residuals)
        return (8 + 4 * left) * numel + sum(len(one.wire) for one in packed)

    @property
    def acknowledged(self) -> Packed | None:
        """Payload that the partner's receipt names; None until there is a receipt."""
        name = None if self.receipt is None else self.receipt.payload_hash
        packed = self.packed.values()
        return next((one for one in packed if one.offer.payload_hash == name), None)


class Outbox:
    """Outgoing fragments of this node, by key."""

    def __init__(self, *, bytes_max: int = PUBLISHED_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._published: dict[FragmentKey, PublishedFragment] = {}
        self._newest: dict[RunIndex, RoundIndex] = {}
        self._parked: dict[PeerId, int] = {}

    def publish(
        self,
        key: FragmentKey,
        snapshot: FragmentPayload,
        partner: PeerId | None,
        fallbacks: StandbyReceivers = NO_STANDBY,
        outdated: Iterable[FragmentKey] = (),
        note: NoteOffer | None = None,
    ) -> None:
        """Add a fragment for ``partner`` and its fallback partners; drop fragments that are too old.

        ``outdated`` are those of earlier exchanges that this one replaces; of old rounds all are dropped.
        Raises ``UsageError`` if it is already published, malformed, or too old itself.
        """
        check_snapshot(snapshot)
        if key in self._published:
            raise UsageError("a fragment is published once")
        newest = max(self._newest.get(key.run, key.round), key.round)
        if key.round <= newest - ROUNDS_KEPT:
            raise UsageError("a fragment of a round that is over")
        self._newest[key.run] = newest
        self._published[key] = PublishedFragment(key, snapshot, partner, fallbacks, note)
        old = [k for k in self._published if k.run == key.run and k.round <= newest - ROUNDS_KEPT]
        for stale in (*old, *outdated):
            self._published.pop(stale, None)
        self._make_room(key)

    def find(self, key: FragmentKey, peer: PeerId, seat: int) -> PublishedFragment | None:
        """Return the fragment that ``peer`` in seat ``seat`` asks for; None if it is not published yet.

        Raises ``Unreachable`` if it never will be: it is for another partner, too old, or too far ahead.
        """
        fragment = self._published.get(key)
        if fragment is None:
            newest = self._newest.get(key.run, key.round)
            if not newest - ROUNDS_KEPT < key.round <= newest + EARLY_ROUNDS_MAX:
                raise Unreachable(f"round {key.round} is not traded here now")
            return None
        if not fragment.is_for(peer) and not fragment.fallbacks.is_one(seat, peer):
            raise Unreachable("this fragment is for another partner")
        return fragment

    def published(self, key: FragmentKey) -> PublishedFragment | None:
        """Return a fragment of ours with its delivery state; None if it was never published or is too old."""
        return self._published.get(key)

    def chunks(self, payload_hash: Digest, first: int, count: int, peer: PeerId) -> Chunks:
        """Return the chunks that a partner asks for.

        Raises ``OutOfTurn`` for a range outside the payload, ``Unreachable`` if the payload is gone or not for
        ``peer``.
        """
        packed = self._packed(payload_hash, peer)
        check_range(first, count)
        if first + count > packed.manifest.num_chunks:
            raise OutOfTurn("chunks past the end of the payload")
        size = EXCHANGE_CHUNK_BYTES
        starts = range(first * size, (first + count) * size, size)
        wire = memoryview(packed.wire)
        return Chunks(tuple(wire[start : start + size] for start in starts))

    def settled(self, packed: Packed) -> Packed:
        """Return ``packed`` with the wire bytes of an equal payload that is already here, if there is one.

        Chunks are requested by payload hash alone, so one payload may have only one form on the wire.
        """
        for one in (
            one for fragment in self._published.values() for one in fragment.packed.values()
        ):
            if one.offer.payload_hash == packed.offer.payload_hash:
                changes = {"wire_bytes": one.offer.wire_bytes, "chunk_root": one.offer.chunk_root}
                offer = changed(packed.offer, **changes)
                return replace(packed, offer=offer, wire=one.wire, manifest=one.manifest)
        return packed

    def acknowledge(self, receipt: Receipt, peer: PeerId) -> None:
        """Record a verified receipt of the drawn partner.

        Receipts of fallback partners, and of fragments that are no longer kept, are ignored. Raises
        ``OutOfTurn`` if the payload was never offered or ``peer`` was not admitted.
        """
        fragment = self._published.get(receipt.key)
        if fragment is None:
            return  # The round is over, and the receipt is of no use any more.
        offered = {packed.offer.payload_hash for packed in fragment.packed.values()}
        if not fragment.is_for(peer) or receipt.payload_hash not in offered:
            raise OutOfTurn("a receipt for what was never offered")
        if peer == fragment.partner:
            fragment.receipt, fragment.offered[peer] = receipt, receipt.payload_hash

    def park(self, peer: PeerId) -> None:
        """Count one more parked request; raises ``Unreachable`` if there is no room."""
        mine = self._parked.get(peer, 0)
        if mine >= PARKED_PER_PEER_MAX or sum(self._parked.values()) >= PARKED_MAX:
            raise Unreachable("too many asks are waiting here")
        self._parked[peer] = mine + 1

    def unpark(self, peer: PeerId) -> None:
        """Count one parked request less: it was answered or went away."""
        self._parked[peer] -= 1
        if not self._parked[peer]:
            del self._parked[peer]

    def _packed(self, payload_hash: Digest, peer: PeerId) -> Packed:
        for fragment in self._published.values():
            for packed in fragment.packed.values():
                if packed.offer.payload_hash == payload_hash and fragment.is_for(peer):
                    return packed
        raise Unreachable("that payload is not offered here any more")

    def _make_room(self, newest: FragmentKey) -> None:
        total = sum(fragment.num_bytes for fragment in self._published.values())
        for key in sorted(
            self._published, key=lambda k: (k.round, k.run, k.stage, k.exchange, k.seat)
        ):
            if total <= self._bytes_max and len(self._published) <= FRAGMENTS_MAX:
                return
            if key != newest:
                total -= self._published.pop(key).num_bytes


def check_range(first: int, count: int) -> None:
    """Raise ``OutOfTurn`` for a range of chunks that no honest peer requests, whatever the payload."""
    if not (1 <= count <= CHUNKS_PER_REPLY_MAX and 0 <= first <= VALUES_MAX):
        raise OutOfTurn("an absurd range of chunks")


KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")

FAST_BYTES_PER_S = 12.5e6
"""Bytes per second above which payloads are not compressed, 100 Mbit/s. zstandard takes 2.3 ns for a byte of
int8, both ends together, and saves a seventeenth of it, which such a link carries in 4.7 ns. On a faster one a
trade gains less than 3%, and processor time is scarce."""
PEERS_MAX = 1024
"""Partners remembered; the one measured longest ago is dropped first."""
UNDERWAY_MAX = 256
"""Payloads in transit: as many as fragments are kept."""


@dataclass(frozen=True, slots=True)
class _Underway:
    peer: PeerId
    began_at: float


class LinkSpeeds:
    """Link speed estimates by partner, in bytes per second of the last payload."""

    def __init__(self) -> None:
        self._underway: dict[Digest, _Underway] = {}
        self._bytes_per_s: dict[PeerId, float] = {}

    def began(self, payload_hash: Digest, peer: PeerId, now: float) -> None:
        """Record that a chunk of a payload was sent; only the first one counts."""
        if payload_hash not in self._underway:
            self._underway[payload_hash] = _Underway(peer, now)
            _limit(self._underway, UNDERWAY_MAX)

    def arrived(self, payload_hash: Digest, peer: PeerId, wire_bytes: int, now: float) -> None:
        """Record that the partner's receipt for a payload arrived."""
        underway = self._underway.pop(payload_hash, None)
        if underway is None or underway.peer != peer or now <= underway.began_at:
            return
        self._bytes_per_s.pop(peer, None)
        self._bytes_per_s[peer] = wire_bytes / (now - underway.began_at)
        _limit(self._bytes_per_s, PEERS_MAX)

    def is_fast(self, peer: PeerId) -> bool:
        """Return True if a payload should travel uncompressed; False for a link that was never measured."""
        return self._bytes_per_s.get(peer, 0.0) > FAST_BYTES_PER_S


def _limit(table: dict[KeyT, ValueT], most: int) -> None:
    """Drop the oldest entries."""
    while len(table) > most:
        del table[next(iter(table))]
