"""Derive the memory and the cores that this process may use from what the kernel says.

Core: pure functions of the texts of files and of limits; ``machine.py`` reads them.

A control group (cgroup) of a container or a service bounds all that is below it, so every group from that of
the process up to the root counts, in both versions. Linux ends a process that takes more, without a word; a
machine that is merely full swaps first.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

UNLIMITED = 1 << 60
"""Bytes from which on a limit is none: version 1 writes the largest number of pages where there is no limit."""
MIB = 1 << 20
GB = 10**9
NUMBER_CHARS_MAX = 20
"""Digits of the longest number that the kernel writes."""
_ESCAPED = re.compile(r"\\([0-7]{3})")


class Bound(StrEnum):
    """Kinds of bounds of memory."""

    MACHINE = "machine"
    GROUP = "control group"
    ADDRESSES = "address space"
    DATA = "data"


@dataclass(frozen=True, slots=True)
class Group:
    """Texts of the files of one control group, empty where there is none."""

    folder: str
    limit: str = ""
    """memory.max, or memory.limit_in_bytes."""
    high: str = ""
    """memory.high: the kernel stops processes for longer and longer above it."""
    used: str = ""
    """memory.current, or memory.usage_in_bytes."""
    stat: str = ""
    """memory.stat."""
    cores: str = ""
    """cpu.max: microseconds, or "max", and the period."""
    quota: str = ""
    """cpu.cfs_quota_us."""
    period: str = ""
    """cpu.cfs_period_us."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes that this process takes, and the limits of its own; None: unlimited."""

    resident: int
    addresses: int
    data: int
    addresses_max: int | None = None
    data_max: int | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that this process may have in all, those that it has included, and the bound that says so."""

    num_bytes: int
    bound: Bound
    folder: str = ""
    """Folder of the control group that binds."""

    @property
    def is_hard(self) -> bool:
        """True if who takes more is ended, or refused memory."""
        return self.bound is not Bound.MACHINE

    @property
    def text(self) -> str:
        """Clause that says how much there is, for the end of a sentence."""
        size = gigabytes(self.num_bytes)
        match self.bound:
            case Bound.MACHINE:
                return f"this machine has {size}"
            case Bound.GROUP:
                return f"its control group leaves it {size} ({self.folder})"
            case _:
                return f"the limit of its {self.bound.value} leaves it {size}"

    @property
    def remedy(self) -> str:
        """The action that makes it more; empty for the machine itself."""
        match self.bound:
            case Bound.MACHINE:
                return ""
            case Bound.GROUP:
                return "give the container more (docker run --memory, systemd MemoryMax=)"
            case Bound.ADDRESSES:
                return "ulimit -v unlimited"
            case Bound.DATA:
                return "ulimit -d unlimited"


def gigabytes(num_bytes: int) -> str:
    """Return bytes as gigabytes, with a digit after the point where there are few."""
    digits = 0 if num_bytes >= 10 * GB else 1
    return f"{num_bytes / GB:.{digits}f} GB"


def group_folders(groups: str, mounts: str, controller: str) -> list[str]:
    """Return the folders of the groups of a process, the innermost first, in version 1 and in version 2.

    Args:
        groups: text of /proc/self/cgroup.
        mounts: text of /proc/self/mountinfo.
        controller: name of a controller, such as "memory".
    """
    found = list[str]()
    for line in groups.splitlines():
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        is_second = number == "0" and not names
        if path.startswith("/") and (is_second or controller in names.split(",")):
            for root, point in _mounts_of(mounts, "" if is_second else controller):
                found += [one for one in _upwards(path, root, point) if one not in found]
    return found


def memory_of(physical: int, groups: Sequence[Group], usage: Usage) -> Memory:
    """Return the memory that a process may have: the least that its machine, groups and limits leave it."""
    found = [Memory(physical, Bound.MACHINE)]
    for group in groups:
        limits = [number for text in (group.limit, group.high) if (number := _number(text))]
        limits = [limit for limit in limits if limit < UNLIMITED]
        if limits or _number(group.limit) == 0:
            left = min(limits, default=0) - _others(group, usage.resident)
            found.append(Memory(max(left, 0), Bound.GROUP, group.folder))
    for most, taken, bound in (
        (usage.addresses_max, usage.addresses, Bound.ADDRESSES),
        (usage.data_max, usage.data, Bound.DATA),
    ):
        if most is not None and most < UNLIMITED:
            # What is mapped and not in memory (libraries, stacks of threads) is no room for tensors.
            found.append(Memory(max(most - max(taken - usage.resident, 0), 0), bound))
    return min(found, key=lambda memory: memory.num_bytes)


def cores_of(allowed: int, groups: Sequence[Group]) -> float:
    """Return the cores that a process may use: those that it may run on, and the time that its groups have."""
    shares = [float(max(allowed, 1))]
    for group in groups:
        quota, _, period = group.cores.strip().partition(" ")
        for share, span in ((quota, period), (group.quota, group.period)):
            used, whole = _number(share), _number(span)
            if used and whole:
                shares.append(used / whole)
    return min(shares)


def meminfo_bytes(text: str, name: str) -> int | None:
    """Return a line of /proc/meminfo or /proc/self/status in bytes; None if it is not there."""
    for line in text.splitlines():
        label, _, value = line.partition(":")
        words = value.split()
        if label == name and words and (number := _number(words[0])) is not None:
            return number * 1024
    return None


def _others(group: Group, resident: int) -> int:
    """Return the bytes in a group that are neither ours nor the kernel's to take back."""
    stat = dict[str, int]()
    for line in group.stat.splitlines():
        name, _, value = line.partition(" ")
        stat[name] = _number(value) or 0
    cached = max(
        stat.get("total_inactive_file", stat.get("inactive_file", 0))
        + stat.get("total_active_file", stat.get("active_file", 0)),
        0,
    )
    return max((_number(group.used) or 0) - cached - resident, 0)


def _number(text: str) -> int | None:
    """Return a number as the kernel writes it; None for "max", -1 and all else."""
    word = text.strip()
    return (
        int(word) if word.isascii() and word.isdigit() and len(word) <= NUMBER_CHARS_MAX else None
    )


def _mounts_of(mounts: str, controller: str) -> list[tuple[str, str]]:
    """Return (root, mount point) of the hierarchies of a controller; "" is version 2."""
    found = list[tuple[str, str]]()
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        if len(fields) < 5 or len(kind) < 3:
            continue
        is_second = kind[0] == "cgroup2" and not controller
        is_first = kind[0] == "cgroup" and controller and controller in kind[2].split(",")
        if is_second or is_first:
            found.append((_unescaped(fields[3]), _unescaped(fields[4])))
    return found


def _upwards(path: str, root: str, point: str) -> list[str]:
    """Return the folders of a group and of all above it, below a mount that shows the hierarchy from ``root``.

    A group outside of what is mounted (a container that shares the host's names) is seen as the mount itself.
    """
    root = root.rstrip("/")
    is_inside = (path == root or path.startswith(f"{root}/")) and ".." not in path.split("/")
    parts = [part for part in path[len(root) :].split("/") if part] if is_inside else []
    return [
        "/".join([point.rstrip("/"), *parts[:depth]]) or "/" for depth in range(len(parts), -1, -1)
    ]


def _unescaped(text: str) -> str:
    """Return a path of mountinfo with its spaces: they are written as octal numbers there."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), text)
