"""The shard a seat starts from, and the one that it leaves on this disk.

Shell: reads and writes one file per seat; fetches checkpoints.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import trio

from swarm.errors import Corrupt, Unreachable
from swarm.events import EventKind
from swarm.ledger.records import Run, RunPhase, Seat
from swarm.ledger.rollback import is_set_back
from swarm.ledger.seats import lag_of
from swarm.node.checkpoints import newest
from swarm.node.computing import open_engine
from swarm.node.context import Context
from swarm.node.recorder import state_root_of
from swarm.training.checkpoint import decode_shard
from swarm.training.engine import Engine
from swarm.training.lag import Catching, catching_up
from swarm.training.resume import resume_shard, save_shard
from swarm.training.shard import Shard
from swarm.training.stages import stage_of
from swarm.types import RoundIndex

FOLDER = "seats"


async def find_shard(context: Context, run: Run, seat: Seat) -> tuple[Shard, str]:
    """Our own saved shard if it is fresh and the one we committed; else the canonical one, with zero moments.

    One that is too far behind, or that was set back behind a lie, is not fresh: protocol.md section 5.

    The text says which. Raises ``Unreachable`` when it cannot be had from anybody.
    """
    newest_round = run.rounds[-1].round if run.rounds else RoundIndex(0)
    is_fresh = catching_up(lag_of(seat, newest_round)) is Catching.TRADE
    is_behind = is_set_back(run, seat, seat.stage, newest_round)
    if seat.last_commit_round >= 0 and is_fresh and not is_behind:
        try:
            shard = await _saved(context, run, seat)
        except (Corrupt, Unreachable) as error:
            context.report(EventKind.WARNING, f"the saved shard cannot be used: {error}")
        else:
            if shard is not None:
                return shard, f"its own state of round {seat.last_commit_round}"
    if run.phase is RunPhase.COOLING:
        raise Unreachable("the replicas agree on their end, and this one has none to bring")
    phi_P, _, boundary = await newest(context, run, seat.stage)
    begun = partial(Shard, run.spec, seat.stage, phi_P, time.thread_time)
    shard = await _on_engine(context, run, seat, begun)
    return shard, f"the checkpoint of round {boundary}" if boundary else "the initial weights"


async def keep_shard(
    context: Context, run: Run, seat: Seat, shard: Shard, round_: RoundIndex
) -> None:
    """Save the state between two segments for our own next start; a full disk costs no more than that."""
    saved = await context.compute.run(save_shard, shard, run.spec_digest, seat.index, round_)
    path = _file(context, seat)
    try:
        await trio.to_thread.run_sync(_write, path, saved)
    except OSError as error:
        context.report(
            EventKind.WARNING,
            f"the shard of stage {seat.stage} could not be saved: {error.strerror}; try: df -h {path.parent}",
        )


async def _saved(context: Context, run: Run, seat: Seat) -> Shard | None:
    """The shard on this disk, if it is the one the ledger has the root of."""
    data = await trio.to_thread.run_sync(_read, _file(context, seat))
    if not data:
        return None
    numel = stage_of(run.spec, seat.stage).plan.num_parameters
    saved = await context.compute.run(decode_shard, data, numel)
    anchor_P = await context.library.anchor(run, seat.stage, saved.anchor_root)
    resumed = partial(resume_shard, run.spec, saved, anchor_P, time.thread_time)
    shard = await _on_engine(context, run, seat, resumed)
    root = state_root_of(await context.compute.run(shard.components))
    if root == seat.last_end_root:
        return shard
    shard.engine.close()
    return None


async def _on_engine(
    context: Context, run: Run, seat: Seat, build: Callable[[Engine], Shard]
) -> Shard:
    """A shard on the devices of this node; raises ``DeviceLost`` when none answers."""
    engine = await context.compute.run(open_engine, context, run.spec, seat.stage)
    try:
        return await context.compute.run(build, engine)
    except BaseException:
        engine.close()  # also when cancelled: its processes are ours to end
        raise


def _file(context: Context, seat: Seat) -> Path:
    return context.home / FOLDER / f"{context.run16.hex()}-{seat.stage}-{seat.index}.bin"


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _write(path: Path, data: bytes) -> None:
    """Replace a file at once: a crash leaves the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    draft.write_bytes(data)
    draft.replace(path)
