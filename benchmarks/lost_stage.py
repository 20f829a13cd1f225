"""A pipeline stage that loses all its replicas in the middle of a run: which weights should it go on from?

Eight replicas of three stages train by ``muon_gossip`` (recipes.py). At half of the run the middle stage is
gone, and starts again from each source in turn; the first half is trained once for all of them. The join
transform of docs/spec/protocol.md section 5 holds: moments, momentum and residual are zero, as for anybody who
begins from a checkpoint.

``mean`` is CheckFree (arXiv 2506.15461): each tensor of a lost layer is the mean of the same tensor in the
stages before and behind. ``identity`` is the initial weights, with nothing added to what comes from below.
"""

import copy
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.common import Outcome, median, say, spread
from benchmarks.recipes import chosen
from benchmarks.replicas import Seat
from benchmarks.simulated import Offered, Swarm
from benchmarks.train_workers import (
    STEPS_QUICK,
    TEXT_BYTES,
    TEXT_BYTES_QUICK,
    WINDOWS,
    WINDOWS_QUICK,
    write_text,
)
from benchmarks.variants import REPLICAS, STEPS, Variant
from swarm.training.data.disk import open_tokens
from swarm.training.model.optimizer import OptimizerState
from swarm.training.model.stages import init_flat

STAGES, LOST = 3, 1
"""The model has three layers, one a stage: the lost one has a neighbour on both sides."""
INNER_STEPS = 5
"""A round is short, so that weights of few rounds ago can be had; the pairs trade once in it."""
SEEDS, SEEDS_QUICK = (1, 2), (1,)
AGES = (4, 10, 20)
"""Rounds that own weights are old."""
CURVE_STEPS = (10, 50)
"""Steps after the loss at which the model is measured, beside the end."""
OUTPUTS = (".o_proj.weight", ".down_proj.weight")
"""Names of the matrices that write to the residual stream end so."""


@dataclass(frozen=True, slots=True)
class Kept:
    """State of a swarm at one boundary."""

    seats: list[list[Seat]]
    anchors: list[Tensor]
    offered: list[Offered]


class LosingSwarm(Swarm):
    """Replicas of several stages, of which one is lost."""

    def __init__(self, seed: int, steps: int, folder: Path) -> None:
        train, heldout = (open_tokens(folder / name) for name in ("train", "heldout"))
        super().__init__(_variant(), seed, steps, train, heldout)
        self.seed = seed
        self.history = list[Tensor]()
        """Slow weights of the first replica of the stage that is to be lost, at each boundary."""

    def train_steps(self, steps: Iterable[int]) -> None:
        """Take these steps of the run."""
        for step in steps:
            if step % self.variant.inner_steps == 0:
                self.history.append(self.seats[LOST][0].phi_P.clone())
            self.take(step)

    def kept(self) -> Kept:
        """Return a copy of the state that training changes."""
        return Kept(*copy.deepcopy((self.seats, self.anchors, self._offered)))

    def restore(self, kept: Kept) -> None:
        """Go back to a state."""
        self.seats, self.anchors, self._offered = copy.deepcopy(
            (kept.seats, kept.anchors, kept.offered)
        )

    def lose(self, start_P: Tensor) -> None:
        """Let every replica of the lost stage begin again from these weights, and trade against them."""
        self.anchors[LOST] = start_P.clone()
        for seat in self.seats[LOST]:
            seat.params_P, seat.phi_P = start_P.clone(), start_P.clone()
            seat.momentum_P, seat.residual_P = torch.zeros_like(start_P), torch.zeros_like(start_P)
            seat.optimizer = OptimizerState.zeros(start_P.numel(), self._matrices[LOST])

    def sources(self) -> dict[str, Tensor]:
        """Return the weights that the stage may start from, by name."""
        ages = [age for age in AGES if age <= len(self.history)]
        return {
            "initial": init_flat(self.stages[LOST].plan, self.seed),
            "identity": self._identity(),
            **{f"own_{age}": self.history[-age] for age in ages},
            "mean": (self._neighbour(LOST - 1) + self._neighbour(LOST + 1)) / 2,
        }

    def _identity(self) -> Tensor:
        start_P = init_flat(self.stages[LOST].plan, self.seed)
        for name, tensor in self.stages[LOST].plan.named(start_P).items():
            if name.endswith(OUTPUTS):
                tensor.zero_()
        return start_P

    def _neighbour(self, stage: int) -> Tensor:
        """Return the slow weights of a replica of another stage, laid out as those of the lost one."""
        mine, plan = self.stages[LOST].plan, self.stages[stage].plan
        theirs = plan.named(self.seats[stage][0].phi_P)
        here, there = f"layers.{mine.first_layer}.", f"layers.{plan.first_layer}."
        names = [part.name for part in mine.tensors]
        return mine.flat({name: theirs[name.replace(here, there)] for name in names})


