"""Serve, add and fetch content-addressed blobs: data, checkpoints, logs.

Shell: owns the streams and the blame; ``gossip/blobs/download.py`` decides which peer to ask,
``gossip/blobs/disk.py`` stores the files.

A blob is named by ``swarm.primitives.commitments.tensor_hash`` of its bytes, so every such hash in a run spec
or on the ledger can be fetched.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import trio

from swarm.errors import BadConfig, OutOfTurn, PeerFault, SwarmError, Unreachable, UsageError
from swarm.gossip.blobs.chunks import BlobManifest
from swarm.gossip.blobs.disk import BlobStore
from swarm.gossip.blobs.download import Begin, ChunkStore, ChunkTask, Download
from swarm.gossip.trade.messages import (
    BLOB_CHUNKS,
    BLOB_CHUNKS_MAX,
    BLOB_REPLY_BYTES_MAX,
    REQUEST_BYTES_MAX,
    BlobChunksRequest,
    BlobFound,
    BlobMissing,
    ManifestRequest,
    blob_reply,
    check_root,
    decode_blob_request,
)
from swarm.gossip.trade.service import TradeLinks
from swarm.primitives.codec import encode
from swarm.spill import file_bytes
from swarm.types import Bytes, Digest, PeerId

BLOB_PROTOCOL = "/swarm/blob/2"
CALL_TIMEOUT_S = 30.0
"""Seconds to wait for an answer at most: 1 MiB at 300 kbit/s. More is asked of quick peers alone."""
PATIENCE_S = 60.0
"""Seconds without anything new after which a download is given up; chunks on disk stay there."""
POLL_S = 0.5
"""Seconds between two reads of the caller's list of peers while none on it can be asked."""
MANIFESTS_CACHED_MAX = 16
"""Manifests in memory: at most 16 MiB, and one disk read per blob served instead of one per chunk."""
SERVED_MAX = 8
"""Answers read at once: 32 MiB of memory."""
SERVED_PER_PEER_MAX = 3
FLUSH_BYTES = 16 << 20
"""Bytes after which a download goes to the disk, while more of it comes in."""

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
Peers = Callable[[], Sequence[PeerId]]
Progress = Callable[[int, int], None]
"""Callback with (bytes held, bytes in total)."""


