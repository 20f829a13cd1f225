"""Make the three standard streams safe to write to, whatever they were opened as.

Shell: owns file descriptors 0 to 2. Loads nothing heavy.

A stream may be closed (``>&-``), full, of ASCII, stand still (Ctrl-S, a pipe that nobody reads), or go away
while a node runs. Messages are then lost, and nothing else; the result of a command that cannot be written is a
failure of that command.
"""

import errno
import io
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import TextIO, cast

LOST = (OSError, ValueError)
"""Errors of writing to a stream that is full, closed, or gone."""
QUEUE_BYTES_MAX = 1 << 20
"""Bytes that wait for a reader, at most: minutes of a node's events."""
LINGER_S = 1.0
"""Seconds that a node waits, when it ends, for what it has said to be read."""


def prepare_streams() -> None:
    """Open the standard streams that are closed, and let every text be written to them.

    A descriptor that stays closed would be given to the next file that is opened: the store, for one, which
    messages would then be written into. A character that a stream cannot hold is written as its number.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # For reading only: a result that is written there is missed, as it should be.
            os.open(os.devnull, os.O_WRONLY if number == 2 else os.O_RDONLY)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  open as long as we are
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def settle_streams() -> str:
    """Write out what is buffered; return the reason if stdout cannot take it, and forget it then."""
    reason = ""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except LOST as error:
            if stream is sys.stdout:
                reason = reason_of(error)
            discard(stream)
    return reason


def discard(stream: TextIO) -> None:
    """Let everything that is written to a stream from now on, and what it still holds, go nowhere."""
    with suppress(*LOST):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
        stream.flush()


def reason_of(error: BaseException) -> str:
    """Return why a stream could not be written, in words."""
    if isinstance(error, OSError) and error.errno == errno.EBADF:
        return "it is closed"
    return str(getattr(error, "strerror", "") or error)


def is_terminal(stream: TextIO | None) -> bool:
    """Return True for an open stream to a terminal."""
    with suppress(*LOST):
        return stream is not None and stream.isatty()
    return False


def is_wide(stream: TextIO | None) -> bool:
    """Return True for a stream that holds every character."""
    return (getattr(stream, "encoding", "") or "").lower().startswith("utf")


class Lenient:
    """Stream that drops what cannot be written: for a live display, which must not end a node."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.encoding = stream.encoding

    def write(self, text: str) -> int:
        """Write, if that is possible."""
        with suppress(*LOST):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Write out what is buffered, if that is possible."""
        with suppress(*LOST):
            self._stream.flush()

    def isatty(self) -> bool:
        """Return True for a terminal."""
        return is_terminal(self._stream)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._stream.fileno()


class Unhurried:
    """Stream whose writer never waits for its reader: a thread writes, and what finds no room is dropped whole.

    What is written between two flushes is one piece, as a line. The thread writes to the descriptor itself,
    since a stream of Python that a thread is stuck in cannot be closed when the process ends.
    """

    def __init__(self, stream: TextIO) -> None:
        self.encoding = stream.encoding
        self.dropped = 0
        """Pieces that found no room."""
        self._stream, self._errors = stream, stream.errors or "backslashreplace"
        self._said = ""
        self._pieces = deque[bytes]()
        self._waiting = 0
        self._changed = threading.Condition()
        self._is_open = True
        self._descriptor = stream.fileno()
        """-1 once it has gone."""
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def write(self, text: str) -> int:
        """Keep text until the next flush."""
        self._said += text
        if len(self._said) > QUEUE_BYTES_MAX:
            self.flush()
        return len(text)

    def flush(self) -> None:
        """Hand over what was written, or drop it."""
        piece, self._said = self._said.encode(self.encoding, self._errors), ""
        with self._changed:
            if not piece or self._descriptor < 0:
                return
            if self._waiting + len(piece) > QUEUE_BYTES_MAX:
                self.dropped += 1
                return
            self._pieces.append(piece)
            self._waiting += len(piece)
            self._changed.notify_all()

    def isatty(self) -> bool:
        """Return True for a terminal."""
        return is_terminal(self._stream)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._stream.fileno()

    def close(self) -> None:
        """Wait a moment for the rest to be read."""
        self.flush()
        ends = time.monotonic() + LINGER_S
        with self._changed:
            self._is_open = False
            self._changed.notify_all()
            while self._waiting and (left := ends - time.monotonic()) > 0:
                self._changed.wait(left)

    def _serve(self) -> None:
        while True:
            with self._changed:
                while not self._pieces:
                    if not self._is_open:
                        return
                    self._changed.wait()
                piece = self._pieces.popleft()
            self._write(piece)
            with self._changed:
                self._waiting -= len(piece)
                self._changed.notify_all()

    def _write(self, piece: bytes) -> None:
        left = memoryview(piece)
        try:
            while left and self._descriptor >= 0:
                left = left[os.write(self._descriptor, left) :]
        except OSError:
            with self._changed:
                self._descriptor = -1


@contextmanager
def unhurried() -> Generator[None]:
    """Let nothing in this process wait for who reads stdout and stderr.

    A stream without a descriptor is in memory, or gone: nobody waits there.
    """
    kept = sys.stdout, sys.stderr
    mine = [Unhurried(stream) if _has_descriptor(stream) else stream for stream in kept]
    sys.stdout, sys.stderr = cast("list[TextIO]", mine)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = kept
        for stream in mine:
            if isinstance(stream, Unhurried):
                stream.close()


def _has_descriptor(stream: TextIO) -> bool:
    try:
        stream.flush()
        return stream.fileno() >= 0
    except LOST:
        return False
