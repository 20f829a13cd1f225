"""Bound what the questions of strangers cost this node: a part of one core for each place that they come from.

Core: a machine; costs are given in processor seconds.

A question for blocks or parts of a snapshot is free, and its answer takes milliseconds to put together. Peers
without standing of one origin (public network, else address) are answered one after the other, each as late as
keeps the work for them at ``1 / SHARE`` of a core; ``WAITING_MAX`` of them wait, and no more are taken. What an
answer will cost is taken from those before it, and corrected by what it did cost.
"""

from dataclasses import dataclass

SHARE = 4
"""A second of work for an origin is followed by so many less one without."""
WAITING_MAX = 8
"""Questions of one origin that wait for their turn."""
ORIGINS_MAX = 4096
"""Origins that are remembered."""
_MEMORY = 0.8
"""Part of the cost expected that stays when another one is measured."""


@dataclass(slots=True)
class _Origin:
    free_at: float = 0.0
    typical_s: float = 0.001
    waiting: int = 0


class Paces:
    """Turns of the origins."""

    def __init__(self) -> None:
        self._origins: dict[str, _Origin] = {}

    def begin(self, origin: str, now: float) -> float | None:
        """Return the seconds after which a question has its turn; None if too many wait. ``end`` it then."""
        one = self._origins.get(origin)
        if one is None:
            self._forget(now)
            one = self._origins.setdefault(origin, _Origin())
        if one.waiting >= WAITING_MAX:
            return None
        one.waiting += 1
        start = max(now, one.free_at)
        one.free_at = start + SHARE * one.typical_s
        return start - now

    def end(self, origin: str, cost_s: float | None) -> None:
        """Note that a question was answered at this cost; None: it was given up."""
        one = self._origins[origin]
        one.waiting -= 1
        if cost_s is None:
            return
        one.free_at += SHARE * (cost_s - one.typical_s)
        one.typical_s = _MEMORY * one.typical_s + (1 - _MEMORY) * cost_s

    def _forget(self, now: float) -> None:
        """Keep the table small: those that wait for nothing are as if they had never asked."""
        if len(self._origins) >= ORIGINS_MAX:
            busy = {
                name: one for name, one in self._origins.items() if one.waiting or one.free_at > now
            }
            self._origins = busy
