"""How well a whole model predicts text it never saw, in nats per byte.

Core: a function of the parameters and the held-out file.

The same windows for everybody: spread evenly over the file, so two nodes (or two releases) that evaluate one
export report one number.
"""

import torch
from torch import Tensor

from swarm.errors import UsageError
from swarm.spec import ModelSpec
from swarm.training.data import TokenSource, windows
from swarm.training.ops import Ops
from swarm.training.stages import Stage, plan_stages

WINDOWS_DEFAULT = 256
"""About 33,000 predictions at 128 positions: the mean is good to about .01 nats."""
WINDOWS_PER_PASS = 16
"""Memory is bounded by this many windows at a time."""


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
    seq_len = stage.plan.model.seq_len
    starts = heldout_starts(len(tokens), seq_len, num_windows)
    total = 0.0
    with torch.no_grad():
        for at in range(0, len(starts), WINDOWS_PER_PASS):
            group = starts[at : at + WINDOWS_PER_PASS]
            inputs_BT, labels_BT = windows(tokens, group, seq_len)
            total += float(stage.loss(flat_P, inputs_BT, labels_BT)) * len(group)
    return total / len(starts)
