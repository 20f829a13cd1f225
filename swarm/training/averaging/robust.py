"""Check a partner's fragment: its distance against how far both can have moved, and its effect on the loss.

Core: a machine of own movements; and the loss with a fragment and without.

    not finite, or past 2^30         refused where it is read (gossip/codecs/int8.py) or merged
                                     (training/averaging/outer_step.py)
    farther than the run allows      its weight is reduced: clipped to so many times the distance expected
    the loss is worse by a margin    declined: a solo step
    in a round of final averaging    declined when far too far: partial weights are not possible

The distance expected is this replica's own movement per token, times the tokens of both since they last took
something, together with the rounding error of the codec. Nothing that a partner sends sets the scale, so one
that cheats cannot raise it however often it is drawn; its tokens count for at most ``PACE_MAX`` times the own.
Who begins, from a state that is some trades old, is taken to have stepped alone for as long as counts.
An honest partner is at .4 to 1.9 times the distance expected, at 1.1 in the median; nine of ten are within 2
where half of the replicas have half the speed, or half of the trades are lost (docs/benchmarks.md).

Clipping theta_hat to theta + c (theta_hat - theta) and weighing it by w is the same as weighing it by c w: a
replay needs only the weight in the leaf, which may be lower than the due one and never higher.

Source: docs/spec/reliability.md section 4, docs/spec/protocol.md section 4; clipping around the own values:
He, Karimireddy and Jaggi, arXiv 2202.01545.
Legend: F values of one fragment.
"""

from collections import defaultdict, deque
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import hypot, sqrt

from torch import Tensor

from swarm.config.spec import NANO, OuterSpec
from swarm.gossip.trade.payload import rounding_rms
from swarm.placement import let_go, spilled
from swarm.training.averaging.outer_step import FragmentSnapshot, Merge
from swarm.training.data.dataset import TokenSource
from swarm.training.data.samples import draw_samples
from swarm.training.messages import MicroBatch
from swarm.training.model.optimizer import slices
from swarm.training.plan import RoundPlan
from swarm.training.shard import Shard

RECENT = 9
"""Own movements of one fragment that its pace is the mean of: over some rounds, for one may be short."""
PACE_MAX = 4
"""A partner is expected to have trained at most so many times the tokens of this replica."""
CONSENSUS_FACTOR = 4
"""In a round of final averaging a partner is declined at so many times the clipping distance: declining
there costs the single model that all replicas should end with.
"""


@dataclass(slots=True)
class Pace:
    """Own movement of one fragment: how far it went between trades, and with how many tokens."""

    _recent: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=RECENT))
    """Root mean square of a movement, and its tokens."""
    _alone: float | None = None
    """Tokens of the solo steps since a partner was last taken, and what is left of those before; None: none
    was taken yet."""

    def note(self, moved: float, tokens: int) -> None:
        """Remember a movement since the last trade."""
        if tokens > 0:
            self._recent.append((moved, tokens))

    def stepped(self, tokens: int, share: float) -> None:
        """Remember which share of a partner's due weight the trade after as many tokens took; 0: solo."""
        if self._alone is not None and not share:
            self._alone += tokens
        elif share:
            self._alone = self._waited(PACE_MAX * self._usual()) * min(1 - share, 0.5)

    def expected(self, mine: int | None, theirs: int) -> float | None:
        """Return the distance of a partner after the tokens of both since their last trades.

        ``mine`` is None where nobody has trained since. None: this replica has not moved yet.
        """
        usual = self._usual()
        if not usual:
            return None
        most = PACE_MAX * max(usual, mine or 0)
        both = 2 * usual if mine is None else mine + min(theirs, most) + 2 * self._waited(most)
        return both * sum(moved for moved, _ in self._recent) / (usual * len(self._recent))

    def _usual(self) -> float:
        """Return the mean of the tokens of a movement; 0 before the first."""
        return sum(tokens for _, tokens in self._recent) / max(len(self._recent), 1)

    def _waited(self, most: float) -> float:
        return most if self._alone is None else min(self._alone, most)


@dataclass(slots=True)
class Movements:
    """Own movements of one seat, by fragment."""

    _paces: defaultdict[int, Pace] = field(default_factory=lambda: defaultdict(Pace))

    def weigh(self, outer: OuterSpec, merge: Merge) -> int:
        """Return the weight in billionths at which the partner of a merge may be taken; 0 declines it.

        The own movement up to the merge is remembered.
        """
        snapshot = merge.snapshot
        pace = self._paces[snapshot.fragment]
        if not merge.is_final_averaging and outer.distance_max_nano:
            pace.note(distance_of(snapshot.phi_P, snapshot.theta_P), snapshot.tokens)
        return _clipped(outer, merge, pace)

    def stepped(self, merge: Merge, due_nano: int) -> None:
        """Remember a merge as it is taken: with a partner that was due this weight, or without."""
        self._paces[merge.snapshot.fragment].stepped(
            merge.snapshot.tokens, merge.weight_nano / max(due_nano, 1)
        )


def _clipped(outer: OuterSpec, merge: Merge, pace: Pace) -> int:
    """Return the weight that is due, or a lower one if the partner is too far away."""
    snapshot, received = merge.snapshot, merge.received
    if merge.theta_hat_P is None or received is None or not outer.distance_max_nano:
        return merge.weight_nano
    tokens = None if merge.is_final_averaging else snapshot.tokens
    expected = pace.expected(tokens, received.offer.tokens)
    if expected is None:
        return merge.weight_nano
    rounding = rounding_rms(received.offer.codec, snapshot.theta_P, snapshot.anchor_P)
    far = hypot(expected, rounding) * outer.distance_max_nano / NANO
    distance = _distance(merge.theta_hat_P, merge.phi_hat_P, snapshot)
    if distance <= far:
        return merge.weight_nano
    if merge.is_final_averaging:
        return merge.weight_nano if distance <= far * CONSENSUS_FACTOR else 0
    return int(merge.weight_nano * far / distance)


def _distance(theta_hat_F: Tensor, phi_hat_F: Tensor | None, snapshot: FragmentSnapshot) -> float:
    """Return the distance of the partner's fast weights, or of its slow ones if they travel and are farther."""
    distance = distance_of(snapshot.theta_P, theta_hat_F)
    return distance if phi_hat_F is None else max(distance, distance_of(snapshot.phi_P, phi_hat_F))


def distance_of(theta_F: Tensor, theta_hat_F: Tensor) -> float:
    """Return the root mean square of the difference."""
    total = 0.0
    for part in slices(theta_F.numel()):
        total += float((theta_hat_F[part] - theta_F[part]).double().square_().sum())
        let_go()
    return sqrt(total / max(theta_F.numel(), 1))


def clip_or_reject(
    merge: Merge, movements: Movements, before: float | None, after: float | None, outer: OuterSpec
) -> Merge:
    """Return the merge unchanged, with a clipped weight, or as a solo step, by the distance and loss checks.

    ``before`` and ``after`` are the seat's own loss without and with the partner, in nats; None if it cannot be
    measured.
    """
    weight_nano = movements.weigh(outer, merge)
    is_worse = False
    if before is not None and after is not None and outer.loss_margin_nano:
        is_worse = not after <= before + outer.loss_margin_nano / NANO
    taken = merge
    if merge.theta_hat_P is not None and merge.weight_nano:
        taken = replace(merge, weight_nano=weight_nano)
        if is_worse or not weight_nano:
            is_final = merge.is_final_averaging
            taken = Merge.solo(
                merge.snapshot, merge.scalars, merge.sent, is_final_averaging=is_final
            )
    movements.stepped(taken, merge.weight_nano)
    return taken


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
