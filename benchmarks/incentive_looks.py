"""Say what verifiers can expect where checks look at elements, by the formula of a launch and by play.

Whom a draw forces, what is won and what is lost are the ledger's own functions, over beacons and salts that are
drawn; how many segments a verifier gets is decided by who else is there. A check has no cost here: who looks
spends something on it besides. A third of the solvers are friends of who does not look, and show nothing of it.

A verifier looks, or looks at 64 of its 1,024 items, or says "right", or "false", each time without a look; or
its solver is a friend that tells it what to say, and it waits for the draw that forces it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from benchmarks.common import Outcome
from benchmarks.incentive_games import World, committed, make_world
from swarm.config.spec import NANO, SPOTS, RunSpec
from swarm.ledger.check_statements import ATTEMPTS
from swarm.ledger.odds import FRIENDS, REWARD, look_odds_of
from swarm.ledger.state.records import SegmentRecord
from swarm.ledger.transition.forced import forced_seed, is_forced, jackpot
from swarm.ledger.transition.payments import FALSE_WITNESS_PERCENT
from swarm.ledger.transition.prices import check_fee, check_pay, request_bond, solver_stake
from swarm.primitives.codec import replace
from swarm.primitives.crypto import digest
from swarm.verify.spots.forced import FLIPPED_SHARE

STEPS, FORCED = (25, 50, 100), (NANO // 100, NANO // 50, NANO // 20, NANO // 4, NANO // 2)
PRESENT = (Fraction(1), Fraction(1, 2), Fraction(1, 5))
"""Part of the verifiers that answer; those that do not look are among these."""
STAKES = 24
"""Stakes of a solver that could be drawn; each verifier has one."""
PRICE_MAX = 10_000
"""Price at which fees, and what is rounded, are nothing."""
FEW_ITEMS = 64
WAYS = ("looks", "looks_at_64", "right", "false", "told_by_its_solver")


@dataclass(frozen=True, slots=True)
class Prices:
    """What a check pays and costs, in what an honest segment costs."""

    pay: float
    bond: float
    win: float
    part: float


def spot_run(steps: int, forced_nano: int) -> tuple[World, RunSpec, SegmentRecord]:
    """Return a run whose checks look at elements, and a segment of it that was just committed."""
    world = make_world(Fraction(0))
    checks = replace(world.run.spec.checks, way=SPOTS, window_steps=1, forced_nano=forced_nano)
    old, params = world.run.spec, world.ledger.state.params
    spec = replace(old, inner_steps_max=steps, checks=checks, price_max=PRICE_MAX)
    record = committed(world, 0)
    tokens = record.tokens * steps // old.inner_steps_max
    pay = check_pay(params, spec, tokens, steps)
    return world, spec, replace(record, num_steps=steps, tokens=tokens, check_pay=pay)


def prices_of(world: World, spec: RunSpec, record: SegmentRecord) -> Prices:
    """Return what a check of a segment pays and costs; its fee, which comes back, is left out."""
    params = world.ledger.state.params
    stake = solver_stake(params, spec)
    cost = stake / params.stake_segments / REWARD
    fee = check_fee(params)
    return Prices(
        pay=(record.check_pay - fee) / cost,
        bond=request_bond(params, record) / cost,
        win=(jackpot(params, spec, record) - fee) / cost,
        part=stake * FALSE_WITNESS_PERCENT // 100 / cost,
    )


def measure_looks(num_segments: int, outcome: Outcome) -> None:
    """Play all verifiers in all runs, and note the best of those that do not look, and of who does."""
    rows, errors = dict[str, object](), [0.0]
    lazy, false, least = list[float](), list[float](), list[float]()
    for steps in STEPS:
        for forced in FORCED:
            world, spec, record = spot_run(steps, forced)
            odds = look_odds_of(spec, world.ledger.state.params.stake_segments)
            if forced < odds.least_forced * NANO:
                continue  # a launch refuses it
            played = _played(world, spec, record, num_segments)
            for present, found in played.items():
                rows[f"{steps} steps, {forced / NANO:g} forced, {float(present):g} present"] = {
                    way: round(value, 5) for way, value in found.items()
                }
                lazy.append(found["right"])
                false.append(found["false"])
                least.append(found["looks"])
                errors.append(abs(found["right"] - odds.lazy) / abs(odds.lazy))
    outcome.figures |= {
        "lazy_look_ev_max": round(max(lazy), 4),
        "says_false_ev_max": round(max(false), 4),
        "look_ev_min": round(min(least), 4),
    }
    outcome.detail["looks_by_the_check"] = rows
    outcome.detail["looks_error_max"] = round(max(errors), 3)


def _played(
    world: World, spec: RunSpec, record: SegmentRecord, num_segments: int
) -> Mapping[Fraction, Mapping[str, float]]:
    """Return what a verifier has by the check, for each part that is present and each way."""
    prices, rng = prices_of(world, spec, record), np.random.default_rng(spec.inner_steps_max)
    me, found = world.honest[0].peer, dict[Fraction, Mapping[str, float]]()
    for present in PRESENT:
        gained, checks = dict.fromkeys(WAYS, 0.0), 0
        for number in range(num_segments):
            salt = digest("bench-salt", number.to_bytes(8, "big"))[:16]
            drawn = _attempt_drawn(rng, float(present))
            forced = [
                is_forced(
                    spec,
                    forced_seed(
                        salt, digest("bench-beacon", bytes([number % 251, attempt]), salt), me, 0
                    ),
                )
                for attempt in range(ATTEMPTS)
            ]
            is_friend, is_seen = rng.random() < FRIENDS, _sees(rng, FEW_ITEMS)
            checks += 1
            for way in WAYS:
                gained[way] += _gain(
                    prices, way, forced, drawn, is_friend=is_friend, is_seen=is_seen
                )
        found[present] = {way: value / checks for way, value in gained.items()}
    return found


def _attempt_drawn(rng: np.random.Generator, present: float) -> list[bool]:
    """Return in which draws a verifier that is drawn in the first could ask: later ones come if nobody has."""
    others, open_ = int(STAKES * present) - 1, [True]
    for _ in range(ATTEMPTS - 1):
        is_asked = rng.random() < 1 - (1 - 1 / STAKES) ** max(others, 0)
        open_.append(open_[-1] and not is_asked)
    return open_


def _sees(rng: np.random.Generator, items: int) -> bool:
    """Return True if one of so many items is false."""
    return bool(rng.random() < 1 - (1 - 1 / FLIPPED_SHARE) ** items)


def _gain(
    prices: Prices,
    way: str,
    forced: list[bool],
    drawn: list[bool],
    *,
    is_friend: bool,
    is_seen: bool,
) -> float:
    """Return what a check gives a verifier that does it in some way."""
    says_false = {"looks": forced[0], "looks_at_64": forced[0] and is_seen, "false": True}
    if way == "told_by_its_solver":
        # Drawn again with the chance of its stake, if nobody else has asked: it waits for an error that pays.
        tries = [one for one, is_open in zip(forced, drawn, strict=True) if is_open]
        return prices.win if any(tries) else prices.pay
    if says_false.get(way, False):
        return prices.win if forced[0] else -prices.bond
    if forced[0] and not is_friend:
        return -prices.bond - prices.part
    return prices.pay
