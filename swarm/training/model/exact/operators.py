"""Operators of ``seq-f32/1``, forward and backward: the same bits on every machine.

Core: functions over a set of kernels (``referee``, or ``compiled``, which has the same bits), usable under
autograd. What autograd adds by itself is copies, and sums of two gradients, whose order cannot matter.

Legend: N rows (batch x time), T time, S time of the keys, D hidden, O outputs, I intermediate, V vocabulary, H
heads, G key-value heads, E features of one head, P parameters of a shard.
"""

from functools import partial
from math import sqrt
from typing import Protocol

import torch
from torch import Tensor
from torch.autograd import Function

from swarm.training.model.exact.reference import tree_sum
from swarm.training.model.exact.rotary import rotary_tables
from swarm.training.model.operators import AdamWScalars, OpContext, Ops, apply

EXACT_NAME = "seq-f32/1"


class Kernels(Protocol):
    """Functions that the operators are made of; shapes and meaning in ``referee``."""

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
    def backward(ctx: _Context, *grad_outputs: Tensor) -> tuple[None, Tensor, Tensor]:
        (grad_NO,) = grad_outputs
        x_ND, weight_OD = ctx.saved_tensors
        return (
            None,
            ctx.kernels.matmul(grad_NO, weight_OD),
            ctx.kernels.weight_gradient(grad_NO, x_ND),
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
        return tree_sum(loss_N) / len(loss_N)

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
