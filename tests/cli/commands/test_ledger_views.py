"""An auditor names a segment or gets one, and learns why one cannot be audited, and when it can."""

import pytest

from swarm.cli.commands.ledger_views import (
    AuditTarget,
    SegmentQuery,
    choose_target,
    validator_cells,
    validator_rows,
)
from swarm.errors import UsageError
from swarm.ledger.state.records import SegmentPhase
from swarm.ledger.transactions import Validate
from swarm.primitives.crypto import peer_name
from swarm.testing.ledger import InMemoryLedger
from tests.ledger.checking import Case, a_case


def choose(case: Case, query: SegmentQuery | None = None, *, mine: bool = False) -> AuditTarget:
    me = case.record.peer if mine else None
    run = case.ledger.state.run(case.run.index)
    return choose_target(case.ledger.state, run, query or SegmentQuery(), me)


def revealed(num_steps: int = 10) -> Case:
    case = a_case(num_steps=num_steps)
    case.up_to_reveal()
    return case


def test_left_to_choose_it_takes_the_newest_that_is_revealed() -> None:
    """With the name of its solver and where it was committed."""
    case = revealed()
    target = choose(case)
    assert (target.round, target.stage, target.seat) == (1, 0, 1)
    assert target.solver == peer_name(case.record.peer)
    assert target.height == case.record.height
    assert (target.window, target.num_windows) == (None, 1)


def test_a_named_window_is_taken_as_it_is() -> None:
    """Even one that was replayed, and even of one's own segment."""
    case = revealed(num_steps=35)
    query = SegmentQuery(1, 0, 1, 3)
    assert choose(case, query).window == 3
    assert choose(case, query, mine=True).window == 3


def test_ones_own_work_is_not_chosen() -> None:
    """There is no peer to doubt."""
    with pytest.raises(UsageError, match="nothing of others"):
        choose(revealed(), mine=True)


@pytest.mark.parametrize(
    ("query", "cause"),
    [
        (SegmentQuery(stage=7), "there is no stage 7: run"),
        (SegmentQuery(round=39), "round 39 is not committed yet: run"),
        (SegmentQuery(round=400), "is not committed yet"),
        (SegmentQuery(round=0), "the challenge window of round 0 has passed"),
        (
            SegmentQuery(round=1, seat=5),
            "no segment of round 1, seat 5 is on the ledger; there are seats 0/1",
        ),
        (SegmentQuery(1, 0, 1, 9), "there is no window 9: segment 1/0/1 of"),
    ],
)
def test_a_segment_that_is_not_there_is_named(query: SegmentQuery, cause: str) -> None:
    """With what there is instead."""
    with pytest.raises(UsageError, match=cause) as caught:
        choose(revealed(), query)
    assert caught.value.hint.startswith("swarm ")


def test_before_the_reveal_it_says_what_it_waits_for_and_how_long() -> None:
    """Drawn, answered blind, to be shown: each with its blocks."""
    case = a_case()
    with pytest.raises(UsageError, match=r"not revealed yet: its verifiers are still .* in \d+ bl"):
        choose(case)
    case.draw_verifiers()
    windows = case.ask(case.able[:2])
    with pytest.raises(UsageError, match="its verifiers answer blind first"):
        choose(case)
    case.seal(windows)
    with pytest.raises(UsageError, match="its solver has yet to show its windows"):
        choose(case, SegmentQuery(1, 0, 1))


def test_silence_and_trust_are_told_apart() -> None:
    """Never shown: nothing to audit. Never asked: shown all the same, and open to audits like any other."""
    silent = a_case()
    silent.draw_verifiers()
    silent.seal(silent.ask(silent.able[:2]))
    silent.wait(SegmentPhase.SILENT)
    with pytest.raises(UsageError, match="was never shown, and never paid"):
        choose(silent)
    trusted = a_case()
    trusted.wait(SegmentPhase.SEALED)
    with pytest.raises(UsageError, match="its solver has yet to show its windows"):
        choose(trusted, SegmentQuery(round=1))
    trusted.submit(trusted.solver, trusted.claimed.reveal())
    assert trusted.is_now(SegmentPhase.UNSAMPLED)
    assert choose(trusted).seat == choose(trusted, SegmentQuery(round=1)).seat == 1


def test_what_is_proven_false_is_not_chosen_again() -> None:
    """It can be audited by name, while its logs are there."""
    case = a_case(lie=0)
    case.show(case.up_to_reveal())
    case.decide(is_guilty=True)
    assert case.is_now(SegmentPhase.GUILTY)
    with pytest.raises(UsageError, match="nothing of others"):
        choose(case)
    assert choose(case, SegmentQuery(1, 0, 1, 0)).window == 0


def test_past_its_challenge_window_it_is_gone() -> None:
    """The sentence says how long there was."""
    case = revealed()
    while case.ledger.state.segment(case.run.index, 1, 0, 1) is not None:  # type: ignore[arg-type]
        case.ledger.block()
    with pytest.raises(UsageError, match="no segment"):
        choose(case, SegmentQuery(round=1))


def test_validators_are_shown_with_their_power_and_candidates_with_their_stake() -> None:
    ledger = InMemoryLedger(5, 1, epoch_blocks=10)
    ledger.block(*(ledger.sign(key, Validate(is_on=True)) for key in ledger.keys[1:4]))
    alone, *others = validator_rows(ledger.state)
    assert alone["name"] == peer_name(ledger.keys[0].peer)
    assert (alone["power_percent"], alone["next_power_percent"], alone["missed"]) == (100, 100, 0)
    assert [(row["power_percent"], row["offers"]) for row in others] == [(0, True)] * 3
    assert validator_cells(others[0]) == [others[0]["name"], "1000", "-", "-", "yes", "0"]
    ledger.empty_blocks(9)
    rows = validator_rows(ledger.state)
    assert [row["next_power_percent"] for row in rows] == [25] * 4
    assert validator_cells(rows[0])[2:4] == ["100%", "25%"]
