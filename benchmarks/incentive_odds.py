"""Say how often a false segment is caught, by a formula, and by real VRF draws without blocks.

A verifier with a part s of the stake that could be drawn is drawn with probability 2 q s. Of F friends of the
solver and H honest verifiers that a draw selects and that answer, f = min(F, 4) and h = min(H, 4 - f) have a
place: the friends ask first. These are dealt windows, different ones as far as there are. Of a lie in x of W
windows m honest verifiers have one, with the probabilities of ``odds.hit_odds``: if h + f <= W,

    P(m) = C(x, m) C(W - x, h - m) / C(W, h)

It is caught in one draw with probability A = 1 - P(m = 0), on average over all h and f. There is another draw
only if nobody was drawn that answers, which has probability B = P(h = 0, f = 0). After three draws a segment is
caught with P = A (1 + B + B^2), and one of n segments in a row with 1 - (1 - P)^n.

All this is said of a solver that serves everybody. One that does not serve an honest verifier of a false window
is found silent if more of the drawn witnesses are honest than its friends, which has probability u
(``sustained``): then A = 1 - E[(1 - u)^m], and another draw follows if no friend has a place, and each honest
verifier that has one was refused and not believed: B = E[(1 - u)^h; f = 0, m = h].
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from benchmarks.incentive_games import World
from swarm.ledger.check_statements import ATTEMPTS
from swarm.ledger.odds import Places, found_odds, hit_odds, place_odds
from swarm.ledger.state.draws import Draw
from swarm.ledger.state.records import SegmentRecord
from swarm.ledger.transition.payments import STRIKES_MAX, VERIFIED_PER_STRIKE
from swarm.ledger.transition.prices import CHECKS_MAX
from swarm.ledger.transition.sampling import WITNESSES, num_windows, prove_draw, selects
from swarm.primitives import vrf
from swarm.primitives.crypto import SecretKey, digest
from swarm.types import Amount, Height

Counts = npt.NDArray[np.int64]
"""A number for each of many segments."""
Drawn = npt.NDArray[np.bool_]
"""True where a draw (column) selects a key (row)."""


def windows_of(world: World) -> int:
    """Return the windows of a segment."""
    spec = world.run.spec
    return num_windows(spec.inner_steps_max, spec.checks.window_steps)


def chance(world: World, key: SecretKey) -> float:
    """Return the probability with which one draw selects a key."""
    return min(2 * world.draw_probability * world.stake(key) / world.eligible, 1.0)


def none_of(world: World, keys: Sequence[SecretKey]) -> float:
    """Return the probability that one draw selects none of the keys."""
    return math.prod(1 - chance(world, key) for key in keys)


def places_of(world: World) -> Places:
    """Return how likely so many honest verifiers and friends have a place after a draw."""
    honest, friends = (
        counts([chance(world, key) for key in keys]) for keys in (world.honest, world.friends)
    )
    return place_odds(honest, friends)


def caught(world: World, false_windows: int) -> float:
    """Return P: the probability that a false segment of a solver that serves everybody is caught."""
    return found_odds(places_of(world), windows_of(world), false_windows)


def answered(world: World, false_windows: int = 0) -> float:
    """Return the probability that somebody answers who is a friend, or was dealt a true window."""
    nobody = sum(
        p * hit_odds(windows_of(world), false_windows, honest, 0)[honest]
        for (honest, friends), p in places_of(world).items()
        if not friends
    )
    return 1 - nobody**ATTEMPTS


def refused(world: World, false_windows: int) -> float:
    """Return the probability that a solver is silent that serves no honest verifier of a false window.

    Each of them complains, and another draw comes if nobody has answered: no friend was drawn, and no honest
    verifier has a true window. At least: who found no place may ask after the next draw. For a solver that
    serves its friends only all windows count.
    """
    return found_odds(places_of(world), windows_of(world), false_windows, sustained(world))


def sustained(world: World) -> float:
    """Return the probability that most drawn witnesses of an honest complaint are honest, and not friends."""
    honest = counts([witness_chance(world, key) for key in world.honest[1:]])
    friends = counts([witness_chance(world, key) for key in world.friends])
    return sum(p * sum(friends[:number]) for number, p in enumerate(honest))


def overruled(world: World) -> float:
    """Return the probability that most drawn witnesses of a friend's false complaint are friends."""
    honest = counts([witness_chance(world, key) for key in world.honest])
    friends = counts([witness_chance(world, key) for key in world.friends[1:]])
    return sum(p * sum(honest[:number]) for number, p in enumerate(friends))


def witness_chance(world: World, key: SecretKey) -> float:
    """Return the probability that a key is drawn as a witness."""
    return min(WITNESSES * world.stake(key) / world.eligible, 1.0)


def counts(chances: Sequence[float]) -> list[float]:
    """Return the probabilities of 0, 1, 2 ... successes of independent events."""
    odds = [1.0]
    for chance_ in chances:
        odds = [
            (odds[n] * (1 - chance_) if n < len(odds) else 0.0)
            + (odds[n - 1] * chance_ if n else 0.0)
            for n in range(len(odds) + 1)
        ]
    return odds


