"""Recipes of training, as data, with the grid on which each is tuned: synchronous, DiLoCo, GASLoC, Muon.

``scripts/bench tune`` walks the grid of each recipe on the validation split and prints what is best there;
``CHOSEN`` is where those numbers belong, and ``scripts/bench train`` reports the recipes on the held-out split,
with other seeds. H is the steps of a round over its trades.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from benchmarks.variants import INNER_STEPS, Variant
from benchmarks.variants import VARIANTS as PLAIN_VARIANTS

ADAMW_RATES = (3e-3, 6e-3, 1.2e-2, 2.4e-2)
MUON_RATES = (0.02, 0.03, 0.05, 0.08)
MUON_LONG_RATES = (0.02, 0.03)
ADAMW_SHARES = (0.3, 1.0)
OUTER_MOMENTA = (0.3, 0.6, 0.8)
GASLOC_MOMENTA = (0.2, 0.5)
TUNING_SEED = 11
"""None of the seeds that are reported."""

Changes = Mapping[str, Any]
"""Fields of a variant, by name."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A variant, and the settings among which its best is looked for."""

    variant: Variant
    grid: tuple[Changes, ...]
    long_grid: tuple[Changes, ...] = ()
    """The same for the long run; empty: the recipe has none."""


def _grid(**choices: tuple[Any, ...]) -> tuple[Changes, ...]:
    return tuple(dict(zip(choices, values, strict=True)) for values in product(*choices.values()))


_ADAMW = _grid(learning_rate=ADAMW_RATES)
_MUON = _grid(learning_rate=MUON_RATES, adamw_rate=ADAMW_SHARES)
_MUON_LONG = _grid(learning_rate=MUON_LONG_RATES, adamw_rate=ADAMW_SHARES)
_GOSSIP = Variant(
    "muon_gossip",
    preset="gossip",
    optimizer="muon",
    trades=2,
    codec="int4-mean",
)
_DILOCO = Variant("diloco_tuned", "diloco", "diloco", nesterov=True)

RECIPES = (
    Recipe(Variant("sync_tuned", "sync"), _ADAMW, _grid(learning_rate=(6e-3, 1.2e-2))),
    Recipe(Variant("muon_sync", "sync", optimizer="muon"), _MUON, _MUON_LONG),
    Recipe(_DILOCO, _grid(learning_rate=ADAMW_RATES[1:3], alpha=OUTER_MOMENTA)),
    Recipe(
        replace(_DILOCO, name="diloco_tuned_2h", inner_steps=2 * INNER_STEPS),
        _grid(learning_rate=ADAMW_RATES[1:3], alpha=OUTER_MOMENTA),
    ),
    Recipe(Variant("noloco_tuned"), _ADAMW),
    Recipe(
        Variant("gasloc", "gasloc", "gossip"),
        _grid(learning_rate=ADAMW_RATES[1:], gamma=GASLOC_MOMENTA),
    ),
    Recipe(_GOSSIP, _MUON, _MUON_LONG),
    Recipe(replace(_GOSSIP, name="muon_gossip_fast", trades=5), _MUON, _MUON_LONG),
    Recipe(replace(_GOSSIP, name="muon_gossip_h1", trades=10), _MUON),
    Recipe(replace(_GOSSIP, name="muon_gossip_h10", trades=1), _MUON),
    Recipe(replace(_GOSSIP, name="muon_int3", trades=3, codec="int3-mean"), _MUON, _MUON_LONG),
    Recipe(replace(_GOSSIP, name="muon_int3_h10", trades=1, codec="int3-mean"), _MUON, _MUON_LONG),
    Recipe(replace(_GOSSIP, name="muon_noloco", preset="noloco"), _MUON),
)
"""Recipes with a grid of their own."""

CHOSEN: Mapping[str, Changes] = {
    "sync_tuned": {"learning_rate": 1.2e-2},
    "muon_sync": {"learning_rate": 0.03, "adamw_rate": 1.0},
    "diloco_tuned": {"learning_rate": 6e-3, "alpha": 0.6},
    "diloco_tuned_2h": {"learning_rate": 6e-3, "alpha": 0.6},
    "noloco_tuned": {"learning_rate": 6e-3},
    "gasloc": {"learning_rate": 6e-3, "gamma": 0.2},
    "muon_gossip": {"learning_rate": 0.05, "adamw_rate": 1.0},
    "muon_gossip_fast": {"learning_rate": 0.05, "adamw_rate": 1.0},
    "muon_gossip_h1": {"learning_rate": 0.05, "adamw_rate": 1.0},
    "muon_gossip_h10": {"learning_rate": 0.03, "adamw_rate": 1.0},
    "muon_int3": {"learning_rate": 0.05, "adamw_rate": 1.0},
    "muon_int3_h10": {"learning_rate": 0.03, "adamw_rate": 1.0},
    "muon_noloco": {"learning_rate": 0.03, "adamw_rate": 1.0},
}
"""What was best at 300 steps on the validation text; docs/benchmarks.md has every point that was walked."""
CHOSEN_LONG: Mapping[str, Changes] = {
    "sync_tuned": {"learning_rate": 6e-3},
    "muon_sync": {"learning_rate": 0.03, "adamw_rate": 1.0},
    "muon_gossip": {"learning_rate": 0.03, "adamw_rate": 1.0},
    "muon_gossip_fast": {"learning_rate": 0.03, "adamw_rate": 1.0},
    "muon_int3": {"learning_rate": 0.03, "adamw_rate": 1.0},
    "muon_int3_h10": {"learning_rate": 0.03, "adamw_rate": 1.0},
}
"""The same at 1,200 steps; the longest runs use it too."""


def chosen(name: str, *, is_long: bool = False) -> Variant:
    """Return a recipe with the numbers that were best on the validation text."""
    base = next(recipe.variant for recipe in RECIPES if recipe.variant.name == name)
    return replace(base, **(CHOSEN_LONG if is_long else CHOSEN)[name])


_TUNED = tuple(chosen(recipe.variant.name) for recipe in RECIPES)
_MUON_GOSSIP = chosen("muon_gossip")
TUNED = (
    *_TUNED,
    replace(_MUON_GOSSIP, name="muon_float32", codec="float32"),
    replace(_MUON_GOSSIP, name="muon_int8", codec="int8"),
    replace(_MUON_GOSSIP, name="muon_int4", codec="int4"),
    replace(_MUON_GOSSIP, name="muon_top2", codec="top2"),
    replace(_MUON_GOSSIP, name="muon_nesterov", alpha=0.3, beta=1.0, nesterov=True),
    replace(_MUON_GOSSIP, name="muon_momentum", alpha=0.3),
    replace(_MUON_GOSSIP, name="muon_beta07", beta=0.7),
    replace(_MUON_GOSSIP, name="muon_shorter_h", trades=1, trades_late=5),
    replace(_MUON_GOSSIP, name="muon_two_partners", trades=1, partners=2),
    replace(_MUON_GOSSIP, name="muon_moments", moments_every=5),
)
"""Recipes as chosen, and changes to ``muon_gossip`` at its own rate; in "detail" unless a key names them."""
LONG = tuple(replace(chosen(name, is_long=True), name=f"{name}_long") for name in CHOSEN_LONG)
LONGEST = tuple(replace(chosen(name, is_long=True), name=f"{name}_longest") for name in CHOSEN_LONG)
VARIANTS = PLAIN_VARIANTS | {variant.name: variant for variant in (*TUNED, *LONG, *LONGEST)}
"""Everything that a worker can run, by name."""
