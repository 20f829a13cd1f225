"""Measure how long ``swarm join`` takes with a ticket that leads through a relay alone.

    home A: who invites --- relay --- newcomer: home B

Each is a network namespace of this machine. The relay's passes on no packet from one home to the other, so that
every byte between them goes through the relay as a program, from the first to the last. It is ``swarm relay``;
where that is not installed it is a node that launched the run, which who invites has joined.
"""

import json
import secrets
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import SkipTest

import msgspec

from benchmarks.common import median, say, spread
from benchmarks.wire_children import ChildError
from swarm.cli.commands.relay import daemon
from swarm.cli.demo.processes import Children, last_lines
from swarm.errors import SwarmError, UsageError
from swarm.events import EventKind
from swarm.host.addresses import CIRCUIT, format_address
from swarm.host.identity import load_identity
from swarm.primitives.crypto import peer_text
from swarm.ticket import Ticket, format_ticket, parse_ticket
from tests.e2e.machines import cable, inside, ip, machines

JOINS, JOINS_QUICK = 3, 1
WAIT_S = 120.0
POLL_S = 0.05
RELAY_HOST, RELAY_PORT = "44.0.0.1", 4001
"""A public address, as relays have."""


@dataclass(frozen=True, slots=True)
class Joins:
    """Seconds from the start of ``swarm join``, of one newcomer after the other."""

    relay: str
    joined_s: Sequence[float]
    """Until it says that it has joined the run: it is connected, and its ledger is that of the others."""
    seated_s: float
    """Until the first of them says that it has a seat."""

    def figure(self) -> float | None:
        """Median of the seconds until it has joined."""
        return median(self.joined_s)

    def detail(self) -> dict[str, object]:
        """All that was seen."""
        seated_s = round(self.seated_s, 4)
        return {"relay": self.relay, "joined_s": spread(self.joined_s), "seated_s": seated_s}


def through_a_relay(quick: bool, folder: Path) -> Joins:
    """Let newcomers join through the relay.

    Raises ``ChildError`` where no machines can be made of namespaces, or a process did not do its part.
    """
    children = Children(secrets.token_hex(8))
    try:
        with _homes() as names:
            try:
                return _measured(_Swarm(children, folder), names, JOINS_QUICK if quick else JOINS)
            finally:
                children.stop()
    except SkipTest as skipped:
        raise ChildError(str(skipped)) from None
    except SwarmError as error:
        raise ChildError(str(error)) from None


@contextmanager
def _homes() -> Generator[tuple[str, ...]]:
    """Hold machines: the relay's, and one in each home."""
    with machines("relay", "a", "b") as names:
        middle, *homes = names
        inside(middle, "sysctl", "-qw", "net.ipv4.ip_forward=0")
        ip("-n", middle, "addr", "add", f"{RELAY_HOST}/32", "dev", "lo")
        for number, home in enumerate(homes, 1):
            cable(middle, home, f"line{number}", "cable")
            ip("-n", middle, "addr", "add", f"192.168.{number}.1/24", "dev", f"line{number}")
            ip("-n", home, "addr", "add", f"192.168.{number}.10/24", "dev", "cable")
            ip("-n", home, "route", "add", "default", "via", f"192.168.{number}.1")
        yield names


def _measured(swarm: "_Swarm", names: Sequence[str], count: int) -> Joins:
    middle, inviting, joining = names
    ticket, kind = _invitation(swarm, middle, inviting)
    joined, seated_s = list[float](), 0.0
    for number in range(count):
        name = f"newcomer-{number}"
        began = swarm.start(name, joining, "join", ticket)
        joined.append(swarm.reported(name, EventKind.RUN_JOINED) - began)
        say(f"joined through {kind} after {joined[-1]:.1f} s")
        if not number:
            seated_s = swarm.reported(name, EventKind.SEAT_TAKEN) - began
            say(f"seated after {seated_s:.1f} s")
        swarm.kill(name)  # the next one finds the machine as this one did
    return Joins(kind, joined, seated_s)


