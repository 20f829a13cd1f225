"""A running node is never silent for ten seconds, and does not chatter."""

from itertools import pairwise

import pytest

from swarm.cli.run_node import POLL_INTERVAL_S, STATUS_INTERVAL_S, Progress
from swarm.cli.style import Ink
from swarm.events import EventKind, make_event
from swarm.node.api.schema import NodeRow
from swarm.primitives.codec import replace
from tests.web.snapshots import a_stalled_snapshot, a_state


def a_progress(*, is_live: bool = False, verbose: bool = False) -> Progress:
    return Progress(Ink(), verbose=verbose, is_live=is_live)


@pytest.mark.rule("C4")
def test_no_silence_longer_than_ten_seconds() -> None:
    """Looked at once a second, with no events at all, there is a line in every ten."""
    progress = a_progress()
    printed = [second for second in range(60) if progress.on_state(None, float(second))]
    gaps = [b - a for a, b in pairwise(printed)]
    assert max(gaps) <= STATUS_INTERVAL_S + 1 < 10


@pytest.mark.rule("C4")
def test_a_wait_names_its_cause() -> None:
    """Before there is a state document, the last event is shown."""
    progress = a_progress()
    progress.on_event(make_event(0, EventKind.NETWORK, "cannot reach glad-raven-113: refused"), 0.0)
    (line,) = progress.on_state(None, 100.0)
    assert line == "waiting: cannot reach glad-raven-113: refused"


def test_a_node_that_is_late_to_say_how_it_is_does_not_wait_for_its_last_event() -> None:
    """It was up before: what it did last is no cause."""
    progress = a_progress()
    progress.on_state(a_state(), 0.0)
    progress.on_event(make_event(0, EventKind.CHECKPOINT, "posted the checkpoint of stage 0"), 1.0)
    (line,) = progress.on_state(None, 100.0)
    assert line == "busy: this node's page is late; last: posted the checkpoint of stage 0"


def test_the_cause_of_the_node_itself_comes_first() -> None:
    """What the node says it waits for is what is shown."""
    state = replace(a_state(), node=NodeRow(waits_for="text from other peers"))
    assert a_progress().status(state).endswith("waiting: text from other peers")


def test_a_network_that_stands_still_is_not_shown_as_training() -> None:
    """The line of a running node has no rate then, but cause, age and one command."""
    assert a_progress().status(a_state()).endswith("  training")
    line = a_progress().status(a_state(a_stalled_snapshot()))
    assert "  - tok/s  " in line
    assert "training" not in line.replace("training loss -", "")
    assert "stalled for 40 s: the ledger stands still at height 212" in line
    assert line.endswith("try: swarm join")


def test_the_live_line_of_a_narrow_terminal_cuts_no_figure() -> None:
    line = a_progress().status(a_state(), 60)
    assert len(line) <= 60
    assert line.startswith("round 41/80  training loss 1.9")


def test_frequent_events_are_left_to_the_status_line() -> None:
    """Trades and commits show only with --verbose."""
    trade = make_event(0, EventKind.TRADED, "traded fragment 3")
    assert a_progress().on_event(trade, 0.0) == []
    assert a_progress(verbose=True).on_event(trade, 0.0) != []


def test_a_conviction_is_printed_and_an_agreement_is_not() -> None:
    """Checks that agree come many times a round; who was caught, and by whom, is printed."""
    checked = make_event(0, EventKind.CHECKED, "checked window 3 of segment 8/0/1: agrees")
    assert a_progress().on_event(checked, 0.0) == []
    caught = make_event(0, EventKind.CONVICTED, "calm-stoat-008 was convicted: window 3 is false")
    (line,) = a_progress().on_event(caught, 0.0)
    assert line.startswith("caught    calm-stoat-008 was convicted")


def test_the_map_is_printed_once() -> None:
    """As soon as it is known, and not again."""
    progress, document = a_progress(is_live=True), a_state()
    assert any("http://127.0.0.1:7420/" in line for line in progress.on_state(document, 0.0))
    assert progress.on_state(document, 60.0) == []


def test_an_event_resets_the_clock() -> None:
    """A status line is not needed right after something was said."""
    progress = a_progress()
    progress.on_state(None, 0.0)
    progress.on_event(make_event(0, EventKind.PROGRESS, "reading the text"), 4.0)
    assert progress.on_state(None, 6.0) == []
    assert progress.on_state(None, 4.0 + STATUS_INTERVAL_S) != []


def test_a_node_that_nobody_watches_asks_itself_seldom() -> None:
    """Every second until the map is known, and for a live line; then as often as a status is due."""
    progress, live = a_progress(), a_progress(is_live=True)
    assert progress.poll_s == live.poll_s == POLL_INTERVAL_S
    for one in (progress, live):
        one.on_state(a_state(), 0.0)
    assert (progress.poll_s, live.poll_s) == (STATUS_INTERVAL_S, POLL_INTERVAL_S)
