"""Observe the swarm of the demo from outside, and report its progress.

Shell: polls the local APIs and /proc; keeps the last observation.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from swarm.cli.client import fetch_state, find_node
from swarm.cli.demo.peer import DemoPeer
from swarm.cli.demo.processes import Children
from swarm.cli.demo.report import Story
from swarm.cli.demo.scenario import Observation
from swarm.cli.state_reader import verdict
from swarm.cli.style import human_span
from swarm.cli.terminal import Terminal
from swarm.cli.views import checking, headline
from swarm.errors import SwarmError
from swarm.events import printable
from swarm.node.api.health import STANDSTILL_S
from swarm.node.api.schema import RunRow, StateDocument

PRINT_INTERVAL_S = 5.0
WEIGH_INTERVAL_S = 4.0
"""Seconds between measurements of memory: reading that of ten processes costs the kernel some milliseconds."""
STATE_TIMEOUT_S = 2.0
OVER = ("finished", "settled")
INDENT = 14
"""Columns of the time in front of a line."""


@dataclass(slots=True)
class DemoWatch:
    """Observations of the swarm so far."""

    screen: Terminal
    began: float = field(default_factory=time.monotonic)
    state: StateDocument = field(default_factory=StateDocument)
    answered_at: float = field(default_factory=time.monotonic)
    """Time of the launcher's last answer."""
    peak_mb: float = 0.0
    num_peers: int = 0
    round: int = 0
    """Highest round seen: a run that is settled counts no rounds any more."""
    tokens: int = 0
    map_url: str = ""
    curve: list[tuple[float, int, float]] = field(default_factory=list[tuple[float, int, float]])
    """(Seconds since the start, tokens, loss in nats) whenever the tokens rose."""
    _story: Story = field(default_factory=Story)
    _weighed_at: float = float("-inf")
    _printed_at: float = float("-inf")

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.began

    def observe(self, first: DemoPeer, victim: DemoPeer, *, asks_victim: bool) -> Observation:
        """Poll the launcher, and the victim if ``asks_victim``; return the observation."""
        answer = _state_of(first)
        if answer is not None:
            self.state, self.answered_at = answer, time.monotonic()
        run = self.state.run or RunRow()
        self.num_peers = max(self.num_peers, len(self.state.peers))
        self.round = max(self.round, run.round)
        self.tokens = max(self.tokens, run.tokens)
        self._note_curve(run)
        if not self.map_url and (url := self.state.node.api_url):
            self.map_url = url
            self.report(f"map {url}")
        for message in self._story.read(self.state):
            self.report(message)
        is_over = run.phase in OVER
        theirs = _state_of(victim) if asks_victim else None
        return Observation(
            round=self.round,
            rounds=max(run.rounds, 1),
            is_over=is_over,
            is_final=is_over and _has_final_model(run, first, run.final_round),
            victim_trains=theirs is not None and theirs.node.steps > 0,
        )

    def weigh(self, children: Children) -> None:
        """Measure the memory of all processes, some seconds apart."""
        now = time.monotonic()
        if now - self._weighed_at >= WEIGH_INTERVAL_S:
            self._weighed_at = now
            self.peak_mb = max(self.peak_mb, children.memory_mb())

    def progress(self, waits_for: str = "") -> None:
        """Print one line every few seconds; on a terminal it is overwritten."""
        now = time.monotonic()
        interval_s = 1.0 if self.screen.is_live else PRINT_INTERVAL_S
        if self.screen.options.quiet or now - self._printed_at < interval_s:
            return
        self._printed_at = now
        line = f"{human_span(self.seconds):>{INDENT - 2}}  {waits_for or self._line()}"
        if self.screen.is_live:
            self.screen.overwrite(line[: self.screen.columns - 1])
        else:
            self.screen.say(line)

    def report(self, message: str) -> None:
        """Print a message about an event."""
        if self.screen.is_live and not self.screen.options.quiet:
            self.screen.overwrite("")
        self.screen.say(f"{human_span(self.seconds):>12}  {message}")

    def _line(self) -> str:
        silent_s = time.monotonic() - self.answered_at
        if silent_s >= STANDSTILL_S:
            return f"the launcher has not answered for {human_span(silent_s)}; try: swarm status"
        run = self.state.run
        if run is None:
            waits = printable(self.state.node.waits_for, 80)
            return f"waiting for {waits or 'the peers to load and the run to open'}"
        traded = sum(peer.trades for peer in self.state.peers)
        columns = self.screen.columns - INDENT if self.screen.is_live else 0
        if self.state.health.verdict != "progressing":
            return f"{headline(self.state)}  {verdict(self.state.health)}"
        if columns:
            return headline(self.state, columns)
        return f"{headline(self.state)}  {traded} trades  {checking(run)}"

    def _note_curve(self, run: RunRow) -> None:
        if run.loss_nats is not None and (not self.curve or run.tokens > self.curve[-1][1]):
            self.curve.append((self.seconds, run.tokens, run.loss_nats))


def wait_for_ticket(
    children: Children, first: DemoPeer, watch: DemoWatch, patience_s: float
) -> str:
    """Wait for the launcher's ticket and return it; raises ``SwarmError`` if it does not come."""
    path = first.home / "ticket.txt"
    return wait_for(
        lambda: path.read_text(encoding="ascii").strip() if path.is_file() else "",
        children,
        watch,
        patience_s,
        "waiting for the launcher: it loads its libraries, reads the text, initialises the model",
    )


def wait_for(
    find: Callable[[], str], children: Children, watch: DemoWatch, patience_s: float, why: str
) -> str:
    """Poll until ``find`` returns something, and return it.

    Raises ``SwarmError`` if a child process dies or time is up.
    """
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        children.check()
        if found := find():
            return found
        watch.weigh(children)
        watch.progress(why)
        time.sleep(0.25)
    logs = sorted({str(child.log) for child in children.running.values()})
    raise SwarmError(f"nothing came after {patience_s:.0f} s of {why}", hint=f"read {logs[0]}")


def _state_of(peer: DemoPeer) -> StateDocument | None:
    address = find_node(peer.home)
    if address is None:
        return None
    try:
        return fetch_state(address, STATE_TIMEOUT_S)
    except SwarmError:
        return None


def _has_final_model(run: RunRow, first: DemoPeer, rounds: int) -> bool:
    """Return True if the last boundary's checkpoint is final for every stage, and on the launcher's disk."""
    if len(run.checkpoints) < run.num_stages:
        return False
    return all(_holds(stage, first, rounds) for stage in run.checkpoints)


def _holds(stage: tuple[tuple[int, str], ...], first: DemoPeer, rounds: int) -> bool:
    if not stage:
        return False
    round_, root = stage[0]
    return round_ >= rounds and (first.home / "blobs" / root).is_file()
