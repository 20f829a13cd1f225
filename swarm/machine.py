"""Read what this process may use of the machine: memory, cores, room for files, open files.

Shell: reads /proc and /sys, asks for limits and raises that of open files. It loads nothing heavy.
"""

import os
import resource
import shutil
import sys
import tempfile
from pathlib import Path

from swarm.errors import UsageError
from swarm.limits import Group, Memory, Usage, cores_of, group_folders, meminfo_bytes, memory_of

ROOT = Path("/")
IN_MEMORY = Path("/dev/shm")  # noqa: S108  (folders of our own are made in it, for this user alone)
TEXT_BYTES_MAX = 1 << 20
"""Bytes read of a file of the kernel: a mountinfo of thousands of containers has less."""
OPEN_FILES = 2048
"""Open files of a busy node: 256 connections, 128 handshakes, the page's 32 streams, blobs and windows read at
once, tensors in files, libraries; three times that."""
OPEN_FILES_MIN = 512
"""Open files with which a node with few peers gets along."""
_NAMES = {
    "limit": ("memory.max", "memory.limit_in_bytes"),
    "high": ("memory.high",),
    "used": ("memory.current", "memory.usage_in_bytes"),
    "stat": ("memory.stat",),
    "cores": ("cpu.max",),
    "quota": ("cpu.cfs_quota_us",),
    "period": ("cpu.cfs_period_us",),
}


def read_memory(root: Path = ROOT) -> Memory:
    """Return the memory that this process may have, and what says so; ``root`` holds /proc and /sys."""
    status = _text(root / "proc/self/status")
    usage = Usage(
        resident=resident_bytes(root),
        addresses=meminfo_bytes(status, "VmSize") or 0,
        data=meminfo_bytes(status, "VmData") or 0,
        addresses_max=_limit(resource.RLIMIT_AS),
        data_max=_limit(resource.RLIMIT_DATA),
    )
    return memory_of(_physical_bytes(root), _groups(root, "memory"), usage)


def read_cores(root: Path = ROOT) -> float:
    """Return the cores that this process may use: a whole number, or less where its group has a quota."""
    if sys.platform == "linux":
        allowed = len(os.sched_getaffinity(0))
    else:
        allowed = os.cpu_count() or 1
    return cores_of(allowed, _groups(root, "cpu"))


def resident_bytes(root: Path = ROOT) -> int:
    """Return the bytes of this process that are in memory; without /proc, the most so far."""
    found = meminfo_bytes(_text(root / "proc/self/status"), "VmRSS")
    if found is not None:
        return found
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def limit_addresses(num_bytes: int) -> None:
    """Let the kernel refuse this process more than ``num_bytes`` beyond the addresses it has; Linux only.

    Other kernels do not enforce the limit (macOS ignores it).
    """
    if sys.platform == "linux":
        taken = meminfo_bytes(_text(ROOT / "proc/self/status"), "VmSize") or 0
        most = taken + num_bytes
        hard = _limit(resource.RLIMIT_AS, which=1)
        most = most if hard is None else min(most, hard)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def raise_open_files(wanted: int = OPEN_FILES) -> str:
    """Raise the soft limit of open files to what a node needs; return a warning if the hard one is too low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    endless = resource.RLIM_INFINITY
    if soft == endless or soft >= wanted:
        return ""
    most = wanted if hard == endless else min(wanted, hard)
    if most > soft:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
        except (OSError, ValueError):  # macOS has a bound of its own below the hard limit
            pass
    return open_files_text(soft, wanted)


def open_files_text(soft: int, wanted: int = OPEN_FILES) -> str:
    """Return a sentence if a process may open fewer files than a busy node needs; else nothing."""
    if soft >= wanted:
        return ""
    harm = "it will fail" if soft < OPEN_FILES_MIN else "with many peers it will refuse some"
    return (
        f"this process may open {soft} files, and a node needs up to {wanted}: {harm};"
        f" before it starts: ulimit -n {wanted} (systemd: LimitNOFILE={wanted})"
    )


def open_files() -> tuple[int, int]:
    """Return the soft and the hard limit of open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    endless = resource.RLIM_INFINITY
    return (sys.maxsize if soft == endless else soft, sys.maxsize if hard == endless else hard)


def free_bytes(folder: Path) -> int:
    """Return the bytes that this user may still write in a folder, or in the nearest one above that exists."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def is_read_only(path: Path) -> bool:
    """Return True for a file or folder on a medium that nobody can write, such as a mounted backup."""
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def scratch_folders() -> list[Path]:
    """Return the folders for shared temporary files that can be written, memory before disk; maybe none."""
    found = [IN_MEMORY] if IN_MEMORY.is_dir() and os.access(IN_MEMORY, os.W_OK | os.X_OK) else []
    try:
        folder = Path(tempfile.gettempdir())
    except OSError:  # a root that is read-only, and no TMPDIR
        return found
    return found if folder in found else [*found, folder]


def make_scratch(prefix: str) -> Path:
    """Make a folder for temporary files, of this user alone; raises ``UsageError`` where none can be made."""
    try:
        return Path(tempfile.mkdtemp(prefix=prefix))
    except OSError as error:
        raise UsageError(
            f"no folder for temporary files can be written ({error.strerror})",
            hint="TMPDIR=FOLDER before the command, with a folder that can be written",
        ) from None


def _groups(root: Path, controller: str) -> list[Group]:
    groups, mounts = _text(root / "proc/self/cgroup"), _text(root / "proc/self/mountinfo")
    return [_group(root, name) for name in group_folders(groups, mounts, controller)]


def _group(root: Path, name: str) -> Group:
    folder = root / name.lstrip("/")
    texts = {
        field: next((text for one in names if (text := _text(folder / one))), "")
        for field, names in _NAMES.items()
    }
    return Group(folder=name, **texts)


def _text(path: Path) -> str:
    """Return the text of a file of the kernel; empty if there is none, or it may not be read."""
    try:
        with path.open("rb") as file:
            return file.read(TEXT_BYTES_MAX).decode("utf-8", "replace")
    except OSError:
        return ""


def _physical_bytes(root: Path) -> int:
    """Return the bytes of memory of the machine, as its kernel says."""
    found = meminfo_bytes(_text(root / "proc/meminfo"), "MemTotal")
    return found or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _limit(kind: int, *, which: int = 0) -> int | None:
    """Return the soft (0) or hard (1) limit of a resource; None: unlimited."""
    limit = resource.getrlimit(kind)[which]
    return None if limit == resource.RLIM_INFINITY else limit
