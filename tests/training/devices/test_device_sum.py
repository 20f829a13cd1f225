"""The sum on a device is the sum of the step, bit for bit, whoever holds which part."""

import pytest
import torch
from torch import Tensor

from swarm.errors import PeerFault, UsageError
from swarm.training.devices.engine import DeviceSum
from swarm.training.model.exact.reference import GRADIENT_MAX
from swarm.training.model.optimizer import MICROBATCHES_MAX, GradientSum

CPU = torch.device("cpu")


def gradients(count: int) -> list[Tensor]:
    rng = torch.Generator().manual_seed(7)
    return [torch.randn(300, generator=rng) for _ in range(count)]


@pytest.mark.rule("T2b")
def test_it_is_the_gradient_sum() -> None:
    mine, theirs = DeviceSum(300, CPU), GradientSum(300)
    for grad_P in gradients(9):
        mine.add(grad_P)
        theirs.add(grad_P)
    assert torch.equal(mine.mean(), theirs.mean())


@pytest.mark.rule("T2b")
def test_the_totals_of_two_devices_add_up_to_one() -> None:
    left, right, one = (DeviceSum(300, CPU, num_devices=n) for n in (2, 2, 1))
    for number, grad_P in enumerate(gradients(8)):
        one.add(grad_P)
        mine, other = (left, right) if number % 2 else (right, left)
        mine.add(grad_P)
        other.skip()
    left.total_P += right.total_P
    assert torch.equal(left.mean(), one.mean())


def test_junk_changes_nothing() -> None:
    total = DeviceSum(300, CPU, num_devices=2)
    total.add(torch.ones(300))
    for junk in (float("nan"), float("inf"), GRADIENT_MAX / 2 + 1):
        with pytest.raises(PeerFault):
            total.add(torch.full((300,), junk))
    assert torch.equal(total.mean(), torch.ones(300))
    total.clear()
    with pytest.raises(UsageError):
        total.mean()


def test_it_cannot_overflow() -> None:
    parts = [DeviceSum(1, CPU, num_devices=16) for _ in range(16)]
    for part in parts:
        for _ in range(MICROBATCHES_MAX):
            part.add(torch.full((1,), GRADIENT_MAX / 16))
        with pytest.raises(UsageError):
            part.add(torch.zeros(1))
    for part in parts[1:]:
        parts[0].total_P += part.total_P
    assert parts[0].mean() == GRADIENT_MAX
