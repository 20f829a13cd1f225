"""Store blobs in a folder: whole ones, partial ones, and their manifests.

Shell: disk only; every call blocks and belongs in a worker thread.

``<root>`` is a whole blob, ``<root>.part`` a partial one (its chunks are trusted only after hashing them
again), ``<root>.list`` the manifest of either. A file gets its final name only after it was fsynced. Partial
blobs that are not being fetched make room for new ones, the one untouched for longest first.
"""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from swarm.errors import BadConfig, PeerFault
from swarm.gossip.blobs.chunks import (
    BLOB_BYTES_MAX,
    BlobManifest,
    blob_root,
    check_blob_manifest,
    chunked_manifest,
    inline_manifest,
    verify_blob_chunk,
    verify_blob_chunks,
)
from swarm.gossip.trade.messages import REPLY_BYTES_MAX
from swarm.placement import let_go
from swarm.primitives.codec import decode, encode, replace
from swarm.primitives.commitments import TENSOR_CHUNK_BYTES, chunk_digest
from swarm.types import NO_DIGEST, Bytes, Digest

BLOBS = "blobs"
"""Name of the folder in the home of a node: text, checkpoints, what others check."""
_NAME = re.compile("[0-9a-f]{64}")
_INCOMING = "incoming.part"
"""Name of a local file while it is copied in, before its root is known."""
CHUNKS_RESIDENT = 16
"""Chunks of a mapped source that stay in memory while it is copied in: 16 MiB."""
_DRAFT = "draft"
"""Name of a list while it is written: a blob has a whole list, or none."""
_BLOCK_BYTES = 512
"""Bytes in a unit of ``st_blocks``, whatever the block size of the disk."""


@dataclass(frozen=True, slots=True)
class Partial:
    """Partial blob: its size, the bytes of it that may be on disk, and the time of the last change."""

    root: Digest
    num_bytes: int
    """Bytes of the whole blob; so much of the quota is reserved for it."""
    held_bytes: int
    """Bytes allocated on disk; none of them is trusted before it was hashed again."""
    touched_s: float
    """Seconds since 1970 at the last change."""


def partials(folder: Path) -> list[Partial]:
    """Return the partial blobs in a folder, the one untouched for longest first; nothing is changed."""
    found = list[Partial]()
    for path in folder.glob("*.part") if folder.is_dir() else ():
        if not _NAME.fullmatch(path.stem):
            continue
        try:
            status = path.lstat()
        except FileNotFoundError:  # the blob has just become whole
            continue
        held = min(status.st_blocks * _BLOCK_BYTES, status.st_size)
        root = Digest(bytes.fromhex(path.stem))
        found.append(Partial(root, status.st_size, held, status.st_mtime))
    return sorted(found, key=lambda partial: (partial.touched_s, partial.root))


