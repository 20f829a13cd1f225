"""Derive the program of one optimizer step: mean gradient, clip, AdamW, and Muon where the run has it.

Core: a function of the run spec and the step's numbers.

The arithmetic is that of ``training/model/optimizer.py`` over ``exact_ops``; a test holds both to the same
bits. Gradients are added up as integers, a few at a time. The norm of their mean and that of a matrix are sums
by a binary tree, folded in the same way. A symmetric matrix has its rows for columns, so of the products of
Newton and Schulz only the last is of a transposed matrix.

Legend: P parameters of the shard, A those that AdamW rules, R rows and C columns of a matrix.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt

from swarm.config.spec import MUON, NANO, RunSpec
from swarm.errors import UsageError
from swarm.training.model.operators import NEWTON_SCHULZ, NEWTON_SCHULZ_EPS, NEWTON_SCHULZ_STEPS
from swarm.training.model.optimizer import (
    adamw_scalars,
    kept_share,
    learning_rate,
    muon_matrices,
    num_second_moments,
    outside,
)
from swarm.training.model.stages import Matrix, Span, plans_of
from swarm.training.shard import PIECE_VALUES
from swarm.types import RoundIndex, StageIndex
from swarm.verify.program.nodes import Builder, Node, Program, Value
from swarm.verify.program.operators import FOLD


@dataclass(frozen=True, slots=True)
class StepNumbers:
    """Numbers of a step that its arithmetic depends on."""

    round: RoundIndex
    step: int
    """Number within the segment."""
    seen: int
    """Steps that the moments had seen before it."""
    microbatches: int
    """Micro-batches that it counts."""
    first: int
    """First value of the piece of the mean gradient that its leaf covers, drawn by the beacon."""


def update_program(spec: RunSpec, stage: StageIndex, numbers: StepNumbers) -> Program:
    """Return the program of one optimizer step of a stage.

    Inputs: ``params`` P, ``m`` P, ``v`` A, and ``gradient_0`` .. P, one of each micro-batch. Outputs:
    ``params``, ``m`` and ``v`` after the step, ``squares``, the sum of squares of the mean gradient, and
    ``piece``, the values of it that the step's leaf covers. Raises ``UsageError`` for a piece that begins
    behind the last value.
    """
    return _Update(spec, stage, numbers).program()


class _Update:
    """The derivation of one step."""

    def __init__(self, spec: RunSpec, stage: StageIndex, numbers: StepNumbers) -> None:
        self._optimizer, self._numbers = spec.optimizer, numbers
        self._plan = plans_of(spec)[stage]
        self._matrices = muon_matrices(spec.optimizer, self._plan)
        self._num_second = num_second_moments(spec.optimizer, self._plan)
        steps_max = spec.inner_steps_max
        self._rate = learning_rate(spec.optimizer, steps_max, numbers.round, numbers.step)
        self._builder = Builder()

    def program(self) -> Program:
        """Derive the program."""
        b, numel = self._builder, self._plan.num_parameters
        params, m = b.given("params", numel), b.given("m", numel)
        v = b.given("v", self._num_second)
        counted = self._numbers.microbatches
        gradients = [b.given(f"gradient_{number}", numel) for number in range(counted)]
        sums = [self._sum(gradients[at : at + FOLD]) for at in range(0, counted, FOLD)]
        mean = b.put("mean_units", (numel,), *sums, count=counted)
        squares = b.total(b.same("squared", mean))
        clip = self._optimizer.clip_norm_nano / NANO
        gradient = b.same("clipped", mean, squares, clip=clip)
        moved = dict[int, tuple[Value, Value]]()
        for matrix in self._matrices:
            moved[matrix.span.start] = self._muon(matrix, params, m, gradient)
        seconds, at = list[Value](), 0
        for span in self._vectors():
            second = self._cut(v, Span(at, at + span.numel))
            parts = (self._cut(value, span) for value in (params, m, gradient))
            params_now, first, second = self._adamw(span, second, *parts)
            moved[span.start] = (params_now, first)
            seconds.append(second)
            at += span.numel
        ordered = [moved[start] for start in sorted(moved)]
        return b.program(
            params=b.put("stacked", (numel,), *(weights for weights, _ in ordered)),
            m=b.put("stacked", (numel,), *(first for _, first in ordered)),
            v=b.put("stacked", (self._num_second,), *seconds),
            squares=squares,
            piece=self._cut(mean, self._piece()),
        )

    def _sum(self, gradients: Sequence[Value]) -> Value:
        """Add up some gradients as integers."""
        numbers = tuple(one.number for one in gradients)
        return self._builder.append(Node("sum_units", numbers, gradients[0].shape, dtype="int64"))

    def _piece(self) -> Span:
        """Return the span of the piece of a gradient."""
        first, numel = self._numbers.first, self._plan.num_parameters
        if not 0 <= first < numel:
            raise UsageError(f"no piece of {numel} values begins at {first}")
        return Span(first, min(first + PIECE_VALUES, numel))

    def _cut(self, flat: Value, span: Span) -> Value:
        return self._builder.put("slice", (span.numel,), flat, start=span.start)

    def _vectors(self) -> list[Span]:
        """Return the spans of AdamW, cut where weight decay begins and ends."""
        found = list[Span]()
        for span in outside((Span(0, self._plan.num_parameters),), self._matrices):
            edges = {span.start, span.stop}
            for decayed in self._plan.decayed:
                edges |= {at for at in (decayed.start, decayed.stop) if span.start < at < span.stop}
            found += [Span(start, stop) for start, stop in pairwise(sorted(edges))]
        return found

    def _adamw(
        self, span: Span, v: Value, params: Value, m: Value, gradient: Value
    ) -> tuple[Value, Value, Value]:
        """Move one span; return (parameters, first moments, second moments)."""
        b, spec, rate = self._builder, self._optimizer, self._rate
        if spec.name == MUON:
            rate *= spec.adamw_rate_nano / NANO
        is_decayed = any(d.start <= span.start and span.stop <= d.stop for d in self._plan.decayed)
        if spec.weight_decay_nano and is_decayed:
            params = b.same("scaled", params, factor=kept_share(spec, rate))
        s = adamw_scalars(spec, rate, self._numbers.seen + 1)
        m = b.same("kept", m, gradient, keep=s.beta1, new=1.0 - s.beta1)
        v = b.same("kept_squares", v, gradient, keep=s.beta2, new=1.0 - s.beta2)
        numbers = {"correction1": s.correction1, "correction2": s.correction2}
        return b.same("moved", params, m, v, rate=s.rate, eps=s.eps, **numbers), m, v

    def _muon(
        self, matrix: Matrix, params: Value, m: Value, gradient: Value
    ) -> tuple[Value, Value]:
        """Move one matrix; return (its parameters, its momentum), both flat."""
        b, spec, span = self._builder, self._optimizer, matrix.span
        params, m, gradient = (self._cut(value, span) for value in (params, m, gradient))
        mu = spec.momentum_nano / NANO
        ahead = b.reshaped(b.same("ahead", m, gradient, mu=mu), matrix.rows, matrix.columns)
        update = b.reshaped(self._orthogonal(ahead), span.numel)
        if spec.weight_decay_nano:
            params = b.same("scaled", params, factor=kept_share(spec, self._rate))
        scale = sqrt(max(1.0, matrix.rows / matrix.columns))
        moved = b.same("less", params, update, factor=self._rate * scale)
        return moved, b.same("kept", m, gradient, keep=mu, new=1.0 - mu)

    def _orthogonal(self, update_RC: Value) -> Value:
        """Press the singular values of a matrix towards 1 (``reference.orthogonal``)."""
        b, (a, b_, c) = self._builder, NEWTON_SCHULZ
        total = b.total(b.same("squared", update_RC))
        x = b.same("unit", update_RC, total, eps=NEWTON_SCHULZ_EPS)
        is_tall = update_RC.shape[0] > update_RC.shape[1]
        if is_tall:
            x = b.transposed(x)
        symmetric, q = b.symmetric, None
        g = symmetric(x, x)
        for _ in range(NEWTON_SCHULZ_STEPS):
            bend = b.same("bend", g, symmetric(g, g), a=a, b=b_, c=c)
            q = bend if q is None else symmetric(bend, q)
            g = symmetric(symmetric(bend, g), bend)
        assert q is not None, "there are some steps"
        product = b.product(q, b.transposed(x))
        return b.transposed(product) if is_tall else product
