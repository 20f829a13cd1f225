"""Bind the programs of a step to what is committed around them: states, messages, a text.

Core: pure functions of the ledger and of what a solver has opened.

    micro-batch   params: state before | bytes from both neighbours: digests in its leaf | tokens: text and draw
                  bytes for both neighbours: digests in its leaf | gradient: said when the step is opened
    update        params, moments: state before | gradients: those of the micro-batches
                  params, moments: state after | piece of the mean gradient: the step leaf

So a false step is false in one of its programs, or contradicts itself.
Source: docs/spec/verification.md section 4. Legend: T time, E features of a head.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from swarm.config.spec import ModelSpec, RunSpec
from swarm.primitives.commitments import hash_of
from swarm.primitives.openings import tensor_content
from swarm.primitives.state_parts import PARAMS
from swarm.training.data.samples import sample_ids
from swarm.training.model.exact.operators import rotary_tables
from swarm.training.model.llama import head_width
from swarm.training.model.stages import plans_of
from swarm.training.record.segment import MicrobatchRecord
from swarm.training.shard import piece_start
from swarm.types import Digest, RoundIndex, StageIndex
from swarm.verify.program.game import Case, Text
from swarm.verify.program.microbatch import microbatch_program
from swarm.verify.program.nodes import Program
from swarm.verify.program.update import StepNumbers, update_program


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts about the round of a disputed segment, from the ledger."""

    spec: RunSpec
    run_digest: Digest
    stage: StageIndex
    round: RoundIndex
    beacon: Digest
    is_final_averaging: bool

    @property
    def exchanges(self) -> int:
        """Exchanges of the round; in one of final averaging every fragment is traded once."""
        outer = self.spec.outer
        return outer.fragments if self.is_final_averaging else outer.exchanges


@dataclass(frozen=True, slots=True)
class StepRoots:
    """A step as its solver has opened it."""

    step: int
    """Number within the segment."""
    seen: int
    """Steps that the moments had seen before it."""
    before: tuple[Digest, ...]
    after: tuple[Digest, ...]
    piece: Digest
    gradients: tuple[Digest, ...]
    """Of its micro-batches."""


def microbatch_case(
    facts: Facts, roots: StepRoots, record: MicrobatchRecord, number: int, trace: Digest
) -> Case:
    """Return the case of one micro-batch of a step, the ``number``-th that it counts."""
    spec, stage = facts.spec, facts.stage
    program = microbatch_program_of(spec, stage)
    cos, sin = _rotary_digests(spec.model)
    known = {
        "params": roots.before[PARAMS],
        "cos": cos,
        "sin": sin,
        "entry_wire": record.in_activation,
        "pull_wire": record.in_gradient,
    }
    if spec.adapter.rank:
        known["base"] = spec.adapter.base_roots[stage]
    made = {
        "gradient": roots.gradients[number],
        "activations_wire": record.out_activation,
        "gradient_down_wire": record.out_gradient,
    }
    bound = digests_of(program.inputs, known) | digests_of(program.outputs, made)
    return Case(program, trace, bound, _texts(facts, program, record))


def update_case(facts: Facts, roots: StepRoots, trace: Digest) -> Case:
    """Return the case of the update of a step."""
    numbers = step_numbers(facts, roots.step, roots.seen, len(roots.gradients))
    program = update_program_of(facts.spec, facts.stage, numbers)
    known = dict(zip(("params", "m", "v"), roots.before, strict=False))
    known |= {f"gradient_{at}": gradient for at, gradient in enumerate(roots.gradients)}
    made = dict(zip(("params", "m", "v"), roots.after, strict=False)) | {"piece": roots.piece}
    bound = digests_of(program.inputs, known) | digests_of(program.outputs, made)
    return Case(program, trace, bound)


def step_numbers(facts: Facts, step: int, seen: int, microbatches: int) -> StepNumbers:
    """Return the numbers that the arithmetic of a step depends on."""
    numel = plans_of(facts.spec)[facts.stage].num_parameters
    context = (facts.run_digest, facts.round, facts.stage, step)
    first = piece_start(facts.beacon, *context, numel=numel)
    return StepNumbers(
        round=facts.round, step=step, seen=seen, microbatches=microbatches, first=first
    )


def draw_of(facts: Facts, record: MicrobatchRecord) -> tuple[int, ...]:
    """Return the sample ids of a micro-batch."""
    spec = facts.spec
    count = spec.data.train_bytes // np.dtype(spec.data.dtype).itemsize
    return sample_ids(
        facts.beacon,
        facts.run_digest,
        record.origin,
        facts.round,
        record.step,
        record.microbatch,
        spec.microbatch_size,
        count - spec.model.seq_len,
    )


def _texts(facts: Facts, program: Program, record: MicrobatchRecord) -> dict[int, Text]:
    """Return what the tokens of a micro-batch must be: its samples, and for labels the tokens after them."""
    data, times = facts.spec.data, facts.spec.model.seq_len
    width = np.dtype(data.dtype).itemsize
    content = tensor_content(data.dtype, (data.train_bytes // width,), data.train_bytes)
    found = dict[int, Text]()
    for ahead, name in enumerate(("ids", "labels")):
        if name in program.inputs:
            starts = draw_of(facts, record)
            positions = [start + at + ahead for start in starts for at in range(times)]
            found[program.inputs[name]] = Text(positions, width, content, data.train_root)
    return found


def digests_of(numbers: Mapping[str, int], known: Mapping[str, Digest]) -> dict[int, Digest]:
    """Return the digests that nodes are bound to, from those that are known by name."""
    return {number: known[name] for name, number in numbers.items() if name in known}


@lru_cache(maxsize=8)
def microbatch_program_of(spec: RunSpec, stage: StageIndex) -> Program:
    """Return the program of a micro-batch; it is derived once."""
    return microbatch_program(spec, stage)


@lru_cache(maxsize=8)
def update_program_of(spec: RunSpec, stage: StageIndex, numbers: StepNumbers) -> Program:
    """Return the program of an update; it is derived once."""
    return update_program(spec, stage, numbers)


@lru_cache(maxsize=8)
def _rotary_digests(model: ModelSpec) -> tuple[Digest, Digest]:
    """Return the digests of the tables cos_TE and sin_TE of a run."""
    tables = rotary_tables(model.seq_len, head_width(model), model.rope_theta, model.rope)
    cos, sin = map(hash_of, tables)
    return cos, sin
