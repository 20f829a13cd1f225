"""Apply the outer step to one fragment, or decline the partner that would take it too far.

Core: arithmetic on slices; new tensors out. Source: docs/spec/training.md section 3.
Legend: F values of the fragment.
"""

from dataclasses import dataclass

from torch import Tensor

from swarm.spec import NANO
from swarm.training.fragments import Merge
from swarm.training.outer import OuterState, Partner, advanced, consensus_step, outer_step
from swarm.training.state import are_finite

MERGED_MAX = 2.0**30
"""No weight of a model that learns is near it: a partner that would take us there is declined."""


@dataclass(frozen=True, slots=True)
class Merged:
    """What one fragment is after its outer step."""

    slow: OuterState
    theta_F: Tensor
    weight_nano: int
    """The partner's; 0 when it was declined."""


def merged(merge: Merge, slow: OuterState, theta_now_F: Tensor) -> Merged:
    """The outer step of docs/spec/training.md section 3, between two optimizer steps.

    A partner that would take a value past ``MERGED_MAX`` is declined: its weight is 0. Raises ``PeerFault``
    for what it sent in another shape or not finite.
    """
    partner, weight_nano = None, merge.weight_nano
    if merge.theta_hat_P is not None:
        partner = Partner(merge.theta_hat_P, weight_nano / NANO, merge.phi_hat_P)
    done = _stepped(merge, slow, theta_now_F, partner, weight_nano)
    tensors = (done.slow.phi_F, done.slow.momentum_F, done.theta_F)
    if partner is not None and not are_finite(*tensors, bound=MERGED_MAX):
        return _stepped(merge, slow, theta_now_F, None, 0)
    return done


def _stepped(
    merge: Merge, slow: OuterState, now_F: Tensor, partner: Partner | None, weight_nano: int
) -> Merged:
    if merge.is_consensus:
        slow = consensus_step(merge.snapshot.theta_P, partner)
    else:
        slow = outer_step(slow, merge.snapshot.theta_P, partner, merge.scalars)
    return Merged(slow, advanced(slow.phi_F, now_F, merge.snapshot.theta_P), weight_nano)
