"""Share the places of followers that wait for a block: by standing first, then by where they come from.

Core: a machine. To wait costs a stranger nothing, so many keys of one place could hold all of them for ever.

    free place                 anybody's
    asker with standing        gets that of one without, but of the last few such
    asker without standing     gets one of the origin that has most of them, if its own has fewer then; those
                               last few also from who has standing

Who is put out asks somebody else: it is told that this node is full, as the one that found no place is.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from swarm.types import PeerId

HELD_MAX = 16
"""Followers that one node holds a request of: of a thousand followers each is then three or four hops from a
validator. One more is told so, and asks another follower."""
STRANGERS_MIN = 4
"""Places that peers without standing have in any case."""


@dataclass(frozen=True, slots=True)
class Waiter:
    """Follower that waits for the next block."""

    peer: PeerId
    origin: str
    """Network or address that it is connected from."""
    has_standing: bool
    """True with a stake or a seat, which not every key has."""


@dataclass(slots=True)
class WaitingPlaces:
    """Followers that wait at one node, oldest first."""

    places_max: int = HELD_MAX
    _waiters: list[Waiter] = field(default_factory=list[Waiter])

    def enter(self, asker: Waiter) -> tuple[bool, PeerId | None]:
        """Return whether a follower may wait, and which one is put out for it; each has one place at most."""
        if any(waiter.peer == asker.peer for waiter in self._waiters):
            return False, None
        out = None
        if len(self._waiters) >= self.places_max:
            out = self._put_out_for(asker)
            if out is None:
                return False, None
            self._waiters.remove(out)
        self._waiters.append(asker)
        return True, None if out is None else out.peer

    def leave(self, peer: PeerId) -> None:
        """Free the place of a follower, if it has one."""
        self._waiters = [waiter for waiter in self._waiters if waiter.peer != peer]

    def _put_out_for(self, asker: Waiter) -> Waiter | None:
        strangers = [waiter for waiter in self._waiters if not waiter.has_standing]
        if asker.has_standing:
            return _youngest_of_most(strangers) if len(strangers) > STRANGERS_MIN else None
        if len(strangers) < STRANGERS_MIN:
            return next(waiter for waiter in reversed(self._waiters) if waiter.has_standing)
        sizes = Counter(waiter.origin for waiter in strangers)
        found = _youngest_of_most(strangers)
        return found if sizes[found.origin] >= sizes[asker.origin] + 2 else None


def _youngest_of_most(waiters: Sequence[Waiter]) -> Waiter:
    sizes = Counter(waiter.origin for waiter in waiters)
    return max(reversed(waiters), key=lambda waiter: sizes[waiter.origin])
