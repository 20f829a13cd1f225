"""Measure the loss of a model on held-out text, in nats per token.

Core: a function of the parameters and the held-out file.

The windows are the same for every evaluation, spread evenly over the file, so that two nodes (or two releases)
report the same number for one export.
"""

import math

import torch
from torch import Tensor

from swarm.config.spec import ModelSpec
from swarm.errors import UsageError
from swarm.training.data.dataset import TokenSource
from swarm.training.data.samples import windows
from swarm.training.model.profiles import Ops
from swarm.training.model.stages import Stage, plan_stages

WINDOWS_DEFAULT = 256
"""About 33,000 predictions at 128 positions: the mean is accurate to about .01 nats."""
WINDOWS_PER_PASS = 16
"""Windows computed at a time, which bounds memory."""
ACTIVATION_BYTES_MAX = 256 << 20
"""Bytes of all windows' activations between two stages, if the stages are computed one after the other."""
_EXP_MAX = 700.0
"""The largest exponent whose power is a float64."""


def whole_model(model: ModelSpec, ops: Ops) -> Stage:
    """Return all layers as one stage; its flat vector is the shards of a run, concatenated."""
    return Stage(plan_stages(model, 1)[0], ops)


def heldout_starts(num_tokens: int, seq_len: int, count: int) -> tuple[int, ...]:
    """Return the starts of ``count`` windows, or of as many as fit without overlap, evenly spread.

    Raises ``UsageError`` if the file is shorter than one window, or ``count`` is below 1.
    """
    room = num_tokens - seq_len - 1
    if room < 0 or count < 1:
        raise UsageError(f"{num_tokens} held-out tokens are less than one window of {seq_len}")
    count = min(count, room // seq_len + 1)
    return tuple(room * i // max(count - 1, 1) for i in range(count))


def heldout_loss(
    stage: Stage, flat_P: Tensor, tokens: TokenSource, *, num_windows: int = WINDOWS_DEFAULT
) -> float:
    """Return the mean loss in nats per token over the held-out windows; ``stage`` is ``whole_model``."""
    passes = heldout_passes(tokens, stage.plan.model.seq_len, num_windows)
    total = sum(mean_loss(stage, flat_P, inputs, labels) * len(labels) for inputs, labels in passes)
    return total / sum(len(labels) for _, labels in passes)


def heldout_passes(
    tokens: TokenSource, seq_len: int, num_windows: int
) -> list[tuple[Tensor, Tensor]]:
    """Return the held-out windows as (inputs BT, labels BT), a few at a time; raises as ``heldout_starts``."""
    starts = heldout_starts(len(tokens), seq_len, num_windows)
    groups = range(0, len(starts), WINDOWS_PER_PASS)
    return [windows(tokens, starts[at : at + WINDOWS_PER_PASS], seq_len) for at in groups]


def pass_on(stage: Stage, params_P: Tensor, inputs: Tensor) -> Tensor:
    """Compute one stage forward without gradient: tokens BT or rows BTJ -> activations BTS."""
    with torch.no_grad():
        return stage.forward(params_P, inputs)


def mean_loss(stage: Stage, params_P: Tensor, inputs: Tensor, labels_BT: Tensor) -> float:
    """Return the mean loss of the last stage in nats per token, without gradient."""
    with torch.no_grad():
        return float(stage.loss(params_P, inputs, labels_BT))


def perplexity(loss_nats: float) -> float:
    """Return the number of equally likely tokens that would be as hard to guess."""
    return math.exp(min(loss_nats, _EXP_MAX))
