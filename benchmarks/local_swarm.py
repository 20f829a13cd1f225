"""A small swarm of real processes on this machine, on loopback or each peer behind a far, narrow line.

The launcher alone validates. With a line, every peer listens on a port of its own and announces that of a proxy
before it (scripts/chaos_proxy.py): all that others send it shares the line, and so does what it answers them.
``direct_links`` counts the connections that went past the proxies, which must be none.
"""

import re
import secrets
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import psutil  # type: ignore[import-untyped]

from benchmarks.common import busy_s
from benchmarks.pair_meter import Sight, read_sight
from benchmarks.wire_children import Proxy
from swarm.cli.client import fetch_state, find_node
from swarm.cli.demo.peer import DemoPeer, prepare_peers
from swarm.cli.demo.processes import Children
from swarm.cli.demo.scenario import Role
from swarm.config.load import parse_run_file
from swarm.errors import SwarmError

TICKET_S = 90.0
"""Seconds until the launcher's ticket: it loads, reads the text and initialises the model."""
ANSWER_S = 3.0
POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class Line:
    """A household's line: the same each way."""

    round_trip_ms: float
    mbit_per_s: float


@dataclass(frozen=True, slots=True)
class Progress:
    """What the ledger says at one moment, read at the launcher."""

    at_s: float
    """By ``time.monotonic``."""
    round: int
    tokens: int
    """Of final commits."""


@dataclass(slots=True)
class LocalSwarm:
    """Peers of one run, from the first start to the last stop; used as a context."""

    folder: Path
    run_path: Path
    num_peers: int
    line: Line | None = None
    history: list[Progress] = field(default_factory=list[Progress])
    """One entry whenever a round began."""
    peers: list[DemoPeer] = field(default_factory=list[DemoPeer])
    _children: Children = field(default_factory=lambda: Children(secrets.token_hex(8)))
    _proxies: list[Proxy] = field(default_factory=list[Proxy])
    _ports: list[int] = field(default_factory=list[int])
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> "LocalSwarm":
        """Start all peers; the others join when the ticket is there."""
        self._stack.callback(self._children.stop)
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop all processes."""
        self._stack.close()

    @property
    def homes(self) -> list[Path]:
        """Homes of the peers, the launcher's first."""
        return [peer.home for peer in self.peers]

    def _start(self) -> None:
        roles = tuple(Role(n, solves=True, validates=n == 0) for n in range(self.num_peers))
        file = parse_run_file(self.run_path.read_text(encoding="utf-8"), self.run_path.name)
        self.peers = prepare_peers(self.folder, roles, file)
        if self.line is not None:
            for peer in self.peers:
                self._move_behind(peer, self.line)
        first = self.peers[0]
        args = ["launch", str(self.run_path), "--home", str(first.home)]
        self._children.start(first.role.folder, args, first.log)
        deadline = time.monotonic() + TICKET_S
        while not self._ticket.is_file():
            self.check()
            if time.monotonic() > deadline:
                raise SwarmError(f"no ticket after {TICKET_S:.0f} s", hint=f"read {first.log}")
            time.sleep(POLL_S)
        for number in range(1, self.num_peers):
            self.join(number)

    @property
    def _ticket(self) -> Path:
        return self.peers[0].home / "ticket.txt"

    def _move_behind(self, peer: DemoPeer, line: Line) -> None:
        """Put a proxy before a peer that has not started yet."""
        port = _free_port()
        proxy = Proxy(
            "127.0.0.1",
            port,
            delay_ms=line.round_trip_ms / 2,
            bytes_per_s=line.mbit_per_s * 1e6 / 8,
        )
        self._stack.callback(proxy.close)
        self._proxies.append(proxy)
        self._ports.append(port)
        path = peer.home / "node.toml"
        text = behind(path.read_text(encoding="utf-8"), port, proxy.port)
        path.write_text(text, encoding="utf-8")

    def join(self, number: int) -> None:
        """Start a peer that joins, or one that was killed."""
        peer = self.peers[number]
        args = ["join", f"@{self._ticket}", "--home", str(peer.home)]
        self._children.start(peer.role.folder, args, peer.log)

    def kill(self, number: int) -> None:
        """Kill a peer with SIGKILL."""
        peer = self.peers[number]
        self._children.kill(peer.role.folder)
        (peer.home / "api.json").unlink(missing_ok=True)

    def check(self) -> None:
        """Raise ``SwarmError`` if a process has ended that should not have."""
        self._children.check()

    def look(self) -> Progress | None:
        """Read the ledger's progress at the launcher, and note it if a round has begun; None without answer."""
        self.check()
        address = find_node(self.peers[0].home)
        try:
            state = None if address is None else fetch_state(address, ANSWER_S)
        except SwarmError:
            return None
        if state is None or state.run is None:
            return None
        seen = Progress(time.monotonic(), state.run.round, state.run.tokens)
        if not self.history or self.history[-1].round != seen.round:
            self.history.append(seen)
        return seen

    def sight(self) -> Sight | None:
        """Return where each peer sits and what it spent its time on; None if one does not answer."""
        return read_sight(self.homes)

    def carried(self) -> list[int]:
        """Return the bytes that each peer's line has carried, both ways."""
        return [sum(proxy.carried()) for proxy in self._proxies]

    def direct_links(self) -> int:
        """Count connections between peers that go past the proxies; 0 without a line."""
        pids = {address.pid for address in map(find_node, self.homes) if address is not None}
        found = 0
        for pid in pids:
            for link in psutil.Process(pid).net_connections("tcp"):
                found += link.status == psutil.CONN_ESTABLISHED and _port(link) in self._ports
        return found


def behind(node_file: str, port: int, proxy_port: int) -> str:
    """Return a node file whose node listens on ``port`` and tells others to come by ``proxy_port``."""
    lines = f'listen = ["127.0.0.1:{port}"]\nannounce = ["/ip4/127.0.0.1/tcp/{proxy_port}"]'
    changed, count = re.subn(r"(?m)^listen = .*$", lines, node_file)
    assert count == 1, "a node file says once where to listen"
    return changed


def seated(sight: Sight | None, seats: Sequence[int]) -> bool:
    """Return True if every peer holds exactly one seat and stage s has ``seats[s]`` of them."""
    if sight is None or any(len(stages) != 1 for stages in sight.stages):
        return False
    stages = [stages[0] for stages in sight.stages]
    return [stages.count(stage) for stage in range(len(seats))] == list(seats)


def tokens_per_s(history: Sequence[Progress], first: int, last: int) -> float | None:
    """Return the tokens of final commits per second between two boundaries, by round; None if one was not seen.

    A boundary counts the commits that are final when it is crossed, so the rounds counted are as many, and the
    same ones for every run.
    """
    at = {seen.round: seen for seen in history}
    if first not in at or last not in at or last <= first:
        return None
    passed_s = at[last].at_s - at[first].at_s
    return (at[last].tokens - at[first].tokens) / passed_s


def cores_busy(began: tuple[float, float], ended: tuple[float, float]) -> float:
    """Return the cores in use between two readings of ``clock``, by all processes of this machine."""
    return round((ended[1] - began[1]) / (ended[0] - began[0]), 2)


def clock() -> tuple[float, float]:
    """Return the time and the processor seconds of this machine."""
    return time.monotonic(), busy_s()


def _port(link: object) -> int:
    remote = getattr(link, "raddr", None)
    return int(remote.port) if remote else 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
