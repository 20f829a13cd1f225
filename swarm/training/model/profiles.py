"""Numerics profiles: tables of the operators through which all arithmetic of model and optimizer goes.

Core: pure functions, usable under autograd; no operator writes into its arguments, except ``adamw`` and
``add_units``, which work in place.

``native`` is torch's own arithmetic: fast, the same bits on the same machine with one thread, but not
between machines (docs/spec/verification.md section 1). ``native-bf16`` is the same with products in
bfloat16: it rounds where ``torch.autocast`` does. Products and attention take and return bfloat16; norms,
rotary positions, the sum of layers and the loss are float32, and so are the weights, their gradient and the
optimizer. The rounding is part of the table, so that a replay needs the table alone. On an accelerator both
use torch's fused operators (``device_ops``). ``seq-f32/1`` gives the same bits on every machine and is
implemented in ``exact``, for the CPU and for CUDA.

Legend: N rows (batch x time), B batch, T time, S time of the keys, D hidden, O outputs, I intermediate, V
vocabulary, H heads, K key-value heads, E features of one head, P parameters of a shard, R rows and C columns of
a matrix, G matrices of one shape.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from math import pi, sqrt

import torch
import torch.nn.functional as F  # noqa: N812  (the name all of torch uses)
from torch import Tensor
from torch.autograd import Function

from swarm.config.spec import NANO, ROPE_LINEAR, ROPE_LLAMA3, RopeSpec
from swarm.errors import BadConfig
from swarm.training.model.exact.native import Compiled
from swarm.training.model.exact.operators import EXACT_NAME, exact_ops
from swarm.training.model.exact.reference import add_units, mean_units
from swarm.training.model.exact.selftest import device_kernels, trusted_kernels
from swarm.training.model.operators import (
    NEWTON_SCHULZ,
    NEWTON_SCHULZ_EPS,
    NEWTON_SCHULZ_STEPS,
    PLAIN_ROPE,
    AdamWScalars,
    OpContext,
    Ops,
    RopeTables,
    apply,
)

BF16_NAME = "native-bf16"


def device_ops(base: Ops, device: str, *, bf16: bool) -> Ops:
    """Return the operators of ``base`` for tensors on ``device``; those of the optimizer are unchanged.

    With ``bf16`` the products of Muon are in bfloat16, too.
    """

    return replace(
        base,
        name=BF16_NAME if bf16 else base.name,
        linear=_bf16_linear if bf16 else F.linear,
        swiglu=_swiglu,
        attention=_bf16_attention if bf16 else _attention,
        rms_norm=_rms_norm,
        rope=_rope,
        rope_tables=_tables_on(base, device),
        cross_entropy=_cross_entropy,
        orthogonal=_bf16_orthogonal if bf16 else base.orthogonal,
    )


def _tables_on(base: Ops, device: str) -> RopeTables:
    """Return the function of ``base`` that computes rotary tables, for tables on ``device``."""

    def rope_tables(
        positions: int, width: int, theta: int, rope: RopeSpec = PLAIN_ROPE
    ) -> tuple[Tensor, Tensor]:
        cos_TE, sin_TE = base.rope_tables(positions, width, theta, rope)
        return cos_TE.to(device), sin_TE.to(device)

    return rope_tables


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
    """Compute torch's fused attention; each key-value head is repeated for the query heads it serves."""
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


def table(numerics: str) -> Ops:
    """Return the operators of a numerics profile, exact ones after their self-test.

    Raises ``BadConfig`` for a profile that this build does not have, or that fails its self-test here.
    """
    if numerics == NATIVE.name:
        return _native_table()
    if numerics == EXACT_NAME:
        return _exact_table()
    if numerics == BF16_NAME:
        return table_on(numerics, "cpu")
    raise _unknown(numerics)


def _unknown(numerics: str) -> BadConfig:
    return BadConfig(
        f"this build has no numerics profile {numerics!r}", hint='use numerics = "native"'
    )


