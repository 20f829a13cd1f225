"""Run a node in this process: Ctrl-C ends it in time, and it is never silent for long.

Shell: owns the signals, the live display and the last resort.
"""

import errno
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, NoReturn, cast

import trio

from swarm.cli.client import NODE_ROOM_BYTES, fetch_state, find_node
from swarm.cli.errors import INTERRUPTED
from swarm.cli.responsive import keep_responsive
from swarm.cli.state_reader import verdict
from swarm.cli.streams import LOST, Lenient, unhurried
from swarm.cli.style import Ink
from swarm.cli.terminal import Terminal
from swarm.cli.views import headline
from swarm.errors import DiskFull, SwarmError, leaves_of
from swarm.events import Event, EventKind, make_event, printable, to_json_line
from swarm.machine import free_bytes
from swarm.node.api.schema import StateDocument

if TYPE_CHECKING:
    from rich.live import Live

    from swarm.config.schema import NodeConfig
    from swarm.node.start import Start

STATUS_INTERVAL_S = 5.0
"""Seconds between status lines where none can be redrawn: half of the longest silence allowed."""
_TOO_MANY = frozenset(
    {
        EventKind.TRADED,
        EventKind.SOLO,
        EventKind.COMMITTED,
        EventKind.CHECKED,
    }
)
"""Kinds of event that come many times a round: they show in the status line, and with --verbose."""
_LABELS = {
    EventKind.NODE_STARTED: "node",
    EventKind.NETWORK: "network",
    EventKind.RUN_JOINED: "joined",
    EventKind.SEAT_TAKEN: "seat",
    EventKind.SEAT_YIELDED: "seat",
    EventKind.ROUND_STARTED: "round",
    EventKind.CHECKPOINT: "state",
    EventKind.DISPUTED: "dispute",
    EventKind.CONVICTED: "caught",
    EventKind.RUN_FINISHED: "run",
    EventKind.WARNING: "warning",
    EventKind.ERROR: "error",
}
_STYLES = {
    EventKind.WARNING: "slow",
    EventKind.ERROR: "gone",
    EventKind.DISPUTED: "slow",
    EventKind.CONVICTED: "gone",
}


class Progress:
    """Messages of one running node."""

    def __init__(self, ink: Ink, *, verbose: bool, is_live: bool) -> None:
        self._ink = ink
        self._verbose = verbose
        self._is_live = is_live
        self._last_status_at = float("-inf")
        self._last_event = "starting"
        self._map_shown = False

    def on_event(self, event: Event, now: float) -> list[str]:
        """Return the lines to print for an event."""
        kind = event.kind
        self._last_event = printable(event.text, 200)
        is_said_elsewhere = self._last_event.startswith(("map http", "ticket swarm1:"))
        if is_said_elsewhere or (kind in _TOO_MANY and not self._verbose):
            return []
        self._last_status_at = now
        label = next((name for known, name in _LABELS.items() if known.value == kind), "")
        style = next((name for known, name in _STYLES.items() if known.value == kind), "dim")
        return [f"{self._ink.paint(style, f'{label:<9}')} {self._last_event}"]

    def on_state(self, state: StateDocument | None, now: float) -> list[str]:
        """Return the lines that are due now: the map once, and a status line when nothing was printed for long
        enough.
        """
        lines = list[str]()
        url = state.node.api_url if state else ""
        if url and not self._map_shown:
            self._map_shown = True
            lines.append(
                f"{self._ink.paint('dim', 'map      ')} {self._ink.paint('bold', url)}"
                "   Ctrl-C leaves cleanly   next: swarm map"
            )
        if not self._is_live and now - self._last_status_at >= STATUS_INTERVAL_S:
            self._last_status_at = now
            lines.append(self.status(state))
        return lines

    def status(self, state: StateDocument | None, columns: int = 0) -> str:
        """Return one line: how it goes, or what stands still and what helps."""
        if state is None and self._map_shown:
            return f"busy: this node's page is late; last: {self._last_event}"
        if state is None:
            return f"waiting: {self._last_event}"
        verdict_text = self._verdict(state)
        columns_left = max(columns - len(verdict_text) - 2, 1) if columns else 0
        return f"{headline(state, columns_left)}  {verdict_text}".strip()

    @property
    def poll_s(self) -> float:
        """Seconds to the next look at the node: each costs it a few milliseconds."""
        return POLL_INTERVAL_S if self._is_live or not self._map_shown else STATUS_INTERVAL_S

    def _verdict(self, state: StateDocument) -> str:
        """Return the node's activity while its figures move, else its verdict, cause and command."""
        if state.node.waits_for:
            return f"waiting: {state.node.waits_for}"
        if state.run is None and state.health.verdict != "stalled":
            return f"waiting: {self._last_event}"
        return state.node.state if state.health.verdict == "progressing" else verdict(state.health)


