"""What this node has to give: fragments published, asked for, handed out and receipted.

Core: a table with limits.

    published --ask--> packed under the codec both sides can use --chunks--> handed out --receipt--> given

A fragment is for the partner that was drawn, and for a few of those who may step in for one that failed: the
first who ask. Fragments are kept for the round they belong to and the next one. Who asks too early is parked,
within limits, by the shell; this file says who may park.

How fast what we gave has reached each partner, and so whether fewer bytes are worth the time to make them.

    given --first chunk handed out--> on its way --receipt--> measured

Nobody tells us the speed of a line, and no partner has to be believed: one that delays its receipt gets fewer
bytes, which is what is done for everybody whose line has not been measured.
"""

from collections.abc import Callable
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
"""Fragments of this round and the one before: a later asker is a laggard and adopts instead."""
EARLY_ROUNDS_MAX = 1
"""An ask may come this many rounds before its fragment (docs/spec/protocol.md section 4)."""
FRAGMENTS_MAX = 256
"""Published fragments: several seats of eight fragments for two rounds."""
PUBLISHED_BYTES_MAX = 4 << 30
"""Memory for what is published; the oldest goes first."""
PARKED_MAX = 256
"""Asks parked at once, from everybody."""
PARKED_PER_PEER_MAX = 32
"""Asks parked at once from one peer: several seats of eight fragments."""


@dataclass(frozen=True, slots=True)
class StandbyReceivers:
    """Who besides the drawn partner may have a fragment: whoever lost its own partner, within a limit."""

    is_one: Callable[[int, PeerId], bool]
    """Whether a peer in a seat may step in; a function of the round, asked only when somebody asks."""
    most: int


NO_STANDBY = StandbyReceivers(lambda _seat, _peer: False, 0)
"""Only the drawn partner gets the fragment."""


@dataclass(slots=True)
class PublishedFragment:
    """One published fragment and what became of it."""

    key: FragmentKey
    snapshot: FragmentPayload
    partner: PeerId | None
    """Whom the beacon drew; None where it drew nobody."""
    fallbacks: StandbyReceivers = NO_STANDBY
    takers: dict[PeerId, int] = field(default_factory=dict[PeerId, int])
    """Who stepped in so far, and in which seat."""
    packed: dict[Codec, Packed] = field(default_factory=dict[Codec, Packed])
    offers: dict[Codec, Offer] = field(default_factory=dict[Codec, Offer])
    offered: dict[PeerId, Digest] = field(default_factory=dict[PeerId, Digest])
    """The payload that each who asked was offered last."""
    receipt: Receipt | None = None
    """The drawn partner's."""

    def is_for(self, peer: PeerId) -> bool:
        """Whether a peer has been let in."""
        return peer == self.partner or peer in self.takers

    def admit(self, peer: PeerId, seat: int) -> bool:
        """Let in who asked and may have it; False when too many stepped in before."""
        if not self.is_for(peer):
            if len(self.takers) >= self.fallbacks.most:
                return False
            self.takers[peer] = seat
        return True

    @property
    def num_bytes(self) -> int:
        """Memory this takes: theta, its share of the anchor, residuals, and what was packed."""
        numel, packed = self.snapshot.theta.numel(), self.packed.values()
        residuals = (self.snapshot.residual, *(one.residual for one in packed))
        left = sum(residual is not None for residual in residuals)
        return (8 + 4 * left) * numel + sum(len(one.wire) for one in packed)

    @property
    def acknowledged(self) -> Packed | None:
        """What the partner's receipt is for; None as long as there is none."""
        name = None if self.receipt is None else self.receipt.payload_hash
        packed = self.packed.values()
        return next((one for one in packed if one.offer.payload_hash == name), None)


