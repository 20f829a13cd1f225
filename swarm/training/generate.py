"""Sample text from a whole model, one token at a time, remembering keys and values.

Core: a function of the parameters, the prompt and the dice.

Legend: S positions in memory, K key-value heads, E features of one head, V vocabulary.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from swarm.errors import UsageError
from swarm.rng import Dice
from swarm.training.model import head_logits, layer_forward
from swarm.training.stages import Stage

_DICE_BITS = 53
"""As many as a float64 holds: one draw picks one token."""


class KeyValueMemory:
    """Keys and values of all positions so far, one pair per layer."""

    def __init__(self, num_layers: int) -> None:
        self._layers: list[tuple[Tensor, Tensor] | None] = [None] * num_layers

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Append the new positions (1 T K E) and return all of them (1 S K E)."""
        known = self._layers[layer]
        if known is not None:
            key, value = torch.cat((known[0], key), 1), torch.cat((known[1], value), 1)
        self._layers[layer] = (key, value)
        return key, value


def generate(
    stage: Stage,
    flat_P: Tensor,
    prompt: Sequence[int],
    count: int,
    dice: Dice,
    *,
    temperature: float = 0.8,
    top_k: int = 40,
) -> Iterator[int]:
    """Yield ``count`` tokens after ``prompt``; ``stage`` is ``evaluate.whole_model``.

    Temperature 0 takes the likeliest token. When the context is full, its newer half is kept. Raises
    ``UsageError`` for an empty prompt, a token outside the vocabulary, or a negative temperature.
    """
    model = stage.plan.model
    if not prompt or min(prompt) < 0 or max(prompt) >= model.vocab_size:
        raise UsageError(f"a prompt needs at least one token, each below {model.vocab_size}")
    if temperature < 0.0 or top_k < 1 or count < 0:
        raise UsageError("temperature is at least 0, top_k at least 1, count at least 0")
    context = list(prompt)[-model.seq_len :]
    memory, fresh = KeyValueMemory(model.num_layers), context
    for _ in range(count):
        logits_V = _next_logits(stage, flat_P, memory, fresh, len(context) - len(fresh))
        token = _draw(logits_V, dice, temperature, min(top_k, model.vocab_size))
        yield token
        context.append(token)
        fresh = [token]
        if len(context) > model.seq_len:
            context = context[-model.seq_len // 2 :]
            memory, fresh = KeyValueMemory(model.num_layers), context


def _next_logits(
    stage: Stage, flat_P: Tensor, memory: KeyValueMemory, fresh: Sequence[int], position: int
) -> Tensor:
    """Logits after the last of ``fresh``, whose first token stands at ``position``."""
    ops, model = stage.ops, stage.plan.model
    with torch.no_grad():
        embedding, layers, head = stage.layers(flat_P)
        x_TD = ops.embedding(embedding[0], torch.tensor(fresh, dtype=torch.int64))
        for number, layer in enumerate(layers):
            x_TD = layer_forward(ops, model, layer, x_TD, 1, position, (memory, number))
        return head_logits(ops, model, head[0], head[1], x_TD[-1:])[0]


def _draw(logits_V: Tensor, dice: Dice, temperature: float, top_k: int) -> int:
    values, tokens = torch.topk(logits_V.double(), top_k)
    if temperature == 0.0:
        return int(tokens[0])
    shares = torch.softmax(values / temperature, 0).cumsum(0)
    point = dice.below(1 << _DICE_BITS) / (1 << _DICE_BITS) * float(shares[-1])
    place = int(torch.searchsorted(shares, torch.tensor(point, dtype=torch.float64), right=True))
    return int(tokens[min(place, top_k - 1)])
