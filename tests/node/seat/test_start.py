"""A stage that was trained does not begin again from nothing unless nobody came back, and then aloud."""

from types import SimpleNamespace
from typing import cast

import pytest

from swarm.errors import Unreachable
from swarm.events import EventKind
from swarm.ledger.state.records import Run, Seat
from swarm.node.seat.start import LOST_ROUNDS, StartingNode, check_lost
from swarm.primitives.codec import replace
from swarm.testing.ledger import InMemoryLedger, small_run_spec
from swarm.types import RoundIndex


def a_stage(*, was_trained: bool) -> tuple[Run, Seat]:
    """A run of a lone launcher, and the seat it has just got back in stage 1."""
    ledger = InMemoryLedger()
    run = ledger.reach_round(ledger.open_run(small_run_spec(rounds=20)), 1)
    if was_trained:
        ledger.block(*ledger.commit_all(run, 0))
    run = ledger.reach_round(run, 2)
    seat = replace(run.seats[1][0], index=3, joined_round=RoundIndex(2), last_commit_round=-1)
    return run, seat


def told(run: Run, seat: Seat, round_: int) -> list[tuple[EventKind, str]]:
    events = list[tuple[EventKind, str]]()
    node = SimpleNamespace(report=lambda kind, text, **_: events.append((kind, text)))
    check_lost(cast("StartingNode", node), run, seat, RoundIndex(round_))
    return events


@pytest.mark.rule("N9a")
def test_for_some_rounds_it_waits_for_who_has_the_state() -> None:
    run, seat = a_stage(was_trained=True)
    for round_ in range(2, 2 + LOST_ROUNDS):
        with pytest.raises(Unreachable, match="nobody that is here has the state of stage 1"):
            told(run, seat, round_)
    ((kind, text),) = told(run, seat, 2 + LOST_ROUNDS)
    assert kind is EventKind.WARNING
    assert "stage 1 begins again from its initial weights" in text


def test_a_stage_that_nobody_trained_begins_from_its_initial_weights_at_once() -> None:
    assert told(*a_stage(was_trained=False), 2) == []