STOPPED_BY = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that stop the node: Ctrl-C, a plain kill, and a terminal that was closed."""
POLL_INTERVAL_S = 1.0
LAST_RESORT_S = 2.5
"""Seconds from a signal to a forced end: the process ends within 3 s, whatever a worker thread is doing."""
STATE_TIMEOUT_S = 3.0
ROOM_POLL_S = 5.0
"""Seconds between looks for room, and so between messages: half of the longest silence allowed."""
PARENT_VARIABLE = "SWARM_PARENT_PID"
"""Environment variable with the process id of a demo or bench: the node ends with it, even by SIGKILL."""


_TICKET = re.compile(r"swarm1:[1-9A-HJ-NP-Za-km-z]+")


class NodeConsole:
    """Output of one node's events and status to the terminal."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._options = terminal.options
        self._progress = Progress(
            terminal.ink_err, verbose=terminal.options.verbose, is_live=terminal.is_live
        )
        self._live: Live | None = None
        self._ticket_shown = False

    @contextmanager
    def opened(self) -> Generator[None]:
        """Hold the live line, where there is a terminal for one."""
        if not self._terminal.is_live or self._options.quiet:
            yield
            return
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        errors = cast("IO[str]", Lenient(sys.stderr))  # a console asks for no more than that has
        console = Console(file=errors, no_color=not self._terminal.ink_err.is_on, highlight=False)
        with Live(Text("starting"), console=console, refresh_per_second=4, transient=True) as live:
            self._live = live
            try:
                yield
            finally:
                self._live = None

    def on_event(self, event: Event) -> None:
        """Print one event of the node."""
        if self._options.json:
            self._terminal.hand(to_json_line(event))
            return
        self._show_ticket(event)
        self._say(self._progress.on_event(event, trio.current_time()))

    @property
    def shows_states(self) -> bool:
        """True unless events are all that is printed, or nothing is."""
        return not (self._options.json or self._options.quiet)

    @property
    def poll_s(self) -> float:
        """Seconds to the next status."""
        return self._progress.poll_s

    def on_state(self, state: "StateDocument | None") -> None:
        """Show the status of the node."""
        self._say(self._progress.on_state(state, trio.current_time()))
        if self._live is not None:
            from rich.text import Text

            self._live.update(
                Text(self._progress.status(state, self._terminal.columns), overflow="fold")
            )

    def _say(self, lines: list[str]) -> None:
        for line in lines:
            if self._live is not None:
                from rich.text import Text

                self._live.console.print(
                    Text.from_ansi(self._terminal.offered(line)), soft_wrap=True
                )
            else:
                self._terminal.say(line)

    def _show_ticket(self, event: Event) -> None:
        """Print a ticket in the event to stdout, once: it is data."""
        found = _TICKET.search(event.text)
        if found and not self._ticket_shown:
            self._ticket_shown = True
            self._terminal.hand(found[0])


def run_until_stopped(
    config: "NodeConfig", home: Path, start: "Start", console: NodeConsole
) -> int:
    """Run a node until it is stopped; return the exit code. Raises what ``open_node`` raises."""
    with unhurried(), console.opened():
        return trio.run(_supervise, config, home, start, console)


