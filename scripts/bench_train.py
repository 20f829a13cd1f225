"""Benchmark ``train``: NoLoCo against everything else, at equal tokens, on a small model and real text.

Eight replicas of the S config live in one process (simulated.py) and learn Python's standard library. All
variants of one seed see the same text in the same order; seeds alternate (A B C ... A B C ...), one run per
core at a time. ``--plot DIR`` draws loss curves and the distance of each variant from NoLoCo.
"""

import json
import os
import queue
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scripts import plots
from scripts.bench_common import ROOT, Outcome, say, spread
from scripts.variants import (
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
from swarm.training.data import build_corpus
from swarm.training.data_files import stdlib_files
from swarm.training.stages import plan_stages

TEXT_BYTES, TEXT_BYTES_QUICK = 12_000_000, 2_000_000
SEEDS, SEEDS_QUICK = (1, 2, 3), (1,)
STEPS_QUICK = 20
WINDOWS, WINDOWS_QUICK = 256, 16
"""Held-out windows per measurement: 16,384 predictions, the same ones for everybody."""
ROUNDS_MIN = 3
"""Fewer points have a correlation by accident."""
ALONE = ("isolated", "fixed_paths", "random_paths")
"""These never trade: what counts is the mean of the replicas' own losses, not the loss of their mean."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is run."""

    seeds: tuple[int, ...]
    steps: int
    windows: int
    text_bytes: int
    variants: tuple[Variant, ...]


FULL = Size(SEEDS, STEPS, WINDOWS, TEXT_BYTES, FIGURES + EXTRAS)
QUICK = Size(SEEDS_QUICK, STEPS_QUICK, WINDOWS_QUICK, TEXT_BYTES_QUICK, FIGURES)

Runs = dict[str, list[dict[str, Any]]]
"""What each variant showed, one entry per seed."""


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
    outcome.figures["seeds"] = len(size.seeds)
    outcome.detail |= found.detail()
    missing = [key for key, value in outcome.figures.items() if value is None]
    if missing:
        outcome.detail["missing"] = f"{', '.join(missing)}: a run failed, or was too short"
    return outcome


def plot(outcome: Outcome, folder: Path) -> None:
    """Draw what ``measure`` found."""
    plots.draw_train(outcome.detail, folder)


@dataclass(slots=True)
class Reading:
    """The figures, read off the runs; None where a run is missing."""

    runs: Runs

    def nats(self, name: str) -> list[float]:
        """Held-out loss of each seed."""
        if name in ALONE:
            return [statistics.fmean(run["replica_nats"]) for run in self.runs.get(name, [])]
        return [run["nats"] for run in self.runs.get(name, [])]

    def minus(self, name: str, other: str) -> list[float]:
        """Difference of the losses, seed by seed."""
        return self.paired(name, other, lambda a, b: a - b)

    def over(self, name: str, other: str) -> list[float]:
        """Ratio of the losses, seed by seed."""
        return self.paired(name, other, lambda a, b: a / b)

    def paired(self, name: str, other: str, how: Callable[[float, float], float]) -> list[float]:
        """Both variants of one seed, put together."""
        mine, theirs = self.nats(name), self.nats(other)
        return [how(a, b) for a, b in zip(mine, theirs, strict=False)]

    def final_stds(self, name: str) -> list[float]:
        """Distance of the replicas after the last outer step."""
        return [run["stds"][-1] for run in self.runs.get(name, [])]

    def std_ratios(self, name: str, other: str) -> list[float]:
        """Ratio of the final distances, seed by seed."""
        pairs = zip(self.final_stds(name), self.final_stds(other), strict=False)
        return [a / b for a, b in pairs if b > 0]

    def pearson(self, name: str, *, from_first: bool = False) -> list[float]:
        """Correlation of distance and learning rate over the rounds after the warm-up, or over all."""
        found = list[float]()
        for run in self.runs.get(name, []):
            first = 0 if from_first else int(np.argmax(run["rates"])) + 1
            stds, rates = run["stds"][first:], run["rates"][first:]
            if len(stds) >= ROUNDS_MIN:
                found.append(float(np.corrcoef(stds, rates)[0, 1]))
        return found

    def figures(self) -> dict[str, object]:
        """The keys of docs/spec/figures.md."""
        named = [f"{variant.name}_nats" for variant in FIGURES]
        named = [key for key in named if key not in {"two_tensor_nats", "gamma0_nats"}]
        return {
            **{key: _median(self.nats(key.removesuffix("_nats"))) for key in named},
            "two_tensor_delta_nats": _median(self.minus("two_tensor", "noloco"), 6),
            "noloco_final_std": _median(self.final_stds("noloco"), 8),
            "gamma0_std_ratio": _median(self.std_ratios("gamma0", "noloco"), 3),
            "std_lr_pearson": _median(self.pearson("noloco")),
            "butterfly_std": _median([r["butterfly_std"] for r in self.runs.get("noloco", [])], 12),
        }

    def claims(self) -> dict[str, tuple[list[float], float, bool]]:
        """Section 7 of docs/spec/training.md: (values, bar, whether the bar is a ceiling)."""
        minus = self.minus
        return {
            "noloco_minus_diloco_2h": (minus("noloco", "diloco"), 0.02, True),
            "noloco_minus_isolated": (minus("noloco", "isolated"), -0.06, True),
            "gamma0_std_ratio": (self.std_ratios("gamma0", "noloco"), 10.0, False),
            "std_lr_pearson": (self.pearson("noloco"), 0.85, False),
            "two_tensors_distance": ([abs(x) for x in minus("two_tensor", "noloco")], 0.003, True),
            "int8_distance": ([abs(x) for x in minus("noloco_int8", "noloco")], 0.006, True),
            "int4_distance": ([abs(x) for x in minus("noloco_int4", "noloco")], 0.012, True),
            "lost30_minus_noloco": (minus("noloco_lost30", "noloco"), 0.03, True),
            "halfspeed_minus_noloco": (minus("noloco_halfspeed", "noloco"), 0.04, True),
            "halfspeed_same_steps_minus_noloco": (
                minus("halfspeed_same_steps", "noloco"),
                0.04,
                True,
            ),
            "fragments5_minus_noloco": (minus("noloco_fragments5", "noloco"), 0.01, True),
            "churn25_over_noloco": (self.over("noloco_churn25", "noloco"), 1.03, True),
            "churn25_old_checkpoints_over_noloco": (
                self.over("churn25_old_checkpoints", "noloco"),
                1.03,
                True,
            ),
            "butterfly_std": (
                [r["butterfly_std"] for r in self.runs.get("noloco", [])],
                1e-6,
                True,
            ),
            "random_paths_std_ratio": (self.std_ratios("random_paths", "fixed_paths"), 0.95, True),
            "random_paths_loss_ratio": (self.over("random_paths", "fixed_paths"), 1.03, True),
        }

    def detail(self) -> dict[str, object]:
        """Every seed of everything, the claims, and the curves."""
        bars = dict[str, object]()
        for claim, (values, bar, is_ceiling) in self.claims().items():
            if values:
                middle = statistics.median(values)
                holds = middle <= bar if is_ceiling else middle >= bar
                bars[claim] = {
                    "median": round(middle, 6),
                    "bar": bar,
                    "holds": holds,
                    "n": len(values),
                }
        nats = {name: spread(self.nats(name)) for name in self.runs}
        compared = {
            f"noloco_minus_{other}": spread(self.minus("noloco", other))
            for other in ("sync", "gossip", "diloco_same_h", "noloco_late10")
            if self.minus("noloco", other)
        }
        sent = {
            name: round(runs[0]["wire_bytes"] / runs[0]["wire_values"], 4)
            for name, runs in self.runs.items()
            if runs and runs[0]["wire_values"]
        }
        return {
            "claims": bars,
            "nats": nats,
            "compared": compared,
            "bytes_per_parameter_and_trade": sent,
            "final_std": {name: spread_small(self.final_stds(name)) for name in self.runs},
            "tokens": {name: [run["tokens"] for run in runs] for name, runs in self.runs.items()},
            "trades_lost": {n: [run["lost"] for run in runs] for n, runs in self.runs.items()},
            "cpu_seconds": {
                n: [round(run["cpu_seconds"], 1) for run in runs] for n, runs in self.runs.items()
            },
            "curves": {n: _mean_curve(runs) for n, runs in self.runs.items() if runs},
            "std_lr_pearson_all_rounds": spread_small(self.pearson("noloco", from_first=True)),
            "std_by_round": _rounded(self.runs.get("noloco", []), "stds"),
            "rate_by_round": _rounded(self.runs.get("noloco", []), "rates"),
        }


def spread_small(values: list[float]) -> list[float]:
    """Four significant digits of what is far below one."""
    return [float(f"{value:.4g}") for value in values]


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
        "halfspeed": "a third more rounds, so that all replicas together see as many tokens; with as many"
        " steps as the others, and a quarter fewer tokens, it is halfspeed_same_steps",
        "churn25": "2 of 8 vanish at every round boundary; newcomers start from its checkpoint; with a"
        f" checkpoint every {CHECKPOINT_ROUNDS} rounds it is churn25_old_checkpoints",
        "std_lr_pearson": "over the rounds after the warm-up",
        "chosen": "learning rate, H, micro-batch and steps are not tuned for any variant",
    }


def _run_all(folder: Path, size: Size, outcome: Outcome) -> Runs:
    """Every variant and seed through one worker per core; a run that fails leaves its reason."""
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
                job = {"variant": name, "seed": seed, "steps": size.steps}
                answer = _ask(worker, job | {"heldout_windows": size.windows})
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
    words = [sys.executable, "-m", "scripts.simulated"]
    words += [str(folder / "train"), str(folder / "heldout")]
    return subprocess.Popen(
        words,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def _ask(worker: subprocess.Popen[str], job: dict[str, object]) -> dict[str, Any] | None:
    """One run in a worker; None when the worker is gone."""
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


def _median(values: list[float], digits: int = 4) -> float | None:
    # The zero at the end makes -0.0 what a reader expects.
    return round(statistics.median(values), digits) + 0.0 if values else None


def _mean_curve(runs: list[dict[str, Any]]) -> list[tuple[int, float]]:
    """(step, held-out nats), the mean over seeds."""
    points = zip(*(run["curve"] for run in runs), strict=True)
    return [(at[0][0], round(statistics.fmean(nats for _, nats in at), 4)) for at in points]


def _rounded(runs: list[dict[str, Any]], key: str) -> list[list[float]]:
    return [spread_small(run[key]) for run in runs]
