"""A state names its counters and what is on its way, and tells finite from not."""

import pytest
import torch

from swarm.primitives.commitments import tensor_hash
from swarm.training.model.operators import are_finite
from swarm.training.record.segment import snapshots_component


@pytest.mark.rule("T24")
def test_what_is_on_its_way_is_named_with_its_tokens() -> None:
    theta = torch.arange(4.0)
    none = snapshots_component(())
    assert none == tensor_hash("float32", (0,), b"")
    names = {
        none,
        snapshots_component(((0, 10, theta),)),
        snapshots_component(((0, 11, theta),)),
        snapshots_component(((1, 10, theta),)),
        snapshots_component(((0, 10, theta + 1),)),
        snapshots_component(((0, 10, theta), (1, 10, theta))),
    }
    assert len(names) == 6


def test_finite_is_finite() -> None:
    good = torch.tensor([0.0, -3.0e38])
    assert are_finite(good, torch.zeros(0))
    assert not are_finite(good, bound=1.0)
    for bad in (float("nan"), float("inf"), float("-inf")):
        assert not are_finite(good, torch.tensor([1.0, bad, 2.0]))


def test_one_bad_value_is_found_wherever_it_is() -> None:
    for numel in (1, 15, 16, 17, 100):
        for index in range(numel):
            for bad in (float("nan"), float("inf")):
                values = torch.linspace(-1, 1, numel)
                values[index] = bad
                assert not are_finite(values)
