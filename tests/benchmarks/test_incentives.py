"""Games of incentives are decided by their seed, and end as the formulas of their odds say."""

import math
from fractions import Fraction

import numpy as np
import pytest

from benchmarks.incentive_games import (
    ROUND,
    SOLVER,
    Friends,
    Plan,
    Serves,
    Shows,
    World,
    committed,
    eligible_friends,
    make_world,
    play,
    total,
)
from benchmarks.incentive_odds import (
    answered,
    caught,
    caught_in_row,
    chance,
    counts,
    decided_by_friends,
    frequency,
    none_of,
    refused,
    segments_until_caught,
    segments_until_evicted,
    windows_of,
)
from swarm.ledger.odds import found_odds, place_odds
from swarm.ledger.state.records import SegmentPhase
from swarm.ledger.transition.prices import request_bond

GAMES = 12


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(Fraction(1, 3))


def test_half_of_the_stake_is_absent_and_a_third_of_the_rest_belongs_to_friends(
    world: World,
) -> None:
    honest, friends = (
        sum(world.stake(key) for key in keys) for keys in (world.honest, world.friends)
    )
    assert (honest + friends) * 2 == world.eligible
    assert friends * 3 == honest + friends
    drawn = sum(chance(world, key) for key in (*world.honest, *world.friends))
    assert drawn == pytest.approx(0.5), "one verifier on average, and half of them are absent"


def test_a_game_is_a_function_of_its_seed(world: World) -> None:
    plan = Plan(false_windows=5)
    for seed in range(3):
        assert play(world, plan, seed) == play(world, plan, seed), f"seed {seed}"


def test_an_honest_segment_earns_its_reward_and_honest_checks_pay(world: World) -> None:
    for seed in range(GAMES):
        played = play(world, Plan(friends=Friends.HONEST), seed)
        assert played.phase in {SegmentPhase.VERIFIED, SegmentPhase.UNSAMPLED}, f"seed {seed}"
        assert played.gains[SOLVER] == pytest.approx(1.25 * world.cost), f"seed {seed}"
        asked = played.friends_asked
        gained = total(played.gains, world.friends, world)
        assert gained >= 0.2 * world.cost * asked, f"seed {seed}: a fifth of a segment each"


def test_a_cheat_is_caught_exactly_if_an_honest_verifier_was_served_a_false_window(
    world: World,
) -> None:
    stake = world.stake(world.ledger.keys[SOLVER])
    phases = set[SegmentPhase]()
    for seed in range(GAMES):
        played = play(world, Plan(false_windows=3), seed)
        phases.add(played.phase)
        assert (played.phase is SegmentPhase.GUILTY) is played.is_hit, f"seed {seed}"
        if played.is_hit:
            fee = 8  # of its move in the hearing
            assert -stake - fee <= played.gains[SOLVER] <= -stake, f"seed {seed}"
    assert len(phases) > 1


def test_a_silent_solver_pays_two_rewards_and_its_lie_earns_nothing(world: World) -> None:
    bond = _bond(world)
    num_silent = 0
    for seed in range(GAMES):
        played = play(world, Plan(5, shows=Shows.UNLESS_HIT, friends=Friends.GUESS), seed)
        if played.phase is SegmentPhase.SILENT:
            num_silent += 1
            assert played.gains[SOLVER] == pytest.approx(-2.5 * world.cost), f"seed {seed}"
            gained = total(played.gains, world.friends, world)
            fees = bond / 2 * played.friends_asked
            assert played.friends_asked * bond - fees <= gained <= played.friends_asked * bond
    assert num_silent > 1


def test_bonds_of_checks_that_were_not_finished_are_burned(world: World) -> None:
    """A solver that serves its friends only, and whose friends are most of the witnesses, has its reward, and
    nothing of those that it did not serve.
    """
    lost = 0
    for seed in range(20 * GAMES):
        played = play(world, Plan(serves=Serves.FRIENDS), seed)
        if played.phase is not SegmentPhase.SILENT:
            assert played.gains[SOLVER] == pytest.approx(1.25 * world.cost), f"seed {seed}"
            lost = -min(total(played.gains, [key], world) for key in world.honest)
        if lost >= _bond(world):
            return
    raise AssertionError("no complaint was dismissed")


