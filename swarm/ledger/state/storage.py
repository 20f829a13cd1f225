"""Define the entry of a checkpoint's storage: who was drawn to hold it, who says so, and who has shown it.

Core: frozen structs and their key.

One entry for each checkpoint that a run lists, beside the checkpoint itself: a proof of that stays as short as
it is. It goes with its checkpoint, so there are never more of them.
"""

from swarm.primitives.codec import Message
from swarm.types import NO_DIGEST, Digest, Height, PeerId


class Holder(Message, frozen=True):
    """A peer that was drawn to hold a checkpoint."""

    peer: PeerId
    drawn: Height
    """Height of the block whose beacon drew it."""
    receipt: Height
    """Height at which it said that it holds the checkpoint; 0 before."""
    proven: Height
    """Height of its last proof; 0 before the first."""


class Storage(Message, frozen=True):
    """Storage of one checkpoint by peers of other stages."""

    holders: tuple[Holder, ...]
    passed: tuple[PeerId, ...]
    """Peers that were drawn and gave no receipt, or no proof, newest last: others are drawn before them."""
    asked: Height
    """Height of the block whose beacon last drew leaves; 0 before."""
    seed: Digest
    """That beacon."""
    due: Height
    """Height at which it is looked at next; 0 if never, which is once its run is settled."""
    unheld: Height
    """Height since which nobody that was drawn holds it; 0 if somebody does, or has time left to."""


NO_STORAGE = Storage(
    holders=(), passed=(), asked=Height(0), seed=NO_DIGEST, due=Height(0), unheld=Height(0)
)
"""Storage of a checkpoint for which nobody was drawn yet."""


def storage_key(run: int, stage: int, round_: int) -> bytes:
    """Return the key of the storage of a checkpoint, while the run lists that."""
    return b"m" + b"".join(part.to_bytes(8, "big") for part in (run, stage, round_))


def receipts(storage: Storage) -> tuple[Holder, ...]:
    """Return the holders whose receipts stand."""
    return tuple(holder for holder in storage.holders if holder.receipt)


def is_asked(storage: Storage, holder: Holder) -> bool:
    """Return True if a holder has yet to show the leaves that were drawn for it last."""
    return 0 < holder.receipt < storage.asked > holder.proven
