"""A table of operators is data: it can be compared, hashed and copied with one operator replaced."""

from dataclasses import FrozenInstanceError, replace

import pytest
import torch

from swarm.training.model.profiles import NATIVE


def test_a_table_with_another_operator_is_another_table() -> None:
    other = replace(NATIVE, name="other", add=torch.sub)
    assert other != NATIVE
    assert hash(NATIVE) == hash(replace(NATIVE))


def test_nobody_changes_a_table() -> None:
    with pytest.raises(FrozenInstanceError):
        NATIVE.name = "mine"  # type: ignore[misc]