def decided_by_friends(world: World) -> float:
    """Return the part of the checked segments that friends alone have checked.

    It is the same in every draw: the first that selects anybody who answers decides.
    """
    places = places_of(world)
    alone = sum(p for (honest, friends), p in places.items() if friends and not honest)
    return alone / (1 - places[0, 0])


def caught_in_row(caught_once: float, num_segments: int) -> float:
    """Return the probability that one of some segments in a row is caught."""
    return 1 - (1 - caught_once) ** num_segments


def segments_until_caught(caught_once: float, num_segments: int) -> float:
    """Return how many of some segments in a row are played on average: the one that is caught is the last."""
    return caught_in_row(caught_once, num_segments) / caught_once if caught_once else num_segments


def segments_until_evicted(silent_once: float, verified_once: float, num_segments: int) -> float:
    """Return how many of some segments in a row are played on average, until silence evicts the solver.

    A silent segment is a strike, and so many verified ones undo one; one that nobody was drawn for is neither.
    The epochs in which it may not join again are not counted: in them it can neither gain nor lose.
    """
    states, played = {(0, 0): 1.0}, 0.0
    for _ in range(num_segments):
        played += sum(states.values())
        following = dict[tuple[int, int], float]()
        for (silent, verified), p in states.items():
            odds = {
                (silent, verified): 1 - silent_once - verified_once,
                (silent, verified + 1): verified_once,
                (silent + 1, verified): silent_once,
            }
            for state, part in odds.items():
                if state[0] - state[1] // VERIFIED_PER_STRIKE < STRIKES_MAX:
                    following[state] = following.get(state, 0.0) + p * part
        states = following
    return played


def vrf_outputs(
    world: World, keys: Sequence[SecretKey], num_draws: int
) -> dict[SecretKey, list[bytes]]:
    """Return the VRF outputs of some keys over many beacons."""
    chain, draws = world.ledger.state.chain, [_draw(world, n) for n in range(num_draws)]
    return {key: [vrf.output(prove_draw(key, chain, draw)) for draw in draws] for key in keys}


def keys_drawn(
    world: World,
    keys: Sequence[SecretKey],
    record: SegmentRecord,
    betas: Mapping[SecretKey, Sequence[bytes]],
) -> Drawn:
    """Return whom the ledger draws by these VRF outputs, with the stakes of this world."""
    draw, num_draws = _draw(world, 0), len(next(iter(betas.values())))
    stakes = {key: Amount(world.stake(key)) for key in keys}
    rows = [[selects(draw, record, stakes[key], beta) for beta in betas[key]] for key in keys]
    return np.array(rows, dtype=np.bool_).reshape(len(keys), num_draws)


def frequency(
    honest: Drawn,
    friends: Drawn,
    false_windows: int,
    windows: int,
    num_games: int,
    rng: np.random.Generator,
    upheld: float = 1.0,
) -> npt.NDArray[np.bool_]:
    """Return of many segments whether they were found; each takes its draws from all that were made.

    ``upheld`` is the probability that a verifier of a false window prevails.
    """
    is_found = np.zeros(num_games, dtype=np.bool_)
    is_open = np.ones(num_games, dtype=np.bool_)
    for _ in range(ATTEMPTS):
        taken = np.minimum(_num_drawn(friends, num_games, rng), CHECKS_MAX)
        have = np.minimum(_num_drawn(honest, num_games, rng), CHECKS_MAX - taken)
        hits = _num_hits(have, taken, false_windows, windows, rng)
        is_found |= is_open & (rng.binomial(hits, upheld) > 0)
        is_open &= (taken == 0) & (hits == have)
    return is_found


def _num_drawn(rows: Drawn, num_games: int, rng: np.random.Generator) -> Counts:
    """Return how many keys are drawn in each of some draws."""
    number = np.zeros(num_games, dtype=np.int64)
    for row in rows:
        number += row[rng.integers(rows.shape[1], size=num_games)]
    return number


def _num_hits(
    honest: Counts, friends: Counts, false_windows: int, windows: int, rng: np.random.Generator
) -> Counts:
    """Deal windows as ``sampling.deal_windows`` does; return how many honest verifiers have a false one."""
    seats = np.arange(CHECKS_MAX)
    order = rng.permuted(np.tile(np.arange(windows), (len(honest), 1)), axis=1)
    dice = rng.random((len(honest), CHECKS_MAX))
    dice[seats >= (honest + friends)[:, None]] = 1.0  # nobody has this place: it comes last
    window = np.take_along_axis(order[:, seats % windows], np.argsort(dice, axis=1), axis=1)
    hits: Counts = ((window < false_windows) & (seats < honest[:, None])).sum(axis=1)
    return hits


def _draw(world: World, number: int) -> Draw:
    beacon = digest("bench-beacon", number.to_bytes(4, "big"))
    return Draw(Height(1), beacon, Amount(world.eligible))
