"""Split bytes into numbered, hashed chunks, and verify them.

Core: pure functions.

There are two kinds of manifest. A ``Manifest`` lists the chunks of one trade payload; its root is in the signed
offer. A ``BlobManifest`` lists the 1 MiB chunks of a tensor or file whose root is
``swarm.primitives.commitments.tensor_hash``, the name that the ledger and the run spec use for it. A blob of at
most one chunk travels inside its manifest, because no proof of it is shorter than the blob itself.
"""

from collections.abc import Sequence

from swarm.errors import BrokenPromise
from swarm.primitives.codec import Message, encode
from swarm.primitives.commitments import (
    TENSOR_CHUNK_BYTES,
    chunk_digest,
    chunk_digests,
    tensor_hash,
    tensor_root,
)
from swarm.primitives.crypto import fast_digest
from swarm.types import Bytes, Digest

HASH_BYTES = 32
BLOB_BYTES_MAX = 16 << 30
"""Bytes of the largest blob: its manifest is then 512 KiB and fits one reply."""
DTYPE_CHARS_MAX = 16
SHAPE_LENGTH_MAX = 8


class Manifest(Message, frozen=True):
    """Chunk list of one payload; all chunks have ``chunk_bytes`` bytes but the last, which has the rest."""

    num_bytes: int
    chunk_bytes: int
    hashes: bytes
    """Hashes of the chunks, 32 bytes each."""

    @property
    def root(self) -> Digest:
        """Hash that the signed offer names."""
        return fast_digest("manifest", encode((self.num_bytes, self.chunk_bytes)), self.hashes)

    @property
    def num_chunks(self) -> int:
        """Number of chunks."""
        return -(-self.num_bytes // self.chunk_bytes)


def manifest(data: Bytes, chunk_bytes: int) -> Manifest:
    """Return the chunk list of ``data``."""
    view = memoryview(data)
    starts = range(0, len(view), chunk_bytes)
    hashes = b"".join(_chunk_hash(view[start : start + chunk_bytes]) for start in starts)
    return Manifest(len(view), chunk_bytes, hashes)


def check_manifest(claimed: Manifest, root: Digest) -> None:
    """Raise ``BrokenPromise`` unless a manifest is well formed and has the root ``root``."""
    if claimed.num_bytes < 0 or claimed.chunk_bytes < 1:
        raise BrokenPromise("a manifest of nothing")
    if len(claimed.hashes) != HASH_BYTES * claimed.num_chunks or claimed.root != root:
        raise BrokenPromise("a manifest that is not the one promised")


def verify_chunk(listed: Manifest, index: int, chunk: Bytes) -> None:
    """Raise ``BrokenPromise`` unless ``chunk`` is number ``index`` of a checked manifest."""
    start = index * listed.chunk_bytes
    expected = min(listed.chunk_bytes, listed.num_bytes - start)
    span = slice(HASH_BYTES * index, HASH_BYTES * (index + 1))
    if len(chunk) != expected or _chunk_hash(chunk) != listed.hashes[span]:
        raise BrokenPromise(f"chunk {index} is not the one promised")


class BlobManifest(Message, frozen=True):
    """Type, shape, size and chunk hashes of a blob."""

    dtype: str
    shape: tuple[int, ...]
    num_bytes: int
    hashes: bytes
    """Hashes of the 1 MiB chunks, 32 bytes each; empty if the blob is inline."""
    inline: bytes
    """Bytes of the blob if it has at most 1 MiB, else empty."""

    @property
    def num_chunks(self) -> int:
        """Number of chunks to fetch; 0 if the blob is inline."""
        return len(self.hashes) // HASH_BYTES

    def chunk_length(self, index: int) -> int:
        """Return the number of bytes in chunk ``index``."""
        return min(TENSOR_CHUNK_BYTES, self.num_bytes - index * TENSOR_CHUNK_BYTES)


def inline_manifest(data: bytes, *, dtype: str, shape: Sequence[int]) -> BlobManifest:
    """Return the manifest of a blob of at most 1 MiB."""
    return BlobManifest(dtype, tuple(shape), len(data), b"", data)


def chunked_manifest(
    num_bytes: int, digests: Sequence[Digest], *, dtype: str, shape: Sequence[int]
) -> BlobManifest:
    """Return the manifest of a larger blob from the digests of its 1 MiB chunks."""
    return BlobManifest(dtype, tuple(shape), num_bytes, b"".join(digests), b"")


def blob_manifest(data: Bytes, *, dtype: str, shape: Sequence[int]) -> BlobManifest:
    """Return the manifest of bytes in memory."""
    if len(data) <= TENSOR_CHUNK_BYTES:
        return inline_manifest(bytes(data), dtype=dtype, shape=shape)
    return chunked_manifest(len(data), chunk_digests(data), dtype=dtype, shape=shape)


def blob_root(blob: BlobManifest) -> Digest:
    """Return the name of a blob: ``tensor_hash`` of its bytes."""
    if blob.num_bytes <= TENSOR_CHUNK_BYTES:
        return tensor_hash(blob.dtype, blob.shape, blob.inline)
    step = range(0, len(blob.hashes), HASH_BYTES)
    digests = [Digest(blob.hashes[i : i + HASH_BYTES]) for i in step]
    return tensor_root(blob.dtype, blob.shape, blob.num_bytes, digests)


def check_blob_manifest(blob: BlobManifest, root: Digest, num_bytes_max: int) -> None:
    """Raise ``BrokenPromise`` unless a manifest is well formed, small enough and has the root ``root``."""
    if not 0 <= blob.num_bytes <= min(num_bytes_max, BLOB_BYTES_MAX):
        raise BrokenPromise(f"a blob of {blob.num_bytes} bytes where {num_bytes_max} are allowed")
    if len(blob.dtype) > DTYPE_CHARS_MAX or len(blob.shape) > SHAPE_LENGTH_MAX:
        raise BrokenPromise("a blob of an absurd type")
    is_inline = blob.num_bytes <= TENSOR_CHUNK_BYTES
    chunks = 0 if is_inline else -(-blob.num_bytes // TENSOR_CHUNK_BYTES)
    if len(blob.hashes) != HASH_BYTES * chunks:
        raise BrokenPromise("a manifest with the wrong number of chunks")
    if len(blob.inline) != (blob.num_bytes if is_inline else 0) or blob_root(blob) != root:
        raise BrokenPromise("a manifest that is not the one asked for")


def verify_blob_chunks(blob: BlobManifest, first: int, count: int, data: Bytes) -> None:
    """Raise ``BrokenPromise`` unless ``data`` is ``count`` chunks of a checked manifest from ``first`` on."""
    view = memoryview(data)
    for index in range(first, first + count):
        length = blob.chunk_length(index)
        verify_blob_chunk(blob, index, view[:length])
        view = view[length:]
    if view:
        raise BrokenPromise(f"more than {count} chunks of a blob")


def verify_blob_chunk(blob: BlobManifest, index: int, chunk: Bytes) -> None:
    """Raise ``BrokenPromise`` unless ``chunk`` is number ``index`` of a checked manifest."""
    span = slice(HASH_BYTES * index, HASH_BYTES * (index + 1))
    if len(chunk) != blob.chunk_length(index) or chunk_digest(chunk) != blob.hashes[span]:
        raise BrokenPromise(f"chunk {index} of a blob is not the one promised")


def _chunk_hash(chunk: Bytes) -> Digest:
    return fast_digest("chunk", memoryview(chunk).cast("B"))
