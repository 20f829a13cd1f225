"""Explain a failure in one sentence, with one command that helps.

Shell: writes the trace of an unexpected failure to a file, so that the terminal stays readable.
"""

import errno
import os
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from swarm.errors import SwarmError, leaves_of

INTERRUPTED = 130
"""Exit code that a shell expects of a command ended by Ctrl-C."""
NO_FRAUD = 7
"""Exit code of ``swarm verify-evidence`` for a file that holds, and shows no fraud."""
MESSAGE_CHARS_MAX = 600


class OutputLost(SwarmError):
    """Result that could not be written to stdout: it is closed, or the disk behind it is full."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the result could not be written to stdout: {reason}")


@dataclass(frozen=True, slots=True)
class Explained:
    """Failure as shown to a person."""

    message: str
    hint: str
    exit_code: int
    is_expected: bool


def explain(error: BaseException) -> Explained:
    """Return the sentence, the command that helps and the exit code of an error, or of a group of them.

    If all errors of a group were raised on purpose, the one with the highest exit code is explained: the others
    are its consequences.
    """
    from swarm.events import printable  # it needs libraries, and `swarm --help` does without them

    leaves = list(leaves_of(error))
    ours = [leaf for leaf in leaves if isinstance(leaf, SwarmError)]
    if ours and all(isinstance(leaf, SwarmError | KeyboardInterrupt) for leaf in leaves):
        first = max(ours, key=lambda leaf: leaf.exit_code)
        hint = printable(first.hint, MESSAGE_CHARS_MAX)
        return Explained(_message_of(first), hint, first.exit_code, True)
    if any(isinstance(leaf, KeyboardInterrupt) for leaf in leaves):
        return Explained("stopped", "", INTERRUPTED, True)
    strange = next((leaf for leaf in leaves if not isinstance(leaf, SwarmError)), error)
    if isinstance(strange, OSError) and _is_known(strange):
        return _of_system(strange)
    if isinstance(strange, MemoryError):
        return Explained("there is not enough memory for this", "close other programs", 1, True)
    return Explained(f"{type(strange).__name__}: {_message_of(strange)}", "", 1, False)


def _is_known(error: OSError) -> bool:
    return error.filename is not None or error.errno in {*_REMEDIES, errno.EBADF}


def _of_system(error: OSError) -> Explained:
    """Explain what the system refused."""
    from swarm.events import printable

    if error.errno == errno.EBADF and error.filename is None:  # nothing else is written to unopened
        lost = OutputLost("it is closed")
        return Explained(str(lost), "", lost.exit_code, True)
    name = error.filename
    where = "" if name is None else f": {os.fsdecode(name) if isinstance(name, bytes) else name}"
    text = printable(f"{error.strerror or type(error).__name__}{where}", MESSAGE_CHARS_MAX)
    return Explained(text, _REMEDIES.get(error.errno or 0, "check the path and its owner"), 1, True)


_REMEDIES = {
    errno.ENOSPC: "df -h; and free some room",
    errno.EDQUOT: "quota; and free some room",
    errno.EROFS: "--home DIR with a folder that can be written",
    errno.EMFILE: "ulimit -n 2048 before it",
    errno.ENFILE: "close other programs: this machine has too many files open",
    errno.EIO: "dmesg: the disk, or the terminal, does not answer",
}
"""Errors of the system that are nobody's mistake, and the action that helps."""


def is_reader_gone(error: BaseException) -> bool:
    """Return True if all errors say that the reader of our output has gone."""
    return all(isinstance(leaf, BrokenPipeError) for leaf in leaves_of(error))


def save_trace(error: BaseException, home: Path) -> Path | None:
    """Write the whole trace under ``home`` and return its path; None when even that fails."""
    path = home / f"trace-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        text = [f"swarm {' '.join(sys.argv[1:])}\n\n", *traceback.format_exception(error)]
        path.write_text("".join(text), encoding="utf-8", errors="backslashreplace")
    except (OSError, ValueError):
        return None
    return path


def _message_of(error: BaseException) -> str:
    from swarm.events import printable

    text = " ".join(str(error).split())
    return printable(text, MESSAGE_CHARS_MAX) or type(error).__name__
