"""Look which devices torch can use on this machine.

Shell: asks the drivers.
"""

import torch

from swarm.training.devices.select import Present


def present() -> Present:
    """CUDA devices that torch was built for and the driver shows, and Apple's GPU."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    names = tuple(torch.cuda.get_device_name(index) for index in range(count))
    return Present(names, torch.backends.mps.is_available())
