"""A relay that cannot run says why, and what would do instead."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from swarm.cli.commands import relay
from swarm.errors import UsageError
from swarm.host.relay.messages import Bounds
from swarm.primitives.crypto import SecretKey

RunCli = Callable[..., tuple[int, str, str]]


def a_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a program in the daemon's place."""
    program = tmp_path / "p2pd"
    program.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
    program.chmod(0o755)
    monkeypatch.setattr(relay, "daemon", lambda: program)


def test_without_the_extra_there_is_no_daemon(
    run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "find_spec", lambda _: None)
    code, _, err = run_cli("relay")
    assert code == 2
    assert "not installed" in err
    assert "swarm-train[relay]" in err


def test_a_relay_needs_a_port_that_is_free_and_its_own(
    run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_daemon(tmp_path, monkeypatch, "exit 0")
    code, _, err = run_cli("relay", "--listen", "127.0.0.1:0")
    assert code == 2
    assert "a port of its own" in err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, _, err = run_cli("relay", "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert code == 2
    assert "already in use" in err


def test_a_daemon_that_does_not_start_is_quoted(
    run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_daemon(tmp_path, monkeypatch, "echo no such key >&2; exit 3")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    code, _, err = run_cli("relay", "--listen", f"127.0.0.1:{port}")
    assert code == 2
    assert "the relay did not start: no such key" in err


LISTENER = """import socket, sys, time
port = int(sys.argv[sys.argv.index("-hostAddrs") + 1].split(",")[0].split("/")[4])
server = socket.create_server(("127.0.0.1", port))
time.sleep(60)"""


def test_a_daemon_whose_circuits_end_early_is_started_anew(
    run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon in Go serves by chance with limits that are not ours."""
    a_daemon(tmp_path, monkeypatch, f"exec {sys.executable} -c '{LISTENER}' \"$@\"")
    told, homes = list[int](), tmp_path / "home"

    async def bounds(secret: SecretKey, endpoint: tuple[str, int]) -> Bounds:
        del secret, endpoint
        told.append(1)
        return Bounds(120, 128 << 10)

    monkeypatch.setattr(relay, "_bounds", bounds)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    code, _, err = run_cli("--home", str(homes), "relay", "--listen", f"127.0.0.1:{port}")
    assert code == 2
    assert "its circuits end after 131,072 bytes" in err
    assert len(told) == relay.STARTS_MAX


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process has no such wish")
def test_a_tethered_process_dies_with_the_one_that_started_it() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert is_alive(child)
    parent.kill()
    parent.wait()
    assert gone(child)
    parent.stdout.close()


def test_the_relay_dies_with_its_command_however_that_is_killed(tmp_path: Path) -> None:
    try:
        program = str(relay.daemon())
    except UsageError as error:
        pytest.skip(str(error))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        listen = f"127.0.0.1:{probe.getsockname()[1]}"
    words = ["--home", str(tmp_path), "relay", "--listen", listen]
    command = subprocess.Popen(
        [sys.executable, "-m", "swarm.cli.main", *words],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert command.stdout is not None
    assert command.stdout.readline().startswith("relay ")
    (daemon,) = psutil.Process(command.pid).children()
    assert daemon.exe() == os.path.realpath(program)
    assert not list(tmp_path.glob("swarm-relay-*/key"))
    command.kill()
    command.wait()
    assert gone(daemon.pid)
    command.stdout.close()


PARENT = """import subprocess, time
from swarm.cli.commands.relay import tethered
print(subprocess.Popen(tethered(["/bin/sleep", "600"])).pid, flush=True)
time.sleep(600)"""


def is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def gone(pid: int) -> bool:
    """Whether a process ends within seconds."""
    ends = time.monotonic() + 10
    while is_alive(pid) and time.monotonic() < ends:
        time.sleep(0.05)
    return not is_alive(pid)
