"""Measure what 64 keys of one address can do to a node: to newcomers, its processor, and honest questions.

One node validates alone and trains nothing, one trains; both are real processes. A newcomer joins, undisturbed
and under each flood in turns, always right after a round has begun: how long until its first step? Before each
join an honest peer asks the node short questions for a while. All come from other addresses than that of the
node, which it does not count.
"""

import os
import secrets
import shutil
import signal
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.common import ROOT, Outcome, say, spread
from benchmarks.flooders import FLOODS, KEYS
from benchmarks.join import state_of
from benchmarks.pair_meter import process_s
from benchmarks.wire_children import Child, ChildError, scratch
from swarm.cli.demo.peer import DemoPeer, prepare_peers
from swarm.cli.demo.processes import Children, last_lines
from swarm.cli.demo.scenario import Role
from swarm.config.load import parse_run_file
from swarm.errors import SwarmError
from swarm.ticket import Ticket, parse_ticket

CHOICES = (*FLOODS,)
"""Floods that ``--only`` chooses among."""
RUN_FILE = ROOT / "benchmarks" / "flood.toml"
VICTIM = "127.0.0.9"
STAKE = 900_000
"""Stake of who trains: a stranger has a quarter of the seats at most, whoever else comes."""
REPEATS, REPEATS_QUICK = 3, 1
WINDOW_S, WINDOW_QUICK_S = 15.0, 10.0
START_S, JOIN_S, READY_S = 120.0, 120.0, 60.0
POLL_S = 0.05
QUIET = "none"


def measure(quick: bool, only: frozenset[str] = frozenset()) -> Outcome:
    """Measure each flood beside no flood, in turns."""
    floods = [name for name in FLOODS if not only or name in only]
    repeats = REPEATS_QUICK if quick else REPEATS
    window_s = WINDOW_QUICK_S if quick else WINDOW_S
    outcome = Outcome(
        {"keys": KEYS, "repeats": repeats, "window_s": window_s, "floods": list(floods)}
    )
    turns = [name for _ in range(repeats) for name in (QUIET, *floods)]
    with ExitStack() as stack:
        folder = scratch()
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        victim = _Victim(stack, folder, len(turns))
        sights = {name: _Sights() for name in (QUIET, *floods)}
        for number, name in enumerate(turns):
            try:
                sights[name].add(*victim.turn(name, number, window_s))
            except (ChildError, SwarmError) as error:
                outcome.detail.setdefault("reason", f"{name}: {error}")
                say(f"{name}: {error}")
        outcome.figures.update(_figures(sights, floods))
        outcome.detail.update({name: sight.detail() for name, sight in sights.items()})
        outcome.detail["left_running"] = victim.left_running()
    return outcome


def _figures(sights: "dict[str, _Sights]", floods: Sequence[str]) -> dict[str, object]:
    """Return for each flood what it did, over no flood, and the worst of all."""
    quiet, figures = sights[QUIET], dict[str, object]()
    ratios, cores, late = list[float](), list[float](), list[float]()
    for name in floods:
        found = sights[name]
        if not (found.join_s and quiet.join_s):
            figures |= dict.fromkeys((f"{name}_join_ratio", f"{name}_cpu", f"{name}_p99_ratio"))
            continue
        ratios.append(statistics.median(found.join_s) / statistics.median(quiet.join_s))
        cores.append(statistics.median(found.cores) - statistics.median(quiet.cores))
        late.append(statistics.median(found.p99_s) / statistics.median(quiet.p99_s))
        figures[f"{name}_join_ratio"] = round(ratios[-1], 2)
        figures[f"{name}_cpu"] = round(cores[-1], 3)
        figures[f"{name}_p99_ratio"] = round(late[-1], 2)
    is_whole = len(ratios) == len(floods)
    figures["flood_join_ratio"] = round(max(ratios), 2) if is_whole else None
    figures["flood_cpu"] = round(max(cores), 3) if is_whole else None
    figures["flood_p99_ratio"] = round(max(late), 2) if is_whole else None
    return figures


@dataclass(slots=True)
class _Sights:
    """Measurements of one flood."""

    join_s: list[float] = field(default_factory=list[float])
    cores: list[float] = field(default_factory=list[float])
    p99_s: list[float] = field(default_factory=list[float])
    counts: list[object] = field(default_factory=list[object])

    def add(self, join_s: float, cores: float, p99_s: float, counts: object) -> None:
        """Note one turn."""
        self.join_s.append(join_s)
        self.cores.append(cores)
        self.p99_s.append(p99_s)
        self.counts.append(counts)

    def detail(self) -> dict[str, object]:
        """Return what was measured, turn by turn."""
        return {
            "join_s": spread(self.join_s),
            "cores": spread(self.cores),
            "p99_s": spread(self.p99_s),
            "flooders": self.counts,
        }


