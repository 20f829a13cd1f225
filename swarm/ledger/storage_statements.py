"""Define the statements of those who hold checkpoints of other stages: a receipt, and a proof of drawn leaves.

Core: frozen structs and pure checks of the fields that need no state.

Both are free: a holder is drawn, says once that it holds a checkpoint, and shows what an epoch asks for once.

Source: docs/spec/verification.md section 5.
"""

from swarm.errors import BadEncoding
from swarm.primitives.blake3_tree import LEAF_BYTES
from swarm.primitives.codec import Message
from swarm.primitives.openings import Opening
from swarm.types import Height, PeerId, RoundIndex, RunIndex, StageIndex

LEAVES_DRAWN = 16
"""Leaves that an epoch draws for a receipt: who lacks a fifth of the bytes is missed in 2.8% of the epochs."""

STORAGE_PROOF_BYTES_MAX = 60 << 10
"""Bytes of an encoded proof: 16 leaves, and paths in weights of 1 TiB, are 35 KiB."""

PATH_MAX = 64
"""Hashes beside one leaf: 11 within a part of 1 MiB, 20 more in weights of 1 TiB."""


class StoreReceipt(Message, frozen=True, tag=46):
    """Statement of a drawn holder: it has the weights of a checkpoint, and serves them."""

    run: RunIndex
    round: RoundIndex
    """Round of the checkpoint."""
    stage: StageIndex
    holder: PeerId
    """Peer that signs."""


class StorageProof(Message, frozen=True, tag=47):
    """The leaves of a checkpoint that an epoch draws for a receipt, with their paths under its root."""

    run: RunIndex
    round: RoundIndex
    stage: StageIndex
    holder: PeerId
    asked: Height
    """Height of the block whose beacon drew the leaves."""
    leaves: tuple[Opening, ...]
    """Each drawn leaf once, by its place."""


StorageStatement = StoreReceipt | StorageProof
"""Statements that a drawn holder signs."""


def check_storage_shape(body: StorageStatement) -> None:
    """Raise ``BadEncoding`` if the leaves of a proof are out of bounds; a receipt has none."""
    if isinstance(body, StoreReceipt):
        return
    if not 1 <= len(body.leaves) <= LEAVES_DRAWN:
        raise BadEncoding(f"{len(body.leaves)} leaves")
    for leaf in body.leaves:
        if not 1 <= len(leaf.data) <= LEAF_BYTES:
            raise BadEncoding(f"a leaf of {len(leaf.data)} bytes")
        if len(leaf.path) > PATH_MAX or any(len(one) != 32 for one in leaf.path):
            raise BadEncoding(f"a path of {len(leaf.path)} hashes, or of none of 32 bytes")
