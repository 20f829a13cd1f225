"""Look at everything that a node needs of this machine, and say what to mend: doctor.

Shell: reads the machine and the home; ``cli/checkup.py`` judges. Nothing is changed, and it takes 10 s at most:
what is slow runs in another process or thread, and is left behind when its time is over.
"""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swarm.cli.terminal import Terminal, terminal
from swarm.errors import SwarmError, UsageError

if TYPE_CHECKING:
    from swarm.cli.checkup import Finding
    from swarm.config.schema import NodeConfig
    from swarm.events import Event

PATIENCE_S = 6.5
"""Seconds after which slow checks are left behind: with the start of the program, 10 on a busy machine."""
DIAL_S = 1.5
"""Seconds for a connection to an address of the ticket."""
EVENTS_SHOWN = 200
EVENTS_BYTES = 256 << 10
"""Bytes read from the end of the log of events."""
FILES_SHOWN = 200
SELF_TEST = """
import json
from swarm.errors import SwarmError
from swarm.gossip.codecs.native import load
from swarm.primitives.blake3_tree import compiled
from swarm.training.model.exact import native
from swarm.training.model.exact.selftest import trusted_kernels
try:
    native.load()
    found = trusted_kernels()
    answer = {"name": found.name, "notice": found.notice}
except native.NotBuilt as missing:  # the reference takes longer to test than anybody waits
    answer = {"name": "reference", "notice": str(missing)}
except SwarmError as error:
    answer = {"error": str(error)}
print(json.dumps({**answer, "tree": compiled() is not None, "levels": load() is not None}))
"""
FAILURE = 1
"""Exit code if a check is bad."""


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("doctor", short_help="Check this machine and this home; say what to mend.")(doctor)


def doctor(
    bundle: Annotated[
        str,
        typer.Option(help="Write a report without keys, addresses and paths to this new file."),
    ] = "",
) -> None:
    """Check this machine and this home in 10 seconds: a state, a sentence, and what mends it.

    Ends with exit code 1 if a check is bad.
    """
    from swarm.cli.checkup import State, finding_lines

    screen = terminal()
    findings = examine(screen.home)
    rows = [found.row for found in findings]
    is_well = all(found.state is not State.BAD for found in findings)
    screen.data({"is_well": is_well, "checks": rows}, finding_lines(findings, screen.ink))
    if bundle:
        _write_bundle(screen, Path(bundle), rows)
    if not is_well:
        raise typer.Exit(FAILURE)


def examine(home: Path) -> "list[Finding]":
    """Return the findings of all checks, in the order of what depends on what."""
    began = time.monotonic()
    test = subprocess.Popen(  # noqa: S603  our own program
        [sys.executable, "-c", SELF_TEST],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parents[3],
    )
    slow = [
        _Slow("ledger", _ledger, home),
        _Slow("node", _node, home),
        _Slow("reach", _reach, home),
        _Slow("ticket", _ticket, home),
    ]
    config = _config(home)
    quick = [
        *_machine(home, config),
        _settings(home),
        _home(home),
        _key(home),
        _clock(home),
        _ports(home, config),
        _power(),
        _errors(home),
    ]
    late = [one.result(PATIENCE_S - (time.monotonic() - began)) for one in slow]
    return [*quick, *late, _kernels(test, PATIENCE_S - (time.monotonic() - began))]


class _Slow:
    """Check in a thread, which is left behind when its time is over."""

    def __init__(self, name: str, check: "Callable[[Path], Finding]", home: Path) -> None:
        self._name = name
        self._found: list[Finding] = []
        self._thread = threading.Thread(target=self._run, args=(check, home), daemon=True)
        self._thread.start()

    def result(self, timeout_s: float) -> "Finding":
        """Return the finding, or that there is none yet."""
        from swarm.cli.checkup import warning

        self._thread.join(max(timeout_s, 0.1))
        if self._found:
            return self._found[0]
        return warning(self._name, "took too long to look at", "run it on a quieter machine")

    def _run(self, check: "Callable[[Path], Finding]", home: Path) -> None:
        from swarm.cli.checkup import bad

        try:
            self._found.append(check(home))
        except (SwarmError, OSError, ValueError) as error:
            hint = getattr(error, "hint", "") or "swarm status"
            self._found.append(bad(self._name, str(error), hint))


