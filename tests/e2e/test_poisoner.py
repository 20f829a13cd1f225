"""Real processes: who puts other weights in where its segment begins is convicted by the first check of it."""

import sys
from pathlib import Path

import pytest

from tests.e2e.localnet import STAKE, HomeSetup, Localnet, peer_of

pytestmark = pytest.mark.e2e

POISONER = (sys.executable, str(Path(__file__).with_name("poisoner.py")))


@pytest.mark.rule("L90", "V34")
def test_random_weights_at_the_start_of_a_segment_cost_the_stake(net: Localnet) -> None:
    """All its arithmetic is right, from a state that nobody had: only the start is false, and only once."""
    run_file = net.run_file(is_exact=True, window_steps=6)  # the only window of each segment
    names = net.set_up(
        run_file,
        "launcher",
        judge=HomeSetup(stake=0, verify=False),
        watcher=HomeSetup(solve=False),
        poisoner=HomeSetup(),
    )
    ticket = net.start("launcher", "launch", str(run_file)).ticket()
    watcher = net.start("watcher", "join", ticket)
    net.start("poisoner", "join", ticket, program=POISONER)
    state = watcher.wait("the conviction", lambda s: bool(s["convictions"]) and s)
    conviction = state["convictions"][0]
    assert (conviction["name"], conviction["accuser"]) == (names["poisoner"], names["watcher"])
    assert conviction["stake_taken"] == STAKE
    assert peer_of(state, names["launcher"])["audits"]["failed"] == 0
    row = next(r for r in state["checks"] if r["phase"] == "guilty")
    assert row["start"] in {"inherited", "checkpoint", "initial"}
