"""Real processes in a run that is checked at drawn elements: honest work is verified, a lie costs the stake."""

import sys
from functools import partial

import pytest

from tests.e2e.localnet import STAKE, HomeSetup, Localnet, State, peer_of

pytestmark = pytest.mark.e2e

CHEATING_PEER = (sys.executable, "-m", "swarm.cli.demo.cheating_peer")


LONG_S = 240.0
"""Rounds are long here: a check computes each of its steps twice, by programs."""


def audits(state: State, name: str) -> State:
    """How a peer's segments went."""
    found: State = peer_of(state, name).get("audits", {})
    return found


def has_verified(state: State, *, name: str) -> bool:
    """Whether a segment of a peer was verified."""
    return bool(audits(state, name).get("verified", 0))


@pytest.mark.rule("V54")
def test_a_run_is_checked_at_drawn_elements(net: Localnet) -> None:
    """No log leaves its seat; honest segments are verified all the same, and a cheating peer is convicted."""
    run_file = net.run_file(
        is_exact=True, way="spots", round_blocks=36, probability=0.3, forced=0.1
    )
    names = net.set_up(
        run_file,
        "launcher",
        founder=HomeSetup(stake=0, verify=False),
        honest=HomeSetup(),
        watcher=HomeSetup(solve=False),
        cheat=HomeSetup(),
    )
    launcher = net.start("launcher", "launch", str(run_file))
    ticket = launcher.ticket()
    watcher = net.join("watcher", ticket)
    net.join("honest", ticket)
    net.start("cheat", "join", ticket, program=CHEATING_PEER)
    for home in ("launcher", "honest"):
        is_verified = partial(has_verified, name=names[home])
        watcher.wait(f"a verified segment of {home}", is_verified, LONG_S)
    state = launcher.wait("the conviction", lambda s: s if s["convictions"] else None, LONG_S)
    assert {one["name"] for one in state["convictions"]} == {names["cheat"]}
    assert peer_of(state, names["cheat"])["audits"]["barred"]
    state = watcher.wait("its own check", lambda s: s["node"]["checks"]["agreed"] >= 1 and s)
    for home in ("honest", "watcher"):
        assert peer_of(state, names[home])["stake"] == STAKE, home
    assert audits(state, names["honest"]).get("failed", 0) == 0
    for node in net.nodes:
        assert node.is_running
        assert "Traceback" not in node.log.read_text()
