"""Benchmark ``train``: gossip against everything else, at equal tokens, on a small model and real text.

Eight replicas of the S config live in one process (simulated.py) and learn Python's standard library. All
variants of one seed see the same text in the same order; seeds alternate (A B C ... A B C ...), one run per
core at a time. Tuned recipes (recipes.py) also run for 1,200 and 2,400 steps. ``--plot DIR`` draws loss curves
and the distance of each variant from NoLoCo, ``--only NAME,...`` takes these runs alone. ``--wan`` runs
real nodes instead (far.py), and nothing else.
"""

import tempfile
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import plots
from benchmarks.activation_reading import activation_detail, activation_figures
from benchmarks.common import Outcome
from benchmarks.far import FAR_KEYS, measure_far
from benchmarks.memory import measure_seat
from benchmarks.recipes import CHOSEN, CHOSEN_LONG, LONG, LONGEST, TUNED
from benchmarks.train_reading import PEARSON_POINTS, Reading, Runs
from benchmarks.train_workers import (
    STEPS_QUICK,
    TEXT_BYTES,
    TEXT_BYTES_QUICK,
    WINDOWS,
    WINDOWS_QUICK,
    Job,
    run_jobs,
    write_text,
)
from benchmarks.variants import (
    ACTIVATIONS,
    BATCH,
    CHECKPOINT_ROUNDS,
    EXTRAS,
    FIGURES,
    INNER_STEPS,
    LEARNING_RATE,
    LONG_STEPS,
    LONGEST_STEPS,
    PULL_ONLY_ROUNDS,
    REPLICAS,
    SEQ_LEN,
    STEPS,
    Variant,
    spec_of,
)
from swarm.training.model.stages import plan_stages

SEEDS, SEEDS_QUICK = (1, 2, 3), (1,)


@dataclass(frozen=True, slots=True)
class Size:
    """Amount of work."""

    seeds: tuple[int, ...]
    steps: int
    windows: int
    text_bytes: int
    variants: tuple[Variant, ...]
    long_steps: int
    longest_steps: int
    """0: none of them."""


FULL = Size(
    seeds=SEEDS,
    steps=STEPS,
    windows=WINDOWS,
    text_bytes=TEXT_BYTES,
    variants=FIGURES + EXTRAS + TUNED + ACTIVATIONS,
    long_steps=LONG_STEPS,
    longest_steps=LONGEST_STEPS,
)
MEMORY = "memory"
CHOICES = (MEMORY, *(variant.name for variant in (*FULL.variants, *LONG, *LONGEST)))
"""What ``--only`` chooses among: the memory of a seat, and the runs."""
QUICK = Size(
    seeds=SEEDS_QUICK,
    steps=STEPS_QUICK,
    windows=WINDOWS_QUICK,
    text_bytes=TEXT_BYTES_QUICK,
    variants=FIGURES + TUNED + ACTIVATIONS,
    long_steps=2 * STEPS_QUICK,
    longest_steps=0,
)


def measure(quick: bool, only: Collection[str] = CHOICES) -> Outcome:
    """Run every variant with every seed; quote medians over seeds."""
    size = QUICK if quick else FULL
    outcome = Outcome(_parameters(size))
    jobs = [job for job in _jobs(size) if job.variant in only]
    with tempfile.TemporaryDirectory(prefix="swarm-bench-") as name:
        folder = Path(name)
        write_text(folder, size.text_bytes, outcome)
        runs = Runs()
        for job, answer in run_jobs(folder, jobs, outcome):
            runs.setdefault(job.variant, []).append(answer)
    found = Reading(runs)
    outcome.figures |= found.figures() | activation_figures(runs)
    outcome.figures["memory_bytes_per_param"] = None
    if MEMORY in only:
        outcome.figures["memory_bytes_per_param"], outcome.detail["memory"] = measure_seat(quick)
    outcome.figures["seeds"] = len(size.seeds)
    outcome.detail |= found.detail() | {"activations": activation_detail(runs)}
    missing = [key for key, value in outcome.figures.items() if value is None]
    if missing:
        why = "a run failed, or was too short" if set(CHOICES) <= set(only) else "not in --only"
        outcome.detail["missing"] = f"{', '.join(missing)}: {why}"
    outcome.figures |= dict.fromkeys(FAR_KEYS)
    outcome.detail["far_reason"] = f"{', '.join(FAR_KEYS)}: only with --wan"
    return outcome


