"""Post the canonical checkpoint when the dice drew us, and pull those of others.

Shell: carries bytes between the shard, the blob folder and the ledger.
"""

from dataclasses import dataclass

import trio
from torch import Tensor

from swarm.errors import Corrupt, InvalidStatement, Unreachable
from swarm.events import EventKind
from swarm.ledger.records import Checkpoint
from swarm.ledger.transactions import PostCheckpoint
from swarm.node.context import Context
from swarm.tensors import hash_of
from swarm.training.checkpoint import decode_phi, phi_bytes
from swarm.training.stages import init_flat, stage_of
from swarm.types import Digest, RoundIndex, StageIndex
from swarm.verify.transcript import component_proof

PHI = 4
"""Component phi of the state, in the order of protocol.md section 5."""
FLOAT32_BYTES = 4


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
        component_proof(closed.components, PHI),
    )
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
    if checkpoint.phi_bytes != numel * FLOAT32_BYTES:
        raise Unreachable(f"the checkpoint of stage {stage} has the wrong size")
    path = await context.blobs.fetch(
        checkpoint.phi_root,
        checkpoint.phi_bytes,
        lambda: [checkpoint.peer, *context.peers_of_run()],
    )
    data = await trio.to_thread.run_sync(path.read_bytes)
    phi_P = await context.compute.run(decode_phi, data, numel)
    if await context.compute.run(hash_of, phi_P) != checkpoint.phi_root:
        raise Corrupt(
            f"the checkpoint of stage {stage} on this disk is damaged", hint=f"delete {path}"
        )
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
    """Like ``post``; False when the ledger would not have it, which costs nothing but the posting."""
    try:
        await post(context, stage, index, boundary, closed)
    except InvalidStatement as error:
        context.report(EventKind.WARNING, f"checkpoint of stage {stage} not posted: {error}")
        return False
    return True