class _Victim:
    """A node that validates, a peer that trains, and newcomers."""

    def __init__(self, stack: ExitStack, folder: Path, newcomers: int) -> None:
        self._children = Children(secrets.token_hex(8))
        stack.callback(self._children.stop)
        roles = tuple(Role(n, solves=n > 0, validates=n == 0) for n in range(newcomers + 2))
        file = parse_run_file(RUN_FILE.read_text(encoding="utf-8"), RUN_FILE.name)
        self._peers = prepare_peers(folder, roles, file)
        for peer in self._peers:
            _change_settings(peer)
        first = self._peers[0]
        say("starting a node that validates, and one that trains")
        self._start(first, "launch", str(RUN_FILE))
        ticket_file = first.home / "ticket.txt"
        _until(ticket_file.is_file, START_S, self._children)
        self._text = ticket_file.read_text("ascii").strip()
        self._ticket: Ticket = parse_ticket(self._text, int(time.time()))
        self._start(self._peers[1], "join", self._text)
        _until(lambda: state_of(self._peers[1].home).node.steps > 0, START_S, self._children)
        self._probe = stack.enter_context(closing(self._child("probe")))
        self._probe.receive(READY_S)

    def turn(self, name: str, number: int, window_s: float) -> tuple[float, float, float, object]:
        """Return of one flood, or none: seconds of a join, cores of the victim, p99 of a question, counts."""
        newcomer = self._peers[number + 2]
        with ExitStack() as stack:
            flooder = None
            if name != QUIET:
                flooder = stack.enter_context(closing(self._child(name)))
                flooder.receive(READY_S)
            cores, p99_s = self._window(window_s)
            join_s = self._join(newcomer)
            counts = None if flooder is None else flooder.finish()
        self._end(newcomer)
        say(
            f"{name}: first step after {join_s:.1f} s, {cores:.3f} cores, p99 {p99_s * 1e3:.1f} ms, {counts}"
        )
        return join_s, cores, p99_s, counts

    def left_running(self) -> int:
        """Stop all processes; return how many are left."""
        self._children.stop()
        return self._children.left_running()

    def _window(self, for_s: float) -> tuple[float, float]:
        """Return the cores that the victim used for a while, and the p99 of questions meanwhile."""
        pid = self._children.running[self._peers[0].role.folder].process.pid
        used_s, began = process_s(pid), time.monotonic()
        self._probe.send({"for_s": for_s})
        taken = self._probe.receive(for_s + READY_S)["seconds"]
        cores = (process_s(pid) - used_s) / (time.monotonic() - began)
        assert isinstance(taken, list), "seconds of questions"
        return cores, sorted(taken)[int(len(taken) * 0.99)]

    def _join(self, newcomer: DemoPeer) -> float:
        """Return the seconds of a join that begins with a round."""
        home = self._peers[1].home
        before = _round(home)
        _until(lambda: _round(home) > before, JOIN_S, self._children)
        began = time.monotonic()
        self._start(newcomer, "join", self._text)
        _until(lambda: state_of(newcomer.home).node.steps > 0, JOIN_S, self._children)
        return time.monotonic() - began

    def _start(self, peer: DemoPeer, *args: str) -> None:
        self._children.start(peer.role.folder, [*args, "--home", str(peer.home)], peer.log)

    def _end(self, peer: DemoPeer) -> None:
        self._children.let_go(peer.role.folder)
        child = self._children.running[peer.role.folder]
        os.killpg(child.process.pid, signal.SIGTERM)
        child.process.wait(READY_S)

    def _child(self, flood: str) -> Child:
        address = self._ticket.addresses[0]
        state = state_of(self._peers[0].home)
        return Child(
            "benchmarks.flooders",
            flood,
            *("--peer", self._ticket.peer.hex(), "--address", address),
            *("--chain", state.ledger.chain, "--height", str(state.ledger.height)),
        )


def _change_settings(peer: DemoPeer) -> None:
    """Let the victim listen at an address of its own, and others stake what they have."""
    path = peer.home / "node.toml"
    text = path.read_text(encoding="utf-8")
    if peer.role.is_launcher:
        text = text.replace("127.0.0.1:0", f"{VICTIM}:0")
    else:
        text = text.replace("stake = 0", f"stake = {STAKE}").replace(
            "verify = true", "verify = false"
        )
    path.write_text(text, encoding="utf-8")


def _round(home: Path) -> int:
    run = state_of(home).run
    return run.round if run else 0


def _until(is_true: Callable[[], bool], patience_s: float, children: Children) -> None:
    """Wait; raises ``SwarmError`` if it takes too long, or a process ends."""
    deadline = time.monotonic() + patience_s
    while not is_true():
        children.check()
        if time.monotonic() > deadline:
            logs = [last_lines(child.log, 3) for child in children.running.values()]
            raise SwarmError(f"nothing after {patience_s:.0f} s: {logs[-1]}")
        time.sleep(POLL_S)
