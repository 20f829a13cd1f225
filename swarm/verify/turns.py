"""One replay at a time, what is urgent first.

Shell: waiting only.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio


class Turns:
    """A lock with two queues: a judge is at most one replay away from its own."""

    def __init__(self) -> None:
        self._is_taken = False
        self._num_urgent = 0
        self._news = trio.Event()

    @asynccontextmanager
    async def take(self, *, urgent: bool) -> AsyncGenerator[None]:
        """Have the turn for the length of the block."""
        self._num_urgent += urgent
        try:
            while self._is_taken or (self._num_urgent and not urgent):
                await self._news.wait()
            self._is_taken = True
        finally:
            self._num_urgent -= urgent
            self._tell()
        try:
            yield
        finally:
            self._is_taken = False
            self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()
