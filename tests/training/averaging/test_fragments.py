"""A merge says who it was with, or that it was alone."""

import torch

from swarm.training.averaging.outer_step import FragmentSnapshot, Merge, OuterScalars
from swarm.types import NO_DIGEST


def test_a_merge_alone_names_nobody() -> None:
    snapshot = FragmentSnapshot(
        0,
        0,
        torch.zeros(4),
        torch.zeros(4),
        NO_DIGEST,
        tokens=10,
        step=2,
        phi_P=torch.zeros(4),
        residual_P=torch.zeros(0),
    )
    merge = Merge.solo(snapshot, OuterScalars(0.5, 0.7, 0.7))
    assert merge.partner is None
    assert merge.theta_hat_P is None
    assert merge.snapshot.tokens == 10
