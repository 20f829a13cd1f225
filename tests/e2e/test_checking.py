"""Real processes with stakes: honest work is verified, a lie costs the stake, silence the pay, truth nothing.

A launcher that votes, an honest peer, a watcher that only checks, the cheating one of the demo and
one that serves no logs (``mute.py``). They start once; every test looks at what they have come to.
"""

import json
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.localnet import STAKE, SWARM, HomeSetup, Localnet, Node, State, peer_of, seats_of

pytestmark = pytest.mark.e2e

CHEATING_PEER = (sys.executable, "-m", "swarm.cli.demo.cheating_peer")
MUTE = (sys.executable, str(Path(__file__).with_name("mute.py")))
HONEST = ("launcher", "honest", "watcher")
FRAUD = 6
"""Exit code of an audit that found one."""


@dataclass(frozen=True)
class CheckedNetwork:
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

    def audit(self, home: str, *more: str, **segment: int) -> tuple[int, State]:
        """``swarm audit --json`` from another terminal: exit code and answer."""
        args = [arg for name, value in segment.items() for arg in (f"--{name}", str(value))]
        args += more
        done = self.net.swarm("audit", *args, "--json", home=self.nodes[home].home)
        assert "Traceback" not in done.stderr
        return done.returncode, json.loads(done.stdout) if done.stdout else {"verdict": done.stderr}


@pytest.fixture(scope="module")
def network(net: Localnet) -> CheckedNetwork:
    run_file = net.run_file(is_exact=True)
    names = net.set_up(
        run_file,
        "launcher",
        founder=HomeSetup(stake=0, verify=False),
        honest=HomeSetup(),
        watcher=HomeSetup(solve=False),
        cheat=HomeSetup(),
        mute=HomeSetup(stake=0),
    )
    launcher = net.start("launcher", "launch", str(run_file))
    ticket = launcher.ticket()
    nodes = {"launcher": launcher}
    for name, program in (("watcher", SWARM), ("honest", SWARM), ("cheat", CHEATING_PEER)):
        nodes[name] = net.start(name, "join", ticket, program=program)
    for home in (
        "watcher",
        "honest",
    ):  # a segment that is older than all stakes is asked for by nobody
        launcher.wait(f"the stake of {home}", partial(has_stake, name=names[home]))
    nodes["mute"] = net.start("mute", "join", ticket, program=MUTE)
    return CheckedNetwork(net, names, nodes)


def has_stake(state: State, *, name: str) -> bool:
    """Whether the ledger has the stake of a peer."""
    return bool(peer_of(state, name).get("stake", 0) >= STAKE)


def test_honest_work_is_verified(network: CheckedNetwork) -> None:
    """Stakes go up by themselves, windows are kept, drawn, fetched and replayed, and all agree."""
    watcher = network.nodes["watcher"]
    for home in ("launcher", "honest"):
        network.nodes[home].wait_event("progress", "keeps 69 windows of ")
        network.wait_verified(home)
    state = watcher.wait("its own check", lambda s: s["node"]["checks"]["agreed"] >= 1 and s)
    assert peer_of(state, network.names["honest"])["stake"] == STAKE
    assert "verifier" in peer_of(state, network.names["watcher"])["role"]
    assert state["run"]["checks"]["verified"] >= 1
    assert state["run"]["confirmed"] >= 1
    assert any(row["phase"] == "verified" and row["verifiers"] for row in state["checks"])


@pytest.mark.rule("S13")
def test_a_cheating_peer_is_convicted(network: CheckedNetwork) -> None:
    """Its stake is taken, its seat given to others, and its finder is in the state document of every node."""
    cheat = network.names["cheat"]
    launcher = network.nodes["launcher"]
    state = launcher.wait(
        "the conviction", lambda s: {one["name"] for one in s["convictions"]} == {cheat} and s
    )
    first = state["convictions"][-1]
    assert 0 < first["stake_taken"] <= STAKE
    assert first["accuser"] in {network.names[home] for home in ("honest", "watcher")}
    assert (
        peer_of(state, cheat)["stake"] <= STAKE - first["stake_taken"]
    )  # a top-up may come after it
    assert peer_of(state, cheat)["audits"]["barred"]
    assert cheat not in {seat["name"] for seat in state["seats"]}
    event = network.nodes["cheat"].wait_event("error", "proven false")
    assert "faulty" in event["text"]


