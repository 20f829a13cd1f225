"""Write files for people so that each is whole or not there: aside first, then under its name.

Shell: the only place that names a draft. A crash, a full disk or another process leaves the old file, or none.
"""

import errno
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

SECRET, USUAL = 0o600, 0o666
"""Modes of a file with a secret, and of others before the umask."""
_UNLINKABLE = frozenset(
    {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
)
"""Errors of a file system without hard links: exFAT, FAT, some of networks and of Windows."""


def write_whole(path: Path, data: bytes, *, is_secret: bool = False, replaces: bool = True) -> None:
    """Write a file; it has its name only once it is whole and on the disk.

    What is no file, such as a pipe or /dev/stdout, is written to as it is. A link is replaced, not followed.

    Args:
        path: name of the file.
        data: its bytes.
        is_secret: True for mode 0600 from the first byte on.
        replaces: False to raise ``FileExistsError`` if the name is taken, also by another process meanwhile.

    Raises:
        OSError: it cannot be written; what was there is as it was.
    """
    with suppress(FileNotFoundError):
        kind = path.stat().st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            with path.open("wb") as special:
                special.write(data)
            return
    draft = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    handle = os.open(draft, flags, SECRET if is_secret else USUAL)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replaces:
            draft.replace(path)
        else:
            give_name(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(path.parent)


def give_name(draft: Path, path: Path) -> None:
    """Give a draft its name, which nobody may have; raises ``FileExistsError``.

    A link never replaces. Where there are none the name is taken by an empty file first: of two processes one
    gets it, and a crash in between leaves that empty file.
    """
    try:
        os.link(draft, path)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in _UNLINKABLE:
            raise
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, SECRET))
        draft.replace(path)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the file system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
