"""The exact sum of micro-batch gradients on the device that computes them.

Core: a running sum; the rule is ``inner.GradientSum``'s, and so are the values, bit for bit.

Fixed point makes the sums of several devices one sum, whatever the order: they are added as integers.
Legend: P parameters of the shard.
"""

import torch
from torch import Tensor

from swarm.errors import PeerFault, UsageError
from swarm.training.inner import MICROBATCHES_MAX
from swarm.training.repops.referee import FIXED_POINT, GRADIENT_MAX
from swarm.training.state import are_finite


class DeviceSum:
    """``GradientSum`` on ``device``, for one of ``num_devices`` that split each micro-batch."""

    def __init__(self, num_parameters: int, device: torch.device, *, num_devices: int = 1) -> None:
        self.count = 0
        self.total_P = torch.zeros(num_parameters, dtype=torch.int64, device=device)
        """In units of 2^-44: add those of the other devices to it before ``mean``."""
        self._bound = GRADIENT_MAX / num_devices  # so that the sum over devices keeps to 63 bits

    def is_sound(self, grad_P: Tensor) -> bool:
        """Whether ``add`` would take a gradient."""
        return are_finite(grad_P, bound=self._bound)

    def add(self, grad_P: Tensor) -> None:
        """Add one micro-batch, or this device's part of it; raises as ``GradientSum.add``."""
        if self.count >= MICROBATCHES_MAX or grad_P.shape != self.total_P.shape:
            raise UsageError(f"at most {MICROBATCHES_MAX} gradients of {self.total_P.numel()}")
        if not self.is_sound(grad_P):
            raise PeerFault("a micro-batch whose gradient is not finite or far too large")
        self.total_P.add_(grad_P.double().mul_(FIXED_POINT).round_().to(torch.int64))
        self.count += 1

    def skip(self) -> None:
        """Count a micro-batch of which this device had no part."""
        self.count += 1

    def mean(self) -> Tensor:
        """The mean gradient_P, float32; raise ``UsageError`` when there was none."""
        if self.count == 0:
            raise UsageError("a step needs at least one micro-batch")
        wide_P = self.total_P.to(torch.float64)
        return wide_P.mul_(1.0 / FIXED_POINT).div_(float(self.count)).float()

    def clear(self) -> None:
        """Begin the next step."""
        self.total_P.zero_()
        self.count = 0
