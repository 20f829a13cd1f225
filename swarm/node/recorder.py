"""Turn what a seat wrote down into what the ledger is told.

Core: pure functions.
"""

from collections.abc import Sequence

from swarm.ledger.transactions import CommitSegment
from swarm.training.segment import SegmentLog
from swarm.types import Digest, RunIndex
from swarm.verify.transcript import segment_roots, state_root


def commit_of(log: SegmentLog, run: RunIndex, incarnation: int, salt: bytes) -> CommitSegment:
    """The commit of a closed segment (docs/spec/protocol.md section 5)."""
    roots = segment_roots(log, salt)
    return CommitSegment(
        run=run,
        round=log.round,
        stage=log.stage,
        seat=log.seat,
        incarnation=incarnation,
        start_root=roots.start_root,
        end_root=roots.end_root,
        trace_commit=roots.trace_commit,
        inbox_root=roots.inbox_root,
        outbox_root=roots.outbox_root,
        gossip_root=roots.gossip_root,
        num_steps=roots.num_steps,
        tokens=roots.tokens,
    )


def state_root_of(components: Sequence[Digest]) -> Digest:
    """The root of a state, to compare with what was committed."""
    return state_root(components)
