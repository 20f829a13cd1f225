"""Manage the processes of the demo: start, watch and measure them, and leave none behind.

Shell: process groups and /proc.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from swarm.cli.run_node import PARENT_VARIABLE
from swarm.errors import SwarmError

STOP_S = 4.0
"""Seconds to wait for children: a node ends within 3 s of a signal; one left a second later is killed."""
LOG_LINES = 12
LOG_TAIL_BYTES = 8_000
SWARM, CHEATING_PEER = "swarm.cli.main", "swarm.cli.demo.cheating_peer"
"""Modules to run: the program, and the program of the cheating peers."""
TWO_FACED = "two-faced"
"""First argument of a cheating peer of the second kind."""
MARK_VARIABLE = "SWARM_DEMO_MARK"
"""Environment variable of every child, inherited by theirs: a process with it at the end was left behind."""


@dataclass(slots=True)
class Child:
    """Process group of one peer."""

    label: str
    process: "subprocess.Popen[bytes]"
    log: Path
    is_expected_to_end: bool = False


@dataclass(slots=True)
class Children:
    """All processes of one demo or benchmark."""

    mark: str
    running: dict[str, Child] = field(default_factory=dict[str, Child])

    def start(
        self,
        label: str,
        args: Sequence[str],
        log: Path,
        program: str = SWARM,
        within: Sequence[str] = (),
    ) -> Child:
        """Start ``swarm ARGS`` in a process group of its own, with its output in ``log``.

        ``within`` are the words of a command that becomes it, such as one of another network namespace.
        """
        with log.open("ab") as out:
            process = subprocess.Popen(  # noqa: S603  our own program and arguments
                [*within, *command(args, program)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=self.environment(),
                start_new_session=True,
            )
        child = Child(label, process, log)
        self.running[label] = child
        return child

    def environment(self) -> dict[str, str]:
        """Return the environment of a child process: one thread per torch call, no colours, the demo's mark."""
        settings = {
            "OMP_NUM_THREADS": "1",
            "NO_COLOR": "1",
            "PYTHONUNBUFFERED": "1",
            PARENT_VARIABLE: str(os.getpid()),
            MARK_VARIABLE: self.mark,
        }
        return {**os.environ, **settings}

    def let_go(self, label: str) -> None:
        """Allow this process to end by itself from now on."""
        self.running[label].is_expected_to_end = True

    def kill(self, label: str) -> None:
        """Kill a process with SIGKILL, as a power cut would."""
        child = self.running[label]
        child.is_expected_to_end = True
        _signal(child, signal.SIGKILL)
        child.process.wait()

    def check(self) -> None:
        """Raise ``SwarmError`` with the end of its log if a process ended that should not have."""
        for child in self.running.values():
            code = child.process.poll()
            if code is not None and not child.is_expected_to_end:
                raise SwarmError(
                    f"{child.label} ended unexpectedly ({_how(code)}); its last lines:\n"
                    + "\n".join(f"    {line}" for line in last_lines(child.log)),
                    hint=f"read {child.log}",
                )

    def stop(self, patience_s: float = STOP_S) -> None:
        """Ask all processes to end; kill those that are left after ``patience_s`` seconds."""
        alive = [child for child in self.running.values() if child.process.poll() is None]
        for child in alive:
            child.is_expected_to_end = True
            _signal(child, signal.SIGTERM)
        deadline = time.monotonic() + patience_s
        for child in alive:
            try:
                child.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _signal(child, signal.SIGKILL)
                child.process.wait()
        for child in self.running.values():
            _signal(child, signal.SIGKILL)  # what a child may have started in its group

    def memory_mb(self) -> float:
        """Return the proportional set size of this process and all children, in MB; 0 without /proc."""
        pids = [
            os.getpid(),
            *(c.process.pid for c in self.running.values() if c.process.poll() is None),
        ]
        return sum(pss_kb(pid) for pid in pids) / 1000

    def left_running(self) -> int:
        """Count the processes that carry the demo's mark, apart from this one."""
        wanted = f"{MARK_VARIABLE}={self.mark}".encode()
        found = 0
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                is_ours = wanted in (entry / "environ").read_bytes().split(b"\0")
                is_zombie = b") Z " in (entry / "stat").read_bytes()
            except OSError:
                continue
            found += is_ours and not is_zombie and int(entry.name) != os.getpid()
        return found


def command(args: Sequence[str], program: str = SWARM) -> list[str]:
    """Return the command line that runs this program, or another module of it."""
    return [sys.executable, "-m", program, *args]


def last_lines(log: Path, count: int = LOG_LINES) -> list[str]:
    """Return the last lines of a log; none if it cannot be read."""
    try:
        raw = log.read_bytes()[-LOG_TAIL_BYTES:]
    except OSError:
        return []
    return raw.decode("utf-8", "replace").splitlines()[-count:]


def _signal(child: Child, number: signal.Signals) -> None:
    try:
        os.killpg(child.process.pid, number)
    except (ProcessLookupError, PermissionError):
        return


def _how(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


def pss_kb(pid: int) -> int:
    """Return the memory of a process, its part of what it shares, in kB; 0 where the system does not say."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")), 0)
