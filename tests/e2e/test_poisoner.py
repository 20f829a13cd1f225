"""Real processes: who puts other weights in where its segment begins is not paid, from its first check on."""

import sys
from pathlib import Path

import pytest

from tests.e2e.localnet import STAKE, HomeSetup, Localnet, State, peer_of

pytestmark = pytest.mark.e2e

POISONER = (sys.executable, str(Path(__file__).with_name("poisoner.py")))


@pytest.mark.rule("L90", "V34", "V63")
def test_random_weights_at_the_start_of_a_segment_are_not_paid(net: Localnet) -> None:
    """All its arithmetic is right, from a state that nobody had: its log is refused, and counts as none."""
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

    def silenced(state: State) -> State | None:
        audits = peer_of(state, names["poisoner"]).get("audits", {})
        return state if audits.get("silent", 0) >= 1 else None

    state = watcher.wait("a segment that was not paid", silenced)
    first = [row for row in state["checks"] if row["name"] == names["poisoner"]]
    silent = next(row for row in first if row["phase"] == "silent")
    assert not silent["paid"]
    assert silent["start"] in {"inherited", "checkpoint", "initial"}
    assert not state["convictions"]
    assert peer_of(state, names["launcher"])["audits"]["failed"] == 0
    assert peer_of(state, names["watcher"])["stake"] == STAKE