class Blobs:
    """Blobs of one node: serves them, adds local ones, fetches those of other peers."""

    def __init__(self, folder: Path, host: TradeLinks, *, quota_bytes: int) -> None:
        self._store = BlobStore(folder, quota_bytes=quota_bytes)
        self._host = host
        self._manifests: OrderedDict[Digest, BlobManifest] = OrderedDict()
        self._fetching: dict[Digest, _Turn] = {}
        self._changing = trio.Lock()
        self._is_kept_back: Callable[[Digest], bool] = lambda _: False
        host.serve(
            BLOB_PROTOCOL,
            self._answer,
            request_limit=REQUEST_BYTES_MAX,
            concurrency=SERVED_MAX,
            per_peer=SERVED_PER_PEER_MAX,
        )

    def has(self, root: Digest) -> bool:
        """Return True if the whole blob is on this disk."""
        return self._store.has(root)

    def path(self, root: Digest) -> Path:
        """Return the file of a blob on this disk; raises ``UsageError`` if it is not here."""
        if not self.has(root):
            raise UsageError(f"blob {root.hex()[:16]} is not here")
        return self._store.path(root)

    async def manifest(self, root: Digest) -> BlobManifest | None:
        """Return the manifest of a whole blob, checked against its root; None if it is absent or damaged."""
        return await self._manifest(root)

    def keep_back(self, is_kept_back: Callable[[Digest], bool]) -> None:
        """Serve no blob for whose root ``is_kept_back`` returns True: it is this node's alone."""
        self._is_kept_back = is_kept_back

    def roots(self) -> list[Digest]:
        """Return the roots of all whole blobs, sorted."""
        return self._store.roots()

    async def remove(self, root: Digest) -> None:
        """Delete a blob, whole or partial."""
        self._manifests.pop(root, None)
        async with self._changing:
            await _on_disk(self._store.remove, root)

    async def add(
        self,
        source: bytes | bytearray | memoryview | Path,
        *,
        dtype: str = "uint8",
        shape: tuple[int, ...] | None = None,
    ) -> Digest:
        """Copy bytes or a file into the folder, serve them, and return their root.

        Args:
            source: bytes in memory, or the path of a file.
            dtype: element type; part of the root.
            shape: shape; part of the root. By default the number of bytes.

        Returns:
            ``tensor_hash(dtype, shape, bytes)``.

        Raises:
            BadConfig: the blob does not fit the quota or the disk, or the file changed while it was copied.
        """
        async with self._changing:
            if isinstance(source, Path):
                return await _on_disk(self._store.add_file, source, dtype, shape)
            view = memoryview(source).cast("B")
            shape = (len(view),) if shape is None else shape
            return await _on_disk(self._store.add_bytes, view, dtype, shape)

    async def fetch(
        self,
        root: Digest,
        num_bytes_max: int,
        peers: Peers,
        progress: Progress | None = None,
        *,
        patience_s: float = PATIENCE_S,
    ) -> Path:
        """Fetch a blob from any of ``peers()`` and return its file.

        Every chunk is verified; a peer that sends wrong bytes is blamed, and the others go on. Cancelling keeps
        what has arrived for the next call. Concurrent calls for one root share one download.

        Args:
            root: name of the blob.
            num_bytes_max: largest size to accept.
            peers: returns the peers that may be asked; called again while the download runs.
            progress: called with (bytes held, bytes in total).
            patience_s: seconds without anything new after which the download is given up.

        Raises:
            Unreachable: nothing new came for ``patience_s``, or the blob is larger than ``num_bytes_max``.
            BadConfig: the blob does not fit the quota or the disk.
        """
        turn = self._fetching.setdefault(root, _Turn())
        self._store.in_use.add(root)
        try:
            await turn.take(root, patience_s)
            try:
                if not self.has(root):
                    machine = turn.machine = Download(root, num_bytes_max, now=trio.current_time())
                    fetching = _Fetching(self._host, self._store, self._changing, root, machine)
                    await fetching.run(peers, progress, patience_s)
            finally:
                turn.machine = None
                turn.lock.release()
        finally:
            if not turn.lock.locked() and not turn.lock.statistics().tasks_waiting:
                self._fetching.pop(root, None)
                self._store.in_use.discard(root)
        return self.path(root)

    async def _answer(self, peer: PeerId, raw: bytes) -> Bytes:
        del peer  # blobs are served to every peer
        message = decode_blob_request(raw)
        check_root(message.root)
        manifest = await self._manifest(message.root)
        if manifest is None or self._is_kept_back(message.root):
            return blob_reply(BlobMissing())
        match message:
            case ManifestRequest():
                return blob_reply(BlobFound(manifest))
            case BlobChunksRequest(root, first, count):
                if not 0 <= first < first + count <= manifest.num_chunks or count > BLOB_CHUNKS_MAX:
                    raise OutOfTurn(f"{count} chunks at {first} of {manifest.num_chunks}")
                return await _on_disk(self._chunks, root, manifest, first, count)

    def _chunks(self, root: Digest, manifest: BlobManifest, first: int, count: int) -> Bytes:
        chunks = self._store.read_chunks(root, manifest, first, count, behind=1)
        if chunks is None:
            return blob_reply(BlobMissing())
        chunks[0] = BLOB_CHUNKS
        return chunks

    async def _manifest(self, root: Digest) -> BlobManifest | None:
        if not self.has(root):
            return None
        manifest = self._manifests.get(root)
        if manifest is None:
            manifest = await _on_disk(self._store.load, root)
            if manifest is None:
                return None
            self._manifests[root] = manifest
            if len(self._manifests) > MANIFESTS_CACHED_MAX:
                self._manifests.popitem(last=False)
        return manifest


class _Turn:
    """Queue of the tasks that want one blob: one task fetches it, the others wait for the result."""

    def __init__(self) -> None:
        self.lock = trio.Lock()
        self.machine: Download | None = None
        """Download of the task that fetches now; None if there is none."""

    async def take(self, root: Digest, patience_s: float) -> None:
        """Become the fetching task; raises ``Unreachable`` if the present one stalls for ``patience_s``."""
        while True:
            with trio.move_on_after(POLL_S):
                await self.lock.acquire()
                return
            machine = self.machine
            if machine is not None and machine.is_stalled(trio.current_time(), patience_s):
                raise _unserved(root)


def _unserved(root: Digest) -> Unreachable:
    return Unreachable(f"no peer serves blob {root.hex()[:16]}")


