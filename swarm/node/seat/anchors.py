"""Which anchor a segment may stand on, so that whoever replays it finds it on the ledger.

Core: pure functions of what the ledger lists.
"""

from collections.abc import Sequence

from swarm.ledger.state.records import Checkpoint
from swarm.types import Digest

LATE_MAX = 1
"""A seat may be late by one checkpoint: so many before the canonical one are listed as long as it can be asked
for (``spec_check.checkpoints_kept``)."""


def lasting(checkpoints: Sequence[Checkpoint], height: int) -> list[Checkpoint]:
    """What a segment that opens at the boundary at ``height`` may stand on, the canonical one first.

    ``checkpoints`` are those of its stage as the ledger lists them, newest first. What became final after the
    boundary is listed longer still, and comes last: not everybody had it when the segment opened.
    """
    settled = [kept for kept in checkpoints if kept.height <= height]
    later = [kept for kept in checkpoints if kept.height > height]
    return [*settled[: 1 + LATE_MAX], *later]


def is_lasting(
    checkpoints: Sequence[Checkpoint], height: int, anchor_root: Digest, initial_root: Digest
) -> bool:
    """Whether ``anchor_root`` is found until the last judge has replayed a segment that opens at ``height``.

    The initial weights are: everybody can compute them.
    """
    roots = {kept.phi_root for kept in lasting(checkpoints, height)}
    return anchor_root == initial_root or anchor_root in roots
