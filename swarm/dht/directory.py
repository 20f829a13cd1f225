"""Read announcements of peers and fold them into the peer map.

Core: pure functions of the map, the message and ``now`` (seconds of one process's clock).

The statements of a peer about itself are shown as its claims, beside the measurements of this node. The state
of a peer always comes with its reason.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from swarm.errors import BadEncoding
from swarm.host.addresses import ADDRESS_CHARS_MAX, ADDRESSES_MAX
from swarm.primitives.codec import Message, decode
from swarm.primitives.crypto import peer_name, peer_text
from swarm.types import PeerId

TOPIC = "announce"

ANNOUNCEMENT_BYTES_MAX = 3072
"""Bytes of an announcement: it fits a record with room for its frame."""

SOLVE, VALIDATE, VERIFY = 1, 2, 4
"""Roles, one bit each."""

REACHABILITIES = ("direct", "lan", "relayed", "unknown")
STATES = ("idle", "syncing", "training", "verifying")
SEATS_MAX = 64
COUNT_MAX = 1 << 50

PEERS_MAX = 1024
"""Peers on the map; the one heard of longest ago makes room."""

FORGET_S = 3600.0
"""Seconds after which a peer not heard of is no longer shown: an hour."""

LATE_NS = 60_000_000_000
"""Nanoseconds by which an announcement may be overtaken by a later one."""

SILENT_S = 20.0
"""Seconds of silence that count: four announcements missed, of which one may be lost and two may be late on a
starved machine."""

LAG_ROUNDS = 2
"""Rounds behind the others from which a peer is called slow: one round is the boundary itself."""


class Announcement(Message, frozen=True):
    """Statement of a peer about what it is doing: signed in a record, but not verified."""

    run16: bytes
    """First 16 bytes of the run's digest; empty outside any run."""
    roles: int
    seats: tuple[tuple[int, int], ...]
    """(stage, seat index) pairs that it holds."""
    tokens_per_s: int
    loss_milli: int
    """Last training loss in thousandths of a nat; -1 if unknown."""
    round: int
    steps: int
    height: int
    reachability: str
    version: str
    addresses: tuple[str, ...]
    state: str
    num_traded: int
    last_partner: bytes
    """Key of the last partner in a trade; empty before the first."""


def parse_announcement(data: bytes) -> Announcement:
    """Read an announcement; raise ``BadEncoding`` if a field is out of bounds."""
    announcement = decode(Announcement, data, limit=ANNOUNCEMENT_BYTES_MAX)
    counts = (
        announcement.tokens_per_s,
        announcement.round,
        announcement.steps,
        announcement.height,
        announcement.num_traded,
    )
    sound = (
        len(announcement.run16) in {0, 16}
        and len(announcement.last_partner) in {0, 32}
        and 0 <= announcement.roles < 8
        and len(announcement.seats) <= SEATS_MAX
        and all(0 <= number < 1 << 16 for seat in announcement.seats for number in seat)
        and all(0 <= count < COUNT_MAX for count in counts)
        and -1 <= announcement.loss_milli < COUNT_MAX
        and announcement.reachability in REACHABILITIES
        and announcement.state in STATES
        and len(announcement.version) <= 32
        and announcement.version.isprintable()
        and len(announcement.addresses) <= ADDRESSES_MAX
        and all(len(address) <= ADDRESS_CHARS_MAX for address in announcement.addresses)
    )
    if not sound:
        raise BadEncoding("an announcement with a field out of bounds")
    return announcement


@dataclass(frozen=True, slots=True)
class PeerEntry:
    """Entry of the map for one peer."""

    announcement: Announcement | None = None
    seq: int = 0
    announced_at: float = 0.0
    """Time of its last new announcement; ``now`` of this process."""
    rtt_ms: int | None = None
    up_bytes: int = 0
    down_bytes: int = 0
    is_connected: bool = False
    connected_at: float | None = None
    """Time when we were last connected; None if never."""
    first_at: float = 0.0


@dataclass(frozen=True, slots=True)
class PeerTable:
    """All peers heard of; change it with ``fold`` and ``measured``."""

    entries: Mapping[PeerId, PeerEntry] = field(default_factory=dict[PeerId, PeerEntry])


@dataclass(frozen=True, slots=True)
class PeerView:
    """One peer as shown to people."""

    peer: PeerId
    announcement: Announcement | None
    state: str
    """State that it announces (one of ``STATES``), or ``unreachable``, ``slow``, ``unknown`` as we find it."""
    reason: str
    """Reason for the state: ``ok``, ``unreachable 40 s``, ``slow: 2 rounds behind`` ..."""
    rtt_ms: int | None
    up_bytes: int
    down_bytes: int
    is_connected: bool
    is_measured: bool
    """True if this node measured the round trip."""
    lag: int
    """Rounds behind the median of its run."""
    age_s: float
    """Seconds since its last announcement or, without one, since it was first heard of."""

    @property
    def id(self) -> str:
        """Its key as ``12D3Koo...``."""
        return peer_text(self.peer)

    @property
    def name(self) -> str:
        """Its human name, made from its key."""
        return peer_name(self.peer)