class _Fetching:
    """Download of one blob: sends requests, writes chunks, blames peers."""

    def __init__(
        self,
        host: TradeLinks,
        store: BlobStore,
        changing: trio.Lock,
        root: Digest,
        machine: Download,
    ) -> None:
        self._host = host
        self._store = store
        self._changing = changing
        self._root = root
        self._machine = machine
        self._answered = trio.Event()
        self._failure: SwarmError | None = None
        self._unflushed = 0
        self._is_flushing = False

    async def run(self, peers: Peers, progress: Progress | None, patience_s: float) -> None:
        """Fetch until the blob is whole; raises ``Unreachable`` or ``BadConfig`` if that fails."""
        machine = self._machine
        manifest = await _on_disk(self._store.load, self._root)
        if manifest is not None:
            await self._begin(manifest)
        async with trio.open_nursery() as nursery:
            while self._failure is None and not machine.is_done:
                now = trio.current_time()
                if machine.is_stalled(now, patience_s):
                    self._failure = _unserved(self._root)
                    break
                task = machine.next_task(peers(), now)
                if task is not None:
                    nursery.start_soon(self._carry, task)
                    continue
                with trio.move_on_after(POLL_S):
                    await self._answered.wait()
                if machine.manifest is not None and progress is not None:
                    progress(machine.num_bytes_held, machine.manifest.num_bytes)
            if self._failure is not None:
                nursery.cancel_scope.cancel()
        if self._failure is not None:
            raise self._failure
        async with self._changing:
            await _on_disk(self._store.keep, self._root)

    async def _carry(self, task: ChunkTask) -> None:
        machine = self._machine
        request = (
            ManifestRequest(self._root)
            if task.first is None
            else BlobChunksRequest(self._root, task.first, task.count)
        )
        try:
            raw = await self._host.call(
                task.peer,
                BLOB_PROTOCOL,
                encode(request),
                timeout_s=CALL_TIMEOUT_S,
                reply_limit=BLOB_REPLY_BYTES_MAX,
            )
        except PeerFault as fault:
            machine.rejected(task)
            self._host.blame(task.peer, fault)
        except Unreachable:
            machine.lost(task, trio.current_time())
        else:
            await self._take(task, raw)
        self._wake()

    async def _take(self, task: ChunkTask, raw: bytes) -> None:
        try:
            effect = await _on_disk(self._judge, task, raw)
            self._machine.receive(task, effect, trio.current_time())
            if isinstance(effect, Begin):
                await self._begin(effect.manifest)
            elif isinstance(effect, ChunkStore):
                self._unflushed += len(effect.data)
                await self._flush()
        except PeerFault as fault:
            self._machine.rejected(task)
            self._host.blame(task.peer, fault)
        except (Unreachable, BadConfig) as failure:
            self._failure = failure

    def _judge(self, task: ChunkTask, raw: bytes) -> Begin | ChunkStore | None:
        """Check an answer and write its chunks; both take as long as the way of the next one."""
        effect = self._machine.judge(task, raw)
        if isinstance(effect, ChunkStore):
            self._store.write_chunks(self._root, effect.first, effect.data)
        return effect

    async def _flush(self) -> None:
        """Bring what has come to the disk, one task at a time, so that the end does not wait for all of it."""
        if self._unflushed >= FLUSH_BYTES and not self._is_flushing:
            self._unflushed, self._is_flushing = 0, True
            try:
                self._wake()
                await _on_disk(self._store.flush, self._root)
            finally:
                self._is_flushing = False

    def _wake(self) -> None:
        self._answered.set()
        self._answered = trio.Event()

    async def _begin(self, manifest: BlobManifest) -> None:
        async with self._changing:
            held = await _on_disk(self._store.begin, self._root, manifest)
        self._machine.begin(manifest, held, trio.current_time())


async def _on_disk(fn: Callable[[*Ts], T], *args: *Ts) -> T:
    try:
        return await trio.to_thread.run_sync(fn, *args)
    except OSError as error:
        raise BadConfig(
            f"the folder of blobs cannot be used: {error}",
            hint="free disk space or check its owner",
        ) from None


async def read_blob(path: Path) -> memoryview:
    """Return the bytes of a blob's file; they must not be written to.

    Raises ``Unreachable`` if another task of this node has deleted it since it was found.
    """
    try:
        return await trio.to_thread.run_sync(file_bytes, path)
    except FileNotFoundError:
        raise Unreachable(f"blob {path.name[:16]} was deleted here before it was read") from None