def test_who_complains_falsely_voids_less_than_it_pays(world: World) -> None:
    """A third of the stake that answers complains about honest segments, as often as it is drawn."""
    silent, lost, asked = 0, 0, 0
    for seed in range(3 * GAMES):
        played = play(world, Plan(friends=Friends.CONTEST), seed)
        silent += played.phase is SegmentPhase.SILENT
        lost -= total(played.gains, world.friends, world)
        asked += played.friends_asked > 0
    assert asked > GAMES // 2
    assert silent <= asked // 4
    assert lost / asked > 0.5 * world.cost


@pytest.mark.parametrize(("earned", "drawn"), [(0, 4), (1, 1)])
def test_what_a_volunteer_earns_is_locked_and_all_its_segments_have_verifiers_drawn(
    earned: int, drawn: int
) -> None:
    world = make_world(Fraction(0), is_volunteer=True, earned=earned)
    present = sum(chance(world, key) for key in world.honest)
    assert present == pytest.approx(drawn), "half of the verifiers are absent"
    phases, reward = set[SegmentPhase](), 1.25 * world.cost
    for seed in range(GAMES):
        played = play(world, Plan(1), seed)
        phases.add(played.phase)
        assert (played.phase is SegmentPhase.GUILTY) is played.is_hit, f"seed {seed}"
        expected = -earned * reward if played.is_hit else reward
        assert played.gains[SOLVER] == pytest.approx(expected), f"seed {seed}"
        assert played.locked == (0 if played.is_hit else reward), f"seed {seed}"
    assert len(phases) > 1


@pytest.mark.rule("L88")
def test_the_first_lie_of_a_free_key_is_found_more_often_than_it_pays() -> None:
    """Although it refuses all that would find it, and a third of the stake that answers helps it, and is first
    where not all that are drawn have a place.
    """
    world = make_world(Fraction(1, 3), is_volunteer=True)
    windows = windows_of(world)
    for false in range(1, windows + 1):
        saved, lost = false / windows, 1.25 * refused(world, false)
        assert lost > saved + 0.08, f"{false} windows"


def _bond(world: World) -> int:
    return request_bond(world.ledger.state.params, committed(world, 0))


@pytest.mark.parametrize(
    ("plan", "phases"),
    [
        (Plan(serves=Serves.NOBODY, shows=Shows.NEVER), "silent"),
        (Plan(serves=Serves.FRIENDS), "silent verified unsampled"),
        (Plan(3, serves=Serves.UNLESS_HIT), "silent verified unsampled"),
        (Plan(5, shows=Shows.UNLESS_HIT), "silent verified unsampled"),
        (Plan(5, friends=Friends.ABSENT, reports=True), "guilty"),
        (Plan(friends=Friends.GUESS), "verified unsampled"),
        (Plan(friends=Friends.GUESS_SHOWN), "verified unsampled cleared"),
        (Plan(friends=Friends.WITHHOLD), "silent verified unsampled"),
        (Plan(friends=Friends.WITHHOLD_LATE), "silent verified unsampled"),
    ],
    ids=[
        "nobody",
        "friends",
        "refuses",
        "unless-hit",
        "report",
        "guess",
        "shown-guess",
        "withhold",
        "late",
    ],
)
def test_each_plan_ends_with_one_of_its_verdicts(world: World, plan: Plan, phases: str) -> None:
    for seed in range(GAMES):
        assert play(world, plan, seed).phase in phases.split(), f"seed {seed}"


def test_dust_below_the_stake_of_a_solver_is_never_drawn() -> None:
    dust = make_world(Fraction(1, 50), num_friends=30)
    assert len(dust.friends) == 30
    assert eligible_friends(dust) == 0


def test_formulas_at_their_ends(world: World) -> None:
    everything = caught(world, windows_of(world))
    assert caught(world, 0) == 0
    assert 0 < caught(world, 1) < everything < 1 - none_of(world, world.honest) ** 3
    assert refused(world, 0) == pytest.approx(0), "who serves all is never silent"
    assert 0 < refused(world, 1) < refused(world, windows_of(world)) < 1
    assert answered(world, windows_of(world)) < answered(world, 1) < answered(world) < 1
    assert 0.2 < decided_by_friends(world) < 1 / 3, "less than their part: some draws take both"
    assert caught_in_row(0.5, 2) == 0.75
    assert segments_until_caught(0.5, 2) == 1.5
    assert segments_until_caught(0.0, 7) == 7
    assert segments_until_evicted(1.0, 0.0, 60) == 3, "the third strike"
    assert segments_until_evicted(0.0, 1.0, 60) == 60
    assert segments_until_evicted(0.5, 0.0, 60) == pytest.approx(6), "the rest nobody checked"
    assert 6 < segments_until_evicted(0.5, 0.5, 60) < 8, "verified ones undo strikes"


