"""A replica that fell behind: merged by its age, or, too far behind, started again from another's state.

Core: pure functions of round numbers, tokens and tensors.

    behind by      0 .. 2 rounds                 more
    it does        trade, weighed by age    ->   adopt: phi, and Adam's second moments and step count

    its tokens     3/4 of the usual, or more     fewer: it trails
    it does        trade                    ->   take, and give nothing

The outer momentum and the first moments are those of a trajectory it was not on: they start from zero. After
an adoption it pulls only for ``pull_only_rounds`` rounds. What a replica that trails could give has gone a
shorter way than what it would be merged with: partners that take it lose more than by going without.
Source: docs/spec/training.md sections 4 and 7, docs/spec/protocol.md section 5. Legend: P parameters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import median_high

import torch
from torch import Tensor

from swarm.errors import PeerFault, UsageError
from swarm.training.inner import AdamState

LAG_ROUNDS_MAX = 2
"""Rounds behind which a replica's progress is still worth merging."""
STEPS_MAX = (1 << 32) - 1
"""No run takes more optimizer steps: rounds times inner steps, with room."""
TRAILING_QUARTERS = 3
"""Whoever has fewer quarters of the usual tokens trails (docs/spec/training.md section 7: what it is worth)."""
TRAILING_KNOWN_MIN = 3
"""Of two, the one that does not trail would have nobody to take from, which costs more."""


class Catching(Enum):
    """What a replica does about its lag."""

    TRADE = "trade"
    ADOPT = "adopt"


@dataclass(frozen=True, slots=True)
class Given:
    """What another replica's committed state gives to one that adopts it."""

    phi_P: Tensor
    v_P: Tensor
    """Adam's second moments."""
    step: int
    """Steps those moments have seen."""


@dataclass(frozen=True, slots=True)
class Adopted:
    """A shard that starts again; the fast weights are the slow ones."""

    phi_P: Tensor
    momentum_P: Tensor
    adam: AdamState


def lag_rounds(mine: int, newest: int) -> int:
    """Rounds behind; whoever is ahead is not behind."""
    return max(newest - mine, 0)


def catching_up(lag: int) -> Catching:
    """What a lag of so many rounds calls for; raise ``UsageError`` for a negative one."""
    if lag < 0:
        raise UsageError("lags are counted from 0")
    return Catching.TRADE if lag <= LAG_ROUNDS_MAX else Catching.ADOPT


def pulls_only(round_index: int, since_round: int, pull_only_rounds: int) -> bool:
    """Whether a replica that joined or adopted in ``since_round`` still takes without giving."""
    return round_index < since_round + pull_only_rounds


def is_trailing(tokens: int, stage_tokens: Sequence[int]) -> bool:
    """Whether a seat trails that had ``tokens`` in its last segment, of a stage that had ``stage_tokens``.

    0 is a seat without a segment yet: it does not trail and says nothing of what is usual. Usual is the upper
    median, which no minority can move: at most half of a stage trails, and with equal tokens nobody.
    """
    known = [count for count in stage_tokens if count > 0]
    if tokens <= 0 or len(known) < TRAILING_KNOWN_MIN:
        return False
    return 4 * tokens < TRAILING_QUARTERS * median_high(known)


def adopt(given: Given, num_parameters: int) -> Adopted:
    """The state to go on with; nothing is shared with ``given``.

    Raises ``PeerFault`` for tensors of another shape, values that are not finite, negative second moments or
    a step count that no run reaches.
    """
    for tensor_P in (given.phi_P, given.v_P):
        if tensor_P.shape != (num_parameters,) or not bool(torch.isfinite(tensor_P).all()):
            raise PeerFault("a state of another shape, or not finite")
    if bool((given.v_P < 0).any()) or not 0 <= given.step <= STEPS_MAX:
        raise PeerFault("second moments that no optimizer has")
    moments = AdamState(torch.zeros(num_parameters), given.v_P.float().clone(), given.step)
    return Adopted(given.phi_P.float().clone(), torch.zeros(num_parameters), moments)
