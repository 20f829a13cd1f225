"""Compute the commitments to one segment, and the statement that reveals it.

Core: pure functions of the log that training wrote.

    state root   = M(10 component digests, in the order of ``COMPONENTS``)
    micro-batch  = H(coordinates | the four wire hashes | sample ids root)
    step leaf    = H(step | state root or none | M(micro-batch leaves, sorted) | dropped)
    merge leaf   = H(exchange | partner | both payload hashes | weight | state root)
    trace root   = M(step and merge leaves, in the order in which they happened)
    trace commit = H(trace root | salt)
    inbox, outbox = M(edges, sorted); gossip root = M(merge leaves)

H is BLAKE3 under a purpose, M a Merkle root over BLAKE3; M of nothing is ``NO_DIGEST``. Both ends of an edge
write the same bytes for it, so a leaf of one inbox that differs from the other's outbox proves equivocation.
Source: docs/spec/protocol.md section 5, docs/spec/verification.md section 2.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from swarm.errors import UsageError
from swarm.ledger.transactions import TOKENS_COMPONENT, Opening, RevealSegment, TokensOpening
from swarm.ledger.transition.checks import tokens_component
from swarm.primitives.codec import encode
from swarm.primitives.commitments import leaves_root, step_leaf_digest, trace_commit, trace_root
from swarm.primitives.crypto import fast_digest
from swarm.primitives.merkle import merkle_proof, merkle_root
from swarm.training.record.segment import MergeRecord, MicrobatchRecord, SegmentLog, StepRecord
from swarm.types import NO_DIGEST, Digest, RunIndex, StageIndex

COMPONENTS = tuple(
    "params adam_m adam_v step phi outer_m residual anchor_root tokens snapshot".split()
)
"""Components of a seat's state: float32 tensors, empty if absent; ``ShardState`` has the counters."""
ACTIVATION, GRADIENT = 0, 1


@dataclass(frozen=True, slots=True, order=True)
class Edge:
    """Signed payload that crossed a stage boundary, as both of its ends record it."""

    kind: int
    """``ACTIVATION`` (upwards) or ``GRADIENT`` (downwards)."""
    boundary: StageIndex
    """Index of the upper of the two stages."""
    lower: int
    """Index of the seat in stage ``boundary - 1``."""
    upper: int
    """Index of the seat in stage ``boundary``."""
    origin: int
    step: int
    microbatch: int
    wire: Digest


@dataclass(frozen=True, slots=True)
class SegmentRoots:
    """Content of a ``SegmentCommit`` about a segment, and the trace root that its salt hides."""

    start_root: Digest
    end_root: Digest
    trace_root: Digest
    trace_commit: Digest
    inbox_root: Digest
    outbox_root: Digest
    gossip_root: Digest
    num_steps: int
    tokens: int


def segment_roots(log: SegmentLog, salt: bytes) -> SegmentRoots:
    """Return the roots of a closed segment; ``salt`` is 32 secret random bytes."""
    microbatches = [
        microbatch
        for record in log.records
        if isinstance(record, StepRecord)
        for microbatch in record.microbatches
    ]
    merges = [merge_leaf(record) for record in log.records if isinstance(record, MergeRecord)]
    trace = trace_root(segment_leaves(log))
    return SegmentRoots(
        start_root=state_root(log.start),
        end_root=state_root(log.end),
        trace_root=trace,
        trace_commit=trace_commit(trace, salt),
        inbox_root=edges_root(inbox(log.stage, log.seat, microbatches)),
        outbox_root=edges_root(outbox(log.stage, log.seat, microbatches)),
        gossip_root=leaves_root(merges),
        num_steps=log.num_steps,
        tokens=log.tokens,
    )


def segment_leaves(log: SegmentLog) -> list[Digest]:
    """Return the leaves of a segment, in the order in which they happened."""
    return [
        step_leaf(record) if isinstance(record, StepRecord) else merge_leaf(record)
        for record in log.records
    ]


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
    return step_leaf_digest(record.step, tuple(sorted(record.dropped)), root, leaves)


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


