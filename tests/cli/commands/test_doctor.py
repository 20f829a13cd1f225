"""The doctor looks at everything and changes nothing, is never late, and its report can be sent to anybody."""

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from swarm.cli.checkup import Finding, State, good
from swarm.cli.commands import doctor
from swarm.cli.commands.doctor import examine
from swarm.config.resources import NODE_FILE
from swarm.errors import Corrupt
from swarm.events import EventKind, make_event, to_json_line
from swarm.host.identity import load_identity
from swarm.ticket import Ticket, format_ticket
from swarm.types import PeerId

RunCli = Callable[..., tuple[int, str, str]]
CHECKS = """python packages memory cores files disk scratch settings home key clock ports power errors
 ledger node reach ticket kernels""".split()
QUICK = 'print(\'{"name": "quick", "notice": "", "tree": true, "levels": true}\')'


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {found.name: found for found in findings}


def tree(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))


@pytest.mark.rule("C14")
def test_a_home_that_is_not_there_yet_is_well_and_is_not_made(
    run_cli: RunCli, tmp_path: Path
) -> None:
    """With the real self-test of the kernels, in a process of its own."""
    code, out, err = run_cli("--json", "doctor")
    found = json.loads(out)
    assert [row["check"] for row in found["checks"]] == CHECKS
    assert len(CHECKS) >= 14
    assert all(set(row) == {"check", "state", "text", "hint"} for row in found["checks"])
    assert all(row["hint"] for row in found["checks"] if row["state"] != "good")
    assert (code, err) == (0 if found["is_well"] else 1, "")
    assert not tree(tmp_path)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "SELF_TEST", QUICK)


@pytest.mark.rule("C14")
@pytest.mark.usefixtures("quick")
def test_what_is_wrong_in_a_home_is_bad_and_ends_with_a_failure(
    run_cli: RunCli, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    load_identity(home)
    (home / "identity.key").chmod(0o644)
    (home / NODE_FILE).write_text("threads = many\n", encoding="utf-8")
    (home / "store.sqlite").write_bytes(b"no database at all" * 100)
    home.chmod(0o777)
    before = tree(home)
    code, out, _ = run_cli("doctor")
    assert code == 1
    lines = out.splitlines()
    assert sum(line.startswith("bad ") for line in lines) >= 3
    with pytest.raises(Corrupt):
        doctor._ledger(home)
    assert any("try: chmod 600" in line for line in lines)
    assert any("try: chmod 700" in line for line in lines)
    assert lines[-1].endswith(" bad")
    assert tree(home) == before


@pytest.mark.rule("C14")
@pytest.mark.usefixtures("quick")
def test_a_port_that_is_taken_and_a_ticket_that_answers_are_found(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        address = f"/ip4/127.0.0.1/tcp/{port}"
        ticket = Ticket(bytes(16), bytes(16), PeerId(bytes(range(32))), (address,), 0)
        (tmp_path / "ticket.txt").write_text(format_ticket(ticket), encoding="ascii")
        (tmp_path / NODE_FILE).write_text(
            f'listen = ["127.0.0.1:{port}"]\napi_port = 0\n', encoding="ascii"
        )
        found = by_name(examine(tmp_path))
        assert found["ports"].state is State.BAD
        assert f"127.0.0.1:{port}" in found["ports"].text
        assert doctor._ticket(tmp_path).state is State.GOOD
    assert by_name(examine(tmp_path))["ports"].state is State.GOOD
    assert doctor._ticket(tmp_path).state is State.WARNING


@pytest.mark.rule("C14")
def test_what_is_slow_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def wait(_: Path) -> Finding:
        over.wait()
        return good("slow", "at last")

    slow = doctor._Slow("slow", wait, tmp_path)
    found = slow.result(-1.0)
    over.set()
    assert (found.state, found.text) == (State.WARNING, "took too long to look at")
    monkeypatch.setattr(doctor, "SELF_TEST", "import time; time.sleep(600)")
    monkeypatch.setattr(doctor, "PATIENCE_S", 0.5)
    began = time.monotonic()
    assert by_name(examine(tmp_path))["kernels"].text == "the self-test took too long here"
    assert time.monotonic() - began < 60


@pytest.mark.rule("C14", "S21")
@pytest.mark.usefixtures("quick")
def test_a_report_holds_no_key_no_address_and_no_path(run_cli: RunCli, tmp_path: Path) -> None:
    home, report = tmp_path / "home", tmp_path / "report.json"
    secret = load_identity(home).seed.hex()
    events = ["dialled /ip4/203.0.113.9/tcp/4001/p2p/12D3KooWabcdefghijklmnopqrstuvwxyz: refused"]
    events += [f"key {secret}", "cannot read /srv/private/run.toml", f"full: {home}/store.sqlite"]
    lines = [to_json_line(make_event(9, EventKind.ERROR, text)) for text in events]
    (home / "events.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (home / "api.json").write_text(json.dumps({"token": "t0k3n-of-the-page"}), encoding="utf-8")
    (home / "trace-1.txt").write_text(
        'swarm join swarm1:3zfUyigpLX6\n  File "/opt/place/x.py"\n t0k3n-of-the-page\n',
        encoding="utf-8",
    )
    settings = 'listen = ["198.51.100.7:4455"]\nannounce = ["/dns4/peer.example.org/tcp/4456"]\n'
    (home / NODE_FILE).write_text(settings, encoding="utf-8")
    run_cli("doctor", "--bundle", str(report))
    text = report.read_text("utf-8")
    assert report.stat().st_mode & 0o777 == 0o600
    found = json.loads(text)
    assert found["listen_ports"] == [4455]
    assert len(found["events"]) == 4
    assert any(entry.startswith("identity.key 100600 ") for entry in found["files"])
    assert "[home]/store.sqlite" in text
    hidden = [secret, "203.0.113.9", "198.51.100.7", "example.org", "4456", "t0k3n", "swarm1:"]
    hidden += ["/srv", "/opt", str(tmp_path), "12D3KooW", os.path.expanduser("~/.")]
    assert [word for word in hidden if word in text] == []
    code, _, err = run_cli("doctor", "--bundle", str(report))
    assert code == 2
    assert "exists already" in err
