"""One local step: sum the gradients of micro-batches exactly, clip, update with AdamW.

Core: arithmetic on flat vectors, in place if the docstring says so.

Micro-batch gradients are summed in 64-bit fixed point at 2^-44, so the sum is exact and independent of the
order of arrival. A missing micro-batch renormalises: the mean is over those that arrived.

Legend: P parameters of the shard.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from swarm.config.spec import NANO, OptimizerSpec
from swarm.errors import PeerFault, UsageError
from swarm.training.model.profiles import NATIVE, AdamWScalars, Ops
from swarm.training.model.stages import Span

MICROBATCHES_MAX = 256
"""Most micro-batches in one sum, so that it cannot overflow."""


class GradientSum:
    """The running sum of one step's micro-batch gradients."""

    def __init__(self, num_parameters: int, ops: Ops = NATIVE) -> None:
        """Start at zero; every ``ops`` table gives a sum of the same bits, at different speed."""
        self.count = 0
        self._ops = ops
        self._sum_P = torch.zeros(num_parameters, dtype=torch.int64)

    def add(self, grad_P: Tensor) -> None:
        """Add one micro-batch.

        Raises ``PeerFault``, changing nothing, if an element is not finite or past ``reference.GRADIENT_MAX``:
        the data of a peer made the arithmetic fail, and the micro-batch is dropped.
        """
        if self.count >= MICROBATCHES_MAX or grad_P.shape != self._sum_P.shape:
            raise UsageError(f"at most {MICROBATCHES_MAX} gradients of {self._sum_P.numel()}")
        if not self._ops.add_units(self._sum_P, grad_P):
            raise PeerFault("a micro-batch whose gradient is not finite or far too large")
        self.count += 1

    def mean(self) -> Tensor:
        """Return the mean gradient_P, float32; raise ``UsageError`` if nothing was added."""
        if self.count == 0:
            raise UsageError("a step needs at least one micro-batch")
        return self._ops.mean_units(self._sum_P, self.count)

    def clear(self) -> None:
        """Begin the next step."""
        self._sum_P.zero_()
        self.count = 0


@dataclass(slots=True)
class AdamState:
    """Moments of AdamW and the number of steps they have seen."""

    m_P: Tensor
    v_P: Tensor
    step: int = 0

    @classmethod
    def zeros(cls, num_parameters: int) -> "AdamState":
        """Return the state before the first step, and after a join."""
        return cls(torch.zeros(num_parameters), torch.zeros(num_parameters))


def adamw_step(
    ops: Ops,
    params_P: Tensor,
    grad_P: Tensor,
    state: AdamState,
    rate: float,
    spec: OptimizerSpec,
    decayed: Sequence[Span],
) -> float:
    """Clip the gradient, decay, update ``params_P`` and ``state`` in place; return the norm before the clip.

    ``decayed`` is ``StagePlan.decayed``. Raises ``PeerFault``, changing nothing, if the norm is not finite.
    """
    norm = ops.norm(grad_P)
    if not norm < float("inf"):
        raise PeerFault("the gradient of a step is not finite")
    clip = spec.clip_norm_nano / NANO
    if clip and norm > clip:
        grad_P = grad_P * (clip / norm)
    state.step += 1
    beta1, beta2 = spec.beta1_nano / NANO, spec.beta2_nano / NANO
    if spec.weight_decay_nano:
        keep = 1.0 - rate * (spec.weight_decay_nano / NANO)
        for span in decayed:
            params_P[span.slice].mul_(keep)
    scalars = AdamWScalars(
        rate=rate,
        beta1=beta1,
        beta2=beta2,
        eps=spec.eps_nano * 1e-9,
        correction1=1.0 / (1.0 - _power(beta1, state.step)),
        correction2=1.0 / (1.0 - _power(beta2, state.step)),
    )
    ops.adamw(params_P, state.m_P, state.v_P, grad_P, scalars)
    return norm


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
