"""Without a drawn verifier one peer that doubts is enough: it reports, and the cheating peer must reveal its
leaves.
"""

import sys

import pytest

from tests.e2e.localnet import STAKE, HomeSetup, Localnet, Node, State, peer_of

pytestmark = pytest.mark.e2e

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


@pytest.mark.rule("S15")
def test_a_report_makes_a_cheating_peer_reveal_itself(
    net: Localnet, names: dict[str, str], doubter: Node
) -> None:
    """Paid unchecked, reported, revealed, disputed, judged: the stake goes where the doubt was."""

    def unchecked(state: State) -> State | None:
        # The cheating peer takes none of its steps: a window that holds one is certain to be false.
        mine = [row for row in state["checks"] if row["name"] == names["cheat"] and row["steps"]]
        return next((row for row in mine if row["phase"] == "unsampled"), None)

    row = doubter.wait("an unchecked segment", unchecked)
    before = doubter.wait("its stake", lambda s: peer_of(s, names["doubter"])["stake"] and s)
    assert peer_of(before, names["doubter"])["stake"] == STAKE
    done = net.swarm("report", *where(row), "--window", "0", home=doubter.home)
    assert done.returncode == 0, done.stderr
    assert "reported window 0" in done.stdout

    state = doubter.wait("the conviction", lambda s: bool(s["convictions"]) and s)
    conviction = state["convictions"][0]
    assert (conviction["name"], conviction["accuser"]) == (names["cheat"], names["doubter"])
    assert conviction["stake_taken"] == STAKE
    assert peer_of(state, names["cheat"])["stake"] == 0
    assert state["run"]["checks"]["guilty"] == 1
    assert state["ledger"]["supply_conserved"]


def test_doubt_in_true_work_costs_only_the_doubter(
    net: Localnet, names: dict[str, str], doubter: Node
) -> None:
    """The solver shows the same leaves, and keeps its pay, its stake, and the bond."""

    def rows(state: State) -> list[State]:
        return [row for row in state["checks"] if row["name"] == names["launcher"]]

    state = doubter.wait("the state document", lambda s: s)
    row = next(row for row in rows(state) if row["phase"] == "unsampled" and not row["windows"])
    done = net.swarm("report", *where(row), "--window", "0", home=doubter.home)
    assert done.returncode == 0, done.stderr

    def is_shown(state: State) -> State | None:
        found = next((one for one in rows(state) if where(one) == where(row)), None)
        return state if found and found["windows"] and not found["accusers"] else None

    state = doubter.wait("the leaves of the honest", is_shown)
    launcher = peer_of(state, names["launcher"])
    assert (launcher["stake"], launcher["audits"]["failed"]) == (STAKE, 0)
    assert peer_of(state, names["doubter"])["stake"] == STAKE
    assert state["run"]["checks"]["guilty"] == 1


def where(row: State) -> list[str]:
    """A segment as options of a command."""
    return [arg for name in ("round", "stage", "seat") for arg in (f"--{name}", str(row[name]))]