def test_the_false_segment_can_be_proven_to_others(network: CheckedNetwork) -> None:
    """An auditor fetches the log, computes it, and writes the evidence; exit code 6."""
    event = network.nodes["watcher"].wait_event("convicted")
    where = {name: event["fields"][name] for name in ("round", "stage", "seat", "window")}
    code, found = network.audit("honest", **where)
    assert (code, found["verdict"]) == (FRAUD, "fraud")
    assert Path(found["evidence"]).is_file()
    assert found["claim"] != found["replay"]


@pytest.mark.rule("V43", "V44")
def test_a_stranger_with_a_file_and_no_network_sees_the_lie(
    network: CheckedNetwork, tmp_path: Path
) -> None:
    """Neither a node nor a home: exit code 0, and 6 with one byte changed; it comes too late for a report."""
    event = network.nodes["watcher"].wait_event("convicted")
    where = {name: event["fields"][name] for name in ("round", "stage", "seat", "window")}
    path = tmp_path / "lie.evidence"
    code, found = network.audit("honest", "--evidence", str(path), **where)
    assert (code, found["evidence"]) == (FRAUD, str(path)), found
    done = network.net.swarm("verify-evidence", str(path), "--json", home=tmp_path / "nobody")
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert {name: row[name] for name in where} == where
    assert (row["verdict"], row["solver"]) == ("fraud", network.names["cheat"])
    assert row["claim"] == found["claim"] != row["replay"]
    done = network.net.swarm("report", str(path), home=network.nodes["honest"].home)
    assert done.returncode == 2
    assert "comes too late" in done.stderr
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    done = network.net.swarm("verify-evidence", str(path), home=tmp_path / "nobody")
    assert (done.returncode, done.stdout) == (FRAUD, "")
    assert "proves nothing" in done.stderr


def test_a_solver_that_serves_nothing_is_not_paid(network: CheckedNetwork) -> None:
    """Its segments end silent, but for those that nobody was in time to ask for; who asked in vain goes on."""
    watcher = network.nodes["watcher"]
    state = watcher.wait(
        "the silence", lambda s: network.audits(s, "mute").get("silent", 0) >= 1 and s
    )
    assert network.audits(state, "mute")["verified"] == 0
    asked = [
        row["phase"]
        for row in state["checks"]
        if row["name"] == network.names["mute"] and row["verifiers"]
    ]
    assert not {"verified", "unsampled", "cleared"} & set(asked), asked
    agreed = state["node"]["checks"]["agreed"]
    watcher.wait("more checks", lambda s: s["node"]["checks"]["agreed"] > agreed)
    network.nodes["mute"].wait_event("warning", "was voided")


def test_windows_outlive_a_restart(network: CheckedNetwork) -> None:
    """What was committed before the kill is shown after it: no peer becomes silent by crashing."""
    honest, watcher = network.nodes["honest"], network.nodes["watcher"]
    before = watcher.wait("the state document", lambda s: s)
    name = network.names["honest"]
    rows = [row for row in before["checks"] if row["name"] == name and row["windows"]]
    assert rows
    replayed = {check["window"] for check in rows[0]["verifiers"]}
    window = next((w for w in range(rows[0]["windows"]) if w not in replayed), 0)
    honest.kill()
    honest.resume()
    honest.wait("a seat", lambda s: s["run"] and seats_of(s))
    segment = {part: rows[0][part] for part in ("round", "stage", "seat")}
    code, found = network.audit("watcher", **segment, window=window)
    assert (code, found["verdict"]) == (0, "honest"), found["verdict"]


def test_no_honest_peer_has_lost_anything(network: CheckedNetwork) -> None:
    """Neither by the lies, nor by the accusations of the cheating peer, nor by the silence."""
    state = network.nodes["launcher"].wait("the state document", lambda s: s)
    for home in HONEST:
        peer = peer_of(state, network.names[home])
        assert peer["stake"] == STAKE, home
        assert peer["audits"]["failed"] == 0, home
        assert not peer["audits"]["barred"], home
    assert state["ledger"]["supply_conserved"]
    for home, node in network.nodes.items():
        assert node.is_running, home
        assert "Traceback" not in node.log.read_text()
        assert not list(node.home.glob("trace-*"))
