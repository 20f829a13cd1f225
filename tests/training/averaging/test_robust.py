"""A partner that is far away is pulled closer, and one that makes it worse is declined."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from swarm.config.spec import NANO, OuterSpec
from swarm.primitives.codec import replace as changed
from swarm.testing.ledger import small_run_spec
from swarm.training.averaging.outer_step import (
    FragmentSnapshot,
    Merge,
    OuterScalars,
    OuterState,
    Partner,
    outer_step,
)
from swarm.training.averaging.robust import (
    CONSENSUS_FACTOR,
    RECENT_MIN,
    Distances,
    clip_or_reject,
    distance_of,
    probe_loss,
)
from swarm.training.plan import RoundPlan
from swarm.training.shard import Shard
from swarm.types import NO_DIGEST, RoundIndex, RunIndex, StageIndex
from tests.training.pipeline import CHAIN, TEXT, a_spec

OUTER = changed(small_run_spec().outer, distance_max_nano=NANO * 3 // 2)
OFF = changed(OUTER, distance_max_nano=0)
HALF = NANO // 2


def a_merge(distance: float, *, is_final_averaging: bool = False, fragment: int = 0) -> Merge:
    theta = torch.zeros(8)
    snapshot = FragmentSnapshot(
        exchange=fragment,
        fragment=fragment,
        theta_P=theta,
        anchor_P=theta,
        anchor_root=NO_DIGEST,
        tokens=5,
        step=1,
        phi_P=theta.clone(),
        residual_P=torch.empty(0),
    )
    scalars = OuterScalars(0.0, 0.7, 0.7)
    return Merge(
        snapshot=snapshot,
        theta_hat_P=theta + distance,
        weight_nano=HALF,
        scalars=scalars,
        partner=None,
        partner_seat=1,
        my_payload=NO_DIGEST,
        is_final_averaging=is_final_averaging,
    )


def weights(distances: Distances, outer: OuterSpec, *far: float) -> list[int]:
    return [clip_or_reject(a_merge(one), distances, None, None, outer).weight_nano for one in far]


def test_a_partner_at_a_usual_distance_has_its_weight() -> None:
    assert weights(Distances(), OUTER, 1.0, 1.2, 0.9, 1.1, 1.4, 1.5) == [HALF] * 6
    assert distance_of(torch.zeros(3), torch.full((3,), -2.0)) == 2.0


@pytest.mark.rule("S12", "T18a")
def test_a_far_partner_is_clipped_to_so_many_times_the_median() -> None:
    distances = Distances()
    assert weights(distances, OUTER, 1.0, 1.0, 1.0) == [HALF] * 3
    clipped = clip_or_reject(a_merge(100.0), distances, None, None, OUTER)
    assert clipped.weight_nano == pytest.approx(HALF * 1.5 / 100, rel=1e-6)
    slow = OuterState(torch.zeros(8), torch.zeros(8))
    assert clipped.theta_hat_P is not None
    lower = outer_step(
        slow,
        torch.zeros(8),
        Partner(clipped.theta_hat_P, clipped.weight_nano / NANO),
        clipped.scalars,
    )
    closer = outer_step(slow, torch.zeros(8), Partner(torch.full((8,), 1.5), 0.5), clipped.scalars)
    torch.testing.assert_close(lower.phi_F, closer.phi_F)


@pytest.mark.rule("T18a")
def test_until_something_is_usual_and_where_it_is_off_nobody_is_clipped() -> None:
    assert weights(Distances(), OUTER, *([1.0] * (RECENT_MIN - 1)), 100.0)[-1] == HALF
    assert set(weights(Distances(), OFF, 1.0, 1.0, 1.0, 1.0, 100.0)) == {HALF}


def test_replicas_that_drift_apart_together_are_not_strangers_for_ever() -> None:
    weights_given = weights(Distances(), OUTER, 1.0, 1.0, 1.0, *([10.0] * 12))
    assert weights_given[3] < HALF
    assert weights_given[-1] == HALF


def test_fragments_have_distances_of_their_own() -> None:
    distances = Distances()
    weights(distances, OUTER, 1.0, 1.0, 1.0)
    other = clip_or_reject(a_merge(50.0, fragment=1), distances, None, None, OUTER)
    assert other.weight_nano == HALF


@pytest.mark.rule("S12", "T18a")
def test_at_the_end_there_is_nothing_between_all_and_none() -> None:
    distances = Distances()
    weights(distances, OUTER, 1.0, 1.0, 1.0, 1.0, 1.0)
    near = clip_or_reject(
        a_merge(1.5 * CONSENSUS_FACTOR, is_final_averaging=True), distances, None, None, OUTER
    )
    assert near.weight_nano == HALF
    far = clip_or_reject(a_merge(7.0, is_final_averaging=True), distances, None, None, OUTER)
    assert (far.theta_hat_P, far.weight_nano, far.partner_seat) == (None, 0, -1)
    assert far.is_final_averaging


@pytest.mark.rule("S12", "T18a")
def test_a_partner_that_makes_the_loss_worse_by_the_margin_is_declined() -> None:
    outer = changed(OFF, loss_margin_nano=NANO // 10)
    merge = a_merge(1.0)
    for before, after, is_taken in (
        (2.0, 2.05, True), (2.0, 2.2, False), (2.0, float("nan"), False), (None, None, True)
    ):  # fmt: skip
        done = clip_or_reject(merge, Distances(), before, after, outer)
        assert (done.theta_hat_P is not None) == is_taken
    assert clip_or_reject(merge, Distances(), 1.0, 9.0, OFF).theta_hat_P is not None
    step = Merge.solo(merge.snapshot, merge.scalars)
    assert step.my_payload == NO_DIGEST
    assert clip_or_reject(step, Distances(), 1.0, 9.0, outer) is step


@pytest.mark.rule("T18a")
@pytest.mark.parametrize("stages", [1, 2])
def test_only_who_sees_the_loss_measures_it(stages: int) -> None:
    spec = a_spec(stages=stages)
    plan = RoundPlan(
        chain=CHAIN,
        run=RunIndex(1),
        run_digest=spec.digest,
        spec=spec,
        round=RoundIndex(0),
        beacon=NO_DIGEST,
        rosters=((),) * stages,
    )
    tokens = np.frombuffer(TEXT, dtype=np.uint8)
    first = Shard.initial(spec, StageIndex(0))
    before = probe_loss(first, plan, tokens, 0, None, None)
    if stages == 2:
        assert before is None
        last = Shard.initial(spec, StageIndex(1))
        assert probe_loss(last, plan, tokens, 0, None, None) is None
        return
    assert before is not None
    assert before == pytest.approx(5.5, abs=0.5), "256 bytes, untrained"
    snapshot = first.snapshot(0)
    bad = replace(a_merge(0.0), snapshot=snapshot, theta_hat_P=snapshot.theta_P * -50.0)
    after = probe_loss(first, plan, tokens, 0, None, bad)
    assert after is not None
    assert after != pytest.approx(before, abs=1e-3), "measured with the partner's values"
    assert probe_loss(first, plan, tokens, 0, None, None) == before, "nothing was changed"
