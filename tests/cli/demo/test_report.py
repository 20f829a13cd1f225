"""The closing object has exactly the agreed keys, and failures are called failures."""

import json
from dataclasses import replace

from swarm.cli.demo.report import Result, result_lines, result_object, shortfalls
from swarm.cli.style import Ink

KEYS = """initial_loss_nats final_loss_nats tokens rounds peers commits_final commits_verified lies_planted
lies_caught rejoin_s ledger_height supply_conserved peak_memory_mb left_running sample export_dir map_url
seconds commits_old honest_slashed lies_late lies_unseen deceivers deceivers_caught""".split()


def a_result() -> Result:
    return Result(
        initial_loss_nats=5.545,
        final_loss_nats=2.03,
        tokens=9_000_000,
        rounds=24,
        peers=8,
        commits_final=140,
        commits_verified=None,
        lies_planted=None,
        lies_caught=None,
        rejoin_s=12.5,
        ledger_height=260,
        supply_conserved=True,
        peak_memory_mb=2900.0,
        left_running=0,
        sample="def x():\n\x1b[2J    pass",
        export_dir="/tmp/demo/model",
        map_url="http://127.0.0.1:7420/",
        seconds=280.0,
    )


def test_the_object_has_the_agreed_keys_in_order() -> None:
    """docs/spec/figures.md names them; what is not measured yet is null."""
    row = json.loads(json.dumps(result_object(a_result())))
    assert list(row) == KEYS
    assert row["commits_verified"] is None


def test_a_good_demo_has_no_shortfalls() -> None:
    """And each way to fail has a sentence."""
    good = a_result()
    assert shortfalls(good) == []
    bad = replace(good, left_running=2, supply_conserved=False, final_loss_nats=None)
    assert len(shortfalls(bad)) == 3


def test_a_lie_that_had_time_to_be_caught_and_was_not_is_a_failure() -> None:
    """So is an honest peer that lost stake; a lie of the last rounds is not."""
    caught = replace(a_result(), lies_planted=3, lies_caught=2, lies_late=1, honest_slashed=0)
    assert shortfalls(caught) == []
    assert shortfalls(replace(caught, lies_late=0)) == [
        "1 false segments were found true, or have no verdict"
    ]
    assert shortfalls(replace(caught, honest_slashed=1)) == ["1 honest peers lost stake"]
    text = "\n".join(result_lines(caught, Ink()))
    assert (
        "2 of 3 false segments were proven false, or not shown and not paid (1 came too late for a verdict)"
        in text
    )


def test_a_lie_that_nobody_got_to_fails_the_demo_if_its_peer_was_never_convicted() -> None:
    """On a busy machine a verifier may be too late for one segment; another convicts the peer."""
    seen = replace(a_result(), lies_planted=3, lies_caught=2, lies_late=0, lies_unseen=1)
    assert shortfalls(seen) == []
    assert "(1 no verifier got to in time)" in "\n".join(result_lines(seen, Ink()))
    assert shortfalls(replace(seen, lies_caught=0, lies_unseen=3)) == [
        "the cheating peer was never convicted: no verifier looked at its segments"
    ]


def test_a_deceiver_that_was_not_convicted_is_a_failure() -> None:
    caught = replace(a_result(), deceivers=1, deceivers_caught=1)
    assert shortfalls(caught) == []
    assert "1 of 1 peers that gave their partners other weights" in "\n".join(
        result_lines(caught, Ink())
    )
    assert shortfalls(replace(caught, deceivers_caught=0)) == [
        "a peer that gave its partners other weights was not caught"
    ]
    assert shortfalls(replace(caught, deceivers=0, deceivers_caught=0)) == []


def test_the_lines_for_people_survive_what_is_missing() -> None:
    """Null figures are dashes, and the sample cannot steer the terminal."""
    text = "\n".join(result_lines(a_result(), Ink()))
    assert "5.545 -> 2.030 nats" in text
    assert "\x1b" not in text
    poor = replace(
        a_result(), final_loss_nats=None, rejoin_s=None, peak_memory_mb=None, sample=None
    )
    assert "no peer was seen to train again after a kill" in "\n".join(result_lines(poor, Ink()))
