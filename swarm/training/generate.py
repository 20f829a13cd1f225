"""Sample text, one token at a time: which positions to compute next, and which token follows from their logits.

Core: a function of the parameters, the prompt and the dice.

``Writer`` decides and draws; who computes the logits, here or a stage after the other elsewhere, is not its
affair. Legend: V vocabulary, P parameters of the whole model.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from swarm.errors import UsageError
from swarm.rng import Dice
from swarm.spec import ModelSpec
from swarm.training.kv_cache import KeyValueCache, advance
from swarm.training.stages import Stage

_DICE_BITS = 53
"""As many as a float64 holds: one draw picks one token."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a token is drawn from its logits; raises ``UsageError`` for what is no such thing."""

    temperature: float = 0.8
    """0 takes the likeliest."""
    top_k: int = 40
    """Choose among so many of the likeliest."""
    top_p: float = 1.0
    """Choose among the likeliest that together are this likely; the likeliest always counts."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature < 1e6:  # NaN fails it too
            raise UsageError("temperature is at least 0", hint="--temperature 0.8")
        if self.top_k < 1:
            raise UsageError("top_k is at least 1", hint="--top-k 40")
        if not 0.0 < self.top_p <= 1.0:
            raise UsageError("top_p is above 0 and at most 1", hint="--top-p 0.95")


class Writer:
    """A text that grows: compute ``fresh`` at ``position``, give the logits to ``take``, and again.

    ``position`` 0 means that everything before is forgotten. When the context is full, its newer half is kept.
    """

    def __init__(
        self, model: ModelSpec, prompt: Sequence[int], dice: Dice, sampling: Sampling
    ) -> None:
        """Raises ``UsageError`` for an empty prompt or a token outside the vocabulary."""
        if not prompt or min(prompt) < 0 or max(prompt) >= model.vocab_size:
            raise UsageError(f"a prompt needs at least one token, each below {model.vocab_size}")
        self.context = list(prompt)[-model.seq_len :]
        self.position = 0
        """Where the first of ``fresh`` stands."""
        self._model, self._dice, self._sampling = model, dice, sampling

    @property
    def fresh(self) -> list[int]:
        """The tokens whose logits are wanted next."""
        return self.context[self.position :]

    def take(self, logits_V: Tensor) -> int:
        """Draw the token that follows ``fresh``."""
        token = draw_token(logits_V, self._dice, self._sampling)
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
    dice: Dice,
    sampling: Sampling,
) -> Iterator[int]:
    """Yield ``count`` tokens after ``prompt``; ``stage`` is ``evaluate.whole_model``. Raises as ``Writer``."""
    if count < 0:
        raise UsageError("count is at least 0")
    writer, cache = Writer(stage.plan.model, prompt, dice, sampling), KeyValueCache(stage.plan)
    for _ in range(count):
        cache.truncate(writer.position)
        fresh = torch.tensor(writer.fresh, dtype=torch.int64)
        yield writer.take(advance(stage, flat_P, cache, fresh))


def draw_token(logits_V: Tensor, dice: Dice, sampling: Sampling) -> int:
    """One token by the dice."""
    values, tokens = torch.topk(logits_V.double(), min(sampling.top_k, logits_V.numel()))
    if sampling.temperature == 0.0:
        return int(tokens[0])
    shares = torch.softmax(values / sampling.temperature, 0).cumsum(0)
    if sampling.top_p < 1.0:
        # As many as it takes to reach top_p: those before which less than that is gathered.
        shares = shares[: int((shares < sampling.top_p).sum()) + 1]
    point = dice.below(1 << _DICE_BITS) / (1 << _DICE_BITS) * float(shares[-1])
    place = int(torch.searchsorted(shares, torch.tensor(point, dtype=torch.float64), right=True))
    return int(tokens[min(place, len(shares) - 1)])
