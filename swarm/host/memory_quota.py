"""How much of others' questions, and of answers they do not read, this node holds: of one peer and of all.

Core: a table with limits; it says who is let in and who has to go.

    question:  announced --admit--> moving --arrived--> in the handler's hands --release--> gone
    answer:       ready  --admit--> moving ------------------------------------ release--> gone
                                      |
                                      +-- evicted: its peer holds the most, and another needs the room

A length costs nothing to announce, so room is counted from the announcement on, and whoever holds the most
makes room: an attacker that fills the table pushes out itself.
"""

from dataclasses import dataclass

from swarm.errors import Unreachable
from swarm.primitives.codec import FRAME_BYTES_MAX, LONGEST_FRAME_BYTES
from swarm.types import PeerId

SMALL_BYTES = 64 << 10
"""Questions up to this length have room of their own: votes must not wait behind activations."""
SMALL_PER_PEER_BYTES_MAX = 4 << 20
SMALL_BYTES_MAX = 64 << 20
BULK_PER_PEER_BYTES_MAX = 8 * LONGEST_FRAME_BYTES + 2 * FRAME_BYTES_MAX
"""Every stream that a peer keeps for micro-batches, each with the longest there is, and a little of others."""
BULK_BYTES_MAX = 256 << 20
"""Of everybody: some thirty of the longest frames. A run with such large micro-batches starts few at once
(training/messages.py)."""


@dataclass(slots=True)
class _Held:
    peer: PeerId
    num_bytes: int
    is_moving: bool = True


class ByteBudget:
    """What is held for others of one kind."""

    def __init__(self, *, per_peer_bytes_max: int, bytes_max: int) -> None:
        self.num_bytes = 0
        """What is held, or was announced and may come."""
        self._per_peer_bytes_max = per_peer_bytes_max
        self._bytes_max = bytes_max
        self._by_peer: dict[PeerId, int] = {}
        self._held: dict[int, _Held] = {}
        self._next = 0

    def of(self, peer: PeerId) -> int:
        """The part of one peer."""
        return self._by_peer.get(peer, 0)

    def admit(self, peer: PeerId, num_bytes: int) -> tuple[int, tuple[int, ...]]:
        """Let a message in: its number, and the numbers of those that have to go.

        Raises ``Unreachable``, changing nothing, when the peer has too many here, or nobody has more than it.
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
        """All of it is here: it will be answered, and is not evicted any more."""
        if number in self._held:
            self._held[number].is_moving = False

    def release(self, number: int) -> None:
        """It is done with, one way or another."""
        held = self._held.pop(number, None)
        if held is None:
            return
        self.num_bytes -= held.num_bytes
        left = self._by_peer.pop(held.peer, 0) - held.num_bytes
        if left:
            self._by_peer[held.peer] = left

    def _chosen(self, mine: int, over: int) -> tuple[int, ...]:
        """Messages still moving, of whoever holds more than ``mine`` and the most, oldest first."""
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
    """For questions of at most ``SMALL_BYTES``."""
    return ByteBudget(per_peer_bytes_max=SMALL_PER_PEER_BYTES_MAX, bytes_max=SMALL_BYTES_MAX)


def bulk_budget() -> ByteBudget:
    """For longer questions; and one more for answers."""
    return ByteBudget(per_peer_bytes_max=BULK_PER_PEER_BYTES_MAX, bytes_max=BULK_BYTES_MAX)
