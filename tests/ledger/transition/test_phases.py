"""Every phase ends at a height that everybody can compute."""

import pytest

from swarm.errors import InvalidStatement, Reason
from swarm.ledger.state.records import Check, CheckPhase, SegmentPhase
from swarm.ledger.transition.phases import (
    answers_end,
    are_reveals_open,
    challenge_end,
    contest_start,
    find_segment,
    forget_height,
    gather_end,
    is_reportable_at,
    open_checks,
    reveal_end,
)
from swarm.primitives.codec import replace
from swarm.types import NO_DIGEST, Amount, Height, PeerId
from tests.ledger.checking import EXACT, a_case


def a_check(number: int, phase: CheckPhase, height: int) -> Check:
    return Check(
        peer=PeerId(bytes([number]) * 32),
        window=0,
        phase=phase,
        height=Height(height),
        commitment=NO_DIGEST,
        commit_height=Height(0),
        is_report=False,
        bond=Amount(0),
    )


def test_only_checks_under_way_set_the_pace() -> None:
    missed = a_check(1, CheckPhase.MISSED, 10)
    first, second = a_check(2, CheckPhase.SEALED, 20), a_check(3, CheckPhase.REQUESTED, 22)
    record = replace(a_case().record, checks=(missed, first, second))
    assert open_checks(record) == (first, second)
    assert gather_end(record, EXACT) == 23
    assert contest_start(record, EXACT) == 23 + EXACT.round_blocks
    assert answers_end(record, EXACT) == 23 + 2 * EXACT.round_blocks


def test_answers_are_taken_until_their_end_and_while_somebody_is_waited_for() -> None:
    record = replace(a_case().record, reveals_end=Height(30))
    waits = replace(record, checks=(a_check(1, CheckPhase.SEALED, 20),))
    assert are_reveals_open(waits, 29)
    assert not are_reveals_open(waits, 30)
    assert not are_reveals_open(replace(record, checks=(a_check(1, CheckPhase.AGREED, 20),)), 29)


@pytest.mark.rule("L47")
def test_a_segment_is_kept_as_long_as_it_can_be_reported_or_is_judged() -> None:
    record = replace(a_case().record, height=Height(100))
    assert is_reportable_at(record, EXACT, 160)
    assert not is_reportable_at(record, EXACT, 161)
    assert forget_height(record, EXACT, 150) == 161
    assert forget_height(record, EXACT, 300) == 301


def test_leaves_that_were_shown_late_can_be_reported_for_a_round() -> None:
    record = replace(a_case().record, height=Height(100), shown_height=Height(155))
    assert challenge_end(record, EXACT) == 161
    late = replace(record, shown_height=Height(159))
    assert challenge_end(late, EXACT) == forget_height(late, EXACT, 150) == 165
    assert is_reportable_at(late, EXACT, 164)
    assert not is_reportable_at(late, EXACT, 165)
    assert reveal_end(EXACT, 200) == 200 + EXACT.round_blocks


def test_a_statement_finds_its_segment_in_its_phase_only() -> None:
    case = a_case()
    state, body = case.ledger.state, case.claimed.reveal()
    assert find_segment(state, body, SegmentPhase.POSTED) == case.record
    with pytest.raises(InvalidStatement) as caught:
        find_segment(state, body, SegmentPhase.SEALED, SegmentPhase.GUILTY)
    assert caught.value.reason is Reason.WRONG_PHASE
    with pytest.raises(InvalidStatement) as caught:
        find_segment(state, replace(body, seat=7), SegmentPhase.POSTED)
    assert caught.value.reason is Reason.UNKNOWN_SEGMENT
