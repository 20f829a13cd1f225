"""The progress of a run is described truthfully in every phase."""

from typing import Any

import pytest

from swarm.cli.state_reader import (
    moves,
    phase_text,
    progress,
    quality,
    quality_brief,
    training_loss,
    verdict,
)
from swarm.node.api.health import STANDSTILL_S
from swarm.node.api.schema import HealthRow, LedgerRow, RunRow, StateDocument

END = {"rounds": 22, "consensus_rounds": 3}


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ({"phase": "open", "round": 0, "rounds": 22}, "22 rounds, the first begins soon"),
        ({"phase": "open", "round": 7, "rounds": 22}, "round 7/22, goes on soon"),
        ({"phase": "training", "round": 7, "rounds": 22}, "round 7/22"),
        (
            {"phase": "training", "round": 7, "rounds": 22, "is_pausing": True},
            "round 7/22, then a pause",
        ),
        ({"phase": "paused", "round": 7, "rounds": 22}, "paused after round 7/22"),
        (
            {"phase": "cooling", "round": 23, "consensus_round": 2, **END},
            "22 rounds trained, final averaging: round 2 of 3",
        ),
        ({"phase": "finished", "round": 25, **END}, "22 rounds done, averaged in 3 more"),
        ({"phase": "settled", "round": 22, "rounds": 22}, "22 rounds done"),
        ({"phase": "training", "round": 3}, "round 3"),
        ({}, "round 0"),
    ],
)
def test_a_phase_is_shown_as_what_it_is(run: dict[str, Any], expected: str) -> None:
    assert progress(RunRow(**run)) == expected


@pytest.mark.parametrize("round_", range(22, 26))
def test_no_round_is_counted_beyond_the_last(round_: int) -> None:
    """The ledger goes on counting while the replicas agree; the views show what happens instead."""
    for phase in ("cooling", "finished"):
        run = RunRow(
            phase=phase, round=round_, consensus_round=round_ - 21, rounds=22, consensus_rounds=3
        )
        assert f"{round_}/22" not in progress(run)


def test_a_run_that_stands_still_is_not_shown_as_training() -> None:
    """Neither when no token is trained, nor when no block becomes final."""

    def state(age_s: int, *, is_still: bool = False, phase: str = "training") -> StateDocument:
        run = RunRow(phase=phase, tokens_age_s=age_s)
        return StateDocument(run=run, ledger=LedgerRow(is_still=is_still))

    assert phase_text(state(3)) == "training"
    assert phase_text(state(int(STANDSTILL_S))) == "standing still"
    assert phase_text(state(3, is_still=True)) == "standing still"
    assert not moves(state(3, is_still=True))
    cooling = "final averaging: the replicas of each stage become one"
    assert phase_text(state(99, phase="cooling")) == cooling
    assert phase_text(StateDocument()) == ""


@pytest.mark.parametrize(
    ("health", "expected"),
    [
        (HealthRow(verdict="progressing", cause=""), "healthy"),
        (
            HealthRow(
                verdict="stalled", cause="no token was trained", command="swarm map", age_s=99
            ),
            "stalled for 1 min 39 s: no token was trained; try: swarm map",
        ),
        (HealthRow(verdict="ended", cause="the run is over", age_s=9), "ended: the run is over"),
        (HealthRow(), "unknown: the node does not say"),
    ],
)
def test_a_verdict_comes_with_age_cause_and_command(health: HealthRow, expected: str) -> None:
    assert verdict(health) == expected


def test_the_training_loss_is_called_so() -> None:
    assert training_loss(RunRow(loss_nats=1.5791)) == "training loss 1.579"
    assert training_loss(RunRow()) == "training loss -"


@pytest.mark.parametrize(
    ("round_", "expected"),
    [
        (0, "before training"),
        (20, "round 20"),
        (22, "round 22"),
        (23, "1 of 3 averaging rounds"),
        (25, "fully averaged"),
        (None, "round unknown"),
    ],
)
def test_perplexity_says_who_measured_it_and_when(round_: int | None, expected: str) -> None:
    run = RunRow(
        heldout=1.612, perplexity=5.012, heldout_round=round_, rounds=22, consensus_rounds=3
    )
    assert quality(run) == (
        f"held-out loss 1.612 nats, perplexity 5.01: {expected}, measured by this node"
    )
    assert quality_brief(run) == f"perplexity 5.01 here, {expected}"


def test_a_model_that_was_not_measured_has_no_figure() -> None:
    assert quality(RunRow(is_measured_here=True)) == "not measured on held-out text yet"
    assert quality(RunRow()) == "not measured on held-out text by this node; swarm eval does it"
    assert quality_brief(RunRow()) == ""
