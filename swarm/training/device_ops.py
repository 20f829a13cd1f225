"""The native operators as accelerators want them: torch's fused ones, on one device, in float32 or bfloat16.

Core: pure functions, usable under autograd and by torch.compile.

``bf16`` rounds where ``torch.autocast`` does: products and attention take and give bfloat16; norms, rotary
positions, the sum of layers and the loss are float32, and so are the weights, their gradient and the optimizer.
The table says it by itself, so that whoever replays a run needs the table alone.
Legend: N rows, D hidden, O outputs, V vocabulary, H heads, E features of one head, T time, S time of the keys.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F  # noqa: N812  (the name all of torch uses)
from torch import Tensor

from swarm.training.operators import Ops

BF16_NAME = "native-bf16"


def device_ops(base: Ops, device: str, *, bf16: bool) -> Ops:
    """The operators of ``base`` for tensors on ``device``; those of the optimizer stay as they are."""

    def rope_tables(positions: int, width: int, theta: int) -> tuple[Tensor, Tensor]:
        cos_TE, sin_TE = base.rope_tables(positions, width, theta)
        return cos_TE.to(device), sin_TE.to(device)

    return replace(
        base,
        name=BF16_NAME if bf16 else base.name,
        linear=_bf16_linear if bf16 else F.linear,
        swiglu=_swiglu,
        attention=_bf16_attention if bf16 else _attention,
        rms_norm=_rms_norm,
        rope=_rope,
        rope_tables=rope_tables,
        cross_entropy=_cross_entropy,
    )


def _bf16_linear(x_ND: Tensor, weight_OD: Tensor) -> Tensor:
    return F.linear(x_ND.bfloat16(), weight_OD.bfloat16())


def _swiglu(gate_NI: Tensor, up_NI: Tensor) -> Tensor:
    return F.silu(gate_NI) * up_NI


def _rms_norm(x_ND: Tensor, weight_D: Tensor, eps: float) -> Tensor:
    return F.rms_norm(x_ND, (x_ND.shape[1],), weight_D, eps)


def _rope(x_BTHE: Tensor, cos_TE: Tensor, sin_TE: Tensor) -> Tensor:
    first, second = x_BTHE.chunk(2, -1)
    swapped_BTHE = torch.cat((-second, first), -1)
    return x_BTHE * cos_TE[:, None] + swapped_BTHE * sin_TE[:, None]


def _attention(
    query_BTHE: Tensor,
    key_BSKE: Tensor,
    value_BSKE: Tensor,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Torch's fused attention; each key-value head is repeated for the query heads it serves."""
    query, key, value = (x.transpose(1, 2) for x in (query_BTHE, key_BSKE, value_BSKE))
    if (copies := query.shape[1] // key.shape[1]) > 1:
        key, value = key.repeat_interleave(copies, 1), value.repeat_interleave(copies, 1)
    query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    times, seen = query.shape[2], key.shape[2]
    if times == seen:
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    else:
        mask_TS = torch.ones(times, seen, dtype=torch.bool, device=query.device)
        mask_TS = mask_TS.tril(seen - times)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask_TS)
    return mixed.transpose(1, 2)


def _bf16_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return _attention(query, key, value, torch.bfloat16)


def _cross_entropy(logits_NV: Tensor, labels_N: Tensor) -> Tensor:
    return F.cross_entropy(logits_NV.float(), labels_N)
