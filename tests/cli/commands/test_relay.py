"""A relay that cannot run says why, and what would do instead."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from swarm.cli.commands import relay

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
