"""What is hidden now is what is shown later; who is asked for a log, and when its answer differs."""

import pytest

from swarm.ledger.state.records import SegmentPhase
from swarm.primitives.codec import decode, encode, replace
from swarm.primitives.commitments import REFUSED, SALT_BYTES, verify_commit
from swarm.primitives.crypto import digest
from swarm.types import NO_DIGEST, Digest
from swarm.verify.answers import (
    ANSWER_BYTES_MAX,
    OwnAnswer,
    differs,
    find_verdict,
    is_late,
    key_of,
    seat_of,
    sources,
    window_of,
    witnesses,
)
from tests.ledger.checking import Case, a_case

SALT = bytes(SALT_BYTES)


def test_an_answer_opens_its_own_commitment_and_fits_its_row() -> None:
    case = a_case()
    me, other = case.able[0].peer, case.able[1].peer
    result = case.true.results[0]
    key = window_of(case.record, 0)
    answer = OwnAnswer(*seat_of(key), 0, SALT, result, NO_DIGEST)
    assert answer.key == key
    assert seat_of(key) == key_of(case.record)
    assert answer.claim == result.claim
    hidden, shown = answer.hidden(me, 1), answer.shown(1, NO_DIGEST)
    assert (hidden.check, shown.check) == (1, 1)
    assert (hidden.run, hidden.round, hidden.stage, hidden.seat) == seat_of(key)
    assert (shown.run, shown.round, shown.stage, shown.seat) == seat_of(key)
    assert hidden.commitment == verify_commit(Digest(shown.claim), shown.salt, me)
    assert hidden.commitment != answer.commitment(other)
    assert decode(OwnAnswer, encode(answer), limit=ANSWER_BYTES_MAX) == answer
    most = replace(result, tokens=(1 << 63) - 1)
    full = OwnAnswer(*seat_of(key), 255, SALT, most, digest("test", b"root"))
    assert len(encode(full)) <= ANSWER_BYTES_MAX


def test_a_claim_is_shown_only_where_it_is_not_the_solvers() -> None:
    case = a_case()
    key, true = window_of(case.record, 0), case.true.results[0]
    answer = OwnAnswer(*seat_of(key), 0, SALT, true, NO_DIGEST)
    assert answer.shown(0, true.claim).claim == b""
    others = [
        replace(true, leaves_root=NO_DIGEST),
        replace(true, start_root=NO_DIGEST),
        replace(true, end_root=NO_DIGEST),
        replace(true, tokens=true.tokens + 1),
    ]
    for solvers in others:
        assert answer.shown(0, solvers.claim).claim == true.claim


LIE = Digest(digest("test", b"lie"))


def a_disputed_case() -> Case:
    case = a_case(lie=0)
    windows = case.up_to_reveal()
    case.show(windows)
    case.wait(SegmentPhase.DISPUTED)
    return case


@pytest.mark.rule("V28")
def test_verifiers_ask_the_solver_first_and_others_ask_the_accusers_first() -> None:
    case = a_disputed_case()
    solver, me = case.record.peer, case.ledger.keys[0].peer
    accusers = [accusation.peer for accusation in case.record.accusations]
    assert witnesses(case.record, 0, me) == (*accusers, solver)
    assert sources(case.record, 0, me) == (solver, *accusers)
    assert solver not in sources(case.record, 0, solver)
    assert witnesses(case.record, 0, accusers[0]) == (*accusers[1:], solver)


@pytest.mark.rule("V28")
def test_a_reporter_is_a_witness_of_its_window_only() -> None:
    case = a_disputed_case()
    (first, *_) = case.record.accusations
    reporter = case.ledger.keys[9].peer
    reported = replace(first, peer=reporter, window=1, is_report=True)
    record = replace(case.record, accusations=(*case.record.accusations, reported))
    me = case.ledger.keys[0].peer
    assert reporter not in witnesses(record, 0, me)
    assert witnesses(record, 1, me)[0] == reporter


@pytest.mark.rule("V48")
def test_a_panel_rejects_by_one_log_that_differs_and_accepts_when_everybody_has_answered() -> None:
    case = a_disputed_case()
    said = case.record.claims[0]
    for is_complete in (False, True):
        assert find_verdict(case.record, 0, [said, LIE], is_complete=is_complete) is True
        assert find_verdict(case.record, 0, [LIE], is_complete=is_complete) is True
        assert find_verdict(case.record, 0, [], is_complete=is_complete) is None
    assert find_verdict(case.record, 0, [said, said], is_complete=True) is False
    assert find_verdict(case.record, 0, [said], is_complete=False) is None


@pytest.mark.rule("V48")
def test_half_of_the_time_of_a_panel_is_for_silent_peers() -> None:
    case = a_disputed_case()
    spec = case.run.spec
    ends = case.record.due
    assert not is_late(case.record, spec, ends - spec.round_blocks - 1)
    assert is_late(case.record, spec, ends - spec.round_blocks)


@pytest.mark.rule("V32")
def test_before_the_reveal_only_the_end_and_the_impossible_tell() -> None:
    case = a_case(num_steps=20)
    record, spec = case.record, case.run.spec
    for window in (0, 1):
        assert differs(record, spec, window, case.true.results[window]) is None
    assert differs(record, spec, 1, replace(case.true.results[1], end_root=LIE)) is True
    assert differs(record, spec, 0, replace(case.true.results[0], end_root=LIE)) is None
    for window in (0, 1):
        assert differs(record, spec, window, REFUSED) is True
    case.up_to_reveal()
    for window, true in enumerate(case.true.results):
        assert differs(case.record, spec, window, true) is False
        for field, wrong in (
            ("leaves_root", LIE),
            ("start_root", LIE),
            ("end_root", LIE),
            ("tokens", true.tokens + 1),
        ):
            assert differs(case.record, spec, window, replace(true, **{field: wrong})) is True
        assert differs(case.record, spec, window, REFUSED) is True
