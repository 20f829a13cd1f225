"""Pace what a node sends, so that it leaves the rest of a line to others: an upload limit.

Core: the bytes and the time in, the seconds to wait out. ``host/noise.py`` waits before it seals a write.

All connections of a node share one line, and whoever asks first sends first. What is asked for is counted at
once, also where the asker gives up: the limit is never exceeded by those who did.
"""

import math

BYTES_PER_MBIT = 125_000
"""Bytes a second of 1 Mbit/s, in which people state lines."""
BURST_S = 0.25
"""Seconds of an idle line that may be caught up with: a trade's first frame does not wait."""


class Uplink:
    """Line that sends a number of bytes a second; without a limit nobody waits."""

    def __init__(self, bytes_per_s: float = math.inf) -> None:
        """Begin idle."""
        self.bytes_per_s = bytes_per_s
        self._free_at = -math.inf

    def wait_s(self, num_bytes: int, now: float) -> float:
        """Count bytes that are about to be sent, and return the seconds until they may be."""
        if math.isinf(self.bytes_per_s):
            return 0.0
        begins = max(self._free_at, now - BURST_S)
        self._free_at = begins + num_bytes / self.bytes_per_s
        return max(begins - now, 0.0)
