"""A micro-batch on its way to the next stage, and what carries it.

Core: pure data.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from swarm.errors import Unreachable
from swarm.training.messages import MicroBatchGrad
from swarm.training.round_plan import RoundPlan
from swarm.training.stages import Forward as ForwardPass
from swarm.types import Digest


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A micro-batch on its way to the next stage."""

    plan: RoundPlan
    origin: int
    step: int
    microbatch: int
    stage: int
    source: int
    incarnation: int
    version: int
    payload: bytes
    wire: Digest
    """``wire_digest`` of the payload: an answer to any other is none."""
    budget_s: float


class TooBusy(Unreachable):
    """This seat cannot take a micro-batch now: try a sibling."""


Forward = Callable[[Outgoing], Awaitable[MicroBatchGrad]]
"""Take a micro-batch to the next stage and bring its gradient; raises ``Unreachable``."""


@dataclass(slots=True)
class Passed:
    """A forward pass that waits for its gradient, and what its record will say."""

    forward: ForwardPass
    shape: tuple[int, int, int]
    origin: int
    step: int
    microbatch: int
    source: int
    in_activation: Digest
    out_activation: Digest
    ids_root: Digest
    weights: int
    """``Shard.weights`` of the forward pass: the gradient counts for no others."""

    @property
    def place(self) -> tuple[int, int, int]:
        """Which micro-batch it is: (origin, step, micro-batch)."""
        return (self.origin, self.step, self.microbatch)
