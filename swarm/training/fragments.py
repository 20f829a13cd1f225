"""A fragment on its way into an outer step: what is offered, and what is applied.

Core: pure data. Legend: P values of the fragment.
"""

from dataclasses import dataclass

from torch import Tensor

from swarm.gossip.messages import Offer
from swarm.training.outer import OuterScalars
from swarm.types import Digest, PeerId


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A fragment as it stood between two steps: what is offered and what the merge starts from."""

    fragment: int
    theta_P: Tensor
    anchor_P: Tensor
    anchor_root: Digest
    tokens: int
    step: int


@dataclass(frozen=True, slots=True)
class Received:
    """What the partner sent, as it was signed: who checks the merge starts from this."""

    offer: Offer
    payload: bytes
    """The quantized bytes, before zstandard."""


@dataclass(frozen=True, slots=True)
class Merge:
    """One outer step of one fragment; ``theta_hat_P`` is None for a step alone."""

    snapshot: Snapshot
    theta_hat_P: Tensor | None
    weight_nano: int
    scalars: OuterScalars
    partner: PeerId | None
    partner_seat: int
    my_payload: Digest
    partner_payload: Digest
    received: Received | None = None
    """None alone."""
