"""Run a node in this process: Ctrl-C ends it in time, and it is never silent for long.

Shell: owns the signals, the live display and the last resort.
"""

import os
import re
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import trio

from swarm.cli.api import fetch_state, find_node
from swarm.cli.failures import INTERRUPTED
from swarm.cli.progress import Progress
from swarm.cli.terminal import Terminal
from swarm.errors import SwarmError
from swarm.events import Event, to_json_line

if TYPE_CHECKING:
    from rich.live import Live

    from swarm.cli.picture import Picture
    from swarm.node.service import NodeSetup

STOPPED_BY = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, a polite kill, and a terminal that was closed."""
LOOK_INTERVAL_S = 1.0
LAST_RESORT_S = 2.5
"""After a signal the process ends within 3 s, whatever a worker thread is doing."""
STATE_TIMEOUT_S = 3.0
PARENT_VARIABLE = "SWARM_PARENT_PID"
"""A node started by the demo or a bench ends when that process is gone, even by SIGKILL."""


_TICKET = re.compile(r"swarm1:[1-9A-HJ-NP-Za-km-z]+")


class Voice:
    """Carries the node's events and the status to the terminal."""

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

        console = Console(stderr=True, no_color=not self._terminal.ink_err.is_on, highlight=False)
        with Live(Text("starting"), console=console, refresh_per_second=4, transient=True) as live:
            self._live = live
            try:
                yield
            finally:
                self._live = None

    def hear(self, event: Event) -> None:
        """Report one event of the node."""
        if self._options.json:
            print(to_json_line(event), flush=True)
            return
        self._show_ticket(event)
        self._say(self._progress.hear(event, trio.current_time()))

    def look(self, picture: "Picture | None") -> None:
        """Show how it goes."""
        self._say(self._progress.look(picture, trio.current_time()))
        if self._live is not None:
            from rich.text import Text

            self._live.update(
                Text(self._progress.status(picture), overflow="ellipsis", no_wrap=True)
            )

    def _say(self, lines: list[str]) -> None:
        if self._options.json:
            return
        for line in lines:
            if self._live is not None:
                from rich.text import Text

                self._live.console.print(Text.from_ansi(line), soft_wrap=True)
            else:
                self._terminal.say(line)

    def _show_ticket(self, event: Event) -> None:
        """The ticket is data: it goes to stdout, once."""
        found = _TICKET.search(event.text)
        if found and not self._ticket_shown:
            self._ticket_shown = True
            print(found[0], flush=True)


def run_until_stopped(setup: "NodeSetup", voice: Voice) -> int:
    """Run the node of ``setup`` until it is stopped; return the exit code. Raises what the node raises."""
    with voice.opened():
        return trio.run(_supervise, setup, voice)


async def _supervise(setup: "NodeSetup", voice: Voice) -> int:
    from swarm.node.service import run_node

    stopped_by = 0

    async def watch_signals(scope: trio.CancelScope) -> None:
        nonlocal stopped_by
        with trio.open_signal_receiver(*STOPPED_BY) as signals:
            async for number in signals:
                stopped_by = int(number)
                _arm_last_resort(stopped_by)
                scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_signals, nursery.cancel_scope)
        nursery.start_soon(_watch_node, setup, voice)
        nursery.start_soon(_watch_parent, nursery.cancel_scope)
        await run_node(setup)
        nursery.cancel_scope.cancel()
    return _exit_code(stopped_by)


def _exit_code(stopped_by: int) -> int:
    return INTERRUPTED if stopped_by == signal.SIGINT else 0


async def _watch_node(setup: "NodeSetup", voice: Voice) -> None:
    """Look at the node through the same API as everybody else."""
    while True:
        picture: Picture | None = None
        address = find_node(setup.home)
        if address is not None and address.pid == os.getpid():
            try:
                look = partial(fetch_state, address, STATE_TIMEOUT_S)
                # trio-typing's stubs are older than trio: hence the ignore.
                picture = await trio.to_thread.run_sync(look, abandon_on_cancel=True)  # type: ignore[call-arg]
            except SwarmError:
                picture = None
        voice.look(picture)
        await trio.sleep(LOOK_INTERVAL_S)


async def _watch_parent(scope: trio.CancelScope) -> None:
    parent = os.environ.get(PARENT_VARIABLE, "")
    while parent.isdigit():
        if os.getppid() != int(parent):
            scope.cancel()
            return
        await trio.sleep(LOOK_INTERVAL_S)


def _arm_last_resort(number: int) -> None:
    """A worker thread in a long operation cannot be cancelled: leave without it, everything is on disk."""

    timer = threading.Timer(LAST_RESORT_S, leave, [_exit_code(number)])
    timer.daemon = True
    timer.start()


def leave(code: int) -> NoReturn:
    """End the process at once: taking torch apart costs seconds on a busy machine and saves nothing."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)
