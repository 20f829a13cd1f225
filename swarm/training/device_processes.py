"""The processes of a node's devices: started, spoken to, ended.

Shell: owns the processes and their links; a process that dies or falls silent is raised as ``ProcessLost``.
"""

import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import swarm
from swarm.codec import encode
from swarm.errors import BadEncoding
from swarm.training.device_messages import Command, Done, Failed, Setup, reply_of
from swarm.training.shared_tensors import receive_frame, send_frame

FRAME_S = 10.0
"""For the rest of a frame that has begun."""
END_S = 1.0
"""For processes that were killed to be gone, all of them: the event loop waits for it."""
ERROR_BYTES = 4096
"""Of what a process wrote before it died, the end is read."""


class ProcessLost(Exception):
    """The process of rank ``rank`` is gone; ``reason`` is the last it said."""

    def __init__(self, rank: int, reason: str) -> None:
        super().__init__(reason)
        self.rank, self.reason = rank, reason


class Processes:
    """One living process per device; raises ``ProcessLost`` for the first that is not."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._links: list[socket.socket] = []
        self._children: list[subprocess.Popen[bytes]] = []

    @property
    def pids(self) -> tuple[int, ...]:
        """Their numbers, by rank."""
        return tuple(child.pid for child in self._children)

    def start(self, setups: Sequence[Setup], timeout_s: float) -> None:
        """Start one process for each setup, and wait until all are ready."""
        for setup in setups:
            ours, theirs = socket.socketpair()
            ours.settimeout(FRAME_S)
            self._links.append(ours)
            with theirs, self._errors(setup.rank).open("wb") as errors:
                self._children.append(_spawn(theirs, errors.fileno()))
            self._send(setup.rank, setup)
        self._wait(timeout_s)

    def ask(self, command: Command, timeout_s: float) -> list[Done]:
        """Say something to all, and wait for all; the answers by rank."""
        self.tell(command)
        return self._wait(timeout_s)

    def tell(self, command: Command) -> None:
        """Say something to all."""
        for rank in range(len(self._links)):
            self._send(rank, command)

    def close(self) -> None:
        """End all, and forget what they shared."""
        for child in self._children:
            child.kill()
        for link in self._links:
            link.close()
        deadline = time.monotonic() + END_S
        for child in self._children:
            with suppress(subprocess.TimeoutExpired):  # a driver may hold it: it ends when it can
                child.wait(max(deadline - time.monotonic(), 0.0))
        shutil.rmtree(self._folder, ignore_errors=True)

    def _wait(self, timeout_s: float) -> list[Done]:
        deadline = time.monotonic() + timeout_s
        waiting = {link: rank for rank, link in enumerate(self._links)}
        found: dict[int, Done] = {}
        while waiting:
            left_s = max(deadline - time.monotonic(), 0.0)
            try:
                ready, _, _ = select.select(list(waiting), [], [], left_s)
            except (OSError, ValueError):  # closed meanwhile, by the event loop's thread
                raise ProcessLost(min(waiting.values()), "closed") from None
            if not ready:
                raise ProcessLost(min(waiting.values()), f"no answer in {timeout_s:.0f} s")
            for link in ready:
                rank = waiting.pop(link)
                found[rank] = self._receive(rank, link)
        return [found[rank] for rank in sorted(found)]

    def _send(self, rank: int, command: Command) -> None:
        try:
            send_frame(self._links[rank], encode(command))
        except OSError:
            raise ProcessLost(rank, self._last_words(rank)) from None

    def _receive(self, rank: int, link: socket.socket) -> Done:
        try:
            reply = reply_of(receive_frame(link))
        except (EOFError, OSError, ValueError, BadEncoding):
            raise ProcessLost(rank, self._last_words(rank)) from None
        if isinstance(reply, Failed):
            raise ProcessLost(rank, reply.reason)
        return reply

    def _errors(self, rank: int) -> Path:
        return self._folder / f"errors-{rank}"

    def _last_words(self, rank: int) -> str:
        path = self._errors(rank)
        said = path.read_bytes()[-ERROR_BYTES:] if path.exists() else b""
        lines = said.decode(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "its process ended"


def _spawn(link: socket.socket, errors: int) -> subprocess.Popen[bytes]:
    """A process that holds ``link`` and nothing else of ours."""
    # Not by fork: this process has threads, and its own contexts on devices.
    root = str(Path(swarm.__file__).parents[1])
    program = f"import sys; sys.path.insert(0, {root!r}); from swarm.training.device_worker import main; main()"
    return subprocess.Popen(  # noqa: S603  (our own interpreter and our own module)
        [sys.executable, "-P", "-c", program, str(link.fileno())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        pass_fds=(link.fileno(),),
    )
