"""Rest after failures before the next try, and ban peers that break the protocol.

Core: ``now`` in seconds comes in as an argument.

A circuit breaker spares every caller the wait that the last one had in vain:

    CLOSED --failure--> RESTING (1 s, 2 s, ... 10 s) --time--> CLOSED
       ^                   |
       +--- new address, inbound connection, answered ping ---+

Faults of the protocol are counted apart from failures: each raises a score that fades with time, and a peer
whose score is too high is banned for a while.
"""

import math
from dataclasses import dataclass

from swarm.types import PeerId

PEERS_MAX = 4096
"""Peers remembered in each table; the one noted longest ago makes room."""

REST_MIN_S = 1.0
REST_MAX_S = 10.0
"""Seconds of the first and the longest rest; they double in between. A dead peer costs little, and one that
returns on its old address without calling us is noticed within ten seconds."""

FAULTS_MAX = 4.5
"""Score from which a peer is banned: the fifth fault within seconds, as each counts half after
``FAULT_HALF_LIFE_S``."""

FAULT_HALF_LIFE_S = 60.0
CLEAN_MAX = 1.5
"""Score below which a peer is trusted all the same: one fault may be a mistake, two within a minute are not."""
BAN_S = 60.0
"""Seconds for which a banned peer is refused."""


@dataclass(frozen=True, slots=True)
class _Rest:
    until: float
    length_s: float


class CircuitBreakers:
    """Circuit breakers: peers that rest after failures."""

    def __init__(self) -> None:
        self._rests: dict[PeerId, _Rest] = {}

    def failed(self, peer: PeerId, now: float) -> None:
        """Note a failure: start a rest, twice as long as the last one.

        A failure during a rest changes nothing.
        """
        last = self._rests.pop(peer, None)
        if last is not None and now < last.until:
            self._rests[peer] = last  # calls that began before the rest do not lengthen it
            return
        length_s = REST_MIN_S if last is None else min(last.length_s * 2, REST_MAX_S)
        self._rests[peer] = _Rest(now + length_s, length_s)
        if len(self._rests) > PEERS_MAX:
            del self._rests[next(iter(self._rests))]

    def reset(self, peer: PeerId) -> None:
        """Forget the rest of a peer that gave a sign of life or has a new address."""
        self._rests.pop(peer, None)

    def reset_all(self) -> None:
        """Forget all rests: they were of another network."""
        self._rests.clear()

    def rest_s(self, peer: PeerId, now: float) -> float:
        """Return the seconds until another try is worth it; 0 when it is now."""
        rest = self._rests.get(peer)
        return max(0.0, rest.until - now) if rest else 0.0


@dataclass(frozen=True, slots=True)
class _Record:
    count: int
    score: float
    noted: float
    banned_until: float


class PeerScores:
    """Protocol faults by peer: a score that fades with time, and the bans."""

    def __init__(self) -> None:
        self._records: dict[PeerId, _Record] = {}

    def blame(self, peer: PeerId, now: float) -> bool:
        """Note one fault; return True if the peer is now to be cut off."""
        old = self._records.pop(peer, None) or _Record(0, 0.0, now, 0.0)
        faded = old.score * math.pow(0.5, (now - old.noted) / FAULT_HALF_LIFE_S)
        score = faded + 1.0
        is_banned = score >= FAULTS_MAX
        until = now + BAN_S if is_banned else old.banned_until
        self._records[peer] = _Record(old.count + 1, score, now, until)
        if len(self._records) > PEERS_MAX:
            del self._records[next(iter(self._records))]
        return is_banned

    def ban_s(self, peer: PeerId, now: float) -> float:
        """Return the seconds for which the peer is still banned; 0 if it is not."""
        record = self._records.get(peer)
        return max(0.0, record.banned_until - now) if record else 0.0

    def is_clean(self, peer: PeerId, now: float) -> bool:
        """Return True if no more than one fault of the peer was noted of late."""
        record = self._records.get(peer)
        if record is None:
            return True
        return record.score * math.pow(0.5, (now - record.noted) / FAULT_HALF_LIFE_S) < CLEAN_MAX

    def faults(self) -> dict[PeerId, int]:
        """Return the number of faults noted per peer since the start."""
        return {peer: record.count for peer, record in self._records.items()}


def backoff_s(attempt: int, *, first_s: float, most_s: float, jitter: float) -> float:
    """Return the seconds before retry number ``attempt`` (from 0), doubling from ``first_s`` to ``most_s``.

    ``jitter``, a random number in [0, 1), adds +-20%, which keeps many peers from dialling at once a peer
    that just came back.
    """
    plain = min(most_s, first_s * math.pow(2.0, min(attempt, 30)))
    return plain * (0.8 + 0.4 * jitter)
