"""Cache the artifacts of a run: token files, checkpoints, weights below an adapter, roots of initial weights.

Shell: fetches blobs, keeps the last few in memory, and remembers roots in the store; asking again costs no
disk access, no hash and no copy.

Tensors and token arrays that are returned are shared and must not be written to. Legend: P parameters of a
stage.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from weakref import WeakValueDictionary

import trio
from torch import Tensor

from swarm.config.bounds import TOKEN_BYTES
from swarm.config.spec import DataSpec, RunSpec
from swarm.errors import BadConfig, BrokenPromise, Corrupt, Unreachable
from swarm.executor import ExecutorPort
from swarm.gossip.blobs.service import PATIENCE_S, Blobs, Progress, read_blob
from swarm.host.service import Host
from swarm.ledger.state.records import Checkpoint, Run
from swarm.placement import let_go, spilled
from swarm.primitives.codec import encode, replace
from swarm.primitives.commitments import hash_of
from swarm.primitives.crypto import fast_digest
from swarm.store import Store
from swarm.training.data.dataset import TokenArray
from swarm.training.data.disk import id_limit, open_tokens, root_of_file
from swarm.training.model.stages import StagePlan, init_flat, plans_of, stage_of
from swarm.training.record.checkpoint import FLOAT_BYTES, decode_phi
from swarm.types import Digest, PeerId, StageIndex

TABLE = "checkpoints"
"""Table of the blobs that are checkpoints, with run, stage and round, so that old ones can be distinguished
from data."""
ANCHORS_KEPT = 6
"""Tensors in memory: the newest anchor of every stage of a small run, and the one before."""
ANCHORS_BYTES_MAX = 128 << 20
"""Bytes of these tensors together, but for the last one asked for."""
TOKEN_FILES_KEPT = 4
"""Token files that stay mapped: checks seldom concern more."""

WEIGHTS_TABLE = "drawn"
"""Table of weight roots, by model, number of stages, stage and seed."""
REPORTED_PARAMETERS = 20_000_000
"""Parameters of a stage from which the work is reported, because it takes a second."""

Say = Callable[[str], None]


Holders = Callable[[Run, StageIndex, int], Sequence[PeerId]]


def _silent(_: str) -> None:
    pass


def _nobody(_run: Run, _stage: StageIndex, _round: int) -> Sequence[PeerId]:
    return ()


class ArtifactCache:
    """Cache of content-addressed artifacts of runs: token files and checkpoint tensors."""

    def __init__(
        self,
        host: Host,
        blobs: Blobs,
        compute: ExecutorPort,
        store: Store,
        say: Say = _silent,
        holders: Holders = _nobody,
    ) -> None:
        """Open an empty cache; ``say`` is called with a message before slow work.

        ``holders`` returns the peers that hold a checkpoint for its stage, as the ledger has them.
        """
        self._holders = holders
        self._host, self._blobs, self._compute, self._store = host, blobs, compute, store
        self._token_files: OrderedDict[DataSpec, TokenArray] = OrderedDict()
        self._anchors: OrderedDict[Digest, Tensor] = OrderedDict()
        self._bases: WeakValueDictionary[Digest, Tensor] = WeakValueDictionary()
        """Weights below adapters, while a seat, a check or a text uses them: once in memory for all."""
        self._loading = trio.Lock()
        self._say = say

    def peers_of(self, run: Run | None) -> list[PeerId]:
        """Return all peers that the ledger or the network names for a run, connected ones first."""
        named = {seat.peer for roster in run.seats for seat in roster} if run else set[PeerId]()
        if run is not None:
            named.add(run.owner)
        connected = self._host.connected()
        return [*connected, *sorted(named - set(connected) - {self._host.peer})]

    # --- token files ---

    async def tokens(self, run: Run, progress: Progress | None = None) -> TokenArray:
        """Return the training tokens as a memory-mapped array of the run's dtype, fetched if need be.

        Raises ``Unreachable`` if no peer serves them, ``BadConfig`` if they do not fit the disk or are not what
        the run says, ``Corrupt`` if our own disk changed them since an earlier start: a file that was just
        fetched is read again only if its dtype could hold ids beyond the vocabulary.
        """
        return await self._tokens(run, run.spec.data, progress)

    async def heldout(self, run: Run) -> TokenArray:
        """Return the held-out tokens, which are not trained on; raises as ``tokens`` does."""
        data = run.spec.data
        return await self._tokens(
            run, replace(data, train_root=data.heldout_root, train_bytes=data.heldout_bytes)
        )

    async def _tokens(
        self, run: Run, data: DataSpec, progress: Progress | None = None
    ) -> TokenArray:
        found = self._token_files.get(data)
        if found is None:
            is_here = self._blobs.has(data.train_root)
            path = await self._blobs.fetch(
                data.train_root, data.train_bytes, partial(self.peers_of, run), progress
            )
            await self._check_tokens(data, path, is_here=is_here)
            found = self._token_files[data] = open_tokens(path, data.dtype)
            if len(self._token_files) > TOKEN_FILES_KEPT:
                self._token_files.popitem(last=False)
        return found

    async def _check_tokens(self, data: DataSpec, path: Path, *, is_here: bool) -> None:
        """Raise ``BadConfig`` if the run misdescribes its tokens, ``Corrupt`` if the disk has damaged them."""
        manifest = await self._blobs.manifest(data.train_root)
        count = data.train_bytes // TOKEN_BYTES[data.dtype]
        if manifest is not None and (manifest.dtype, manifest.shape) != (data.dtype, (count,)):
            raise BadConfig(
                f"the run calls its text {count} tokens of {data.dtype}, which it is not",
                hint="swarm join ANOTHER_TICKET",
            )
        root = data.train_root
        if manifest is not None and (is_here or data.num_token_ids < id_limit(data.dtype)):
            ids = data.num_token_ids
            root = await trio.to_thread.run_sync(root_of_file, path, data.dtype, ids)
        if manifest is None or root != data.train_root:
            raise Corrupt("the text of the run on this disk is damaged", hint=f"rm {path}")

    # --- anchors ---

    async def anchor(self, run: Run, stage: StageIndex, root: Digest) -> Tensor:
        """Return the slow weights that ``root`` names.

        They are the initial ones, those of a canonical checkpoint, or those of an older one that is still on
        this disk. Raises ``Unreachable`` if ``root`` is none of these or no peer serves it, ``BadConfig`` if it
        does not fit the disk, ``Corrupt`` if our own disk changed it.
        """
        found = self._anchors.get(root)
        if found is not None:
            self._anchors.move_to_end(root)
            return found
        if root == run.spec.starts[stage].weights:
            return await self.initial(run, stage)
        for checkpoint in run.checkpoints[stage]:
            if checkpoint.phi_root == root:
                return await self.checkpoint(run, stage, checkpoint)
        if self._blobs.has(root):
            numel = stage_of(run.spec, stage).plan.num_parameters
            return await self._read_anchor(numel, stage, root, self._blobs.path(root))
        raise Unreachable(f"no checkpoint {root.hex()[:12]} of stage {stage} is on ledger or disk")

    def canonical(self, run: Run, stage: StageIndex, root: Digest) -> bool:
        """Return True if ``root`` names the stage's initial weights or a checkpoint that the ledger took."""
        if any(checkpoint.phi_root == root for checkpoint in run.checkpoints[stage]):
            return True
        return run.spec.starts[stage].weights == root

    async def initial(self, run: Run, stage: StageIndex) -> Tensor:
        """Return the weights that a stage starts from: seeded, or those of a pretrained model.

        Raises ``Unreachable`` if these have to be fetched and no peer serves them, ``BadConfig`` if the run
        names others than its seed gives, and as ``anchor`` does.
        """
        spec = run.spec
        root = spec.starts[stage].weights
        found = self._anchors.get(root)
        if found is not None:
            return found
        plan = plans_of(spec)[stage]
        if not spec.is_pretrained:
            if await seeded_root(spec, stage, self._store, self._compute, self._say) != root:
                raise BadConfig(
                    f"the run names other initial weights of stage {stage} than its seed gives",
                    hint="swarm join ANOTHER_TICKET",
                )
            return self._remember(root, await self._compute.run(_initial, plan, spec.seed))
        num_bytes = plan.num_parameters * FLOAT_BYTES
        path = await self._blobs.fetch(root, num_bytes, partial(self.peers_of, run))
        return await self._read_anchor(plan.num_parameters, stage, root, path)

    async def base(self, run: Run, stage: StageIndex, *, is_here: bool = False) -> Tensor | None:
        """Return the weights below the adapter of a run; None in a run without one.

        They are fetched if need be, but not if ``is_here``. Raises ``Unreachable`` if they cannot be had, and
        as ``anchor`` does.
        """
        plan = plans_of(run.spec)[stage].base
        if plan is None:
            return None
        root = run.spec.adapter.base_roots[stage]
        if is_here and not self._blobs.has(root):
            raise Unreachable(f"the weights below the adapter of stage {stage} are not here")
        await self.keep_base(run, stage)
        async with self._loading:
            found = self._bases.get(root)
            if found is None:
                path = self._blobs.path(root)
                mapped_W = await self._read(plan.num_parameters, stage, root, path)
                # In memory: every pass reads them, and the pages of what is mapped are given back in between.
                found = await self._compute.run(Tensor.clone, mapped_W)
                self._bases[root] = found
        return found

    async def keep_base(self, run: Run, stage: StageIndex) -> None:
        """Fetch the weights below the adapter of a stage to this disk, and serve them; nothing without one.

        Who keeps the checkpoints of a stage keeps these too: neither is of use alone. Raises as ``base`` does.
        """
        plan = plans_of(run.spec)[stage].base
        if plan is not None:
            root, num_bytes = run.spec.adapter.base_roots[stage], plan.num_parameters * FLOAT_BYTES
            await self._blobs.fetch(root, num_bytes, partial(self.peers_of, run))

    async def served(self, run: Run, stage: StageIndex, root: Digest) -> Tensor | None:
        """Return canonical weights if they are on this disk or seeded, else None; nothing is fetched.

        Raises ``Corrupt`` as ``anchor`` does.
        """
        if not self.canonical(run, stage, root):
            return None
        is_initial = not run.spec.is_pretrained and root == run.spec.starts[stage].weights
        if not is_initial and not self._blobs.has(root):
            return None
        try:
            return await self.anchor(run, stage, root)
        except Unreachable:
            return None

    async def checkpoint(
        self,
        run: Run,
        stage: StageIndex,
        checkpoint: Checkpoint,
        patience_s: float = PATIENCE_S,
    ) -> Tensor:
        """Return the weights of a canonical checkpoint, fetched from peers if they are not here.

        Raises as ``anchor`` does; ``Unreachable`` also if nothing comes for ``patience_s``.
        """
        root = checkpoint.phi_root
        path = await self.keep(run, stage, checkpoint, patience_s)
        numel = stage_of(run.spec, stage).plan.num_parameters
        found = self._anchors.get(root)
        return await self._read_anchor(numel, stage, root, path) if found is None else found

    async def keep(
        self,
        run: Run,
        stage: StageIndex,
        checkpoint: Checkpoint,
        patience_s: float = PATIENCE_S,
    ) -> Path:
        """Return the file of a canonical checkpoint, fetched to this disk if need be, and served from now on.

        Its poster is asked, those that hold it for its stage, and all others. Raises ``Unreachable`` if nothing
        comes for ``patience_s``, or it is not as long as the run says; ``BadConfig`` if it does not fit.
        """
        numel = stage_of(run.spec, stage).plan.num_parameters
        if checkpoint.phi_bytes != numel * FLOAT_BYTES:
            raise Unreachable(f"the checkpoint of stage {stage} has the wrong size")
        path = await self._blobs.fetch(
            checkpoint.phi_root,
            checkpoint.phi_bytes,
            lambda: self._sources(run, stage, checkpoint),
            patience_s=patience_s,
        )
        await self.note(run, stage, checkpoint.round, checkpoint.phi_root)
        return path

    def _sources(self, run: Run, stage: StageIndex, checkpoint: Checkpoint) -> list[PeerId]:
        """Return who may have a checkpoint: its poster, its holders, and all others, each once."""
        holders = self._holders(run, stage, checkpoint.round)
        found = dict.fromkeys([checkpoint.peer, *holders, *self.peers_of(run)])
        return [peer for peer in found if peer != self._host.peer]

    async def note(self, run: Run, stage: StageIndex, round_: int, root: Digest) -> None:
        """Record that a blob is a checkpoint, so that it is deleted when it is old."""
        record = run.spec_digest[:16] + stage.to_bytes(4, "big") + round_.to_bytes(4, "big")
        if self._store.get(TABLE, root) != record:
            await self._store.write_soon([(TABLE, root, record)])

    def forget(self, root: Digest) -> None:
        """Drop the tensor of a blob that has left the disk."""
        self._anchors.pop(root, None)

    async def _read_anchor(self, numel: int, stage: StageIndex, root: Digest, path: Path) -> Tensor:
        return self._remember(root, await self._read(numel, stage, root, path))

    async def _read(self, numel: int, stage: StageIndex, root: Digest, path: Path) -> Tensor:
        data = await read_blob(path)
        try:
            found = await self._compute.run(decode_phi, data, numel)
        except BrokenPromise as error:
            raise Unreachable(f"the weights of stage {stage} are of no use: {error}") from None
        if await self._compute.run(hash_of, found) != root:
            raise Corrupt(
                f"the checkpoint of stage {stage} on this disk is damaged", hint=f"rm {path}"
            )
        return found

    def _remember(self, root: Digest, anchor_P: Tensor) -> Tensor:
        let_go()
        self._anchors[root] = anchor_P
        self._anchors.move_to_end(root)
        while len(self._anchors) > 1 and self._is_full():
            self._anchors.popitem(last=False)
        return anchor_P

    def _is_full(self) -> bool:
        held = sum(tensor.numel() * FLOAT_BYTES for tensor in self._anchors.values())
        return len(self._anchors) > ANCHORS_KEPT or held > ANCHORS_BYTES_MAX


async def seeded_root(
    spec: RunSpec, stage: int, store: Store, compute: ExecutorPort, say: Say
) -> Digest:
    """Return the root of the seeded initial weights of ``stage``.

    It is needed at every start, and follows from the model, its adapter, the cut and the seed: a home computes
    it once.
    """
    plan, adapter = plans_of(spec)[stage], replace(spec.adapter, base_roots=())
    drawn = (spec.model, spec.num_stages, stage, spec.seed, adapter)
    key = fast_digest("drawn-weights", encode(drawn))
    held = store.get(WEIGHTS_TABLE, key)
    if held is not None:
        return Digest(held)
    if plan.num_parameters >= REPORTED_PARAMETERS:
        say(
            f"initialising the weights of stage {stage} of {spec.num_stages}:"
            f" {plan.num_parameters / 1e6:,.0f}M parameters"
        )
    root = await compute.run(_root, plan, spec.seed)
    await store.write_soon([(WEIGHTS_TABLE, key, root)])
    return root


def _initial(plan: StagePlan, seed: int) -> Tensor:
    return spilled(init_flat(plan, seed))


def _root(plan: StagePlan, seed: int) -> Digest:
    return hash_of(init_flat(plan, seed))
