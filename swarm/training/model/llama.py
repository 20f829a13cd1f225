"""A Llama-style decoder as a list of layers: tensor shapes, and each layer as a function.

Core: pure functions over an ``Ops`` table and views of the parameters.

RMSNorm, rotary positions (halves rotated), SwiGLU, untied embeddings: the arithmetic of transformers'
``LlamaForCausalLM``, so that an export gives the same logits there. Projections that read the same
input are stored side by side and computed as one (q, k and v). An adapter (``training/model/adapter.py``) may
correct the projections.

Legend: B batch, T time, N = B x T rows, D hidden, H heads, K key-value heads, E features of one head,
I intermediate, V vocabulary, S time of the cached keys.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from math import sqrt
from typing import Protocol

import torch
from torch import Tensor

from swarm.config.bounds import target_shape
from swarm.config.spec import NANO, AdapterSpec, ModelSpec, RopeSpec
from swarm.errors import BadConfig
from swarm.training.model.adapter import (
    A_SUFFIX,
    B_SUFFIX,
    GROUPS,
    PROJECTIONS,
    LayerAdapter,
    a_deviation,
    corrected,
    corrected_pair,
    corrected_stack,
)
from swarm.training.model.profiles import Ops


@dataclass(frozen=True, slots=True)
class TensorShape:
    """One named tensor of the model; ``deviation`` is its initial standard deviation, 0 for ``fill``."""

    name: str
    shape: tuple[int, ...]
    deviation: float
    fill: float = 1.0
    mirrored: "TensorShape | None" = None
    """A matrix whose transpose this one starts as; None: it is drawn."""


@dataclass(frozen=True, slots=True)
class Block:
    """Adjacent tensors that are computed as one matrix, or a single vector."""

    parts: tuple[TensorShape, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the parts stacked along their first axis."""
        return (sum(part.shape[0] for part in self.parts), *self.parts[0].shape[1:])


@dataclass(frozen=True, slots=True)
class Layer:
    """The parameters of one decoder layer, as views of a flat vector."""

    input_norm_D: Tensor
    qkv: Tensor
    output: Tensor
    middle_norm_D: Tensor
    gate: Tensor
    up: Tensor
    down: Tensor
    adapter: LayerAdapter | None = field(default=None, kw_only=True)


EMBEDDING_NAME, HEAD_NAME = "model.embed_tokens.weight", "lm_head.weight"
LAYER_PREFIX = "model.layers."
"""Beginning of the name of every tensor of a decoder layer."""
LAYER_BLOCKS = 7
"""Number of blocks of a decoder layer: the first fields of ``Layer``, in order."""
NO_ADAPTER = LayerAdapter(None, None, None, None)
EMBEDDING_DEVIATION = 0.5
"""Larger than the 0.02 of large models: a small model learns faster when tokens start apart."""


def head_width(model: ModelSpec) -> int:
    """Return E; raise ``BadConfig`` if the heads do not fit the hidden size."""
    width, rest = divmod(model.hidden_size, model.num_heads)
    if rest or width % 2 or model.num_heads % model.num_kv_heads:
        raise BadConfig(
            f"{model.num_heads} heads ({model.num_kv_heads} for keys) cannot share a hidden size of "
            f"{model.hidden_size}: it takes an even number of features per head"
        )
    return width


def embedding_blocks(model: ModelSpec) -> tuple[Block, ...]:
    """Return the blocks of stage 0 before its layers."""
    shape = (model.vocab_size, model.hidden_size)
    return (Block((TensorShape(EMBEDDING_NAME, shape, EMBEDDING_DEVIATION),)),)


def layer_blocks(model: ModelSpec, layer: int) -> tuple[Block, ...]:
    """Return the blocks of layer ``layer``, in the order of ``Layer``, named as in transformers' Llama."""
    D, inner, E = model.hidden_size, model.intermediate_size, head_width(model)
    keys = model.num_kv_heads * E
    prefix = f"{LAYER_PREFIX}{layer}."
    into, back = 1.0 / sqrt(D), 1.0 / sqrt(2 * model.num_layers)

    def matrix(name: str, rows: int, columns: int, deviation: float) -> TensorShape:
        return TensorShape(f"{prefix}{name}.weight", (rows, columns), deviation)

    return (
        Block((TensorShape(prefix + "input_layernorm.weight", (D,), 0.0),)),
        Block(
            (
                matrix("self_attn.q_proj", D, D, into),
                matrix("self_attn.k_proj", keys, D, into),
                matrix("self_attn.v_proj", keys, D, into),
            )
        ),
        Block((matrix("self_attn.o_proj", D, D, into * back),)),
        Block((TensorShape(prefix + "post_attention_layernorm.weight", (D,), 0.0),)),
        Block((matrix("mlp.gate_proj", inner, D, into),)),
        Block((matrix("mlp.up_proj", inner, D, into),)),
        Block((matrix("mlp.down_proj", D, inner, back / sqrt(inner)),)),
    )


