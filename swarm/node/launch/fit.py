"""Refuse a run that does not fit this machine's memory, disk or quota, before it begins.

Shell: queries the machine; ``node/launch/sizing.py`` computes how much a run takes.
"""

from pathlib import Path

import trio

from swarm.config.schema import NodeConfig
from swarm.config.spec import RunSpec
from swarm.events import EventKind
from swarm.machine import free_bytes, raise_open_files, read_cores, read_memory
from swarm.node.launch.sizing import (
    check_blobs,
    check_memory,
    check_retention,
    keeps_windows,
    retention_of,
)
from swarm.node.reporting import EventLog
from swarm.training.devices.select import devices_for


async def check_fits(
    spec: RunSpec,
    *,
    is_owner: bool,
    config: NodeConfig,
    devices: tuple[str, ...],
    blobs: Path,
    report: EventLog,
) -> None:
    """Report what a solver keeps for its checkers; raises ``BadConfig`` if the run does not fit here.

    Args:
        spec: run to check.
        is_owner: True if this node launched the run, and so keeps every stage.
        config: configuration of the node; without ``solve`` nothing is checked.
        devices: devices of the node.
        blobs: folder of blobs.
        report: event log.
    """
    if not config.solve:
        return
    used = devices_for(spec, devices)
    check_memory(spec, is_owner=is_owner, memory=read_memory(), devices=used)
    free = await trio.to_thread.run_sync(free_bytes, blobs)
    held, quota_mb = await trio.to_thread.run_sync(_bytes_in, blobs), config.disk_quota_mb
    if not keeps_windows(spec):
        check_blobs(spec, is_owner=is_owner, quota_mb=quota_mb, free_bytes=free, held_bytes=held)
        return
    kept = retention_of(spec, is_owner=is_owner)
    check_retention(spec, kept, quota_mb=quota_mb, free_bytes=free, held_bytes=held)
    report(EventKind.PROGRESS, kept.text)


def start_warnings(threads: int) -> list[str]:
    """Raise the limit of open files to what a node needs; return the faults of this process, a sentence each.

    Args:
        threads: threads for arithmetic that the node file asks for.
    """
    found = [raise_open_files()]
    if threads > (cores := read_cores()):
        found.append(
            f"threads = {threads} in node.toml, and this process may use {cores:g} cores: threads ="
            f" {max(int(cores), 1)} is as fast"
        )
    return [text for text in found if text]


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())