class BlobStore:
    """Blob store in one folder with a quota. Calls that change it are made one at a time, reads at any time."""

    def __init__(self, folder: Path, *, quota_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._quota_bytes = quota_bytes
        self.in_use: set[Digest] = set()
        """Roots of the blobs being fetched now: never deleted to make room."""

    def path(self, root: Digest) -> Path:
        """Return the file of a whole blob."""
        return self._folder / root.hex()

    def has(self, root: Digest) -> bool:
        """Return True if the whole blob is here."""
        return self.path(root).is_file() and self._list(root).is_file()

    def roots(self) -> list[Digest]:
        """Return the roots of all whole blobs, sorted."""
        names = [path.stem for path in self._folder.glob("*.list") if _NAME.fullmatch(path.stem)]
        return [root for name in sorted(names) if self.has(root := Digest(bytes.fromhex(name)))]

    def remove(self, root: Digest) -> None:
        """Delete a blob, whole or partial."""
        for path in (self.path(root), self._part(root), self._list(root)):
            path.unlink(missing_ok=True)

    def give_up(self) -> int:
        """Delete all partial blobs that are not in use; return the number of bytes freed."""
        freed = self._bytes_used()
        (self._folder / _INCOMING).unlink(missing_ok=True)
        for partial in self._idle():
            self._drop(partial.root)
        return freed - self._bytes_used()

    def add_bytes(self, data: memoryview, dtype: str, shape: tuple[int, ...]) -> Digest:
        """Copy bytes in and return their root; raises ``BadConfig`` if they do not fit."""
        size = TENSOR_CHUNK_BYTES
        chunks = (bytes(data[start : start + size]) for start in range(0, len(data), size))
        return self._add(chunks, len(data), dtype, shape)

    def add_file(self, source: Path, dtype: str, shape: tuple[int, ...] | None) -> Digest:
        """Copy a file in and return its root; raises ``BadConfig`` if it does not fit or changes meanwhile."""
        num_bytes = source.stat().st_size
        with source.open("rb") as file:
            chunks = iter(lambda: file.read(TENSOR_CHUNK_BYTES), b"")
            return self._add(chunks, num_bytes, dtype, (num_bytes,) if shape is None else shape)

    def load(self, root: Digest) -> BlobManifest | None:
        """Return the manifest of a blob, whole or partial, with its inline data; None if there is none.

        A manifest or an inline blob that the disk has damaged is deleted, and counts as absent.
        """
        if not self._list(root).is_file():
            return None
        try:
            stored = decode(BlobManifest, self._list(root).read_bytes(), limit=REPLY_BYTES_MAX)
            is_inline = stored.num_bytes <= TENSOR_CHUNK_BYTES
            inline = self.path(root).read_bytes() if is_inline else b""
            manifest = replace(stored, inline=inline)
            check_blob_manifest(manifest, root, BLOB_BYTES_MAX)
        except FileNotFoundError:
            # Reads come at any time: it is being added, and what is there of it must stay.
            return None
        except PeerFault:
            self.remove(root)
            return None
        return manifest

    def read_chunks(
        self, root: Digest, manifest: BlobManifest, first: int, count: int, *, behind: int = 0
    ) -> bytearray | None:
        """Return chunks of a whole blob; None, and the blob is deleted, if the disk has damaged them.

        Before them is room for ``behind`` bytes.

        Chunks are hashed before they are sent: with a damaged disk this node would otherwise look like a
        cheating peer.
        """
        try:
            length = sum(map(manifest.chunk_length, range(first, first + count)))
            data = bytearray(behind + length)
            with self.path(root).open("rb", buffering=0) as file:
                file.seek(first * TENSOR_CHUNK_BYTES)
                have = behind
                while have < len(data) and (more := file.readinto(memoryview(data)[have:])):
                    have += more
            verify_blob_chunks(manifest, first, count, memoryview(data)[behind:have])
        except (PeerFault, FileNotFoundError):
            self.remove(root)
            return None
        return data

    def begin(self, root: Digest, manifest: BlobManifest) -> frozenset[int]:
        """Make room for a blob and return the chunks of it that are here already.

        An inline blob is complete at once. Raises ``BadConfig`` if it does not fit.
        """
        part = self._part(root)
        is_begun = part.is_file() and part.stat().st_size == manifest.num_bytes
        if manifest.num_chunks == 0:
            self._check_room(manifest.num_bytes, keep=root)
            part.write_bytes(manifest.inline)
        elif is_begun:
            os.utime(part)
        else:
            part.unlink(missing_ok=True)
            self._check_room(manifest.num_bytes, keep=root)
            with part.open("wb") as file:
                file.truncate(manifest.num_bytes)
        self._write_list(root, manifest)
        return self._held(root, manifest) if is_begun else frozenset()

    def write_chunks(self, root: Digest, first: int, data: Bytes) -> None:
        """Write verified chunks at the position of the first."""
        with self._part(root).open("r+b", buffering=0) as file:
            file.seek(first * TENSOR_CHUNK_BYTES)
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]

    def flush(self, root: Digest) -> None:
        """Bring what was written of a blob so far to the disk, so that there is less to do when it is whole."""
        _sync(self._part(root))

    def keep(self, root: Digest) -> None:
        """Make a blob whole, durably, once every chunk is here."""
        _sync(self._part(root))
        self._part(root).replace(self.path(root))
        _sync(self._folder)

    def _add(
        self, chunks: Iterator[bytes], num_bytes: int, dtype: str, shape: tuple[int, ...]
    ) -> Digest:
        incoming = self._folder / _INCOMING
        incoming.unlink(missing_ok=True)  # left by a process that was killed
        self._check_room(num_bytes)
        digests, last, left = list[Digest](), b"", num_bytes
        with incoming.open("wb") as file:
            for last in chunks:
                left -= len(last)
                if left < 0:
                    break
                file.write(last)
                digests.append(chunk_digest(last))
                if len(digests) % CHUNKS_RESIDENT == 0:
                    let_go()  # what is added may be mapped
        if left:
            incoming.unlink()
            raise BadConfig(
                "a file changed while it was copied", hint="wait until no program writes it"
            )
        if num_bytes <= TENSOR_CHUNK_BYTES:
            manifest = inline_manifest(last, dtype=dtype, shape=shape)
        else:
            manifest = chunked_manifest(num_bytes, digests, dtype=dtype, shape=shape)
        root = blob_root(manifest)
        self._write_list(root, manifest)
        incoming.replace(self._part(root))
        self.keep(root)
        return root

    def _held(self, root: Digest, manifest: BlobManifest) -> frozenset[int]:
        held = set[int]()
        with self._part(root).open("rb") as file:
            for index in range(manifest.num_chunks):
                try:
                    verify_blob_chunk(manifest, index, file.read(manifest.chunk_length(index)))
                except PeerFault:
                    continue
                held.add(index)
        return frozenset(held)

    def _check_room(self, num_bytes: int, keep: Digest = NO_DIGEST) -> None:
        """Raise ``BadConfig`` unless so much fits; delete idle partial blobs other than ``keep`` for it."""
        over = self._bytes_used() + num_bytes - self._quota_bytes
        idle = [partial for partial in self._idle() if partial.root != keep]
        if 0 < over <= sum(partial.num_bytes for partial in idle):
            for partial in idle:
                if over <= 0:
                    break
                self._drop(partial.root)
                over -= partial.num_bytes
        if over > 0:
            used = self._bytes_used()
            raise BadConfig(
                f"{num_bytes >> 20} MiB more do not fit: {used >> 20} of {self._quota_bytes >> 20} MiB"
                f" of {self._folder} are used",
                hint="raise disk_quota_mb in node.toml",
            )

    def _idle(self) -> list[Partial]:
        return [found for found in partials(self._folder) if found.root not in self.in_use]

    def _drop(self, root: Digest) -> None:
        """Delete a partial blob, but not a whole blob of the same root."""
        self._part(root).unlink(missing_ok=True)
        if not self.path(root).is_file():
            self._list(root).unlink(missing_ok=True)

    def _bytes_used(self) -> int:
        used = 0
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError):  # a blob has just become whole
                used += path.lstat().st_size
        return used

    def _write_list(self, root: Digest, manifest: BlobManifest) -> None:
        draft = self._folder / _DRAFT
        draft.write_bytes(encode(replace(manifest, inline=b"")))
        _sync(draft)
        draft.replace(self._list(root))  # never half a list, which a reader would take for damage

    def _part(self, root: Digest) -> Path:
        return self._folder / f"{root.hex()}.part"

    def _list(self, root: Digest) -> Path:
        return self._folder / f"{root.hex()}.list"


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