@lru_cache(maxsize=16)
def table_on(numerics: str, device: str) -> Ops:
    """Return the variant of a profile's operators for tensors on ``device``.

    Native ones are torch's fused operators. Exact ones have the same bits everywhere: raises ``BadConfig`` if
    ``device`` fails its self-test, or there is no such profile.
    """
    if numerics == EXACT_NAME:
        if device == "cpu":
            return _exact_table()
        ops = exact_ops(device_kernels(device))
        return replace(ops, rope_tables=_tables_on(ops, device))
    if numerics not in {NATIVE.name, BF16_NAME}:
        raise _unknown(numerics)
    base = _native_table() if device == "cpu" else NATIVE
    return device_ops(base, device, bf16=numerics == BF16_NAME)


def notice(numerics: str) -> str:
    """Return a notice for the node operator about a profile, or ""; raises as ``table`` does."""
    return "" if table(numerics).name != EXACT_NAME else trusted_kernels().notice


@lru_cache(maxsize=1)
def _native_table() -> Ops:
    """Return ``NATIVE`` with gradient sums by self-tested kernels: integer sums are equal in any profile.

    Compiled kernels make matrices of the CPU orthogonal, too, in a process of one thread: they need two thirds
    of the operations. With more threads torch is faster.
    """
    try:
        kernels = trusted_kernels().kernels
    except BadConfig:
        return NATIVE
    ops = replace(NATIVE, add_units=kernels.add_units, mean_units=kernels.mean_units)
    if not isinstance(kernels, Compiled):
        return ops

    def orthogonal(updates: Sequence[Tensor]) -> list[Tensor]:
        if torch.get_num_threads() > 1 or any(x.device.type != "cpu" for x in updates):
            return _orthogonal(updates)
        return [kernels.orthogonal(update_RC) for update_RC in updates]

    return replace(ops, orthogonal=orthogonal)


@lru_cache(maxsize=1)
def _exact_table() -> Ops:
    return exact_ops(trusted_kernels().kernels)


class _RmsNorm(Function):
    """RMSNorm, one pass each way; torch's own composite takes three times as long on a CPU."""

    @staticmethod
    def forward(ctx: OpContext, x_ND: Tensor, weight_D: Tensor, eps: float) -> Tensor:
        scale_N1 = torch.rsqrt((x_ND * x_ND).mean(-1, keepdim=True) + eps)
        unit_ND = x_ND * scale_N1
        ctx.save_for_backward(unit_ND, scale_N1, weight_D)
        return unit_ND * weight_D

    @staticmethod
    def backward(ctx: OpContext, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, None]:
        (grad_ND,) = grad_outputs
        unit_ND, scale_N1, weight_D = ctx.saved_tensors
        pull_ND = grad_ND * unit_ND
        grad_D = pull_ND.sum(0)
        mean_N1 = (pull_ND @ weight_D).unsqueeze(-1) / unit_ND.shape[-1]
        return (grad_ND * weight_D - unit_ND * mean_N1) * scale_N1, grad_D, None


