"""Read the runs of benchmark ``train``: its figures, the claims of the specification, every detail.

Pure functions of what the workers of ``benchmarks/train.py`` answered.
"""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.common import spread
from benchmarks.variants import FIGURES, REPLICAS

PEARSON_POINTS = 10
"""Distance and learning rate are compared at so many points, as when the bar of section 7 was set."""
WITHOUT_TRADES = ("isolated", "fixed_paths", "random_paths")
"""These never trade: what counts is the mean of the replicas' own losses, not the loss of their mean."""

RECIPE_KEYS = {
    "sync_tuned_nats": "sync_tuned",
    "muon_sync_nats": "muon_sync",
    "muon_gossip_nats": "muon_gossip",
    "muon_gossip_fast_nats": "muon_gossip_fast",
    "sync_tuned_long_nats": "sync_tuned_long",
    "muon_sync_long_nats": "muon_sync_long",
    "muon_gossip_long_nats": "muon_gossip_long",
    "muon_gossip_fast_long_nats": "muon_gossip_fast_long",
}
"""Keys of the tuned recipes, and the variants they are read off."""
GAPS = (
    ("muon_gossip", "sync_tuned"),
    ("muon_gossip_fast", "sync_tuned"),
    ("muon_gossip", "muon_sync"),
    ("muon_gossip_fast", "muon_sync"),
    ("diloco_tuned", "sync_tuned"),
    ("noloco_tuned", "sync_tuned"),
)
"""Pairs whose distance is told in nats and as a ratio of perplexities, per byte."""

Runs = dict[str, list[dict[str, Any]]]
"""Results of each variant, one entry per seed."""


@dataclass(slots=True)
class Reading:
    """The figures, read off the runs; None where a run is missing."""

    runs: Runs

    def nats(self, name: str) -> list[float]:
        """Held-out loss of each seed."""
        if name in WITHOUT_TRADES:
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

    def pearson(
        self, name: str, rounds: Callable[[list[float]], slice] | None = None
    ) -> list[float]:
        """Correlation of distance and learning rate, at ``PEARSON_POINTS`` points or at those of ``rounds``."""
        found = list[float]()
        for run in self.runs.get(name, []):
            if len(run["rates"]) >= PEARSON_POINTS:
                chosen = (rounds or _evenly)(run["rates"])
                found.append(float(np.corrcoef(run["stds"][chosen], run["rates"][chosen])[0, 1]))
        return found

    def figures(self) -> dict[str, object]:
        """Return the keys of docs/spec/figures.md."""
        named = [f"{variant.name}_nats" for variant in FIGURES]
        named = [key for key in named if key not in {"two_tensor_nats", "gamma0_nats"}]
        return {
            **{key: _median(self.nats(key.removesuffix("_nats"))) for key in named},
            **{key: _median(self.nats(name)) for key, name in RECIPE_KEYS.items()},
            "muon_gossip_bytes_per_param": _median(self.sent("muon_gossip")),
            "muon_gossip_fast_bytes_per_param": _median(self.sent("muon_gossip_fast")),
            "two_tensor_delta_nats": _median(self.minus("two_tensor", "noloco"), 6),
            "noloco_final_std": _median(self.final_stds("noloco"), 8),
            "gamma0_std_ratio": _median(self.std_ratios("gamma0", "noloco"), 3),
            "std_lr_pearson": _median(self.pearson("noloco")),
            "butterfly_std": _median([r["butterfly_std"] for r in self.runs.get("noloco", [])], 12),
        }

    def sent(self, name: str) -> list[float]:
        """Bytes that a replica sends, per parameter and inner step, by seed."""
        found = list[float]()
        for run in self.runs.get(name, []):
            found.append(run["wire_bytes"] / (REPLICAS * run["parameters"] * run["steps"]))
        return found

    def gaps(self) -> dict[str, dict[str, float | None]]:
        """Return the distances of ``GAPS`` at every length of the runs."""
        table = dict[str, dict[str, float | None]]()
        for length in ("", "_long", "_longest"):
            for mine, other in GAPS:
                nats = self.minus(mine + length, other + length)
                if nats:
                    middle = statistics.median(nats)
                    table[f"{mine}_minus_{other}{length}"] = {
                        "nats": round(middle, 4),
                        "ratio": round(math.exp(middle), 4),
                    }
        return table

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
            "lost30_alone_minus_noloco": (minus("lost30_alone", "noloco"), 0.03, True),
            "halfspeed_minus_noloco": (minus("noloco_halfspeed", "noloco"), 0.04, True),
            "halfspeed_same_tokens_minus_noloco": (
                minus("halfspeed_same_tokens", "noloco"),
                0.04,
                True,
            ),
            "fragments5_minus_noloco": (minus("noloco_fragments5", "noloco"), 0.01, True),
            "churn25_over_noloco": (self.over("noloco_churn25", "noloco"), 1.03, True),
            "churn25_checkpoints_over_noloco": (
                self.over("churn25_checkpoints", "noloco"),
                1.03,
                True,
            ),
            "churn25_new_checkpoints_over_noloco": (
                self.over("churn25_new_checkpoints", "noloco"),
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
        """Return every seed of every variant, the claims, and the curves."""
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
            for other in ("sync", "gossip", "diloco_same_h", "noloco_late10", "fewer_steps")
            if self.minus("noloco", other)
        }
        sent = {
            name: round(runs[0]["wire_bytes"] / runs[0]["wire_values"], 4)
            for name, runs in self.runs.items()
            if runs and runs[0]["wire_values"]
        }
        return {
            "claims": bars,
            "gaps": self.gaps(),
            "bytes_per_parameter_and_step": {
                name: round(statistics.median(values), 4)
                for name in self.runs
                if any(values := self.sent(name))
            },
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
            "std_lr_pearson_all_rounds": spread_small(
                self.pearson("noloco", lambda _: slice(None))
            ),
            "std_lr_pearson_after_warmup": spread_small(self.pearson("noloco", _after_warmup)),
            "std_by_round": _rounded(self.runs.get("noloco", []), "stds"),
            "rate_by_round": _rounded(self.runs.get("noloco", []), "rates"),
        }


def _evenly(rates: list[float]) -> slice:
    stride = len(rates) // PEARSON_POINTS
    return slice(stride - 1, None, stride)


def _after_warmup(rates: list[float]) -> slice:
    return slice(int(np.argmax(rates)) + 1, None)


def spread_small(values: list[float]) -> list[float]:
    """Four significant digits of what is far below one."""
    return [float(f"{value:.4g}") for value in values]


def _median(values: list[float], digits: int = 4) -> float | None:
    # The zero at the end makes -0.0 what a reader expects.
    return round(statistics.median(values), digits) + 0.0 if values else None


def _mean_curve(runs: list[dict[str, Any]]) -> list[tuple[int, float]]:
    """(step, held-out nats), the mean over seeds."""
    points = zip(*(run["curve"] for run in runs), strict=True)
    return [(at[0][0], round(statistics.fmean(nats for _, nats in at), 4)) for at in points]


def _rounded(runs: list[dict[str, Any]], key: str) -> list[list[float]]:
    return [spread_small(run[key]) for run in runs]
