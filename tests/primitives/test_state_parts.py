"""Counters and zeros have the hashes of the tensors that they stand for."""

import numpy as np
import pytest
import torch

from swarm.primitives.commitments import hash_of, tensor_hash
from swarm.primitives.state_parts import (
    number_component,
    offered_component,
    tokens_component,
    zeros_component,
)


@pytest.mark.rule("T24", "V1")
def test_tokens_are_the_total_followed_by_those_at_each_merge() -> None:
    expected = np.array([700, 0, 500, 1 << 40], dtype="<i8")
    assert tokens_component(700, (0, 500, 1 << 40)) == hash_of(torch.from_numpy(expected))
    assert tokens_component(700, (0, 500)) != tokens_component(700, (500, 0))


@pytest.mark.rule("V1")
def test_a_number_is_an_int64_scalar() -> None:
    assert number_component(7) == tensor_hash("int64", (), (7).to_bytes(8, "little"))


@pytest.mark.rule("L100")
@pytest.mark.parametrize("count", [0, 1, 1 << 18, (1 << 18) + 1, 1 << 19, (1 << 19) + 5])
def test_zeros_have_the_hash_of_a_tensor_of_zeros(count: int) -> None:
    assert zeros_component(count) == hash_of(torch.zeros(count))


@pytest.mark.rule("V1")
def test_nothing_on_its_way_is_an_empty_tensor() -> None:
    assert offered_component(()) == offered_component((), (0, 0)) == hash_of(torch.zeros(0))
    assert offered_component((), (0, 1)) != offered_component(())
