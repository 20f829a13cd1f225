"""One local step: sum the gradients of micro-batches exactly, clip, update with AdamW, or with Muon and AdamW.

Core: arithmetic on flat vectors, in place if the docstring says so.

Micro-batch gradients are summed in 64-bit fixed point at 2^-44, so the sum is exact and independent of the
order of arrival. A missing micro-batch renormalises: the mean is over those that arrived.

Muon moves each matrix of a decoder layer by its momentum with all singular values pressed towards 1, and keeps
no second moments for it; embedding, head and norms stay with AdamW. Source: docs/spec/training.md section 2a.

Legend: P parameters of the shard, A those that AdamW rules, M those that Muon rules, R rows and C columns of a
matrix.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from swarm.config.spec import MUON, NANO, OptimizerSpec
from swarm.errors import PeerFault, UsageError
from swarm.training.model.operators import are_finite
from swarm.training.model.profiles import NATIVE, AdamWScalars, Ops
from swarm.training.model.stages import Matrix, Span, StagePlan

MICROBATCHES_MAX = 256
"""Most micro-batches in one sum, so that it cannot overflow."""
SLICE = 1 << 18
"""Values of a flat vector in one slice: temporaries are 1 MiB, and stay in a cache. A multiple of the widest
vector, so that every value is computed by the same instructions as without slices."""


class GradientSum:
    """The running sum of one step's micro-batch gradients."""

    def __init__(self, num_parameters: int, ops: Ops = NATIVE) -> None:
        """Start at zero; every ``ops`` table gives a sum of the same bits, at different speed."""
        self.count = 0
        self._ops = ops
        self._num_parameters = num_parameters
        self._sum_P: Tensor | None = None
        """The sum in units of 2^-44; None before the first gradient of a step."""
        self._are_put = False

    def add(self, grad_P: Tensor) -> None:
        """Add one micro-batch; an empty gradient is one whose parts were ``put``.

        Raises ``PeerFault``, changing nothing, if an element is not finite or past ``reference.GRADIENT_MAX``:
        the data of a peer made the arithmetic fail, and the micro-batch is dropped.
        """
        are_put, self._are_put = self._are_put and not grad_P.numel(), False
        is_whole = are_put or grad_P.shape == (self._num_parameters,)
        if self.count >= MICROBATCHES_MAX or not is_whole:
            raise UsageError(f"at most {MICROBATCHES_MAX} gradients of {self._num_parameters}")
        if not are_put and not self._ops.add_units(self._memory(), grad_P):
            raise PeerFault("a micro-batch whose gradient is not finite or far too large")
        self.count += 1

    def put(self, start: int, grad_C: Tensor) -> None:
        """Add the part of a micro-batch's gradient that begins at ``start``; ``add`` counts it once.

        Raises ``PeerFault``, changing nothing, as ``add``.
        """
        if self.count >= MICROBATCHES_MAX:
            raise UsageError(f"at most {MICROBATCHES_MAX} gradients of {self._num_parameters}")
        self._are_put = True
        if not self._ops.add_units(self._memory()[start : start + grad_C.numel()], grad_C):
            raise PeerFault("a micro-batch whose gradient is not finite or far too large")

    def take_back(self, start: int, grad_C: Tensor) -> None:
        """Undo ``put`` of the same values: the sum is of integers, so it is as it was."""
        self._are_put = False
        is_taken = self._ops.add_units(self._memory()[start : start + grad_C.numel()], -grad_C)
        assert is_taken, "what was within the bounds still is"

    def mean(self) -> Tensor:
        """Return the mean gradient_P, float32; raise ``UsageError`` if nothing was added."""
        if self.count == 0:
            raise UsageError("a step needs at least one micro-batch")
        return self._ops.mean_units(self._memory(), self.count)

    def take_mean(self) -> Tensor:
        """Return the mean gradient_P in the memory of the sum, and begin the next step; raises as ``mean``."""
        if self.count == 0:
            raise UsageError("a step needs at least one micro-batch")
        sum_P, count = self._memory(), self.count
        self.clear()
        return mean_in_place(sum_P, lambda part_C: self._ops.mean_units(part_C, count))

    def clear(self) -> None:
        """Begin the next step, and free the memory of the sum until its first gradient."""
        self._sum_P = None
        self.count = 0

    def _memory(self) -> Tensor:
        if self._sum_P is None:
            self._sum_P = torch.zeros(self._num_parameters, dtype=torch.int64)
        return self._sum_P


