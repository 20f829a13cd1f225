"""Name a tensor by its bytes: one hash for checkpoints, transcripts and downloads.

Core: pure functions.

Up to 1 MiB the hash covers dtype, shape and little-endian bytes directly; above that it covers the
Merkle root of the digests of 1 MiB chunks, so that a stranger can fetch and check one chunk at a time
and a dispute can open one chunk alone. Source: docs/spec/verification.md section 2.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from swarm.codec import encode
from swarm.crypto import fast_digest
from swarm.merkle import merkle_root
from swarm.types import Digest

if TYPE_CHECKING:  # the hallway is imported by commands that must not wait for torch
    from torch import Tensor

TENSOR_CHUNK_BYTES = 1 << 20
"""One download, one Merkle leaf: small enough to retry, large enough that hashing dominates calls."""


def tensor_hash(dtype: str, shape: Sequence[int], data: bytes | bytearray | memoryview) -> Digest:
    """Digest of a tensor: ``dtype`` as numpy spells it ("float32"), ``data`` little-endian, C order."""
    view = memoryview(data).cast("B")
    if len(view) <= TENSOR_CHUNK_BYTES:
        return fast_digest("tensor", encode((dtype, tuple(shape))), view)
    return tensor_root(dtype, shape, len(view), chunk_digests(view))


def hash_of(tensor: "Tensor") -> Digest:
    """``tensor_hash`` of a torch tensor on the CPU, of a dtype that numpy has, on a little-endian machine."""
    array = tensor.detach().contiguous().numpy()
    # An empty array has no bytes to look at, and Python refuses to cast a view of none.
    data = array.data if array.size else b""
    return tensor_hash(array.dtype.name, array.shape, data)


def chunk_digests(data: bytes | bytearray | memoryview) -> tuple[Digest, ...]:
    """The digests of the 1 MiB chunks of ``data``, in order; the last may be shorter."""
    view = memoryview(data).cast("B")
    starts = range(0, len(view), TENSOR_CHUNK_BYTES)
    return tuple(chunk_digest(view[start : start + TENSOR_CHUNK_BYTES]) for start in starts)


def chunk_digest(chunk: bytes | bytearray | memoryview) -> Digest:
    """The digest of one chunk of a tensor larger than 1 MiB."""
    return fast_digest("tensor-chunk", memoryview(chunk).cast("B"))


def tensor_root(
    dtype: str, shape: Sequence[int], num_bytes: int, chunks: Sequence[Digest]
) -> Digest:
    """``tensor_hash`` of a tensor larger than 1 MiB, from the digests of its chunks."""
    head = encode((dtype, tuple(shape), num_bytes))
    return fast_digest("tensor-tree", head, merkle_root(chunks))
