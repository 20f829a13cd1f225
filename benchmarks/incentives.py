"""Benchmark ``incentives``: what attackers on the ledger can expect, in honest segments' costs.

Half of the stake that could be drawn never answers; of the rest a share belongs to the attackers. Segments are
played on a real ledger (``incentive_games``). Their money is taken by verdict; how often each verdict comes is
taken from a formula (``incentive_odds``), which is compared with games and with draws without blocks. What a
seat does in one segment it can do in the next, until it is convicted or evicted.

An expectation of a solver is what it has more than an honest one with the same friends, who trust it in both
cases: that they need not replay what a friend has trained is no gain of a lie. A silent solver, a withholder
and dust, which compute nothing, are compared with who stays away.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from benchmarks.common import Outcome, say
from benchmarks.incentive_games import (
    REWARD_OVER_COST,
    SOLVER,
    Friends,
    Plan,
    Played,
    Serves,
    Shows,
    World,
    committed,
    eligible_friends,
    make_world,
    play,
    total,
)
from benchmarks.incentive_looks import measure_looks
from benchmarks.incentive_odds import (
    answered,
    caught,
    caught_in_row,
    decided_by_friends,
    frequency,
    keys_drawn,
    none_of,
    overruled,
    refused,
    segments_until_caught,
    segments_until_evicted,
    sustained,
    vrf_outputs,
    windows_of,
)
from swarm.ledger.check_statements import ATTEMPTS
from swarm.ledger.odds import MONEY_BACK
from swarm.ledger.state.records import SegmentPhase

SHARES = (Fraction(0), Fraction(1, 10), Fraction(1, 3))
"""Part of the stake that answers which belongs to the attackers."""
PRICES = (Fraction(1, 2), Fraction(0))
"""Prices at which a round clears, as parts of the highest: solvers have undercut each other, to nothing."""
FALSE_STEPS = (1, 5, 10, 25, 50)
"""Steps of one segment that are not computed, in as few windows as they fit in: 10 are a whole window."""
IN_A_ROW = (1, 3, 10, 60)
EARLIER = (0, 1, 2, 8)
"""Honest segments of a volunteer before the one it lies in."""
DUST_SHARE, DUST_PRESENT, DUST_ACCOUNTS = Fraction(1, 50), Fraction(52), 1_000
"""Dust is a fiftieth of what answers, so a hundredth of all; in a network of 104 stakes that is one stake."""
SEEN_MIN, TRIES_MAX = 2, 400
"""Games of each kind that are wanted, and games after which they are not waited for any more."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is played."""

    draws: int
    """Beacons over which every key proves its draws."""
    segments: int
    """Segments that are composed of these draws, for each point of the grid."""
    games: int
    """Full games for each way to cheat and share."""
    rare: int
    """Full games where what matters is rare."""


FULL = Sizes(14_000, 300_000, 200, 400)
QUICK = Sizes(250, 20_000, 6, 20)


Odds = Callable[[World, int], float]
"""Probability of something if so many windows of a segment are false."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way to cheat, and the probabilities of the verdict that it fears, and of being verified."""

    plan: Plan
    feared: SegmentPhase
    odds: Odds
    verified: Odds

    def until_out(self, world: World, false: int, num_segments: int) -> float:
        """Return how many of some segments in a row are played on average until the seat is lost."""
        odds = self.odds(world, false)
        if self.feared is SegmentPhase.GUILTY:
            return segments_until_caught(odds, num_segments)
        return segments_until_evicted(odds, self.verified(world, false), num_segments)


def _not_found(world: World, false: int) -> float:
    """Return the probability that a false segment of a solver that serves everybody is verified."""
    return answered(world) - caught(world, false)


WAYS: Mapping[str, Way] = {
    "serves_all": Way(Plan(), SegmentPhase.GUILTY, caught, _not_found),
    "silent_if_hit": Way(Plan(shows=Shows.UNLESS_HIT), SegmentPhase.SILENT, caught, _not_found),
    "serves_friends_only": Way(
        Plan(serves=Serves.FRIENDS),
        SegmentPhase.SILENT,
        lambda world, _: refused(world, windows_of(world)),
        lambda world, _: answered(world) - refused(world, windows_of(world)),
    ),
    "refuses_if_hit": Way(
        Plan(serves=Serves.UNLESS_HIT),
        SegmentPhase.SILENT,
        refused,
        lambda world, false: answered(world) - refused(world, false),
    ),
}


