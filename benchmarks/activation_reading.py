"""Read what a compressed cut costs off the runs of benchmark ``train``: the variants ``ACTIVATIONS``.

Pure functions of what the workers of ``benchmarks/train.py`` answered.
"""

import math

from benchmarks.common import median
from benchmarks.train_reading import Reading, Runs
from benchmarks.variants import ACTIVATIONS, STEPS, spec_of

PLAIN = ACTIVATIONS[0].name
"""Everything crosses in bfloat16."""
QUOTED = ACTIVATIONS[1].name
"""The variant whose figures have keys of docs/spec/figures.md; the others are in "detail"."""


def activation_figures(runs: Runs) -> dict[str, float | None]:
    """Return ``activation_ratio`` and ``activation_bytes_over_d``; None where a run is missing."""
    return {
        "activation_ratio": median(perplexity_ratios(runs, QUOTED)),
        "activation_bytes_over_d": median(bytes_over_d(runs, QUOTED)),
    }


def activation_detail(runs: Runs) -> dict[str, object]:
    """Return ratio and size of every seed of every variant."""
    return {
        variant.name: {
            "perplexity_ratio": [
                round(ratio, 4) for ratio in perplexity_ratios(runs, variant.name)
            ],
            "bytes_over_d": [round(size, 4) for size in bytes_over_d(runs, variant.name)],
        }
        for variant in ACTIVATIONS
        if runs.get(variant.name)
    }


def perplexity_ratios(runs: Runs, name: str) -> list[float]:
    """Return the perplexity over that of the plain cut, seed by seed."""
    return [math.exp(nats) for nats in Reading(runs).minus(name, PLAIN)]


def bytes_over_d(runs: Runs, name: str) -> list[float]:
    """Return the bytes of a token over the cut, in one direction, over the hidden size."""
    width = spec_of(ACTIVATIONS[0], 1, STEPS).model.hidden_size
    found = [run for run in runs.get(name, []) if run.get("cut_tokens")]
    return [run["cut_bytes"] / run["cut_tokens"] / width for run in found]
