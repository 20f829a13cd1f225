"""A micro-batch on its way to the next stage, and what carries it.

Core: pure data, and how much of it may be on its way.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from swarm.errors import Unreachable
from swarm.spec import RunSpec
from swarm.training.messages import MicroBatchGrad, activation_bytes
from swarm.training.round_plan import RoundPlan
from swarm.training.stages import Forward as ForwardPass
from swarm.types import Digest

IN_FLIGHT_BYTES = 64 << 20
"""Of the micro-batches that an origin has on their way at once: a quarter of what a peer holds for everybody
(host/intake.py), since dice may send it those of several origins."""


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


def in_flight_max(spec: RunSpec) -> int:
    """Micro-batches that one origin has on their way at once, the others of its step wait.

    Every stage holds each of them, its bytes and its forward pass, until the gradient came back. Two for each
    stage are enough to keep all stages at work.
    """
    return max(IN_FLIGHT_BYTES // activation_bytes(spec), 2 * spec.num_stages)
