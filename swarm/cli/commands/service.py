"""Keep a node running as a service of this user: install, status, uninstall.

Shell: writes the units of ``cli/service_unit.py`` into the user's folder and talks to systemd by systemctl.
What it cannot have here it says, with what gives it.
"""

import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swarm.cli.terminal import Terminal, terminal
from swarm.errors import SwarmError, UsageError

if TYPE_CHECKING:
    from swarm.cli.service_unit import Service

SYSTEMCTL_S = 30.0
"""Seconds for one answer of systemd: a node that is stopped takes 3, and is ended after 10."""
ROOT = Path("/")
SHOWN = (
    *("ActiveState", "SubState", "NRestarts", "ExecMainStartTimestamp"),
    *("ExecMainCode", "ExecMainStatus"),
)
"""Properties of the unit that ``status`` asks for."""
CLD_EXITED = "1"
"""Code of a process that ended by itself, as wait(2) has it."""
DELEGATE = "sudo systemctl edit user@.service, with: [Service] Delegate=cpu memory pids"

service_app = typer.Typer(
    help="This node as a service of systemd: install, status, uninstall.", no_args_is_help=True
)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(service_app, name="service")


@service_app.command("install")
def install(
    cpu: Annotated[
        float | None, typer.Option(metavar="CORES", help="Most cores, such as 1.5.")
    ] = None,
    memory: Annotated[
        str, typer.Option(metavar="SIZE", help="Most memory, such as 4G or 900M.")
    ] = "",
    upload: Annotated[
        int | None, typer.Option(min=0, metavar="MBIT", help="Most that is sent, in Mbit/s.")
    ] = None,
    hours: Annotated[
        str, typer.Option(metavar="FROM-TO", help="Part of each day, such as 22:00-06:30.")
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the units; install nothing.")
    ] = False,
) -> None:
    """Run the node of this home from now on: restarted whatever ends it, and started with this machine.

    It does what swarm join does, so the home must have joined a network. Installed again, other caps hold.
    """
    from swarm.cli.service_unit import parse_cpu, parse_hours, parse_memory, units_of

    screen = terminal()
    if not any((screen.home / name).exists() for name in ("store.sqlite", "genesis.bin")):
        raise UsageError(
            f"{screen.home} has joined no network yet",
            hint=f"swarm join TICKET{screen.same_home}, until it trains; then Ctrl-C, and this again",
        )
    service = replace(
        _service(screen),
        cpu=0.0 if cpu is None else parse_cpu(cpu),
        memory_mb=parse_memory(memory) if memory else 0,
        upload_mbit=upload,
        hours=parse_hours(hours) if hours else None,
    )
    units = units_of(service)
    if dry_run:
        screen.data(units, [f"# {name}\n{text}" for name, text in units.items()])
        return
    _need_systemd()
    _remove(service.name)
    for name, text in units.items():
        _write(_folder() / name, text)
    _systemctl("daemon-reload")
    if service.hours is None:
        _systemctl("enable", f"{service.name}.service")
        _systemctl("restart", f"{service.name}.service")
    else:
        _systemctl("enable", f"{service.name}-hours.timer")
        _systemctl("restart", f"{service.name}-hours.timer")
        _systemctl("start", f"{service.name}-hours.service")
    notes = _notes(screen, service)
    for note in notes:
        screen.say(f"note: {note}")
    paths = [str(_folder() / name) for name in units]
    lines = [f"installed {path}" for path in paths]
    lines += [f"see it: swarm service status{screen.same_home}", f"its log: {_journal(service)}"]
    screen.data({"name": service.name, "units": paths, "notes": notes}, lines)


@service_app.command("status")
def status() -> None:
    """Say whether the service of this home runs, since when, and how often it was restarted."""
    screen = terminal()
    _need_systemd()
    service = _service(screen)
    if not (_folder() / f"{service.name}.service").exists():
        raise UsageError(
            f"{screen.home} has no service", hint=f"swarm service install{screen.same_home}"
        )
    answer = _systemctl(
        "show", f"{service.name}.service", *(f"--property={name}" for name in SHOWN)
    )
    rows = (line.partition("=") for line in answer.splitlines())
    found = {name: value for name, _, value in rows}
    notes = _notes(screen, service)
    row: dict[str, object] = {
        "name": service.name,
        "state": found.get("ActiveState", ""),
        "detail": found.get("SubState", ""),
        "restarts": int(found.get("NRestarts") or 0),
        "since": found.get("ExecMainStartTimestamp", ""),
        "last_exit": int(found.get("ExecMainStatus") or 0),
        "notes": notes,
    }
    lines = [
        f"{service.name}.service is {row['state']} ({row['detail']})",
        f"started {row['since'] or 'never'}, restarted {row['restarts']} times by itself",
        *([f"it was ended by {_ending(found)}"] if row["last_exit"] else []),
        f"its log: {_journal(service)}",
    ]
    screen.data(row, [*lines, *(f"note: {note}" for note in notes)])


@service_app.command("uninstall")
def uninstall() -> None:
    """Stop the service of this home and remove its units; the home stays as it is."""
    screen = terminal()
    _need_systemd()
    removed = _remove(_service(screen).name)
    _systemctl("daemon-reload")
    if not removed:
        raise UsageError(
            f"{screen.home} has no service", hint=f"swarm service install{screen.same_home}"
        )
    screen.data({"removed": removed}, [f"removed {path}" for path in removed])


