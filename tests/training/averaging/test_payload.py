"""What travels follows from the run and the round, and a residual belongs to its own fragment."""

import dataclasses

import pytest
import torch
from torch import Tensor

from swarm.config.spec import NANO, RunSpec
from swarm.gossip.trade.messages import Codec, FragmentKey
from swarm.gossip.trade.payload import ReceivedFragment, encode_payload, pack, read_payload
from swarm.primitives.codec import replace
from swarm.training.averaging.outer_step import (
    PRESETS,
    FragmentSnapshot,
    Merge,
    OuterState,
    apply_merge,
)
from swarm.training.averaging.payload import (
    anchor_of,
    common_codec,
    fragment_payload,
    mean_kept,
    move_residual,
    read_values,
    residual_numel,
    residual_of,
    traded_numel,
    trades_slow,
)
from swarm.training.model.stages import Span
from swarm.types import NO_DIGEST, PeerId, RoundIndex, RunIndex, StageIndex
from tests.training.pipeline import a_spec

PARAMETERS = 10
SPANS = (Span(0, 4), Span(4, 10))


def a_run(codec: str = "int8", *, two: bool = False, rounds: int = 20) -> RunSpec:
    spec = a_spec()
    gamma = spec.outer.beta_nano + (1 if two else 0)
    return replace(spec, rounds=rounds, outer=replace(spec.outer, codec=codec, gamma_nano=gamma))


def a_snapshot(residual: Tensor) -> FragmentSnapshot:
    theta, anchor, phi = torch.ones(4), torch.full((4,), 2.0), torch.full((4,), 3.0)
    return FragmentSnapshot(
        exchange=0,
        fragment=0,
        theta_P=theta,
        anchor_P=anchor,
        anchor_root=NO_DIGEST,
        tokens=10,
        step=2,
        phi_P=phi,
        residual_P=residual,
    )


@pytest.mark.rule("G23")
@pytest.mark.parametrize(
    ("name", "early", "late"),
    [
        ("int8", Codec.INT8, Codec.INT8),
        ("int4", Codec.INT4, Codec.INT8),
        ("int4-mean", Codec.INT4, Codec.INT4),
        ("int3-mean", Codec.INT3, Codec.INT3),
        ("bf16", Codec.BF16, Codec.BF16),
    ],
)
def test_the_codec_follows_from_the_run_and_the_round(name: str, early: Codec, late: Codec) -> None:
    codecs = [common_codec(a_run(name), number) for number in range(20)]
    assert codecs == [early] * 18 + [late] * 2
    assert common_codec(a_run(name, rounds=1), 0) is late


@pytest.mark.rule("G24")
def test_slow_weights_travel_only_where_gamma_is_not_beta() -> None:
    assert not trades_slow(a_run().outer)
    assert trades_slow(a_run(two=True).outer)
    assert [traded_numel(a_run(two=two), 7) for two in (False, True)] == [7, 14]


def test_only_a_run_in_int4_with_error_feedback_keeps_a_residual() -> None:
    names = ("int8", "bf16", "int3-mean", "int4-mean", "int4")
    assert [residual_numel(a_run(name), 7) for name in names] == [0, 0, 0, 0, 7]
    assert residual_numel(a_run("int4", two=True), 7) == 14


def test_one_tensor_travels_as_it_is() -> None:
    spec, none = a_run(), torch.zeros(0)
    offered = fragment_payload(spec, 0, a_snapshot(none))
    assert torch.equal(offered.theta, torch.ones(4))
    assert torch.equal(offered.anchor, torch.full((4,), 2.0))
    assert (offered.codec, offered.residual) == (Codec.INT8, None)
    values = torch.arange(4.0)
    assert read_values(spec, values) == (values, None)


@pytest.mark.rule("G24", "T20a")
def test_of_two_tensors_the_slow_one_travels_behind() -> None:
    spec, residual = a_run("int4", two=True), torch.arange(8.0)
    snapshot = a_snapshot(residual)
    offered = fragment_payload(spec, 0, snapshot)
    assert offered.theta.tolist() == [1.0] * 4 + [3.0] * 4
    assert offered.anchor.tolist() == anchor_of(spec, snapshot).tolist() == [2.0] * 8
    assert offered.residual is not None
    assert torch.equal(offered.residual, residual)
    theta, phi = read_values(spec, offered.theta)
    assert phi is not None
    assert torch.equal(theta, snapshot.theta_P)
    assert torch.equal(phi, snapshot.phi_P)


@pytest.mark.rule("T21b")
@pytest.mark.parametrize("copies", [0, 1, 2])
def test_a_residual_moves_in_its_own_fragment_alone(copies: int) -> None:
    residual = torch.arange(float(copies * PARAMETERS))
    before = residual.clone()
    for span in SPANS:
        mine = residual_of(residual, span, PARAMETERS)
        assert mine.numel() == copies * span.numel
        moved = residual.clone()
        move_residual(moved, span, PARAMETERS, -mine - 1)
        assert torch.equal(residual_of(moved, span, PARAMETERS), -mine - 1)
        (other,) = [one for one in SPANS if one != span]
        assert torch.equal(
            residual_of(moved, other, PARAMETERS), residual_of(residual, other, PARAMETERS)
        )
    assert torch.equal(residual, before)