def mean_in_place(sum_P: Tensor, mean: Callable[[Tensor], Tensor]) -> Tensor:
    """Replace an int64 sum by its float32 ``mean`` in the first half of its memory; return that half.

    A slice of the mean never lies behind the slice of the sum it is computed from.
    """
    mean_P = sum_P.view(torch.float32)[: sum_P.numel()]
    for part in slices(sum_P.numel()):
        mean_P[part] = mean(sum_P[part])
    return mean_P


def slices(numel: int) -> Iterator[slice]:
    """Yield the slices of a flat vector in which temporaries are computed."""
    for start in range(0, numel, SLICE):
        yield slice(start, min(start + SLICE, numel))


@dataclass(slots=True)
class OptimizerState:
    """Moments and the number of steps they have seen."""

    m_P: Tensor
    """First moments of AdamW, momentum of Muon."""
    v_A: Tensor
    """Second moments of AdamW, in the order of the flat vector: matrices of Muon are left out."""
    step: int = 0

    @classmethod
    def zeros(
        cls,
        num_parameters: int,
        matrices: Sequence[Matrix] = (),
        device: torch.device | None = None,
    ) -> "OptimizerState":
        """Return the state before the first step, and after a join; ``matrices`` are those of Muon."""
        rest = num_parameters - numel_of(matrices)
        return cls(torch.zeros(num_parameters, device=device), torch.zeros(rest, device=device))


def muon_matrices(spec: OptimizerSpec, plan: StagePlan) -> tuple[Matrix, ...]:
    """Return the matrices of a stage that Muon rules; none in a run with AdamW."""
    return plan.matrices if spec.name == MUON else ()


def num_second_moments(spec: OptimizerSpec, plan: StagePlan) -> int:
    """Return A, the second moments that the optimizer of a stage keeps."""
    return plan.num_parameters - numel_of(muon_matrices(spec, plan))


def numel_of(matrices: Sequence[Matrix]) -> int:
    """Return the number of values of some matrices."""
    return sum(matrix.span.numel for matrix in matrices)


def optimizer_step(
    ops: Ops,
    params_P: Tensor,
    grad_P: Tensor,
    state: OptimizerState,
    rate: float,
    spec: OptimizerSpec,
    decayed: Sequence[Span],
    matrices: Sequence[Matrix] = (),
) -> float:
    """Clip the gradient, decay, update ``params_P`` and ``state`` in place; return the norm before the clip.

    ``decayed`` is ``StagePlan.decayed``, ``matrices`` are ``muon_matrices``. Raises ``PeerFault``, changing
    nothing, if the norm or the update of a matrix is not finite.
    """
    norm = ops.norm(grad_P)
    if not norm < float("inf"):
        raise PeerFault("the gradient of a step is not finite")
    clip = spec.clip_norm_nano / NANO
    gradient = ClippedGradient(grad_P, clip / norm if clip and norm > clip else None)
    updates_M = _muon_updates(ops, gradient, state, spec, matrices)
    state.step += 1
    if spec.name == MUON:
        _apply_muon(params_P, gradient, updates_M, state, rate, spec, matrices)
        rate *= spec.adamw_rate_nano / NANO
    if spec.weight_decay_nano:
        keep = kept_share(spec, rate)
        for span in outside(decayed, matrices):
            params_P[span.slice].mul_(keep)
    scalars = adamw_scalars(spec, rate, state.step)
    at = 0
    for span in outside((Span(0, params_P.numel()),), matrices):
        for part in slices(span.numel):
            here = slice(span.start + part.start, span.start + part.stop)
            v_A = state.v_A[at + part.start : at + part.stop]
            ops.adamw(params_P[here], state.m_P[here], v_A, gradient.part(here), scalars)
        at += span.numel
    return norm


@dataclass(frozen=True, slots=True)
class ClippedGradient:
    """A gradient that is scaled where it is used, a part at a time: no second one is held."""

    grad_P: Tensor
    factor: float | None
    """Factor of every value; None if the gradient is short enough."""

    def part(self, here: slice) -> Tensor:
        """Return the values of a part, which must not be written to."""
        return self.grad_P[here] if self.factor is None else self.grad_P[here] * self.factor


