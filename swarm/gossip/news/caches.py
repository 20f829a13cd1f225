"""Remember which notices were seen, and keep the newest ones for who asks for them.

Core: machines; both are bounded by a number of entries, and the second by bytes.
"""

from collections import OrderedDict
from dataclasses import dataclass, field

from swarm.gossip.news.messages import Notice
from swarm.types import Digest, PeerId

SEEN_S = 120.0
"""Seconds for which a notice is known by its name: longer than any way round the network."""
SEEN_MAX = 32_768
"""Names remembered, 5 MB; the oldest are forgotten first, and are then judged again."""
KEPT_TICKS, OFFERED_TICKS = 5, 3
"""Heartbeats for which a notice can be asked for, and for which it is offered."""
KEPT_BYTES_MAX = 8 << 20
SERVED_MAX = 3
"""Times that one peer is sent the same notice at its asking: an answer may be lost."""


class Seen:
    """Names of notices seen lately, and whether they were false."""

    def __init__(self) -> None:
        self._names: OrderedDict[Digest, tuple[float, bool]] = OrderedDict()

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __len__(self) -> int:
        return len(self._names)

    def add(self, name: Digest, now: float, *, is_false: bool = False) -> None:
        """Remember a name."""
        self._names[name] = now, is_false
        if len(self._names) > SEEN_MAX:
            self._names.popitem(last=False)

    def is_false(self, name: Digest) -> bool:
        """Return True if a notice was found false."""
        return name in self._names and self._names[name][1]

    def forget(self, name: Digest) -> None:
        """Let a notice be judged when it comes again."""
        self._names.pop(name, None)

    def expire(self, now: float) -> None:
        """Forget what is old."""
        while self._names:
            name, (since, _) = next(iter(self._names.items()))
            if since + SEEN_S > now:
                return
            del self._names[name]


@dataclass(slots=True)
class Kept:
    """Notice that others may ask for."""

    notice: Notice
    tick: int
    served: dict[PeerId, int] = field(default_factory=dict[PeerId, int])


class Recent:
    """Notices of the last few heartbeats."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Digest, Kept] = OrderedDict()
        self._num_bytes = 0
        self._tick = 0

    def __contains__(self, name: object) -> bool:
        return name in self._kept

    def add(self, name: Digest, notice: Notice) -> None:
        """Keep a notice; the oldest make room."""
        self._kept[name] = Kept(notice, self._tick)
        self._num_bytes += len(notice.data)
        while self._num_bytes > KEPT_BYTES_MAX:
            self._drop(next(iter(self._kept)))

    def serve(self, name: Digest, peer: PeerId) -> Notice | None:
        """Return a notice for a peer that asks for it; None if it is gone, or was sent often enough."""
        kept = self._kept.get(name)
        if kept is None or kept.served.get(peer, 0) >= SERVED_MAX:
            return None
        kept.served[peer] = kept.served.get(peer, 0) + 1
        return kept.notice

    def names(self, topic: str) -> list[Digest]:
        """Return the names of a topic that are offered, the newest last."""
        oldest = self._tick - OFFERED_TICKS
        return [
            name
            for name, kept in self._kept.items()
            if kept.notice.topic == topic and kept.tick > oldest
        ]

    def shift(self) -> None:
        """Let a heartbeat pass."""
        self._tick += 1
        while self._kept and next(iter(self._kept.values())).tick <= self._tick - KEPT_TICKS:
            self._drop(next(iter(self._kept)))

    def _drop(self, name: Digest) -> None:
        self._num_bytes -= len(self._kept.pop(name).notice.data)
