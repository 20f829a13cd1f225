#!/usr/bin/env python3
"""Kill a node that runs as a service, again and again, and say how long it takes to be back.

``scripts/try_service.py [--swarm PROGRAM] [--times N]``, as root. In mounts and processes of its own it starts
a systemd for the user, without touching that of the machine; launches the demo's run in a new home, installs
the service, and kills the node N times: by SIGKILL, SIGSEGV and SIGTERM in turns. It is back when a new
process answers on the local page. PROGRAM has to be installed (scripts/build_wheel, pipx): a unit gets no
PYTHONPATH. Caps are not tried: the control groups made here have no controllers for them.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

INSIDE = "SWARM_TRY_SERVICE"
"""Variable that marks the process inside of the new namespaces."""
LIMIT_S = 60.0
"""Seconds in which a node has to be back."""
LAUNCH_S = 30.0
"""Seconds for which the run is launched, so that the home has joined a network."""
POLL_S = 0.1
SIGNALS = (signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM)
ENTER = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]


def prepare_systemd() -> None:
    """Give this process a /run and control groups of its own, and start a systemd for its user."""
    for command in (
        ["mount", "-t", "tmpfs", "tmpfs", "/run"],
        ["mount", "-t", "tmpfs", "tmpfs", "/sys/fs/cgroup"],
        ["mount", "-t", "cgroup2", "cgroup2", "/sys/fs/cgroup"],
    ):
        subprocess.run(command, check=True)
    Path("/run/systemd/system").mkdir(parents=True)
    Path(os.environ["XDG_RUNTIME_DIR"]).mkdir(parents=True, mode=0o700)
    group = Path("/sys/fs/cgroup") / f"swarm-try-{time.time_ns()}"
    group.mkdir()
    (group / "cgroup.procs").write_text("0")
    log = (Path.home() / "systemd.log").open("w")
    subprocess.Popen(["/lib/systemd/systemd", "--user"], stdout=log, stderr=log)
    wait_for(lambda: call(["systemctl", "--user", "show-environment"]).returncode == 0, 20)


def call(command: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    """Run a command and return what came of it."""
    return subprocess.run(command, capture_output=True, check=False)


def wait_for(is_true: "object", limit_s: float) -> float:
    """Return the seconds until a function answers True; raise ``SystemExit`` when it takes too long."""
    assert callable(is_true)
    began = time.monotonic()
    while not is_true():
        if time.monotonic() - began > limit_s:
            raise SystemExit(f"error: not back after {limit_s:g} s")
        time.sleep(POLL_S)
    return time.monotonic() - began


def answering(home: Path) -> int:
    """Return the process of the node in a home whose local page answers; 0 if none does."""
    with suppress(OSError, ValueError, KeyError, urllib.error.URLError):
        found = json.loads((home / "api.json").read_text("utf-8"))
        with urllib.request.urlopen(found["url"], timeout=2) as page:
            page.read(1)
        os.kill(int(found["pid"]), 0)
        return int(found["pid"])
    return 0


def measure(program: str, times: int) -> list[float]:
    """Return the seconds from each kill to the answer of a new process."""
    home = Path.home() / ".swarm"
    launch = [program, "--plain", "launch", "--api-port", "0"]
    with suppress(subprocess.TimeoutExpired):
        subprocess.run(launch, timeout=LAUNCH_S, capture_output=True, check=False)
    installed = call([program, "service", "install"])
    if installed.returncode:
        raise SystemExit(installed.stderr.decode())
    wait_for(lambda: answering(home), LIMIT_S)
    seconds = list[float]()
    for number in range(times):
        before, how = answering(home), SIGNALS[number % len(SIGNALS)]
        os.kill(before, how)
        took = wait_for(lambda gone=before: answering(home) not in {0, gone}, LIMIT_S)
        seconds.append(took)
        print(f"{number + 1:>4} {how.name:<8} back after {took:.1f} s", flush=True)
    call([program, "service", "uninstall"])
    return seconds


def main() -> None:
    """Enter the namespaces, then measure there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--swarm", default="swarm", help="the installed program")
    parser.add_argument("--times", type=int, default=100)
    options = parser.parse_args()
    if INSIDE not in os.environ:
        with tempfile.TemporaryDirectory() as home:
            own = {"HOME": home, "XDG_RUNTIME_DIR": "/run/user/try", INSIDE: "1"}
            kept = {key: value for key, value in os.environ.items() if not key.startswith("XDG_")}
            command = [*ENTER, sys.executable, *sys.argv]
            raise SystemExit(subprocess.run(command, env={**kept, **own}, check=False).returncode)
    prepare_systemd()
    seconds = measure(options.swarm, options.times)
    print(
        f"back {len(seconds)} times of {options.times} within {LIMIT_S:g} s:"
        f" median {statistics.median(seconds):.1f} s, at most {max(seconds):.1f} s"
    )


if __name__ == "__main__":
    main()
