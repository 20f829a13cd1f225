"""Sample text, one token at a time, through stages that cache the keys and values of the positions so far.

Core: a function of the parameters, the prompt and the random stream.

``TokenSampler`` chooses the positions to compute next, and draws a token from their logits; the caller computes
the logits, in this process or through the stages of other peers. ``advance`` computes one stage with its
``KeyValueCache``.

Legend: T new positions, S positions held, K key-value heads, E features of one head, D hidden, W numbers of a
row that a stage takes (model/stages.py), V vocabulary, P parameters of the stage (in ``generate``, of the whole
model).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from swarm.config.spec import ModelSpec
from swarm.errors import OutOfTurn, UsageError
from swarm.primitives.randomness import RandomStream
from swarm.training.model.bottleneck import are_ids
from swarm.training.model.llama import Layer, head_logits, head_width, layer_forward
from swarm.training.model.stages import Stage, StagePlan

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
        """Bytes allocated."""
        return sum(k.numel() + v.numel() for k, v in self._layers) * FLOAT_BYTES

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Append the new positions (1 T K E) of one layer and return all of them (1 S K E).

        ``length`` counts them only after ``advance`` has processed every layer.
        """
        stop = self.length + key.shape[1]
        self._make_room(stop)
        keys, values = self._layers[layer]
        keys[self.length : stop], values[self.length : stop] = key[0], value[0]
        return keys[None, :stop], values[None, :stop]

    def truncate(self, length: int) -> None:
        """Drop every position from ``length`` on."""
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
    """Return the most bytes that a cache of so many positions allocates."""
    model = plan.model
    room = min(max(2 * positions, GROW_MIN), model.seq_len)
    return 2 * plan.num_layers * room * model.num_kv_heads * head_width(model) * FLOAT_BYTES


def advance(stage: Stage, params_P: Tensor, cache: KeyValueCache, inputs: Tensor) -> Tensor:
    """Compute the next positions through one stage: ids T (first stage) or rows TW -> what it sends of each.

    The first position is ``cache.length``. The last stage returns the logits V after the last position. Raises
    ``UsageError`` past the end of the context and ``OutOfTurn`` for inputs that are not this stage's, both with
    the cache unchanged.
    """
    plan, ops, model = stage.plan, stage.ops, stage.plan.model
    _check(plan, inputs)
    position = cache.length
    if position + inputs.shape[0] > model.seq_len:
        raise UsageError(f"a context of {model.seq_len} positions is full")

    def layer(number: int, views: Layer, x_TD: Tensor) -> Tensor:
        return layer_forward(ops, model, views, x_TD, 1, position, (cache, number))

    with torch.no_grad():
        parts = stage.parts(params_P)
        x = stage.through(parts, inputs, layer)
        if plan.is_last:
            x = head_logits(ops, model, parts.head[0], parts.head[1], x[-1:])[0]
    cache.length = position + inputs.shape[0]
    return x


def _check(plan: StagePlan, inputs: Tensor) -> None:
    model: ModelSpec = plan.model
    if plan.is_first:
        fits = inputs.dtype == torch.int64 and inputs.dim() == 1
        fits = fits and inputs.numel() > 0 and int(inputs.min()) >= 0
        fits = fits and int(inputs.max()) < model.vocab_size
    else:
        fits = inputs.dtype == torch.float32 and inputs.dim() == 2 and inputs.numel() > 0
        fits = fits and inputs.shape[1] == plan.input_width and are_ids(model, inputs)
    if not fits:
        raise OutOfTurn(f"stage {plan.stage} cannot go on with a {tuple(inputs.shape)} input")


_RANDOM_BITS = 53
"""Bits of a float64's significand: one draw picks one token."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """Settings for drawing a token from its logits; raises ``UsageError`` for values out of range."""

    temperature: float = 0.8
    """0 selects the likeliest token."""
    top_k: int = 40
    """Number of likeliest tokens to choose from."""
    top_p: float = 1.0
    """Choose among the likeliest tokens that together reach this probability, and at least the likeliest."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature < 1e6:  # NaN fails it too
            raise UsageError("temperature is at least 0", hint="--temperature 0.8")
        if self.top_k < 1:
            raise UsageError("top_k is at least 1", hint="--top-k 40")
        if not 0.0 < self.top_p <= 1.0:
            raise UsageError("top_p is above 0 and at most 1", hint="--top-p 0.95")


class TokenSampler:
    """A growing token sequence: compute ``fresh`` at ``position``, pass the logits to ``take``, repeat.

    At ``position`` 0 all cached positions must be dropped. When the context is full, its newer half is kept.
    """

    def __init__(
        self, model: ModelSpec, prompt: Sequence[int], rng: RandomStream, sampling: Sampling
    ) -> None:
        """Start with ``prompt``; raise ``UsageError`` if it is empty or has a token outside the vocabulary."""
        if not prompt or min(prompt) < 0 or max(prompt) >= model.vocab_size:
            raise UsageError(f"a prompt needs at least one token, each below {model.vocab_size}")
        self.context = list(prompt)[-model.seq_len :]
        self.position = 0
        """Position of the first token of ``fresh``."""
        self._model, self._rng, self._sampling = model, rng, sampling

    @property
    def fresh(self) -> list[int]:
        """The tokens that have to be computed next."""
        return self.context[self.position :]

    def take(self, logits_V: Tensor) -> int:
        """Draw the token that follows ``fresh``."""
        token = draw_token(logits_V, self._rng, self._sampling)
        self.position = len(self.context)
        self.context.append(token)
        if len(self.context) > self._model.seq_len:
            self.context = self.context[-self._model.seq_len // 2 :]
            self.position = 0
        return token


def generate(
    stage: Stage,
    flat_P: Tensor,
    prompt: Sequence[int],
    count: int,
    rng: RandomStream,
    sampling: Sampling,
) -> Iterator[int]:
    """Yield ``count`` tokens after ``prompt``; ``stage`` is ``evaluate.whole_model``. Raises as
    ``TokenSampler``.
    """
    if count < 0:
        raise UsageError("count is at least 0")
    writer, cache = (
        TokenSampler(stage.plan.model, prompt, rng, sampling),
        KeyValueCache(stage.plan),
    )
    for _ in range(count):
        cache.truncate(writer.position)
        fresh = torch.tensor(writer.fresh, dtype=torch.int64)
        yield writer.take(advance(stage, flat_P, cache, fresh))


def draw_token(logits_V: Tensor, rng: RandomStream, sampling: Sampling) -> int:
    """Draw one token from its logits with the random stream ``rng``."""
    values, tokens = torch.topk(logits_V.double(), min(sampling.top_k, logits_V.numel()))
    if sampling.temperature == 0.0:
        return int(tokens[0])
    shares = torch.softmax(values / sampling.temperature, 0).cumsum(0)
    if sampling.top_p < 1.0:
        # As many as it takes to reach top_p: the tokens before which less than top_p has accumulated.
        shares = shares[: int((shares < sampling.top_p).sum()) + 1]
    point = rng.below(1 << _RANDOM_BITS) / (1 << _RANDOM_BITS) * float(shares[-1])
    index = int(torch.searchsorted(shares, torch.tensor(point, dtype=torch.float64), right=True))
    return int(tokens[min(index, len(shares) - 1)])