@service_app.command("keep-hours", hidden=True)
def keep_hours(hours: Annotated[str, typer.Argument(metavar="FROM-TO")]) -> None:
    """Start or stop the service by this machine's clock; its timer calls this at both ends of the hours."""
    from swarm.cli.service_unit import parse_hours

    screen, now = terminal(), time.localtime()
    is_time = parse_hours(hours).holds(now.tm_hour * 60 + now.tm_min)
    verb = "start" if is_time else "stop"
    _systemctl(verb, "--no-block", f"{_service(screen).name}.service")
    screen.data({"hours": hours, "verb": verb}, [f"{verb} by the hours {hours}"])


def _service(screen: Terminal) -> "Service":
    """Return the service of this home, without caps."""
    from swarm.cli.service_unit import Service, unit_name

    home = str(screen.home)
    name = unit_name(home, str(Path("~/.swarm").expanduser()))
    return Service(name=name, program=_program(), home=home)


def _program() -> tuple[str, ...]:
    """Return the command line that starts this program from anywhere."""
    used = shutil.which(sys.argv[0])
    if used is not None and Path(used).name == "swarm":
        return (str(Path(used).absolute()),)
    return (sys.executable, "-m", "swarm.cli.main")


def _folder() -> Path:
    config = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(config) if config else Path("~/.config").expanduser()) / "systemd" / "user"


def _write(path: Path, text: str) -> None:
    from swarm.files import write_whole

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text.encode(), replaces=True)
    except OSError as error:
        raise UsageError(
            f"cannot write {path}: {error.strerror}", hint=f"ls -ld {path.parent}"
        ) from None


def _remove(name: str) -> list[str]:
    """Stop and remove the units of a service; return their paths."""
    removed = list[str]()
    for unit in (f"{name}-hours.timer", f"{name}-hours.service", f"{name}.service"):
        path = _folder() / unit
        if path.exists():
            _systemctl("disable", "--now", unit)
            path.unlink()
            removed.append(str(path))
    return removed


def _need_systemd() -> None:
    """Raise ``UsageError``, with what to do instead, where systemd does not run for this user."""
    is_booted = (ROOT / "run/systemd/system").is_dir() and shutil.which("systemctl") is not None
    is_container = any((ROOT / name).exists() for name in (".dockerenv", "run/.containerenv"))
    if not is_booted and is_container:
        raise UsageError(
            "this is a container, without systemd: what runs it restarts it",
            hint="docker run --restart unless-stopped ... (docs/install.md)",
        )
    if not is_booted:
        raise UsageError(
            "systemd does not run on this system",
            hint="let what starts your services run: swarm join --plain (docs/install.md)",
        )
    try:
        _systemctl("show-environment")
    except SwarmError:
        raise UsageError(
            "systemd runs, but keeps no services for this user yet",
            hint=f"sudo loginctl enable-linger {_user()}; then log in again, not by su or sudo",
        ) from None


def _systemctl(*words: str) -> str:
    """Return what systemctl of this user prints; raise ``SwarmError`` with its words where it fails."""
    try:
        done = subprocess.run(  # noqa: S603  fixed words, and names made here
            ["systemctl", "--user", *words],  # noqa: S607  that of the PATH
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SYSTEMCTL_S,
            check=False,
        )
    except FileNotFoundError:
        raise UsageError("there is no systemctl on the PATH", hint="echo $PATH") from None
    except subprocess.TimeoutExpired:
        raise SwarmError("systemd did not answer", hint="systemctl --user status") from None
    if done.returncode:
        told = " ".join(done.stderr.decode("utf-8", "replace").split())[:300]
        raise SwarmError(
            f"systemctl {words[0]} failed: {told}", hint="systemctl --user status, for more"
        )
    return done.stdout.decode("utf-8", "replace")


def _notes(screen: Terminal, service: "Service") -> list[str]:
    """Return what the service lacks on this system, each with what gives it."""
    found = list[str]()
    user = _user()
    if os.geteuid() and not (ROOT / "var/lib/systemd/linger" / user).exists():
        found.append(f"it ends when you log out, until: sudo loginctl enable-linger {user}")
    groups = ROOT / "sys/fs/cgroup/user.slice" / f"user-{os.geteuid()}.slice"
    with suppress(OSError):
        path = groups / f"user@{os.geteuid()}.service" / "cgroup.controllers"
        held = path.read_text("ascii", "replace").split()
        asked = {"cpu": service.cpu, "memory": service.memory_mb}
        found += [
            f"this system does not let users limit {name}: {DELEGATE}"
            for name, limit in asked.items()
            if limit and name not in held
        ]
    if (is_held := _held_elsewhere(screen.home, service)) is not None:
        found.append(f"process {is_held} uses this home; the service takes over when it ends")
    return found


def _held_elsewhere(home: Path, service: "Service") -> int | None:
    """Return the process of a node in this home that is not the service; None if there is none."""
    from swarm.cli.client import find_node

    address = find_node(home)
    if address is None:
        return None
    main = _systemctl("show", f"{service.name}.service", "--property=MainPID", "--value").strip()
    return None if main == str(address.pid) else address.pid


def _ending(found: dict[str, str]) -> str:
    """Return how the process of the unit ended: by its own exit code, or by a signal."""
    kind = "exit code" if found.get("ExecMainCode") == CLD_EXITED else "signal"
    return f"{kind} {found.get('ExecMainStatus', '')}"


def _journal(service: "Service") -> str:
    return f"journalctl --user --unit {service.name}"


def _user() -> str:
    return os.environ.get("USER") or str(os.geteuid())
