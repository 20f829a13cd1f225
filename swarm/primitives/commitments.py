"""Hash what a solver hides until it is checked, and what its verifiers answer blind.

Core: pure functions. The verify room makes these hashes from transcripts, the ledger judges them.

    step leaf     = H(step, dropped | state root or none | root of its micro-batch leaves)
    trace root    = M(step and merge leaves, in the order in which they happened)
    trace commit  = H(trace root | salt)
    window claim  = H(leaves of the window | state root at its end)
    verify commit = H(leaves of the window | state root at its end | salt | verifier)

H is BLAKE3 under a purpose, M a Merkle root over BLAKE3; M of nothing is ``NO_DIGEST``. The verifier's name is
in its commitment, so copying another's is worth nothing. Source: docs/spec/protocol.md section 6.

Name a tensor by its bytes: one hash for checkpoints, transcripts and downloads.

pure functions.

Up to 1 MiB the hash covers dtype, shape and little-endian bytes directly; above that it covers the
Merkle root of the digests of 1 MiB chunks, so that a stranger can fetch and check one chunk at a time
and a dispute can open one chunk alone. Source: docs/spec/verification.md section 2.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from swarm.errors import UsageError
from swarm.primitives.codec import encode
from swarm.primitives.crypto import fast_digest
from swarm.primitives.merkle import merkle_root
from swarm.types import NO_DIGEST, Digest, PeerId

SALT_BYTES = 32
"""Of solvers and verifiers alike: nobody finds leaves from a commitment by trying."""


def step_leaf_digest(
    step: int, dropped: Sequence[tuple[int, int, int]], state_root: Digest, microbatches: Digest
) -> Digest:
    """One optimizer step: ``dropped`` is sorted, ``state_root`` is ``NO_DIGEST`` where none was taken."""
    return fast_digest("step-leaf", encode((step, tuple(dropped))), state_root, microbatches)


def leaves_root(leaves: Sequence[bytes]) -> Digest:
    """Root over hashes; ``NO_DIGEST`` if there are none."""
    return merkle_root(leaves) if leaves else NO_DIGEST


def trace_root(leaves: Sequence[bytes]) -> Digest:
    """Root of the chain of step and merge leaves."""
    return leaves_root(leaves)


def trace_commit(trace: Digest, salt: bytes) -> Digest:
    """What goes on the ledger before anybody may see the trace root."""
    return fast_digest("trace-commit", trace, _checked(salt))


def window_claim(leaves: Sequence[bytes], end_root: Digest) -> Digest:
    """What somebody says about a window, as one hash: equal for those who agree."""
    return fast_digest("window-claim", encode(tuple(leaves)), end_root)


def verify_commit(
    leaves: Sequence[bytes], end_root: Digest, salt: bytes, verifier: PeerId
) -> Digest:
    """What a verifier puts on the ledger before it can see the solver's leaves."""
    return fast_digest("verify-commit", encode(tuple(leaves)), end_root, _checked(salt), verifier)


def _checked(salt: bytes) -> bytes:
    if len(salt) != SALT_BYTES:
        raise UsageError(f"a salt has {SALT_BYTES} bytes, not {len(salt)}")
    return salt


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