def fold(
    peer_map: PeerTable, peer: PeerId, announcement: Announcement, seq: int, now: float
) -> PeerTable:
    """Return the map after one announcement; an older one, or the same again, changes nothing."""
    old = peer_map.entries.get(peer) or PeerEntry(first_at=now)
    if seq <= old.seq:
        return peer_map
    return _with(peer_map, peer, replace(old, announcement=announcement, seq=seq, announced_at=now))


def heard(
    peer_map: PeerTable, peer: PeerId, announcement: Announcement, seq: int, now: float
) -> PeerTable:
    """Return the map after what a peer has just said of itself; as ``fold``, but for a clock that was set back.

    A number that is lower than the last by more than ``LATE_NS`` is not a message that was overtaken.
    """
    old = peer_map.entries.get(peer)
    if old is not None and seq < old.seq - LATE_NS:
        peer_map = _with(peer_map, peer, replace(old, seq=0))
    return fold(peer_map, peer, announcement, seq, now)


def measured(
    peer_map: PeerTable,
    peer: PeerId,
    *,
    rtt_ms: int | None,
    up_bytes: int,
    down_bytes: int,
    is_connected: bool,
    now: float,
) -> PeerTable:
    """Return the map after a check of our own connection to a peer; ``rtt_ms`` None keeps the last value."""
    old = peer_map.entries.get(peer) or PeerEntry(first_at=now)
    entry = replace(
        old,
        rtt_ms=rtt_ms if rtt_ms is not None else old.rtt_ms,
        up_bytes=up_bytes,
        down_bytes=down_bytes,
        is_connected=is_connected,
        connected_at=now if is_connected else old.connected_at,
    )
    return _with(peer_map, peer, entry)


def _with(peer_map: PeerTable, peer: PeerId, entry: PeerEntry) -> PeerTable:
    entries = {**peer_map.entries, peer: entry}
    if len(entries) > PEERS_MAX:
        others = (other for other in entries if other != peer)
        del entries[min(others, key=lambda other: (_heard_at(entries[other]), other))]
    return PeerTable(entries)


def _heard_at(entry: PeerEntry) -> float:
    return max(entry.announced_at, entry.connected_at or 0.0, entry.first_at)


def view(peer_map: PeerTable, now: float) -> tuple[PeerView, ...]:
    """Return every peer heard of within ``FORGET_S``, in the order of their keys, with state and reason."""
    rounds = _median_rounds(peer_map, now)
    return tuple(
        _view_one(peer, peer_map.entries[peer], rounds, now)
        for peer in sorted(peer_map.entries)
        if now - _heard_at(peer_map.entries[peer]) < FORGET_S
    )


def _median_rounds(peer_map: PeerTable, now: float) -> dict[bytes, int]:
    """Return the median round of each run's live peers: one exaggerated claim does not make the others slow."""
    rounds: dict[bytes, list[int]] = {}
    for entry in peer_map.entries.values():
        announcement = entry.announcement
        if announcement is not None and announcement.seats and now - entry.announced_at < SILENT_S:
            rounds.setdefault(announcement.run16, []).append(announcement.round)
    return {run16: sorted(found)[len(found) // 2] for run16, found in rounds.items()}


def _view_one(peer: PeerId, entry: PeerEntry, rounds: Mapping[bytes, int], now: float) -> PeerView:
    announcement = entry.announcement
    lag = (
        max(0, rounds.get(announcement.run16, 0) - announcement.round)
        if announcement and announcement.seats
        else 0
    )
    heard_at = max(entry.announced_at, entry.connected_at or 0.0)
    silent_s = now - (heard_at or entry.first_at)
    if not entry.is_connected and silent_s >= SILENT_S:
        state, reason = "unreachable", f"unreachable {silent_s:.0f} s"
    elif announcement is None:
        state, reason = "unknown", "no announcement yet"
    elif now - entry.announced_at >= SILENT_S:
        state, reason = "slow", f"silent {now - entry.announced_at:.0f} s"
    elif lag >= LAG_ROUNDS:
        state, reason = "slow", f"slow: {lag} rounds behind"
    else:
        state, reason = announcement.state, "ok"
    return PeerView(
        peer=peer,
        announcement=announcement,
        state=state,
        reason=reason,
        rtt_ms=entry.rtt_ms,
        up_bytes=entry.up_bytes,
        down_bytes=entry.down_bytes,
        is_connected=entry.is_connected,
        is_measured=entry.rtt_ms is not None,
        lag=lag,
        age_s=now - (entry.announced_at or entry.first_at),
    )
