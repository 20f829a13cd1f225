"""Post the canonical checkpoint if the beacon drew our seat, start from the newest, and delete old ones.

Shell: moves bytes between the shard, the blob folder and the ledger.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from swarm.errors import BadConfig, InvalidStatement, Unreachable
from swarm.events import EventKind
from swarm.gossip.blobs.service import PATIENCE_S
from swarm.ledger.state.records import Run
from swarm.ledger.transactions import PostCheckpoint
from swarm.node.artifacts.cache import TABLE
from swarm.node.ports import HasBlobs, HasLedger, HasReport, HasRun, HasStore, HasWeights
from swarm.primitives.state_parts import PHI
from swarm.training.record.checkpoint import phi_bytes
from swarm.types import Digest, RoundIndex, StageIndex
from swarm.verify.transcript import component_proof

NEWER_KEPT = 2
"""Newer canonical checkpoints on this disk at which an unlisted one is deleted."""
NEWEST_TRIED = 3
"""Checkpoints that a newcomer asks for, newest first: each that no peer serves costs it the patience of a
fetch, and an older one would be too old to trade against."""
OLDER_HERE_PATIENCE_S = 10.0
"""Seconds without data after which an older checkpoint on this disk is taken instead: the newest of a stage
that was lost may be lost with it."""
PAGE = 1_000


class WeightsNode(HasBlobs, HasWeights, Protocol):
    """Parts of a node that read weights."""


class DroppingNode(HasBlobs, HasStore, HasWeights, Protocol):
    """Parts of a node that keep and remove weights."""


class TidyingNode(HasRun, HasBlobs, HasStore, HasWeights, Protocol):
    """Parts of a node that distinguish old weights from needed ones."""


class PostingNode(HasRun, HasLedger, HasBlobs, HasWeights, HasReport, Protocol):
    """Parts of a node that publish a checkpoint."""


@dataclass(frozen=True, slots=True)
class ClosedSegment:
    """Part of a closed segment that its checkpoint needs."""

    round: RoundIndex
    components: tuple[Digest, ...]
    phi_P: Tensor


async def post(
    context: PostingNode, stage: StageIndex, index: int, boundary: RoundIndex, closed: ClosedSegment
) -> None:
    """Publish phi of ``closed`` as the stage's checkpoint; raises ``InvalidStatement`` if it is too late."""
    run = context.run
    if run is None:
        return
    data = phi_bytes(closed.phi_P)
    root = await context.blobs.add(data, dtype="float32", shape=tuple(closed.phi_P.shape))
    body = PostCheckpoint(
        run=run.index,
        round=boundary,
        stage=stage,
        seat=index,
        phi_root=root,
        phi_bytes=len(data),
        proof=component_proof(closed.components, PHI),
    )
    await context.artifacts.note(run, stage, boundary, root)
    await context.ledger.submit(body)
    context.report(
        EventKind.CHECKPOINT,
        f"posted the checkpoint of stage {stage} from round {closed.round}: {root.hex()[:12]}",
        stage=stage,
        round=closed.round,
    )


async def newest(
    context: WeightsNode, run: Run, stage: StageIndex
) -> tuple[Tensor, Digest, RoundIndex]:
    """Return (weights, root, round) of the newest canonical checkpoint available; round 0: the initial weights.

    Raises ``Unreachable`` if there is more than the first and none of the ``NEWEST_TRIED`` newest can be had
    now: initial weights would only slow down a run that has come so far.
    """
    artifacts, listed = context.artifacts, run.standing(stage)
    last: Unreachable | None = None
    for number, checkpoint in enumerate(listed[:NEWEST_TRIED], start=1):
        is_older_here = any(context.blobs.has(c.phi_root) for c in listed[number:NEWEST_TRIED])
        patience_s = OLDER_HERE_PATIENCE_S if is_older_here else PATIENCE_S
        try:
            phi_P = await artifacts.checkpoint(run, stage, checkpoint, patience_s)
        except Unreachable as error:
            last = last or error
            continue
        return phi_P, checkpoint.phi_root, checkpoint.round
    if len(listed) > 1:
        tried = ", ".join(str(checkpoint.round) for checkpoint in listed[:NEWEST_TRIED])
        raise Unreachable(
            f"none of the newest checkpoints of stage {stage} (rounds {tried}) can be had yet: {last}"
        )
    phi_P = await artifacts.initial(run, stage)
    return phi_P, run.spec.starts[stage].weights, RoundIndex(0)


async def tidy(
    context: TidyingNode, needed: Collection[Digest], followed: Collection[StageIndex]
) -> None:
    """Delete checkpoints of the run that the ledger lists no more and this node cannot need.

    Listed checkpoints stay, for replays of segments that are anchored to them; so do ``needed``, the anchors of
    our shards, in memory or saved. Of the stages in ``followed`` one is deleted when ``NEWER_KEPT`` newer ones
    are on this disk; one of another stage was fetched for a check, and is deleted at once.
    """
    run = context.run
    if run is None:
        return
    held = [
        [kept.round for kept in stage if context.blobs.has(kept.phi_root)]
        for stage in run.checkpoints
    ]
    canonical = {kept.phi_root for stage in run.checkpoints for kept in stage}
    for key, record in context.store.items(TABLE, limit=PAGE):
        root, run16 = Digest(key), record[:16]
        stage, round_ = (int.from_bytes(record[at : at + 4], "big") for at in (16, 20))
        if run16 != context.run16 or root in needed or root in canonical:
            continue
        if stage not in followed or sum(newer > round_ for newer in held[stage]) >= NEWER_KEPT:
            await drop(context, root)


async def drop(context: DroppingNode, root: Digest) -> None:
    """Delete a blob that was noted as weights of the run: its file, its tensor in memory, and the note."""
    context.artifacts.forget(root)
    await context.blobs.remove(root)
    await context.store.write_soon([(TABLE, root, None)])


async def post_quietly(
    context: PostingNode, stage: StageIndex, index: int, boundary: RoundIndex, closed: ClosedSegment
) -> bool:
    """Publish as ``post`` does; return False if ledger or disk refuse, which costs only the posting."""
    try:
        await post(context, stage, index, boundary, closed)
    except (InvalidStatement, BadConfig) as error:
        context.report(EventKind.WARNING, f"checkpoint of stage {stage} not posted: {error}")
        return False
    return True
