"""Find the devices of the node file, and open an engine for each seat.

Shell: starts the processes of devices; ``training/devices/select.py`` decides which there are to be.
"""

from typing import Protocol

import torch
from torch import Tensor

from swarm.config.schema import NodeConfig
from swarm.config.spec import RunSpec
from swarm.errors import BadConfig
from swarm.events import EventKind
from swarm.node.ports import HasConfig, HasReport
from swarm.training.devices.engine import Engine, local_engine
from swarm.training.devices.group import GroupEngine
from swarm.training.devices.select import (
    CPU,
    Present,
    chosen,
    device_notice,
    devices_for,
    may_be_exact,
)
from swarm.training.model.exact.selftest import device_kernels


def present() -> Present:
    """Return the CUDA devices that torch can use, and the availability of Apple's GPU."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    names = tuple(torch.cuda.get_device_name(index) for index in range(count))
    return Present(names, torch.backends.mps.is_available())


class HasDevices(Protocol):
    """Owner of devices."""

    @property
    def devices(self) -> tuple[str, ...]:
        """Devices of the node file."""
        ...


class DeviceNode(HasConfig, HasDevices, Protocol):
    """Parts of a node that say what it computes with."""


class SteppingNode(HasConfig, HasReport, Protocol):
    """Parts of a node that may stop training."""


def find_devices(config: NodeConfig) -> tuple[str, ...]:
    """Return the devices of the node file; raises ``BadConfig``, naming those present, if one is missing."""
    if not config.solve or config.compute.device == CPU:
        return (CPU,)  # no driver is loaded for a device that is not used
    return chosen(config.compute.device, present())


def notice_of(spec: RunSpec, devices: tuple[str, ...], config: NodeConfig) -> str:
    """Return a notice about the devices of a run, or an empty string. Takes seconds: call it in a worker."""
    if devices == (CPU,):
        return ""
    return device_notice(spec, devices, present(), refusal_of(spec, devices, config))


def refusal_of(spec: RunSpec, devices: tuple[str, ...], config: NodeConfig) -> str:
    """Test the device of an exact run, once in a process; return why it is refused, or ""."""
    if not spec.is_exact or not may_be_exact(config.compute.device, devices):
        return ""
    try:
        device_kernels(devices[0])
    except BadConfig as refused:
        return str(refused)
    return ""


def open_engine(
    context: DeviceNode, spec: RunSpec, stage: int, base_W: Tensor | None = None
) -> Engine:
    """Open the engine of a seat. Takes seconds: call it in a worker, and close the engine with the seat.

    ``base_W`` are the weights below the run's adapter, if it has one. Raises ``DeviceLost`` if no device
    answers.
    """
    config = context.config
    refusal_of(spec, context.devices, config)
    devices, compute = devices_for(spec, context.devices), config.compute
    if len(devices) == 1:
        return local_engine(
            spec,
            stage,
            devices[0],
            compiles=compute.compile_,
            recompute=compute.recompute,
            base_W=base_W,
        )
    group = GroupEngine(
        spec,
        stage,
        devices,
        compiles=compute.compile_,
        recompute=compute.recompute,
        threads=config.threads,
        base_W=base_W,
    )
    group.start()
    return group


def step_down(context: SteppingNode, reason: str) -> None:
    """Stop training until the next start; everything else that this node does goes on.

    Its seat is not taken again, and the ledger gives it to another peer after some rounds of silence.
    """
    context.config = context.config.model_copy(update={"solve": False})
    context.report(
        EventKind.WARNING,
        f"this node trains no more, and goes on with all else: {reason}; see [compute] of node.toml,"
        " then start it again",
    )
