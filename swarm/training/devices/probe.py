"""List the devices that torch can use on this machine.

Shell: asks the drivers.
"""

import torch

from swarm.training.devices.select import Present


def present() -> Present:
    """Return the CUDA devices that torch can use, and the availability of Apple's GPU."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    names = tuple(torch.cuda.get_device_name(index) for index in range(count))
    return Present(names, torch.backends.mps.is_available())
