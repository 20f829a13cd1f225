"""Judge what a solver shows: its leaves, where its windows begin, and the tokens it is paid for.

Core: pure functions. Raises ``InvalidStatement``.

Steps are numbered from 0 in every segment, and window w begins with step w * window_steps; what happened before
the first step belongs to window 0. The tokens are part of the state: the totals under the start root and the
end root differ by what the commit claims. Source: docs/spec/verification.md section 2.
"""

from collections.abc import Sequence
from itertools import pairwise

from swarm.errors import BrokenPromise, InvalidStatement, Reason
from swarm.leaves import step_leaf_digest, trace_commit, trace_root, window_claim
from swarm.ledger.check_records import Window
from swarm.ledger.check_statements import Opening, RevealSegment, TokensOpening
from swarm.ledger.fields import STATE_COMPONENTS, TOKENS_COMPONENT
from swarm.ledger.records import (
    SegmentRecord,
)
from swarm.ledger.sampling import num_windows
from swarm.merkle import blake3_hash, verify_proof
from swarm.tensors import tensor_hash
from swarm.types import NO_DIGEST, Digest

COUNT_BYTES = 8
"""A count is an int64."""


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


def tokens_component(counts: Sequence[int]) -> Digest:
    """Component 8 of a state: the total, then the total at each fragment's last merge, as int64."""
    data = b"".join(count.to_bytes(COUNT_BYTES, "little", signed=True) for count in counts)
    return tensor_hash("int64", (len(counts),), data)


def check_tokens(record: SegmentRecord, fragments: int, body: RevealSegment) -> None:
    """Raise unless the totals are those of the segment's states, and differ by what it claimed."""
    start, end = body.tokens
    _check_total(start, record.start_root, fragments)
    _check_total(end, record.end_root, fragments)
    trained = end.counts[0] - start.counts[0]
    if trained != record.tokens:
        said = f"the state counts {trained} tokens where the commit says {record.tokens}"
        raise InvalidStatement(Reason.BAD_PROOF, said)


def _check_total(opening: TokensOpening, root: Digest, fragments: int) -> None:
    if len(opening.counts) != 1 + fragments:
        raise InvalidStatement(Reason.BAD_PROOF, f"not a total and {fragments} fragments")
    leaf, place = tokens_component(opening.counts), (TOKENS_COMPONENT, STATE_COMPONENTS)
    try:
        verify_proof(root, leaf, *place, opening.proof, blake3_hash)
    except BrokenPromise as error:
        raise InvalidStatement(Reason.BAD_PROOF, f"not the tokens of its state: {error}") from None


def _check_openings(record: SegmentRecord, window_steps: int, body: RevealSegment) -> None:
    if not record.num_steps:  # Of consensus: one window, from the start root to the end root.
        if body.openings or not body.leaves:
            raise InvalidStatement(
                Reason.BAD_PROOF, "merges alone, and no step that opens a window"
            )
        return
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
