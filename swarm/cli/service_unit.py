"""Write the units of systemd that keep a node running: with caps, and within hours of the day.

Core: settings in, texts out; ``commands/service.py`` installs them.

The service is the node itself. Where it runs within hours only, a timer starts a second, short unit at both
ends of them and with the user's session, which starts the node or stops it: a machine that was off at either
end is right a moment after it is on.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from swarm.errors import UsageError
from swarm.primitives.crypto import digest

RESTART_S = 5
"""Seconds after which a node that ended is started again; with the start it is back well within 60."""
STOP_S = 10
"""Seconds to end in order: a node takes 3 (C5)."""
OPEN_FILES = 2048
"""Open files of a busy node; ``machine.py`` says of what."""
NICE = 10
"""Priority below that of the person at this machine."""
CORES_MAX = 1024
MEMORY_MB_MIN = 700
"""A node without a shard takes 600 MB."""
DAY_MINUTES = 24 * 60
_MEMORY = re.compile(r"([0-9]{1,7})([MG])")
_HOURS = re.compile(r"([0-2]?[0-9]):([0-5][0-9])-([0-2]?[0-9]):([0-5][0-9])")


@dataclass(frozen=True, slots=True)
class Hours:
    """Part of each day, in minutes since midnight; it may go over midnight."""

    first: int
    last: int

    def holds(self, minute: int) -> bool:
        """Return True if a minute of the day is one of them."""
        inside = self.first <= minute, minute < self.last
        return all(inside) if self.first < self.last else any(inside)

    def __str__(self) -> str:
        return f"{_clock(self.first)}-{_clock(self.last)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Node that a service keeps running."""

    name: str
    """Name of the unit, without its suffix."""
    program: tuple[str, ...]
    """Command line of this program, by absolute paths."""
    home: str
    cpu: float = 0.0
    """Cores, as a number; 0: no limit."""
    memory_mb: int = 0
    """0: no limit."""
    upload_mbit: int | None = None
    """None: what node.toml says."""
    hours: Hours | None = None
    """None: always."""


def unit_name(home: str, usual_home: str) -> str:
    """Return the name of the unit of a home: ``swarm`` for the usual one, and one for each other."""
    if home == usual_home:
        return "swarm"
    return f"swarm-{digest('service-name', home.encode('utf-8', 'surrogateescape')).hex()[:8]}"


def units_of(service: Service) -> dict[str, str]:
    """Return the texts of the units of a service by file name."""
    found = {f"{service.name}.service": _node_unit(service)}
    if service.hours is not None:
        found[f"{service.name}-hours.service"] = _hours_unit(service, service.hours)
        found[f"{service.name}-hours.timer"] = _timer(service, service.hours)
    return found


def parse_cpu(cores: float) -> float:
    """Return a number of cores; raise ``UsageError`` if no machine has it."""
    if not 0.1 <= cores <= CORES_MAX:
        raise UsageError(
            f"--cpu {cores:g} is no number of cores", hint="swarm service install --cpu 2"
        )
    return cores


def parse_memory(text: str) -> int:
    """Return the MB of a text like 4G or 900M; raise ``UsageError`` if it is none, or too little for a node."""
    found = _MEMORY.fullmatch(text.strip().upper())
    if found is None:
        raise UsageError(
            f"--memory {text[:40]} is no size", hint="swarm service install --memory 4G"
        )
    num_mb = int(found[1]) * (1024 if found[2] == "G" else 1)
    if num_mb < MEMORY_MB_MIN:
        raise UsageError(
            f"--memory {text} is less than a node takes without a shard",
            hint=f"swarm service install --memory {MEMORY_MB_MIN}M, or more",
        )
    return num_mb


def parse_hours(text: str) -> Hours:
    """Return the hours of a text like 22:00-06:30; raise ``UsageError`` if it names none."""
    found = _HOURS.fullmatch(text.strip())
    if found is not None:
        hour, minute, last_hour, last_minute = map(int, found.groups())
        hours = Hours(hour * 60 + minute, last_hour * 60 + last_minute)
        if max(hours.first, hours.last) < DAY_MINUTES and hours.first != hours.last:
            return hours
    raise UsageError(
        f"--hours {text[:40]} is no part of a day", hint="swarm service install --hours 22:00-06:30"
    )


def quoted(words: Sequence[str]) -> str:
    """Return words as one command line of a unit: systemd expands $ and %, and knows backslashes and quotes."""
    parts = list[str]()
    for word in words:
        safe = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
        safe = safe.replace("\n", "\\n").replace("\r", "\\r")
        is_plain = re.fullmatch(r"[\w@+=:,./~-]+", word) is not None
        parts.append(word if is_plain else f'"{safe}"')
    return " ".join(parts)


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _node_unit(service: Service) -> str:
    join = [*service.program, "--home", service.home, "--plain", "join"]
    if service.upload_mbit is not None:
        join += ["--upload", str(service.upload_mbit)]
    caps = list[str]()
    if service.cpu:
        caps.append(f"CPUQuota={round(service.cpu * 100)}%")
    if service.memory_mb:
        caps += [f"MemoryMax={service.memory_mb}M", "MemorySwapMax=0"]
    wanted = [] if service.hours else ["", "[Install]", "WantedBy=default.target"]
    lines = [
        "# Written by swarm service install, which writes it anew each time.",
        "[Unit]",
        f"Description=swarm, training in {_text(service.home)}",
        "# However often it ends, it is started again.",
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "Type=exec",
        f"ExecStart={quoted(join)}",
        "Restart=always",
        f"RestartSec={RESTART_S}",
        "KillMode=mixed",
        f"TimeoutStopSec={STOP_S}",
        f"LimitNOFILE={OPEN_FILES}",
        f"Nice={NICE}",
        *caps,
        *wanted,
    ]
    return "\n".join(lines) + "\n"


def _hours_unit(service: Service, hours: Hours) -> str:
    command = [*service.program, "--home", service.home, "service", "keep-hours", str(hours)]
    lines = [
        "# Written by swarm service install, which writes it anew each time.",
        "[Unit]",
        f"Description=swarm, starting or stopping by the hours {hours}",
        "",
        "[Service]",
        "Type=oneshot",
        f"ExecStart={quoted(command)}",
    ]
    return "\n".join(lines) + "\n"


def _timer(service: Service, hours: Hours) -> str:
    lines = [
        "# Written by swarm service install, which writes it anew each time.",
        "[Unit]",
        f"Description=swarm, at both ends of the hours {hours}",
        "",
        "[Timer]",
        f"OnCalendar=*-*-* {_clock(hours.first)}:00",
        f"OnCalendar=*-*-* {_clock(hours.last)}:00",
        "OnStartupSec=1",
        "AccuracySec=1",
        f"Unit={service.name}-hours.service",
        "",
        "[Install]",
        "WantedBy=timers.target",
    ]
    return "\n".join(lines) + "\n"


def _text(path: str) -> str:
    """Return a path for a description: on one line, and without specifiers."""
    return "".join(c if c.isprintable() else "?" for c in path).replace("%", "%%")
