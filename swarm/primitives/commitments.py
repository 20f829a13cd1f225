"""Hash the commitments of solvers and verifiers (trace leaves and roots, window claims), and tensors.

Core: pure functions. Package verify makes these hashes from transcripts, the ledger checks them.

    step leaf     = H(step, dropped | state root or none | root of its micro-batch leaves | piece of gradient)
    window claim  = H(M(leaves of the window) | state roots at its start and its end | tokens trained in it)
    trace root    = M(claims of all windows)
    trace commit  = H(trace root | salt)
    verify commit = H(window claim | salt | verifier)

H is BLAKE3 under a purpose, M a Merkle root over BLAKE3; M of nothing is ``NO_DIGEST``. The leaves are those of
steps and merges, in the order in which they happened. The verifier's name is in its commitment, so copying
another's is worth nothing.

A tensor has one digest for checkpoints, transcripts and downloads. Up to 1 MiB it covers dtype, shape and
little-endian bytes directly; above that it covers the Merkle root of the digests of 1 MiB chunks, so that a
stranger can fetch and check one chunk at a time and a dispute can open one chunk alone.

Source: docs/spec/protocol.md section 6, docs/spec/verification.md section 2.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from swarm.errors import UsageError
from swarm.primitives.codec import Message, encode
from swarm.primitives.crypto import fast_digest
from swarm.primitives.merkle import merkle_root
from swarm.types import NO_DIGEST, Digest, PeerId

SALT_BYTES = 16
"""Bytes of the salts of solvers and verifiers: too many for finding a claim from a commitment by trying."""


def step_leaf_digest(
    step: int,
    dropped: Sequence[tuple[int, int, int]],
    state_root: Digest,
    microbatches: Digest,
    gradient: Digest,
) -> Digest:
    """Return the leaf of one optimizer step.

    ``dropped`` is sorted; ``state_root`` is ``NO_DIGEST`` where none was taken; ``microbatches`` is the root of
    the step's micro-batch leaves; ``gradient`` is the hash of a piece of the mean gradient, which is in no log
    and no message: only who computes the step has it.
    """
    head = encode((step, tuple(dropped)))
    return fast_digest("step-leaf", head, state_root, microbatches, gradient)


def leaves_root(leaves: Sequence[bytes]) -> Digest:
    """Return the Merkle root over hashes; ``NO_DIGEST`` if there are none."""
    return merkle_root(leaves) if leaves else NO_DIGEST


class WindowResult(Message, frozen=True):
    """Result of one window, as its solver shows it and a replay of its log gives it."""

    leaves_root: Digest
    """Root of the leaves of its steps and merges."""
    start_root: Digest
    """Root of the state before its first step, and before the merges that come before the segment's first."""
    end_root: Digest
    tokens: int
    """Tokens trained in it."""

    @property
    def claim(self) -> Digest:
        """The result as one hash, equal for peers that agree on it."""
        return fast_digest("window-claim", encode(self))


REFUSED = WindowResult(NO_DIGEST, NO_DIGEST, NO_DIGEST, 0)
"""Result of a log that no honest seat could have written: no window has it, for no state hashes to that."""


def trace_root(claims: Sequence[Digest]) -> Digest:
    """Return the root over the claims of a segment's windows, in their order."""
    return leaves_root(claims)


def trace_commit(trace: Digest, salt: bytes) -> Digest:
    """Return the solver's commitment, put on the ledger before the trace root may be seen."""
    return fast_digest("trace-commit", trace, _checked(salt))


def verify_commit(claim: Digest, salt: bytes, verifier: PeerId) -> Digest:
    """Return the verifier's commitment, put on the ledger before it can see the solver's claims."""
    return fast_digest("verify-commit", claim, _checked(salt), verifier)


def spot_answer(claim: Digest, said: Digest, *, is_false: bool) -> Digest:
    """Return the answer of a verifier that looked at elements: what it says of which statement of a window."""
    return fast_digest("spot-answer", claim, said, b"false" if is_false else b"right")


def _checked(salt: bytes) -> bytes:
    if len(salt) != SALT_BYTES:
        raise UsageError(f"a salt has {SALT_BYTES} bytes, not {len(salt)}")
    return salt


if TYPE_CHECKING:  # this module is imported by commands that must not wait for torch
    from torch import Tensor

TENSOR_CHUNK_BYTES = 1 << 20
"""Bytes of one download and one Merkle leaf: small enough to retry, large enough that hashing dominates
calls."""


def tensor_hash(dtype: str, shape: Sequence[int], data: bytes | bytearray | memoryview) -> Digest:
    """Return the digest of a tensor.

    ``dtype`` is numpy's name, such as float32; ``data`` is little-endian, in C order.
    """
    view = memoryview(data).cast("B")
    if len(view) <= TENSOR_CHUNK_BYTES:
        return fast_digest("tensor", encode((dtype, tuple(shape))), view)
    return tensor_root(dtype, shape, len(view), chunk_digests(view))


def hash_of(tensor: "Tensor") -> Digest:
    """Return ``tensor_hash`` of a CPU tensor of a dtype that numpy has, on a little-endian machine."""
    array = tensor.detach().contiguous().numpy()
    # Python refuses to cast a view of an empty array.
    data = array.data if array.size else b""
    return tensor_hash(array.dtype.name, array.shape, data)


def chunk_digests(data: bytes | bytearray | memoryview) -> tuple[Digest, ...]:
    """Return the digests of the 1 MiB chunks of ``data``, in order; the last may be shorter."""
    view = memoryview(data).cast("B")
    starts = range(0, len(view), TENSOR_CHUNK_BYTES)
    return tuple(chunk_digest(view[start : start + TENSOR_CHUNK_BYTES]) for start in starts)


def chunk_digest(chunk: bytes | bytearray | memoryview) -> Digest:
    """Return the digest of one chunk of a tensor larger than 1 MiB."""
    return fast_digest("tensor-chunk", memoryview(chunk).cast("B"))


def tensor_root(
    dtype: str, shape: Sequence[int], num_bytes: int, chunks: Sequence[Digest]
) -> Digest:
    """Return ``tensor_hash`` of a tensor larger than 1 MiB, from the digests of its chunks."""
    head = encode((dtype, tuple(shape), num_bytes))
    return fast_digest("tensor-tree", head, merkle_root(chunks))
