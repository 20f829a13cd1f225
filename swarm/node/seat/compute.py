"""What this node computes with: the devices of its file, and an engine for each seat.

Shell: starts the processes of devices; which there are to be is decided in ``training/devices/select.py``.
"""

from swarm.config.schema import NodeConfig
from swarm.config.spec import RunSpec
from swarm.events import EventKind
from swarm.node.context import NodeContext
from swarm.training.devices.engine import Engine, local_engine
from swarm.training.devices.group import GroupEngine
from swarm.training.devices.probe import present
from swarm.training.devices.select import CPU, chosen, device_notice, devices_for


def find_devices(config: NodeConfig) -> tuple[str, ...]:
    """The devices of the node file; raises ``BadConfig``, naming those present, for one that is not there."""
    if not config.solve or config.compute.device == CPU:
        return (CPU,)  # no driver is asked for what is not used
    return chosen(config.compute.device, present())


def notice_of(spec: RunSpec, devices: tuple[str, ...]) -> str:
    """What to tell about the devices of a run, or nothing."""
    return device_notice(spec, devices, present()) if devices != (CPU,) else ""


def open_engine(context: NodeContext, spec: RunSpec, stage: int) -> Engine:
    """Where a seat computes. It takes seconds: it runs in a worker; close the engine with the seat.

    Raises ``DeviceLost`` when no device answers.
    """
    config = context.config
    devices, compiles = devices_for(spec, context.devices), config.compute.compile_
    if len(devices) == 1:
        return local_engine(spec, stage, devices[0], compiles=compiles)
    group = GroupEngine(spec, stage, devices, compiles=compiles, threads=config.threads)
    group.start()
    return group


def step_down(context: NodeContext, reason: str) -> None:
    """Train no more until the next start: all else that this node does, it goes on doing.

    Its seat is not taken again, and the ledger gives it to another after some rounds of silence.
    """
    context.config = context.config.model_copy(update={"solve": False})
    context.report(
        EventKind.WARNING,
        f"this node trains no more, and goes on with all else: {reason}; look at [compute] of node.toml,"
        " then start it again",
    )