def measure_wan(quick: bool) -> Outcome:
    """Measure real nodes over far lines and under churn; all other figures are null."""
    outcome = measure_far(quick)
    others = Reading({}).figures() | activation_figures({})
    others |= {"seeds": None, "memory_bytes_per_param": None}
    outcome.figures |= dict.fromkeys(others)
    outcome.detail["others_reason"] = f"{', '.join(others)}: only without --wan"
    return outcome


def plot(outcome: Outcome, folder: Path) -> None:
    """Draw what ``measure`` found."""
    plots.draw_train(outcome.detail, folder)


def _jobs(size: Size) -> Iterable[Job]:
    """Yield every run: all variants of a seed, then the next seed; the long ones at last."""
    for seed in size.seeds:
        for variant in size.variants:
            yield Job(variant.name, seed, size.steps, size.windows)
    for seed in size.seeds:
        for variant in LONG:
            yield Job(variant.name, seed, size.long_steps, size.windows)
    for variant in LONGEST if size.longest_steps else ():
        yield Job(variant.name, size.seeds[0], size.longest_steps, size.windows)


def _parameters(size: Size) -> dict[str, object]:
    model = spec_of(FIGURES[0], 1, size.steps).model
    return {
        "replicas": REPLICAS,
        "parameters": sum(plan.num_parameters for plan in plan_stages(model, 1)),
        "steps": size.steps,
        "long_steps": size.long_steps,
        "longest_steps": size.longest_steps,
        "inner_steps": INNER_STEPS,
        "diloco_inner_steps": 2 * INNER_STEPS,
        "microbatch": [BATCH, SEQ_LEN],
        "learning_rate": LEARNING_RATE,
        "pull_only_rounds": PULL_ONLY_ROUNDS,
        "seeds": list(size.seeds),
        "heldout_windows": size.windows,
        "numerics": "native",
        "isolated": "mean of the replicas' own losses; all others: loss of the averaged model",
        "lost30": "of 100 pulls 30 fail, each drawn by itself; then a fallback partner is asked, once, and may"
        " fail as well; without one it is lost30_alone",
        "halfspeed": "half of the replicas take every second step: a quarter fewer tokens in as many"
        " steps; two rounds later they are seen to trail, and only pull; with a third more steps, and as"
        " many tokens, it is halfspeed_same_tokens; what so few"
        " tokens cost when no replica is slow, but the run is shorter, is fewer_steps",
        "churn25": "2 of 8 vanish at every round boundary; each newcomer adopts a replica's phi and its second"
        f" moments; from the newest checkpoint, one every {CHECKPOINT_ROUNDS} rounds, it is"
        " churn25_checkpoints; with one at every boundary, churn25_new_checkpoints",
        "std_lr_pearson": f"of {PEARSON_POINTS} points, evenly over the run; the first lies at its tenth"
        " part, the warm-up ends at its twentieth",
        "chosen": "recipes of benchmarks/recipes.py have what was best in scripts/bench tune, on other text and"
        " another seed; all others share one learning rate that is not tuned",
        "tuned": {name: dict(numbers) for name, numbers in CHOSEN.items()},
        "tuned_long": {name: dict(numbers) for name, numbers in CHOSEN_LONG.items()},
        "muon_gossip_bytes_per_param": "bytes that a replica sends, per parameter and inner step",
    }
