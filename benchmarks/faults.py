"""Count the random faults that one element shows: a part of the benchmark ``verify``.

A fault flips one bit of one value of one node of a program, a micro-batch's or an update's, and goes on from
there. It is pinned if the first node in which the two traces differ is that node, the reveal of the element out
of the false trace is judged false, and that of the honest one true. The stages are those of a small model; what
is revealed, and how long a judge takes, is for elements drawn the same way at the demo's shapes.
"""

import random
import time
from collections.abc import Mapping
from math import prod

import numpy as np
import torch
from torch import Tensor

from benchmarks.checking import DEMO
from benchmarks.common import Outcome, say, spread
from swarm.config.load import parse_run_file, planned_spec
from swarm.config.resources import packaged_file
from swarm.config.spec import MUON, RunSpec
from swarm.gossip.codecs.activations import to_wire
from swarm.primitives.codec import encode, replace
from swarm.primitives.merkle import merkle_root
from swarm.training.model.exact.operators import rotary_tables
from swarm.training.model.exact.selftest import trusted_kernels
from swarm.training.model.llama import head_width
from swarm.training.model.optimizer import num_second_moments
from swarm.training.model.stages import init_flat, plans_of
from swarm.types import RoundIndex, StageIndex
from swarm.verify.program.microbatch import microbatch_program
from swarm.verify.program.nodes import INPUT, Program
from swarm.verify.program.reveal import computed, reveal, value_bytes, value_roots
from swarm.verify.program.update import StepNumbers, update_program

FAULTS, QUICK_FAULTS = 120, 12
REVEALS, QUICK_REVEALS = 24, 1
Given = Mapping[str, Tensor]


def measure_faults(outcome: Outcome, quick: bool) -> None:
    """Fill ``faults`` and ``faults_pinned``."""
    rng = random.Random(7)
    demo = planned_spec(parse_run_file(packaged_file(DEMO), DEMO))
    programs = _programs(_small(demo), rng)
    faults = QUICK_FAULTS if quick else FAULTS
    pinned = sum(_is_pinned(*programs[number % len(programs)], rng) for number in range(faults))
    outcome.figures |= {"faults": faults, "faults_pinned": pinned}
    sizes, seconds = list[int](), list[float]()
    program, given = _microbatch(demo, StageIndex(demo.num_stages - 1), rng)
    values = program.run(trusted_kernels().kernels, given)
    roots = value_roots(program, values)
    root = merkle_root(roots)
    for _ in range(QUICK_REVEALS if quick else REVEALS):
        number, place = _somewhere(program, values, rng)
        shown = reveal(program, values, roots, number, place)
        began = time.thread_time()
        right = computed(program, root, shown)
        assert right is not None, "an honest trace has no NaN"
        assert value_bytes(right) == _element(values, number, place), "an honest element stands"
        seconds.append(time.thread_time() - began)
        sizes.append(len(encode(shown)))
    outcome.detail["faults"] = {
        "nodes": [len(program.nodes) for program, _ in programs],
        "demo_nodes": len(program.nodes),
        "reveal_bytes": spread(sizes),
        "judge_s": spread(seconds),
    }
    say(
        f"{pinned} of {faults} faults pinned; a judge of the demo's largest reveal reads {max(sizes):,} bytes"
    )


def _small(demo: RunSpec) -> RunSpec:
    model = replace(
        demo.model,
        hidden_size=48,
        num_heads=4,
        num_kv_heads=2,
        intermediate_size=96,
        seq_len=16,
        num_layers=2,
    )
    return replace(demo, model=model, num_stages=2, microbatch_size=2)


def _programs(spec: RunSpec, rng: random.Random) -> list[tuple[Program, Given]]:
    """Return the micro-batches of both stages, and the updates of both optimizers."""
    found = [_microbatch(spec, StageIndex(stage), rng) for stage in (0, 1)]
    for name in ("adamw", MUON):
        optimizer = replace(spec.optimizer, name=name)
        found.append(_update(replace(spec, optimizer=optimizer), StageIndex(1), rng))
    return found


def _microbatch(spec: RunSpec, stage: StageIndex, rng: random.Random) -> tuple[Program, Given]:
    program, plan, model = microbatch_program(spec, stage), plans_of(spec)[stage], spec.model
    generator = torch.Generator().manual_seed(rng.getrandbits(32))
    cos, sin = rotary_tables(model.seq_len, head_width(model), model.rope_theta, model.rope)
    known = {"params": init_flat(plan, 1), "cos": cos, "sin": sin}
    for name in {"entry_wire", "pull_wire"} & set(program.inputs):
        rows = model.seq_len * spec.microbatch_size
        x = 0.1 * torch.randn(rows, plan.signal_width, generator=generator)
        wire = to_wire(x, spec.wire.activations)
        known[name] = torch.from_numpy(np.frombuffer(wire, np.uint8).copy())
    return program, {
        name: known[name] if name in known else _drawn(program, number, model.vocab_size, generator)
        for name, number in program.inputs.items()
    }


def _drawn(program: Program, number: int, vocabulary: int, generator: torch.Generator) -> Tensor:
    node = program.nodes[number]
    if node.dtype == "int32":
        tokens = torch.randint(0, vocabulary, node.shape, generator=generator)
        return tokens.to(torch.int32)
    return 0.1 * torch.randn(node.shape, generator=generator)


def _update(spec: RunSpec, stage: StageIndex, rng: random.Random) -> tuple[Program, Given]:
    numbers = StepNumbers(round=RoundIndex(1), step=2, seen=9, microbatches=3, first=0)
    plan = plans_of(spec)[stage]
    generator = torch.Generator().manual_seed(rng.getrandbits(32))
    program = update_program(spec, stage, numbers)
    given = {
        name: 0.05 * torch.randn(program.nodes[number].shape, generator=generator)
        for name, number in program.inputs.items()
    }
    given["v"] = 1e-4 * torch.rand(num_second_moments(spec.optimizer, plan), generator=generator)
    return program, given


def _somewhere(program: Program, values: list[Tensor], rng: random.Random) -> tuple[int, int]:
    """Draw an element: a node that is computed, and a place in it."""
    computes = [n for n, node in enumerate(program.nodes) if node.operator != INPUT]
    number = rng.choice(computes)
    return number, rng.randrange(prod(values[number].shape))


def _is_pinned(program: Program, given: Given, rng: random.Random) -> bool:
    kernels = trusted_kernels().kernels
    honest = program.run(kernels, given)
    at, place = _somewhere(program, honest, rng)
    bit = rng.randrange(31)

    def watch(number: int, value: Tensor) -> Tensor:
        if number != at:
            return value
        false = value.clone().contiguous()
        words = false.view(-1)
        words = words if words.dtype is torch.uint8 else words.view(torch.int32)
        words[place] ^= 1 << bit % (8 * words.element_size())
        return false

    false = program.run(kernels, given, watch)
    pairs = enumerate(zip(honest, false, strict=True))
    first = next(number for number, (a, b) in pairs if value_bytes(a) != value_bytes(b))
    is_convicted = not _stands(program, false, at, place)
    return first == at and is_convicted and _stands(program, honest, at, place)


def _stands(program: Program, values: list[Tensor], number: int, place: int) -> bool:
    roots = value_roots(program, values)
    right = computed(program, merkle_root(roots), reveal(program, values, roots, number, place))
    return right is not None and value_bytes(right) == _element(values, number, place)


def _element(values: list[Tensor], number: int, place: int) -> bytes:
    return value_bytes(values[number].reshape(-1)[place])
