"""What NoLoCo is compared with is what it says it is."""

import pytest
import torch
from torch import Tensor

from swarm.errors import UsageError
from swarm.testing.baselines import all_reduced, data_parallel_gradient, diloco_step, shares
from swarm.training.averaging.outer_step import PRESETS, OuterState, Partner, outer_step


def noise(seed: int) -> Tensor:
    return torch.randn(64, generator=torch.Generator().manual_seed(seed))


def test_an_all_reduce_is_the_mean_whatever_the_order() -> None:
    tensors = [noise(seed) for seed in range(5)]
    torch.testing.assert_close(all_reduced(tensors), torch.stack(tensors).mean(0))
    assert all_reduced(tensors).dtype == torch.float32
    assert all(torch.equal(all_reduced([x] * 3), x) for x in tensors)


@pytest.mark.parametrize(("numel", "count"), [(1, 1), (4, 4), (10, 3), (1001, 4)])
def test_the_shares_of_an_all_reduce_are_all_of_a_vector(numel: int, count: int) -> None:
    x = torch.arange(numel)
    parts = [x[part] for part in shares(numel, count)]
    assert torch.equal(torch.cat(parts), x)
    assert len(parts) == count
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(("numel", "count"), [(3, 4), (3, 0), (3, -1), (0, 1)])
def test_there_is_no_share_without_a_value(numel: int, count: int) -> None:
    with pytest.raises(UsageError):
        shares(numel, count)


def test_diloco_moves_the_shared_weights_towards_the_mean() -> None:
    phi, momentum, *thetas = [noise(seed) for seed in range(6)]
    scalars = PRESETS["diloco"]
    after = diloco_step(OuterState(phi, momentum), thetas, scalars)
    expected = 0.3 * momentum + 0.7 * (torch.stack(thetas).mean(0) - phi)
    torch.testing.assert_close(after.momentum_F, expected)
    torch.testing.assert_close(after.phi_F, phi + expected)


def test_two_replicas_of_noloco_with_one_phi_are_diloco_with_its_numbers() -> None:
    phi, momentum, left, right = [noise(seed) for seed in range(4)]
    state, scalars = OuterState(phi, momentum), PRESETS["noloco"]
    pair = outer_step(state, left, Partner(right, 0.5), scalars)
    torch.testing.assert_close(pair.phi_F, diloco_step(state, [left, right], scalars).phi_F)


def test_data_parallelism_takes_the_mean_gradient_exactly() -> None:
    gradients = [noise(seed) for seed in range(8)]
    mean = data_parallel_gradient(gradients)
    assert torch.equal(mean, data_parallel_gradient(gradients[::-1]))
    torch.testing.assert_close(mean, torch.stack(gradients).mean(0))


def test_a_mean_of_nothing_is_the_callers_mistake() -> None:
    for mean in (all_reduced, data_parallel_gradient):
        with pytest.raises(UsageError):
            mean([])
