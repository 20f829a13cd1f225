"""Load or create the key of this node, and lock its home for one process at a time.

Shell: files and one advisory lock.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Generator
from pathlib import Path

from swarm.errors import BadIdentity
from swarm.files import give_name, sync_folder
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
            mode = _mode_of(file.fileno())
            if mode & 0o077:
                raise _open_to_others(path, mode)
            text = file.read(KEY_CHARS_MAX)
    except OSError as error:
        if error.errno == errno.ELOOP and path.is_symlink():
            raise BadIdentity(
                f"{path} is a link, and whoever may change the link chooses the key",
                hint=f"put the key itself there: cp --remove-destination $(readlink -f {path}) {path}",
            ) from None
        raise BadIdentity(
            f"cannot use {path}: {error.strerror}", hint=f"check who owns {home}, or choose --home"
        ) from None
    return _parse(text, path)


def _open_to_others(path: Path, mode: int) -> BadIdentity:
    """Return the error of a key that others can read: by its mode, or on a disk that has no modes."""
    if keeps_modes(path.parent):
        return BadIdentity(
            f"{path} can be read by other users (mode {mode:04o})", hint=f"chmod 600 {path}"
        )
    return BadIdentity(
        f"{path} is on a disk that keeps no modes, where every user can read it (mode {mode:04o})",
        hint="--home DIR on a disk of Linux, such as ~/.swarm (WSL: or mount /mnt/c with -o metadata)",
    )


def keeps_modes(folder: Path) -> bool:
    """Return True if a new file of mode 0600 in this folder has it; True too where none can be made."""
    probe = folder / f".mode.{secrets.token_hex(8)}"
    try:
        handle = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError:
        return True
    try:
        return not _mode_of(handle) & 0o077
    finally:
        os.close(handle)
        probe.unlink(missing_ok=True)


def _mode_of(handle: int) -> int:
    return stat.S_IMODE(os.fstat(handle).st_mode)


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

    A name is never replaced, so of two processes that start at once, the second reads the first's key.
    """
    draft = path.with_name(f".{KEY_FILE}.{secrets.token_hex(8)}")
    seed = secrets.token_bytes(SEED_BYTES)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(seed.hex().encode("ascii") + b"\n")
            file.flush()
            os.fsync(file.fileno())
            if (mode := _mode_of(file.fileno())) & 0o077:
                raise _open_to_others(path, mode)
        try:
            give_name(draft, path)
        except FileExistsError:
            return _parse(path.read_bytes()[:KEY_CHARS_MAX], path)
    finally:
        draft.unlink(missing_ok=True)
    unused = path.with_name(UNUSED_FILE)
    unused.write_bytes(b"%d\n" % folder_number(path.parent))
    sync_folder(path.parent)
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
