"""Tokens per second, however long a step takes.

Core: a machine; counts and the time in, a rate out.

Tokens come a step at a time, and a large model takes minutes for one: counted over a few seconds they would
be none, or many times too many. So the rate is what came between two steps, over at least ``SPAN_S``; while
nothing comes it falls as the silence grows longer than that.
"""

from collections import deque
from collections.abc import Hashable

SPAN_S = 5.0
"""Shorter than this a rate is noise; looked at more seldom, it is the time between two looks."""
SILENCES_MAX = 4
"""After a silence of so many times what the rate was counted over there is none: the run rests, or is over."""
MARKS_MAX = 64
"""Steps remembered: more than there are looks in ``SPAN_S``."""


class TokenRate:
    """The pace of one node."""

    def __init__(self, now: float) -> None:
        self._marks = deque([(now, 0)], maxlen=MARKS_MAX)
        """When more tokens were seen than before, and how many in all."""
        self._seats: Hashable = ()

    def measured(self, tokens: int, now: float, seats: Hashable = ()) -> int:
        """Tokens per second; with other ``seats`` counting begins again: a shard brings what it has seen."""
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
