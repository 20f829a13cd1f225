"""Store what this node keeps for verification: logs with their manifests, its own answers and reveals.

Shell: three tables of the store and the folder of blobs; the tables are read into memory at the start.

A manifest is on the disk before its blob, so every log in the folder can be found and removed. All of it stays
while the ledger may still ask for it.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

import trio

from swarm.errors import BadConfig, BadEncoding, Corrupt, DiskFull
from swarm.ledger.check_statements import REVEAL_BYTES_MAX, RevealSegment
from swarm.ledger.state.records import Run
from swarm.ledger.state.state import State
from swarm.ledger.transition.phases import COMMIT_ROUNDS
from swarm.ledger.transition.runs import boundary_height
from swarm.placement import SLICE_BYTES, let_go, spilled_pieces
from swarm.primitives.codec import Message, decode, encode
from swarm.primitives.commitments import (
    TENSOR_CHUNK_BYTES,
    chunk_digests,
    tensor_hash,
    tensor_root,
)
from swarm.primitives.crypto import SecretKey
from swarm.store import ITEMS_MAX, Change, Store
from swarm.training.record.window import (
    WINDOW_BYTES_MAX,
    WindowData,
    WindowKey,
)
from swarm.training.record.window_bytes import (
    encode_window,
)
from swarm.types import Bytes, Digest, PeerId
from swarm.verify.answers import ANSWER_BYTES_MAX, OwnAnswer, SegmentKey, seat_of
from swarm.verify.manifest import (
    MANIFEST_BYTES_MAX,
    MANIFESTS_MAX,
    WindowManifest,
    manifest_of,
    sign_manifest,
)
from swarm.verify.ports import BlobsPort
from swarm.verify.spots.proof import decode_proof, statement_of


def is_needed(state: State, segment_id: SegmentKey, *, is_own: bool) -> bool:
    """Return True if a segment's windows, leaves or answers may still be requested.

    They may be as long as the ledger has its record. A segment of our own may not have been committed yet; a
    run that this state does not know may be created by a later block.
    """
    run, round_, stage, seat = segment_id
    if state.segment(run, round_, stage, seat) is not None:
        return True
    known = state.find_run(run)
    if known is None:
        return True
    return is_own and state.height < boundary_height(known, round_ + COMMIT_ROUNDS + 1)


MANIFESTS, ANSWERS, REVEALS = "windows", "window_answers", "own_reveals"
SHOWN, PROOFS = "shown_blobs", "spot_proofs"


class _Kept(Message, frozen=True):
    """Row of the table of manifests."""

    manifest: WindowManifest
    sender: PeerId
    """Peer that sent the manifest; this node if the log is its own, or came in a file."""


class LogStore:
    """Logs, answers and reveals that one node stores."""

    def __init__(self, store: Store, blobs: BlobsPort, secret: SecretKey, chain: Digest) -> None:
        self.answers: dict[WindowKey, OwnAnswer] = {}
        self.reveals: dict[SegmentKey, RevealSegment] = {}
        self.proofs: dict[WindowKey, bytes] = {}
        """Proofs of what was stated falsely to this node as a verifier, on purpose or not."""
        self.packing_s = 0.0
        """Processor seconds spent on packing our own logs into blobs."""
        self._kept: dict[WindowKey, dict[Digest, _Kept]] = {}
        self._own: dict[Digest, WindowKey] = {}
        self._store, self._blobs, self._secret, self._chain = store, blobs, secret, chain
        self._load()

    @property
    def num_windows(self) -> int:
        """Number of windows of which a manifest is stored."""
        return len(self._kept)

    @property
    def num_bytes(self) -> int:
        """Bytes of all logs whose manifests are stored."""
        logs = (kept for row in self._kept.values() for kept in row.values())
        return sum(kept.manifest.num_bytes for kept in logs)

    def own_window(self, root: Digest) -> WindowKey | None:
        """Return the window of our own whose log is a blob; None if it is none of ours."""
        return self._own.get(root)

    def manifests(self, key: WindowKey) -> tuple[WindowManifest, ...]:
        """Return all stored manifests of a window; that of the log we have replayed comes first."""
        answer = self.answers.get(key)
        first = None if answer is None else answer.root
        row = sorted(self._kept.get(key, {}).items(), key=lambda item: item[0] != first)
        return tuple(kept.manifest for _, kept in row)

    async def keep_own(self, run: Run, data: WindowData) -> WindowManifest:
        """Store a log of our own as a blob that others can fetch, and return its manifest.

        Raises ``BadConfig`` if the log is larger than a verifier accepts, or does not fit on the disk.
        """
        raw, unsigned, spent_s = await trio.to_thread.run_sync(_pack, data)
        self.packing_s += spent_s
        if len(raw) > WINDOW_BYTES_MAX and not run.spec.checks.spots:
            raise BadConfig(
                f"a window of {len(raw) >> 20} MiB is more than a checker takes:"
                f" {WINDOW_BYTES_MAX >> 20} MiB",
                hint="more stages, or a smaller checks.window_steps",
            )
        await self._drop_abandoned(data.key)
        manifest = sign_manifest(self._secret, self._chain, run.spec_digest, unsigned)
        await self._put(_Kept(manifest, self._secret.peer))
        try:
            await self._blobs.add(raw)
        except BadConfig:
            await self._drop(data.key, manifest.root)
            raise
        return manifest

    async def note(self, manifest: WindowManifest, sender: PeerId) -> None:
        """Store another solver's manifest, unless ``sender`` has sent enough manifests of this window.

        A solver may sign as many logs as it likes; the limit per sender leaves room for manifests from other
        peers.
        """
        row = self._kept.get(manifest.key, {})
        num_sent = sum(kept.sender == sender for kept in row.values())
        if manifest.root not in row and num_sent < MANIFESTS_MAX:
            await self._put(_Kept(manifest, sender))

    async def keep_answer(self, answer: OwnAnswer) -> None:
        """Store the answer of our replay, durably."""
        await self._write([(ANSWERS, _name(answer.key), encode(answer))])
        self.answers[answer.key] = answer

    async def keep_proof(self, key: WindowKey, proof: bytes) -> None:
        """Store the proof that something stated to this node is false, durably."""
        await self._write([(PROOFS, _name(key), proof)])
        self.proofs[key] = proof

    async def keep_reveal(self, body: RevealSegment) -> None:
        """Store the reveal of a segment of our own, durably."""
        segment_id = (body.run, body.round, body.stage, body.seat)
        await self._write([(REVEALS, _packed(segment_id), encode(body))])
        self.reveals[segment_id] = body

    async def tidy(self, state: State) -> None:
        """Remove everything that can no longer be requested."""
        for key, row in list(self._kept.items()):
            for root, kept in list(row.items()):
                if not is_needed(state, seat_of(key), is_own=kept.sender == self._secret.peer):
                    await self._drop(key, root)
        stale = [key for key in self.answers if not is_needed(state, seat_of(key), is_own=False)]
        shown = [
            segment_id
            for segment_id in self.reveals
            if not is_needed(state, segment_id, is_own=True)
        ]
        proved = [key for key in self.proofs if not is_needed(state, seat_of(key), is_own=False)]
        changes: list[Change] = [(ANSWERS, _name(key), None) for key in stale]
        changes += [(PROOFS, _name(key), None) for key in proved]
        changes += [(REVEALS, _packed(segment_id), None) for segment_id in shown]
        if changes:
            await self._write(changes)
        for key in stale:
            self.answers.pop(key, None)
        for key in proved:
            self.proofs.pop(key, None)
        for segment_id in shown:
            self.reveals.pop(segment_id, None)

    async def _drop_abandoned(self, key: WindowKey) -> None:
        """Drop our logs that the window ``key`` replaces: a crash ended their segment before its commit."""
        for other, row in list(self._kept.items()):
            is_older = other == key or (key.window == 0 and seat_of(other) == seat_of(key))
            for root, kept in list(row.items()) if is_older else ():
                if kept.sender == self._secret.peer:
                    await self._drop(other, root)

    async def _put(self, kept: _Kept) -> None:
        key, root = kept.manifest.key, kept.manifest.root
        await self._write([(MANIFESTS, _name(key) + root, encode(kept))])
        self._note(kept)

    async def _drop(self, key: WindowKey, root: Digest) -> None:
        await self._blobs.remove(root)
        await self._write([(MANIFESTS, _name(key) + root, None)])
        self._own.pop(root, None)
        row = self._kept.get(key, {})
        row.pop(root, None)
        if not row:
            self._kept.pop(key, None)

    async def _write(self, changes: Sequence[Change]) -> None:
        try:
            await self._store.write_soon(changes)
        except DiskFull as error:
            raise BadConfig(str(error), hint=error.hint) from None

    def _note(self, kept: _Kept) -> None:
        key, root = kept.manifest.key, kept.manifest.root
        self._kept.setdefault(key, {})[root] = kept
        if kept.sender == self._secret.peer:
            self._own[root] = key

    def _load(self) -> None:
        try:
            for raw in _rows(self._store, MANIFESTS):
                kept = decode(_Kept, raw, limit=2 * MANIFEST_BYTES_MAX)
                self._note(kept)
            for raw in _rows(self._store, ANSWERS):
                answer = decode(OwnAnswer, raw, limit=ANSWER_BYTES_MAX)
                self.answers[answer.key] = answer
            for raw in _rows(self._store, PROOFS):
                self.proofs[statement_of(decode_proof(raw)).key] = raw
            for raw in _rows(self._store, REVEALS):
                body = decode(RevealSegment, raw, limit=REVEAL_BYTES_MAX)
                self.reveals[body.run, body.round, body.stage, body.seat] = body
        except BadEncoding as error:
            raise Corrupt(f"what this node keeps for checking is damaged: {error}") from None


class ShownBlobs:
    """Blobs that are shown to verifiers for a while: each is noted on the disk before it is there."""

    def __init__(self, store: Store, blobs: BlobsPort) -> None:
        self._store, self._blobs = store, blobs

    async def put(self, raw: bytes) -> Digest:
        """Serve some bytes as a blob and return its root; raises ``BadConfig`` if they do not fit."""
        root = await trio.to_thread.run_sync(root_of_bytes, raw)
        try:
            await self._store.write_soon([(SHOWN, root, b"shown")])
        except DiskFull as error:
            raise BadConfig(str(error), hint=error.hint) from None
        return await self._blobs.add(raw)

    async def drop(self, root: Digest) -> None:
        """Remove a blob, and what is noted of it."""
        await self._blobs.remove(root)
        with suppress(DiskFull):  # it is tried again after the next start
            await self._store.write_soon([(SHOWN, root, None)])

    async def clear(self) -> None:
        """Remove all that an earlier start has left."""
        while left := self._store.items(SHOWN, after=b"", limit=ITEMS_MAX):
            for root, _ in left:
                await self._blobs.remove(Digest(root))
            try:
                await self._store.write_soon([(SHOWN, root, None) for root, _ in left])
            except DiskFull:
                return


def _pack(data: WindowData) -> tuple[Bytes, WindowManifest, float]:
    """Return the bytes of a window, its unsigned manifest, and the processor seconds that took."""
    began = time.thread_time()
    raw = spilled_pieces(encode_window(data))
    manifest = manifest_of(data, root_of_bytes(raw), len(raw))
    return raw, manifest, time.thread_time() - began


def root_of_bytes(raw: Bytes) -> Digest:
    """Return the root of the blob of some bytes; those in spill files do not stay in memory."""
    if len(raw) <= TENSOR_CHUNK_BYTES:
        return tensor_hash("uint8", (len(raw),), raw)
    chunks = list[Digest]()
    for start in range(0, len(raw), SLICE_BYTES):
        chunks += chunk_digests(memoryview(raw)[start : start + SLICE_BYTES])
        let_go()
    return tensor_root("uint8", (len(raw),), len(raw), chunks)


def _rows(store: Store, table: str) -> Iterator[bytes]:
    after = b""
    while rows := store.items(table, after=after, limit=ITEMS_MAX):
        yield from (value for _, value in rows)
        after = rows[-1][0]


def _name(key: WindowKey) -> bytes:
    return _packed((*seat_of(key), key.window))


def _packed(numbers: Sequence[int]) -> bytes:
    return b"".join(number.to_bytes(8, "big") for number in numbers)
