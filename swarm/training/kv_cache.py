"""Keys and values of the positions so far, and one stage computed with them.

Core: tensors in, tensors out; a cache grows with its text and is never larger than the context.

Legend: T new positions, S positions held, K key-value heads, E features of one head, D hidden, V vocabulary,
P parameters of the stage.
"""

import torch
from torch import Tensor

from swarm.errors import OutOfTurn, UsageError
from swarm.spec import ModelSpec
from swarm.training.model import head_logits, head_width, layer_forward
from swarm.training.stages import Stage, StagePlan

FLOAT_BYTES = 4
GROW_MIN = 64
"""Positions of the first allocation; every next one is twice the last, so that copies stay few."""


class KeyValueCache:
    """Keys and values of the layers of one stage, for one text."""

    def __init__(self, plan: StagePlan) -> None:
        self.length = 0
        """Positions held by every layer."""
        self._longest = plan.model.seq_len
        self._shape = (plan.model.num_kv_heads, head_width(plan.model))
        self._room = 0
        self._layers = [(torch.empty(0), torch.empty(0))] * plan.num_layers

    @property
    def num_bytes(self) -> int:
        """What is allocated."""
        return sum(k.numel() + v.numel() for k, v in self._layers) * FLOAT_BYTES

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Append the new positions (1 T K E) of one layer and return all of them (1 S K E).

        ``length`` counts them when ``advance`` has been through every layer.
        """
        stop = self.length + key.shape[1]
        self._make_room(stop)
        keys, values = self._layers[layer]
        keys[self.length : stop], values[self.length : stop] = key[0], value[0]
        return keys[None, :stop], values[None, :stop]

    def truncate(self, length: int) -> None:
        """Forget every position from ``length`` on."""
        self.length = min(self.length, length)

    def _make_room(self, wanted: int) -> None:
        if wanted > self._longest:
            raise UsageError(f"{wanted} positions in a context of {self._longest}")
        if wanted <= self._room:
            return
        self._room = min(max(GROW_MIN, 2 * self._room, wanted), self._longest)
        self._layers = [(self._grown(k), self._grown(v)) for k, v in self._layers]

    def _grown(self, held: Tensor) -> Tensor:
        grown = torch.empty(self._room, *self._shape)
        if self.length:
            grown[: self.length] = held[: self.length]
        return grown


def cache_bytes(plan: StagePlan, positions: int) -> int:
    """The most that a cache of so many positions allocates."""
    model = plan.model
    room = min(max(2 * positions, GROW_MIN), model.seq_len)
    return 2 * plan.num_layers * room * model.num_kv_heads * head_width(model) * FLOAT_BYTES


def advance(stage: Stage, params_P: Tensor, cache: KeyValueCache, inputs: Tensor) -> Tensor:
    """The next positions through one stage: ids T (int64, first stage) or activations TD -> activations TD.

    The last stage returns the logits V after the last position. The first of them stands at ``cache.length``.
    Raises ``UsageError`` past the end of the context, ``OutOfTurn`` for inputs that are not this stage's, and
    leaves the cache as it was.
    """
    plan, ops, model = stage.plan, stage.ops, stage.plan.model
    _check(plan, inputs)
    position = cache.length
    if position + inputs.shape[0] > model.seq_len:
        raise UsageError(f"a context of {model.seq_len} positions is full")
    with torch.no_grad():
        embedding, layers, head = stage.layers(params_P)
        x_TD = ops.embedding(embedding[0], inputs) if plan.is_first else inputs
        for number, layer in enumerate(layers):
            x_TD = layer_forward(ops, model, layer, x_TD, 1, position, (cache, number))
        if plan.is_last:
            x_TD = head_logits(ops, model, head[0], head[1], x_TD[-1:])[0]
    cache.length = position + inputs.shape[0]
    return x_TD


def _check(plan: StagePlan, inputs: Tensor) -> None:
    model: ModelSpec = plan.model
    if plan.is_first:
        fits = inputs.dtype == torch.int64 and inputs.dim() == 1
        fits = fits and inputs.numel() > 0 and int(inputs.min()) >= 0
        fits = fits and int(inputs.max()) < model.vocab_size
    else:
        fits = inputs.dtype == torch.float32 and inputs.dim() == 2 and inputs.numel() > 0
        fits = fits and inputs.shape[1] == model.hidden_size
    if not fits:
        raise OutOfTurn(f"stage {plan.stage} cannot go on with a {tuple(inputs.shape)} input")
