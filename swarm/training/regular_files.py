"""Open what is a plain file, and nothing else.

Shell: reads the disk.

A folder from a stranger may hold links to files that are none of its business, and pipes that never end.
"""

import os
import stat
from pathlib import Path
from typing import BinaryIO

from swarm.errors import BadConfig


def open_regular(path: Path, *, follow: bool = False) -> BinaryIO:
    """Open a file for reading; a link only if ``follow``.

    Raises ``BadConfig`` for what is not there, not readable, a link, or no plain file.
    """
    # O_NONBLOCK: opening a pipe without a writer would wait for one.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    try:
        handle = os.open(path, flags)
    except OSError as error:
        is_link = not follow and path.is_symlink()
        cause = "it is a link" if is_link else (error.strerror or "unknown")
        raise BadConfig(f"{path} cannot be read: {cause}", hint=f"ls -l {path}") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise BadConfig(f"{path} is not a plain file", hint=f"ls -l {path}")
    return os.fdopen(handle, "rb")