def inbox(stage: StageIndex, seat: int, records: Iterable[MicrobatchRecord]) -> list[Edge]:
    """Return the edges that a seat received: activations from below, gradients from above."""
    above = StageIndex(stage + 1)
    edges = list[Edge]()
    for record in records:
        coordinates = _coordinates(record)
        if record.in_activation != NO_DIGEST:
            edges.append(
                Edge(ACTIVATION, stage, record.source, seat, *coordinates, record.in_activation)
            )
        if record.in_gradient != NO_DIGEST:
            edges.append(
                Edge(GRADIENT, above, seat, record.destination, *coordinates, record.in_gradient)
            )
    return edges


def outbox(stage: StageIndex, seat: int, records: Iterable[MicrobatchRecord]) -> list[Edge]:
    """Return the edges that a seat sent: activations to above, gradients to below."""
    above = StageIndex(stage + 1)
    edges = list[Edge]()
    for record in records:
        coordinates = _coordinates(record)
        if record.out_activation != NO_DIGEST:
            out = record.out_activation
            edges.append(Edge(ACTIVATION, above, seat, record.destination, *coordinates, out))
        if record.out_gradient != NO_DIGEST:
            edges.append(
                Edge(GRADIENT, stage, record.source, seat, *coordinates, record.out_gradient)
            )
    return edges


def edges_root(edges: Iterable[Edge]) -> Digest:
    """Return the root over edges, sorted. One may occur twice: an origin that found no path sends again."""
    return leaves_root([edge_leaf(edge) for edge in sorted(edges)])


def edge_leaf(edge: Edge) -> Digest:
    """Hash one edge; both of its ends get the same leaf."""
    seats = (edge.kind, edge.boundary, edge.lower, edge.upper)
    microbatch_id = (edge.origin, edge.step, edge.microbatch)
    return fast_digest("edge-leaf", encode((*seats, *microbatch_id)), edge.wire)


def _coordinates(record: MicrobatchRecord) -> tuple[int, int, int]:
    return (record.origin, record.step, record.microbatch)


Counts = tuple[int, ...]
"""Token counts of a state: the total, then the total at each fragment's last merge."""


def reveal_of(
    log: SegmentLog, run: RunIndex, salt: bytes, counts: tuple[Counts, Counts]
) -> RevealSegment:
    """Return the statement that opens a closed segment; ``salt`` is that of its commit.

    ``counts`` are the token counts at its start and at its end. Raises ``UsageError`` if the states of the log
    have others: such a segment could not be revealed.
    """
    openings = [
        _opening(leaf, record, record.components)
        for leaf, record in enumerate(log.records)
        if isinstance(record, StepRecord) and record.components is not None
    ]
    tokens = _tokens(log.start, counts[0]), _tokens(log.end, counts[1])
    leaves = tuple(segment_leaves(log))
    segment_id = (run, log.round, log.stage, log.seat)
    return RevealSegment(*segment_id, salt, leaves, tuple(openings), tokens)


def _opening(leaf: int, record: StepRecord, components: Sequence[Digest]) -> Opening:
    """Return the values that ``transcript.step_leaf`` hashes for a step."""
    microbatches = sorted((one.microbatch_id, microbatch_leaf(one)) for one in record.microbatches)
    root = leaves_root([digest for _, digest in microbatches])
    dropped = tuple(sorted(record.dropped))
    return Opening(leaf, record.step, dropped, state_root(components), root)


def _tokens(components: Sequence[Digest], counts: Counts) -> TokensOpening:
    if tokens_component(counts) != components[TOKENS_COMPONENT]:
        raise UsageError(f"a state that has not seen {counts[0]} tokens")
    return TokensOpening(counts, component_proof(components, TOKENS_COMPONENT))
