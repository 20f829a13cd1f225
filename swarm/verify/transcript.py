"""Compute the commitments to one segment, and the statement that reveals it.

Core: pure functions of the log that training wrote.

    state root   = M(10 component digests, in the order of ``COMPONENTS``)
    micro-batch  = H(coordinates | the four wire hashes | sample ids root)
    step leaf    = H(step, dropped | state root or none | M(micro-batch leaves, sorted) | piece of the gradient)
    merge leaf   = H(exchange | partner | both payload hashes | weight | state root)
    window claim = H(M(leaves of its steps and merges) | state roots at start and end | tokens)
    trace root   = M(window claims); trace commit = H(trace root | salt)
    sent root    = M(entries of what was signed and sent, by place) (primitives/edges.py)

H is BLAKE3 under a purpose, M a Merkle root over BLAKE3; M of nothing is ``NO_DIGEST``.
Source: docs/spec/protocol.md section 5, docs/spec/verification.md section 2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from swarm.errors import UsageError
from swarm.ledger.check_statements import RevealSegment
from swarm.primitives.codec import encode
from swarm.primitives.commitments import (
    WindowResult,
    leaves_root,
    step_leaf_digest,
    trace_commit,
    trace_root,
)
from swarm.primitives.crypto import fast_digest
from swarm.primitives.edges import sent_root
from swarm.primitives.merkle import merkle_proof, merkle_root
from swarm.training.record.segment import MergeRecord, MicrobatchRecord, SegmentLog, StepRecord
from swarm.types import NO_DIGEST, Digest, RunIndex

COMPONENTS = tuple(
    "params adam_m adam_v step phi outer_m residual anchor_root tokens snapshot".split()
)
"""Components of a seat's state: float32 tensors, empty if absent; ``ShardState`` has the counters."""


@dataclass(frozen=True, slots=True)
class SegmentRoots:
    """Content of a ``SegmentCommit`` about a segment, and the trace root that its salt hides."""

    start_root: Digest
    end_root: Digest
    trace_root: Digest
    trace_commit: Digest
    sent_root: Digest
    num_steps: int
    tokens: int


def segment_roots(log: SegmentLog, salt: bytes) -> SegmentRoots:
    """Return the roots of a closed segment; ``salt`` is 32 secret random bytes."""
    trace = trace_root([result.claim for result in window_results(log)])
    return SegmentRoots(
        start_root=state_root(log.start),
        end_root=state_root(log.end),
        trace_root=trace,
        trace_commit=trace_commit(trace, salt),
        sent_root=sent_root(log.sent),
        num_steps=log.num_steps,
        tokens=log.tokens,
    )


def window_results(log: SegmentLog) -> list[WindowResult]:
    """Return the results of a closed segment's windows; each begins with a step whose state was taken."""
    windows = list[list[StepRecord | MergeRecord]]()
    for record in log.records:
        is_first = isinstance(record, StepRecord) and record.components is not None
        if not windows or (is_first and any(isinstance(r, StepRecord) for r in windows[-1])):
            windows.append([])
        windows[-1].append(record)
    states = [state_root(log.start), *map(_first_state, windows[1:]), state_root(log.end)]
    return [
        WindowResult(leaves_root(list(map(_leaf, window))), start, end, _tokens_in(window))
        for window, (start, end) in zip(windows, pairwise(states), strict=True)
    ]


def _leaf(record: StepRecord | MergeRecord) -> Digest:
    return step_leaf(record) if isinstance(record, StepRecord) else merge_leaf(record)


def _first_state(window: Sequence[StepRecord | MergeRecord]) -> Digest:
    first = window[0]
    assert isinstance(first, StepRecord), "a later window begins with a step"
    assert first.components is not None, "whose state was taken"
    return state_root(first.components)


def _tokens_in(window: Sequence[StepRecord | MergeRecord]) -> int:
    return sum(record.tokens for record in window if isinstance(record, StepRecord))


def state_root(components: Sequence[Digest]) -> Digest:
    """Return the root over the ten components' tensor hashes; raises ``UsageError`` unless there are ten."""
    if len(components) != len(COMPONENTS):
        raise UsageError(f"a state has {len(COMPONENTS)} components, not {len(components)}")
    return merkle_root(components)


def component_proof(components: Sequence[Digest], index: int) -> tuple[bytes, ...]:
    """Return the proof for ``merkle.verify_proof(state_root, components[index], index, 10, proof)``."""
    if len(components) != len(COMPONENTS):
        raise UsageError(f"a state has {len(COMPONENTS)} components, not {len(components)}")
    return merkle_proof(components, index)


def microbatch_leaf(record: MicrobatchRecord) -> Digest:
    """Hash one micro-batch as this seat saw it."""
    return fast_digest(
        "microbatch-leaf",
        encode((*_coordinates(record), record.source, record.destination)),
        record.in_activation,
        record.in_gradient,
        record.out_activation,
        record.out_gradient,
        record.sample_ids_root,
    )


def step_leaf(record: StepRecord) -> Digest:
    """Hash one optimizer step; its state root is taken before the step, and only every few steps."""
    root = NO_DIGEST if record.components is None else state_root(record.components)
    microbatches = [(_coordinates(one), microbatch_leaf(one)) for one in record.microbatches]
    leaves = leaves_root([leaf for _, leaf in sorted(microbatches)])
    dropped = tuple(sorted(record.dropped))
    return step_leaf_digest(record.step, dropped, root, leaves, record.gradient)


def merge_leaf(record: MergeRecord) -> Digest:
    """Hash one merge. A solo step has no partner and no payloads; a declined one a partner and weight 0."""
    terms = (record.exchange, record.partner or b"", record.partner_seat, record.weight_nano)
    return fast_digest(
        "merge-leaf",
        encode(terms),
        record.my_payload,
        record.partner_payload,
        state_root(record.components),
    )


def _coordinates(record: MicrobatchRecord) -> tuple[int, int, int]:
    return (record.origin, record.step, record.microbatch)


def reveal_of(log: SegmentLog, run: RunIndex, salt: bytes) -> RevealSegment:
    """Return the statement that opens a closed segment; ``salt`` is that of its commit."""
    results = window_results(log)
    return RevealSegment(
        run=run,
        round=log.round,
        stage=log.stage,
        seat=log.seat,
        salt=salt,
        leaves_roots=tuple(result.leaves_root for result in results),
        state_roots=tuple(result.start_root for result in results[1:]),
        tokens=tuple(result.tokens for result in results),
    )
