"""Operators of ``seq-f32/1``, forward and backward: the same bits on every machine.

Core: functions over a set of kernels (``reference``, or ``native``, which has the same bits), usable under
autograd. What autograd adds by itself is copies, and sums of two gradients, whose order cannot matter.

Rotary tables come from integer arithmetic, so that no libm has a say; that is slow (about a microsecond a
value) and done once per run. The angle of position p and pair i is p x theta^(-2i/E). Everything is a whole
number in units of 2^-160: the root by bisection, sine and cosine of one step by their series, then one
addition of angles per position. The last line rounds to float64 and then to float32.

Legend: N rows (batch x time), T time, S time of the keys, D hidden, O outputs, I intermediate, V vocabulary,
H heads, G key-value heads, E features of one head, P parameters of a shard.
"""

from functools import partial
from math import sqrt
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

from swarm.config.spec import NANO, ROPE_LINEAR, ROPE_LLAMA3, RopeSpec
from swarm.errors import UsageError
from swarm.training.model.exact.reference import divided, tree_sum
from swarm.training.model.operators import PLAIN_ROPE, AdamWScalars, OpContext, Ops, apply

_BITS = 160
"""Bits after the point, far more than 24: errors grow by one unit per position, and there are at most a few
million."""
_ONE = 1 << _BITS


_TWO_PI = 9182885614096437842769610399486622256908310048836
"""2 pi in units of 2^-160."""


def rotary_tables(
    positions: int, width: int, theta: int, rope: RopeSpec = PLAIN_ROPE
) -> tuple[Tensor, Tensor]:
    """Return (cos_TE, sin_TE), each half of E holding the same frequencies, stretched as ``rope`` says.

    Raises ``UsageError`` unless ``theta`` is at least 1 and ``width`` (E) even and positive.
    """
    if positions < 0 or width < 2 or width % 2 or theta < 1:
        raise UsageError(f"no rotary tables for {positions} positions of {width}, theta {theta}")
    pairs = width // 2
    cos_TE = np.empty((positions, width), dtype=np.float32)
    sin_TE = np.empty((positions, width), dtype=np.float32)
    step, frequency = _inverse_root(theta, pairs), _ONE
    for pair in range(pairs):
        turn = _cos_sin(stretched(frequency, rope))
        cos, sin = _ONE, 0
        for position in range(positions):
            cos_TE[position, pair::pairs] = cos / _ONE
            sin_TE[position, pair::pairs] = sin / _ONE
            cos, sin = (
                _times(cos, turn[0]) - _times(sin, turn[1]),
                _times(sin, turn[0]) + _times(cos, turn[1]),
            )
        frequency = _times(frequency, step)
    return torch.from_numpy(cos_TE), torch.from_numpy(sin_TE)


def stretched(frequency: int, rope: RopeSpec) -> int:
    """Return a frequency under the rule of a run, rounded down; both in units of 2^-160.

    llama3 counts the turns of a frequency within the original context: with few of them it is divided by the
    whole factor, with many it stays, and in between it is a mean of both by the number of turns.
    """
    if rope.kind not in {ROPE_LINEAR, ROPE_LLAMA3}:
        return frequency
    slow = frequency * NANO // rope.factor_nano
    if rope.kind == ROPE_LINEAR:
        return slow
    low, high = rope.low_freq_nano, rope.high_freq_nano
    turns = rope.original_positions * frequency * _ONE // _TWO_PI
    share = (turns * NANO - low * _ONE) // (high - low)
    if share <= 0:
        return slow
    return frequency if share >= _ONE else slow + _times(share, frequency - slow)


def _times(a: int, b: int) -> int:
    return a * b >> _BITS


def _inverse_root(theta: int, degree: int) -> int:
    """Return the largest r with r^degree x theta <= 1: theta^(-1/degree), rounded down."""
    low, high = 0, _ONE + 1
    limit = _ONE**degree
    while high - low > 1:
        middle = (low + high) // 2
        if middle**degree * theta <= limit:
            low = middle
        else:
            high = middle
    return low


def _cos_sin(angle: int) -> tuple[int, int]:
    """Return cosine and sine of an angle in [0, 1] radian, by the series of the exponential function."""
    parts, term, order = [0, 0], _ONE, 0
    while term:
        sign = -1 if order & 2 else 1
        parts[order & 1] += sign * term
        order += 1
        term = _times(term, angle) // order
    return parts[0], parts[1]


EXACT_NAME = "seq-f32/1"