class Outbox:
    """The giver's table."""

    def __init__(self, *, bytes_max: int = PUBLISHED_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._given: dict[FragmentKey, PublishedFragment] = {}
        self._newest: dict[RunIndex, RoundIndex] = {}
        self._parked: dict[PeerId, int] = {}

    def publish(
        self,
        key: FragmentKey,
        snapshot: FragmentPayload,
        partner: PeerId | None,
        fallbacks: StandbyReceivers = NO_STANDBY,
    ) -> None:
        """Put a fragment on the table for ``partner``, and for who may step in; drop what is too old.

        Raises ``UsageError`` if it is there already, malformed, or too old itself.
        """
        check_snapshot(snapshot)
        if key in self._given:
            raise UsageError("a fragment is published once")
        newest = max(self._newest.get(key.run, key.round), key.round)
        if key.round <= newest - ROUNDS_KEPT:
            raise UsageError("a fragment of a round that is over")
        self._newest[key.run] = newest
        self._given[key] = PublishedFragment(key, snapshot, partner, fallbacks)
        old = [k for k in self._given if k.run == key.run and k.round <= newest - ROUNDS_KEPT]
        for stale in old:
            del self._given[stale]
        self._make_room(key)

    def find(self, key: FragmentKey, peer: PeerId, seat: int) -> PublishedFragment | None:
        """The fragment that ``peer`` asks for in a seat; None if it is not published yet.

        Raises ``Unreachable`` if it never will be: it is another's, too old, or too far ahead.
        """
        given = self._given.get(key)
        if given is None:
            newest = self._newest.get(key.run, key.round)
            if not newest - ROUNDS_KEPT < key.round <= newest + EARLY_ROUNDS_MAX:
                raise Unreachable(f"round {key.round} is not traded here now")
            return None
        if not given.is_for(peer) and not given.fallbacks.is_one(seat, peer):
            raise Unreachable("this fragment is for another partner")
        return given

    def given(self, key: FragmentKey) -> PublishedFragment | None:
        """What became of a fragment of ours; None if it was never published or is too old."""
        return self._given.get(key)

    def chunks(self, payload_hash: Digest, first: int, count: int, peer: PeerId) -> Chunks:
        """The chunks a partner asks for.

        Raises ``OutOfTurn`` for a range outside the payload, ``Unreachable`` if it is gone.
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
        """The same payload in the bytes in which it is here already: chunks are asked for by its hash alone."""
        for one in (one for given in self._given.values() for one in given.packed.values()):
            if one.offer.payload_hash == packed.offer.payload_hash:
                changes = {"wire_bytes": one.offer.wire_bytes, "chunk_root": one.offer.chunk_root}
                offer = changed(packed.offer, **changes)
                return replace(packed, offer=offer, wire=one.wire, manifest=one.manifest)
        return packed

    def acknowledge(self, receipt: Receipt, peer: PeerId) -> None:
        """Keep a verified receipt; raise ``OutOfTurn`` if it is for nothing we gave to ``peer``."""
        given = self._given.get(receipt.key)
        if given is None:
            return  # It came after the round was over; nobody needs it any more.
        offered = {packed.offer.payload_hash for packed in given.packed.values()}
        if not given.is_for(peer) or receipt.payload_hash not in offered:
            raise OutOfTurn("a receipt for what was never offered")
        if peer == given.partner:
            given.receipt, given.offered[peer] = receipt, receipt.payload_hash

    def park(self, peer: PeerId) -> None:
        """Count one more parked ask; raise ``Unreachable`` if there is no room."""
        mine = self._parked.get(peer, 0)
        if mine >= PARKED_PER_PEER_MAX or sum(self._parked.values()) >= PARKED_MAX:
            raise Unreachable("too many asks are waiting here")
        self._parked[peer] = mine + 1

    def unpark(self, peer: PeerId) -> None:
        """One parked ask was answered or went away."""
        self._parked[peer] -= 1
        if not self._parked[peer]:
            del self._parked[peer]

    def _packed(self, payload_hash: Digest, peer: PeerId) -> Packed:
        for given in self._given.values():
            for packed in given.packed.values():
                if packed.offer.payload_hash == payload_hash and given.is_for(peer):
                    return packed
        raise Unreachable("that payload is not offered here any more")

    def _make_room(self, newest: FragmentKey) -> None:
        total = sum(given.num_bytes for given in self._given.values())
        for key in sorted(self._given, key=lambda k: (k.round, k.run, k.stage, k.fragment, k.seat)):
            if total <= self._bytes_max and len(self._given) <= FRAGMENTS_MAX:
                return
            if key != newest:
                total -= self._given.pop(key).num_bytes


def check_range(first: int, count: int) -> None:
    """Raise ``OutOfTurn`` for chunks that no honest peer asks for, whatever the payload."""
    if not (1 <= count <= CHUNKS_PER_REPLY_MAX and 0 <= first <= VALUES_MAX):
        raise OutOfTurn("an absurd range of chunks")


KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")

FAST_BYTES_PER_S = 12.5e6
"""100 Mbit/s. zstandard takes 2.3 ns for a byte of int8, both ends together, and saves a seventeenth of it,
which such a line carries in 4.7 ns. On a faster one a trade gains less than 3%, and processors are wanted."""
PEERS_MAX = 1024
"""Partners remembered; the one measured first makes room."""
UNDERWAY_MAX = 256
"""Payloads on their way: as many as fragments are kept."""


@dataclass(frozen=True, slots=True)
class _Underway:
    peer: PeerId
    began_at: float


class LinkSpeeds:
    """Measured lines to partners, in bytes per second of the last payload."""

    def __init__(self) -> None:
        self._underway: dict[Digest, _Underway] = {}
        self._bytes_per_s: dict[PeerId, float] = {}

    def began(self, payload_hash: Digest, peer: PeerId, now: float) -> None:
        """A chunk of a payload is handed out; only the first counts."""
        if payload_hash not in self._underway:
            self._underway[payload_hash] = _Underway(peer, now)
            _limit(self._underway, UNDERWAY_MAX)

    def arrived(self, payload_hash: Digest, peer: PeerId, wire_bytes: int, now: float) -> None:
        """The partner's receipt for a payload is here."""
        underway = self._underway.pop(payload_hash, None)
        if underway is None or underway.peer != peer or now <= underway.began_at:
            return
        self._bytes_per_s.pop(peer, None)
        self._bytes_per_s[peer] = wire_bytes / (now - underway.began_at)
        _limit(self._bytes_per_s, PEERS_MAX)

    def is_fast(self, peer: PeerId) -> bool:
        """Whether a payload had better travel as it is; False for a line that was never measured."""
        return self._bytes_per_s.get(peer, 0.0) > FAST_BYTES_PER_S


def _limit(table: dict[KeyT, ValueT], most: int) -> None:
    """Let go of what came first."""
    while len(table) > most:
        del table[next(iter(table))]