def test_segments_dealt_from_draws_are_caught_as_often_as_they_should() -> None:
    """Two honest verifiers, each drawn by one draw of four, and dealt different windows of five."""
    rng = np.random.default_rng(3)
    honest, nobody = (
        np.eye(1, 4, dtype=np.bool_).repeat(2, axis=0),
        np.empty((0, 4), dtype=np.bool_),
    )
    found = frequency(honest, nobody, 5, 5, 20_000, rng)
    assert found.mean() == pytest.approx(1 - 0.75**6, abs=0.02)
    some = frequency(honest, nobody, 1, 5, 20_000, rng)
    hit = 6 / 16 * 1 / 5 + 1 / 16 * 2 / 5
    again = 0.75**2
    assert some.mean() == pytest.approx(hit * (1 + again + again**2), abs=0.02)


@pytest.mark.parametrize("upheld", [1.0, 0.7])
@pytest.mark.parametrize(
    ("windows", "false", "honest", "friends"),
    [(5, 1, 2, 1), (5, 4, 3, 0), (5, 3, 6, 3), (3, 1, 5, 2), (2, 1, 4, 4), (1, 1, 4, 4)],
)
def test_segments_with_many_verifiers_are_found_as_often_as_the_formula_says(
    windows: int, false: int, honest: int, friends: int, upheld: float
) -> None:
    """Each of them is drawn by one draw of three, and there are not places for all, nor windows."""
    rng = np.random.default_rng(4)
    drawn, theirs = (np.eye(1, 3, dtype=np.bool_).repeat(n, axis=0) for n in (honest, friends))
    found = frequency(drawn, theirs, false, windows, 60_000, rng, upheld)
    places = place_odds(counts([1 / 3] * honest), counts([1 / 3] * friends))
    assert found.mean() == pytest.approx(found_odds(places, windows, false, upheld), abs=0.01)


def test_a_lie_in_some_windows_is_found_more_often_than_if_verifiers_chose_theirs_by_chance(
    world: World,
) -> None:
    windows, again = windows_of(world), none_of(world, [*world.honest, *world.friends])
    for false in range(1, windows):
        missed = math.prod(1 - chance(world, key) * false / windows for key in world.honest)
        by_chance = (1 - missed) * (1 + again + again**2)
        assert caught(world, false) > by_chance + 0.002, f"{false} windows"
    missed = none_of(world, world.honest)
    everything = caught(world, windows)
    assert everything == pytest.approx((1 - missed) * (1 + again + again**2), abs=1e-3)


@pytest.mark.rule("L54", "L56", "L71")
@pytest.mark.parametrize("price", [Fraction(1, 2), Fraction(0)])
def test_a_low_price_makes_neither_a_lie_nor_silence_cheaper(price: Fraction) -> None:
    """What a lie that is shown, or hidden, costs over an honest segment is the same in every round."""
    cheap = make_world(Fraction(1, 3), price=price)
    paid = 1.25 * float(price) * cheap.cost
    assert next(i.price for i in cheap.run.rounds if i.round == ROUND) == int(100 * price)
    phases = set[SegmentPhase]()
    for seed in range(GAMES):
        hidden = play(cheap, Plan(5, shows=Shows.UNLESS_HIT), seed)
        shown = play(cheap, Plan(5), seed)
        phases |= {hidden.phase, shown.phase}
        if hidden.phase is SegmentPhase.SILENT:
            assert hidden.gains[SOLVER] - paid == pytest.approx(-3.75 * cheap.cost), f"seed {seed}"
        if shown.phase is SegmentPhase.GUILTY:
            assert shown.gains[SOLVER] == pytest.approx(-75 * cheap.cost, rel=1e-3), f"seed {seed}"
        if shown.phase is SegmentPhase.VERIFIED:
            assert shown.gains[SOLVER] == pytest.approx(paid)
    assert {SegmentPhase.SILENT, SegmentPhase.GUILTY} <= phases
