"""Benchmark ``verify``: what exact arithmetic costs, and on how many configurations it is one arithmetic.

``python -m benchmarks.verify KERNELS THREADS`` prints the hash of one short training instead: KERNELS is
``referee`` or an instruction set of the compiled kernels. The benchmark runs that in one process per
configuration, because torch chooses its own instruction set once, when it is loaded.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import torch
from torch import Tensor

from benchmarks.checking import measure_checking
from benchmarks.common import ROOT, Outcome, say, spread
from benchmarks.detection import measure_detection
from benchmarks.disputes import measure_disputes
from benchmarks.edge_frauds import measure_edge_frauds
from benchmarks.faults import measure_faults
from benchmarks.hearing_games import measure_hearings
from benchmarks.spots import measure_spots
from swarm.config.spec import MUON, NANO, ModelSpec, OptimizerSpec
from swarm.gossip.codecs.activations import from_wire, to_wire
from swarm.gossip.codecs.int8 import decode_int8, encode_int8
from swarm.primitives.codec import replace
from swarm.primitives.crypto import expand, fast_digest
from swarm.training.averaging.outer_step import (
    OuterScalars,
    OuterState,
    Partner,
    advanced,
    outer_step,
)
from swarm.training.model.exact import native, reference
from swarm.training.model.exact.operators import exact_ops
from swarm.training.model.optimizer import (
    GradientSum,
    OptimizerState,
    muon_matrices,
    optimizer_step,
)
from swarm.training.model.profiles import NATIVE, Ops, table
from swarm.training.model.stages import (
    Stage,
    init_flat,
    plan_stages,
    run_backward,
    run_forward,
    run_loss,
)

CAPABILITIES = ("default", "avx2", "avx512")
OPTIMIZER = OptimizerSpec(
    beta1_nano=900_000_000,
    beta2_nano=950_000_000,
    eps_nano=10,
    weight_decay_nano=100_000_000,
    clip_norm_nano=NANO,
    learning_rates_nano=(4_000_000,),
    learning_rate_stride=1,
)
WITH_MUON = replace(OPTIMIZER, name=MUON)
RATE = 0.004
SIZES = ((128, 4, 8), (256, 2, 16))
"""(hidden size, layers, sequences) of the steps that are timed, all with 128 positions."""
MUON_SIZES = ((128, 4, 16), (256, 2, 16))
"""The same for Muon against AdamW: 2,048 tokens a step, as its cost is in proportion to width over tokens."""


def measure(quick: bool) -> Outcome:
    """Time exact steps against native ones, alternating, and count the hashes of all configurations."""
    torch.set_num_threads(1)
    outcome = Outcome(parameters={"threads": 1, "seq_len": 128, "clock": "processor time"})
    _times(outcome, quick)
    measure_checking(outcome, quick)
    measure_faults(outcome, quick)
    measure_disputes(outcome, quick)
    measure_hearings(outcome, quick)
    measure_edge_frauds(outcome, quick)
    measure_detection(outcome, quick)
    _hashes(outcome, quick)
    measure_spots(outcome, quick)
    return outcome


# --- one number for a whole training ---


def trail(ops: Ops) -> str:
    """Return the digest of two short trainings, with AdamW and with Muon."""
    seen = [part for optimizer in (OPTIMIZER, WITH_MUON) for part in _trained(ops, optimizer)]
    return fast_digest("bench-trail", *seen).hex()[:16]


def _trained(ops: Ops, optimizer: OptimizerSpec) -> list[bytes]:
    """Return what two stages compute in two steps of two micro-batches and a merge with a partner."""
    model = a_model(48, 2, 16, kv_heads=2)
    stages = [Stage(plan, ops) for plan in plan_stages(model, 2)]
    states = [State(stage, optimizer) for stage in stages]
    seen = list[bytes]()
    for step in range(2):
        for part in range(2):
            tokens_BT = _tokens(2 * step + part, 2, 17, 256)
            inputs_BT, labels_BT = tokens_BT[:, :-1].contiguous(), tokens_BT[:, 1:].contiguous()
            passed = run_forward(stages[0], states[0].params_P, inputs_BT)
            up = to_wire(passed.output)
            received = from_wire(up, passed.output.shape)
            loss, grad, grad_P = run_loss(stages[1], states[1].params_P, received, labels_BT)
            assert grad is not None, "the second stage has inputs with a gradient"
            down = to_wire(grad)
            _, below_P = run_backward(passed, from_wire(down, grad.shape))
            states[0].gradients.add(below_P)
            states[1].gradients.add(grad_P)
            seen += [up, down, loss.hex().encode(), _bytes(below_P), _bytes(grad_P)]
        for state in states:
            state.step()
    for state in states:
        seen += [_bytes(x) for x in (*state.merged(), state.optimizer.m_P, state.optimizer.v_A)]
    return seen


@dataclass(slots=True)
class State:
    """One stage being trained; more than 32,768 values, so that torch uses all its threads."""

    stage: Stage
    spec: OptimizerSpec = OPTIMIZER
    params_P: Tensor = field(init=False)
    optimizer: OptimizerState = field(init=False)
    gradients: GradientSum = field(init=False)

    def __post_init__(self) -> None:
        self.params_P = init_flat(self.stage.plan, 1)
        matrices = muon_matrices(self.spec, self.stage.plan)
        self.optimizer = OptimizerState.zeros(self.params_P.numel(), matrices)
        self.gradients = GradientSum(self.params_P.numel())

    def step(self) -> None:
        """Take one optimizer step with the gradients that were added."""
        plan, mean_P = self.stage.plan, self.gradients.mean()
        matrices = muon_matrices(self.spec, plan)
        optimizer_step(
            self.stage.ops,
            self.params_P,
            mean_P,
            self.optimizer,
            RATE,
            self.spec,
            plan.decayed,
            matrices,
        )
        self.gradients.clear()

    def merged(self) -> tuple[Tensor, Tensor, Tensor]:
        """Slow weights, momentum and fast weights after a trade in int8 with a partner."""
        phi_P = init_flat(self.stage.plan, 1)
        theirs_P = init_flat(self.stage.plan, 2) * 0.125 + self.params_P
        wire = encode_int8(theirs_P, phi_P)
        partner = Partner(decode_int8(wire, phi_P, phi_P.numel()), 0.375)
        slow = OuterState(phi_P, torch.zeros_like(phi_P))
        slow = outer_step(slow, self.params_P, partner, OuterScalars(0.5, 0.7, 0.7))
        return slow.phi_F, slow.momentum_F, advanced(slow.phi_F, self.params_P, theirs_P)


def kernels_named(name: str) -> Ops:
    """Return the exact table over the reference or over one instruction set; raise ``NotBuilt`` without it."""
    return exact_ops(reference if name == "referee" else native.load(name))


def a_model(hidden: int, layers: int, times: int, *, kv_heads: int = 4) -> ModelSpec:
    """Return a small Llama with four heads."""
    return ModelSpec(
        vocab_size=256,
        hidden_size=hidden,
        num_layers=layers,
        num_heads=4,
        num_kv_heads=kv_heads,
        intermediate_size=hidden * 21 // 64 * 8,
        seq_len=times,
        rope_theta=10_000,
        norm_eps_nano=10_000,
    )


def _tokens(seed: int, rows: int, columns: int, vocabulary: int) -> Tensor:
    drawn = expand(seed.to_bytes(8, "big"), "bench-tokens", rows * columns)
    return torch.tensor([value % vocabulary for value in drawn]).view(rows, columns)


def _bytes(x: Tensor) -> bytes:
    return x.contiguous().numpy().tobytes()


# --- every configuration ---


def _hashes(outcome: Outcome, quick: bool) -> None:
    def one(where: tuple[str, int, str, str]) -> str:
        capability, threads, kernels, cbwr = where
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        if capability != "default":
            environment["ATEN_CPU_CAPABILITY"] = capability
        if cbwr != "auto":
            environment["MKL_CBWR"] = cbwr
        command = [sys.executable, "-m", "benchmarks.verify", kernels, str(threads)]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        answer = done.stdout.strip()
        say(f"torch {capability}, {threads} threads, MKL {cbwr}, {kernels}: {answer or 'failed'}")
        return answer or f"failed: {done.stderr.strip()[-300:]}"

    chosen = list(configurations(quick))
    with ThreadPoolExecutor(1 if quick else 2) as pool:
        answers = dict(zip(chosen, pool.map(one, chosen), strict=True))
    outcome.figures["distinct_hashes"] = len(set(answers.values()))
    outcome.figures["configurations"] = len(answers)
    outcome.detail["hashes"] = {
        f"torch {capability}, threads {threads}, {kernels}, MKL {cbwr}": answer
        for (capability, threads, kernels, cbwr), answer in answers.items()
    }


def configurations(quick: bool) -> Sequence[tuple[str, int, str, str]]:
    """(torch's instruction set, threads, kernels, MKL_CBWR) of each process."""
    built = [isa for isa in native.ISAS if _is_here(isa)]
    best = native.load().isa if built else "referee"
    if quick:
        return [("default", 1, best, "auto"), ("avx2", 2, "referee", "auto")]
    both = (best, "referee")
    grid = [(c, t, k, "auto") for c in CAPABILITIES for t in (1, 2) for k in both]
    grid += [("default", 1, k, "COMPATIBLE") for k in both]
    return grid + [("default", 1, isa, "auto") for isa in built if isa != best]


def _is_here(isa: str) -> bool:
    try:
        native.load(isa)
    except native.NotBuilt:
        return False
    return True


# --- what it costs ---


def _times(outcome: Outcome, quick: bool) -> None:
    repetitions = 3 if quick else 15
    outcome.parameters |= {"repetitions": repetitions, "sizes": [list(size) for size in SIZES]}
    ratios = list[float]()
    try:
        native.load()
    except native.NotBuilt as missing:
        outcome.detail["exact_over_native"] = outcome.detail["muon_over_adamw"] = str(missing)
        outcome.figures["muon_over_adamw"] = None
    else:
        _muon_times(outcome, quick, repetitions)
        for hidden, layers, sequences in SIZES[: 1 if quick else None]:
            model = a_model(hidden, layers, 128)
            steps = [_stepper(model, ops, sequences) for ops in (NATIVE, table("seq-f32/1"))]
            names = ("native_s", "exact_s")
            ratio = _alternate(outcome, f"d{hidden}", steps, repetitions, names)
            say(f"d = {hidden}: an exact step takes {ratio:.3f} of a native one")
            ratios.append(ratio)
    # The bar holds for every size, so the figure is the worst.
    outcome.figures["exact_over_native"] = round(max(ratios), 4) if ratios else None
    steps = [_stepper(a_model(64, 2, 32), ops, 4) for ops in (NATIVE, kernels_named("referee"))]
    names = ("native_s", "referee_s")
    ratio = _alternate(outcome, "d64_referee", steps, 1 if quick else 5, names)
    say(f"d = 64: a step by the reference takes {ratio:.0f} native ones")
    outcome.figures["referee_over_native"] = round(ratio, 2)


def _muon_times(outcome: Outcome, quick: bool, repetitions: int) -> None:
    """Time whole steps, forward and backward included, with Muon and with AdamW; the figure is the worst."""
    ops, ratios = table("seq-f32/1"), list[float]()
    for hidden, layers, sequences in MUON_SIZES[: 1 if quick else None]:
        model = a_model(hidden, layers, 128)
        steps = [_stepper(model, ops, sequences, spec) for spec in (OPTIMIZER, WITH_MUON)]
        names = ("adamw_s", "muon_s")
        ratio = _alternate(outcome, f"d{hidden}_muon", steps, repetitions, names)
        say(f"d = {hidden}: an exact step with Muon takes {ratio:.3f} of one with AdamW")
        ratios.append(ratio)
    outcome.figures["muon_over_adamw"] = round(max(ratios), 4)


def _stepper(
    model: ModelSpec, ops: Ops, sequences: int, optimizer: OptimizerSpec = OPTIMIZER
) -> Callable[[int], float]:
    """Return a function that takes step ``n`` and returns its processor seconds."""
    state = State(Stage(plan_stages(model, 1)[0], ops), optimizer)

    def step(number: int) -> float:
        tokens_BT = _tokens(number, sequences, model.seq_len + 1, model.vocab_size)
        inputs_BT, labels_BT = tokens_BT[:, :-1].contiguous(), tokens_BT[:, 1:].contiguous()
        began = time.thread_time()
        state.gradients.add(run_loss(state.stage, state.params_P, inputs_BT, labels_BT)[2])
        state.step()
        return time.thread_time() - began

    return step


def _alternate(
    outcome: Outcome,
    name: str,
    steps: Sequence[Callable[[int], float]],
    repetitions: int,
    keys: tuple[str, str],
) -> float:
    """Median of the second over median of the first, run in turns after one warm-up each."""
    taken: list[list[float]] = [[] for _ in steps]
    for number in range(repetitions + 1):
        for step, times in zip(steps, taken, strict=True):
            times.append(step(number))
    base, ours = (times[1:] for times in taken)
    outcome.detail[name] = {keys[0]: spread(base), keys[1]: spread(ours)}
    return statistics.median(ours) / statistics.median(base)


def main() -> int:
    """Print the hash of one configuration: this process's."""
    kernels, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    torch.set_flush_denormal(False)
    print(trail(kernels_named(kernels)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
