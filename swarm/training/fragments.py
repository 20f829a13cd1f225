"""A fragment on its way into an outer step: what is offered, and what is applied.

Core: pure data. Legend: P values of the fragment.
"""

from dataclasses import dataclass

from torch import Tensor

from swarm.gossip.messages import Offer, Receipt
from swarm.training.outer import OuterScalars
from swarm.types import Bytes, Digest, PeerId


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A fragment as it stood between two steps: what is offered and what the merge starts from."""

    fragment: int
    theta_P: Tensor
    anchor_P: Tensor
    anchor_root: Digest
    tokens: int
    step: int
    phi_P: Tensor
    """The slow weights, which move only when this fragment is merged."""
    residual_P: Tensor
    """What int4 has not said so far of all that travels; empty in a run that never trades in int4."""


@dataclass(frozen=True, slots=True)
class Received:
    """What the partner sent, as it was signed: who checks the merge starts from this."""

    offer: Offer
    payload: Bytes
    """The quantized bytes, before zstandard."""


@dataclass(frozen=True, slots=True)
class Sent:
    """An int4 payload of ours that its taker has acknowledged: only then the residual moves."""

    receipt: Receipt
    """Signed by the partner; it names ``Merge.my_payload``."""
    residual_P: Tensor
    """What that payload left unsaid."""


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
    phi_hat_P: Tensor | None = None
    """The partner's slow weights, in a run that trades them."""
    sent: Sent | None = None
    """None where the residual stays as it was: no int4, or no receipt. A step alone may have it."""
    is_consensus: bool = False
    """Of a round at the end of the run: phi becomes the mean, and nothing is carried on."""
