"""A fragment moves by the outer step of its run; a partner that would take it too far changes nothing."""

import pytest
import torch
from torch import Tensor

from swarm.config.spec import NANO
from swarm.errors import PeerFault, UsageError
from swarm.training.averaging.outer_step import (
    MERGED_MAX,
    FragmentSnapshot,
    Merge,
    OuterScalars,
    OuterState,
    Partner,
    advanced,
    apply_merge,
    outer_step,
)
from swarm.types import NO_DIGEST, PeerId

SIZE = 40
ONE, TWO = OuterScalars(0.5, 0.7, 0.7), OuterScalars(0.5, 0.7, 0.9)


def noise(seed: int) -> Tensor:
    return torch.randn(SIZE, generator=torch.Generator().manual_seed(seed))


SLOW = OuterState(noise(0), noise(1) * 0.1)
THETA, NOW = noise(2), noise(3)


def a_merge(
    scalars: OuterScalars, theta_hat: Tensor | None, phi_hat: Tensor | None = None
) -> Merge:
    none = torch.zeros(0)
    snapshot = FragmentSnapshot(
        exchange=0,
        fragment=0,
        theta_P=THETA,
        anchor_P=torch.zeros(SIZE),
        anchor_root=NO_DIGEST,
        tokens=10,
        step=2,
        phi_P=SLOW.phi_F,
        residual_P=none,
    )
    peer = None if theta_hat is None else PeerId(bytes(32))
    weight = 0 if theta_hat is None else NANO // 2
    return Merge(
        snapshot=snapshot,
        theta_hat_P=theta_hat,
        weight_nano=weight,
        scalars=scalars,
        partner=peer,
        partner_seat=1,
        my_payload=NO_DIGEST,
        phi_hat_P=phi_hat,
    )


@pytest.mark.rule("T17")
@pytest.mark.parametrize("scalars", [ONE, TWO])
def test_a_merge_is_the_outer_step_and_what_inner_steps_moved_since(scalars: OuterScalars) -> None:
    theta_hat = noise(4)
    phi_hat = noise(5) if scalars is TWO else None
    slow, theta_F, weight_nano = apply_merge(a_merge(scalars, theta_hat, phi_hat), SLOW, NOW)
    due = outer_step(SLOW, THETA, Partner(theta_hat, 0.5, phi_hat), scalars)
    assert torch.equal(slow.phi_F, due.phi_F)
    assert torch.equal(slow.momentum_F, due.momentum_F)
    assert torch.equal(theta_F, advanced(due.phi_F, NOW, THETA))
    assert weight_nano == NANO // 2


@pytest.mark.rule("T21")
@pytest.mark.parametrize("value", [MERGED_MAX * 64, -3.0e38])
@pytest.mark.parametrize("is_slow", [False, True])
def test_a_partner_that_would_take_us_too_far_is_declined(value: float, is_slow: bool) -> None:
    far = torch.full((SIZE,), value)
    parts = (noise(4), far) if is_slow else (far, noise(5))
    done, solo = (
        apply_merge(a_merge(TWO, *parts), SLOW, NOW),
        apply_merge(a_merge(TWO, None), SLOW, NOW),
    )
    assert done[2] == solo[2] == 0
    assert torch.equal(done[0].phi_F, solo[0].phi_F)
    assert torch.equal(done[1], solo[1])


@pytest.mark.rule("T21")
def test_what_is_not_a_fragment_is_the_partners_fault() -> None:
    for bad in (noise(4)[1:], noise(4) * float("nan")):
        with pytest.raises(PeerFault):
            apply_merge(a_merge(ONE, bad), SLOW, NOW)
        with pytest.raises(PeerFault):
            apply_merge(a_merge(TWO, noise(4), bad), SLOW, NOW)


def test_another_gamma_needs_the_partners_slow_weights() -> None:
    with pytest.raises(UsageError):
        apply_merge(a_merge(TWO, noise(4)), SLOW, NOW)
