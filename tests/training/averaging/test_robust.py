"""A partner that is far away is pulled closer, and one that makes it worse is declined."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from swarm.config.spec import NANO, OuterSpec
from swarm.gossip.trade.messages import Codec
from swarm.gossip.trade.payload import ReceivedFragment
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
    Movements,
    clip_or_reject,
    distance_of,
    probe_loss,
)
from swarm.training.plan import RoundPlan
from swarm.training.shard import Shard
from swarm.types import NO_DIGEST, RoundIndex, RunIndex, StageIndex
from tests.ledger.edges import OFFER
from tests.training.pipeline import CHAIN, TEXT, a_spec

OUTER = changed(small_run_spec().outer, distance_max_nano=NANO * 3 // 2)
OFF = changed(OUTER, distance_max_nano=0)
HALF = NANO // 2


def a_merge(
    distance: float,
    *,
    moved: float = 0.5,
    mine: int = 10,
    theirs: int = 10,
    codec: Codec = Codec.F32,
    is_final_averaging: bool = False,
    fragment: int = 0,
) -> Merge:
    """Return a merge at a seat that has moved by ``moved``: equal partners are expected at twice that."""
    theta = torch.zeros(256)
    snapshot = FragmentSnapshot(
        exchange=fragment,
        fragment=fragment,
        theta_P=theta,
        anchor_P=theta - 1.0,
        anchor_root=NO_DIGEST,
        tokens=mine,
        step=1,
        phi_P=theta - moved,
        residual_P=torch.empty(0),
    )
    scalars = OuterScalars(0.0, 0.7, 0.7)
    theta_hat = theta + distance
    return replace(
        Merge.solo(snapshot, scalars, is_final_averaging=is_final_averaging),
        theta_hat_P=theta_hat,
        weight_nano=HALF,
        partner_seat=1,
        received=ReceivedFragment(changed(OFFER, tokens=theirs, codec=codec), b"", theta_hat),
    )


def weights(movements: Movements, outer: OuterSpec, *far: float) -> list[int]:
    return [clip_or_reject(a_merge(one), movements, None, None, outer).weight_nano for one in far]


def begun() -> Movements:
    """Return what a seat knows that has met a partner."""
    movements = Movements()
    for fragment in (0, 1):
        movements.stepped(a_merge(0.0, fragment=fragment), HALF)
    return movements


def weight_of(merge: Merge, movements: Movements | None = None) -> float:
    """Return the weight that is taken, over the due one."""
    known = begun() if movements is None else movements
    return clip_or_reject(merge, known, None, None, OUTER).weight_nano / HALF


def test_a_partner_at_the_distance_expected_has_its_weight() -> None:
    assert weights(begun(), OUTER, 1.0, 1.2, 0.9, 1.1, 1.4, 1.5) == [HALF] * 6
    assert distance_of(torch.zeros(3), torch.full((3,), -2.0)) == 2.0


@pytest.mark.rule("S12", "T18a")
def test_a_far_partner_is_clipped_to_so_many_times_the_distance_expected() -> None:
    clipped = clip_or_reject(a_merge(100.0), begun(), None, None, OUTER)
    assert clipped.weight_nano == pytest.approx(HALF * 1.5 / 100, rel=1e-6)
    slow = OuterState(torch.zeros(256), torch.zeros(256))
    assert clipped.theta_hat_P is not None
    lower = outer_step(
        slow,
        torch.zeros(256),
        Partner(clipped.theta_hat_P, clipped.weight_nano / NANO),
        clipped.scalars,
    )
    near = Partner(torch.full((256,), 1.5), 0.5)
    closer = outer_step(slow, torch.zeros(256), near, clipped.scalars)
    torch.testing.assert_close(lower.phi_F, closer.phi_F)


@pytest.mark.rule("T18a")
def test_who_has_not_moved_and_where_it_is_off_nobody_is_clipped() -> None:
    assert weight_of(a_merge(100.0, moved=0.0, mine=0), Movements()) == 1.0
    assert weight_of(a_merge(100.0, is_final_averaging=True), Movements()) == 1.0
    assert set(weights(Movements(), OFF, 1.0, 1.0, 1.0, 1.0, 100.0)) == {HALF}


@pytest.mark.rule("S12", "T18a")
def test_attack_a_cheat_that_is_drawn_again_and_again_is_clipped_as_the_first_time() -> None:
    movements = begun()
    assert {weight_of(a_merge(100.0), movements) for _ in range(50)} == {weight_of(a_merge(100.0))}
    assert weight_of(a_merge(1.5), movements) == 1.0


@pytest.mark.rule("T18a")
@pytest.mark.parametrize(
    ("mine", "theirs", "times"), [(10, 30, 2.0), (10, 0, 0.5), (10, 40, 2.5), (10, 10**15, 2.5)]
)
def test_attack_inflated_tokens_bring_a_partner_no_farther_than_the_pace_allows(
    mine: int, theirs: int, times: float
) -> None:
    bound = 1.5 * times
    assert weight_of(a_merge(bound * 0.999, mine=mine, theirs=theirs)) == 1.0
    clipped = weight_of(a_merge(bound * 2, mine=mine, theirs=theirs))
    assert clipped == pytest.approx(0.5, rel=1e-6)


@pytest.mark.rule("T18a")
def test_who_stepped_alone_expects_the_others_farther_away() -> None:
    movements = begun()
    solo = Merge.solo(a_merge(0.0).snapshot, OuterScalars(0.0, 0.7, 0.7))
    for _ in range(2):
        assert clip_or_reject(solo, movements, None, None, OUTER) is solo
    assert weight_of(a_merge(4.5), movements) == 1.0
    assert weight_of(a_merge(4.5), movements) == pytest.approx(1 / 3), "it took one, and is with it"
    for _ in range(50):
        clip_or_reject(solo, movements, None, None, OUTER)
    assert weight_of(a_merge(30.0), movements) == pytest.approx(0.25), (
        "at most four trades, of both"
    )


@pytest.mark.rule("T18a")
def test_who_begins_from_an_older_state_is_let_near_and_no_cheat_keeps_that_open() -> None:
    """Nine times the usual bound at first; half of the rest is gone with each trade that is clipped."""
    assert weight_of(a_merge(7.5), Movements()) == 1.0
    movements = Movements()
    taken = [weight_of(a_merge(1_000.0), movements) * 1_000.0 for _ in range(8)]
    assert taken == pytest.approx([7.5, 4.5, 3.0, 2.25, 1.875, 1.6875, 1.59375, 1.546875], rel=1e-3)


@pytest.mark.rule("T18a")
def test_a_replica_that_slept_has_the_pace_that_it_had() -> None:
    movements = begun()
    assert weight_of(a_merge(1.0), movements) == 1.0
    asleep = a_merge(1.5, moved=0.0, mine=0, theirs=20)
    assert weight_of(asleep, movements) == 1.0


@pytest.mark.rule("T18a")
def test_what_a_coarse_codec_rounds_off_is_no_distance() -> None:
    """Int4 of a fragment at a distance of 1 from its anchor: a level is 1/7 wide."""
    near = 1.5 * math.hypot(0.02, 1 / 7 / math.sqrt(12))
    assert weight_of(a_merge(near * 0.99, moved=0.01, codec=Codec.INT4)) == 1.0
    assert weight_of(a_merge(near * 1.01, moved=0.01, codec=Codec.INT4)) < 1.0
    assert weight_of(a_merge(near, moved=0.01, codec=Codec.INT8)) < 0.6


@pytest.mark.rule("T18a")
def test_attack_slow_weights_that_are_far_are_clipped_like_fast_ones() -> None:
    merge = a_merge(0.0)
    far = replace(merge, phi_hat_P=merge.snapshot.phi_P + 30.0)
    assert weight_of(far) == pytest.approx(0.05)


def test_fragments_have_movements_of_their_own() -> None:
    movements = begun()
    weights(movements, OUTER, 1.0, 1.0, 1.0)
    assert weight_of(a_merge(3.0, moved=1.0, fragment=1), movements) == 1.0
    assert weight_of(a_merge(3.0), movements) == pytest.approx(0.5)


@pytest.mark.rule("S12", "T18a")
def test_at_the_end_there_is_nothing_between_all_and_none() -> None:
    movements = begun()
    weights(movements, OUTER, 1.0, 1.0, 1.0, 1.0, 1.0)
    near = a_merge(1.5 * CONSENSUS_FACTOR, moved=0.0, is_final_averaging=True)
    assert weight_of(near, movements) == 1.0
    away = a_merge(7.0, moved=0.0, is_final_averaging=True)
    far = clip_or_reject(away, movements, None, None, OUTER)
    assert (far.theta_hat_P, far.weight_nano, far.partner_seat) == (None, 0, -1)
    assert far.is_final_averaging


@pytest.mark.rule("S12", "T18a")
def test_a_partner_that_makes_the_loss_worse_by_the_margin_is_declined() -> None:
    outer = changed(OFF, loss_margin_nano=NANO // 10)
    merge = a_merge(1.0)
    for before, after, is_taken in (
        (2.0, 2.05, True), (2.0, 2.2, False), (2.0, float("nan"), False), (None, None, True)
    ):  # fmt: skip
        done = clip_or_reject(merge, Movements(), before, after, outer)
        assert (done.theta_hat_P is not None) == is_taken
    assert clip_or_reject(merge, Movements(), 1.0, 9.0, OFF).theta_hat_P is not None
    step = Merge.solo(merge.snapshot, merge.scalars)
    assert step.my_payload == NO_DIGEST
    assert clip_or_reject(step, Movements(), 1.0, 9.0, outer) is step


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