def _config(home: Path) -> "NodeConfig":
    from swarm.config.resources import load_node
    from swarm.config.schema import NodeConfig

    with suppress(SwarmError, OSError):
        return load_node(home)
    return NodeConfig()


def _settings(home: Path) -> "Finding":
    from swarm.cli.checkup import bad, good
    from swarm.config.resources import NODE_FILE, load_node

    try:
        load_node(home)
    except (SwarmError, OSError) as error:
        return bad("settings", str(error), getattr(error, "hint", "") or f"ls -l {home}")
    has_file = (home / NODE_FILE).exists()
    return good("settings", f"{home / NODE_FILE} can be used" if has_file else "the usual ones")


def _machine(home: Path, config: "NodeConfig") -> "list[Finding]":
    """Check Python, packages, memory, cores, open files, and the rooms for files."""
    from swarm.cli import checkup
    from swarm.machine import (
        free_bytes,
        open_files,
        open_files_text,
        read_cores,
        read_memory,
        scratch_folders,
    )

    soft, hard = open_files()
    text = open_files_text(hard)
    files = (
        checkup.warning("files", text, "ulimit -n 2048 (systemd: LimitNOFILE=2048)")
        if text
        else checkup.good("files", f"{min(soft, hard):,} open at once, and a node may raise that")
    )
    rooms = scratch_folders()
    parts = [f"{free_bytes(room) / 1e9:.1f} GB in {room}" for room in rooms]
    scratch = (
        checkup.good("scratch", f"temporary files: {', '.join(parts)}")
        if rooms
        else checkup.bad("scratch", "no folder for temporary files", "TMPDIR=FOLDER before swarm")
    )
    is_known = sys.platform in {"linux", "darwin"}
    return [
        checkup.judge_python(sys.version_info[:3], is_known_system=is_known),
        checkup.judge_packages(*_packages()),
        checkup.judge_memory(read_memory()),
        checkup.judge_cores(read_cores(), config.threads),
        files,
        checkup.judge_room(free_bytes(home), config.disk_quota_mb, str(home)),
        scratch,
    ]


def _packages() -> tuple[dict[str, str], dict[str, str]]:
    """Return the versions that are tested, where their list is, and those that are installed, by name."""
    from importlib.metadata import distributions

    installed = dict[str, str]()
    for one in distributions():
        name = str(one.metadata["Name"] or "").lower().replace("_", "-")
        installed.setdefault(name, one.version)
    pins = dict[str, str]()
    with suppress(OSError):
        path = Path(__file__).parents[3] / "constraints.txt"
        for line in path.read_text("utf-8").splitlines():
            name, _, pin = line.partition(";")[0].partition("==")
            if pin:
                pins[name.strip().lower().replace("_", "-")] = pin.strip()
    return pins, installed


def _home(home: Path) -> "Finding":
    from swarm.cli.checkup import bad, good, warning
    from swarm.machine import is_read_only

    if not home.exists():
        return good("home", f"{home} is made at the first start")
    if not home.is_dir():
        return bad("home", f"{home} is no folder", "--home DIR")
    if is_read_only(home):
        return warning("home", f"{home} can be read and not written", "--home DIR, for a node")
    stat = home.stat()
    if stat.st_uid != os.geteuid():
        return bad("home", f"{home} is another user's", f"sudo chown -R {os.geteuid()} {home}")
    if stat.st_mode & 0o022:
        return bad("home", f"{home} can be written by other users", f"chmod 700 {home}")
    return good("home", f"{home} is this user's")


def _key(home: Path) -> "Finding":
    from swarm.cli.checkup import bad, good
    from swarm.host.identity import KEY_FILE, load_identity
    from swarm.primitives.crypto import peer_name

    if not os.path.lexists(home / KEY_FILE):
        return good("key", "none yet; the first start makes one")
    try:
        return good("key", f"{peer_name(load_identity(home).peer)}, for this user alone")
    except SwarmError as error:
        return bad("key", str(error), error.hint)


