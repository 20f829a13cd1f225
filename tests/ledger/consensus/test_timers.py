"""Blocks keep the interval whoever leads, and patience grows only while nothing becomes final."""

import pytest

from swarm.ledger.consensus.timers import IDLE_VIEWS, TimerParams, Timers
from swarm.types import View

PACE = TimerParams(interval_s=1.0, delta_s=2.0)


def entered(timers: Timers, view: int, *, final: int, now: float, leader: int = 0) -> Timers:
    timers.enter(View(view), View(final), leader=leader, me=0, now=now)
    return timers


@pytest.mark.rule("L34")
def test_votes_are_held_until_the_interval_has_passed_since_the_parent() -> None:
    timers = Timers(PACE)
    timers.note(View(4), 10.0)
    timers.note(View(4), 10.4)  # its certificate came later: the vote counts
    entered(timers, 5, final=3, now=10.3)
    assert timers.hold_until == 11.0
    assert timers.propose_at == 10.75
    assert timers.leader_at == 15.0
    assert timers.advance_at == 17.0
    assert timers.deadline == 10.75


def test_a_late_view_waits_for_nothing() -> None:
    timers = Timers(PACE)
    timers.note(View(4), 10.0)
    entered(timers, 6, final=3, now=14.0)
    assert timers.hold_until == timers.propose_at == 14.0


def test_who_does_not_lead_does_not_propose() -> None:
    assert entered(Timers(PACE), 1, final=0, now=0.0, leader=1).propose_at is None


@pytest.mark.parametrize(("final", "delta_s"), [(8, 2.0), (9, 2.0), (7, 2.6), (0, 16.0)])
def test_patience_grows_while_nothing_becomes_final_up_to_a_cap(final: int, delta_s: float) -> None:
    assert entered(Timers(PACE), 10, final=final, now=0.0).delta_s == pytest.approx(delta_s)


def test_a_leader_not_heard_of_for_long_gets_little_time() -> None:
    timers = Timers(PACE)
    timers.hear(1, View(10))
    assert entered(timers, 10 + IDLE_VIEWS, final=14, now=0.0, leader=1).leader_at == 4.0
    assert entered(timers, 11 + IDLE_VIEWS, final=15, now=0.0, leader=1).leader_at == 0.5
    timers.hear(1, View(17))
    assert entered(timers, 18, final=16, now=0.0, leader=1).leader_at == 4.0
