"""The interface of an operator table: the signatures that every numerics profile implements.

Core: pure data, and the helpers that autograd functions share.

Legend: N rows (batch x time), T time, S time of the keys, D hidden, O outputs, I intermediate, V vocabulary,
H heads, K key-value heads, E features of one head, P parameters of a shard, B batch, R rows and C columns of
a matrix.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.autograd import Function

from swarm.config.spec import RopeSpec

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients a, b, c of one step, X -> (a I + b G + c G^2) X with G = X X^T. Source: docs/spec/training.md
section 2a."""
NEWTON_SCHULZ_STEPS = 5
NEWTON_SCHULZ_EPS = 1e-7
"""Added to the norm that a matrix is divided by: a matrix of zeros stays one."""


FLOAT_MAX = torch.finfo(torch.float32).max
PLAIN_ROPE = RopeSpec()


class RopeTables(Protocol):
    """Function that computes rotary tables."""

    def __call__(
        self, positions: int, width: int, theta: int, rope: RopeSpec = PLAIN_ROPE
    ) -> tuple[Tensor, Tensor]:
        """Return (cos_TE, sin_TE), each half of E holding the same frequencies."""
        ...


def are_finite(*tensors: Tensor, bound: float = FLOAT_MAX) -> bool:
    """Return True if every value lies in [-bound, bound]; NaN and infinity do not."""
    for tensor in tensors:
        if tensor.numel():
            least, most = torch.aminmax(tensor)
            # A NaN anywhere makes both a NaN, which fails any comparison.
            if not (float(least) >= -bound and float(most) <= bound):
                return False
    return True


@dataclass(frozen=True, slots=True)
class AdamWScalars:
    """The numbers of one AdamW update; corrections are 1 / (1 - beta ** step)."""

    rate: float
    beta1: float
    beta2: float
    eps: float
    correction1: float
    correction2: float


@dataclass(frozen=True, slots=True)
class Ops:
    """Every operator a run computes with."""

    name: str
    linear: Callable[[Tensor, Tensor], Tensor]
    """(x_ND, weight_OD) -> x @ weight^T, shape NO."""
    add: Callable[[Tensor, Tensor], Tensor]
    swiglu: Callable[[Tensor, Tensor], Tensor]
    """(gate_NI, up_NI) -> silu(gate) * up."""
    attention: Callable[[Tensor, Tensor, Tensor], Tensor]
    """(query_BTHE, key_BSKE, value_BSKE) -> mixed_BTHE: causal, for queries at the last T of S positions."""
    rms_norm: Callable[[Tensor, Tensor, float], Tensor]
    """(x_ND, weight_D, eps) -> ND."""
    rope: Callable[[Tensor, Tensor, Tensor], Tensor]
    """(x_BTHE, cos_TE, sin_TE): rotate the halves of E against each other (``rotate_half``)."""
    rope_tables: RopeTables
    """(positions, E, theta, rule) -> (cos_TE, sin_TE), each half of E holding the same frequencies."""
    embedding: Callable[[Tensor, Tensor], Tensor]
    """(weight_VD, tokens_N int64) -> ND."""
    cross_entropy: Callable[[Tensor, Tensor], Tensor]
    """(logits_NV, labels_N) -> mean over N, in nats."""
    norm: Callable[[Tensor], float]
    """Euclidean norm of a flat tensor."""
    adamw: Callable[[Tensor, Tensor, Tensor, Tensor, AdamWScalars], None]
    """(params_P, m_P, v_P, grad_P, scalars): update the first three in place; no weight decay."""
    orthogonal: Callable[[Sequence[Tensor]], list[Tensor]]
    """(matrices RC of any shapes) -> each with singular values near 1, by ``NEWTON_SCHULZ_STEPS`` steps."""
    add_units: Callable[[Tensor, Tensor], bool]
    """(sum_P int64, grad_P): add in units of 2^-44, in place; False, adding nothing, if out of bounds."""
    mean_units: Callable[[Tensor, int], Tensor]
    """(sum_P int64, count) -> mean_P."""


class OpContext(Protocol):
    """The context object that autograd passes to both halves of a function."""

    saved_tensors: tuple[Tensor, ...]
    needs_input_grad: tuple[bool, ...]
    """Of every argument, True if its gradient is used: that of frozen weights is not."""

    def save_for_backward(self, *tensors: Tensor) -> None:
        """Keep tensors for the backward half."""


def apply(function: type[Function], *arguments: object) -> Tensor:
    """Call ``function.apply`` with a typed result."""
    result: Tensor = function.apply(*arguments)  # type: ignore[no-untyped-call]
    return result


class _Root(Function):
    """A scalar whose gradient is a given tensor; its value means nothing."""

    @staticmethod
    def forward(ctx: OpContext, x: Tensor, grad: Tensor) -> Tensor:
        ctx.save_for_backward(grad)
        return x.new_zeros(())

    @staticmethod
    def backward(ctx: OpContext, *_: Tensor) -> tuple[Tensor, None]:
        return ctx.saved_tensors[0], None


def root_of(x: Tensor, grad: Tensor) -> Tensor:
    """Return a scalar from which a backward pass reaches ``x`` with ``grad``, its bits unchanged.

    torch imports sympy at the first backward pass that is given a gradient: half a second and 34 MB of every
    process, for the shapes of compiled models.
    """
    return apply(_Root, x, grad)
