"""Limit the bytes of requests and of unread replies held for other peers, per peer and in total.

Core: a table with limits; it says which message is admitted and which are evicted.

    request:   announced --admit--> moving --arrived--> in the handler's hands --release--> gone
    reply:        ready  --admit--> moving ------------------------------------ release--> gone
                                      |
                                      +-- evicted: its peer holds the most, and another needs the room

A length costs nothing to announce, so bytes are counted from the announcement on, and the peer that holds the
most makes room: an attacker that fills the table evicts itself.
"""

from dataclasses import dataclass

from swarm.errors import Unreachable
from swarm.primitives.codec import FRAME_BYTES_MAX, LONGEST_FRAME_BYTES
from swarm.types import PeerId

SMALL_BYTES = 64 << 10
"""Bytes up to which a request has a quota of its own: votes must not wait behind activations."""
SMALL_PER_PEER_BYTES_MAX = 4 << 20
SMALL_BYTES_MAX = 64 << 20
BULK_PER_PEER_BYTES_MAX = 8 * LONGEST_FRAME_BYTES + 2 * FRAME_BYTES_MAX
"""Bytes of one peer: every stream it keeps for micro-batches, each with the longest frame, and a few others."""
BULK_BYTES_MAX = 256 << 20
"""Bytes of all peers: some thirty of the longest frames. A run with such large micro-batches starts few at once
(training/messages.py)."""


@dataclass(slots=True)
class _Held:
    peer: PeerId
    num_bytes: int
    is_moving: bool = True


class ByteBudget:
    """Byte quota for the messages of one kind, per peer and in total."""

    def __init__(self, *, per_peer_bytes_max: int, bytes_max: int) -> None:
        self.num_bytes = 0
        """Bytes held, or announced and still to come."""
        self._per_peer_bytes_max = per_peer_bytes_max
        self._bytes_max = bytes_max
        self._by_peer: dict[PeerId, int] = {}
        self._held: dict[int, _Held] = {}
        self._next = 0

    def of(self, peer: PeerId) -> int:
        """Return the bytes of one peer."""
        return self._by_peer.get(peer, 0)

    def admit(self, peer: PeerId, num_bytes: int) -> tuple[int, tuple[int, ...]]:
        """Admit a message; return its number, and the numbers of the messages evicted for it.

        Raises ``Unreachable``, changing nothing, when the peer has too many bytes here, or the total is full
        and no other peer has more.
        """
        mine = self.of(peer) + num_bytes
        if mine > self._per_peer_bytes_max:
            raise Unreachable(f"{mine} bytes of one peer at once")
        evicted = self._chosen(mine, self.num_bytes + num_bytes - self._bytes_max)
        for number in evicted:
            self.release(number)
        number, self._next = self._next, self._next + 1
        self._held[number] = _Held(peer, num_bytes)
        self.num_bytes += num_bytes
        if mine:
            self._by_peer[peer] = mine
        return number, evicted

    def arrived(self, number: int) -> None:
        """Note that a message is complete: it will be answered, and is not evicted any more."""
        if number in self._held:
            self._held[number].is_moving = False

    def release(self, number: int) -> None:
        """Remove a message that is done with, one way or another; an unknown number changes nothing."""
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


def small_budget() -> ByteBudget:
    """Return the quota for requests of at most ``SMALL_BYTES``."""
    return ByteBudget(per_peer_bytes_max=SMALL_PER_PEER_BYTES_MAX, bytes_max=SMALL_BYTES_MAX)


def bulk_budget() -> ByteBudget:
    """Return a quota for longer requests, or one for replies."""
    return ByteBudget(per_peer_bytes_max=BULK_PER_PEER_BYTES_MAX, bytes_max=BULK_BYTES_MAX)
