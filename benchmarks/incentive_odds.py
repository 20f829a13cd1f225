"""Say how often a false segment is caught, by a formula, and by real VRF draws without blocks.

A verifier with a part s of the stake that could be drawn is drawn with probability 2 q s, for one window. So a
lie in a part x of the windows is caught in one draw with probability a = 1 - product of (1 - 2 q s x) over the
honest verifiers that answer. There is another draw only if nobody was drawn that answers, which has probability
b = product of (1 - 2 q s) over these and the friends of the solver. After three draws a segment is caught with

    x P = a (1 + b + b^2)

where P is nearly the same for every x, and one of n segments in a row with 1 - (1 - x P)^n. All this is said of
a solver that serves everybody. One that does not serve an honest verifier of a false window is found silent if
more of the drawn witnesses are honest than its friends (``sustained``).
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from benchmarks.incentive_games import World
from swarm.ledger.check_statements import ATTEMPTS
from swarm.ledger.state.draws import Draw
from swarm.ledger.state.records import SegmentRecord
from swarm.ledger.transition.payments import STRIKES_MAX, VERIFIED_PER_STRIKE
from swarm.ledger.transition.sampling import WITNESSES, num_windows, own_window, prove_draw
from swarm.primitives import vrf
from swarm.primitives.codec import replace
from swarm.primitives.crypto import SecretKey, digest
from swarm.types import Amount, Height

NOT_DRAWN = -1
Windows = npt.NDArray[np.int64]
"""Window of every key (rows) in every draw (columns), or ``NOT_DRAWN``."""


def windows_of(world: World) -> int:
    """Return the windows of a segment."""
    spec = world.run.spec
    return num_windows(spec.inner_steps_max, spec.checks.window_steps)


def chance(world: World, key: SecretKey) -> float:
    """Return the probability with which one draw selects a key."""
    return min(2 * world.draw_probability * world.stake(key) / world.eligible, 1.0)


def none_of(world: World, keys: Sequence[SecretKey], part: float = 1.0) -> float:
    """Return the probability that one draw selects none of the keys for a certain part of the windows."""
    return math.prod(1 - chance(world, key) * part for key in keys)


def caught(world: World, false_windows: int) -> float:
    """Return x P: the probability that a false segment of a solver that serves everybody is caught."""
    hit = 1 - none_of(world, world.honest, false_windows / windows_of(world))
    again = none_of(world, [*world.honest, *world.friends])
    return hit * sum(again**attempt for attempt in range(ATTEMPTS))


def answered(world: World, false_windows: int = 0) -> float:
    """Return the probability that somebody answers who is a friend, or was drawn for a true window."""
    true_part = 1 - false_windows / windows_of(world)
    nobody = none_of(world, world.friends) * none_of(world, world.honest, true_part)
    return 1 - nobody**ATTEMPTS


def refused(world: World, false_windows: int) -> float:
    """Return the probability that a solver is silent that serves no honest verifier of a false window.

    Each of them complains, and another draw comes if nobody has answered: no friend was drawn, and no honest
    verifier of a true window. At least: one whose complaint is dismissed may be drawn again. For a solver that
    serves its friends only all windows count.
    """
    part, stands = false_windows / windows_of(world), sustained(world)
    hit = 1 - none_of(world, world.honest, part * stands)
    again = none_of(world, world.friends) * none_of(world, world.honest, 1 - part * (1 - stands))
    return hit * sum(again**attempt for attempt in range(ATTEMPTS))


def sustained(world: World) -> float:
    """Return the probability that most drawn witnesses of an honest complaint are honest, and not friends."""
    honest = _counts([witness_chance(world, key) for key in world.honest[1:]])
    friends = _counts([witness_chance(world, key) for key in world.friends])
    return sum(p * sum(friends[:number]) for number, p in enumerate(honest))


def overruled(world: World) -> float:
    """Return the probability that most drawn witnesses of a friend's false complaint are friends."""
    honest = _counts([witness_chance(world, key) for key in world.honest])
    friends = _counts([witness_chance(world, key) for key in world.friends[1:]])
    return sum(p * sum(honest[:number]) for number, p in enumerate(friends))


def witness_chance(world: World, key: SecretKey) -> float:
    """Return the probability that a key is drawn as a witness."""
    return min(WITNESSES * world.stake(key) / world.eligible, 1.0)


def _counts(chances: Sequence[float]) -> list[float]:
    """Return the probabilities of 0, 1, 2 ... successes of independent events."""
    counts = [1.0]
    for chance_ in chances:
        counts = [
            (counts[n] * (1 - chance_) if n < len(counts) else 0.0)
            + (counts[n - 1] * chance_ if n else 0.0)
            for n in range(len(counts) + 1)
        ]
    return counts


def decided_by_friends(world: World) -> float:
    """Return the part of the checked segments that friends alone have checked.

    It is the same in every draw: the first that selects anybody who answers decides.
    """
    no_honest, no_friend = none_of(world, world.honest), none_of(world, world.friends)
    return no_honest * (1 - no_friend) / (1 - no_honest * no_friend)


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


def windows_drawn(
    world: World,
    keys: Sequence[SecretKey],
    record: SegmentRecord,
    betas: Mapping[SecretKey, Sequence[bytes]],
) -> Windows:
    """Return what the ledger makes of these VRF outputs, with the stakes of this world."""
    spec, draw, rows = world.run.spec, _draw(world, 0), list[list[int]]()
    whole = replace(record, num_steps=spec.inner_steps_max)
    for key in keys:
        stake = Amount(world.stake(key))
        found = (own_window(draw, whole, spec, stake, beta) for beta in betas[key])
        rows.append([NOT_DRAWN if window is None else window for window in found])
    num_draws = len(next(iter(betas.values())))
    return np.array(rows, dtype=np.int64).reshape(len(keys), num_draws)


def frequency(
    honest: Windows,
    friends: Windows,
    false_windows: int,
    windows: int,
    num_games: int,
    rng: np.random.Generator,
) -> npt.NDArray[np.bool_]:
    """Return of many segments whether they were caught; each takes its draws from all that were made."""
    num_draws = honest.shape[1]
    is_caught = np.zeros(num_games, dtype=np.bool_)
    is_open = np.ones(num_games, dtype=np.bool_)
    turn = rng.integers(windows, size=num_games)
    for _ in range(ATTEMPTS):
        is_asked = np.zeros(num_games, dtype=np.bool_)
        for rows, is_honest in ((honest, True), (friends, False)):
            for row in rows:
                window = row[rng.integers(num_draws, size=num_games)]
                is_drawn = window != NOT_DRAWN
                is_asked |= is_drawn
                if is_honest:
                    # Any window is as good as the first ones: a turn of them makes more of every draw.
                    is_caught |= is_open & is_drawn & ((window + turn) % windows < false_windows)
        is_open &= ~is_asked
    return is_caught


def _draw(world: World, number: int) -> Draw:
    beacon = digest("bench-beacon", number.to_bytes(4, "big"))
    return Draw(Height(1), beacon, Amount(world.eligible))