def _muon_updates(
    ops: Ops,
    gradient: ClippedGradient,
    state: OptimizerState,
    spec: OptimizerSpec,
    matrices: Sequence[Matrix],
) -> Tensor:
    """Return the orthogonal updates of all matrices, one after another; the state is only read.

    With ``mu`` the momentum: m' = mu m + (1 - mu) g, and the matrix that is made orthogonal looks one step
    ahead (Nesterov): mu m' + (1 - mu) g. Raises ``PeerFault`` if a value is not finite.
    """
    updates_M = gradient.grad_P.new_empty(numel_of(matrices))
    mu = spec.momentum_nano / NANO
    at = 0
    for together in _batches(matrices):
        ahead = list[Tensor]()
        for matrix in together:
            here = matrix.span.slice
            fresh = gradient.part(here) * (1.0 - mu)
            ahead_N = (state.m_P[here] * mu).add_(fresh).mul_(mu).add_(fresh)
            ahead.append(ahead_N.view(matrix.rows, matrix.columns))
        for update_RC in ops.orthogonal(ahead):
            updates_M[at : at + update_RC.numel()].view(update_RC.shape).copy_(update_RC)
            at += update_RC.numel()
    if not are_finite(updates_M):
        raise PeerFault("the orthogonal update of a step is not finite")
    return updates_M


def _batches(matrices: Sequence[Matrix]) -> Iterator[list[Matrix]]:
    """Yield the matrices in order, so many at once as have the values of a slice: large ones come alone."""
    batch = list[Matrix]()
    for matrix in matrices:
        if batch and numel_of(batch) + matrix.span.numel > SLICE:
            yield batch
            batch = []
        batch.append(matrix)
    if batch:
        yield batch


def _apply_muon(
    params_P: Tensor,
    gradient: ClippedGradient,
    updates_M: Tensor,
    state: OptimizerState,
    rate: float,
    spec: OptimizerSpec,
    matrices: Sequence[Matrix],
) -> None:
    """Decay the matrices and move them by their updates, scaled by sqrt(max(1, rows / columns))."""
    mu, keep = spec.momentum_nano / NANO, kept_share(spec, rate)
    at = 0
    for matrix in matrices:
        here, numel = matrix.span.slice, matrix.span.numel
        state.m_P[here].mul_(mu).add_(gradient.part(here) * (1.0 - mu))
        if spec.weight_decay_nano:
            params_P[here].mul_(keep)
        scale = sqrt(max(1.0, matrix.rows / matrix.columns))
        params_P[here].sub_(updates_M[at : at + numel].mul_(rate * scale))
        at += numel


def kept_share(spec: OptimizerSpec, rate: float) -> float:
    """Return the factor of the weights in a decay."""
    return 1.0 - rate * (spec.weight_decay_nano / NANO)


def outside(spans: Sequence[Span], matrices: Sequence[Matrix]) -> list[Span]:
    """Return what is left of ``spans`` without the matrices; both in order, a matrix in one span or in none."""
    left, upcoming = list[Span](), 0
    for span in spans:
        at = span.start
        while upcoming < len(matrices) and matrices[upcoming].span.stop <= span.stop:
            inner = matrices[upcoming].span
            upcoming += 1
            if at <= inner.start:  # else it lies before this span
                if at < inner.start:
                    left.append(Span(at, inner.start))
                at = inner.stop
        if at < span.stop:
            left.append(Span(at, span.stop))
    return left


def adamw_scalars(spec: OptimizerSpec, rate: float, step: int) -> AdamWScalars:
    """Return the numbers of an AdamW update whose moments have seen ``step`` steps, this one included."""
    beta1, beta2 = spec.beta1_nano / NANO, spec.beta2_nano / NANO
    return AdamWScalars(
        rate=rate,
        beta1=beta1,
        beta2=beta2,
        eps=spec.eps_nano * 1e-9,
        correction1=1.0 / (1.0 - _power(beta1, step)),
        correction2=1.0 / (1.0 - _power(beta2, step)),
    )


def learning_rate(spec: OptimizerSpec, inner_steps_max: int, round_index: int, step: int) -> float:
    """Return the rate of step ``step`` (from 0) of a round: an entry of the run's table, not a live cosine."""
    entry = (round_index * inner_steps_max + step) // spec.learning_rate_stride
    rates = spec.learning_rates_nano
    return rates[min(entry, len(rates) - 1)] / NANO


def _power(base: float, exponent: int) -> float:
    """Return base ** exponent by squaring: multiplications round the same on every machine."""
    result = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result
