"""Real processes: weights put in where a segment begins are no start of it: the ledger says what that is."""

import sys
from pathlib import Path

import pytest

from tests.e2e.localnet import HomeSetup, Localnet, State, peer_of

pytestmark = pytest.mark.e2e

POISONER = (sys.executable, str(Path(__file__).with_name("poisoner.py")))


@pytest.mark.rule("L90", "L100", "L117")
def test_random_weights_at_the_start_of_a_segment_are_never_paid(net: Localnet) -> None:
    """All its arithmetic is right, from a state that nobody had; but its windows do not begin with that."""
    run_file = net.run_file(is_exact=True, window_steps=6)  # the only window of each segment
    names = net.set_up(
        run_file,
        "launcher",
        watcher=HomeSetup(solve=False),
        poisoner=HomeSetup(),
    )
    ticket = net.start("launcher", "launch", str(run_file)).ticket()
    watcher = net.start("watcher", "join", ticket)
    net.start("poisoner", "join", ticket, program=POISONER)

    def begun(state: State) -> list[State]:
        """Its segments that began so, and are over."""
        rows = [row for row in state["checks"] if row["name"] == names["poisoner"]]
        made = [row for row in rows if row["start"] in {"inherited", "checkpoint", "initial"}]
        return [row for row in made if row["phase"] in {"silent", "guilty"}]

    def begins_again(state: State) -> bool:
        """It has not gone on from the end of a segment that it did not show."""
        rows = [row for row in state["checks"] if row["name"] == names["poisoner"]]
        unshown = min((row["round"] for row in rows if row["phase"] == "silent"), default=None)
        anew = [row["round"] for row in rows if row["start"] != "continued"]
        return unshown is not None and any(round_ > unshown for round_ in anew)

    state = watcher.wait("a start that is not shown", lambda s: bool(begun(s)) and s)
    watcher.wait("another start after it", begins_again)
    assert not any(row["paid"] for row in begun(state))
    assert peer_of(state, names["launcher"])["audits"]["failed"] == 0
