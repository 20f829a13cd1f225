"""Correct the projections of a layer by a low-rank adapter (LoRA), and merge it into the weights.

Core: pure functions over an ``Ops`` table.

A projection W of O outputs and D inputs becomes W + s B A, with A of R x D, B of O x R and s = alpha / R. Only
A and B are trained. B starts at zero, so that the first forward pass is that of W; A is drawn uniformly with
the bound 1 / sqrt(D), as loralib and PEFT do. Projections that read the same input have their A stacked, so
that one product computes them all; the scale is applied to the R columns between the two products.
Source: arXiv 2106.09685, section 4.

Legend: N rows, D inputs, O outputs, R rank, G projections that read one input.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from swarm.config.spec import AdapterSpec
from swarm.training.model.operators import Ops

PROJECTIONS = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
"""Modules of a decoder layer in transformers' Llama, by the name of the target."""
GROUPS = (("q", "k", "v"), ("o",), ("gate", "up"), ("down",))
"""Targets by the input that they read, in the order in which a layer computes them."""
A_SUFFIX, B_SUFFIX, WEIGHT_SUFFIX = ".lora_A.weight", ".lora_B.weight", ".weight"


@dataclass(frozen=True, slots=True)
class LowRank:
    """The adapter of the projections that read one input."""

    into: Tensor
    """The A of its targets, one below the other: (G R) x D."""
    back: tuple[Tensor | None, ...]
    """The B of each projection of the group, O x R; None for one that is no target."""
    scale: float


@dataclass(frozen=True, slots=True)
class LayerAdapter:
    """The adapters of one layer, by the input that they read; None where nothing is a target."""

    qkv: LowRank | None
    output: LowRank | None
    gate_up: LowRank | None
    down: LowRank | None


def a_deviation(inputs: int) -> float:
    """Return the initial standard deviation of an A: uniform with the bound 1 / sqrt(D)."""
    return 1.0 / sqrt(3.0 * inputs)


def read_adapter(adapter: AdapterSpec, views: Sequence[Tensor]) -> LayerAdapter:
    """Return the adapter of a layer from its blocks: of each group the stacked A, then each B."""
    left, found = iter(views), list[LowRank | None]()
    for group in GROUPS:
        chosen = [name for name in group if name in adapter.targets]
        if not chosen:
            found.append(None)
            continue
        into = next(left)
        back = tuple(next(left) if name in chosen else None for name in group)
        found.append(LowRank(into, back, adapter.scale))
    return LayerAdapter(*found)


def corrections(ops: Ops, low: LowRank, x_ND: Tensor) -> list[Tensor | None]:
    """Return s B A x of every projection of a group, N x O; None for one that is no target."""
    targets = sum(b is not None for b in low.back)
    inner = ops.linear(x_ND, low.into) * low.scale
    pieces = iter(torch.split(inner, low.into.shape[0] // targets, 1))
    return [None if b is None else ops.linear(next(pieces), b) for b in low.back]


def corrected(ops: Ops, low: LowRank | None, x_ND: Tensor, weight: Tensor) -> Tensor:
    """Return W x + s B A x of one projection, N x O."""
    out_NO = ops.linear(x_ND, weight)
    if low is None:
        return out_NO
    (more_NO,) = corrections(ops, low, x_ND)
    return out_NO if more_NO is None else ops.add(out_NO, more_NO)


def corrected_stack(
    ops: Ops, low: LowRank | None, x_ND: Tensor, weight: Tensor, widths: Sequence[int]
) -> Tensor:
    """Return the same for projections whose matrices are stacked, of so many outputs each."""
    out_NO = ops.linear(x_ND, weight)
    if low is None:
        return out_NO
    parts = zip(torch.split(out_NO, list(widths), 1), corrections(ops, low, x_ND), strict=True)
    return torch.cat([part if more is None else ops.add(part, more) for part, more in parts], 1)


def corrected_pair(
    ops: Ops, low: LowRank | None, x_ND: Tensor, gate: Tensor, up: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the same for the two projections that SwiGLU multiplies."""
    if low is None:
        return ops.linear(x_ND, gate), ops.linear(x_ND, up)
    # A second name for x: the order in which autograd adds three gradients is its own affair, and so it adds
    # two of them here and the third there.
    wide_ND = x_ND.view_as(x_ND)
    outs = (ops.linear(wide_ND, gate), ops.linear(wide_ND, up))
    parts = zip(outs, corrections(ops, low, x_ND), strict=True)
    first, second = (out if more is None else ops.add(out, more) for out, more in parts)
    return first, second


def merge_into(base: Mapping[str, Tensor], adapter: Mapping[str, Tensor], scale: float) -> None:
    """Add s B A to the weights of ``base`` in place; names are those of transformers' Llama.

    The product is computed in float64 and rounded once.
    """
    for name, a_RD in adapter.items():
        if not name.endswith(A_SUFFIX):
            continue
        module = name.removesuffix(A_SUFFIX)
        b_OR, weight_OD = adapter[module + B_SUFFIX], base[module + WEIGHT_SUFFIX]
        weight_OD.copy_(weight_OD.double().add_(b_OR.double() @ a_RD.double(), alpha=scale))
