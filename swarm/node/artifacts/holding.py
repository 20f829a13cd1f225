"""Hold checkpoints of other stages for which this node was drawn: fetch them, say so, show drawn leaves.

Shell: moves bytes between blobs and the ledger; ``control/holding.py`` says what is due.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import trio

from swarm.errors import BadConfig, InvalidStatement, Unreachable
from swarm.events import EventKind
from swarm.gossip.blobs.service import read_blob
from swarm.ledger.state.records import Checkpoint, Run
from swarm.ledger.state.storage import NO_STORAGE, Storage
from swarm.ledger.storage_statements import StorageProof, StorageStatement, StoreReceipt
from swarm.ledger.transition.storage import check_leaves, prove_storage
from swarm.node.control.holding import (
    FetchHeld,
    HoldingDuty,
    RefuseHeld,
    SayHeld,
    ShowHeld,
    plan_holding,
)
from swarm.node.ports import HasBlobs, HasConfig, HasLedger, HasMe, HasReport, HasRun
from swarm.primitives.codec import replace
from swarm.types import Digest, Height, StageIndex

AGAIN_BLOCKS = 4
"""Blocks after which a statement is made again, if the ledger does not have it."""
RETRY_BLOCKS = 20
"""Blocks after a checkpoint could not be fetched, or was refused by the disk, before it is tried again."""


class KeepingWeights(Protocol):
    """Weights that are fetched to the disk: ``swarm.node.artifacts.cache.ArtifactCache``."""

    async def keep(self, run: Run, stage: StageIndex, checkpoint: Checkpoint) -> Path:
        """Fetch a checkpoint to this disk, and serve it; raise ``Unreachable`` or ``BadConfig``."""
        ...

    async def keep_base(self, run: Run, stage: StageIndex) -> None:
        """Fetch the weights below the adapter of a stage, if the run has one."""
        ...


class HoldingNode(HasMe, HasConfig, HasRun, HasLedger, HasBlobs, HasReport, Protocol):
    """Parts of a node that hold checkpoints for other stages."""

    @property
    def artifacts(self) -> KeepingWeights:
        """Weights that are fetched to the disk."""
        ...


async def hold_checkpoints(context: HoldingNode) -> None:
    """Hold what this node is drawn for; runs until cancelled."""
    async with trio.open_nursery() as nursery:
        holding = Holding(context, nursery.start_soon)
        while True:
            run = context.run
            if run is not None:
                await holding.step(run)
            await context.ledger.wait_height(context.ledger.height + 1)


class Holding:
    """Duties under way of a node about the checkpoints that it holds for others."""

    def __init__(self, context: HoldingNode, start: Callable[..., object]) -> None:
        """``start`` begins a task that nobody waits for: a fetch takes longer than a proof may."""
        self._context, self._start = context, start
        self._not_before: dict[tuple[str, Digest], Height] = {}
        """Heights before which the same duty about the same weights is not begun again."""
        self._refused = set[Digest]()
        self._is_fetching = False

    async def step(self, run: Run) -> None:
        """Do or begin what is due in the final state of now."""
        context = self._context
        limit = context.config.storage_mb << 20
        state = context.ledger.state
        for duty in plan_holding(state, run, context.me, context.blobs.has, limit):
            await self._do(run, duty)
        listed = {c.phi_root for kept in run.checkpoints for c in kept}
        self._refused &= listed
        self._not_before = {key: at for key, at in self._not_before.items() if key[1] in listed}

    async def _do(self, run: Run, duty: HoldingDuty) -> None:
        if isinstance(duty, RefuseHeld):
            self._refuse(duty)
            return
        key, height = (type(duty).__name__, duty.checkpoint.phi_root), self._context.ledger.height
        if height < self._not_before.get(key, 0):
            return
        match duty:
            case FetchHeld():
                if not self._is_fetching:
                    self._is_fetching = True
                    self._not_before[key] = Height(height + RETRY_BLOCKS)
                    self._start(self._fetch, run, duty)
            case SayHeld():
                self._not_before[key] = Height(height + AGAIN_BLOCKS)
                await self._say(run, duty)
            case ShowHeld():
                self._not_before[key] = Height(height + AGAIN_BLOCKS)
                await self._show(run, duty)

    async def _fetch(self, run: Run, duty: FetchHeld) -> None:
        try:
            await self._context.artifacts.keep_base(run, duty.stage)
            await self._context.artifacts.keep(run, duty.stage, duty.checkpoint)
        except (Unreachable, BadConfig) as error:
            where = f"the checkpoint of stage {duty.stage} from round {duty.checkpoint.round}"
            self._context.report(EventKind.WARNING, f"{where} is not held for others yet: {error}")
        finally:
            self._is_fetching = False

    def _refuse(self, duty: RefuseHeld) -> None:
        if duty.checkpoint.phi_root not in self._refused:
            self._refused.add(duty.checkpoint.phi_root)
            megabytes = -(-duty.checkpoint.phi_bytes >> 20)
            self._context.report(
                EventKind.WARNING,
                f"the checkpoint of stage {duty.stage}, {megabytes} MB, is not held for others:"
                f" storage_mb is {self._context.config.storage_mb} in node.toml",
            )

    async def _say(self, run: Run, duty: SayHeld) -> None:
        """Post a receipt, once the weights have shown leaves that nobody has asked for."""
        receipt = _receipt(self._context, run, duty)
        tried = replace(NO_STORAGE, seed=self._context.ledger.state.beacon)
        if await self._proof(run, duty.checkpoint, tried, receipt) is not None:
            text = f"holds the checkpoint of stage {duty.stage} from round {duty.checkpoint.round} for others"
            await self._submit(receipt, text)

    async def _show(self, run: Run, duty: ShowHeld) -> None:
        receipt = _receipt(self._context, run, duty)
        proof = await self._proof(run, duty.checkpoint, duty.storage, receipt)
        if proof is not None:
            await self._submit(proof, "")

    async def _proof(
        self, run: Run, checkpoint: Checkpoint, storage: Storage, receipt: StoreReceipt
    ) -> StorageProof | None:
        """Return a proof that holds; None if the weights here are damaged, which are then fetched again."""
        root = checkpoint.phi_root
        try:
            path = await self._context.artifacts.keep(run, receipt.stage, checkpoint)
            data = await read_blob(path)
            return await trio.to_thread.run_sync(_checked, checkpoint, storage, receipt, data)
        except (Unreachable, BadConfig) as error:
            self._context.report(EventKind.WARNING, f"held weights cannot be read: {error}")
        except InvalidStatement:
            self._context.report(
                EventKind.WARNING, f"held weights {root.hex()[:12]} are damaged: fetched again"
            )
            await self._context.blobs.remove(root)
        return None

    async def _submit(self, body: StorageStatement, text: str) -> None:
        try:
            await self._context.ledger.submit(body)
        except InvalidStatement as error:
            self._context.report(EventKind.WARNING, f"about a held checkpoint: {error}")
        else:
            if text:
                self._context.report(EventKind.PROGRESS, text)


def _checked(
    checkpoint: Checkpoint, storage: Storage, receipt: StoreReceipt, data: memoryview
) -> StorageProof:
    proof = prove_storage(checkpoint, storage, receipt, data)
    check_leaves(checkpoint, storage, proof)
    return proof


def _receipt(context: HoldingNode, run: Run, duty: SayHeld | ShowHeld) -> StoreReceipt:
    return StoreReceipt(run.index, duty.checkpoint.round, duty.stage, context.me)
