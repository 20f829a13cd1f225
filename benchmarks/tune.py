"""Benchmark ``tune``: the grid of every recipe, on the validation text, with a seed that is not reported.

What is best here belongs into ``CHOSEN`` of recipes.py, which ``scripts/bench train`` reports.
"""

import tempfile
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from benchmarks.common import Outcome
from benchmarks.recipes import RECIPES, TUNING_SEED
from benchmarks.train_workers import (
    STEPS_QUICK,
    TEXT_BYTES,
    TEXT_BYTES_QUICK,
    WINDOWS,
    Job,
    run_jobs,
    write_text,
)
from benchmarks.variants import LONG_STEPS, STEPS

CHOICES = tuple(recipe.variant.name for recipe in RECIPES)


def measure(quick: bool, only: Collection[str] = CHOICES) -> Outcome:
    """Walk the grids, short runs first; figures are the best losses, the settings are in detail."""
    steps = (STEPS_QUICK, STEPS_QUICK) if quick else (STEPS, LONG_STEPS)
    outcome = Outcome({"steps": list(steps), "seed": TUNING_SEED, "split": "validation"})
    with tempfile.TemporaryDirectory(prefix="swarm-bench-") as name:
        folder = Path(name)
        write_text(folder, TEXT_BYTES_QUICK if quick else TEXT_BYTES, outcome)
        found = run_jobs(folder, [job for job in _jobs(*steps) if job.variant in only], outcome)
    outcome.detail["grid"] = table = _table(found)
    for key, rows in table.items():
        best = rows[0]
        outcome.figures[f"{key}_nats"] = best["nats"]
        outcome.detail[f"{key}_best"] = best
    return outcome


def _jobs(short: int, long: int) -> Iterable[Job]:
    lengths = (
        (short, [(recipe, recipe.grid) for recipe in RECIPES]),
        (long, [(recipe, recipe.long_grid) for recipe in RECIPES]),
    )
    for steps, grids in lengths:
        for recipe, grid in grids:
            for changes in grid:
                yield Job(
                    variant=recipe.variant.name,
                    seed=TUNING_SEED,
                    steps=steps,
                    heldout_windows=WINDOWS,
                    is_tuning=True,
                    changes=changes,
                )


def _table(found: Iterable[tuple[Job, dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Return the points of each recipe's grid, the best first."""
    table = dict[str, list[dict[str, Any]]]()
    for job, answer in found:
        key = f"{job.variant}_{job.steps}"
        row = {**job.changes, "nats": round(answer["nats"], 4)}
        table.setdefault(key, []).append(row)
    return {key: sorted(table[key], key=lambda row: row["nats"]) for key in sorted(table)}
