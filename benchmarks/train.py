"""Benchmark ``train``: NoLoCo against everything else, at equal tokens, on a small model and real text.

Eight replicas of the S config live in one process (simulated.py) and learn Python's standard library. All
variants of one seed see the same text in the same order; seeds alternate (A B C ... A B C ...), one run per
core at a time. ``--plot DIR`` draws loss curves and the distance of each variant from NoLoCo.
"""

import json
import os
import queue
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import plots
from benchmarks.common import ROOT, Outcome, say
from benchmarks.memory import measure_seat
from benchmarks.train_reading import PEARSON_POINTS, Reading, Runs
from benchmarks.variants import (
    BATCH,
    CHECKPOINT_ROUNDS,
    EXTRAS,
    FIGURES,
    INNER_STEPS,
    LEARNING_RATE,
    PULL_ONLY_ROUNDS,
    REPLICAS,
    SEQ_LEN,
    STEPS,
    Variant,
    spec_of,
)
from swarm.training.data.documents import stdlib_files
from swarm.training.data.samples import build_corpus
from swarm.training.model.stages import plan_stages

TEXT_BYTES, TEXT_BYTES_QUICK = 12_000_000, 2_000_000
SEEDS, SEEDS_QUICK = (1, 2, 3), (1,)
STEPS_QUICK = 20
WINDOWS, WINDOWS_QUICK = 256, 16
"""Held-out windows per measurement: 16,384 predictions, the same ones for all variants."""


@dataclass(frozen=True, slots=True)
class Size:
    """Amount of work."""

    seeds: tuple[int, ...]
    steps: int
    windows: int
    text_bytes: int
    variants: tuple[Variant, ...]


FULL = Size(SEEDS, STEPS, WINDOWS, TEXT_BYTES, FIGURES + EXTRAS)
QUICK = Size(SEEDS_QUICK, STEPS_QUICK, WINDOWS_QUICK, TEXT_BYTES_QUICK, FIGURES)


def measure(quick: bool) -> Outcome:
    """Run every variant with every seed; quote medians over seeds."""
    size = QUICK if quick else FULL
    outcome = Outcome(_parameters(size))
    with tempfile.TemporaryDirectory(prefix="swarm-bench-") as name:
        folder = Path(name)
        corpus = build_corpus(stdlib_files(), max_bytes=size.text_bytes, heldout_every=20)
        (folder / "train").write_bytes(corpus.train)
        (folder / "heldout").write_bytes(corpus.heldout)
        outcome.parameters |= {
            "train_bytes": len(corpus.train),
            "heldout_bytes": len(corpus.heldout),
        }
        runs = _run_all(folder, size, outcome)
    found = Reading(runs)
    outcome.figures |= found.figures()
    outcome.figures["memory_bytes_per_param"], outcome.detail["memory"] = measure_seat(quick)
    outcome.figures["seeds"] = len(size.seeds)
    outcome.detail |= found.detail()
    missing = [key for key, value in outcome.figures.items() if value is None]
    if missing:
        outcome.detail["missing"] = f"{', '.join(missing)}: a run failed, or was too short"
    return outcome


def plot(outcome: Outcome, folder: Path) -> None:
    """Draw what ``measure`` found."""
    plots.draw_train(outcome.detail, folder)


def _parameters(size: Size) -> dict[str, object]:
    model = spec_of(FIGURES[0], 1, size.steps).model
    return {
        "replicas": REPLICAS,
        "parameters": sum(plan.num_parameters for plan in plan_stages(model, 1)),
        "steps": size.steps,
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
        "chosen": "learning rate, H, micro-batch and steps are not tuned for any variant",
    }


def _run_all(folder: Path, size: Size, outcome: Outcome) -> Runs:
    """Run every variant and seed, one worker per core; a run that fails leaves its reason."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    workers = max(min(cores, 8), 1)
    outcome.parameters["workers"] = workers
    jobs: queue.SimpleQueue[tuple[str, int]] = queue.SimpleQueue()
    for seed in size.seeds:
        for variant in size.variants:
            jobs.put((variant.name, seed))
    found = dict[tuple[str, int], dict[str, Any]]()
    failures = list[str]()

    def work(_: int) -> None:
        with _worker(folder) as worker:
            while True:
                try:
                    name, seed = jobs.get_nowait()
                except queue.Empty:
                    break
                job: dict[str, object] = {"variant": name, "seed": seed, "steps": size.steps}
                answer = _request(worker, job | {"heldout_windows": size.windows})
                if answer is None:
                    failures.append(f"{name}, seed {seed}: the worker ended")
                    break
                found[name, seed] = answer
                say(
                    f"{name}, seed {seed}: {answer['nats']:.4f} nats, {answer['cpu_seconds']:.1f} s"
                )
            if worker.stdin is not None:
                worker.stdin.close()

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, range(workers)))
    if failures:
        outcome.detail["failures"] = failures
    return {
        variant.name: [
            found[variant.name, seed] for seed in size.seeds if (variant.name, seed) in found
        ]
        for variant in size.variants
    }


def _worker(folder: Path) -> subprocess.Popen[str]:
    args = [sys.executable, "-m", "benchmarks.simulated"]
    args += [str(folder / "train"), str(folder / "heldout")]
    return subprocess.Popen(
        args,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def _request(worker: subprocess.Popen[str], job: dict[str, object]) -> dict[str, Any] | None:
    """Run one variant in a worker; return None if the worker is gone."""
    assert worker.stdin is not None, "a worker is asked through a pipe"
    assert worker.stdout is not None, "a worker answers through a pipe"
    try:
        worker.stdin.write(json.dumps(job) + "\n")
        worker.stdin.flush()
    except BrokenPipeError:
        return None
    line = worker.stdout.readline()
    if not line:
        return None
    answer: dict[str, Any] = json.loads(line)
    return answer
