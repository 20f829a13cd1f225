"""Limit what is held for other peers, per peer and in total: requests, replies, unread bytes, streams.

Core: tables with limits; they say which message is admitted, which are evicted, and which connection is cut.

    request:   announced --admit--> moving --arrived--> in the handler's hands --release--> gone
    reply:        ready  --admit--> there --moves--> moving --------------------release--> gone
                                                       |
                                                       +-- evicted --release--> gone
                                                           its peer holds the most, and another needs the room

A length costs nothing to announce, so bytes are counted from the announcement on, and the peer that holds the
most makes room: an attacker that fills the table evicts itself. All tables together hold ``HELD_BYTES_MAX``,
and beside them no more than ``LEAVING_BYTES_MAX`` that were evicted and whose tasks have not had a turn yet.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from swarm.errors import Unreachable
from swarm.primitives.codec import FRAME_BYTES_MAX, LONGEST_FRAME_BYTES
from swarm.types import PeerId

SMALL_BYTES = 64 << 10
"""Bytes up to which a request has a quota of its own: votes must not wait behind activations."""
SMALL_PER_PEER_BYTES_MAX = 4 << 20
SMALL_BYTES_MAX = 8 << 20
BULK_PER_PEER_BYTES_MAX = 8 * LONGEST_FRAME_BYTES + 2 * FRAME_BYTES_MAX
"""Bytes of one peer: every stream it keeps for micro-batches, each with the longest frame, and a few others. A
stream holds a request or its reply, never both, so that they are counted together."""
BULK_BYTES_MAX = 132 << 20
"""Bytes of all peers: sixteen of the longest frames, as many as two peers have on their way."""
UNREAD_PER_CONNECTION_BYTES_MAX = 32 << 20
"""Bytes of one connection that no reader has taken. Readers drain at once: an honest peer stays far below the
windows of its streams."""
UNREAD_BYTES_MIN = 12 << 20
"""Bytes of all connections that may be unread even while requests and replies take all the rest."""
UNREAD_BYTES_MAX = 64 << 20
HELD_BYTES_MAX = SMALL_BYTES_MAX + BULK_BYTES_MAX + UNREAD_BYTES_MIN
"""Bytes held for all peers, of every kind: 152 MiB. With the streams, the connections and the table of the DHT,
256 links that do their worst cost 256 MB."""
LEAVING_BYTES_MAX = 2 * LONGEST_FRAME_BYTES
"""Bytes that were evicted and are still there: who asks faster than the event loop turns is refused."""
STREAMS_PER_PEER_MAX = 256
"""8 kept streams for each of our protocols, the DHT's short ones, and a margin."""
STREAMS_MAX = 2048
"""Inbound streams of all peers: eight of each of 256 peers."""
STREAM_BYTES = 13_000
"""Bytes that an open stream costs, its task included, as measured."""


@dataclass(slots=True)
class _Held:
    peer: PeerId
    num_bytes: int
    is_moving: bool


Connection = TypeVar("Connection")


def _nothing() -> int:
    return 0


