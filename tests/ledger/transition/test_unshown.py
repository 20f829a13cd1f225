"""Attacks by silence: weights are put into a segment that is never shown, and nothing goes on from its end."""

import dataclasses

import pytest

from swarm.errors import Reason
from swarm.ledger.state.draft import Draft
from swarm.ledger.state.records import RunPhase, SegmentPhase, SegmentRecord, StartKind
from swarm.ledger.transition import demands
from swarm.ledger.transition.rollbacks import is_adrift, set_adrift
from swarm.ledger.transition.runs import round_info
from swarm.ledger.transition.seats import draw_posters
from swarm.primitives.codec import replace
from swarm.primitives.merkle import merkle_root
from swarm.testing.ledger import end_components
from swarm.types import RoundIndex, StageIndex
from tests.ledger.checking import Case, a_case
from tests.ledger.transition.test_rollbacks import listed

SEAT, OTHER, STAGE = 1, 0, StageIndex(0)
"""Seats of the silent solver and of the launcher, and their stage."""
SECRET = end_components(b"the end of what was not shown")
END = merkle_root(SECRET)


def of_round(case: Case, round_: int, seat: int = SEAT) -> SegmentRecord:
    found = case.ledger.state.segment(case.run.index, RoundIndex(round_), STAGE, seat)
    assert found is not None
    return found


def trains(case: Case, round_: int, seat: int = SEAT, /, **changes: object) -> None:
    """A seat commits a round, as soon as that is over."""
    if case.ledger.state.run(case.run.index).next_round <= round_ + 1:
        case.ledger.reach_round(case.run, round_ + 1)
    body = case.ledger.commit(case.run, round_, STAGE, seat, **changes)
    case.submit(case.ledger.key_of(case.run.seats[STAGE][seat].peer), body)


def refused(case: Case, round_: int, seat: int = SEAT, /, **changes: object) -> Reason:
    case.ledger.reach_round(case.run, round_ + 1)
    body = case.ledger.commit(case.run, round_, STAGE, seat, **changes)
    return case.refused(case.ledger.key_of(case.run.seats[STAGE][seat].peer), body)


def unshown() -> Case:
    """Round 1 is not shown; the seat went on from its end in round 2, to an end that nobody knows more of."""
    case = a_case(num_validators=1)
    case.draw_verifiers()
    case.seal(case.ask(case.able))
    trains(case, 2, end_root=END)
    case.wait(SegmentPhase.SILENT)
    return case


@pytest.mark.rule("L117")
def test_a_seat_does_not_go_on_from_what_it_has_not_shown() -> None:
    case = unshown()
    seat = case.ledger.state.run(case.run.index).seats[STAGE][SEAT]
    assert (seat.last_commit_round, seat.anew_round) == (2, 5)
    trains(case, 3)
    trains(case, 4)
    assert of_round(case, 4).start_kind is StartKind.CONTINUED, "it had begun before"
    seat = case.ledger.state.run(case.run.index).seats[STAGE][SEAT]
    assert is_adrift(seat, 5), "although those after it are not shown either"
    assert refused(case, 5) is Reason.WRONG_START
    trains(case, 5, start=b"")
    assert of_round(case, 5).start_kind is StartKind.INITIAL
    trains(case, 6)
    assert of_round(case, 6).start_kind is StartKind.CONTINUED, "its new chain has nothing hidden"


@pytest.mark.rule("L117")
def test_nobody_adopts_or_inherits_what_was_not_shown() -> None:
    case = unshown()
    assert refused(case, 3, OTHER, start=END) is Reason.WRONG_START
    anchor = case.run.spec.starts[STAGE].weights
    made: dict[str, object] = {
        "start": b"",
        "source": END,
        "inherited": tuple(SECRET),
        "anchor": anchor,
    }
    assert refused(case, 3, OTHER, **made) is Reason.WRONG_START
    assert refused(case, 5, **made) is Reason.WRONG_START, "nor the seat itself"


