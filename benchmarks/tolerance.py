"""Benchmark ``tolerance``: how far honest machines end apart in a window, and how far the smallest lies.

A *machine* is a process with its own instruction set, threads, mode of MKL and operators: all that changes bits
on one computer. Each trains two stages of a small model, with signed micro-batches between them, and keeps the
logs as a node does; every machine replays the windows of all others. A *lie* is the end that another arithmetic
gives for the log of the first machine.

``python -m benchmarks.tolerance train|replay MACHINE FOLDER`` is one machine.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from copy import copy
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.checking import Bench
from benchmarks.common import ROOT, Outcome, say
from swarm.config.spec import ADAMW, MUON, NANO, OptimizerSpec, RunSpec
from swarm.config.tolerance import ADAMW_BOUND, MUON_BOUND
from swarm.primitives import codec
from swarm.training import shard as shard_module
from swarm.training.data.dataset import TokenSource
from swarm.training.data.samples import draw_samples
from swarm.training.model.exact.operators import exact_ops
from swarm.training.model.exact.selftest import trusted_kernels
from swarm.training.model.operators import Ops
from swarm.training.model.optimizer import learning_rate
from swarm.training.model.profiles import BF16_NAME, table, table_on
from swarm.training.model.stages import Stage, plans_of
from swarm.training.plan import RoundPlan
from swarm.training.record.segment import MicrobatchId, ShardState
from swarm.training.record.window import (
    StepTaken,
    WindowData,
)
from swarm.training.record.window_bytes import (
    decode_window,
    encode_window,
)
from swarm.training.shard import Shard
from swarm.types import Digest, StageIndex
from swarm.verify.replay import Replay
from swarm.verify.tolerance import distance_of

STEPS = 40
MICROBATCHES = 4
NATIVE = "native"


@dataclass(frozen=True, slots=True)
class Machine:
    """What changes the bits of a process."""

    capability: str
    """Instruction set of torch's own kernels."""
    threads: int
    mkl: str
    """``MKL_CBWR``, or ``auto``."""
    kernels: str
    """``native``; ``fused``: torch's fused operators; ``split``: sums in four parts; ``exact``."""

    @property
    def name(self) -> str:
        """Name of a machine in a command line."""
        return f"{self.capability}-{self.threads}-{self.mkl}-{self.kernels}"

    @classmethod
    def named(cls, name: str) -> "Machine":
        """Return the machine of a name."""
        capability, threads, mkl, kernels = name.split("-")
        return cls(capability, int(threads), mkl, kernels)


