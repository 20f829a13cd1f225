"""Make the three standard streams safe to write to, whatever they were opened as.

Shell: owns file descriptors 0 to 2. Loads nothing heavy.

A stream may be closed (``>&-``), full, of ASCII, or go away while a node runs. Messages are then lost, and
nothing else; the result of a command that cannot be written is a failure of that command.
"""

import errno
import io
import os
import sys
from contextlib import suppress
from typing import TextIO

LOST = (OSError, ValueError)
"""Errors of writing to a stream that is full, closed, or gone."""


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
