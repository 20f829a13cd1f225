"""Save a seat's shard on this disk between two segments: for its own next start, and for replicas.

Shell: reads and writes one file per seat.
"""

from pathlib import Path
from typing import Protocol

import trio

from swarm.errors import Corrupt
from swarm.events import EventKind
from swarm.ledger.state.records import Run, Seat
from swarm.node.ports import HasCompute, HasHome, HasReport, HasRun
from swarm.training.model.stages import stage_of
from swarm.training.record.checkpoint import SavedShard, decode_shard
from swarm.training.record.restore import save_shard
from swarm.training.shard import Shard
from swarm.types import RoundIndex, StageIndex

FOLDER = "seats"


class SavedFolder(HasHome, HasRun, Protocol):
    """Parts of a node that name the file of a seat."""


class SavingNode(HasHome, HasRun, HasCompute, HasReport, Protocol):
    """Parts of a node that write and read shards."""


async def keep_shard(
    context: SavingNode, run: Run, seat: Seat, shard: Shard, round_: RoundIndex
) -> None:
    """Save the state between two segments; a full disk is reported, and loses only the copy."""
    saved = await context.compute.run(save_shard, shard, run.spec_digest, seat.index, round_)
    path = _file(context, seat.stage, seat.index)
    try:
        await trio.to_thread.run_sync(_write, path, saved)
    except OSError as error:
        context.report(
            EventKind.WARNING,
            f"the shard of stage {seat.stage} could not be saved: {error.strerror}; try: df -h {path.parent}",
        )


async def saved_at(context: SavedFolder, stage: StageIndex, index: int) -> int:
    """Return the time a seat was saved last, in nanoseconds of the disk's clock; 0 if never."""
    return await trio.to_thread.run_sync(_changed_ns, _file(context, stage, index))


async def saved_shard(
    context: SavingNode, run: Run, stage: StageIndex, index: int
) -> SavedShard | None:
    """Return the saved shard of a seat, or None; raises ``Corrupt`` if the disk has changed it."""
    data = await trio.to_thread.run_sync(_read, _file(context, stage, index))
    if not data:
        return None
    numel = stage_of(run.spec, stage).plan.num_parameters
    saved = await context.compute.run(decode_shard, data, numel)
    if (saved.run_digest, saved.stage, saved.seat) != (run.spec_digest, stage, index):
        raise Corrupt("a saved shard of another seat", hint="delete the folder of saved shards")
    return saved


def _file(context: SavedFolder, stage: StageIndex, index: int) -> Path:
    return context.home / FOLDER / f"{context.run16.hex()}-{stage}-{index}.bin"


def _changed_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _write(path: Path, data: bytes) -> None:
    """Replace a file atomically: a crash leaves the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    draft.write_bytes(data)
    draft.replace(path)
