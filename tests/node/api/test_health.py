"""A node is well when height and tokens rise, and says what stands still, since when, and what helps."""

from dataclasses import replace
from typing import Any

import pytest

from swarm.node.api.health import STANDSTILL_S, HealthInputs, HealthWatch, Motion, Verdict, names
from swarm.node.join.isolation import Isolation

TRAINING = HealthInputs(
    height=10, work=100, own_work=5, phase="training", is_seated=True, num_validators=4
)


class Node:
    """A node whose figures rise by one a second as long as the test says so."""

    def __init__(self, inputs: HealthInputs = TRAINING) -> None:
        self.now = 1000.0
        self.watch = HealthWatch(self.now)
        self.inputs = inputs
        self.health = self.watch.judge(inputs, self.now)

    def is_now(self, verdict: Verdict) -> bool:
        return self.health.verdict is verdict

    def go(self, seconds: int, *rising: str, **changes: Any) -> None:  # noqa: ANN401
        for _ in range(seconds):
            self.now += 1
            risen = {name: getattr(self.inputs, name) + 1 for name in rising}
            self.inputs = replace(self.inputs, **risen, **changes)
            self.health = self.watch.judge(self.inputs, self.now)


def test_a_value_moves_when_it_changes_and_not_when_it_is_first_seen() -> None:
    motion = Motion(5.0)
    motion.see(3, 6.0)
    assert (motion.has_moved, motion.age_s(7.0)) == (False, 2.0)
    motion.see(4, 8.0)
    assert (motion.has_moved, motion.age_s(10.0)) == (True, 2.0)
    assert not motion.is_still(8.0 + STANDSTILL_S - 0.1)
    assert motion.is_still(8.0 + STANDSTILL_S)


def test_what_rises_is_progress() -> None:
    node = Node()
    assert node.is_now(Verdict.WAITING), "nothing has risen yet"
    node.go(3, "height", "work", "own_work")
    assert node.is_now(Verdict.PROGRESSING)
    assert (node.health.cause, node.health.command) == ("", "")


@pytest.mark.parametrize("seconds", [1, 14])
def test_a_short_rest_is_no_standstill(seconds: int) -> None:
    node = Node()
    node.go(3, "height", "work", "own_work")
    node.go(seconds)
    assert node.is_now(Verdict.PROGRESSING)
    assert node.health.age_s == seconds


@pytest.mark.rule("W7")
def test_a_ledger_that_stands_still_names_whose_votes_are_missing() -> None:
    """Though tokens go on: nothing of them is final."""
    node = Node()
    node.go(3, "height", "work", "own_work")
    node.go(15, "work", "own_work", missing=("a", "b"))
    assert node.is_now(Verdict.STALLED)
    assert node.health.cause == (
        "the ledger stands still at height 13: the votes of 2 of 4 validators are missing (a, b)"
    )
    assert node.health.command.startswith("swarm join")
    assert node.health.age_s == STANDSTILL_S
    node.go(1, "height", "work", "own_work")
    assert node.is_now(Verdict.PROGRESSING), "it heals by itself"


@pytest.mark.rule("N30")
def test_a_node_that_is_connected_to_no_peer_needs_a_ticket() -> None:
    node = Node()
    node.go(3, "height", "work", "own_work")
    began = node.now
    isolation = Isolation("is isolated", "swarm join TICKET", began, is_alone=True)
    node.go(6, missing=("a",), isolation=isolation)
    assert node.is_now(Verdict.STALLED), "before the ledger is known to stand still"
    assert node.health.cause == "this node is isolated"
    assert node.health.command == "swarm join TICKET"
    assert node.health.age_s == 6.0


def test_a_network_of_slow_blocks_has_longer_to_make_one() -> None:
    watch = HealthWatch(0.0)
    watch.judge(TRAINING, 0.0, block_interval_s=60.0)
    assert not watch.is_ledger_still(179.0, 60.0)
    assert watch.is_ledger_still(180.0, 60.0)


@pytest.mark.rule("W7")
def test_tokens_that_stand_still_are_a_stall() -> None:
    node = Node()
    node.go(3, "height", "work", "own_work")
    node.go(15, "height")
    assert node.is_now(Verdict.STALLED)
    assert (node.health.cause, node.health.age_s) == ("no token was trained", 15.0)
    assert node.health.command == "swarm peers ls"


def test_a_stage_without_peers_is_named() -> None:
    node = Node()
    node.go(3, "height", "work", "own_work")
    node.go(15, "height", empty_stages=(1,))
    assert node.health.cause == "no token was trained: no peer is left in stage 1"
    assert node.health.command == "swarm ticket new"
    fresh = Node(replace(TRAINING, empty_stages=(0, 1)))
    assert fresh.health.verdict is Verdict.STALLED, "it cannot begin"
    assert fresh.health.cause.endswith("no peer is left in stages 0, 1")


def test_a_seat_that_makes_no_step_is_no_training_whatever_the_others_do() -> None:
    node = Node()
    node.go(5, "height", "work")
    assert node.is_now(Verdict.WAITING)
    assert "prepares its seat" in node.health.cause
    node.go(5, "height", "work", waits_for="a checkpoint")
    assert "waits for a checkpoint" in node.health.cause
    node.go(1, "height", "work", "own_work", waits_for="")
    assert node.is_now(Verdict.PROGRESSING)
    node.go(15, "height", "work")
    assert node.is_now(Verdict.STALLED)
    assert node.health.cause == "this node has finished no step; others train"


def test_who_has_no_seat_is_well_when_the_run_is() -> None:
    node = Node(replace(TRAINING, is_seated=False))
    node.go(3, "height", "work")
    assert node.is_now(Verdict.PROGRESSING)
    node.go(3, "height", "work", waits_for="text from other peers")
    assert node.is_now(Verdict.WAITING)
    assert node.health.cause == "waiting for text from other peers"


def test_who_joins_waits_for_what_is_named() -> None:
    node = Node(HealthInputs(height=0, waits_for="the run to appear on the ledger"))
    node.go(20)
    assert node.is_now(Verdict.WAITING)
    assert "the run to appear on the ledger" in node.health.cause
    node.go(20, "height")
    assert node.health.cause == "waiting for the run to appear on the ledger"


def test_a_pause_an_end_and_the_averaging_are_shown_as_what_they_are() -> None:
    node = Node()
    node.go(20, "height", phase="paused")
    assert (node.health.verdict, node.health.command) == (Verdict.PAUSED, "swarm resume")
    node.go(20, "height", phase="open")
    assert node.is_now(Verdict.WAITING)
    node.go(20, "height", phase="cooling")
    assert node.is_now(Verdict.PROGRESSING), "it has no tokens to train"
    node.go(20, phase="cooling")
    assert node.is_now(Verdict.STALLED)
    node.go(20, phase="settled")
    assert node.is_now(Verdict.ENDED)


def test_averaging_that_was_never_seen_to_move_is_waiting() -> None:
    node = Node(replace(TRAINING, phase="cooling"))
    assert node.is_now(Verdict.WAITING)


def test_a_long_list_of_names_is_cut_with_its_number() -> None:
    assert names(("a", "b")) == "a, b"
    assert names(tuple("abcde")) == "a, b, c and 2 more"
