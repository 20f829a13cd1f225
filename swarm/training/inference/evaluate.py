"""How well a model predicts text it never saw, in nats per token.

Core: a function of the parameters and the held-out file.

The same windows for everybody: spread evenly over the file, so two nodes (or two releases) that evaluate one
export report one number.
"""

import math

import torch
from torch import Tensor

from swarm.config.spec import ModelSpec
from swarm.errors import UsageError
from swarm.training.data.samples import TokenSource, windows
from swarm.training.model.profiles import Ops
from swarm.training.model.stages import Stage, plan_stages

WINDOWS_DEFAULT = 256
"""About 33,000 predictions at 128 positions: the mean is good to about .01 nats."""
WINDOWS_PER_PASS = 16
"""Memory is bounded by this many windows at a time."""
ACTIVATION_BYTES_MAX = 256 << 20
"""Of all windows between two stages, where the stages are walked one after the other."""
_EXP_MAX = 700.0
"""The largest exponent whose power is a float64."""


def whole_model(model: ModelSpec, ops: Ops) -> Stage:
    """All layers as one stage: its flat vector is the shards of a run, end to end."""
    return Stage(plan_stages(model, 1)[0], ops)


def heldout_starts(num_tokens: int, seq_len: int, count: int) -> tuple[int, ...]:
    """Where the windows start: ``count`` of them, or as many as fit without overlap, evenly spread.

    Raises ``UsageError`` when the file is shorter than one window.
    """
    room = num_tokens - seq_len - 1
    if room < 0 or count < 1:
        raise UsageError(f"{num_tokens} held-out tokens are less than one window of {seq_len}")
    count = min(count, room // seq_len + 1)
    return tuple(room * i // max(count - 1, 1) for i in range(count))


def heldout_loss(
    stage: Stage, flat_P: Tensor, tokens: TokenSource, *, num_windows: int = WINDOWS_DEFAULT
) -> float:
    """Mean loss in nats per token over the held-out windows; ``stage`` is ``whole_model``."""
    passes = heldout_passes(tokens, stage.plan.model.seq_len, num_windows)
    total = sum(mean_loss(stage, flat_P, inputs, labels) * len(labels) for inputs, labels in passes)
    return total / sum(len(labels) for _, labels in passes)


def heldout_passes(
    tokens: TokenSource, seq_len: int, num_windows: int
) -> list[tuple[Tensor, Tensor]]:
    """The held-out windows as (inputs BT, labels BT), a few at a time; raises as ``heldout_starts``."""
    starts = heldout_starts(len(tokens), seq_len, num_windows)
    groups = range(0, len(starts), WINDOWS_PER_PASS)
    return [windows(tokens, starts[at : at + WINDOWS_PER_PASS], seq_len) for at in groups]


def pass_on(stage: Stage, params_P: Tensor, inputs: Tensor) -> Tensor:
    """One stage forward, for no gradient: tokens BT or activations BTD -> activations BTD."""
    with torch.no_grad():
        return stage.forward(params_P, inputs)


def mean_loss(stage: Stage, params_P: Tensor, inputs: Tensor, labels_BT: Tensor) -> float:
    """The last stage, for no gradient: mean loss in nats per token."""
    with torch.no_grad():
        return float(stage.loss(params_P, inputs, labels_BT))


def perplexity(loss_nats: float) -> float:
    """The number of equally likely tokens that would be as hard to guess."""
    return math.exp(min(loss_nats, _EXP_MAX))
