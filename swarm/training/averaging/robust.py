"""Check a partner's fragment: its distance against usual distances, and its effect on the loss.

Core: a machine of distances; and the loss with a fragment and without.

    not finite, or past 2^30         refused where it is read (gossip/codecs/int8.py) or merged
                                     (training/averaging/outer_step.py)
    farther than the run allows      its weight is reduced: clipped to so many times the median distance
    the loss is worse by a margin    declined: a solo step
    in a round of final averaging    declined when far too far: partial weights are not possible

Clipping theta_hat to theta + c (theta_hat - theta) and weighing it by w is the same as weighing it by c w: a
replay needs only the weight in the leaf, which may be lower than the due one and never higher. The distances
that enter the median are unclipped, so that replicas that drift apart together are not clipped for ever.

Source: docs/spec/reliability.md section 4, docs/spec/protocol.md section 4.
Legend: F values of one fragment.
"""

from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import sqrt
from statistics import median

from torch import Tensor

from swarm.config.spec import NANO, OuterSpec
from swarm.placement import let_go, spilled
from swarm.training.averaging.outer_step import Merge
from swarm.training.data.dataset import TokenSource
from swarm.training.data.samples import draw_samples
from swarm.training.messages import MicroBatch
from swarm.training.model.optimizer import slices
from swarm.training.plan import RoundPlan
from swarm.training.shard import Shard

RECENT = 9
"""Distances of one fragment that the median is taken over: some rounds, and more than half of them honest."""
RECENT_MIN = 3
"""Fewer distances do not define a usual one."""
CONSENSUS_FACTOR = 4
"""In a round of final averaging a partner is declined at so many times the clipping distance: declining
there costs the single model that all replicas should end with.
"""


@dataclass(slots=True)
class Distances:
    """Recent distances of the partners of one seat, by fragment."""

    _recent: dict[int, deque[float]] = field(default_factory=dict[int, deque[float]])

    def weigh(self, outer: OuterSpec, merge: Merge, distance: float) -> int:
        """Return the weight in billionths of a partner at ``distance``, which is remembered; 0 declines it."""
        recent = self._recent.setdefault(merge.snapshot.fragment, deque(maxlen=RECENT))
        usual = median(recent) if len(recent) >= RECENT_MIN else 0.0
        recent.append(distance)
        far = usual * outer.distance_max_nano / NANO
        if not far or distance <= far:
            return merge.weight_nano
        if merge.is_final_averaging:
            return merge.weight_nano if distance <= far * CONSENSUS_FACTOR else 0
        return int(merge.weight_nano * far / distance)


def distance_of(theta_F: Tensor, theta_hat_F: Tensor) -> float:
    """Return the root mean square of the difference."""
    total = 0.0
    for part in slices(theta_F.numel()):
        total += float((theta_hat_F[part] - theta_F[part]).double().square_().sum())
        let_go()
    return sqrt(total / max(theta_F.numel(), 1))


def clip_or_reject(
    merge: Merge, distances: Distances, before: float | None, after: float | None, outer: OuterSpec
) -> Merge:
    """Return the merge unchanged, with a clipped weight, or as a solo step, by the distance and loss checks.

    ``before`` and ``after`` are the seat's own loss without and with the partner, in nats; None if it cannot be
    measured.
    """
    if merge.theta_hat_P is None or not merge.weight_nano:
        return merge
    distance = distance_of(merge.snapshot.theta_P, merge.theta_hat_P)
    weight_nano = distances.weigh(outer, merge, distance)
    is_worse = False
    if before is not None and after is not None and outer.loss_margin_nano:
        is_worse = not after <= before + outer.loss_margin_nano / NANO
    if is_worse or not weight_nano:
        return Merge.solo(
            merge.snapshot, merge.scalars, merge.sent, is_final_averaging=merge.is_final_averaging
        )
    return replace(merge, weight_nano=weight_nano)


def probe_loss(
    shard: Shard,
    plan: RoundPlan,
    tokens: TokenSource,
    seat: int,
    request: MicroBatch | None,
    merge: Merge | None,
) -> float | None:
    """Return the loss that a seat can measure itself, in nats, with ``merge`` applied to theta or without.

    The only stage of a run draws a micro-batch outside the training steps; the last of several uses the newest
    one that it answered; other stages return None.
    """
    is_last = shard.stage == shard.spec.num_stages - 1
    if not is_last or (shard.stage > 0 and request is None):
        return None
    microbatch_id = (
        (seat, shard.spec.inner_steps_max, 0) if request is None else request.microbatch_id
    )
    inputs, labels_BT, _ = draw_samples(tokens, plan, microbatch_id)
    if request is not None:
        inputs = shard.received(request, inputs)
    with _merged(shard, merge) as params_P:
        return shard.engine.probe(params_P, inputs, labels_BT)


@contextmanager
def _merged(shard: Shard, merge: Merge | None) -> Generator[Tensor]:
    """Give the fast weights, moved towards the partner's for the time of the block: one fragment is copied."""
    params_P = shard.params_P
    if merge is None or merge.theta_hat_P is None:
        yield params_P
        return
    span = shard.spans[merge.snapshot.fragment].slice
    now_F, before_F = params_P[span], spilled(params_P[span])
    for part in slices(now_F.numel()):
        pull_C = merge.theta_hat_P[part] - merge.snapshot.theta_P[part]
        now_F[part] += pull_C.mul_(merge.weight_nano / NANO).to(now_F.device)
        let_go()
    try:
        yield params_P
    finally:
        params_P[span] = before_F
        let_go()
