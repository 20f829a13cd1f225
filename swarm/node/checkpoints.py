"""Post the canonical checkpoint when the dice drew us, and pull those of others.

Shell: carries bytes between the shard, the blob folder and the ledger.
"""

from collections.abc import Collection
from dataclasses import dataclass

import trio
from torch import Tensor

from swarm.errors import BadConfig, Corrupt, InvalidStatement, Unreachable
from swarm.events import EventKind
from swarm.ledger.fields import PHI_COMPONENT
from swarm.ledger.records import Checkpoint
from swarm.ledger.transactions import PostCheckpoint
from swarm.node.context import Context
from swarm.tensors import hash_of
from swarm.training.checkpoint import FLOAT_BYTES, decode_phi, phi_bytes
from swarm.training.stages import init_flat, stage_of
from swarm.types import Digest, RoundIndex, StageIndex
from swarm.verify.transcript import component_proof

TABLE = "checkpoints"
"""Per blob that is a checkpoint: run, stage and round, so that old ones can be told from data."""
NEWER_KEPT = 2
"""A checkpoint goes when so many newer canonical ones are here."""
PAGE = 1_000


@dataclass(frozen=True, slots=True)
class ClosedSegment:
    """What a checkpoint needs of a segment that ended."""

    round: RoundIndex
    components: tuple[Digest, ...]
    phi_P: Tensor


async def post(
    context: Context, stage: StageIndex, index: int, boundary: RoundIndex, closed: ClosedSegment
) -> None:
    """Publish phi of ``closed`` as the stage's checkpoint; raises ``InvalidStatement`` when too late."""
    run = context.run
    if run is None:
        return
    data = phi_bytes(closed.phi_P)
    root = await context.blobs.add(data, dtype="float32", shape=tuple(closed.phi_P.shape))
    body = PostCheckpoint(
        run.index,
        boundary,
        stage,
        index,
        root,
        len(data),
        component_proof(closed.components, PHI_COMPONENT),
    )
    await _note(context, stage, boundary, root)
    await context.ledger.submit(body)
    context.report(
        EventKind.CHECKPOINT,
        f"posted the checkpoint of stage {stage} from round {closed.round}: {root.hex()[:12]}",
        stage=stage,
        round=closed.round,
    )


async def pull(context: Context, stage: StageIndex, checkpoint: Checkpoint) -> Tensor:
    """The weights of a canonical checkpoint, fetched from peers when they are not here.

    Raises ``Unreachable`` when nobody serves it, ``Corrupt`` when our own disk changed it.
    """
    numel = stage_parameters(context, stage)
    if checkpoint.phi_bytes != numel * FLOAT_BYTES:
        raise Unreachable(f"the checkpoint of stage {stage} has the wrong size")
    path = await context.blobs.fetch(
        checkpoint.phi_root,
        checkpoint.phi_bytes,
        lambda: [checkpoint.peer, *context.peers_of_run()],
    )
    data = await trio.to_thread.run_sync(path.read_bytes)
    phi_P = await context.compute.run(decode_phi, data, numel)
    if await context.compute.run(hash_of, phi_P) != checkpoint.phi_root:
        raise Corrupt(f"the checkpoint of stage {stage} on this disk is damaged", hint=f"rm {path}")
    await _note(context, stage, checkpoint.round, checkpoint.phi_root)
    return phi_P


async def newest(context: Context, stage: StageIndex) -> tuple[Tensor, Digest, RoundIndex]:
    """(weights, root, round) of the newest canonical checkpoint; round 0 is the initialisation."""
    run = context.run
    if run is None:
        raise Unreachable("this node is in no run yet")
    for checkpoint in run.checkpoints[stage]:
        try:
            return await pull(context, stage, checkpoint), checkpoint.phi_root, checkpoint.round
        except Unreachable:
            continue
    plan = stage_of(run.spec, stage).plan
    phi_P = await context.compute.run(init_flat, plan, run.spec.seed)
    return phi_P, await context.compute.run(hash_of, phi_P), RoundIndex(0)


async def tidy(context: Context, needed: Collection[Digest]) -> None:
    """Remove checkpoints of the run that ``NEWER_KEPT`` newer canonical ones on this disk replace.

    ``needed`` are the anchors of our shards, in memory or saved: those stay.
    """
    run = context.run
    if run is None:
        return
    held = [
        [kept.round for kept in stage if context.blobs.has(kept.phi_root)]
        for stage in run.checkpoints
    ]
    canonical = {kept.phi_root for stage in run.checkpoints for kept in stage}
    for key, place in context.store.items(TABLE, limit=PAGE):
        root, run16 = Digest(key), place[:16]
        stage, round_ = (int.from_bytes(place[at : at + 4], "big") for at in (16, 20))
        if run16 != context.run16 or root in needed or root in canonical:
            continue
        if sum(newer > round_ for newer in held[stage]) >= NEWER_KEPT:
            await context.blobs.remove(root)
            await context.store.write_soon([(TABLE, key, None)])


async def _note(context: Context, stage: StageIndex, round_: RoundIndex, root: Digest) -> None:
    """Remember that a blob is a checkpoint, to remove it when it is old."""
    place = context.run16 + stage.to_bytes(4, "big") + round_.to_bytes(4, "big")
    if context.store.get(TABLE, root) != place:
        await context.store.write_soon([(TABLE, root, place)])


async def anchor_of(context: Context, stage: StageIndex, root: Digest) -> Tensor:
    """The anchor a saved shard names: the initial weights or a checkpoint on this disk.

    Raises ``Unreachable`` when it is neither.
    """
    run = context.run
    if run is None:
        raise Unreachable("this node is in no run yet")
    plan = stage_of(run.spec, stage).plan
    if context.blobs.has(root):
        data = await trio.to_thread.run_sync(context.blobs.path(root).read_bytes)
        return await context.compute.run(decode_phi, data, plan.num_parameters)
    initial_P = await context.compute.run(init_flat, plan, run.spec.seed)
    if await context.compute.run(hash_of, initial_P) != root:
        raise Unreachable("its anchor is not on this disk any more")
    return initial_P


def stage_parameters(context: Context, stage: StageIndex) -> int:
    """P of a stage of the run."""
    run = context.run
    assert run is not None, "a stage belongs to a run"
    return stage_of(run.spec, stage).plan.num_parameters


async def post_quietly(
    context: Context, stage: StageIndex, index: int, boundary: RoundIndex, closed: ClosedSegment
) -> bool:
    """Like ``post``; False when ledger or disk would not have it, which costs nothing but the posting."""
    try:
        await post(context, stage, index, boundary, closed)
    except (InvalidStatement, BadConfig) as error:
        context.report(EventKind.WARNING, f"checkpoint of stage {stage} not posted: {error}")
        return False
    return True
