"""Where a run stands is told in words that are true in every phase."""

import pytest

from swarm.cli.state_reader import phase_text, progress, quality, quality_brief, training_loss

END = {"rounds": 22, "consensus_rounds": 3}


@pytest.mark.parametrize(
    ("run", "words"),
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
            "22 rounds trained, agreeing: round 2 of 3",
        ),
        ({"phase": "finished", "round": 25, **END}, "22 rounds done, agreed in 3 more"),
        ({"phase": "settled", "round": 22, "rounds": 22}, "22 rounds done"),
        ({"phase": "training", "round": 3}, "round 3"),
        ({}, "round 0"),
    ],
)
def test_a_phase_is_told_as_what_it_is(run: dict[str, object], words: str) -> None:
    assert progress(run) == words


@pytest.mark.parametrize("round_", range(22, 26))
def test_no_round_is_counted_beyond_the_last(round_: int) -> None:
    """The ledger goes on counting while the replicas agree; people are told what happens instead."""
    for phase in ("cooling", "finished"):
        run = {"phase": phase, "round": round_, "consensus_round": round_ - 21, **END}
        assert f"{round_}/22" not in progress(run)


def test_the_word_of_the_ledger_for_agreeing_is_explained() -> None:
    assert phase_text({"phase": "cooling"}) == "cooling: the replicas of each stage become one"
    assert phase_text({"phase": "training"}) == "training"


def test_the_training_loss_is_called_so() -> None:
    assert training_loss({"loss_nats": 1.5791}) == "training loss 1.579"
    assert training_loss({}) == "training loss -"


@pytest.mark.parametrize(
    ("round_", "words"),
    [
        (0, "before training"),
        (20, "round 20"),
        (22, "round 22"),
        (23, "1 of 3 rounds agreed"),
        (25, "all agreed"),
        (None, "round unknown"),
    ],
)
def test_perplexity_says_who_measured_it_and_when(round_: int | None, words: str) -> None:
    run = {"heldout": 1.612, "perplexity": 5.012, "heldout_round": round_, **END}
    assert quality(run) == (
        f"held-out loss 1.612 nats, perplexity 5.01: {words}, measured by this node"
    )
    assert quality_brief(run) == f"perplexity 5.01 here, {words}"


def test_a_model_that_nobody_measured_has_no_figure() -> None:
    assert quality({"is_measured_here": True}) == "not measured on held-out text yet"
    assert quality({}) == "not measured on held-out text by this node; swarm eval does it"
    assert quality_brief({}) == ""
