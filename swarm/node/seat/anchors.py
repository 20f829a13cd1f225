"""Choose the anchor of a segment so that its checkers will find it on the ledger.

Core: pure functions of what the ledger lists.
"""

from collections.abc import Sequence

from swarm.ledger.state.records import Checkpoint
from swarm.types import Digest

LATE_MAX = 1
"""Checkpoints by which a seat may be late: so many before the canonical one are listed as long as it can be
asked for (``spec_check.checkpoints_kept``)."""


def lasting(checkpoints: Sequence[Checkpoint], height: int) -> list[Checkpoint]:
    """Return the anchors for a segment that opens at the boundary at ``height``, the canonical one first.

    ``checkpoints`` are those of its stage as the ledger lists them, newest first. A checkpoint that became
    final after the boundary is listed longer still, and comes last: not every seat had it when the segment
    opened.
    """
    settled = [kept for kept in checkpoints if kept.height <= height]
    later = [kept for kept in checkpoints if kept.height > height]
    return [*settled[: 1 + LATE_MAX], *later]


def is_lasting(
    checkpoints: Sequence[Checkpoint], height: int, anchor_root: Digest, initial_root: Digest
) -> bool:
    """Return True if ``anchor_root`` is available until all replays of a segment opened at ``height`` are done.

    The initial weights are: every node can compute them.
    """
    roots = {kept.phi_root for kept in lasting(checkpoints, height)}
    return anchor_root == initial_root or anchor_root in roots
