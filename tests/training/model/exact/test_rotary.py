"""Rotary tables are the nearest float32 to the true sines and cosines."""

import pytest
import torch

from swarm.errors import UsageError
from swarm.training.model.exact.operators import rotary_tables


@pytest.mark.parametrize(
    ("positions", "width", "theta"), [(50, 8, 10_000), (7, 2, 1), (64, 12, 500_000)]
)
def test_the_tables_match_float64(positions: int, width: int, theta: int) -> None:
    frequencies = float(theta) ** -(torch.arange(0, width, 2).double() / width)
    angles = torch.outer(torch.arange(positions).double(), frequencies)
    angles = torch.cat((angles, angles), 1)
    for table, truth in zip(
        rotary_tables(positions, width, theta), (angles.cos(), angles.sin()), strict=True
    ):
        assert float((table.double() - truth).abs().max()) <= 2.0**-25 + 1e-12


def test_position_0_does_not_turn() -> None:
    cos_TE, sin_TE = rotary_tables(3, 4, 10_000)
    assert cos_TE[0].tolist() == [1.0] * 4
    assert sin_TE[0].tolist() == [0.0] * 4


def test_a_width_without_pairs_is_refused() -> None:
    with pytest.raises(UsageError):
        rotary_tables(3, 5, 10_000)