def _clock(home: Path) -> "Finding":
    from swarm.cli.checkup import judge_clock

    seen = [event.at_ms / 1000 for event in _events(home)[-1:]]
    with suppress(OSError):
        seen += [path.stat().st_mtime for path in home.iterdir()]
    folder = Path("/run/systemd/timesync")
    is_synchronized = (folder / "synchronized").exists() if folder.is_dir() else None
    return judge_clock(time.time(), max(seen, default=0.0), is_synchronized=is_synchronized)


def _ports(home: Path, config: "NodeConfig") -> "Finding":
    from swarm.cli.checkup import bad, good, warning
    from swarm.cli.client import find_node

    if find_node(home) is not None:
        return good("ports", "held by the node that runs here")
    taken = list[str]()
    for text in (*config.listen, f"127.0.0.1:{config.api_port}"):
        host, _, port = text.rpartition(":")
        host = host.strip("[]")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                one.bind((host, int(port)))
            except OSError as error:
                taken.append(f"{text}: {error.strerror}")
    if any(not text.startswith(f"127.0.0.1:{config.api_port}:") for text in taken):
        return bad("ports", ", ".join(taken), "another port for listen in node.toml, or 0 for any")
    if taken:
        return warning("ports", f"{taken[0]}; the page takes another", "api_port in node.toml")
    return good("ports", "those of node.toml are free")


def _power() -> "Finding":
    """Check for a battery that is being used up: a laptop sleeps then, and a seat is lost."""
    from swarm.cli.checkup import good, warning

    with suppress(OSError):
        for supply in sorted(Path("/sys/class/power_supply").iterdir()):
            state = supply / "status"
            if state.is_file() and state.read_text("ascii", "replace").strip() == "Discharging":
                return warning(
                    "power", "this machine runs on its battery", "systemd-inhibit swarm join"
                )
    return good("power", "no battery is being used up")


def _errors(home: Path) -> "Finding":
    from swarm.cli.checkup import judge_errors

    return judge_errors(_events(home), sorted(path.name for path in home.glob("trace-*.txt")))


def _events(home: Path) -> "list[Event]":
    """Return the newest events in the log of a home."""
    from swarm.events import from_json_line

    found = list["Event"]()
    with suppress(OSError), (home / "events.jsonl").open("rb") as log:
        log.seek(max(log.seek(0, os.SEEK_END) - EVENTS_BYTES, 0))
        for line in log.read(EVENTS_BYTES).decode("utf-8", "replace").splitlines()[-EVENTS_SHOWN:]:
            with suppress(SwarmError):  # the first may be cut, the last not whole yet
                found.append(from_json_line(line))
    return found


def _ledger(home: Path) -> "Finding":
    """Check that the newest state has the hash that its final block has."""
    from swarm.cli.checkup import good
    from swarm.ledger.reader import open_ledger
    from swarm.store import STORE_FILE

    if not (home / STORE_FILE).is_file():
        return good("ledger", "none yet")
    try:
        with open_ledger(home) as ledger:
            return good("ledger", f"its tip holds, block {ledger.state.height}")
    except UsageError as error:
        return good("ledger", str(error))


def _node(home: Path) -> "Finding":
    from swarm.cli.checkup import good, warning
    from swarm.cli.client import NODE_ROOM_BYTES, fetch_state, find_node
    from swarm.machine import free_bytes

    address = find_node(home)
    if address is None:
        if home.is_dir() and free_bytes(home) < NODE_ROOM_BYTES:
            return warning("node", "none runs; its disk is full", f"df -h {home}")
        return good("node", "none runs in this home")
    state = fetch_state(address, PATIENCE_S / 2)
    if state.health.verdict == "stalled":
        return warning("node", f"it runs and stands still: {state.health.cause}", "swarm status")
    return good("node", f"it runs and answers ({state.health.verdict})")


def _reach(home: Path) -> "Finding":
    """Check who can dial the node that runs here: its peers have tried."""
    from swarm.cli.checkup import judge_reach
    from swarm.cli.client import fetch_state, find_node

    address = find_node(home)
    return judge_reach(None if address is None else fetch_state(address, PATIENCE_S / 2).node)


