"""Judge what a solver shows: do these leaves lead to its commitment, and where do its windows begin?

Core: pure functions. Raises ``InvalidStatement``.

Steps are numbered from 0 in every segment, and window w begins with step w * window_steps; what happened before
the first step belongs to window 0. Source: docs/spec/verification.md section 2.
"""

from itertools import pairwise

from swarm.errors import InvalidStatement, Reason
from swarm.leaves import step_leaf_digest, trace_commit, trace_root, window_claim
from swarm.ledger.check_records import Window
from swarm.ledger.check_statements import Opening, RevealSegment
from swarm.ledger.records import (
    SegmentRecord,
)
from swarm.ledger.sampling import num_windows
from swarm.types import NO_DIGEST, Digest


def open_windows(
    record: SegmentRecord, window_steps: int, body: RevealSegment
) -> tuple[Window, ...]:
    """The windows of a segment whose leaves are shown; raise unless they are what was committed."""
    if trace_commit(trace_root(body.leaves), body.salt) != record.trace_commit:
        raise InvalidStatement(Reason.BAD_PROOF, "not the leaves and the salt of the commit")
    _check_openings(record, window_steps, body)
    roots = [record.start_root, *(o.state_root for o in body.openings[1:]), record.end_root]
    bounds = [0, *(opening.leaf for opening in body.openings[1:]), len(body.leaves)]
    return tuple(
        Window(start, end, last - first, window_claim(body.leaves[first:last], Digest(end)))
        for (first, last), (start, end) in zip(pairwise(bounds), pairwise(roots), strict=True)
    )


def _check_openings(record: SegmentRecord, window_steps: int, body: RevealSegment) -> None:
    wanted = num_windows(record.num_steps, window_steps)
    if len(body.leaves) < record.num_steps or len(body.openings) != wanted:
        raise InvalidStatement(
            Reason.BAD_PROOF, f"not {wanted} windows of {record.num_steps} steps"
        )
    steps = [opening.step for opening in body.openings]
    places = [opening.leaf for opening in body.openings]
    if steps != [w * window_steps for w in range(wanted)] or places != sorted(set(places)):
        raise InvalidStatement(Reason.BAD_PROOF, "windows begin at other steps")
    if places[-1] >= len(body.leaves) or not all(map(_has_state, body.openings)):
        raise InvalidStatement(Reason.BAD_PROOF, "a window without its state")
    for opening in body.openings:
        if _leaf_of(opening) != body.leaves[opening.leaf]:
            raise InvalidStatement(Reason.BAD_PROOF, f"step {opening.step} is not in its leaf")


def _has_state(opening: Opening) -> bool:
    return opening.state_root != NO_DIGEST


def _leaf_of(opening: Opening) -> Digest:
    return step_leaf_digest(opening.step, opening.dropped, opening.state_root, opening.leaves_root)
