"""Gradients and optimizer steps of many replicas at once, for the benchmarks that train them in one process.

The model is small, so that replicas one after another spend most of their time between operators. Here the
shards of R replicas lie in one tensor of R x P, and each operator of the model works on all of them: the passes
are those of ``swarm.training`` with another table of operators, the optimizer is that of ``optimizer.py``, and
tests/benchmarks/test_stacked.py holds both to what one replica computes by itself.

Legend: R replicas, B sequences of each, T time, N rows of all replicas, D and O features, V vocabulary, P
parameters of a replica, C rows and K columns of a matrix.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from math import sqrt

import torch
import torch.nn.functional as F  # noqa: N812  (the name all of torch uses)
from torch import Tensor

from swarm.config.spec import MUON, NANO, OptimizerSpec
from swarm.training.model.llama import LAYER_BLOCKS, Layer, head_logits, layer_forward
from swarm.training.model.operators import (
    NEWTON_SCHULZ,
    NEWTON_SCHULZ_EPS,
    NEWTON_SCHULZ_STEPS,
    AdamWScalars,
)
from swarm.training.model.optimizer import OptimizerState
from swarm.training.model.profiles import NATIVE
from swarm.training.model.stages import Matrix, StagePlan


def stacked_gradients(
    plan: StagePlan, params_RP: Tensor, inputs_RBT: Tensor, labels_RBT: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the loss of each replica's micro-batch in nats (R) and its gradient (RP).

    The plan is that of a whole model without an adapter and without bottlenecks.
    """
    leaf_RP = params_RP.detach().requires_grad_()
    losses_R = _losses(plan, leaf_RP, inputs_RBT, labels_RBT)
    (grad_RP,) = torch.autograd.grad(losses_R.sum(), (leaf_RP,))
    return losses_R.detach(), grad_RP


def _losses(plan: StagePlan, leaf_RP: Tensor, inputs_RBT: Tensor, labels_RBT: Tensor) -> Tensor:
    replicas, sequences, _ = inputs_RBT.shape
    pieces = torch.split(leaf_RP, list(plan.block_sizes), 1)
    views = iter(x.view(replicas, *b.shape) for b, x in zip(plan.blocks, pieces, strict=True))
    x_ND = _OPS.embedding(next(views), inputs_RBT.reshape(-1))
    for _ in range(plan.num_layers):
        layer = Layer(*(next(views) for _ in range(LAYER_BLOCKS)))
        x_ND = layer_forward(_OPS, plan.model, layer, x_ND, replicas * sequences)
    norm_RD, head_RVD = views
    logits_NV = head_logits(_OPS, plan.model, norm_RD, head_RVD, x_ND)
    losses_N = F.cross_entropy(logits_NV, labels_RBT.reshape(-1), reduction="none")
    return losses_N.view(replicas, -1).mean(1)


def _linear(x_ND: Tensor, weight_ROD: Tensor) -> Tensor:
    replicas, outputs, width = weight_ROD.shape
    return torch.bmm(x_ND.view(replicas, -1, width), weight_ROD.transpose(1, 2)).view(-1, outputs)


def _rms_norm(x_ND: Tensor, weight_RD: Tensor, eps: float) -> Tensor:
    replicas, width = weight_RD.shape
    unit_ND = NATIVE.rms_norm(x_ND, torch.ones(width), eps)
    return (unit_ND.view(replicas, -1, width) * weight_RD.unsqueeze(1)).view(-1, width)


def _embedding(weight_RVD: Tensor, tokens_N: Tensor) -> Tensor:
    replicas, vocabulary, width = weight_RVD.shape
    starts_R1 = torch.arange(replicas).unsqueeze(1) * vocabulary
    rows_N = (tokens_N.view(replicas, -1) + starts_R1).view(-1)
    return F.embedding(rows_N, weight_RVD.reshape(-1, width))


def _attention(q_BTHE: Tensor, k_BTKE: Tensor, v_BTKE: Tensor) -> Tensor:
    """Attend by torch's own operator: over this many short sequences it beats one sequence at a time."""
    q, k, v = (x.transpose(1, 2) for x in (q_BTHE, k_BTKE, v_BTKE))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True).transpose(1, 2)


_OPS = replace(
    NATIVE,
    name="stacked",
    linear=_linear,
    rms_norm=_rms_norm,
    embedding=_embedding,
    attention=_attention,
)


