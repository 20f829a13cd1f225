"""Bound how many logs a node shows in an hour to peers that have no stake.

Core: a table with limits; the time comes in as ``now``.

An auditor needs nothing but the software: no stake, no token. A log takes bandwidth, and keys are free, so
all strangers together get a few windows in an hour, and each of them some of those. A window that was granted
may be asked for again in its hour.
"""

from collections import OrderedDict

from swarm.training.record.window import WindowKey
from swarm.types import PeerId

HOUR_S = 3600.0
FREE_MAX = 8
"""Windows in an hour for all strangers together: at most 2 GB, of the demo's run 50 MB."""
FREE_PER_PEER_MAX = 4
"""Windows in an hour for one of them: a segment of the packaged recipes has five."""


class FreeAudits:
    """Windows that were granted to strangers in the last hour."""

    def __init__(self) -> None:
        self._granted: OrderedDict[tuple[PeerId, WindowKey], float] = OrderedDict()

    def admit(self, peer: PeerId, key: WindowKey, now: float) -> bool:
        """Return True if a peer without a stake may have the log of a window now."""
        while self._granted and now - next(iter(self._granted.values())) >= HOUR_S:
            self._granted.popitem(last=False)
        if (peer, key) in self._granted:
            return True
        mine = sum(other == peer for other, _ in self._granted)
        if len(self._granted) >= FREE_MAX or mine >= FREE_PER_PEER_MAX:
            return False
        self._granted[peer, key] = now
        return True
