"""What happens on the ledger is told once: our checks, disputes, convictions and who brought them about."""

import pytest

from swarm.events import EventKind
from swarm.ledger.state.records import CheckPhase, SegmentPhase
from swarm.primitives.crypto import SecretKey, peer_name
from swarm.verify.changes import OpenSegments, SegmentChange, find_changes
from tests.ledger.checking import Case, a_case
from tests.ledger.complaints import complain, say, unserved, witnesses
from tests.verify.actors import FINAL, nothing, peers_of


def history(case: Case, me: int, silent: int = -1) -> list[SegmentChange]:
    """Everything key number ``me`` hears while the segment is judged; key ``silent`` answers nothing."""
    producer, actors = peers_of(case)
    for actor in actors:
        if actor.key == case.ledger.keys[silent]:
            actor.replay = nothing
    watch, changes = OpenSegments(), list[SegmentChange]()
    peer = case.ledger.keys[me].peer
    while producer.phase not in FINAL:
        changes += find_changes(*watch.look(case.ledger.state), peer)
        for actor in actors:
            actor.act()
        producer.block()
    changes += find_changes(*watch.look(case.ledger.state), peer)
    assert not find_changes(*watch.look(case.ledger.state), peer)
    return changes


def test_a_check_of_ours_is_told_when_it_has_ended() -> None:
    case = a_case()
    (change,) = history(case, me=2)
    assert change.kind is EventKind.CHECKED
    assert change.ending is CheckPhase.AGREED
    name = peer_name(case.record.peer)
    assert change.text == f"checked window 0 of segment 1/0/1 of {name}: agrees"
    assert change.fields["window"] == 0
    assert not history(a_case(), me=1)


def test_a_check_we_missed_is_told_too() -> None:
    changes = history(a_case(), me=2, silent=2)
    assert {change.ending for change in changes} == {CheckPhase.MISSED}
    assert all(change.text.endswith("too late") for change in changes)


def test_a_dispute_and_a_conviction_name_the_liar_and_who_found_it() -> None:
    case = a_case(lie=0)
    changes = history(case, me=0)
    assert [change.kind for change in changes] == [EventKind.DISPUTED, EventKind.CONVICTED]
    assert case.is_now(SegmentPhase.GUILTY)
    name = peer_name(case.record.peer)
    first = min(case.record.checks, key=lambda check: check.commit_height)
    assert name in changes[0].text
    assert f"{name} was convicted: window 0" in changes[1].text
    assert changes[1].fields["accuser"] == peer_name(first.peer)


def test_checks_of_a_segment_that_is_opened_again_are_old_news() -> None:
    case = a_case(lie=0)
    case.draw_verifiers()
    windows = case.ask(case.able)
    case.seal(windows, like=case.claimed)
    case.submit(case.solver, case.claimed.reveal())
    case.show(windows, like=case.claimed)
    case.wait(SegmentPhase.VERIFIED)
    watch = OpenSegments()
    watch.look(case.ledger.state)
    watch.look(case.ledger.state)
    reporter = case.ledger.keys[0]
    case.submit(reporter, case.true.report(reporter.peer, 0))
    assert not find_changes(*watch.look(case.ledger.state), case.able[0].peer)
    case.show({reporter.peer: 0})
    (change,) = find_changes(*watch.look(case.ledger.state), case.able[0].peer)
    assert change.kind is EventKind.DISPUTED


def a_reported_case() -> tuple[Case, SecretKey]:
    """A lie that nobody was drawn for, and the blind report of it."""
    case = a_case(lie=0)
    case.wait(SegmentPhase.SEALED)
    case.submit(case.solver, case.claimed.reveal())
    reporter = case.able[0]
    case.submit(reporter, case.true.report(reporter.peer, 0))
    assert case.is_now(SegmentPhase.REVEALED)
    return case, reporter


def test_a_report_of_ours_is_told_as_a_check_once_its_answer_is_shown() -> None:
    case, reporter = a_reported_case()
    watch = OpenSegments()
    watch.look(case.ledger.state)
    case.show({reporter.peer: 0})
    checked, disputed = find_changes(*watch.look(case.ledger.state), reporter.peer)
    assert (checked.kind, disputed.kind) == (EventKind.CHECKED, EventKind.DISPUTED)
    assert checked.ending is CheckPhase.DIFFERED


def test_a_reporter_is_named_when_no_verifier_found_it() -> None:
    case, reporter = a_reported_case()
    case.show({reporter.peer: 0})
    watch = OpenSegments()
    watch.look(case.ledger.state)
    case.decide(is_guilty=True)
    assert case.is_now(SegmentPhase.GUILTY)
    (change,) = find_changes(*watch.look(case.ledger.state), case.able[1].peer)
    assert change.fields["accuser"] == peer_name(reporter.peer)


@pytest.mark.rule("V33")
def test_a_solver_is_told_once_that_a_verifier_was_not_served() -> None:
    case, victim = unserved()
    watch = OpenSegments()
    watch.look(case.ledger.state)
    complain(case, victim)
    before, after = watch.look(case.ledger.state)
    (told,) = find_changes(before, after, case.solver.peer)
    assert told.kind is EventKind.WARNING
    assert f"{peer_name(victim.peer)} says that this node does not serve window 0" in told.text
    assert not find_changes(before, after, victim.peer)
    say(case, witnesses(case)[:1], is_served=True)
    assert not find_changes(*watch.look(case.ledger.state), case.solver.peer)