def _ticket(home: Path) -> "Finding":
    """Check that an address of the ticket in the home answers."""
    from swarm.cli.checkup import good, warning
    from swarm.ticket import parse_ticket

    path = home / "ticket.txt"
    if not path.is_file():
        return good("ticket", "none in this home")
    ticket = parse_ticket(path.read_text("utf-8", "replace")[:4096], int(time.time()))
    for address in ticket.addresses:
        parts = address.split("/")
        with suppress(OSError), socket.create_connection((parts[2], int(parts[4])), DIAL_S):
            return good("ticket", f"{address} answers")
    return warning(
        "ticket",
        "none of its addresses answers",
        "swarm join, if it is this node; else ask its peer for a new one",
    )


def _kernels(test: "subprocess.Popen[bytes]", timeout_s: float) -> "Finding":
    from swarm.cli.checkup import judge_kernels

    try:
        out, _ = test.communicate(timeout=max(timeout_s, 0.1))
    except subprocess.TimeoutExpired:
        test.kill()
        test.communicate()
        return judge_kernels(None, is_late=True)
    try:
        found: object = json.loads(out)
    except ValueError:
        found = None
    return judge_kernels(found if isinstance(found, dict) else None, is_late=False)


def _write_bundle(screen: Terminal, path: Path, rows: list[dict[str, str]]) -> None:
    """Write the report for others: what was found, the settings and events of the home, its files by name."""
    from swarm.cli.checkup import redacted
    from swarm.config.resources import NODE_FILE
    from swarm.events import to_json_line
    from swarm.files import write_whole
    from swarm.host.identity import KEY_FILE

    home = screen.home
    texts = dict[str, str]()
    for name in (NODE_FILE, KEY_FILE, "api.json"):
        with suppress(OSError):
            texts[name] = (home / name).read_bytes()[: 1 << 20].decode("utf-8", "replace")
    secrets = [texts.get(KEY_FILE, "").strip(), *_tokens(texts.get("api.json", ""))]
    traces = dict[str, str]()
    for trace in sorted(home.glob("trace-*.txt"))[-3:]:
        with suppress(OSError):
            traces[trace.name] = trace.read_text("utf-8", "replace")[:20_000]
    report: dict[str, object] = {
        "version": _version(),
        "python": sys.version.split()[0],
        "platform": sys.platform,
        "listen_ports": [int(text.rpartition(":")[2]) for text in _config(home).listen],
        "checks": rows,
        "settings": texts.get(NODE_FILE, "").splitlines(),
        "events": [to_json_line(event) for event in _events(home)],
        "files": _files(home),
        "traces": {name: text.splitlines() for name, text in traces.items()},
    }
    cleaned = _cleaned(report, lambda text: redacted(text, str(home), secrets))
    try:
        write_whole(
            path,
            f"{json.dumps(cleaned, indent=1)}\n".encode(),
            is_secret=True,
            replaces=screen.options.yes,
        )
    except FileExistsError:
        raise UsageError(
            f"{path} exists already", hint=f"swarm doctor --bundle {path} --yes"
        ) from None
    screen.say(
        f"wrote {path}: no keys, no addresses, no paths outside the home; read it, then send it"
    )


def _tokens(text: str) -> list[str]:
    """Return the token of the local page."""
    with suppress(ValueError):
        found: object = json.loads(text)
        if isinstance(found, dict):
            return [str(found.get("token", ""))]
    return []


def _files(home: Path) -> list[str]:
    found = list[str]()
    with suppress(OSError):
        for path in sorted(home.iterdir())[:FILES_SHOWN]:
            stat = path.lstat()
            found.append(f"{path.name} {stat.st_mode:o} {stat.st_size}")
    return found


def _cleaned(value: object, clean: Callable[[str], str]) -> object:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {key: _cleaned(item, clean) for key, item in value.items()}
    if isinstance(value, list):
        return [_cleaned(item, clean) for item in value]
    return value


def _version() -> str:
    from importlib.metadata import version

    return version("swarm-train")
