"""Share the places of a relay among those that cannot be dialled, and its circuits among those that dial them.

Core: two tables with a clock given from outside. A place costs the relay a line of memory, a circuit costs it
what goes through, which is paced for all of them together; so both are shared by origin (a public network, else
an address), and free keys gain nothing.
"""

from collections import Counter
from dataclasses import dataclass

from swarm.types import PeerId

RESERVATIONS_MAX = 128
RESERVATIONS_PER_ORIGIN_MAX = 16
"""Places of one origin: a provider that puts many homes behind one address has more than a few."""
RESERVATION_S = 3600.0
CIRCUITS_MAX = 128
CIRCUITS_PER_PEER_MAX = 16
"""Circuits to one peer, and from one."""
CIRCUITS_PER_ORIGIN_MAX = 32


@dataclass(frozen=True, slots=True)
class _Place:
    origin: str
    ends_at: float


class Reservations:
    """Peers that may be reached through this node."""

    def __init__(self) -> None:
        self._places: dict[PeerId, _Place] = {}

    def __len__(self) -> int:
        return len(self._places)

    def reserve(self, peer: PeerId, origin: str, now: float) -> bool:
        """Give a peer a place, or its own one anew; return False where there is none for it.

        Where all are taken it gets that of the youngest of the origin with the most, if its own then has no
        more.
        """
        for other in [other for other, place in self._places.items() if place.ends_at <= now]:
            del self._places[other]
        mine = self._places.pop(peer, None)
        sizes = Counter(place.origin for place in self._places.values())
        if mine is None and sizes[origin] >= RESERVATIONS_PER_ORIGIN_MAX:
            return False
        if len(self._places) >= RESERVATIONS_MAX:
            largest, size = sizes.most_common(1)[0]
            if size < sizes[origin] + 2:
                return False
            youngest = [other for other, place in self._places.items() if place.origin == largest]
            del self._places[youngest[-1]]
        self._places[peer] = _Place(origin, now + RESERVATION_S)
        return True

    def has(self, peer: PeerId, now: float) -> bool:
        """Return True while a peer has a place."""
        place = self._places.get(peer)
        return place is not None and place.ends_at > now

    def forget(self, peer: PeerId) -> None:
        """Give the place of a peer that left to others."""
        self._places.pop(peer, None)


@dataclass(frozen=True, slots=True)
class _Circuit:
    caller: PeerId
    origin: str
    target: PeerId


class Circuits:
    """Circuits that go through this node."""

    def __init__(self) -> None:
        self._open: dict[int, _Circuit] = {}
        self._number = 0

    def __len__(self) -> int:
        return len(self._open)

    def open(self, caller: PeerId, origin: str, target: PeerId) -> int | None:
        """Count one more circuit; return its number, or None where there is no room for it."""
        circuits = list(self._open.values())
        if (
            len(circuits) >= CIRCUITS_MAX
            or sum(circuit.origin == origin for circuit in circuits) >= CIRCUITS_PER_ORIGIN_MAX
        ):
            return None
        for one in caller, target:
            ends = sum(one in {circuit.caller, circuit.target} for circuit in circuits)
            if ends >= CIRCUITS_PER_PEER_MAX:
                return None
        self._number += 1
        self._open[self._number] = _Circuit(caller, origin, target)
        return self._number

    def close(self, number: int) -> None:
        """Give the room of a circuit to others."""
        self._open.pop(number, None)
