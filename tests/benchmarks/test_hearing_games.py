"""Hearings of the benchmark end as the ledger decides them, and whoever loses money in one is counted."""

import random
from collections import Counter
from functools import cache

import pytest

from benchmarks.hearing_cast import Cast, make_cast
from benchmarks.hearing_games import Courtroom, Game, a_game, courtroom, disputed_case
from benchmarks.hearing_habits import Habit, Opponent
from swarm.ledger.state.records import SegmentPhase, SegmentRecord
from swarm.ledger.state.state import Reader
from swarm.ledger.transition import hearings
from swarm.ledger.transition.court import Outcome, Ruling
from swarm.types import Digest
from tests.verify.program.scenes import scene

LIES = 3
GAMES = 24


@cache
def room_and_cast() -> tuple[Courtroom, Cast]:
    room, here = courtroom(disputed_case(), scene(1, 2))
    return room, make_cast(here, LIES, random.Random(1))


def test_no_honest_side_is_slashed_and_no_liar_goes_free() -> None:
    room, cast = room_and_cast()
    rng, phases = random.Random(2), Counter[SegmentPhase]()
    for number in range(GAMES):
        game = a_game(room, cast, number, rng)
        game.play()
        phases[game.record.phase] += 1
        assert not game.is_slashed
        assert game.is_liar_punished
        assert not game.refused[True], "every move of an honest side is one"
    assert phases[SegmentPhase.GUILTY] == GAMES // 2


def test_an_accuser_that_cannot_stand_by_its_claim_counts_as_slashed() -> None:
    room, cast = room_and_cast()
    lie, rng = cast.lies[0], random.Random(3)
    game = Game(room, lie, lie.accuser, Opponent(lie.solver, Habit.LIES, rng), rng)
    game.play()
    assert game.is_slashed
    assert game.refused[True]
    assert not game.is_liar_punished


class FalseCourt:
    """A court that convicts whoever is accused."""

    def opened(
        self, reader: Reader, record: SegmentRecord, window: int, claim: Digest, move: bytes
    ) -> Ruling:
        del reader, record, window, claim, move
        return Ruling(b"", Outcome.GUILTY, is_solvers_turn=False)


def test_a_solver_that_is_convicted_falsely_counts_as_slashed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hearings, "the_court", FalseCourt)
    room, cast = room_and_cast()
    lie, rng = cast.lies[0], random.Random(4)
    game = Game(room, lie, cast.solver, Opponent(lie.accuser, Habit.LIES, rng), rng)
    game.play()
    assert game.is_slashed


@pytest.mark.parametrize("habit", Habit)
def test_a_habit_has_moves_for_the_first_turn_of_an_accuser(habit: Habit) -> None:
    _, cast = room_and_cast()
    found = [Opponent(cast.lies[0].accuser, habit, random.Random(n)).tries(b"") for n in range(8)]
    assert any(found)
    assert all(found) or habit is Habit.SILENT
