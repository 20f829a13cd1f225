"""Refuse a run that this machine cannot hold, before it begins: its memory, its disk, its quota.

Shell: asks the machine; how much a run takes is in ``node/launch/retention.py`` and ``node/launch/sizing.py``.
"""

import os
import shutil
from pathlib import Path

import trio

from swarm.config.schema import NodeConfig
from swarm.config.spec import RunSpec
from swarm.events import EventKind
from swarm.node.launch.retention import check_retention, keeps_windows, retention_of
from swarm.node.launch.sizing import check_blobs, check_memory
from swarm.node.reporting import EventLog
from swarm.training.devices.select import devices_for


def memory_bytes() -> int:
    """Memory of this machine, as its kernel says."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


async def check_fits(
    spec: RunSpec,
    *,
    is_owner: bool,
    config: NodeConfig,
    devices: tuple[str, ...],
    blobs: Path,
    report: EventLog,
) -> None:
    """Say what a solver keeps for those who check it; raises ``BadConfig`` when the run does not fit here.

    ``devices`` are those of the node, ``blobs`` is its folder of blobs.
    """
    if not config.solve:
        return
    used = devices_for(spec, devices)
    check_memory(spec, is_owner=is_owner, memory_bytes=memory_bytes(), devices=used)
    usage = await trio.to_thread.run_sync(shutil.disk_usage, blobs)
    held, quota_mb = await trio.to_thread.run_sync(_bytes_in, blobs), config.disk_quota_mb
    if not keeps_windows(spec):
        check_blobs(
            spec, is_owner=is_owner, quota_mb=quota_mb, free_bytes=usage.free, held_bytes=held
        )
        return
    kept = retention_of(spec, is_owner=is_owner)
    check_retention(spec, kept, quota_mb=quota_mb, free_bytes=usage.free, held_bytes=held)
    report(EventKind.PROGRESS, kept.text)


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())
