"""A service is installed as this user's, removed without a trace, and what is missing here is said."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from swarm.cli.commands import service
from swarm.cli.service_unit import Service
from swarm.errors import SwarmError

RunCli = Callable[..., tuple[int, str, str]]
FAKE = """#!/bin/sh
echo "$*" >> {log}
case "$*" in
  *fails*) echo "no such unit" >&2; exit 1 ;;
  *MainPID*) echo 7 ;;
  *" show "*)
    printf 'ActiveState=active\\nSubState=running\\nNRestarts=3\\n'
    printf 'ExecMainCode=2\\nExecMainStatus=9\\n' ;;
esac
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Put a systemctl on the PATH that writes down how it is called; return what it wrote."""
    log, folder = tmp_path / "calls", tmp_path / "bin"
    folder.mkdir()
    fake = folder / "systemctl"
    fake.write_text(FAKE.format(log=log), "utf-8")
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "root/run/systemd/system").mkdir(parents=True)
    monkeypatch.setattr(service, "ROOT", tmp_path / "root")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "genesis.bin").touch()

    def seen() -> list[str]:
        found = log.read_text("utf-8").splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return [line.removeprefix("--user ") for line in found]

    return seen


def unit_files(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "config/systemd/user").glob("*"))


def test_a_home_that_joined_no_network_gets_no_service(run_cli: RunCli) -> None:
    code, _, err = run_cli("service", "install", "--dry-run")
    assert code == 2
    assert "has joined no network yet" in err
    assert "swarm join TICKET" in err


def test_a_dry_run_prints_the_units_and_asks_nobody(
    run_cli: RunCli, calls: Callable[[], list[str]], tmp_path: Path
) -> None:
    code, out, _ = run_cli("service", "install", "--dry-run", "--cpu", "1", "--memory", "2G")
    assert code == 0
    assert "CPUQuota=100%" in out
    assert "MemoryMax=2048M" in out
    assert not calls()
    assert not unit_files(tmp_path)


@pytest.mark.rule("C15")
def test_a_service_is_installed_changed_and_removed(
    run_cli: RunCli, calls: Callable[[], list[str]], tmp_path: Path
) -> None:
    code, out, _ = run_cli("--json", "service", "install", "--upload", "5")
    name = json.loads(out)["name"]
    assert code == 0
    assert unit_files(tmp_path) == [f"{name}.service"]
    asked = calls()
    assert asked[-2:] == [f"enable {name}.service", f"restart {name}.service"]
    assert "daemon-reload" in asked
    code, out, _ = run_cli("service", "install", "--hours", "22:00-06:30")
    assert code == 0
    assert unit_files(tmp_path) == [
        f"{name}-hours.service",
        f"{name}-hours.timer",
        f"{name}.service",
    ]
    text = (tmp_path / "config/systemd/user" / f"{name}.service").read_text("utf-8")
    assert "--upload" not in text
    asked = calls()
    assert f"disable --now {name}.service" in asked
    assert f"enable {name}-hours.timer" in asked
    assert f"enable {name}.service" not in asked
    code, _, _ = run_cli("service", "uninstall")
    assert code == 0
    assert not unit_files(tmp_path)
    assert run_cli("service", "uninstall")[0] == 2


def test_status_says_how_often_it_came_back_and_how_it_ended(
    run_cli: RunCli, calls: Callable[[], list[str]]
) -> None:
    code, _, err = run_cli("service", "status")
    assert (code, "has no service" in err) == (2, True)
    run_cli("service", "install")
    code, out, _ = run_cli("service", "status")
    assert code == 0
    assert "is active (running)" in out
    assert "restarted 3 times by itself" in out
    assert "ended by signal 9" in out


@pytest.mark.parametrize(
    ("marks", "said"),
    [
        ((), "systemd does not run on this system"),
        ((".dockerenv",), "this is a container"),
        (("run/.containerenv",), "this is a container"),
    ],
)
@pytest.mark.usefixtures("calls")
def test_without_systemd_the_reason_is_said_and_what_to_do_instead(
    marks: tuple[str, ...],
    said: str,
    run_cli: RunCli,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = tmp_path / "other"
    for mark in ("run/x", *marks):
        (root / mark).parent.mkdir(parents=True, exist_ok=True)
        (root / mark).touch()
    monkeypatch.setattr(service, "ROOT", root)
    code, _, err = run_cli("service", "install")
    assert code == 2
    assert said in err
    assert "docs/install.md" in err
    assert not unit_files(tmp_path)


@pytest.mark.rule("C15")
def test_what_a_system_does_not_give_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("USER", "ada")
    monkeypatch.setattr(service, "ROOT", tmp_path)
    groups = tmp_path / "sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service"
    groups.mkdir(parents=True)
    (groups / "cgroup.controllers").write_text("memory pids\n", "ascii")
    capped = Service(name="swarm", program=("s",), home="/h", cpu=1.0, memory_mb=900)
    notes = service._notes(SimpleNamespace(home=tmp_path / "home"), capped)  # type: ignore[arg-type]
    assert len(notes) == 2
    assert "loginctl enable-linger ada" in notes[0]
    assert "does not let users limit cpu" in notes[1]
    (tmp_path / "var/lib/systemd/linger").mkdir(parents=True)
    (tmp_path / "var/lib/systemd/linger/ada").touch()
    (groups / "cgroup.controllers").write_text("cpu memory pids\n", "ascii")
    assert not service._notes(SimpleNamespace(home=tmp_path / "home"), capped)  # type: ignore[arg-type]


@pytest.mark.parametrize(("hours", "verb"), [("00:00-23:59", "start"), ("23:59-00:00", "stop")])
def test_the_timer_starts_and_stops_by_the_clock(
    hours: str,
    verb: str,
    run_cli: RunCli,
    calls: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("time.localtime", lambda: SimpleNamespace(tm_hour=12, tm_min=5))
    assert run_cli("service", "keep-hours", hours)[0] == 0
    (asked,) = calls()
    assert asked.startswith(f"{verb} --no-block swarm-")
    assert asked.endswith(".service")


def test_what_systemctl_says_is_passed_on(calls: Callable[[], list[str]]) -> None:
    with pytest.raises(SwarmError, match="no such unit"):
        service._systemctl("start", "fails")
    assert calls() == ["start fails"]
