"""The campaign counts what it should: mutants fit the source, double and lost votes are found."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.campaign import slashed_share
from benchmarks.campaign_games import GAMES, VIEWS_MAX, play
from benchmarks.campaign_grinding import GRINDERS, VALIDATORS, WISHES, grind_for
from benchmarks.campaign_kills import Life, Told, judge, kill_often
from benchmarks.campaign_mutants import MUTANTS, Mutant, changed_source, hunt
from swarm.ledger.blocks import FINALIZE, NOTARIZE, NULLIFY
from tests.ledger.consensus.soak import history

FIRST: tuple[Told, ...] = ((1, NOTARIZE, 1, "a"), (2, FINALIZE, 1, "a"), (3, NOTARIZE, 2, "b"))


def test_every_guard_has_a_name_of_its_own() -> None:
    assert len({mutant.guard for mutant in MUTANTS}) == len(MUTANTS) >= 8


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.guard for mutant in MUTANTS])
def test_a_mutant_changes_the_source_and_it_still_compiles(mutant: Mutant) -> None:
    for module in {edit.module for edit in mutant.edits}:
        found = importlib.util.find_spec(module)
        assert found is not None
        assert found.origin is not None
        text = Path(found.origin).read_text("utf-8")
        changed = changed_source(module, text, mutant.edits)
        assert changed != text
        compile(changed, module, "exec")


def test_an_edit_that_fits_nowhere_is_no_mutant() -> None:
    (edit,) = MUTANTS[1].edits
    with pytest.raises(ValueError, match="is 0 times in"):
        changed_source(edit.module, "pass", [edit])


def test_a_mutant_is_caught_and_a_history_without_one_violates_nothing() -> None:
    number = next(i for i, m in enumerate(MUTANTS) if m.guard == "never both nullify and finalize")
    assert hunt(number, 20)["caught_after"] in range(1, 21)
    assert history(0) == ("", 0)


@pytest.mark.parametrize("seed", range(len(GAMES)), ids=GAMES)
def test_whoever_signs_two_ways_loses_its_stake_and_nobody_else(seed: int) -> None:
    game = play(seed)
    assert game.num_slashed == game.num_equivocators >= 1
    assert 1 <= game.views <= VIEWS_MAX
    assert game.num_pairs > 0
    assert game.num_accused == 0
    assert slashed_share([game, replace(game, num_slashed=0)]) == 0.5


def test_a_killed_process_keeps_its_word() -> None:
    verdict = kill_often(3, seed=5)
    assert verdict.acknowledged > 0
    assert (verdict.double_votes, verdict.lost_acknowledged, verdict.not_whole) == (0, 0, 0)


def test_a_vote_that_is_gone_was_lost_unless_it_was_forgotten_on_purpose() -> None:
    first = Life(loaded=(), is_whole=True, votes=FIRST)
    whole = Life(loaded=FIRST, is_whole=True)
    assert judge([first, Life(), whole]).lost_acknowledged == 0
    assert judge([first, Life(loaded=FIRST[:2], is_whole=True)]).lost_acknowledged == 1
    assert judge([first, Life(loaded=FIRST[2:], base=2, is_whole=True)]).lost_acknowledged == 0
    assert judge([first, Life(loaded=FIRST)]).not_whole == 1


@pytest.mark.parametrize(
    ("vote", "count"),
    [
        ((4, NOTARIZE, 2, "c"), 1),
        ((4, NULLIFY, 1, ""), 1),
        ((4, NULLIFY, 2, ""), 0),
        ((4, NOTARIZE, 3, "c"), 0),
    ],
)
def test_two_votes_of_a_kind_or_nullify_and_finalize_are_double(vote: Told, count: int) -> None:
    lives = [Life(loaded=(), votes=FIRST), Life(loaded=FIRST, votes=(vote,))]
    assert judge(lives).double_votes == count


@pytest.mark.rule("L35", "L50")
@pytest.mark.parametrize("wish", WISHES)
def test_grinding_the_beacon_gains_a_bit_for_each_view_withheld_and_costs_the_offer(
    wish: str,
) -> None:
    found = grind_for(wish, 600)
    most = 1 / (1 - GRINDERS / VALIDATORS)
    assert found.fair < found.suits < most * found.fair
    assert abs(found.suits - found.theory) < 0.04
    assert found.missed > found.blocks // 4
    assert found.offers_void >= found.epochs // 4, "it is dropped every few epochs"