def adapter_blocks(model: ModelSpec, adapter: AdapterSpec, layer: int) -> tuple[Block, ...]:
    """Return the adapter's blocks of layer ``layer``, in the order of ``read_adapter``, named as by PEFT."""
    blocks, prefix = list[Block](), f"{LAYER_PREFIX}{layer}."
    for group in GROUPS:
        chosen = [name for name in group if name in adapter.targets]
        into, back = list[TensorShape](), list[Block]()
        for name in chosen:
            outputs, inputs = target_shape(model, name)
            module, deviation = prefix + PROJECTIONS[name], a_deviation(inputs)
            into.append(TensorShape(module + A_SUFFIX, (adapter.rank, inputs), deviation))
            below = TensorShape(module + B_SUFFIX, (outputs, adapter.rank), 0.0, fill=0.0)
            back.append(Block((below,)))
        blocks += [Block(tuple(into)), *back] if into else []
    return tuple(blocks)


def head_blocks(model: ModelSpec) -> tuple[Block, ...]:
    """Return the blocks of the last stage after its layers."""
    D = model.hidden_size
    return (
        Block((TensorShape("model.norm.weight", (D,), 0.0),)),
        Block((TensorShape(HEAD_NAME, (model.vocab_size, D), 0.5 / sqrt(D)),)),
    )


@lru_cache(maxsize=8)
def rope_tables(
    ops: Ops, positions: int, width: int, theta: int, rope: RopeSpec
) -> tuple[Tensor, Tensor]:
    """Return the rotary tables of a run (cos_TE, sin_TE), computed once."""
    return ops.rope_tables(positions, width, theta, rope)


class Memory(Protocol):
    """Storage of the keys and values of earlier positions while generating."""

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Append the new positions (1 T K E) and return all of them (1 S K E)."""
        ...


def layer_forward(
    ops: Ops,
    model: ModelSpec,
    layer: Layer,
    x_ND: Tensor,
    batch: int,
    first_position: int = 0,
    memory: tuple[Memory, int] | None = None,
) -> Tensor:
    """Compute one decoder layer over ``batch`` sequences laid end to end.

    ``memory`` (a cache and this layer's number in it) lets the rows attend to earlier positions; the
    first row then has position ``first_position``.
    """
    eps, low = model.norm_eps_nano / NANO, layer.adapter or NO_ADAPTER
    normed_ND = ops.rms_norm(x_ND, layer.input_norm_D, eps)
    mixed_ND = _attention(ops, model, layer, normed_ND, batch, first_position, memory)
    x_ND = ops.add(x_ND, corrected(ops, low.output, mixed_ND, layer.output))
    normed_ND = ops.rms_norm(x_ND, layer.middle_norm_D, eps)
    inner_NI = ops.swiglu(*corrected_pair(ops, low.gate_up, normed_ND, layer.gate, layer.up))
    return ops.add(x_ND, corrected(ops, low.down, inner_NI, layer.down))


def head_logits(
    ops: Ops, model: ModelSpec, norm_D: Tensor, head_VD: Tensor, x_ND: Tensor
) -> Tensor:
    """Return the logits_NV of the final norm and the head, float32."""
    normed_ND = ops.rms_norm(x_ND, norm_D, model.norm_eps_nano / NANO)
    return ops.linear(normed_ND, head_VD).float()


def _attention(
    ops: Ops,
    model: ModelSpec,
    layer: Layer,
    x_ND: Tensor,
    batch: int,
    first_position: int,
    memory: tuple[Memory, int] | None,
) -> Tensor:
    E, H, K = head_width(model), model.num_heads, model.num_kv_heads
    rows = x_ND.shape[0]
    times = rows // batch
    cos_TE, sin_TE = rope_tables(ops, model.seq_len, E, model.rope_theta, model.rope)
    here = slice(first_position, first_position + times)
    low, widths = (layer.adapter or NO_ADAPTER).qkv, (H * E, K * E, K * E)
    qkv_NO = corrected_stack(ops, low, x_ND, layer.qkv, widths)
    qkv = qkv_NO.view(batch, times, H + 2 * K, E)
    turning, value = torch.split(qkv, [H + K, K], 2)
    turned = ops.rope(turning, cos_TE[here], sin_TE[here])
    query, key = torch.split(turned, [H, K], 2)
    if memory is not None:
        key, value = memory[0].extend(memory[1], key, value)
    return ops.attention(query, key, value).reshape(rows, H * E)