async def _supervise(config: "NodeConfig", home: Path, start: "Start", console: NodeConsole) -> int:
    from swarm.node.open import open_node

    stopped_by = 0

    def opened(start: "Start") -> AbstractAsyncContextManager[object]:
        return open_node(config, home=home, start=start, on_event=console.on_event)

    async def watch_signals(scope: trio.CancelScope) -> None:
        nonlocal stopped_by
        with trio.open_signal_receiver(*heeded()) as signals:
            async for number in signals:
                stopped_by = int(number)
                _arm_last_resort(stopped_by)
                scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_signals, nursery.cancel_scope)
        nursery.start_soon(_watch_node, home, console)
        nursery.start_soon(keep_responsive)
        nursery.start_soon(_watch_parent, nursery.cancel_scope)
        await keep_open(opened, start, partial(_await_room, home, console))
    return _exit_code(stopped_by)


async def keep_open(
    opened: "Callable[[Start], AbstractAsyncContextManager[object]]",
    start: "Start",
    await_room: Callable[[str], Awaitable[None]],
) -> NoReturn:
    """Keep a node open until cancelled; one that ran until its disk was full goes on when there is room.

    Args:
        opened: opens a node for a start.
        start: the first start; after it the node resumes.
        await_room: waits until there is room; it is given the reason.

    Raises:
        DiskFull: the node had not begun to run. All else that a node raises comes out as it is.
    """
    from swarm.node.start import Resume

    while True:
        has_begun = False
        try:
            async with opened(start):
                has_begun = True
                await trio.sleep_forever()
        except (DiskFull, OSError, BaseExceptionGroup) as error:
            leaves = leaves_of(error)
            if not (has_begun and all(map(_is_full, leaves))):
                raise
            reason = str(leaves[0])
        start = Resume()
        await await_room(reason)


def _is_full(error: BaseException) -> bool:
    is_said = isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}
    return is_said or isinstance(error, DiskFull)


async def _await_room(home: Path, console: NodeConsole, reason: str) -> None:
    """Wait until the disk of the home has room again; say so meanwhile."""
    while (free := await trio.to_thread.run_sync(free_bytes, home)) < NODE_ROOM_BYTES:
        console.on_event(
            make_event(
                int(time.time() * 1000),
                EventKind.WARNING,
                f"{reason}: nothing is signed, and the node rests until {NODE_ROOM_BYTES >> 20} MiB are free"
                f" ({free >> 20} now)",
            )
        )
        await trio.sleep(ROOM_POLL_S)


def heeded() -> list[signal.Signals]:
    """Return the signals that stop the node here: not SIGHUP if it was ignored from the start (nohup)."""
    is_deaf = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [one for one in STOPPED_BY if not (one is signal.SIGHUP and is_deaf)]


def _exit_code(stopped_by: int) -> int:
    return INTERRUPTED if stopped_by == signal.SIGINT else 0


async def _watch_node(home: Path, console: NodeConsole) -> None:
    """Poll the node through the same API as every other client."""
    while console.shows_states:
        state: StateDocument | None = None
        address = find_node(home)
        if address is not None and address.pid == os.getpid():
            try:
                poll = partial(fetch_state, address, STATE_TIMEOUT_S)
                # trio-typing's stubs are older than trio: hence the ignore.
                state = await trio.to_thread.run_sync(poll, abandon_on_cancel=True)  # type: ignore[call-arg]
            except SwarmError:
                state = None
        console.on_state(state)
        await trio.sleep(console.poll_s)


async def _watch_parent(scope: trio.CancelScope) -> None:
    parent = os.environ.get(PARENT_VARIABLE, "")
    while parent.isdigit():
        if os.getppid() != int(parent):
            scope.cancel()
            return
        await trio.sleep(POLL_INTERVAL_S)


def _arm_last_resort(number: int) -> None:
    """End the process soon: a busy worker thread cannot be cancelled, and all data is on disk."""

    timer = threading.Timer(LAST_RESORT_S, leave, [_exit_code(number)])
    timer.daemon = True
    timer.start()


def leave(code: int) -> NoReturn:
    """End the process at once: unloading torch costs seconds on a busy machine and saves nothing."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(*LOST):
            stream.flush()
    os._exit(code)
