"""Merkle roots and proofs over lists.

Core: pure functions.

A leaf is hashed with tag 0x00, an inner node with 0x01; the list is padded to a power of two with the
hash of tag 0x02, so a list and its padded twin have different roots only through the count, which is
hashed into the root. Source: RFC 6962 section 2.1 for the tags; the padding is ours.
"""

import hashlib
from collections.abc import Callable, Sequence

from blake3 import blake3

from swarm.errors import BrokenPromise
from swarm.types import Digest

Hash = Callable[[bytes], bytes]
PROOF_DEPTH_MAX = 40


def sha256_hash(data: bytes) -> bytes:
    """SHA-256, for the ledger."""
    return hashlib.sha256(data).digest()


def blake3_hash(data: bytes) -> bytes:
    """BLAKE3, for tensors, chunks and transcripts."""
    return blake3(data).digest()


def merkle_root(leaves: Sequence[bytes], hash_: Hash = blake3_hash) -> Digest:
    """Root of a list of byte strings; the empty list has a root too."""
    layer = _padded(leaves, hash_)
    while len(layer) > 1:
        layer = _above(layer, hash_)
    return _seal(layer[0], len(leaves), hash_)


def merkle_proof(
    leaves: Sequence[bytes], index: int, hash_: Hash = blake3_hash
) -> tuple[bytes, ...]:
    """The sibling hashes from leaf ``index`` up to the root."""
    layer, proof = _padded(leaves, hash_), list[bytes]()
    while len(layer) > 1:
        proof.append(layer[index ^ 1])
        layer, index = _above(layer, hash_), index >> 1
    return tuple(proof)


def verify_proof(
    root: Digest,
    leaf: bytes,
    index: int,
    count: int,
    proof: Sequence[bytes],
    hash_: Hash = blake3_hash,
) -> None:
    """Raise ``BrokenPromise`` unless ``leaf`` is number ``index`` of the ``count`` under ``root``."""
    depth = max(count - 1, 0).bit_length()
    if not 0 <= index < count or len(proof) != depth or depth > PROOF_DEPTH_MAX:
        raise BrokenPromise("a Merkle proof of the wrong shape")
    node = hash_(b"\x00" + leaf)
    for sibling in proof:
        node = hash_(b"\x01" + (sibling + node if index & 1 else node + sibling))
        index >>= 1
    if _seal(node, count, hash_) != root:
        raise BrokenPromise("a Merkle proof that does not lead to its root")


def _padded(leaves: Sequence[bytes], hash_: Hash) -> list[bytes]:
    width = 1 << max(len(leaves) - 1, 0).bit_length()
    padding = hash_(b"\x02")
    return [hash_(b"\x00" + leaf) for leaf in leaves] + [padding] * (width - len(leaves))


def _above(layer: list[bytes], hash_: Hash) -> list[bytes]:
    return [hash_(b"\x01" + layer[i] + layer[i + 1]) for i in range(0, len(layer), 2)]


def _seal(top: bytes, count: int, hash_: Hash) -> Digest:
    return Digest(hash_(b"\x03" + count.to_bytes(8, "big") + top))