# --- int4-mean: the difference of two payloads ---

NUMEL = 700


def side(seed: int, *, scale: float = 1.0) -> FragmentSnapshot:
    """Weights that the training of some steps took away from a common anchor."""
    rng = torch.Generator().manual_seed(seed)
    anchor = torch.randn(NUMEL, generator=torch.Generator().manual_seed(0))
    theta = anchor + scale * torch.randn(NUMEL, generator=rng) / 20
    phi = anchor + torch.randn(NUMEL, generator=rng) / 30
    blank = a_snapshot(torch.zeros(0))
    return dataclasses.replace(blank, theta_P=theta, anchor_P=anchor, phi_P=phi)


def taken(spec: RunSpec, mine: FragmentSnapshot, theirs: FragmentSnapshot, codec: Codec) -> Merge:
    """The merge of a partner at one half, as it arrived."""
    key = FragmentKey(RunIndex(1), StageIndex(0), 0, RoundIndex(0), 1)
    offered = fragment_payload(spec, 0, theirs)
    payload, _ = encode_payload(offered, codec)
    values = read_payload(codec, payload, anchor_of(spec, mine))
    theta, phi = read_values(spec, values)
    return Merge(
        snapshot=mine,
        theta_hat_P=theta,
        weight_nano=NANO // 2,
        scalars=PRESETS["gossip"],
        partner=PeerId(bytes(32)),
        partner_seat=1,
        my_payload=NO_DIGEST,
        received=ReceivedFragment(pack(key, offered, codec).offer, payload, values),
        phi_hat_P=phi,
    )


def merged(spec: RunSpec, merge: Merge) -> Tensor:
    snapshot = merge.snapshot
    slow = OuterState(snapshot.phi_P, torch.zeros(NUMEL))
    _, theta, weight_nano = apply_merge(mean_kept(spec, merge), slow, snapshot.theta_P)
    assert weight_nano == NANO // 2
    return theta


def shift_of_mean(spec: RunSpec, codec: Codec) -> float:
    """How far the mean of a pair moves when both merge each other at one half."""
    a, b = side(1), side(2)
    after = merged(spec, taken(spec, a, b, codec)) + merged(spec, taken(spec, b, a, codec))
    return float((after - (a.theta_P + b.theta_P)).abs().max())


@pytest.mark.rule("T17a")
@pytest.mark.parametrize("name", ["int4-mean", "int3-mean"])
@pytest.mark.parametrize("codec", [Codec.INT3, Codec.INT4, Codec.INT8, Codec.BF16])
def test_the_mean_of_a_pair_stays_whatever_the_codec_of_a_round(codec: Codec, name: str) -> None:
    kept, moved = (shift_of_mean(a_run(each), codec) for each in (name, "int8"))
    assert kept < 2e-6
    assert moved > 50 * kept


@pytest.mark.rule("T17a")
def test_int4_mean_moves_theta_by_the_difference_of_both_payloads() -> None:
    spec, mine, theirs = a_run("int4-mean"), side(1), side(2)
    merge = taken(spec, mine, theirs, Codec.INT4)
    said = taken(spec, mine, mine, Codec.INT4).theta_hat_P
    assert merge.theta_hat_P is not None
    assert said is not None
    due = mine.theta_P + (merge.theta_hat_P - said)
    assert torch.equal(mean_kept(spec, merge).theta_hat_P, due)  # type: ignore[arg-type]


@pytest.mark.rule("T17a", "T20a")
def test_of_two_tensors_both_are_moved_by_differences() -> None:
    spec, mine, theirs = a_run("int4-mean", two=True), side(1), side(2)
    merge = taken(spec, mine, theirs, Codec.INT4)
    ours = taken(spec, mine, mine, Codec.INT4)
    kept = mean_kept(spec, merge)
    assert merge.phi_hat_P is not None
    assert ours.phi_hat_P is not None
    assert torch.equal(kept.phi_hat_P, mine.phi_P + (merge.phi_hat_P - ours.phi_hat_P))  # type: ignore[arg-type]


@pytest.mark.rule("T17a")
def test_a_merge_stays_as_it_is_where_there_is_no_difference_to_take() -> None:
    spec, mine, theirs = a_run("int4-mean"), side(1), side(2)
    merge = taken(spec, mine, theirs, Codec.INT4)
    solo = Merge.solo(mine, PRESETS["gossip"])
    assert mean_kept(a_run("int4"), merge) is merge
    assert mean_kept(spec, solo) is solo
    averaging = replace(merge, is_final_averaging=True)
    assert mean_kept(spec, averaging) is averaging
    # What no payload of ours can hold was never sent; what is not finite is left to the bounds of a merge.
    far = replace(merge, snapshot=side(1, scale=1e9))
    assert mean_kept(spec, far) is far