def _variant() -> Variant:
    return replace(chosen("muon_gossip"), inner_steps=INNER_STEPS, trades=1, stages=STAGES)


def measure(quick: bool) -> Outcome:
    """Lose the stage once with every source and seed; quote medians over seeds."""
    seeds, steps = (SEEDS_QUICK, 2 * STEPS_QUICK) if quick else (SEEDS, STEPS)
    num_windows = WINDOWS_QUICK if quick else WINDOWS
    outcome = Outcome(
        {
            "replicas": REPLICAS,
            "stages": STAGES,
            "lost_stage": LOST,
            "lost_at_step": steps // 2,
            "steps": steps,
            "inner_steps": INNER_STEPS,
            "seeds": list(seeds),
            "own": "slow weights of one replica, so many rounds before the loss",
            "mean": "of the neighbour stages' layers (CheckFree)",
        }
    )
    torch.set_num_threads(1)
    found = dict[str, list[list[float]]]()
    with tempfile.TemporaryDirectory(prefix="swarm-bench-") as name:
        folder = Path(name)
        write_text(folder, TEXT_BYTES_QUICK if quick else TEXT_BYTES, outcome)
        for seed in seeds:
            for source, curve in _curves(LosingSwarm(seed, steps, folder), num_windows):
                found.setdefault(source, []).append(curve)
    outcome.figures |= {f"lost_{source}_nats": median(_at(found[source], -1)) for source in found}
    outcome.detail |= {
        source: {
            label: spread(_at(curves, number))
            for number, label in enumerate(["at_once", *(f"after_{n}" for n in CURVE_STEPS), "end"])
        }
        for source, curves in found.items()
    }
    return outcome


def _at(curves: list[list[float]], number: int) -> list[float]:
    return [curve[number] for curve in curves]


def _curves(swarm: LosingSwarm, num_windows: int) -> Iterator[tuple[str, list[float]]]:
    """Yield each source and the held-out nats at once, after ``CURVE_STEPS`` and at the end."""
    middle = swarm.steps // 2 // INNER_STEPS * INNER_STEPS
    swarm.train_steps(range(middle))
    kept = swarm.kept()
    starts = swarm.sources()
    for name in ("clean", *starts):
        began = time.process_time()
        swarm.restore(kept)
        if name in starts:
            swarm.lose(starts[name])
        at, curve = middle, [swarm.nats(swarm.mean(), num_windows)]
        for stop in (*(middle + steps for steps in CURVE_STEPS), swarm.steps):
            swarm.train_steps(range(at, min(stop, swarm.steps)))
            at = min(stop, swarm.steps)
            curve.append(swarm.nats(swarm.mean(), num_windows))
        used_s = time.process_time() - began
        shown = ", ".join(f"{nats:.4f}" for nats in curve)
        say(f"seed {swarm.seed}, {name}: {shown} nats ({used_s:.0f} s)")
        yield name, curve
