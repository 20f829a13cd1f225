"""The peers of ``scripts/bench wire`` as child processes that are told what to do and time themselves.

Orders and answers are JSON objects, one a line. In a round every child prepares, says so, waits for the
go-ahead and answers with what it measured; the slowest one's seconds count.
"""

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.common import ROOT

START_S = 90.0
ROUND_S = 180.0
"""Ten times what the slowest round takes."""
STOP_S = 10.0
TAIL_CHARS = 600

Answer = dict[str, object]


class ChildError(Exception):
    """A child ended, or did not answer in time; the message is the end of its log."""


class Child:
    """One process and the pipes to it."""

    def __init__(self, module: str, *arguments: str) -> None:
        """Start ``python -m module`` in the repository."""
        self._log = tempfile.TemporaryFile("w+", prefix="swarm-wire-")  # noqa: SIM115  closed in close()
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def signal(self, number: int) -> None:
        """Send a signal to the process: what is dead or frozen afterwards answers nothing."""
        self._process.send_signal(number)

    def send(self, order: Mapping[str, object]) -> None:
        """Send one order."""
        assert self._process.stdin is not None, "opened with a pipe"
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise ChildError(self._tail()) from None

    def receive(self, timeout_s: float = ROUND_S) -> Answer:
        """Return the next answer; raise ``ChildError`` if there is none in time."""
        assert self._process.stdout is not None, "opened with a pipe"
        watch = threading.Timer(timeout_s, self._process.kill)
        watch.start()
        try:
            line = self._process.stdout.readline()
        finally:
            watch.cancel()
        if not line:
            raise ChildError(self._tail())
        answer: Answer = json.loads(line)
        return answer

    def request(self, order: Mapping[str, object]) -> Answer:
        """Send one order and wait for its answer."""
        self.send(order)
        return self.receive()

    def finish(self, timeout_s: float = START_S) -> Answer:
        """Say that there are no more orders, and return what the process says to that."""
        assert self._process.stdin is not None, "opened with a pipe"
        self._process.stdin.close()
        return self.receive(timeout_s)

    def close(self) -> None:
        """Let it end, and end it if it does not."""
        assert self._process.stdin is not None, "opened with a pipe"
        try:
            self._process.stdin.close()
            self._process.wait(STOP_S)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _tail(self) -> str:
        self._log.seek(0)
        return self._log.read()[-TAIL_CHARS:].strip() or "it said nothing"


class Proxy:
    """Proxy that narrows the link to one address, as a child process."""

    def __init__(
        self, host: str, port: int, *, delay_ms: float, bytes_per_s: float, below: int = 0
    ) -> None:
        """Put a proxy in front of ``host:port``, on a port less than ``below`` if that is given."""
        self._child = Child(
            "scripts.chaos_proxy",
            *("--to", f"{host}:{port}"),
            *("--delay-ms", str(delay_ms), "--bytes-per-s", str(bytes_per_s)),
            *("--below", str(below)),
        )
        self.port = int(str(self._child.receive(START_S)["port"]))

    def carried(self) -> tuple[int, int]:
        """Bytes so far, from and to the dialling side."""
        answer = self._child.request({})
        return int(str(answer["there"])), int(str(answer["back"]))

    def close(self) -> None:
        """End the proxy."""
        self._child.close()


def together(children: Sequence[Child], orders: Sequence[Mapping[str, object]]) -> list[Answer]:
    """Run one round: all prepare, all go, all answer."""
    for child, order in zip(children, orders, strict=True):
        child.send(order)
    for child in children:
        child.receive()
    for child in children:
        child.send({})
    return [child.receive() for child in children]


def slowest_s(answers: Sequence[Answer]) -> float:
    """Seconds of the slowest child; raises ``ChildError`` if one of them did not get through."""
    seconds = [answer.get("seconds") for answer in answers]
    if not all(isinstance(each, float) for each in seconds):
        raise ChildError(f"a round failed: {answers}")
    return max(float(str(each)) for each in seconds)


def scratch() -> Path:
    """Make an empty folder for one group of children."""
    return Path(tempfile.mkdtemp(prefix="swarm-wire-"))
