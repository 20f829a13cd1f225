"""Measure what one cheat costs the final model at equal tokens and steps: held-out nats over the honest run's.

Eight replicas of the S model train on Python's standard library (adversary_swarm.py); one of them cheats in
``EXPOSED`` rounds in a row. In the *middle* it begins at a third of the run, is gone after them, and a newcomer
adopts an honest replica's state. *Late* they are the last rounds: nobody is convicted before the end, and the
cheat takes part in the final averaging. The run is a function of its seed: all runs of a seed are one until the
cheat begins, and each is compared with the same run without it.

``left_nats`` is of an honest replica that is gone at the same boundary: what a replica costs, and not its lies.
Who cheats with gradients or tokens sits in the last of two stages, and is compared with honest runs of two.

``few_`` figures are of four replicas of one stage: a quarter of all who train cheats there, and a replica that
only stops to train costs more of the whole.
"""

import statistics
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

import torch

from benchmarks.adversary_swarm import (
    ADVERSARIES,
    FINAL_ROUNDS,
    LEAVES,
    NOISE,
    RECIPE,
    CheatedSwarm,
    Ended,
    Exposure,
    Taken,
    Trunk,
)
from benchmarks.common import Outcome, cores, say
from benchmarks.train_workers import (
    TEXT_BYTES,
    TEXT_BYTES_QUICK,
    WINDOWS,
    WINDOWS_QUICK,
    write_text,
)
from benchmarks.variants import INNER_STEPS, REPLICAS, STEPS
from swarm.training.data.disk import open_tokens

EXPOSED = 3 + FINAL_ROUNDS
"""Rounds in which a cheat gives: a full one is found within three segments with .95 or more (``scripts/bench
verify``, detection_3_segments), and its verdict takes two rounds more."""
BAR_NATS = 0.02
"""The final model should be as close to that of the honest run."""
MIDDLE, LATE, HONEST = "middle", "late", "honest"
FEW = 4
"""Replicas of the smaller swarm."""
SWARMS = ((1, REPLICAS), (2, REPLICAS), (1, FEW))
"""Stages and replicas of the swarms that are played."""


@dataclass(frozen=True, slots=True)
class Size:
    """Amount of work."""

    seeds: tuple[int, ...]
    steps: int
    exposed: int
    windows: int
    text_bytes: int


FULL = Size((1, 2, 3), STEPS, EXPOSED, WINDOWS, TEXT_BYTES)
QUICK = Size((1,), 4 * INNER_STEPS, 1, WINDOWS_QUICK, TEXT_BYTES_QUICK)
"""Four rounds, of which a cheat has one."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run: who cheats, and when."""

    name: str
    when: str
    seed: int
    stages: int
    replicas: int
    ended: Ended


def measure(quick: bool) -> Outcome:
    """Run every adversary at both times with every seed; figures are means over seeds."""
    size = QUICK if quick else FULL
    outcome = Outcome(_parameters(size))
    jobs = [(*swarm, seed) for swarm in SWARMS for seed in size.seeds]
    workers = min(cores(), len(jobs))
    outcome.parameters["workers"] = workers
    with tempfile.TemporaryDirectory(prefix="swarm-bench-") as name:
        write_text(Path(name), size.text_bytes, outcome)
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            played = pool.map(play, *zip(*jobs, strict=True), repeat(size), repeat(name))
            runs = [run for part in played for run in part]
    read(runs, outcome)
    return outcome


def play(stages: int, replicas: int, seed: int, size: Size, folder: str) -> list[Run]:
    """Train an honest swarm to its end, then each other run from where a cheat begins in it."""
    torch.set_num_threads(1)
    train, heldout = (open_tokens(Path(folder) / name) for name in ("train", "heldout"))
    swarm = CheatedSwarm(stages, seed, size.steps, train, heldout, replicas)
    runs = list[Run]()
    for name, when, ended in _played(swarm, size):
        runs.append(Run(name, when, seed, stages, replicas, ended))
        say(f"{stages} x {replicas}, seed {seed}, {name} {when}: {ended.nats:.4f} nats")
    return runs


