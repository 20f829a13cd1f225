"""How fast what we gave has reached each partner, and so whether fewer bytes are worth the time to make them.

Core: a table with limits.

    given --first chunk handed out--> on its way --receipt--> measured

Nobody tells us the speed of a line, and no partner has to be believed: one that delays its receipt gets fewer
bytes, which is what is done for everybody whose line has not been measured.
"""

from dataclasses import dataclass
from typing import TypeVar

from swarm.types import Digest, PeerId

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


class Lines:
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