class StackedOptimizer:
    """The optimizer of one stage, without weight decay, for replicas that step together."""

    def __init__(
        self, spec: OptimizerSpec, num_parameters: int, matrices: Sequence[Matrix]
    ) -> None:
        assert not spec.weight_decay_nano, "variants of the benchmarks have no weight decay"
        self._spec, self._matrices = spec, sorted(matrices, key=_shape)
        is_rest_P = torch.ones(num_parameters, dtype=torch.bool)
        for matrix in matrices:
            is_rest_P[matrix.span.slice] = False
        self._rest_A = is_rest_P.nonzero().view(-1)

    def step(
        self,
        params: Sequence[Tensor],
        grad_RP: Tensor,
        states: Sequence[OptimizerState],
        rate: float,
    ) -> None:
        """Clip, and update each replica's parameters (P) and state; all states have taken as many steps."""
        spec = self._spec
        params_RP, m_RP = torch.stack(list(params)), torch.stack([state.m_P for state in states])
        v_RA = torch.stack([state.v_A for state in states])
        limit = spec.clip_norm_nano / NANO
        if limit:
            norms_R1 = torch.linalg.vector_norm(grad_RP, dim=1, keepdim=True)
            grad_RP = grad_RP * (limit / norms_R1).clamp(max=1.0)
        steps = states[0].step + 1
        if spec.name == MUON:
            self._move_matrices(params_RP, m_RP, grad_RP, rate)
            rate *= spec.adamw_rate_nano / NANO
        self._move_rest(params_RP, m_RP, v_RA, grad_RP, _scalars(spec, rate, steps))
        for row, (params_P, state) in enumerate(zip(params, states, strict=True)):
            params_P.copy_(params_RP[row])
            state.m_P.copy_(m_RP[row])
            state.v_A.copy_(v_RA[row])
            state.step = steps

    def _move_matrices(self, params_RP: Tensor, m_RP: Tensor, grad_RP: Tensor, rate: float) -> None:
        """Move the matrices of all replicas, those of one shape in one pass."""
        mu, replicas = self._spec.momentum_nano / NANO, len(params_RP)
        for (rows, columns), group in groupby(self._matrices, _shape):
            spans = [matrix.span.slice for matrix in group]
            fresh = torch.stack([grad_RP[:, span] for span in spans], 1) * (1.0 - mu)
            kept = torch.stack([m_RP[:, span] for span in spans], 1).mul_(mu).add_(fresh)
            ahead = (kept * mu).add_(fresh).view(-1, rows, columns)
            moves = _orthogonal(ahead).view(replicas, len(spans), -1)
            moves *= rate * sqrt(max(1.0, rows / columns))
            for number, span in enumerate(spans):
                m_RP[:, span] = kept[:, number]
                params_RP[:, span] -= moves[:, number]

    def _move_rest(
        self, params_RP: Tensor, m_RP: Tensor, v_RA: Tensor, grad_RP: Tensor, scalars: AdamWScalars
    ) -> None:
        rest_A = self._rest_A
        if len(rest_A) == params_RP.shape[1]:
            NATIVE.adamw(params_RP, m_RP, v_RA, grad_RP, scalars)
            return
        params_RA, m_RA = params_RP[:, rest_A], m_RP[:, rest_A]
        NATIVE.adamw(params_RA, m_RA, v_RA, grad_RP[:, rest_A], scalars)
        params_RP[:, rest_A], m_RP[:, rest_A] = params_RA, m_RA


def _shape(matrix: Matrix) -> tuple[int, int]:
    return matrix.rows, matrix.columns


def _scalars(spec: OptimizerSpec, rate: float, steps: int) -> AdamWScalars:
    beta1, beta2 = spec.beta1_nano / NANO, spec.beta2_nano / NANO
    return AdamWScalars(
        rate=rate,
        beta1=beta1,
        beta2=beta2,
        eps=spec.eps_nano * 1e-9,
        correction1=1.0 / (1.0 - beta1**steps),
        correction2=1.0 / (1.0 - beta2**steps),
    )


def _orthogonal(ahead_MCK: Tensor) -> Tensor:
    """Make M matrices orthogonal, by the steps of docs/spec/training.md section 2a."""
    a, b, c = NEWTON_SCHULZ
    is_tall = ahead_MCK.shape[1] > ahead_MCK.shape[2]
    x = ahead_MCK.transpose(1, 2) if is_tall else ahead_MCK
    x = x / (torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True) + NEWTON_SCHULZ_EPS)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = torch.bmm(x, x.transpose(1, 2))
        bend = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, bend, x, beta=a)
    return (x.transpose(1, 2) if is_tall else x).contiguous()