MACHINES = (
    Machine("avx512", 1, "auto", "native"),
    Machine("default", 2, "COMPATIBLE", "split"),
    Machine("avx2", 1, "auto", "fused"),
    Machine("avx512", 2, "auto", "native"),
    Machine("avx2", 1, "auto", "native"),
    Machine("avx2", 2, "COMPATIBLE", "native"),
    Machine("default", 1, "COMPATIBLE", "native"),
    Machine("default", 2, "AVX", "native"),
    Machine("avx512", 1, "auto", "fused"),
    Machine("default", 2, "auto", "fused"),
    Machine("avx512", 1, "auto", "split"),
    Machine("avx512", 1, "auto", "exact"),
)
FEW = 3
"""Machines that are enough to see that no bound holds, and to measure lies: the first ones."""


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of run."""

    numerics: str
    optimizer: str
    width: int
    """Steps of a window."""
    bound: float | None

    @property
    def machines(self) -> tuple[Machine, ...]:
        """Machines that train it, and replay it for each other."""
        return MACHINES if self.bound is not None else MACHINES[:FEW]


CASES: Mapping[str, Case] = {
    "adamw": Case(NATIVE, ADAMW, 20, ADAMW_BOUND),
    "adamw_short": Case(NATIVE, ADAMW, 2, ADAMW_BOUND),
    "muon": Case(NATIVE, MUON, 20, MUON_BOUND),
    "muon_short": Case(NATIVE, MUON, 2, MUON_BOUND),
    "bf16_adamw": Case(BF16_NAME, ADAMW, 20, None),
    "bf16_muon": Case(BF16_NAME, MUON, 20, None),
}


def measure(quick: bool) -> Outcome:
    """Train on every machine, replay on every other one, and compare."""
    machines = MACHINES[:FEW] if quick else MACHINES
    outcome = Outcome({"machines": [machine.name for machine in machines], "steps": STEPS})
    found = list[dict[str, Any]]()
    with tempfile.TemporaryDirectory() as folder:
        for machine in machines:
            _child("train", machine, folder)
            say(f"{machine.name} has trained")
        for machine in machines:
            found += json.loads(_child("replay", machine, folder))
            say(f"{machine.name} has replayed the others")
    pairs = {(one["solver"], one["verifier"]) for one in found if one["what"] == HONEST}
    outcome.figures["pairs"] = len(pairs)
    checked = [one for one in found if CASES[one["case"]].bound is not None]
    rejected = [one for one in checked if one["distance"] > CASES[one["case"]].bound]
    outcome.figures["honest_windows"] = sum(one["what"] == HONEST for one in checked)
    outcome.figures["false_rejects"] = sum(one["what"] == HONEST for one in rejected)
    outcome.figures["lies"] = sum(one["what"] != HONEST for one in checked)
    outcome.figures["lies_caught"] = sum(one["what"] != HONEST for one in rejected)
    for case in CASES:
        told = defaultdict[str, list[float]](list)
        for one in found:
            if one["case"] == case:
                told[one["what"]].append(one["distance"])
        honest = max(told.pop(HONEST))
        least = {what: min(values) for what, values in told.items()}
        outcome.figures[f"{case}_honest_max"] = honest
        outcome.figures[f"{case}_lie_min"] = min(least.values())
        outcome.detail[case] = {"honest_max": honest, "lies_min": least}
        say(f"{case}: honest up to {honest:.1e}; lies from {min(least.values()):.1e}: {least}")
    return outcome


def _child(role: str, machine: Machine, folder: str) -> str:
    threads = str(machine.threads)
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    environment["ATEN_CPU_CAPABILITY"] = machine.capability
    if machine.mkl != "auto":
        environment["MKL_CBWR"] = machine.mkl
    command = [sys.executable, "-m", "benchmarks.tolerance", role, machine.name, folder]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{machine.name}: {done.stderr[-600:]}")
    return done.stdout


# --- the runs and the operators of a machine ---


@cache
def _text() -> Bench:
    return Bench(STEPS)


def bench_of(case: Case) -> tuple[Bench, RoundPlan]:
    """Return two stages of a small model, and their round."""
    bench = copy(_text())
    base = bench.spec
    rate = 4_000_000 if case.optimizer == ADAMW else 20_000_000
    model = codec.replace(
        base.model,
        hidden_size=64,
        num_heads=2,
        num_kv_heads=2,
        intermediate_size=128,
        seq_len=64,
    )
    optimizer = codec.replace(
        base.optimizer,
        name=case.optimizer,
        learning_rates_nano=(rate,),
        learning_rate_stride=1,
        adamw_rate_nano=NANO // 5,
    )
    bench.spec = codec.replace(
        base,
        numerics=case.numerics,
        inner_steps_max=STEPS,
        microbatches_per_step=MICROBATCHES,
        microbatch_size=4,
        model=model,
        optimizer=optimizer,
        outer=codec.replace(base.outer, codec="int8"),
        checks=codec.replace(base.checks, window_steps=case.width),
    )
    made = [Shard.initial(bench.spec, StageIndex(stage)) for stage in range(2)]
    bench.anchors = {one.anchor_root: one.anchor_P for one in made}
    return bench, bench.plan(bench.spec)


def ops_of(numerics: str, kernels: str) -> Ops:
    """Return the operators of a machine; in bfloat16 there are fused ones alone."""
    if numerics == BF16_NAME:
        ops = table_on(numerics, "cpu")
        narrow = torch.bfloat16
    else:
        ops = table_on(numerics, "cpu") if kernels == "fused" else table(numerics)
        narrow = torch.float32
        if kernels == "exact":
            return exact_ops(trusted_kernels().kernels)
    if kernels == "split":
        return replace(ops, linear=lambda x, w: _split_linear(x.to(narrow), w.to(narrow)))
    return ops


def _split_linear(x_ND: Tensor, weight_OD: Tensor) -> Tensor:
    """Multiply with sums that are cut into four and added from the end, as no kernel here does."""
    size = -(-x_ND.shape[1] // 4)
    pairs = zip(torch.split(x_ND, size, 1), torch.split(weight_OD, size, 1), strict=True)
    parts = [x @ w.t() for x, w in pairs]
    total = parts[-1]
    for part in parts[-2::-1]:
        total = total + part
    return total


@contextmanager
def operators(ops: Ops) -> Iterator[None]:
    """Let every shard compute with these operators."""

    def stage(spec: RunSpec, number: int, base_W: Tensor | None = None) -> Stage:
        return Stage(plans_of(spec)[number], ops, base_W)

    restore = "swarm.training.record.restore.stage_of"
    with patch.object(shard_module, "stage_of", stage), patch(restore, stage):
        yield


# --- lies: ends that another arithmetic gives for the same log ---

Lie = Callable[[Bench, RoundPlan, WindowData], ShardState]
HONEST = "honest"


def end_of(bench: Bench, plan: RoundPlan, data: WindowData) -> ShardState:
    """Return where a replay of a window ends."""
    machine = Replay(plan, data, bench.tokens, bench.anchors, is_forced=True)
    machine.run()
    return machine.shard.state()


def _middle(data: WindowData) -> int:
    steps = [event.step for event in data.events if isinstance(event, StepTaken)]
    return steps[len(steps) // 2]


def _skipped(bench: Bench, plan: RoundPlan, data: WindowData) -> ShardState:
    """Leave out one step of the window."""
    chosen, whole = _middle(data), Shard.step

    def step(self: Shard, plan: RoundPlan, number: int) -> object:
        state = (self.params_P, self.optimizer.m_P, self.optimizer.v_A)
        kept = [x.clone() for x in state]
        record = whole(self, plan, number)
        if number == chosen:
            for now, before in zip(state, kept, strict=True):
                now.copy_(before)
        return record

    with patch.object(Shard, "step", step):
        return end_of(bench, plan, data)


def _changed(change: Callable[[WindowData, StepTaken], StepTaken]) -> Lie:
    def lie(bench: Bench, plan: RoundPlan, data: WindowData) -> ShardState:
        events = tuple(change(data, e) if isinstance(e, StepTaken) else e for e in data.events)
        made = end_of(bench, plan, replace(data, events=events))
        assert data.end is not None, "a native log has its end"
        return replace(made, tokens_total=data.end.tokens_total)

    return lie


def _halved(_: WindowData, taken: StepTaken) -> StepTaken:
    half = taken.microbatches[: len(taken.microbatches) // 2]
    return codec.replace(taken, microbatches=half)


def _one_less(data: WindowData, taken: StepTaken) -> StepTaken:
    if taken.step != _middle(data):
        return taken
    return codec.replace(taken, microbatches=taken.microbatches[1:])


def _narrow(bench: Bench, plan: RoundPlan, data: WindowData) -> ShardState:
    """Compute products in bfloat16."""
    with operators(table_on(BF16_NAME, "cpu")):
        return end_of(bench, plan, data)


def _poisoned(bench: Bench, plan: RoundPlan, data: WindowData) -> ShardState:
    """Make one label of one micro-batch of one step another token."""
    step = _middle(data)

    def draw(
        tokens: TokenSource, plan: RoundPlan, microbatch_id: MicrobatchId
    ) -> tuple[Tensor, Tensor, Digest]:
        inputs_BT, labels_BT, root = draw_samples(tokens, plan, microbatch_id)
        if microbatch_id[1:] == (step, 0):
            labels_BT = labels_BT.clone()
            labels_BT[0, 7] = (labels_BT[0, 7] + 91) % 256
        return inputs_BT, labels_BT, root

    with patch.object(shard_module, "draw_samples", draw):
        return end_of(bench, plan, data)


def _faster(bench: Bench, plan: RoundPlan, data: WindowData) -> ShardState:
    """Raise the learning rate by one part in a hundred."""

    def rate(spec: OptimizerSpec, steps_max: int, round_index: int, step: int) -> float:
        return 1.01 * learning_rate(spec, steps_max, round_index, step)

    with patch.object(shard_module, "learning_rate", rate):
        return end_of(bench, plan, data)


LIES: Mapping[str, Lie] = {
    "skip_1": _skipped,
    "half_batch": _changed(_halved),
    "one_microbatch_less": _changed(_one_less),
    "bf16": _narrow,
    "bad_label": _poisoned,
    "rate": _faster,
}


def lies_in(case: Case, stage: int) -> Iterator[tuple[str, Lie]]:
    """Yield the lies that a stage can tell: labels are seen by the last, bfloat16 is a lie in float32."""
    for name, lie in LIES.items():
        if (name == "bad_label" and not stage) or (name == "bf16" and case.numerics == BF16_NAME):
            continue
        yield name, lie


# --- one machine ---


def train(machine: Machine, folder: Path) -> None:
    """Train every case, and write the logs of the first and the last window; the first machine lies, too."""
    for name, case in CASES.items():
        if machine not in case.machines:
            continue
        bench, plan = bench_of(case)
        with operators(ops_of(case.numerics, machine.kernels)):
            kept = list[WindowData]()
            bench.train(kept.append)
            for data in kept:
                if data.key.window not in {0, STEPS // case.width - 1}:
                    continue
                where = f"{name}|{machine.name}|{data.key.stage}|{data.key.window}"
                _write(folder / f"{where}|{HONEST}", data)
                if machine != MACHINES[0]:
                    continue
                for what, lie in lies_in(case, data.key.stage):
                    _write(folder / f"{where}|{what}", replace(data, end=lie(bench, plan, data)))


def _write(path: Path, data: WindowData) -> None:
    path.write_bytes(b"".join(encode_window(data)))


def replay(machine: Machine, folder: Path) -> list[dict[str, object]]:
    """Replay the logs of all other machines; the first few measure lies, too."""
    found = list[dict[str, object]]()
    benches = {name: bench_of(case) for name, case in CASES.items()}
    ends = dict[str, ShardState]()
    for path in sorted(folder.iterdir(), key=lambda one: one.name):
        where, _, what = path.name.rpartition("|")
        name, solver, stage, window = where.split("|")
        case, (bench, plan) = CASES[name], benches[name]
        is_few = what == HONEST or machine in MACHINES[:FEW]
        if solver == machine.name or machine not in case.machines or not is_few:
            continue
        data = decode_window(bench.spec, path.read_bytes())
        if where not in ends:
            with operators(ops_of(case.numerics, machine.kernels)):
                ends = {where: end_of(bench, plan, data)}
        assert data.end is not None, "a native log has its end"
        distance = distance_of(data.start, data.end, ends[where])
        row = {"case": name, "solver": solver, "stage": stage, "window": window, "what": what}
        found.append({**row, "verifier": machine.name, "distance": distance})
    return found


def main(arguments: Sequence[str]) -> int:
    """Be one machine."""
    role, machine, folder = arguments[0], Machine.named(arguments[1]), Path(arguments[2])
    torch.set_num_threads(machine.threads)
    # The fused attention of bfloat16 does not run below the processor's own instruction set.
    is_whole = machine.capability == "avx512"
    with nullcontext() if is_whole else sdpa_kernel(SDPBackend.MATH):
        if role == "train":
            train(machine, folder)
        else:
            print(json.dumps(replay(machine, folder)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
