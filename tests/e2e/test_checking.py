"""Real processes with stakes: honest work is verified, a lie costs the stake, silence the pay, truth nothing.

A launcher that votes, an honest peer, a watcher that only checks, a liar (``liar.py``) and one that shows
nobody what it did (``mute.py``). They start once; every test looks at what they have come to.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.localnet import STAKE, SWARM, Localnet, Node, Part, State, peer_of, seats_of

pytestmark = pytest.mark.e2e

LIAR = (sys.executable, str(Path(__file__).with_name("liar.py")))
MUTE = (sys.executable, str(Path(__file__).with_name("mute.py")))
HONEST = ("launcher", "honest", "watcher")
FRAUD = 6
"""Exit code of an audit that found one."""


@dataclass(frozen=True)
class Village:
    """The five, and their names."""

    net: Localnet
    names: dict[str, str]
    nodes: dict[str, Node]

    def audits(self, state: State, home: str) -> State:
        """How a peer's segments went, by its home."""
        found: State = peer_of(state, self.names[home]).get("audits", {})
        return found

    def wait_verified(self, home: str) -> None:
        """Wait until the watcher sees a verified segment of a peer."""
        self.nodes["watcher"].wait(
            f"a verified segment of {home}",
            lambda state: self.audits(state, home).get("verified", 0) >= 1,
        )

    def audit(self, home: str, **place: int) -> tuple[int, State]:
        """``swarm audit --json`` from another terminal: exit code and answer."""
        words = [word for name, value in place.items() for word in (f"--{name}", str(value))]
        done = self.net.swarm("audit", *words, "--json", home=self.nodes[home].home)
        assert "Traceback" not in done.stderr
        return done.returncode, json.loads(done.stdout) if done.stdout else {"verdict": done.stderr}


@pytest.fixture(scope="module")
def village(net: Localnet) -> Village:
    run_file = net.run_file(is_exact=True)
    names = net.set_up(
        run_file,
        "launcher",
        honest=Part(),
        watcher=Part(solve=False),
        liar=Part(),
        mute=Part(stake=0),
    )
    launcher = net.start("launcher", "launch", str(run_file))
    ticket = launcher.ticket()
    nodes = {"launcher": launcher}
    for name, program in (("watcher", SWARM), ("honest", SWARM), ("liar", LIAR), ("mute", MUTE)):
        nodes[name] = net.start(name, "join", ticket, program=program)
    return Village(net, names, nodes)


def test_honest_work_is_verified(village: Village) -> None:
    """Stakes go up by themselves, windows are kept, drawn, fetched and replayed, and all agree."""
    watcher = village.nodes["watcher"]
    for home in ("launcher", "honest"):
        village.nodes[home].wait_event("progress", "keeps 69 windows of ")
        village.wait_verified(home)
    state = watcher.wait("its own check", lambda s: s["node"]["checks"]["agreed"] >= 1 and s)
    assert peer_of(state, village.names["honest"])["stake"] == STAKE
    assert "verifier" in peer_of(state, village.names["watcher"])["role"]
    assert state["run"]["checks"]["verified"] >= 1
    assert state["run"]["confirmed"] >= 1
    assert any(row["phase"] == "verified" and row["verifiers"] for row in state["checks"])


@pytest.mark.rule("S13")
def test_a_liar_is_convicted(village: Village) -> None:
    """Its stake is taken, its seat given to others, and what found it is in everybody's picture."""
    liar = village.names["liar"]
    launcher = village.nodes["launcher"]
    state = launcher.wait(
        "the conviction", lambda s: {one["name"] for one in s["convictions"]} == {liar} and s
    )
    first = state["convictions"][-1]
    assert 0 < first["stake_taken"] <= STAKE
    assert first["accuser"] in {village.names[home] for home in HONEST}
    assert (
        peer_of(state, liar)["stake"] <= STAKE - first["stake_taken"]
    )  # a top-up may come after it
    assert peer_of(state, liar)["audits"]["barred"]
    assert liar not in {seat["name"] for seat in state["seats"]}
    told = village.nodes["liar"].wait_event("error", "proven false")
    assert "faulty" in told["text"]


def test_the_liars_lie_can_be_shown_to_anybody(village: Village) -> None:
    """An auditor fetches the log, computes it, and writes the evidence; exit code 6."""
    event = village.nodes["watcher"].wait_event("convicted")
    where = {name: event["fields"][name] for name in ("round", "stage", "seat", "window")}
    code, found = village.audit("honest", **where)
    assert (code, found["verdict"]) == (FRAUD, "fraud")
    assert Path(found["evidence"]).is_file()
    assert found["claim"] != found["replay"]


def test_who_shows_nothing_is_never_paid(village: Village) -> None:
    """Its segments end silent; the verifiers that asked in vain go on."""
    watcher = village.nodes["watcher"]
    state = watcher.wait(
        "the silence", lambda s: village.audits(s, "mute").get("silent", 0) >= 1 and s
    )
    assert village.audits(state, "mute")["verified"] == 0
    assert peer_of(state, village.names["mute"])["earned"] == 0
    agreed = state["node"]["checks"]["agreed"]
    watcher.wait("more checks", lambda s: s["node"]["checks"]["agreed"] > agreed)
    village.nodes["mute"].wait_event("warning", "was voided")


def test_windows_outlive_a_restart(village: Village) -> None:
    """What was committed before the kill is shown after it: nobody becomes silent by crashing."""
    honest, watcher = village.nodes["honest"], village.nodes["watcher"]
    before = watcher.wait("a picture", lambda s: s)
    name = village.names["honest"]
    rows = [row for row in before["checks"] if row["name"] == name and row["windows"]]
    assert rows
    replayed = {check["window"] for check in rows[0]["verifiers"]}
    window = next((w for w in range(rows[0]["windows"]) if w not in replayed), 0)
    honest.kill()
    honest.resume()
    honest.wait("a seat", lambda s: s["run"] and seats_of(s))
    place = {part: rows[0][part] for part in ("round", "stage", "seat")}
    code, found = village.audit("watcher", **place, window=window)
    assert (code, found["verdict"]) == (0, "honest"), found["verdict"]


def test_no_honest_peer_has_lost_anything(village: Village) -> None:
    """Neither by the lies, nor by the accusations of the liar, nor by the silence."""
    state = village.nodes["launcher"].wait("a picture", lambda s: s)
    for home in HONEST:
        peer = peer_of(state, village.names[home])
        assert peer["stake"] == STAKE, home
        assert peer["audits"]["failed"] == 0, home
        assert not peer["audits"]["barred"], home
    assert state["ledger"]["supply_conserved"]
    for home, node in village.nodes.items():
        assert node.is_running, home
        assert "Traceback" not in node.log.read_text()
        assert not list(node.home.glob("trace-*"))
