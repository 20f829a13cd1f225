"""Draw verifiers for a solver that cheats in every window: a part of the benchmark ``verify``.

A solver in a run of the packaged file, with exact numerics and q = 0.5, commits a segment on a real ledger,
which goes on from an end that was committed before; the ledger notes the first draw. ``KEYS`` peers of equal
stake could be drawn, and nobody else. From there on only chance is simulated: the VRF outputs of all keys over
``BEACONS`` beacons are real, each segment has an end root of its own, and each draw has one of these beacons,
never one twice in a segment. Whether a key is drawn is said by ``selects``, by which the ledger judges
requests; ``CHECKS_MAX`` of those that are have a place, friends of the solver first.

A segment is found if an honest verifier that is there has a place: each window is false, so whichever it is
dealt shows the lie. If nobody answers that a draw has selected, verifiers are drawn again, up to ``ATTEMPTS``
draws in all; where friends of the solver alone are drawn, they answer, and there is no other draw. Segments
follow until one is found. The dispute after that is not simulated, nor are those who look without being drawn.

The figure is of verifiers that are all honest and there. The other mixes of ``MIXES`` are in the detail, and
beside each frequency what the formula of ``benchmarks/incentive_odds.py`` gives for it.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import sqrt

from benchmarks.common import Outcome, say
from benchmarks.incentive_games import BALANCE, FILE, exact_spec
from benchmarks.incentive_odds import caught_in_row, counts
from swarm.config.spec import NANO, GenesisAccount, RunSpec
from swarm.ledger.check_statements import ATTEMPTS
from swarm.ledger.odds import place_odds
from swarm.ledger.state.draws import Draw
from swarm.ledger.state.records import SegmentRecord, StartKind
from swarm.ledger.transition.prices import CHECKS_MAX, solver_stake
from swarm.ledger.transition.sampling import num_windows, prove_draw, selects
from swarm.primitives import vrf
from swarm.primitives.codec import replace
from swarm.primitives.crypto import digest
from swarm.testing.ledger import InMemoryLedger, numbered_key
from swarm.types import Amount, Digest
from tests.ledger.checking import a_case

KEYS, QUICK_KEYS = 96, 24
"""Verifiers of equal stake: so many that their number in a draw is nearly a Poisson one."""
OUT = 2
"""Owner and solver, which train together and cannot be drawn: the first keys."""
BEACONS, QUICK_BEACONS = 48, 6
CHEATS, QUICK_CHEATS = 40_000, 400
"""Solvers that cheat until they are found, in the mix of the figure."""
OTHERS_MAX = 10_000
"""As many at most in each of the other mixes."""
SEGMENTS = 3
SEED = 11

Found = tuple[int, int] | None
"""Segment and draw in which a cheat was found, from 0; None if it was not in ``SEGMENTS``."""


@dataclass(frozen=True, slots=True)
class Mix:
    """Parts of the stake that could be drawn."""

    name: str
    present: float
    """Part that answers."""
    friends: float
    """Part of that which helps the solver."""

    def counts(self, keys: int) -> tuple[int, int]:
        """Return how many keys are honest and there, and how many are friends of the solver."""
        there = round(keys * self.present)
        friends = round(there * self.friends)
        return there - friends, friends


ALL_HONEST = Mix("all honest", 1.0, 0.0)
MIXES = (
    ALL_HONEST,
    Mix("half absent", 0.5, 0.0),
    Mix("half absent, a third of the others friends", 0.5, 1 / 3),
)


@dataclass(frozen=True, slots=True)
class Lottery:
    """A committed segment, and the VRF outputs of all that could be drawn to check it."""

    spec: RunSpec
    record: SegmentRecord
    draw: Draw
    stake: Amount
    """Of every key."""
    betas: tuple[tuple[bytes, ...], ...]
    """VRF outputs, by key and beacon."""

    @property
    def chance(self) -> float:
        """Probability with which one draw selects one key."""
        return min(2 * self.record.probability_nano / NANO * self.stake / self.draw.stake, 1.0)

    def drawn(self, keys: range, beacon: int, end: Digest) -> Iterator[bool]:
        """Return of each of some keys whether a draw selects it to check a segment with this end."""
        record = replace(self.record, end_root=end)
        return (selects(self.draw, record, self.stake, self.betas[key][beacon]) for key in keys)


def measure_detection(outcome: Outcome, quick: bool) -> None:
    """Fill ``detection_3_segments``: the part of the solvers that is found which cheat in every window."""
    keys, beacons = (QUICK_KEYS, QUICK_BEACONS) if quick else (KEYS, BEACONS)
    lottery, cheats = make_lottery(keys, beacons), QUICK_CHEATS if quick else CHEATS
    record = lottery.record
    detail = dict[str, object]()
    outcome.parameters["detection"] = {
        "verifiers": keys,
        "beacons": beacons,
        "cheats": cheats,
        "q": record.probability_nano / NANO,
        "draws": ATTEMPTS,
        "windows": num_windows(record.num_steps, lottery.spec.checks.window_steps),
    }
    for mix in MIXES:
        rng, (honest, friends) = random.Random(f"{SEED} {mix.name}"), mix.counts(keys)
        number = cheats if mix is ALL_HONEST else min(cheats, OTHERS_MAX)
        found = [cheat(lottery, honest, friends, rng) for _ in range(number)]
        detail[mix.name] = _summary(lottery, honest, friends, found)
        if mix is ALL_HONEST:
            outcome.figures["detection_3_segments"] = share = round(_share(found), 5)
            say(f"{share:.5f} of the solvers are found in {SEGMENTS} segments that only cheat")
    outcome.detail["detection"] = detail


def make_lottery(keys: int, beacons: int) -> Lottery:
    """Return a segment that a solver has committed, with so many others that could be drawn to check it."""
    spec, own = exact_spec(), FILE.ledger
    probe = InMemoryLedger(2, 1, stake_segments=own.stake_segments)
    stake = Amount(solver_stake(probe.state.params, spec))
    secrets = [numbered_key(number) for number in range(OUT + keys)]
    accounts = sorted(
        (GenesisAccount(key.peer, Amount(BALANCE), stake) for key in secrets),
        key=lambda account: account.peer,
    )
    case = a_case(
        spec,
        num_steps=spec.inner_steps_max,
        num_accounts=len(secrets),
        num_validators=1,
        accounts=tuple(accounts),
        epoch_blocks=own.epoch_blocks,
        beacon_delay=own.beacon_delay,
        unbonding_epochs=own.unbonding_epochs,
        stake_segments=own.stake_segments,
    )
    case.draw_verifiers()
    record, chain = case.record, case.ledger.state.chain
    assert record.start_kind is StartKind.CONTINUED, "its seat has committed before"
    assert not record.is_volunteer, "it has the stake of a solver"
    assert len(case.able) == keys, "all others could be drawn"
    draw = record.draws[0]
    draws = [
        replace(draw, beacon=digest("bench-beacon", number.to_bytes(4, "big")))
        for number in range(beacons)
    ]
    betas = tuple(
        tuple(vrf.output(prove_draw(key, chain, one)) for one in draws) for key in secrets[OUT:]
    )
    return Lottery(spec, record, draw, stake, betas)


def cheat(lottery: Lottery, honest: int, friends: int, rng: random.Random) -> Found:
    """Return where a solver is found that cheats in every window; the first keys are honest, friends next."""
    honest_keys, friend_keys = range(honest), range(honest, honest + friends)
    beacons = range(len(lottery.betas[0]))
    for segment in range(SEGMENTS):
        end = Digest(rng.randbytes(32))
        for attempt, beacon in enumerate(rng.sample(beacons, ATTEMPTS)):
            taken = sum(lottery.drawn(friend_keys, beacon, end))
            if taken < CHECKS_MAX and any(lottery.drawn(honest_keys, beacon, end)):
                return segment, attempt
            if taken:
                break
    return None


def formula(lottery: Lottery, honest: int, friends: int, draws: int = ATTEMPTS) -> float:
    """Return the probability that a segment is found in which every window is false."""
    places = place_odds(counts([lottery.chance] * honest), counts([lottery.chance] * friends))
    missed = sum(p for (have, _), p in places.items() if not have)
    return (1 - missed) * sum(places[0, 0] ** attempt for attempt in range(draws))


def _summary(
    lottery: Lottery, honest: int, friends: int, found: Sequence[Found]
) -> dict[str, object]:
    """Return frequencies, the formula's values, and the error that is to be expected of the last frequency."""
    one = formula(lottery, honest, friends)
    within = caught_in_row(one, SEGMENTS)
    first_draw = sum(one == (0, 0) for one in found) / len(found)
    return {
        "honest": honest,
        "friends": friends,
        "cheats": len(found),
        "first_draw": round(first_draw, 5),
        "first_draw_formula": round(formula(lottery, honest, friends, draws=1), 5),
        "one_segment": round(_share(found, 1), 5),
        "one_segment_formula": round(one, 5),
        "three_segments": round(_share(found), 5),
        "three_segments_formula": round(within, 5),
        "standard_error": round(sqrt(within * (1 - within) / len(found)), 5),
    }


def _share(found: Sequence[Found], segments: int = SEGMENTS) -> float:
    """Return the part of the cheats that was found within so many segments."""
    return sum(one is not None and one[0] < segments for one in found) / len(found)
