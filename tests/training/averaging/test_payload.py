"""What travels follows from the run and the round, and a residual belongs to its own fragment."""

import pytest
import torch
from torch import Tensor

from swarm.config.spec import RunSpec
from swarm.gossip.trade.messages import Codec
from swarm.primitives.codec import replace
from swarm.training.averaging.outer_step import FragmentSnapshot
from swarm.training.averaging.payload import (
    anchor_of,
    common_codec,
    fragment_payload,
    move_residual,
    read_values,
    residual_numel,
    residual_of,
    traded_numel,
    trades_slow,
)
from swarm.training.model.stages import Span
from swarm.types import NO_DIGEST
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


def test_only_a_run_in_int4_keeps_a_residual() -> None:
    assert [residual_numel(a_run(name), 7) for name in ("int8", "bf16", "int4")] == [0, 0, 7]
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
