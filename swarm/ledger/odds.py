"""Compute how likely a false segment is found in a run, and what its solver can expect, from the settings.

Core: pure functions. The model is that of ``scripts/bench incentives``, which plays it on a real ledger: half
of the stake that could be drawn never answers, and a third of the rest helps the liar. Here stakes are many
and small, so numbers of verifiers are Poisson. Amounts are in what an honest segment costs; its reward is 5/4
of that.

    caught in one draw      a = 1 - exp(-h x)        h honest verifiers that answer, on average
    another draw follows    b = exp(-h - f)          if nobody answered; f friends of the solver
    caught in a segment     P(x) = a (1 + b + b^2)   x of its windows are false

A solver that serves all loses its stake where it is caught. One that refuses whoever would find the lie loses
pay and fine where the witnesses of the complaint are in their majority honest.

Source: docs/spec/verification.md section 5, docs/benchmarks.md.
"""

import math
from dataclasses import dataclass
from functools import cache

from swarm.config.spec import NANO, RunSpec
from swarm.ledger.check_statements import ATTEMPTS
from swarm.ledger.transition.forced import JACKPOT_CHECKS
from swarm.ledger.transition.payments import ACCUSER_PERCENT, FALSE_WITNESS_PERCENT
from swarm.ledger.transition.prices import SILENCE_REWARDS
from swarm.ledger.transition.sampling import BARE_FACTOR, WITNESSES, num_windows

PRESENT, FRIENDS = 1 / 2, 1 / 3
"""Part of the stake that answers; part of that which helps the liar."""
REWARD = 5 / 4
"""Reward of a segment, in what it costs to compute."""
MONEY_BACK = ACCUSER_PERCENT / 100
"""Part of a convicted stake that friends of the solver have at most: they accuse first."""
COUNTED_MAX = 60
"""Drawn witnesses that are counted: more than 12 on average are hardly ever that many."""


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
    drawn, new = 2 * spec.checks.probability_nano / NANO, 2.0
    # A lie that falls on a forced statement is its verifier's jackpot, and convicts nobody.
    seen = 1 - spec.checks.forced_nano / NANO
    drawn, new = drawn * seen, new * seen
    stake = (1 - MONEY_BACK) * stake_segments * REWARD + REWARD
    silence = SILENCE_REWARDS * REWARD
    ways = list[tuple[float, str]]()
    for false in range(1, windows + 1):
        x, of = false / windows, f"in {false} of {windows} windows"
        ways += [
            (_gain(drawn, x, 1.0, stake), f"a lie {of} that is shown to all"),
            (_gain(drawn, x, 1.0, silence), f"a lie {of}, silent once it is found"),
            (_gain(drawn, x, _upheld(), silence), f"a lie {of}, hidden from who finds it"),
            (
                _gain(new * BARE_FACTOR, x, _upheld(), REWARD),
                f"a new key's first lie, {of}",
            ),
            (
                _gain(new, x, _upheld(), 2 * REWARD),
                f"a new key's second segment, a lie {of}",
            ),
        ]
    worst, way = max(ways)
    return Odds(_found(drawn, 1 / windows, 1.0), _found(drawn, 1.0, 1.0), worst, way)


def _gain(drawn: float, x: float, upheld: float, loss: float) -> float:
    """Return what a lie saves less what it loses on average.

    That friends need not replay what they trust is left out: they need not for an honest solver either.
    """
    return x - _found(drawn, x, upheld) * loss


def _found(drawn: float, x: float, upheld: float) -> float:
    """Return the probability that a lie in a part of the windows is found, and that stands.

    ``drawn`` verifiers are drawn on average; ``upheld`` is the probability that the finding of one prevails.
    """
    honest, friends = drawn * PRESENT * (1 - FRIENDS), drawn * PRESENT * FRIENDS
    once = 1 - math.exp(-honest * x * upheld)
    again = math.exp(-friends - honest * (1 - x * (1 - upheld)))
    return once * sum(again**attempt for attempt in range(ATTEMPTS))


@cache
def _upheld() -> float:
    """Return the probability that more of the drawn witnesses of a complaint are honest than friends."""
    honest = _counts(WITNESSES * PRESENT * (1 - FRIENDS))
    friends = _counts(WITNESSES * PRESENT * FRIENDS)
    return sum(p * sum(friends[:number]) for number, p in enumerate(honest))


def _counts(mean: float) -> list[float]:
    """Return the probabilities of 0, 1, 2 ... of a Poisson number."""
    return [math.exp(-mean) * mean**n / math.factorial(n) for n in range(COUNTED_MAX)]