class Kernels(Protocol):
    """Functions that the operators are made of; shapes and meaning in ``reference``."""

    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """Return a product of matrices."""
        ...

    def weight_gradient(self, grad_NO: Tensor, x_ND: Tensor) -> Tensor:
        """Return the gradient of a weight from all rows of a micro-batch."""
        ...

    def swiglu(self, gate_NI: Tensor, up_NI: Tensor) -> Tensor:
        """Return silu(gate) * up."""
        ...

    def swiglu_backward(
        self, grad_NI: Tensor, gate_NI: Tensor, up_NI: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the gradients of gate and up."""
        ...

    def attention(self, q_BTHE: Tensor, k_BSGE: Tensor, v_BSGE: Tensor) -> Tensor:
        """Return causal attention."""
        ...

    def attention_backward(
        self, grad_BTHE: Tensor, q_BTHE: Tensor, k_BSGE: Tensor, v_BSGE: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of q, k and v."""
        ...

    def rms_norm(self, x_ND: Tensor, weight_D: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        """Return the normed rows, and the scale of each row."""
        ...

    def rms_norm_backward(
        self, grad_ND: Tensor, x_ND: Tensor, scale_N: Tensor, weight_D: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the gradients of x and of the weight."""
        ...

    def rotate(self, x_BTHE: Tensor, cos_TE: Tensor, sin_TE: Tensor) -> Tensor:
        """Return rows turned by their rotary positions; backward is the opposite angle."""
        ...

    def gather_rows(self, grad_ND: Tensor, tokens_N: Tensor, vocabulary: int) -> Tensor:
        """Return the gradient of the embedding."""
        ...

    def cross_entropy(self, logits_NV: Tensor, labels_N: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of each row in nats, and the softmax."""
        ...

    def cross_entropy_backward(self, shares_NV: Tensor, labels_N: Tensor, factor: float) -> Tensor:
        """Return the gradient of the logits."""
        ...

    def sum_of_squares(self, flat_P: Tensor) -> float:
        """Return the sum of squares, whose root is the norm."""
        ...

    def adamw(
        self, params_P: Tensor, m_P: Tensor, v_P: Tensor, grad_P: Tensor, scalars: tuple[float, ...]
    ) -> None:
        """Update parameters and moments in place."""
        ...

    def orthogonal(self, update_RC: Tensor) -> Tensor:
        """Return a matrix with its singular values pressed towards 1."""
        ...

    def add_units(self, sum_P: Tensor, grad_P: Tensor) -> bool:
        """Add a gradient to the sum of a step; return False, adding nothing, if it is out of bounds."""
        ...

    def mean_units(self, sum_P: Tensor, count: int) -> Tensor:
        """Return the mean gradient, which an update takes."""
        ...


def exact_ops(kernels: Kernels) -> Ops:
    """Return the table of the profile over one set of kernels, which the caller has tested."""
    return Ops(
        name=EXACT_NAME,
        linear=partial(apply, _Linear, kernels),
        add=torch.add,
        swiglu=partial(apply, _SwiGlu, kernels),
        attention=partial(apply, _Attention, kernels),
        rms_norm=partial(apply, _RmsNorm, kernels),
        rope=partial(apply, _Rope, kernels),
        rope_tables=rotary_tables,
        embedding=partial(apply, _Embedding, kernels),
        cross_entropy=partial(apply, _CrossEntropy, kernels),
        norm=partial(_norm, kernels),
        adamw=partial(_adamw, kernels),
        orthogonal=lambda updates: [kernels.orthogonal(update_RC) for update_RC in updates],
        add_units=kernels.add_units,
        mean_units=kernels.mean_units,
    )


class _Context(OpContext, Protocol):
    kernels: Kernels


class _Linear(Function):
    @staticmethod
    def forward(ctx: _Context, kernels: Kernels, x_ND: Tensor, weight_OD: Tensor) -> Tensor:
        ctx.kernels = kernels
        ctx.save_for_backward(x_ND, weight_OD)
        return kernels.matmul(x_ND, weight_OD.t())

    @staticmethod
    def backward(ctx: _Context, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (grad_NO,) = grad_outputs
        x_ND, weight_OD = ctx.saved_tensors
        _, is_input_used, is_weight_used = ctx.needs_input_grad
        return (
            None,
            ctx.kernels.matmul(grad_NO, weight_OD) if is_input_used else None,
            ctx.kernels.weight_gradient(grad_NO, x_ND) if is_weight_used else None,
        )


class _SwiGlu(Function):
    @staticmethod
    def forward(ctx: _Context, kernels: Kernels, gate_NI: Tensor, up_NI: Tensor) -> Tensor:
        ctx.kernels = kernels
        ctx.save_for_backward(gate_NI, up_NI)
        return kernels.swiglu(gate_NI, up_NI)

    @staticmethod
    def backward(ctx: _Context, *grad_outputs: Tensor) -> tuple[None, Tensor, Tensor]:
        return None, *ctx.kernels.swiglu_backward(grad_outputs[0], *ctx.saved_tensors)


class _Attention(Function):
    @staticmethod
    def forward(
        ctx: _Context, kernels: Kernels, q_BTHE: Tensor, k_BSGE: Tensor, v_BSGE: Tensor
    ) -> Tensor:
        ctx.kernels = kernels
        ctx.save_for_backward(q_BTHE, k_BSGE, v_BSGE)
        return kernels.attention(q_BTHE, k_BSGE, v_BSGE)

    @staticmethod
    def backward(ctx: _Context, *grad_outputs: Tensor) -> tuple[None, Tensor, Tensor, Tensor]:
        return None, *ctx.kernels.attention_backward(grad_outputs[0], *ctx.saved_tensors)


class _RmsNorm(Function):
    @staticmethod
    def forward(
        ctx: _Context, kernels: Kernels, x_ND: Tensor, weight_D: Tensor, eps: float
    ) -> Tensor:
        ctx.kernels = kernels
        normed_ND, scale_N = kernels.rms_norm(x_ND, weight_D, eps)
        ctx.save_for_backward(x_ND, scale_N, weight_D)
        return normed_ND

    @staticmethod
    def backward(ctx: _Context, *grad_outputs: Tensor) -> tuple[None, Tensor, Tensor, None]:
        return None, *ctx.kernels.rms_norm_backward(grad_outputs[0], *ctx.saved_tensors), None


class _Rope(Function):
    @staticmethod
    def forward(
        ctx: _Context, kernels: Kernels, x_BTHE: Tensor, cos_TE: Tensor, sin_TE: Tensor
    ) -> Tensor:
        ctx.kernels = kernels
        ctx.save_for_backward(cos_TE, sin_TE)
        return kernels.rotate(x_BTHE, cos_TE, sin_TE)

    @staticmethod
    def backward(ctx: _Context, *grad_outputs: Tensor) -> tuple[None, Tensor, None, None]:
        cos_TE, sin_TE = ctx.saved_tensors
        return None, ctx.kernels.rotate(grad_outputs[0], cos_TE, -sin_TE), None, None


class _Embedding(Function):
    @staticmethod
    def forward(ctx: _Context, kernels: Kernels, weight_VD: Tensor, tokens_N: Tensor) -> Tensor:
        ctx.kernels = kernels
        ctx.save_for_backward(weight_VD, tokens_N)
        return weight_VD.index_select(0, tokens_N)

    @staticmethod
    def backward(ctx: _Context, *grad_outputs: Tensor) -> tuple[None, Tensor, None]:
        weight_VD, tokens_N = ctx.saved_tensors
        return None, ctx.kernels.gather_rows(grad_outputs[0], tokens_N, len(weight_VD)), None


class _CrossEntropy(Function):
    @staticmethod
    def forward(ctx: _Context, kernels: Kernels, logits_NV: Tensor, labels_N: Tensor) -> Tensor:
        ctx.kernels = kernels
        loss_N, shares_NV = kernels.cross_entropy(logits_NV, labels_N)
        ctx.save_for_backward(shares_NV, labels_N)
        return divided(tree_sum(loss_N), len(loss_N))

    @staticmethod
    def backward(ctx: _Context, *grad_outputs: Tensor) -> tuple[None, Tensor, None]:
        shares_NV, labels_N = ctx.saved_tensors
        factor = float(grad_outputs[0]) / len(labels_N)
        return None, ctx.kernels.cross_entropy_backward(shares_NV, labels_N, factor), None


def _norm(kernels: Kernels, flat_P: Tensor) -> float:
    return sqrt(kernels.sum_of_squares(flat_P))


def _adamw(
    kernels: Kernels,
    params_P: Tensor,
    m_P: Tensor,
    v_P: Tensor,
    grad_P: Tensor,
    scalars: AdamWScalars,
) -> None:
    kernels.adamw(
        params_P,
        m_P,
        v_P,
        grad_P,
        (
            scalars.rate,
            scalars.beta1,
            1.0 - scalars.beta1,
            scalars.beta2,
            1.0 - scalars.beta2,
            scalars.eps,
            scalars.correction1,
            scalars.correction2,
        ),
    )
