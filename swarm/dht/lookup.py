"""Look up the peers closest to a place, or the newest record there, over disjoint paths.

Core: a machine. Answers, failures, ``now`` and dice in; peers to ask out. Rules D15 to D18 of README.md.

    asked   IN FLIGHT --answer that holds--> ANSWERED
               +--SLOW_S--> SLOW: its turn goes to another --answer--> ANSWERED
               +--broken link, no answer in time, forged record--> FAILED

No peer is asked on two paths, and whom a peer names is asked only on the path that it was asked on: one liar
spoils one path. Peers that are named and do not answer count against who named them, and who named several such
is followed no further.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from swarm.dht.records import SignedRecord
from swarm.errors import PeerFault
from swarm.primitives.crypto import digest
from swarm.primitives.randomness import RandomStream
from swarm.types import PeerId

PATHS = 3
CLOSEST = 20
"""Peers that a lookup is for, and that hold a record: with half of them dead or lying one in a million records
is lost."""

ABREAST = 2
"""Peers asked at once on one path."""

SLOW_S = 0.5
"""Seconds after which who was asked has lost its turn: a dead peer delays its path by so much."""

OUT_MAX = 6
"""Peers asked at once on one path, slow ones included."""

NAMED_MAX = 20
"""Peers taken from one answer."""

KNOWN_MAX = 256
"""Peers known on one path; the farthest make room."""

ASKED_MAX = 120
"""Peers asked in one lookup: six times as many as it is for."""

DISBELIEF = 3
"""Peers of its naming that failed, more than answered, from which a peer is not followed."""

COPIES = 3
COPY_PATHS = 2
"""Copies of the newest record that end a lookup, and the paths that they come from: no path ends it alone. They
count only where nobody closer is left to ask: else liars on the way, who serve old records, would end it."""

Check = Callable[[bytes], SignedRecord]
"""Function that returns the record in an answer, or raises ``PeerFault``: ``records.check_record``."""


def place_of(name: bytes) -> int:
    """Return the place of a peer or a key among all others."""
    return int.from_bytes(digest("dht-place", name), "big")


def closest(place: int, peers: Iterable[PeerId], count: int) -> list[PeerId]:
    """Return the ``count`` peers closest to a place, the closest first."""
    return sorted(peers, key=lambda peer: place_of(peer) ^ place)[:count]


@dataclass(slots=True)
class _Path:
    """One way through the network."""

    namers: dict[PeerId, list[PeerId]] = field(default_factory=dict[PeerId, list[PeerId]])
    """Peers known here, with who named them; nobody for those that the lookup began with."""
    flight: dict[PeerId, float] = field(default_factory=dict[PeerId, float])
    """Peers asked here and when; ``inf`` for slow ones."""


class Lookup:
    """One lookup. Ask whom ``next`` returns, and tell it what came of that until ``is_over``."""

    def __init__(
        self,
        place: int,
        seeds: Sequence[PeerId],
        own: PeerId,
        dice: RandomStream,
        check: Check | None = None,
    ) -> None:
        """Begin with the peers known here; ``check`` says that a record is wanted, and reads it."""
        self.newest: tuple[SignedRecord, bytes] | None = None
        """Newest record that holds, of those in the answers."""
        self._place = place
        self._own = own
        self._check = check
        self._distances: dict[PeerId, int] = {}
        self._answered: dict[PeerId, int] = {}
        self._asked: dict[PeerId, int] = {}
        self._trust: dict[PeerId, int] = {}
        self._copies: list[PeerId] = []
        self._paths = [_Path() for _ in range(PATHS)]
        nearest = closest(place, (peer for peer in seeds if peer != own), PATHS * CLOSEST)
        for start in range(0, len(nearest), PATHS):
            # Each path begins near by; which one gets which peer cannot be foreseen.
            paths = dice.shuffled(self._paths)
            for path, peer in zip(paths, nearest[start : start + PATHS], strict=False):
                path.namers[peer] = []

    @property
    def found(self) -> list[PeerId]:
        """Closest peers that answered, the closest first."""
        return sorted(self._answered, key=self._distance)[:CLOSEST]

    def next(self, now: float) -> list[PeerId]:
        """Return the peers to ask now; each is asked once."""
        chosen = list[PeerId]()
        if self._has_copies():
            return chosen
        for number, path in enumerate(self._paths):
            self._slow_down(path, now)
            while (peer := self._choose(path)) is not None:
                self._asked[peer] = number
                path.flight[peer] = now
                chosen.append(peer)
        return chosen

    def deadline(self) -> float | None:
        """Time at which ``next`` has more to say without an answer; None if it waits for one."""
        flights = (asked for path in self._paths for asked in path.flight.values())
        return min((asked + SLOW_S for asked in flights if asked != float("inf")), default=None)

    @property
    def is_over(self) -> bool:
        """True once nobody is left to wait for, after ``next`` has returned nobody to ask.

        The slow are not waited for if there is a record already, or as many peers as a lookup is for.
        """
        if self._has_copies():
            return True
        if all(not path.flight for path in self._paths):
            return True
        is_enough = self.newest is not None or len(self._answered) >= CLOSEST
        return is_enough and self.deadline() is None

    def answered(self, peer: PeerId, named: Sequence[PeerId], record: bytes, now: float) -> None:
        """Take the answer of a peer: closer peers, and the record if it has one.

        A record that does not hold makes the answer worth nothing. Raises ``PeerFault`` for it.
        """
        path = self._path(peer, now)
        if record and self._check is not None:
            try:
                copy = self._check(record)
            except PeerFault:
                self.failed(peer, now)
                raise
            self._take(copy, record, peer)
        self._judge(path, peer, 2 if self._is_slow(path, peer) else 1)
        del path.flight[peer]
        self._answered[peer] = self._asked[peer]
        for other in named[:NAMED_MAX]:
            if other != self._own and other not in self._asked:
                path.namers.setdefault(other, []).append(peer)
        if len(path.namers) > KNOWN_MAX:
            near = sorted(path.namers, key=self._distance)[:KNOWN_MAX]
            path.namers = {other: path.namers[other] for other in near}

    def failed(self, peer: PeerId, now: float) -> None:
        """Take note that a peer did not answer, or not as it should."""
        path = self._path(peer, now)
        if not self._is_slow(path, peer):
            self._judge(path, peer, -1)
        del path.flight[peer]

    def _path(self, peer: PeerId, now: float) -> _Path:
        path = self._paths[self._asked[peer]]
        self._slow_down(path, now)
        assert peer in path.flight, "asked once, answered once"
        return path

    def _is_slow(self, path: _Path, peer: PeerId) -> bool:
        return path.flight[peer] == float("inf")

    def _slow_down(self, path: _Path, now: float) -> None:
        """Take the turn from whom it was given to ``SLOW_S`` ago."""
        for peer, asked in path.flight.items():
            if asked + SLOW_S <= now:
                path.flight[peer] = float("inf")
                self._judge(path, peer, -1)

    def _judge(self, path: _Path, peer: PeerId, points: int) -> None:
        for namer in path.namers.get(peer, ()):
            self._trust[namer] = self._trust.get(namer, 0) + points

    def _choose(self, path: _Path) -> PeerId | None:
        turns = sum(asked != float("inf") for asked in path.flight.values())
        if turns >= ABREAST or len(path.flight) >= OUT_MAX or len(self._asked) >= ASKED_MAX:
            return None
        answered = sorted(map(self._distance, self._answered))
        bound = answered[CLOSEST - 1] if len(answered) >= CLOSEST else 1 << 256
        able = (each for each in self._able(path) if each[1] < bound)
        return min(able, default=(0, 0, None))[2]

    def _able(self, path: _Path) -> Iterator[tuple[int, int, PeerId]]:
        """Yield who can still be asked on a path, with the doubt about it and its distance."""
        for peer, namers in path.namers.items():
            if peer not in self._asked and (doubt := self._doubt(namers)) < DISBELIEF:
                yield doubt, self._distance(peer), peer

    def _doubt(self, namers: Sequence[PeerId]) -> int:
        """Return how little the best of those who named a peer is believed; 0 for nothing against it."""
        if not namers:
            return 0
        return max(0, -max(self._trust.get(namer, 0) for namer in namers))

    def _take(self, copy: SignedRecord, record: bytes, peer: PeerId) -> None:
        """Count a copy of the newest record; a newer one begins the count anew."""
        if self.newest is None or copy.seq > self.newest[0].seq:
            self.newest = copy, record
            self._copies = []
        if copy.seq == self.newest[0].seq:
            self._copies.append(peer)

    def _has_copies(self) -> bool:
        if len(self._copies) < COPIES:
            return False
        nearest = [
            min((distance for _, distance, _ in self._able(path)), default=1 << 256)
            for path in self._paths
        ]
        paths = [
            self._asked[peer]
            for peer in self._copies
            if self._distance(peer) < nearest[self._asked[peer]]
        ]
        return len(paths) >= COPIES and len(set(paths)) >= COPY_PATHS

    def _distance(self, peer: PeerId) -> int:
        found = self._distances.get(peer)
        if found is None:
            found = self._distances[peer] = place_of(peer) ^ self._place
        return found
