"""Estimate tokens per second, however long a step takes.

Core: a machine; counts and the time in, a rate out.

Tokens come a step at a time, and a large model takes minutes for one: counted over a few seconds the rate would
be zero, or many times too high. So the rate is what came between two steps, over at least ``SPAN_S``; while
nothing comes it falls as the silence grows longer than that.
"""

from collections import deque
from collections.abc import Hashable

SPAN_S = 5.0
"""Seconds below which a rate is noise; if polled more seldom, the time between two polls is used."""
SILENCES_MAX = 4
"""Spans of the count after which a silence makes the rate 0: the run is paused, or over."""
MARKS_MAX = 64
"""Steps remembered: more than there are polls in ``SPAN_S``."""


class TokenRate:
    """Estimator of one node's tokens per second."""

    def __init__(self, now: float) -> None:
        self._marks = deque([(now, 0)], maxlen=MARKS_MAX)
        """Times at which more tokens were seen than before, with the totals."""
        self._seats: Hashable = ()

    def measured(self, tokens: int, now: float, seats: Hashable = ()) -> int:
        """Return tokens per second; other ``seats`` restart the count, because a shard brings its own total."""
        marks = self._marks
        if seats != self._seats:
            self._seats = seats
            marks.clear()
            marks.append((now, tokens))
        elif tokens > marks[-1][1]:
            marks.append((now, tokens))
        newest_at, newest = marks[-1]
        while len(marks) > 2 and newest_at - marks[1][0] >= SPAN_S:
            marks.popleft()
        began_at, began = marks[0]
        counted_s = max(newest_at - began_at, SPAN_S)
        if now - newest_at > SILENCES_MAX * counted_s:
            return 0
        passed_s = max(counted_s, now - newest_at)
        return int((newest - began) / passed_s)
