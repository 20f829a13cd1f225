"""Compute how likely a false segment is found in a run, and what its solver can expect, from the settings.

Core: pure functions. The model is that of ``scripts/bench incentives``, which plays it on a real ledger: half
of the stake that could be drawn never answers, and a third of the rest helps the liar, and asks first. Here
stakes are many and small, so numbers of verifiers are Poisson. Amounts are in what an honest segment costs; its
reward is 5/4 of that.

    f = min(F, 4), h = min(H, 4 - f)     have a place, of F friends and H honest verifiers that a draw selects
    h + f = a W + b, s = a x + k         places in x false ones of W windows: k of the b that have one more
    P(k) = C(x, k) C(W - x, b - k) / C(W, b)
    P(m) = C(h, m) C(f, s - m) / C(h + f, s)    m of the s places are honest verifiers': windows are dealt
    found in one draw      A = 1 - E[(1 - u)^m]           the finding of one prevails with probability u
    another draw follows   B = E[(1 - u)^h; f = 0, m = h]  if nobody has answered
    found in a segment     P(x) = A (1 + B + B^2)

Where there is a window for each, h + f <= W, one draw misses a lie that is shown to all with C(W - x, h) /
C(W, h): the windows of friends change nothing, but that they answer prevents another draw.

A solver that serves all (u = 1) loses its stake where it is found. One that refuses whoever would find the lie
loses pay and fine where the witnesses of a complaint are in their majority honest. Whoever was refused, and is
not believed, has no answer; friends have one, and so has who was dealt a true window.

Source: docs/spec/verification.md section 5, docs/benchmarks.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from math import comb, exp, factorial

from swarm.config.spec import NANO, RunSpec
from swarm.ledger.check_statements import ATTEMPTS
from swarm.ledger.transition.forced import JACKPOT_CHECKS
from swarm.ledger.transition.payments import ACCUSER_PERCENT, FALSE_WITNESS_PERCENT
from swarm.ledger.transition.prices import CHECKS_MAX, SILENCE_REWARDS
from swarm.ledger.transition.sampling import BARE_FACTOR, WITNESSES, num_windows

PRESENT, FRIENDS = 1 / 2, 1 / 3
"""Part of the stake that answers; part of that which helps the liar."""
REWARD = 5 / 4
"""Reward of a segment, in what it costs to compute."""
MONEY_BACK = ACCUSER_PERCENT / 100
"""Part of a convicted stake that friends of the solver have at most: they accuse first."""
COUNTED_MAX = 60
"""Drawn witnesses that are counted: more than 12 on average are hardly ever that many."""
DEALS_CACHED = 4_096
"""Deals of windows that are kept: five for each number of false windows, of 256 windows at most."""


@dataclass(frozen=True, slots=True)
class Odds:
    """Odds of those who check a run, and of those who lie in it."""

    found_one_window: float
    """Probability that a segment with one false window is found, of a solver that serves all."""
    found_all_windows: float
    """The same if every window is false."""
    worst: float
    """The most that a lie in one segment gains over an honest one, in what that costs."""
    worst_way: str


LAZY_MARGIN = 2
"""Times as many forced checks as make laziness cost nothing. A seat that more seats feed than its own stage has
computes more tokens, and pays more by the check, for the same stake."""


@dataclass(frozen=True, slots=True)
class LookOdds:
    """Earnings of a check at elements on average, in what an honest segment costs, without the work of it."""

    looks: float
    """For who looks."""
    lazy: float
    """For who does not, and says "right" each time."""
    says_false: float
    """For who does not, and says "false" each time."""
    least_forced: float
    """Least part of forced checks that a launch accepts."""


def look_odds_of(spec: RunSpec, stake_segments: int) -> LookOdds:
    """Return what checks earn in a run whose checks look at elements.

    A third of the solvers are friends of who does not look, and do not show it.
    """
    forced, pay = spec.checks.forced_nano / NANO, REWARD / spec.inner_steps_max
    part = FALSE_WITNESS_PERCENT / 100 * stake_segments * REWARD
    lost = (1 - FRIENDS) * (2 * pay + part)
    win = max(pay, min(JACKPOT_CHECKS * pay, pay * (1 - forced) / (2 * forced))) if forced else pay
    return LookOdds(
        looks=(1 - forced) * pay + forced * win,
        lazy=pay - forced * lost,
        says_false=forced * win - (1 - forced) * pay,
        least_forced=LAZY_MARGIN * pay / lost,
    )


def odds_of(spec: RunSpec, stake_segments: int) -> Odds:
    """Return the odds of a run with exact numerics whose solvers have the stake of so many segments."""
    windows = num_windows(spec.inner_steps_max, spec.checks.window_steps)
    # A lie that falls on a forced statement is its verifier's jackpot, and convicts nobody.
    seen = 1 - spec.checks.forced_nano / NANO
    run = _places(2 * spec.checks.probability_nano / NANO * seen)
    bare, new = _places(2 * BARE_FACTOR * seen), _places(2 * seen)
    stake = (1 - MONEY_BACK) * stake_segments * REWARD + REWARD
    silence = SILENCE_REWARDS * REWARD
    ways, shown = list[tuple[float, str]](), list[float]()
    for false in range(1, windows + 1):
        x, of = false / windows, f"in {false} of {windows} windows"
        shown.append(found_odds(run, windows, false))
        hidden, first, second = (
            found_odds(places, windows, false, _upheld()) for places in (run, bare, new)
        )
        # That friends need not replay what they trust is left out: they need not for an honest solver either.
        ways += [
            (x - shown[-1] * stake, f"a lie {of} that is shown to all"),
            (x - shown[-1] * silence, f"a lie {of}, silent once it is found"),
            (x - hidden * silence, f"a lie {of}, hidden from who finds it"),
            (x - first * REWARD, f"a new key's first lie, {of}"),
            (x - second * 2 * REWARD, f"a new key's second segment, a lie {of}"),
        ]
    worst, way = max(ways)
    return Odds(shown[0], shown[-1], worst, way)


Places = Mapping[tuple[int, int], float]
"""Probabilities of so many honest verifiers and friends of the solver that have a place after a draw."""


def place_odds(honest: Sequence[float], friends: Sequence[float]) -> Places:
    """Return who has a place if these are the probabilities that 0, 1, 2 ... ask: friends come first."""
    odds = dict[tuple[int, int], float]()
    for num_friends, q in enumerate(friends):
        taken = min(num_friends, CHECKS_MAX)
        for num_honest, p in enumerate(honest):
            have = min(num_honest, CHECKS_MAX - taken), taken
            odds[have] = odds.get(have, 0.0) + p * q
    return odds


def found_odds(places: Places, windows: int, false: int, upheld: float = 1.0) -> float:
    """Return the probability that a lie in so many windows is found, and that stands.

    ``upheld`` is the probability that the finding of one verifier prevails: 1 if the solver serves all.
    """
    once, again = 0.0, 0.0
    for (honest, friends), p in places.items():
        dealt = hit_odds(windows, false, honest, friends)
        once += p * sum(q * (1 - (1 - upheld) ** hits) for hits, q in enumerate(dealt))
        if not friends:
            again += p * dealt[honest] * (1 - upheld) ** honest
    return once * sum(again**attempt for attempt in range(ATTEMPTS))


def hit_odds(windows: int, false: int, honest: int, friends: int) -> Sequence[float]:
    """Return the probabilities that 0, 1, 2 ... of these honest verifiers are dealt a false window."""
    # Where each has a window of its own, those of the friends change nothing: so much less is to be computed.
    return _hit_odds(windows, false, honest, friends if honest + friends > windows else 0)


@lru_cache(maxsize=DEALS_CACHED)
def _hit_odds(windows: int, false: int, honest: int, friends: int) -> Sequence[float]:
    verifiers, odds = honest + friends, [0.0] * (honest + 1)
    each, more = divmod(verifiers, windows)
    for extra in range(more + 1):
        places = each * false + extra
        p = comb(false, extra) * comb(windows - false, more - extra) / comb(windows, more)
        for hits in range(min(honest, places) + 1):
            ways = comb(honest, hits) * comb(friends, places - hits)
            odds[hits] += p * ways / comb(verifiers, places)
    return odds


def _places(drawn: float) -> Places:
    """Return who has a place if so many are drawn on average."""
    answer = drawn * PRESENT
    return place_odds(_counts(answer * (1 - FRIENDS)), _counts(answer * FRIENDS))


@cache
def _upheld() -> float:
    """Return the probability that more of the drawn witnesses of a complaint are honest than friends."""
    honest = _counts(WITNESSES * PRESENT * (1 - FRIENDS))
    friends = _counts(WITNESSES * PRESENT * FRIENDS)
    return sum(p * sum(friends[:number]) for number, p in enumerate(honest))


def _counts(mean: float) -> list[float]:
    """Return the probabilities of 0, 1, 2 ... of a Poisson number."""
    return [exp(-mean) * mean**n / factorial(n) for n in range(COUNTED_MAX)]
