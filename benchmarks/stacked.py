"""Gradients of many replicas at once, for the benchmarks that train them in one process.

The model is small, so that replicas one after another spend most of their time between operators. Here the
shards of R replicas lie in one tensor of R x P, and each operator of the model works on all of them: the passes
are those of ``swarm.training`` with another table of operators, and tests/benchmarks/test_stacked.py holds them
to what one replica computes by itself.

Legend: R replicas, B sequences of each, T time, N rows of all replicas, D and O features, V vocabulary, P
parameters of a replica.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F  # noqa: N812  (the name all of torch uses)
from torch import Tensor

from swarm.training.model.llama import LAYER_BLOCKS, Layer, head_logits, layer_forward
from swarm.training.model.profiles import NATIVE
from swarm.training.model.stages import StagePlan


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
