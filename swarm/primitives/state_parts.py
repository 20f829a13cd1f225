"""Name the ten parts of a seat's state, and hash those that are counters or zeros.

Core: pure functions.

A state is the Merkle root over the digests of its parts (docs/spec/protocol.md section 5). Tensors are hashed
by who has them; what a life begins with beside its weights is known to everybody.
"""

from collections.abc import Sequence
from functools import lru_cache

from swarm.primitives.codec import encode
from swarm.primitives.commitments import (
    TENSOR_CHUNK_BYTES,
    chunk_digest,
    tensor_hash,
    tensor_root,
)
from swarm.primitives.crypto import fast_digest
from swarm.types import Digest

COMPONENTS = 10
"""Parts of a state: params, adam_m, adam_v, step, phi, outer_m, residual, anchor_root, tokens (the total, and
at each fragment's last merge), snapshot (offered and not merged yet).
"""
PARAMS, FIRST, SECOND, STEPS, PHI, OUTER_M, RESIDUAL, ANCHOR, TOKENS, OFFERED = range(COMPONENTS)
COUNT_BYTES = 8
"""A count is an int64."""
FLOAT_BYTES = 4
ZEROS_CACHED = 64
"""Lengths whose zeros are remembered: a run has three for each stage."""


def number_component(value: int) -> Digest:
    """Return the hash of one counter as a part of the state."""
    return tensor_hash("int64", (), value.to_bytes(COUNT_BYTES, "little", signed=True))


def tokens_component(total: int, at_sync: Sequence[int]) -> Digest:
    """Return the hash of the total tokens and the total at each fragment's last merge."""
    counts = (total, *at_sync)
    data = b"".join(count.to_bytes(COUNT_BYTES, "little", signed=True) for count in counts)
    return tensor_hash("int64", (len(counts),), data)


def offered_component(
    offered: Sequence[tuple[int, int, bytes]], trades_over: Sequence[int] = ()
) -> Digest:
    """Return the hash of the offered fragments, (exchange, tokens, digest), and of the trades that are over.

    Between two segments no trade is over: the hash is that of a run with one trade a round.
    """
    parts = [encode(one) for one in offered]
    if any(trades_over):
        parts.append(encode(tuple(trades_over)))
    if not parts:
        return tensor_hash("float32", (0,), b"")
    return fast_digest("snapshots", *parts)


@lru_cache(maxsize=ZEROS_CACHED)
def zeros_component(count: int) -> Digest:
    """Return the hash of a float32 tensor of ``count`` zeros, of any length: its chunks are all alike."""
    num_bytes = count * FLOAT_BYTES
    if num_bytes <= TENSOR_CHUNK_BYTES:
        return tensor_hash("float32", (count,), bytes(num_bytes))
    whole, rest = divmod(num_bytes, TENSOR_CHUNK_BYTES)
    chunks = [chunk_digest(bytes(TENSOR_CHUNK_BYTES))] * whole
    if rest:
        chunks.append(chunk_digest(bytes(rest)))
    return tensor_root("float32", (count,), num_bytes, chunks)
