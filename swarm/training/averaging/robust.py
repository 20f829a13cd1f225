"""Doubt a partner's fragment: how far it is, against how far partners usually are.

Core: a machine of distances; and the loss with a fragment and without.

    not finite, or past 2^30       refused where it is read or merged (gossip/codecs/int8.py,
    training/averaging/outer_step.py)
    farther than the run says      taken at less than its weight: clipped to so many times the median
    the loss is worse by a margin  declined: a step alone
    in a round of consensus        declined when far too far: there is nothing between all and none

Clipping theta_hat to theta + c (theta_hat - theta) and weighing it by w is weighing it by c w: a replay needs
nothing but the weight in the leaf, which may be lower than the due one and never higher. Distances that were
clipped are remembered as they came: replicas that drift apart together are not strangers for ever.
Source: docs/spec/reliability.md section 4, docs/spec/protocol.md section 4. Legend: F values of one fragment.
"""

from collections import deque
from dataclasses import dataclass, field, replace
from statistics import median

from torch import Tensor

from swarm.config.spec import NANO, OuterSpec
from swarm.gossip.codecs.activations import from_wire
from swarm.training.averaging.outer_step import Merge
from swarm.training.data.samples import TokenSource, draw_samples
from swarm.training.messages import MicroBatch
from swarm.training.plan import RoundPlan
from swarm.training.record.window import ALONE
from swarm.training.shard import Shard
from swarm.types import NO_DIGEST

RECENT = 9
"""Distances of one fragment that the median is taken over: some rounds, and more than half of them honest."""
RECENT_MIN = 3
"""Fewer say nothing of what is usual."""
CONSENSUS_FACTOR = 4
"""In a round of consensus a partner is declined at so many times the distance at which it would be clipped: to
decline there costs the one model that all should end with."""


@dataclass(slots=True)
class Distances:
    """How far the partners of one seat were, by fragment."""

    _recent: dict[int, deque[float]] = field(default_factory=dict[int, deque[float]])

    def weigh(self, outer: OuterSpec, merge: Merge, distance: float) -> int:
        """The weight in billionths at which a partner so far away is taken; 0: it is declined."""
        recent = self._recent.setdefault(merge.snapshot.fragment, deque(maxlen=RECENT))
        usual = median(recent) if len(recent) >= RECENT_MIN else 0.0
        recent.append(distance)
        far = usual * outer.distance_max_nano / NANO
        if not far or distance <= far:
            return merge.weight_nano
        if merge.is_consensus:
            return merge.weight_nano if distance <= far * CONSENSUS_FACTOR else 0
        return int(merge.weight_nano * far / distance)


def distance_of(theta_F: Tensor, theta_hat_F: Tensor) -> float:
    """The root of the mean square of a difference."""
    return float((theta_hat_F - theta_F).double().square().mean().sqrt())


def clip_or_reject(
    merge: Merge, distances: Distances, before: float | None, after: float | None, outer: OuterSpec
) -> Merge:
    """A merge as it is to be applied: as it came, at less than its weight, or alone.

    ``before`` and ``after`` are what the seat measures of its own loss without the partner and with it, in
    nats; None: it cannot tell.
    """
    if merge.theta_hat_P is None or not merge.weight_nano:
        return merge
    distance = distance_of(merge.snapshot.theta_P, merge.theta_hat_P)
    weight_nano = distances.weigh(outer, merge, distance)
    is_worse = False
    if before is not None and after is not None and outer.loss_margin_nano:
        is_worse = not after <= before + outer.loss_margin_nano / NANO
    return (
        solo_step(merge) if is_worse or not weight_nano else replace(merge, weight_nano=weight_nano)
    )


def solo_step(merge: Merge) -> Merge:
    """The same step without the partner; what it acknowledged of ours it has all the same."""
    mine = merge.sent.receipt.payload_hash if merge.sent is not None else NO_DIGEST
    return Merge(
        merge.snapshot,
        None,
        0,
        merge.scalars,
        None,
        ALONE,
        mine,
        NO_DIGEST,
        sent=merge.sent,
        is_consensus=merge.is_consensus,
    )


def probe_loss(
    shard: Shard,
    plan: RoundPlan,
    tokens: TokenSource,
    seat: int,
    request: MicroBatch | None,
    merge: Merge | None,
) -> float | None:
    """The loss of a seat that can tell its own, in nats, with ``merge`` in theta or without.

    The only stage of a run draws a micro-batch that nobody trains on; the last of several takes the newest one
    that it answered; the others cannot tell: None.
    """
    is_last = shard.stage == shard.spec.num_stages - 1
    if not is_last or (shard.stage > 0 and request is None):
        return None
    params_P = shard.params_P
    if merge is not None and merge.theta_hat_P is not None:
        weight, span = merge.weight_nano / NANO, shard.spans[merge.snapshot.fragment].slice
        params_P = params_P.clone()
        pull_F = (merge.theta_hat_P - merge.snapshot.theta_P) * weight
        params_P[span] += pull_F.to(params_P.device)
    place = (seat, shard.spec.inner_steps_max, 0) if request is None else request.place
    inputs, labels_BT, _ = draw_samples(tokens, plan, place)
    if request is not None:
        inputs = from_wire(request.payload, request.shape, shard.spec.wire.activations)
    return shard.engine.probe(params_P, inputs, labels_BT)