def measure(quick: bool) -> Outcome:
    """Play all attacks."""
    sizes = QUICK if quick else FULL
    worlds = {share: make_world(share) for share in SHARES}
    cost = worlds[SHARES[0]].cost
    outcome = Outcome(
        {
            "shares": [round(float(share), 3) for share in SHARES],
            "absent": 0.5,
            "false_steps": list(FALSE_STEPS),
            "in_a_row": list(IN_A_ROW),
            "segment_cost": cost,
            "stake_in_costs": round(
                worlds[SHARES[0]].stake(worlds[SHARES[0]].ledger.keys[1]) / cost, 2
            ),
            "draws": sizes.draws,
            "games": sizes.games,
            "games_of_rare": sizes.rare,
        }
    )
    say(f"{sizes.draws} beacons, proved by every key")
    _detection(worlds, sizes, outcome)
    say("honest segments")
    honest = {share: _honest(world, sizes.games) for share, world in worlds.items()}
    say("cheats")
    largest = _cheats(worlds, honest, sizes, outcome)
    say("prices")
    _prices(sizes, outcome)
    say("volunteers")
    largest = max(largest, _volunteers(sizes, outcome))
    outcome.figures["cheat_ev_max"] = largest
    say("lazy verifiers")
    _lazy(worlds, sizes, outcome)
    say("verifiers that look at elements")
    measure_looks(sizes.segments // 10, outcome)
    say("self-reports")
    _self_reports(worlds, honest, sizes, outcome)
    say("silent solvers")
    _silence(worlds, sizes, outcome)
    say("withheld answers")
    _withheld(worlds, sizes, outcome)
    say("dust")
    _dust(sizes, outcome)
    return outcome


def _detection(worlds: Mapping[Fraction, World], sizes: Sizes, outcome: Outcome) -> None:
    """Compare formulas with draws: all prove for many beacons, and segments are drawn from them, and dealt."""
    widest = worlds[SHARES[-1]]
    record = committed(widest, 0)
    betas = vrf_outputs(widest, [*widest.honest, *widest.friends], sizes.draws)
    rng, rows, worst = np.random.default_rng(1), dict[str, object](), 0.0
    for share, world in worlds.items():
        honest = keys_drawn(world, world.honest, record, betas)
        friends = keys_drawn(world, world.friends, record, betas)
        for steps in FALSE_STEPS:
            false, windows = false_windows(steps, world), windows_of(world)
            lies = {"shown": (1.0, caught), "hidden": (sustained(world), refused)}
            for lie, (upheld, formula) in lies.items():
                found = frequency(honest, friends, false, windows, sizes.segments, rng, upheld)
                for length in IN_A_ROW:
                    whole = len(found) // length * length
                    played = float(found[:whole].reshape(-1, length).any(axis=1).mean())
                    wanted = caught_in_row(formula(world, false), length)
                    worst = max(worst, abs(played - wanted))
                    name = f"share {float(share):.2f}, {steps} steps, {lie}, {length} in a row"
                    rows[name] = {"played": round(played, 4), "formula": round(wanted, 4)}
    outcome.figures["detection_error_max"] = round(worst, 4)
    outcome.detail["detection"] = rows


def false_windows(steps: int, world: World) -> int:
    """Return the windows that hold so many false steps, at least."""
    return -(-steps // world.run.spec.checks.window_steps)


def _honest(world: World, games: int) -> float:
    """Return what solver and friends have together for an honest segment that the friends need not replay."""
    played = [play(world, Plan(), seed) for seed in range(games)]
    return statistics.fmean(_together(world, game) for game in played) - 1


def _together(world: World, played: Played) -> float:
    """Return what solver and friends have won, in costs of a segment."""
    keys = [world.ledger.keys[SOLVER], *world.friends]
    return total(played.gains, keys, world) / world.cost


def _replays(world: World, played: Played) -> int:
    friends = {key.peer for key in world.friends}
    pairs = zip(world.ledger.keys, played.replays, strict=True)
    return sum(replays for key, replays in pairs if key.peer in friends)


def _replay_cost(world: World) -> float:
    """Return what the replay of one window costs."""
    spec = world.run.spec
    return spec.checks.window_steps / spec.inner_steps_max


def _cheats(
    worlds: Mapping[Fraction, World],
    honest: Mapping[Fraction, float],
    sizes: Sizes,
    outcome: Outcome,
) -> float:
    rows, best = dict[str, object](), dict[str, tuple[float, str]]()
    for name, way in WAYS.items():
        for share, world in worlds.items():
            games = _games_of(world, way, sizes.games)
            for steps in FALSE_STEPS:
                false = false_windows(steps, world)
                once = _once(world, way, games, steps) - honest[share]
                row = {n: round(once * way.until_out(world, false, n), 4) for n in IN_A_ROW}
                cell = f"share {float(share):.2f}, {steps} steps"
                rows[f"{name}, {cell}"] = row
                cells = ((ev, f"{cell}, {n} in a row") for n, ev in row.items())
                best[name] = max(*cells, best.get(name, (-np.inf, "")))
            rows[f"{name}, share {float(share):.2f}, {way.feared}"] = _verdicts(world, way, games)
    found = {name: {"value": value, "cell": cell} for name, (value, cell) in best.items()}
    outcome.detail |= {"cheat_ev_max_by_way": found, "cheats": rows}
    return max(best[name][0] for name in WAYS)


def _prices(sizes: Sizes, outcome: Outcome) -> None:
    """Let solvers cheat where the round pays less than the run would at most: it must not pay better."""
    rows = dict[str, float]()
    for price in PRICES:
        found = list[float]()
        for share in SHARES:
            world = make_world(share, price=price)
            honest = _honest(world, sizes.games)
            for way in WAYS.values():
                games = _games_of(world, way, sizes.games)
                for steps in FALSE_STEPS:
                    once, false = _once(world, way, games, steps), false_windows(steps, world)
                    found += [(once - honest) * way.until_out(world, false, n) for n in IN_A_ROW]
        rows[f"{float(price):.1f}"] = round(max(found), 4)
    outcome.detail["cheat_ev_max_by_price"] = rows


def _once(world: World, way: Way, games: Sequence[Played], steps: int) -> float:
    """Return what solver and friends have on average for one segment with so many false steps."""
    p = way.odds(world, false_windows(steps, world))
    money = p * _mean(world, games, feared=way.feared, is_feared=True)
    money += (1 - p) * _mean(world, games, feared=way.feared, is_feared=False)
    return money - 1 + steps / world.run.spec.inner_steps_max


def _verdicts(world: World, way: Way, games: Sequence[Played]) -> dict[str, float]:
    """Return how often the feared verdict came in the games, and how often it should."""
    wanted = statistics.fmean(way.odds(world, n) for n in _windows_played(world))
    played = statistics.fmean(game.phase is way.feared for game in games)
    return {"games": len(games), "played": round(played, 3), "formula": round(wanted, 3)}


def _windows_played(world: World) -> Sequence[int]:
    return sorted({false_windows(steps, world) for steps in FALSE_STEPS})


def _games_of(world: World, way: Way, games: int) -> list[Played]:
    """Play a way to cheat with every number of false windows, until both verdicts have been seen."""
    played, windows = list[Played](), _windows_played(world)
    for seed in range(TRIES_MAX):
        num_feared = sum(game.phase is way.feared for game in played)
        is_enough = SEEN_MIN <= num_feared <= len(played) - SEEN_MIN
        if len(played) >= games and len(played) % len(windows) == 0 and is_enough:
            break
        plan = replace(way.plan, false_windows=windows[seed % len(windows)])
        played.append(play(world, plan, seed))
    return played


def _mean(world: World, games: Sequence[Played], *, feared: SegmentPhase, is_feared: bool) -> float:
    """Return the mean money of solver and friends in the games with the verdict they fear, or without it.

    What was not seen in so many games is hardly ever: it counts as a segment that is paid.
    """
    found = [_together(world, game) for game in games if (game.phase is feared) is is_feared]
    return statistics.fmean(found) if found else float(REWARD_OVER_COST)


def _volunteers(sizes: Sizes, outcome: Outcome) -> float:
    """Let a peer without a stake of its own lie in one segment, after some honest ones; return the best.

    Compare it with one that is honest. What it has earned is locked in its stake and can be taken. It counts
    in full, though the peer cannot spend it before it has earned a whole stake.
    """
    rows, best = dict[str, object](), (-np.inf, "")
    for share in SHARES:
        for earlier in EARLIER:
            world = make_world(share, is_volunteer=True, earned=earlier)
            honest = _honest(world, sizes.games)
            for name, way in WAYS.items():
                games = _games_of(world, way, sizes.games // 2)
                row = {n: round(_once(world, way, games, n) - honest, 4) for n in FALSE_STEPS}
                cell = f"{name}, share {float(share):.2f}, after {earlier}"
                rows[cell] = {f"{steps} steps": value for steps, value in row.items()}
                cells = ((value, f"{cell}, {steps} steps") for steps, value in row.items())
                best = max(*cells, best)
    outcome.detail["volunteers_by_earlier_segments"] = rows
    outcome.detail["volunteers_ev_max"] = {"value": best[0], "cell": best[1]}
    return float(best[0])


def _lazy(worlds: Mapping[Fraction, World], sizes: Sizes, outcome: Outcome) -> None:
    """Compare verifiers by the check: what one has for each window it was drawn for."""
    rows, differences = dict[str, object](), list[float]()
    for share, world in worlds.items():
        if not world.friends:
            continue
        games = {way: _per_check(world, way, 2 * sizes.games) for way in _VERIFIERS}
        honest = games[Friends.HONEST]
        lazy = {"asks_nothing": 0.0, "guesses": games[Friends.GUESS]}
        lazy["guesses_and_shows"] = games[Friends.GUESS_SHOWN]
        differences += [value - honest for value in lazy.values()]
        rows[f"share {float(share):.2f}"] = {
            "honest": round(honest, 4),
            **{name: round(value, 4) for name, value in lazy.items()},
            "told_by_the_solver": round(games[Friends.AGREE], 4),
        }
    outcome.figures["lazy_minus_honest_ev_max"] = round(max(differences), 4)
    outcome.detail["verifiers_per_check"] = rows


_VERIFIERS = (Friends.HONEST, Friends.AGREE, Friends.GUESS, Friends.GUESS_SHOWN)


def _per_check(world: World, friends: Friends, games: int) -> float:
    """Return what the friends have for each check they asked for, if the solver is honest and none of them."""
    gained, asked = 0.0, 0
    for seed in range(TRIES_MAX):
        if seed >= games and asked >= SEEN_MIN:
            break
        played = play(world, Plan(friends=friends), seed)
        gained += total(played.gains, world.friends, world) / world.cost
        gained -= _replay_cost(world) * _replays(world, played)
        asked += played.friends_asked
    return gained / asked


def _self_reports(
    worlds: Mapping[Fraction, World],
    honest: Mapping[Fraction, float],
    sizes: Sizes,
    outcome: Outcome,
) -> None:
    """Let a friend report a segment once it is paid, or accuse first in case that it is found anyway."""
    rows, largest = dict[str, object](), list[float]()
    for share, world in worlds.items():
        if not world.friends:
            continue
        plan = Plan(windows_of(world), friends=Friends.ABSENT, reports=True)
        money = list[float]()
        for seed in range(TRIES_MAX):
            if seed >= sizes.games and money:
                break
            game = play(world, plan, seed)
            money += [] if game.is_hit else [_together(world, game)]
        reported = statistics.fmean(money) - honest[share]  # all steps are saved
        at_risk = world.stake(world.ledger.keys[SOLVER]) / world.cost * (1 - MONEY_BACK)
        insured = max(
            steps / world.run.spec.inner_steps_max
            - caught(world, false_windows(steps, world)) * at_risk
            for steps in FALSE_STEPS
        )
        largest += [reported, insured]
        rows[f"share {float(share):.2f}"] = {
            "reported": round(reported, 3),
            "insured_at_most": round(insured, 3),
        }
    outcome.figures["selfreport_ev_max"] = round(max(largest), 3)
    outcome.detail["self_reports"] = rows


def _silence(worlds: Mapping[Fraction, World], sizes: Sizes, outcome: Outcome) -> None:
    rows, largest = dict[str, object](), list[float]()
    for share, world in worlds.items():
        # Friends that answer anything make the outcome vary more, and need more games.
        plays = {Friends.ABSENT: sizes.rare // 4}
        if world.friends:
            plays[Friends.GUESS] = sizes.rare
        for friends, count in plays.items():
            plan = Plan(serves=Serves.NOBODY, shows=Shows.NEVER, friends=friends)
            games = [play(world, plan, seed) for seed in range(count)]
            money = [(game.friends_asked > 0, _together(world, game)) for game in games]
            asks = 1 - none_of(world, world.friends) ** ATTEMPTS
            name = f"share {float(share):.2f}, friends {friends}"
            largest.append(_weighted(rows, name, money, asks))
    outcome.figures["silence_ev_max"] = max(largest)
    outcome.detail["silent_solvers"] = rows


def _weighted(
    rows: dict[str, object], name: str, values: Sequence[tuple[bool, float]], odds: float
) -> float:
    """Return the mean of two kinds of games, of which one comes with certain odds; note its standard error."""
    kinds = [[value for is_it, value in values if is_it is kind] for kind in (True, False)]
    weights = [odds, 1 - odds]
    if not all(kinds):
        kinds, weights = [[value for _, value in values]], [1.0]
    mean = sum(w * statistics.fmean(kind) for w, kind in zip(weights, kinds, strict=True))
    error = sum(
        w * w * statistics.pvariance(kind) / len(kind)
        for w, kind in zip(weights, kinds, strict=True)
    )
    rows[name] = {
        "mean": round(mean, 4),
        "standard_error": round(error**0.5, 4),
        "games": len(values),
    }
    return round(mean, 4)


def _withheld(worlds: Mapping[Fraction, World], sizes: Sizes, outcome: Outcome) -> None:
    rows, largest = dict[str, object](), list[float]()
    for share, world in worlds.items():
        if world.friends:
            largest += _withholders(rows, f"share {float(share):.2f}", world, sizes.rare)
    outcome.figures["withhold_ev_max"] = max(largest)
    outcome.detail["withholders"] = rows


def _withholders(rows: dict[str, object], name: str, world: World, num_games: int) -> list[float]:
    """Return what verifiers have that ask and never answer.

    Note how many honest segments that voids, and what their solver has left of its work.
    """
    odds, largest = _voided(world), list[float]()
    for way in (Friends.WITHHOLD, Friends.WITHHOLD_LATE, Friends.CONTEST):
        games = [play(world, Plan(friends=way), seed) for seed in range(num_games)]
        is_void = [game.phase is SegmentPhase.SILENT for game in games]
        theirs = [total(game.gains, world.friends, world) / world.cost for game in games]
        largest.append(
            _weighted(rows, f"{name}, {way}", list(zip(is_void, theirs, strict=True)), odds)
        )
        solver = [game.gains[SOLVER] / world.cost - 1 for game in games]
        label = f"{name}, {way}, the honest solver"
        _weighted(rows, label, list(zip(is_void, solver, strict=True)), odds)
        rows[f"{name}, {way}, honest segments void"] = round(statistics.fmean(is_void), 4)
    until = segments_until_evicted(odds, 1 - none_of(world, world.honest) ** ATTEMPTS, IN_A_ROW[-1])
    rows[f"{name}, segments of {IN_A_ROW[-1]} before the honest solver is evicted"] = round(
        until, 2
    )
    rows[f"{name}, honest segments void by formula"] = round(odds, 4)
    return largest


def _voided(world: World) -> float:
    """Return the probability that a friend complains about an honest segment, and most witnesses are friends.

    At most: several may complain, one after the other.
    """
    return (1 - none_of(world, world.friends) ** ATTEMPTS) * overruled(world)


def _dust(sizes: Sizes, outcome: Outcome) -> None:
    """Play 1% of all stake in 1,000 accounts, and the same 1% in as many as may be drawn: one."""
    many = make_world(DUST_SHARE, num_friends=DUST_ACCOUNTS)
    rows: dict[str, object] = {"accounts_that_may_be_drawn": eligible_friends(many)}
    world = make_world(DUST_SHARE, present=DUST_PRESENT, num_friends=1)
    first = len(world.ledger.keys)
    numbers = {n for n, key in enumerate(world.ledger.keys) if key.peer == world.friends[0].peer}
    games = [play(world, Plan(friends=Friends.AGREE), first + seed) for seed in range(sizes.rare)]
    checked = [game.answered_by for game in games if game.answered_by]
    decided = statistics.fmean(bool(peers) and peers <= numbers for peers in checked)
    share = decided_by_friends(world)
    rows["one_account_decides"] = {
        "played": round(decided, 4),
        "formula": round(share, 4),
        "checked": len(checked),
    }
    largest = [0.0, *_withholders(rows, "one account", world, sizes.rare)]
    rows["honest_segments_void"] = round(_voided(world), 4)
    outcome.figures |= {"dust_ev_max": max(largest), "dust_decides_share": round(share, 4)}
    outcome.detail["dust"] = rows