class _Attention(Function):
    """Causal attention of one sequence at a time; the backward half recomputes the weights.

    The T x S weights of one sequence stay in a core's cache; those of a whole micro-batch do not, and
    moving them to memory and back takes three times as long as computing them twice.
    """

    @staticmethod
    def forward(ctx: OpContext, q_BTHE: Tensor, k_BSKE: Tensor, v_BSKE: Tensor) -> Tensor:
        ctx.save_for_backward(q_BTHE, k_BSKE, v_BSKE)
        mixed_BTHE = torch.empty(q_BTHE.shape)
        mask_TS = _causal_mask(q_BTHE.shape[1], k_BSKE.shape[1])
        for q_THE, k_SKE, v_SKE, mixed_THE in zip(q_BTHE, k_BSKE, v_BSKE, mixed_BTHE, strict=True):
            q_HTE, k_HSE, v_HSE = _by_head(q_THE, k_SKE, v_SKE)
            weights_HTS = _attention_weights(q_HTE, k_HSE, mask_TS)
            mixed_THE.copy_(torch.bmm(weights_HTS, v_HSE).transpose(0, 1))
        return mixed_BTHE

    @staticmethod
    def backward(ctx: OpContext, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        (grad_BTHE,) = grad_outputs
        q_BTHE, k_BSKE, v_BSKE = ctx.saved_tensors
        grads = torch.empty(q_BTHE.shape), torch.empty(k_BSKE.shape), torch.empty(v_BSKE.shape)
        mask_TS = _causal_mask(q_BTHE.shape[1], k_BSKE.shape[1])
        scale = 1.0 / sqrt(q_BTHE.shape[3])
        for i in range(q_BTHE.shape[0]):
            q_HTE, k_HSE, v_HSE = _by_head(q_BTHE[i], k_BSKE[i], v_BSKE[i])
            weights_HTS = _attention_weights(q_HTE, k_HSE, mask_TS)
            pull_HTE = grad_BTHE[i].transpose(0, 1)
            _gather_heads(grads[2][i], torch.bmm(weights_HTS.transpose(1, 2), pull_HTE))
            slope_HTS = torch.bmm(pull_HTE, v_HSE.transpose(1, 2)).mul_(weights_HTS)
            total_HT1 = slope_HTS.sum(-1, keepdim=True)
            slope_HTS.sub_(weights_HTS.mul_(total_HT1)).mul_(scale)
            _gather_heads(grads[0][i], torch.bmm(slope_HTS, k_HSE))
            _gather_heads(grads[1][i], torch.bmm(slope_HTS.transpose(1, 2), q_HTE))
        return grads


def _causal_mask(rows: int, columns: int) -> Tensor:
    return torch.full((rows, columns), float("-inf")).triu_(columns - rows + 1)


def _by_head(q_THE: Tensor, k_SKE: Tensor, v_SKE: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the tensors heads first; each key-value head is repeated for the query heads it serves."""
    copies = q_THE.shape[1] // k_SKE.shape[1]
    if copies > 1:
        k_SKE, v_SKE = k_SKE.repeat_interleave(copies, 1), v_SKE.repeat_interleave(copies, 1)
    return q_THE.transpose(0, 1), k_SKE.transpose(0, 1), v_SKE.transpose(0, 1)


def _attention_weights(q_HTE: Tensor, k_HSE: Tensor, mask_TS: Tensor) -> Tensor:
    scores_HTS = torch.bmm(q_HTE, k_HSE.transpose(1, 2)).mul_(1.0 / sqrt(q_HTE.shape[2]))
    return torch.softmax(scores_HTS.add_(mask_TS), -1)


def _gather_heads(out_SKE: Tensor, grad_HSE: Tensor) -> None:
    """Write heads back in place, summing over the copies of a key-value head."""
    heads, times, width = grad_HSE.shape
    groups = out_SKE.shape[1]
    if heads != groups:
        grad_HSE = grad_HSE.view(groups, heads // groups, times, width).sum(1)
    out_SKE.copy_(grad_HSE.transpose(0, 1))


class _Rope(Function):
    """Rotary positions, a rotation; the backward is the rotation by the opposite angle."""

    @staticmethod
    def forward(ctx: OpContext, x_BTHE: Tensor, cos_TE: Tensor, sin_TE: Tensor) -> Tensor:
        ctx.save_for_backward(cos_TE, sin_TE)
        return _rotated(x_BTHE, cos_TE, sin_TE)

    @staticmethod
    def backward(ctx: OpContext, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        (grad_BTHE,) = grad_outputs
        cos_TE, sin_TE = ctx.saved_tensors
        return _rotated(grad_BTHE, cos_TE, -sin_TE), None, None


def _rotated(x_BTHE: Tensor, cos_TE: Tensor, sin_TE: Tensor) -> Tensor:
    """Rotate over whole rows of H x E: loops over half a head's features cost four times as much."""
    batch, times, heads, width = x_BTHE.shape
    half = width // 2
    swapped = x_BTHE.reshape(batch, times, heads, 2, half).flip(3).view(batch, times, -1)
    signed_TE = torch.cat((-sin_TE[:, :half], sin_TE[:, half:]), 1)
    turned = swapped.mul_(signed_TE.repeat(1, heads))
    turned += x_BTHE.reshape(batch, times, -1) * cos_TE.repeat(1, heads)
    return turned.view(x_BTHE.shape)


def _rope_tables(
    positions: int, width: int, theta: int, rope: RopeSpec = PLAIN_ROPE
) -> tuple[Tensor, Tensor]:
    exponents = torch.arange(0, width, 2, dtype=torch.int64).float() / width
    frequencies = _stretched(1.0 / (float(theta) ** exponents), rope)
    angles = torch.outer(torch.arange(positions).float(), frequencies)
    angles = torch.cat((angles, angles), -1)
    return angles.cos(), angles.sin()


def _stretched(frequencies: Tensor, rope: RopeSpec) -> Tensor:
    """Return rotary frequencies under the rule of a run, by the operations of transformers."""
    if rope.kind not in {ROPE_LINEAR, ROPE_LLAMA3}:
        return frequencies
    slow = frequencies / (rope.factor_nano / NANO)
    if rope.kind == ROPE_LINEAR:
        return slow
    low, high = rope.low_freq_nano / NANO, rope.high_freq_nano / NANO
    turns = rope.original_positions / (2 * pi / frequencies)
    share = ((turns - low) / (high - low)).clamp(0.0, 1.0)
    return (1 - share) * slow + share * frequencies


def _embedding(weight_VD: Tensor, tokens_N: Tensor) -> Tensor:
    return F.embedding(tokens_N, weight_VD)


def _adamw(params_P: Tensor, m_P: Tensor, v_P: Tensor, grad_P: Tensor, s: AdamWScalars) -> None:
    """Update unfused and in one fixed order: each line is an IEEE operation, rounded once."""
    m_P.mul_(s.beta1).add_(grad_P * (1.0 - s.beta1))
    v_P.mul_(s.beta2).add_((grad_P * grad_P).mul_(1.0 - s.beta2))
    denominator_P = (v_P * s.correction2).sqrt_().add_(s.eps)
    params_P.sub_((m_P * s.correction1).div_(denominator_P).mul_(s.rate))


def _orthogonal(updates: Sequence[Tensor], dtype: torch.dtype | None = None) -> list[Tensor]:
    """Compute with products in ``dtype``, all matrices of one shape at once, tall ones transposed.

    Of small matrices it is the calls that take the time.
    """
    alike = defaultdict[tuple[int, int], list[int]](list)
    for index, (rows, columns) in enumerate(update_RC.shape for update_RC in updates):
        alike[min(rows, columns), max(rows, columns)].append(index)
    found = list(updates)
    for indices in alike.values():
        x_GRC = torch.stack([_turned(updates[index]) for index in indices])
        unit_GRC = x_GRC / (
            torch.linalg.vector_norm(x_GRC, dim=(1, 2), keepdim=True) + NEWTON_SCHULZ_EPS
        )
        ready_GRC = _newton_schulz(unit_GRC.to(dtype or unit_GRC.dtype)).to(unit_GRC.dtype)
        for index, ready_RC in zip(indices, ready_GRC, strict=True):
            found[index] = ready_RC.t() if _is_tall(updates[index]) else ready_RC
    return found


def _bf16_orthogonal(updates: Sequence[Tensor]) -> list[Tensor]:
    return _orthogonal(updates, torch.bfloat16)


def _turned(x_RC: Tensor) -> Tensor:
    return x_RC.t() if _is_tall(x_RC) else x_RC


def _is_tall(x_RC: Tensor) -> bool:
    return x_RC.shape[0] > x_RC.shape[1]


def _newton_schulz(x_GRC: Tensor) -> Tensor:
    a, b, c = NEWTON_SCHULZ
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = torch.bmm(x_GRC, x_GRC.mT)
        bend = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x_GRC = torch.baddbmm(x_GRC, bend, x_GRC, beta=a)
    return x_GRC


NATIVE = Ops(
    name="native",
    linear=F.linear,
    add=torch.add,
    swiglu=lambda gate, up: F.silu(gate) * up,
    attention=lambda query, key, value: apply(_Attention, query, key, value),
    rms_norm=lambda x, weight, eps: apply(_RmsNorm, x, weight, eps),
    rope=lambda x, cos, sin: apply(_Rope, x, cos, sin),
    rope_tables=_rope_tables,
    embedding=_embedding,
    cross_entropy=F.cross_entropy,
    norm=lambda flat: float(torch.linalg.vector_norm(flat)),
    adamw=_adamw,
    orthogonal=_orthogonal,
    add_units=add_units,
    mean_units=mean_units,
)

__all__ = [
    "BF16_NAME",
    "EXACT_NAME",
    "NATIVE",
    "AdamWScalars",
    "Ops",
    "notice",
    "table",
    "table_on",
]
