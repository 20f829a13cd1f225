"""Without a drawn verifier one peer that doubts is enough: leaves are shown, and it reports false ones."""

import sys
from pathlib import Path

import pytest

from tests.e2e.localnet import STAKE, HomeSetup, Localnet, Node, State, peer_of

pytestmark = pytest.mark.e2e

FRAUD = 6
"""Exit code of an audit that found one."""
CHEATING_PEER = (sys.executable, "-m", "swarm.cli.demo.cheating_peer")


@pytest.fixture(scope="module")
def names(net: Localnet) -> dict[str, str]:
    """A launcher that votes, one that doubts and does not train, and one that cheats; no verifier is ever
    drawn.
    """
    run_file = net.run_file(is_exact=True, probability=0.0)
    names = net.set_up(run_file, "launcher", doubter=HomeSetup(solve=False), cheat=HomeSetup())
    launcher = net.start("launcher", "launch", str(run_file))
    ticket = launcher.ticket()
    net.start("doubter", "join", ticket)
    net.start("cheat", "join", ticket, program=CHEATING_PEER)
    return names


@pytest.fixture(scope="module")
def doubter(net: Localnet, names: dict[str, str]) -> Node:
    assert names
    return net.nodes[1]


@pytest.mark.rule("S15", "V45")
def test_a_report_brings_down_a_cheating_peer_that_nobody_was_drawn_for(
    net: Localnet, names: dict[str, str], doubter: Node, tmp_path: Path
) -> None:
    """Shown, paid unchecked, reported blind, disputed, heard: the stake goes where the doubt was.

    The launcher audits and writes evidence; the doubter, who never asked for the log, reports by it.
    """

    def unchecked(state: State) -> State | None:
        # The cheating peer takes none of its steps: a window that holds one is certain to be false.
        mine = [row for row in state["checks"] if row["name"] == names["cheat"] and row["steps"]]
        return next((row for row in mine if row["phase"] == "unsampled"), None)

    row = doubter.wait("an unchecked segment", unchecked)
    before = doubter.wait("its stake", lambda s: peer_of(s, names["doubter"])["stake"] and s)
    assert peer_of(before, names["doubter"])["stake"] == STAKE
    path, window = str(tmp_path / "lie.evidence"), [*where(row), "--window", "0"]
    done = net.swarm("audit", *window, "--evidence", path, home=net.nodes[0].home)
    assert done.returncode == FRAUD, done.stderr
    assert f"swarm report {path}" in done.stdout
    done = net.swarm("report", path, home=doubter.home)
    assert done.returncode == 0, done.stderr
    assert "reported window 0" in done.stdout

    state = doubter.wait("the conviction", lambda s: bool(s["convictions"]) and s)
    conviction = state["convictions"][0]
    assert (conviction["name"], conviction["accuser"]) == (names["cheat"], names["doubter"])
    assert conviction["stake_taken"] == STAKE
    assert peer_of(state, names["cheat"])["stake"] == 0
    assert state["run"]["checks"]["guilty"] == 1
    assert state["ledger"]["supply_conserved"]


def test_doubt_in_true_work_finds_nothing_to_report(
    net: Localnet, names: dict[str, str], doubter: Node
) -> None:
    """The window is replayed before anything is at risk: all keep their pay and their stakes."""
    state = doubter.wait("the state document", lambda s: s)
    mine = [row for row in state["checks"] if row["name"] == names["launcher"]]
    row = next(row for row in mine if row["phase"] == "unsampled" and row["windows"])
    done = net.swarm("report", *where(row), "--window", "0", home=doubter.home)
    assert done.returncode != 0
    assert "nothing to report" in done.stderr
    state = doubter.wait("the state document", lambda s: s)
    launcher = peer_of(state, names["launcher"])
    assert (launcher["stake"], launcher["audits"]["failed"]) == (STAKE, 0)
    assert peer_of(state, names["doubter"])["stake"] >= STAKE
    assert state["run"]["checks"]["guilty"] == 1


def where(row: State) -> list[str]:
    """A segment as options of a command."""
    return [arg for name in ("round", "stage", "seat") for arg in (f"--{name}", str(row[name]))]
