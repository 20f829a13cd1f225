"""Measure that the consensus holds: histories full of faults, broken guards, liars on the ledger, kill -9.

Figures: ``runs`` histories of ``scenarios``, with ``violations`` of what must always be true; honest validators
that are accused; the share of games in which every validator that signed two ways lost its stake; guards of the
core removed by mutation, and those whose absence the same histories show; processes killed while they vote.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import repeat
from multiprocessing import get_context
from random import Random

from benchmarks.campaign_games import GAMES, VIEWS_MAX, Judged, play
from benchmarks.campaign_grinding import WISHES, grind_for
from benchmarks.campaign_kills import kill_often
from benchmarks.campaign_mutants import MUTANTS, Mutant, hunt
from benchmarks.common import Outcome, cores, say, spread
from tests.ledger.consensus import twins
from tests.ledger.consensus.scenarios import SCENARIOS
from tests.ledger.consensus.soak import SEEDS, history

TWIN_VIEWS = 4
"""Views of a scenario of Twins; each is parted in one of 16 ways, and led by one of four."""
SHOWN_MAX = 20
"""Violations that are quoted."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is played."""

    histories: int
    games: int
    twins: int
    ground: int
    """Blocks among whose leaders one grinds."""
    mutants: int
    seeds_of_mutant: int
    kills: int


FULL = Sizes(SEEDS, 20 * len(GAMES), 1_000, 3_000, len(MUTANTS), 200, 40)
QUICK = Sizes(len(SCENARIOS), len(GAMES), 20, 60, 8, 200, 4)


def measure(quick: bool) -> Outcome:
    """Play all parts."""
    sizes = QUICK if quick else FULL
    outcome = Outcome(
        {
            "histories": sizes.histories,
            "games_with_real_keys": sizes.games,
            "seeds_of_mutant": sizes.seeds_of_mutant,
            "views_until_evidence_max": VIEWS_MAX,
            "workers": cores(),
        }
    )
    accused = 0
    with ProcessPoolExecutor(cores(), mp_context=get_context("spawn")) as pool:
        accused += _histories(pool, sizes, outcome)
        accused += _games(pool, sizes, outcome)
        _twins(pool, sizes, outcome)
        _grinding(pool, sizes, outcome)
    outcome.figures["honest_accused"] = accused
    _mutants(MUTANTS[: sizes.mutants], sizes.seeds_of_mutant, outcome)
    _kills(sizes.kills, outcome)
    return outcome


def _histories(pool: ProcessPoolExecutor, sizes: Sizes, outcome: Outcome) -> int:
    """Play the campaign of ``scripts/soak ledger``; return how many honest validators were accused."""
    say(f"{sizes.histories} histories of {len(SCENARIOS)} scenarios")
    began = time.monotonic()
    played = list(pool.map(history, range(sizes.histories), chunksize=20))
    found = [text for text, _ in played if text]
    outcome.figures |= {
        "runs": sizes.histories,
        "scenarios": len(SCENARIOS),
        "violations": len(found),
    }
    outcome.detail["histories_s"] = round(time.monotonic() - began, 1)
    outcome.detail["violations"] = found[:SHOWN_MAX]
    return sum(accused for _, accused in played)


def _games(pool: ProcessPoolExecutor, sizes: Sizes, outcome: Outcome) -> int:
    """Let validators sign two ways, and the ledger judge them; return how many honest ones were accused."""
    say(f"{sizes.games} games with real keys")
    games = list(pool.map(play, range(sizes.games), chunksize=4))
    outcome.figures["equivocators_slashed_share"] = slashed_share(games)
    free = Counter(game.scenario for game in games if game.num_slashed < game.num_equivocators)
    outcome.detail["views_until_evidence"] = spread([game.views for game in games])
    outcome.detail["equivocators_free"] = dict(free)
    outcome.detail["honest_pairs_refused"] = sum(game.num_pairs for game in games)
    return sum(game.num_accused for game in games)


def _twins(pool: ProcessPoolExecutor, sizes: Sizes, outcome: Outcome) -> None:
    """Let one key run twice in networks that are parted anew in every view."""
    say(f"{sizes.twins} scenarios of Twins")
    numbers = [Random(seed).randrange(twins.CHOICES**TWIN_VIEWS) for seed in range(sizes.twins)]
    judged = list(pool.map(twins.judged, numbers, repeat(TWIN_VIEWS), chunksize=10))
    found = [text for text, _ in judged if text]
    played = [one for _, one in judged if one is not None]
    outcome.figures["violations"] = int(str(outcome.figures["violations"])) + len(found)
    outcome.detail["violations_of_twins"] = found[:SHOWN_MAX]
    guilty = [one for one in played if one.signed_two_ways]
    outcome.detail["twins"] = {
        "scenarios": len(judged),
        "views": TWIN_VIEWS,
        "signed_two_ways": len(guilty),
        "accused_of_these": sum(one.is_accused for one in guilty),
        "blocks_min": min(one.height for one in played),
    }


def _grinding(pool: ProcessPoolExecutor, sizes: Sizes, outcome: Outcome) -> None:
    """Let a third of the stake withhold the blocks whose dice do not suit it."""
    say(f"{sizes.ground} blocks with a leader that grinds, for each of {len(WISHES)} wishes")
    ground = pool.map(grind_for, WISHES, repeat(sizes.ground))
    outcome.detail["grinding"] = {
        wish: asdict(found) for wish, found in zip(WISHES, ground, strict=True)
    }


def slashed_share(games: Sequence[Judged]) -> float:
    """Return the share of games in which all equivocators were found in time and lost their stake."""
    return sum(game.num_slashed == game.num_equivocators for game in games) / len(games)


def _mutants(mutants: Sequence[Mutant], seeds: int, outcome: Outcome) -> None:
    """Remove one guard after the other, and count those whose absence shows."""
    caught: dict[str, Mapping[str, object]] = {}
    for number, mutant in enumerate(mutants):
        caught[mutant.guard] = hunt(number, seeds)
        say(f'without "{mutant.guard}": {caught[mutant.guard]}')
    outcome.figures["mutants"] = len(mutants)
    outcome.figures["mutants_caught"] = sum(
        one["caught_after"] is not None for one in caught.values()
    )
    outcome.detail["mutants"] = caught


def _kills(kills: int, outcome: Outcome) -> None:
    """Kill a process that votes, again and again, and compare what it said with what it kept."""
    say(f"{kills} kills")
    verdict = kill_often(kills, seed=1)
    outcome.figures |= {
        "kills": kills,
        "double_votes": verdict.double_votes,
        "lost_acknowledged": verdict.lost_acknowledged,
    }
    outcome.detail["votes_acknowledged"] = verdict.acknowledged
    outcome.detail["memories_not_whole"] = verdict.not_whole
    outcome.detail["first_vote_s"] = spread(verdict.first_vote_s)