@pytest.mark.rule("L117")
def test_what_is_shown_may_be_adopted() -> None:
    case = a_case(num_validators=1)
    trains(case, 2, end_root=END)
    trains(case, 3, OTHER, start=END)
    assert of_round(case, 3, OTHER).start_kind is StartKind.ADOPTED


@pytest.mark.rule("L117")
def test_ends_of_a_silent_peer_that_was_sent_away_are_not_adopted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(demands, "STRIKES_MAX", 1)
    case = unshown()
    roster = case.ledger.state.run(case.run.index).seats[STAGE]
    assert [seat.index for seat in roster] == [OTHER]
    for end in (of_round(case, 1).end_root, END):
        assert refused(case, 3, OTHER, start=end) is Reason.WRONG_START


@pytest.mark.rule("L117")
def test_no_checkpoint_of_what_was_not_shown_stands_or_is_posted() -> None:
    case = a_case(num_validators=1)
    trains(case, 2, end_root=END)
    draft = Draft(case.ledger.state, case.ledger.keys[0].peer)
    run = draft.run(case.run.index)
    mine = tuple(replace(c, peer=case.record.peer, seat=SEAT) for c in listed(1, 2, 3, 4))
    draft.put_run(replace(run, checkpoints=(mine, *run.checkpoints[1:])))
    set_adrift(draft, case.record)
    run = draft.run(run.index)
    assert [c.round for c in run.standing(STAGE)] == [4, 1], "rounds 1 and 2 lead to 2 and 3"
    (seat,) = (seat for seat in run.seats[STAGE] if seat.index == SEAT)
    info = round_info(run, 3)
    assert info is not None
    for round_, may in ((seat.anew_round, False), (seat.anew_round + 2, True)):
        able = replace(seat, last_commit_round=round_ - 1)
        alone = replace(run, seats=((able,), *run.seats[1:]))
        assert (draw_posters(alone, RoundIndex(round_), info.beacon)[STAGE] == SEAT) is may


@pytest.mark.rule("L117")
def test_a_new_start_ends_what_goes_back_to_a_silent_segment() -> None:
    """Round 2 began with something else: only the end of round 1 is lost."""
    case = a_case(num_validators=1)
    case.draw_verifiers()
    case.seal(case.ask(case.able))
    anchor = case.run.spec.starts[STAGE].weights
    parts = end_components(b"of somebody else")
    trains(case, 1, OTHER, end_root=merkle_root(parts))
    inherited: dict[str, object] = {
        "source": merkle_root(parts),
        "inherited": tuple(parts),
        "anchor": anchor,
    }
    draft = Draft(case.ledger.state, case.ledger.keys[0].peer)
    seats = tuple(
        tuple(replace(s, last_commit_round=0) if s.index == SEAT else s for s in roster)
        for roster in draft.run(case.run.index).seats
    )
    draft.put_run(replace(draft.run(case.run.index), seats=seats))
    case.ledger.head = dataclasses.replace(case.ledger.head, state=draft.finish())
    trains(case, 2, start=b"", **inherited)
    assert of_round(case, 2).start_kind is StartKind.INHERITED
    case.wait(SegmentPhase.SILENT)
    assert case.ledger.state.run(case.run.index).seats[STAGE][SEAT].anew_round == -1
    trains(case, 3)
    assert of_round(case, 3).start_kind is StartKind.CONTINUED


@pytest.mark.rule("L117")
def test_after_training_nobody_begins_anew() -> None:
    case = a_case(num_validators=1)
    draft = Draft(case.ledger.state, case.ledger.keys[0].peer)
    draft.put_run(replace(draft.run(case.run.index), phase=RunPhase.COOLING))
    set_adrift(draft, case.record)
    assert {s.anew_round for roster in draft.run(case.run.index).seats for s in roster} == {-1}
