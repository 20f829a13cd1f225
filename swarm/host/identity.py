"""Load or create the key of this node, and lock its home for one process at a time.

Shell: files and one advisory lock.
"""

import contextlib
import fcntl
import os
import secrets
import stat
from collections.abc import Generator
from pathlib import Path

from swarm.errors import BadIdentity
from swarm.primitives.crypto import SecretKey

KEY_FILE = "identity.key"
LOCK_FILE = "lock"
UNUSED_FILE = "identity.unused"
"""Says that the key was made in this folder, whose inode it holds, and has signed no vote yet."""
SEED_BYTES = 32
KEY_CHARS_MAX = 256
"""Characters read of the key file, more than a key can have: a longer file is something else."""


def load_identity(home: Path) -> SecretKey:
    """Return the key of ``home/identity.key`` (32-byte seed as hex, mode 0600), created on first use.

    Raises ``BadIdentity`` with a hint if the file is unreadable, open to others, or not a key.
    """
    path = home / KEY_FILE
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return _create(path)
        with os.fdopen(handle, "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise BadIdentity(
                    f"{path} can be read by other users (mode {mode:04o})",
                    hint=f"chmod 600 {path}",
                )
            text = file.read(KEY_CHARS_MAX)
    except OSError as error:
        raise BadIdentity(
            f"cannot use {path}: {error.strerror}", hint=f"check who owns {home}, or choose --home"
        ) from None
    return _parse(text, path)


def _parse(text: bytes, path: Path) -> SecretKey:
    try:
        seed = bytes.fromhex(text.decode("ascii").strip())
    except (ValueError, UnicodeDecodeError):
        seed = b""
    if len(seed) != SEED_BYTES:
        raise BadIdentity(
            f"{path} does not hold a key",
            hint=f"restore it from a backup, or move it away for a new identity: mv {path} {path}.bad",
        )
    return SecretKey.from_seed(seed)


def _create(path: Path) -> SecretKey:
    """Create a random key and write it so that a crash leaves either no file or a whole one.

    ``link`` refuses to replace, so of two processes that start at once, the second reads the first's key.
    """
    draft = path.with_name(f".{KEY_FILE}.{secrets.token_hex(8)}")
    seed = secrets.token_bytes(SEED_BYTES)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(seed.hex().encode("ascii") + b"\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return _parse(path.read_bytes()[:KEY_CHARS_MAX], path)
    finally:
        draft.unlink(missing_ok=True)
    unused = path.with_name(UNUSED_FILE)
    unused.write_bytes(b"%d\n" % folder_number(path.parent))
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return SecretKey.from_seed(seed)


def folder_number(home: Path) -> int:
    """Return the inode of a folder: a copy of it has another one, and so has one restored from a backup."""
    return home.stat().st_ino


@contextlib.contextmanager
def lock_home(home: Path) -> Generator[None]:
    """Hold ``home`` for this process; raise ``BadIdentity`` naming the process that has it.

    The kernel releases the lock when the process dies, however it dies.
    """
    path = home / LOCK_FILE
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise BadIdentity(
            f"cannot use {path}: {error.strerror}", hint=f"check who owns {home}, or choose --home"
        ) from None
    with os.fdopen(handle, "r+b", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = file.read(32).decode("ascii", "replace").strip() or "unknown"
            raise BadIdentity(
                f"{home} is already in use by pid {owner}",
                hint=f"stop it with: kill {owner}, or give this node another --home",
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n".encode("ascii"))
        yield