class ByteBudget:
    """Byte quota for the messages of one kind, per peer and in total; a quota of streams counts 1 for each."""

    def __init__(
        self,
        *,
        per_peer_bytes_max: int,
        bytes_max: int,
        beside: Callable[[], int] = _nothing,
    ) -> None:
        """Make an empty quota; ``beside()`` bytes of other kinds count towards ``HELD_BYTES_MAX`` as well."""
        self.num_bytes = 0
        """Bytes held, or announced and still to come."""
        self._per_peer_bytes_max = per_peer_bytes_max
        self._bytes_max = bytes_max
        self._beside = beside
        self._leaving: dict[int, int] = {}
        """Bytes of the evicted messages that are not released yet, by number."""
        self._by_peer: dict[PeerId, int] = {}
        self._held: dict[int, _Held] = {}
        self._next = 0

    def of(self, peer: PeerId) -> int:
        """Return the bytes of one peer."""
        return self._by_peer.get(peer, 0)

    def admit(
        self, peer: PeerId, num_bytes: int, *, is_moving: bool = True
    ) -> tuple[int, tuple[int, ...]]:
        """Admit a message; return its number, and the numbers of the messages evicted for it.

        Raises ``Unreachable``, changing nothing, when the peer has too many bytes here, or the total is full
        and no other peer has more, or has dropped what was evicted before.
        """
        mine = self.of(peer) + num_bytes
        if mine > self._per_peer_bytes_max:
            raise Unreachable(f"{mine} bytes of one peer at once")
        most = min(self._bytes_max, HELD_BYTES_MAX - self._beside())
        evicted = self._chosen(mine, self.num_bytes + num_bytes - most)
        leaving = {number: self._held[number].num_bytes for number in evicted}
        together = sum(leaving.values()) + sum(self._leaving.values())
        if leaving and self._leaving and together > LEAVING_BYTES_MAX:
            raise Unreachable("too much is being dropped for others")
        for number in evicted:
            self.release(number)
        self._leaving |= leaving
        number, self._next = self._next, self._next + 1
        self._held[number] = _Held(peer, num_bytes, is_moving)
        self.num_bytes += num_bytes
        if mine:
            self._by_peer[peer] = mine
        return number, evicted

    def moves(self, number: int) -> None:
        """Note that a message is on its way, and may be evicted from now on."""
        if number in self._held:
            self._held[number].is_moving = True

    def arrived(self, number: int) -> None:
        """Note that a message is complete: it will be answered, and is not evicted any more."""
        if number in self._held:
            self._held[number].is_moving = False

    def release(self, number: int) -> None:
        """Remove a message that is done with, one way or another; an unknown number changes nothing."""
        self._leaving.pop(number, None)
        held = self._held.pop(number, None)
        if held is None:
            return
        self.num_bytes -= held.num_bytes
        left = self._by_peer.pop(held.peer, 0) - held.num_bytes
        if left:
            self._by_peer[held.peer] = left

    def _chosen(self, mine: int, over: int) -> tuple[int, ...]:
        """Return the moving messages to evict so that ``over`` bytes fewer are held.

        They belong to the peers that hold the most, and more than ``mine`` bytes; the oldest go first. Raises
        ``Unreachable`` if there are not enough.
        """
        if over <= 0:
            return ()
        by_peer, chosen = dict(self._by_peer), list[int]()
        moving = {number: one for number, one in self._held.items() if one.is_moving}
        while over > 0:
            able = [number for number, one in moving.items() if by_peer.get(one.peer, 0) > mine]
            if not able:
                raise Unreachable("too much is held for others")
            number = max(able, key=lambda other: (by_peer[moving[other].peer], -other))
            one = moving.pop(number)
            by_peer[one.peer] -= one.num_bytes
            over -= one.num_bytes
            chosen.append(number)
        return tuple(chosen)


class UnreadBytes(Generic[Connection]):
    """Bytes that arrived on connections and were taken by no reader, per connection and in total."""

    def __init__(self, beside: Callable[[], int] = _nothing) -> None:
        """Make an empty table; ``beside()`` bytes of other kinds leave less room here."""
        self.num_bytes = 0
        self.beside = beside
        self._of: dict[Connection, int] = {}

    @property
    def bytes_max(self) -> int:
        """Bytes for which there is room."""
        return max(min(HELD_BYTES_MAX - self.beside(), UNREAD_BYTES_MAX), UNREAD_BYTES_MIN)

    def of(self, connection: Connection) -> int:
        """Return the bytes of one connection."""
        return self._of.get(connection, 0)

    def add(self, connection: Connection, num_bytes: int) -> Connection | None:
        """Count bytes that arrived; return the connection to cut for it, which is forgotten, or None.

        It is this one if it holds too much, or the one that holds the most if all do.
        """
        mine = self._of[connection] = self.of(connection) + num_bytes
        self.num_bytes += num_bytes
        over: Connection | None = None
        if mine > UNREAD_PER_CONNECTION_BYTES_MAX:
            over = connection
        elif self.num_bytes > self.bytes_max:
            over = max(self._of, key=self.of)
        if over is not None:
            self.forget(over)
        return over

    def remove(self, connection: Connection, num_bytes: int) -> None:
        """Count bytes that were read or dropped."""
        if connection in self._of:
            self._of[connection] -= num_bytes
            self.num_bytes -= num_bytes

    def forget(self, connection: Connection) -> None:
        """Count nothing of a connection any more; an unknown one changes nothing."""
        self.num_bytes -= self._of.pop(connection, 0)


def small_budget() -> ByteBudget:
    """Return the quota for requests of at most ``SMALL_BYTES``."""
    return ByteBudget(per_peer_bytes_max=SMALL_PER_PEER_BYTES_MAX, bytes_max=SMALL_BYTES_MAX)


def bulk_budget(beside: Callable[[], int] = _nothing) -> ByteBudget:
    """Return the quota for longer requests and for replies."""
    return ByteBudget(
        per_peer_bytes_max=BULK_PER_PEER_BYTES_MAX, bytes_max=BULK_BYTES_MAX, beside=beside
    )


def stream_budget() -> ByteBudget:
    """Return the quota for inbound streams."""
    return ByteBudget(per_peer_bytes_max=STREAMS_PER_PEER_MAX, bytes_max=STREAMS_MAX)
