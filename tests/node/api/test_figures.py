"""A figure that several screens show is computed once, and never from a peer that is gone."""

from types import SimpleNamespace as Some
from typing import Any

import pytest

from swarm.dht.directory import Announcement, PeerView
from swarm.ledger.state.records import RunPhase
from swarm.node.api.figures import (
    Standing,
    closed_round,
    empty_stages,
    mean_loss,
    names_missing,
    node_state,
    replayed_share,
    standing_of,
    swarm_rate,
)
from swarm.node.api.health import STANDSTILL_S, Verdict
from swarm.types import PeerId
from tests.ledger.checking import a_case

A, B = PeerId(b"a" * 32), PeerId(b"b" * 32)
SAID = Announcement(
    run16=b"r" * 16,
    roles=1,
    seats=((0, 0),),
    tokens_per_s=500,
    loss_milli=2000,
    round=3,
    steps=7,
    height=9,
    reachability="direct",
    version="0.1.0",
    addresses=(),
    state="training",
    num_traded=1,
    last_partner=b"",
)
SEEN = PeerView(
    peer=A,
    announcement=SAID,
    state="training",
    reason="ok",
    rtt_ms=3,
    up_bytes=0,
    down_bytes=0,
    is_connected=True,
    is_measured=True,
    lag=0,
    age_s=1.0,
)


def a_run(phase: RunPhase = RunPhase.TRAINING, **more: object) -> Any:  # noqa: ANN401
    return Some(phase=phase, **more)


def standing(
    run: Any = None,  # noqa: ANN401
    *,
    is_barred: bool = False,
    is_me: bool = False,
    is_moving: bool = True,
    still_s: float = 0.0,
    **seen: Any,  # noqa: ANN401
) -> Standing:
    from dataclasses import replace

    return standing_of(
        replace(SEEN, **seen),
        run or a_run(),
        is_barred=is_barred,
        is_me=is_me,
        is_moving=is_moving,
        still_s=still_s,
    )


def test_a_peer_that_works_has_its_figures() -> None:
    found = standing()
    assert (found.state, found.reason, found.condition, found.gone_s) == (
        "training",
        "ok",
        "ok",
        None,
    )
    assert found.has_figures
    assert found.has_rate


def test_a_peer_that_is_gone_has_none_and_says_since_when() -> None:
    found = standing(state="unreachable", is_connected=False, age_s=44.6)
    assert (found.condition, found.reason, found.gone_s) == ("gone", "gone for 45 s", 44)
    assert not found.has_figures
    assert not found.has_rate


def test_a_peer_that_does_not_announce_is_silent_before_it_is_gone() -> None:
    found = standing(age_s=STANDSTILL_S)
    assert (found.state, found.condition, found.reason) == ("silent", "slow", "silent for 15 s")
    assert not found.has_rate
    assert standing(age_s=STANDSTILL_S - 0.1).has_rate
    assert standing(age_s=99.0, is_me=True).has_rate, "this node knows its own figures"


def test_a_peer_whose_steps_stand_still_is_stalled_whatever_it_says() -> None:
    found = standing(still_s=STANDSTILL_S)
    assert (found.state, found.condition, found.reason) == ("stalled", "slow", "no step for 15 s")
    assert found.has_figures
    assert not found.has_rate


def test_no_peer_trains_while_the_ledger_stands_still() -> None:
    found = standing(is_moving=False)
    assert (found.state, found.reason) == ("stalled", "the ledger stands still")
    assert not found.has_rate


def test_who_was_proven_false_is_out() -> None:
    found = standing(is_barred=True)
    assert found.condition == "out"
    assert not found.has_rate


@pytest.mark.parametrize(
    ("phase", "state"),
    [
        (RunPhase.OPEN, "ready"),
        (RunPhase.PAUSED, "paused"),
        (RunPhase.COOLING, "final averaging"),
        (RunPhase.FINISHED, "done"),
        (RunPhase.TRAINING, "training"),
    ],
)
def test_a_seated_peer_does_what_the_run_does(phase: RunPhase, state: str) -> None:
    found = standing(a_run(phase))
    assert found.state == state
    assert found.has_rate == (phase is RunPhase.TRAINING)


def test_a_peer_that_gets_ready_is_busy_and_one_behind_is_slow() -> None:
    assert standing(state="syncing").condition == "busy"
    found = standing(state="slow", reason="slow: 2 rounds behind", lag=2)
    assert (found.condition, found.reason) == ("slow", "slow: 2 rounds behind")


def test_only_what_is_known_is_summed() -> None:
    assert swarm_rate([5, None, 7]) == 12
    assert swarm_rate([None, None]) is None
    assert swarm_rate([0]) == 0
    assert mean_loss([1.0, None, 2.0]) == 1.5
    assert mean_loss([None]) is None


def test_a_stage_is_empty_when_all_its_peers_are_gone() -> None:
    run = a_run(seats=((Some(peer=A), Some(peer=B)), (Some(peer=B),), ()))
    assert empty_stages(run, frozenset()) == (2,)
    assert empty_stages(run, frozenset({B})) == (1, 2)


def test_the_round_that_is_closed_is_one_that_trained() -> None:
    assert closed_round(a_run(rounds=(), end_round=5)) is None
    assert closed_round(a_run(rounds=(Some(round=0),), end_round=5)) is None
    assert closed_round(a_run(rounds=(Some(round=3),), end_round=5)) == 2
    assert closed_round(a_run(rounds=(Some(round=7),), end_round=5)) == 4


def test_the_share_that_was_replayed_is_of_what_passed_its_check() -> None:
    case = a_case(num_steps=25)
    windows = case.up_to_reveal()
    assert replayed_share(case.ledger.state, case.run) == (0, 0)
    case.show(windows)
    replayed, steps = replayed_share(case.ledger.state, case.run)
    assert steps == 25
    assert 0 < replayed <= 20


def test_a_node_is_shown_as_training_only_while_it_progresses() -> None:
    run = a_run()

    def state(verdict: Verdict, run: Any = run, *, is_seated: bool = True) -> str:  # noqa: ANN401
        return node_state(verdict, run, is_seated=is_seated, solves=True)

    assert state(Verdict.PROGRESSING) == "training"
    assert state(Verdict.WAITING) == "preparing"
    assert state(Verdict.STALLED) == "stalled"
    assert state(Verdict.PAUSED) == "paused"
    assert state(Verdict.ENDED) == "finished"
    assert state(Verdict.PROGRESSING, is_seated=False) == "waiting for a seat"
    assert state(Verdict.PROGRESSING, a_run(RunPhase.COOLING)) == "final averaging"
    assert state(Verdict.WAITING, a_run(RunPhase.OPEN)) == "ready"
    assert state(Verdict.WAITING, None) == "syncing"
    assert node_state(Verdict.PROGRESSING, run, is_seated=False, solves=False) == "following"


def test_validators_that_are_not_heard_are_named_in_order() -> None:
    assert names_missing([(A, "a"), (B, "b")], frozenset({A})) == ("b",)
