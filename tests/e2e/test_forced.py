"""Real processes in a run with forced errors: who looks finds them and is paid, who does not loses stake."""

import sys
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.localnet import STAKE, HomeSetup, Localnet, State, peer_of

pytestmark = pytest.mark.e2e

LAZY_PEER = (sys.executable, str(Path(__file__).with_name("lazy.py")))
LONG_S = 240.0


def has_lost(state: State, *, name: str) -> bool:
    """Whether a peer has lost a part of its stake."""
    return bool(0 < peer_of(state, name).get("stake", 0) < STAKE)


@pytest.mark.rule("V56", "V57", "V58")
def test_who_does_not_look_is_found_out_and_who_looks_is_paid(net: Localnet) -> None:
    """Nobody is convicted, and nobody else loses anything."""
    run_file = net.run_file(is_exact=True, way="spots", round_blocks=36, forced=0.5)
    names = net.set_up(
        run_file,
        "launcher",
        founder=HomeSetup(stake=0, verify=False),
        watcher=HomeSetup(solve=False),
        lazy=HomeSetup(solve=False),
    )
    launcher = net.start("launcher", "launch", str(run_file), "--force")  # so many errors hide lies
    ticket = launcher.ticket()
    watcher = net.join("watcher", ticket)
    net.start("lazy", "join", ticket, program=LAZY_PEER)
    watcher.wait("a jackpot", lambda s: s["node"]["checks"]["jackpots"] >= 1, LONG_S)
    lost = partial(has_lost, name=names["lazy"])
    state = watcher.wait("the loss of who does not look", lambda s: lost(s) and s, LONG_S)
    assert state["convictions"] == []
    assert peer_of(state, names["watcher"])["stake"] == STAKE
    assert peer_of(state, names["launcher"])["audits"].get("failed", 0) == 0
    assert state["node"]["checks"]["differed"] == 0
    for node in net.nodes:
        assert node.is_running
        assert "Traceback" not in node.log.read_text()
