"""Write a node's events to the log in its home, keep the last in memory, and stream them to listeners.

Shell: owns the log file and the clock of its lines.
"""

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import trio

from swarm.events import Event, EventKind, make_event, to_json_line

LOG_NAME = "events.jsonl"
LOG_BYTES_MAX = 16 << 20
"""Bytes at which the log is rotated; one older log is kept."""
EVENTS_KEPT = 1024
"""Events that a reader may be behind: minutes of a busy node, in less than a megabyte."""
RECENT_MAX = 50
"""Events shown on the map."""
LISTENERS_MAX = 32
"""Event streams of the local page that are open at once; the oldest is closed for a new one."""
LINES_MAX = 256
"""Lines that a slow listener may be behind; the oldest are skipped."""


class EventLog:
    """Event log of one node; a call reports one event."""

    def __init__(self, home: Path, also: Callable[[Event], None] | None = None) -> None:
        self._path = home / LOG_NAME
        self._also = also
        self._listeners: list[
            tuple[trio.MemorySendChannel[str], trio.MemoryReceiveChannel[str]]
        ] = []
        self._kept = deque[Event](maxlen=EVENTS_KEPT)
        self._added = trio.Event()
        self.total = 0
        """Number of events so far."""

    def __call__(self, kind: EventKind, text: str, **fields: str | int) -> None:
        """Report one event."""
        event = make_event(int(time.time() * 1000), kind, text, **fields)
        self._kept.append(event)
        self.total += 1
        self._added.set()
        self._added = trio.Event()
        line = to_json_line(event)
        self._write(line)
        for send, receive in list(self._listeners):
            self._offer(line, send, receive)
        if self._also is not None:
            self._also(event)

    @property
    def recent(self) -> list[Event]:
        """Newest events, oldest first: at most ``RECENT_MAX``."""
        return list(self._kept)[-RECENT_MAX:]

    async def event_after(self, number: int) -> tuple[int, Event]:
        """Wait for an event by its number, from 0, or for the oldest kept after it.

        Returns:
            The number to ask for next, and the event.
        """
        await trio.lowlevel.checkpoint()
        while number >= self.total:
            await self._added.wait()
        number = max(number, self.total - len(self._kept))
        return number + 1, self._kept[number - self.total]

    def lines(self) -> trio.MemoryReceiveChannel[str]:
        """Return a stream of event lines from now on; close it to stop listening."""
        send, receive = trio.open_memory_channel[str](LINES_MAX)
        self._listeners.append((send, receive))
        if len(self._listeners) > LISTENERS_MAX:
            self._listeners.pop(0)[0].close()
        return receive

    def _offer(
        self,
        line: str,
        send: trio.MemorySendChannel[str],
        receive: trio.MemoryReceiveChannel[str],
    ) -> None:
        try:
            if send.statistics().current_buffer_used >= LINES_MAX:
                receive.receive_nowait()
            send.send_nowait(line)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._listeners.remove((send, receive))
        except trio.WouldBlock:
            return

    def _write(self, line: str) -> None:
        """Append to the log; a full disk silences the log, not the node."""
        try:
            if self._path.exists() and self._path.stat().st_size > LOG_BYTES_MAX:
                self._path.replace(self._path.with_suffix(".1.jsonl"))
            with self._path.open("a", encoding="utf-8") as log:
                log.write(line + "\n")
        except OSError:
            return