def _invitation(swarm: "_Swarm", middle: str, inviting: str) -> tuple[str, str]:
    """Start the relay, and who invites; return a ticket that leads through it alone, and its kind."""
    at = format_address(RELAY_HOST, RELAY_PORT)
    try:
        daemon()
    except UsageError:
        launcher, kind = "relay", "a node of ours"
        swarm.start("relay", middle, "launch", listen=f"{RELAY_HOST}:{RELAY_PORT}", relay="on")
        ticket = swarm.ticket("relay")
    else:
        launcher, kind = "inviting", "swarm relay"
        swarm.start("relay", middle, "relay", "--listen", f"{RELAY_HOST}:{RELAY_PORT}")
        swarm.wait("relay", lambda: "others " in swarm.log("relay"))
    relay = f"{at}/p2p/{peer_text(load_identity(swarm.home('relay')).peer)}"
    words = ["launch"] if launcher == "inviting" else ["join", format_ticket(ticket)]
    swarm.start("inviting", inviting, *words, relays=relay)
    swarm.reported("inviting", EventKind.NETWORK, "others reach it through the relay")
    ticket = swarm.ticket(launcher)
    peer = load_identity(swarm.home("inviting")).peer
    swarm.reported("inviting", EventKind.RUN_JOINED)
    return format_ticket(
        msgspec.structs.replace(ticket, peer=peer, addresses=(f"{relay}{CIRCUIT}",))
    ), kind


class _Swarm:
    """Processes on those machines, and what they report."""

    def __init__(self, children: Children, folder: Path) -> None:
        self._children, self._folder = children, folder

    def home(self, name: str) -> Path:
        """Return the home of a process."""
        return self._folder / name

    def log(self, name: str) -> str:
        """Return what a process has printed."""
        return self._log(name).read_text("utf-8", "replace")

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def start(
        self, name: str, machine: str, *words: str, listen: str = "0.0.0.0:0", **settings: str
    ) -> float:
        """Start a process on a machine, with these settings; return the time, as events name it."""
        home = self.home(name)
        home.mkdir()
        lines = [f'listen = ["{listen}"]', "api_port = 0", "lan = false"]
        lines += [f'relay = "{settings["relay"]}"'] if "relay" in settings else []
        lines += [f'relays = ["{settings["relays"]}"]'] if "relays" in settings else []
        (home / "node.toml").write_text("\n".join(lines), encoding="utf-8")
        began = time.time()
        self._children.start(
            name,
            [*words, "--home", str(home)],
            self._log(name),
            within=["ip", "netns", "exec", machine],
        )
        return began

    def kill(self, name: str) -> None:
        """Kill a process."""
        self._children.kill(name)

    def ticket(self, name: str) -> Ticket:
        """Wait for the ticket of a launch."""
        path = self.home(name) / "ticket.txt"
        self.wait(name, path.is_file)
        return parse_ticket(path.read_text(encoding="ascii").strip(), 0)

    def reported(self, name: str, kind: EventKind, excerpt: str = "") -> float:
        """Wait for an event of a process; return its time."""
        found = list[float]()

        def look() -> bool:
            for event in self._events(name):
                if event["kind"] == kind.value and excerpt in str(event["text"]):
                    found.append(float(str(event["at_ms"])) / 1000)
            return bool(found)

        self.wait(name, look)
        return found[0]

    def _events(self, name: str) -> list[dict[str, object]]:
        path = self.home(name) / "events.jsonl"
        lines = path.read_text("utf-8").splitlines() if path.is_file() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def wait(self, name: str, is_true: Callable[[], bool]) -> None:
        """Wait for something of a process; raise ``ChildError`` with the end of its log if it does not come."""
        deadline = time.monotonic() + WAIT_S
        while not is_true():
            self._children.check()
            if time.monotonic() > deadline:
                said = " / ".join(last_lines(self._log(name), 3))
                raise ChildError(f"{name} in {WAIT_S:g} s: {said}")
            time.sleep(POLL_S)
