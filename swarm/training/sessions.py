"""The texts that a stage goes on with for others: bounded in number, bytes, time and rate.

Core: a machine; time is an argument.

    (unknown) --position 0--> held --request--> busy --done--> held --idle or old--> (unknown)

A session is its peer's: another's identifier means nothing. What is not held is LOST, and the peer says its
text again.
"""

from dataclasses import dataclass

from torch import Tensor

from swarm.training.inference import Reason, StageRequest
from swarm.training.kv_cache import KeyValueCache, cache_bytes
from swarm.training.stages import StagePlan
from swarm.types import Digest, PeerId

SESSIONS_MAX = 32
PER_PEER_MAX = 4
"""A peer that begins a fifth text loses its oldest."""
CACHE_BYTES_MAX = 256 << 20
"""Keys and values of all texts together, beside a training that has its own memory to mind."""
IDLE_S = 60.0
"""A person thinks longer over a text than a program; but the text can be said again."""
LIFE_S = 900.0
"""No text keeps an old checkpoint in memory longer."""
ROWS_PER_S = 256.0
"""Positions a peer may ask for, on average: several texts at reading speed, and their prompts."""
ROWS_BURST = 16_384.0
"""And at once: the longest context."""
BEGIN_ROWS = 128.0
"""What a new text costs beside its positions: its weights may have to be read from the disk."""
PEERS_REMEMBERED_MAX = 1_024
"""Peers whose rate is known; as many as connections, several times over."""


@dataclass(slots=True)
class Session:
    """One text of one peer at one stage."""

    plan: StagePlan
    params_P: Tensor
    root: Digest
    cache: KeyValueCache
    began: float
    used: float
    room: int = 0
    """Bytes that its cache may take, as counted against ``CACHE_BYTES_MAX``."""
    is_busy: bool = False


Key = tuple[PeerId, bytes, int]


class Sessions:
    """All sessions of one node."""

    def __init__(self) -> None:
        self._held: dict[Key, Session] = {}
        self._rates: dict[PeerId, tuple[float, float]] = {}
        """By peer: rows that it may still ask for, and as of when."""

    def __len__(self) -> int:
        return len(self._held)

    def find(self, peer: PeerId, request: StageRequest, now: float) -> Session | Reason | None:
        """The session that can go on with ``request``, marked busy; None when it is to be begun.

        The positions are counted against the peer's rate, whatever follows.
        """
        self.expire(now)
        is_new = request.position == 0
        if not self._take_rows(peer, request.rows + (BEGIN_ROWS if is_new else 0.0), now):
            return Reason.BUSY
        session = self._held.get(_key(peer, request))
        if session is not None and session.is_busy:
            return Reason.BUSY
        if session is None or session.root != request.root:
            return None if is_new else Reason.LOST
        if request.position > session.cache.length:
            return Reason.LOST
        return self._occupied(session, request, now)

    def begin(
        self, peer: PeerId, request: StageRequest, plan: StagePlan, params_P: Tensor, now: float
    ) -> Session | Reason:
        """A new session, marked busy; the peer's oldest makes room for it."""
        key = _key(peer, request)
        self._drop(key)
        mine = [other for other in self._held if other[0] == peer]
        if len(mine) >= PER_PEER_MAX:
            self._drop(min(mine, key=lambda other: self._held[other].used))
        if len(self._held) >= SESSIONS_MAX:
            return Reason.BUSY
        session = Session(plan, params_P, request.root, KeyValueCache(plan), now, now)
        found = self._occupied(session, request, now)
        if isinstance(found, Session):
            self._held[key] = found
        return found

    def release(self, session: Session, now: float) -> None:
        """A request was answered."""
        session.is_busy, session.used = False, now

    def expire(self, now: float) -> None:
        """Forget what nobody asked for lately, and what is old."""
        for key, session in list(self._held.items()):
            is_over = now - session.used > IDLE_S or now - session.began > LIFE_S
            if is_over and not session.is_busy:
                self._drop(key)

    def _occupied(self, session: Session, request: StageRequest, now: float) -> Session | Reason:
        """Make room for the positions of a request, or say that there is none."""
        room = cache_bytes(session.plan, request.position + request.rows)
        others = sum(held.room for held in self._held.values() if held is not session)
        if others + room > CACHE_BYTES_MAX:
            return Reason.BUSY
        session.cache.truncate(request.position)
        session.room, session.used = max(room, session.cache.num_bytes), now
        session.is_busy = True
        return session

    def _take_rows(self, peer: PeerId, rows: float, now: float) -> bool:
        """A bucket that fills at ``ROWS_PER_S``."""
        left, since = self._rates.pop(peer, (ROWS_BURST, now))
        left = min(left + (now - since) * ROWS_PER_S, ROWS_BURST)
        is_allowed = rows <= left
        self._rates[peer] = (left - rows if is_allowed else left, now)
        if len(self._rates) > PEERS_REMEMBERED_MAX:
            del self._rates[next(iter(self._rates))]  # asked longest ago: its bucket is full again
        return is_allowed

    def _drop(self, key: Key) -> None:
        self._held.pop(key, None)


def _key(peer: PeerId, request: StageRequest) -> Key:
    return peer, request.session, request.stage
