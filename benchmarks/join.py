"""Measure how long a newcomer waits: for the help text, and for its first optimizer step in a running swarm."""

import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.common import Outcome, median, say, spread
from swarm.cli.client import fetch_state, find_node
from swarm.cli.demo.processes import Children, last_lines
from swarm.errors import SwarmError
from swarm.node.api.schema import StateDocument

HEAVY = ("torch", "libp2p", "hivemind")
LAUNCH_S = 120.0
JOIN_S = 120.0
POLL_S = 0.1
NODE_FILE = 'listen = ["127.0.0.1:0"]\napi_port = 0\n'


def measure(quick: bool) -> Outcome:
    """``swarm --help`` and ``swarm join TICKET``, repeated; medians."""
    repeats_help, repeats_join = (3, 1) if quick else (15, 3)
    outcome = Outcome({"help_repeats": repeats_help, "join_repeats": repeats_join})
    helped = [_help_s() for _ in range(repeats_help)]
    outcome.figures["help_s"] = median(helped)
    outcome.figures["import_heavy"] = _heavy_modules()
    outcome.detail["help_s"] = spread(helped)
    with tempfile.TemporaryDirectory(prefix="swarm-bench-") as folder:
        children = Children(secrets.token_hex(8))
        try:
            joined, problem = _joins(children, Path(folder), repeats_join)
        finally:
            children.stop()
    outcome.figures["join_first_step_s"] = median(joined)
    outcome.detail["join_first_step_s"] = spread(joined)
    outcome.detail["left_running"] = children.left_running()
    if problem:
        outcome.detail["reason"] = problem
    return outcome


def _help_s() -> float:
    program = Path(sys.executable).with_name("swarm")
    began = time.perf_counter()
    subprocess.run([program, "--help"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def _heavy_modules() -> list[str]:
    code = (
        "import io, sys\nfrom swarm.cli.main import run\nsys.stdout = io.StringIO()\n"
        f"run(['--help'])\nsys.stderr.write(' '.join(m for m in {HEAVY!r} if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stderr.split()


def _joins(children: Children, folder: Path, repeats: int) -> tuple[list[float], str]:
    """Seconds from the start of ``swarm join`` to its first step, one newcomer after the other."""
    first, log = folder / "launcher", folder / "launcher.log"
    _make_home(first)
    say("launching the demo run, alone")
    children.start("launcher", ["launch", "--home", str(first)], log)
    if not _wait(children, partial(_trains, first), LAUNCH_S):
        return [], f"the launcher did not train: {' / '.join(last_lines(log, 3))}"
    ticket = (first / "ticket.txt").read_text(encoding="ascii").strip()
    seconds = list[float]()
    for number in range(repeats):
        home, log = folder / f"joiner-{number}", folder / f"joiner-{number}.log"
        _make_home(home)
        began = time.monotonic()
        children.start(home.name, ["join", ticket, "--home", str(home)], log)
        if not _wait(children, partial(_trains, home), JOIN_S):
            return seconds, f"no step within {JOIN_S} s: {' / '.join(last_lines(log, 3))}"
        seconds.append(time.monotonic() - began)
        say(f"joined and trained after {seconds[-1]:.1f} s ({_phase(first)})")
    return seconds, ""


def _make_home(home: Path) -> None:
    home.mkdir()
    (home / "node.toml").write_text(NODE_FILE, encoding="utf-8")


def _trains(home: Path) -> bool:
    return state_of(home).node.steps > 0


def _phase(home: Path) -> str:
    run = state_of(home).run
    return f"round {run.round}, {run.phase}" if run else "no run yet"


def state_of(home: Path) -> StateDocument:
    """Return what the node of a home says; an empty document if it does not answer."""
    address = find_node(home)
    try:
        return StateDocument() if address is None else fetch_state(address, 3.0)
    except SwarmError:
        return StateDocument()


def _wait(children: Children, is_true: Callable[[], bool], patience_s: float) -> bool:
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        children.check()
        if is_true():
            return True
        time.sleep(POLL_S)
    return False
