"""Attacks on what is shown of windows, and on blind answers, that do not pay."""

import pytest

from swarm.errors import InvalidStatement, Reason
from swarm.ledger.state.records import CheckPhase, SegmentPhase
from swarm.primitives.codec import replace
from swarm.primitives.commitments import REFUSED
from swarm.primitives.crypto import SecretKey
from swarm.testing.ledger import CheckedSegment, make_segment
from swarm.types import NO_DIGEST
from tests.ledger.checking import Case, a_case


@pytest.mark.rule("V15")
def test_a_solver_that_shows_the_answer_to_impossible_logs_is_not_verified() -> None:
    """Its logs are junk, every verifier answers that they are, and that must not be what it committed to."""
    case = a_case()
    ledger = case.ledger
    honest = make_segment(ledger, case.run, 1, 0, 0, num_steps=20, tokens=0)
    commit = replace(honest.commit, end_root=NO_DIGEST)
    junk = CheckedSegment(commit, ()).with_results([REFUSED, REFUSED])
    case = Case(ledger, case.run, junk, junk)
    (seat,) = [one for one in ledger.state.run(case.run.index).seats[0] if one.index == 0]
    solver = ledger.key_of(seat.peer)
    case.submit(solver, junk.commit)
    case.draw_verifiers()
    windows = case.ask(case.able)
    assert windows
    case.seal(windows)
    assert case.refused(solver, junk.reveal()) is Reason.BAD_PROOF
    case.wait(SegmentPhase.SILENT)
    assert not case.record.is_paid


def dealt_another_window() -> tuple[Case, SecretKey, bytes, int]:
    """A verifier of a lying solver that was too late once and asked again, with its old answer, signed.

    The last is the window that it had then.
    """
    case = a_case(lie=0, num_steps=50)
    case.draw_verifiers()
    first = case.ask(case.able)
    old = dict[bytes, bytes]()
    for key in case.able:
        if key.peer in first:
            blind = case.true.blind(case.ledger.state, key.peer, first[key.peer])
            old[key.peer] = case.ledger.sign(key, blind)
    case.draw_verifiers()
    again = case.ask([key for key in case.able if key.peer in first], attempt=1)
    for key in case.able:
        if key.peer in again and again[key.peer] != first[key.peer]:
            return case, key, old[key.peer], first[key.peer]
    raise AssertionError("nobody was dealt another window")


def test_a_late_answer_cannot_be_put_in_the_place_of_the_next_to_take_a_verifiers_bond() -> None:
    """A blind answer has no nonce: a solver that kept it would have the verifier miss its second check."""
    case, key, old, earlier = dealt_another_window()
    root = case.ledger.state.root
    with pytest.raises(InvalidStatement):
        case.ledger.block(old)
    assert case.ledger.state.root == root
    (check,) = [check for check in case.record.checks if check.peer == key.peer]
    assert check.phase is CheckPhase.REQUESTED
    assert check.window != earlier
    case.seal({key.peer: check.window})
    case.submit(case.solver, case.claimed.reveal())
    case.show({key.peer: check.window})
    (check,) = [check for check in case.record.checks if check.peer == key.peer]
    assert check.phase in {CheckPhase.AGREED, CheckPhase.DIFFERED}


def test_an_answer_is_taken_once() -> None:
    case = a_case()
    case.draw_verifiers()
    windows = case.ask(case.able[:2])
    peer, window = next(iter(windows.items()))
    key = case.ledger.key_of(peer)
    blind = case.true.blind(case.ledger.state, key.peer, window)
    case.submit(key, blind)
    assert case.refused(key, blind) is Reason.DUPLICATE
    case.seal({other: window for other, window in windows.items() if other != peer})
    case.submit(case.solver, case.claimed.reveal())
    shown = case.true.shown(case.ledger.state, key.peer, window)
    case.submit(key, shown)
    assert case.refused(key, shown) is Reason.DUPLICATE


def test_nobody_answers_in_the_name_of_a_verifier() -> None:
    """Blind answers are signed by who asked; an answer that is shown must open its own commitment."""
    case = a_case()
    case.draw_verifiers()
    windows = case.ask(case.able[:2])
    (first, window), (second, _) = windows.items()
    one, other = case.ledger.key_of(first), case.ledger.key_of(second)
    forged = case.true.blind(case.ledger.state, one.peer, window)
    assert case.refused(other, forged) is Reason.BAD_SIGNATURE
    case.seal(windows)
    case.submit(case.solver, case.claimed.reveal())
    shown = case.true.shown(case.ledger.state, one.peer, window)
    theirs = replace(shown, check=case.true.check_of(case.ledger.state, other.peer))
    assert case.refused(other, theirs) is Reason.BAD_PROOF
    assert case.refused(other, replace(shown, check=len(case.record.checks))) is Reason.WRONG_PEER
    case.submit(other, shown)  # Whoever brings it: only its own salt opens it.