def begins_of(size: Size) -> dict[str, int]:
    """Return the round in which a cheat begins, by the time of cheating."""
    rounds = size.steps // INNER_STEPS
    return {MIDDLE: rounds // 3, LATE: rounds - size.exposed}


def _played(swarm: CheatedSwarm, size: Size) -> Iterator[tuple[str, str, Ended]]:
    """Yield each run of a swarm by its name and time, the honest one first."""
    at, trunks = 0, dict[str, Trunk]()
    for when, begin in begins_of(size).items():
        swarm.advance(at, begin * INNER_STEPS)
        at, trunks[when] = begin * INNER_STEPS, swarm.trunk()
    swarm.advance(at, size.steps)
    yield HONEST, "", swarm.end(size.windows)
    cheats = [adversary for adversary in ADVERSARIES if adversary.stages == len(swarm.stages)]
    for adversary in (LEAVES, *cheats):
        for when, begin in begins_of(size).items():
            if when == LATE and adversary is LEAVES:
                continue
            end = begin + size.exposed if when == MIDDLE else None
            swarm.branch(trunks[when], Exposure(adversary, begin, end))
            swarm.advance(begin * INNER_STEPS, size.steps)
            yield adversary.name, when, swarm.end(size.windows)


def read(runs: Sequence[Run], outcome: Outcome) -> None:
    """Fill in figures and detail; no run may have had other tokens than another of as many replicas."""
    many, few = ([run for run in runs if run.replicas == count] for count in (REPLICAS, FEW))
    costs, few_costs = _costs(many, "", outcome), _costs(few, "few_", outcome)
    cheats = [adversary.name for adversary in ADVERSARIES]
    figures = {f"{name}_nats": costs[MIDDLE][name] for name in cheats}
    figures |= _summary(costs, many) | {
        f"few_{key}": value for key, value in _summary(few_costs, few).items()
    }
    outcome.figures |= {key: round(value, 4) for key, value in figures.items()}
    for prefix, by_time in (("", costs), ("few_", few_costs)):
        outcome.detail[f"{prefix}late_nats"] = {
            name: round(cost, 4) for name, cost in by_time[LATE].items()
        }
        outcome.detail[f"{prefix}over_the_bar"] = [
            f"{name} {when}"
            for when, row in by_time.items()
            for name, cost in row.items()
            if name in cheats and cost > BAR_NATS
        ]


def _summary(costs: dict[str, dict[str, float]], runs: Sequence[Run]) -> dict[str, float]:
    honest = [run.ended.nats for run in runs if run.name == HONEST and run.stages == 1]
    cheats = {adversary.name for adversary in ADVERSARIES}
    return {
        "worst_nats": max(cost for name, cost in costs[MIDDLE].items() if name in cheats),
        "worst_late_nats": max(costs[LATE].values()),
        "honest_nats": statistics.fmean(honest),
        "left_nats": costs[MIDDLE][LEAVES.name],
    }


def _costs(runs: Sequence[Run], prefix: str, outcome: Outcome) -> dict[str, dict[str, float]]:
    """Return the mean cost over seeds by time and cheat, and write down what it is the mean of."""
    tokens = {run.ended.tokens for run in runs}
    assert len(tokens) == 1, "all runs see as many tokens"
    outcome.detail |= {f"{prefix}tokens": tokens.pop(), f"{prefix}tokens_equal": True}
    honest = {(run.stages, run.seed): run.ended.nats for run in runs if run.name == HONEST}
    for stages in {stages for stages, _ in honest}:
        label = "honest_by_seed" if stages == 1 else "honest_two_stages_by_seed"
        outcome.detail[prefix + label] = [
            round(v, 4) for (n, _), v in honest.items() if n == stages
        ]
    rows = dict[tuple[str, str, int], list[Run]]()
    for run in runs:
        if run.name != HONEST:
            rows.setdefault((run.name, run.when, run.stages), []).append(run)
    costs = dict[str, dict[str, float]]()
    for (name, when, stages), row in rows.items():
        by_seed = [run.ended.nats - honest[stages, run.seed] for run in row]
        worst = [run.ended.worst_replica_nats - honest[stages, run.seed] for run in row]
        label = f"{name}_two_stages" if name == LEAVES.name and stages == 2 else name
        costs.setdefault(when, {})[label] = statistics.fmean(by_seed)
        outcome.detail[f"{prefix}{label}_{when}"] = {
            "nats": round(statistics.fmean(by_seed), 4),
            "by_seed": [round(value, 4) for value in by_seed],
            "worst_replica_by_seed": [round(value, 4) for value in worst],
            "payloads_of_the_cheat": _summed([run.ended.from_cheat for run in row]),
            "in_the_final_averaging": _summed([run.ended.final for run in row]),
            "payloads_of_others": _summed([run.ended.others for run in row]),
        }
    return costs


def _summed(taken: Sequence[Taken]) -> dict[str, object]:
    """Return counts over all seeds, and the mean weight at which a payload was taken."""
    parts = [asdict(one) for one in taken]
    total = {key: sum(part[key] for part in parts) for key in ("payloads", "clipped", "declined")}
    weight = sum(one.weight for one in taken)
    return {**total, "mean_weight": round(weight / max(total["payloads"], 1), 4)}


def _parameters(size: Size) -> dict[str, object]:
    return {
        "replicas": REPLICAS,
        "few_replicas": FEW,
        "cheats": 1,
        "recipe": RECIPE,
        "steps": size.steps,
        "inner_steps": INNER_STEPS,
        "exposed_rounds": size.exposed,
        "begins_in_round": begins_of(size),
        "false_start_noise": NOISE,
        "bar_nats": BAR_NATS,
        "seeds": list(size.seeds),
        "heldout_windows": size.windows,
        "nats": "of the mean of the honest replicas after the final averaging, minus those of the honest run of"
        " the same seed and as many stages; means over seeds",
    }
