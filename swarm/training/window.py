"""What a seat keeps of one window of a segment, so that others can compute it again: values and bytes.

Core: pure functions.

    bytes = magic | length of the header | header | tensors of the start state | payloads, in order

The header is everything but tensors and payloads. Their lengths are not in it: they follow from the run, so a
stranger's bytes cannot ask for memory. A window has exactly one form, and ``decode_window`` takes no other.
Whether its messages were signed, and whether it happened like that, is for the verify room to find.
Legend: P parameters of the shard.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from swarm.codec import replace
from swarm.errors import BadEncoding
from swarm.gossip.exchange import payload_bytes
from swarm.gossip.messages import Codec, Offer, Receipt
from swarm.spec import RunSpec
from swarm.training.checkpoint import phi_bytes
from swarm.training.messages import MicroBatch, MicroBatchGrad, activation_bytes, check_fit
from swarm.training.offers import residual_numel, traded_numel
from swarm.training.segment import Place
from swarm.training.stages import Span, plan_stages
from swarm.training.state import ShardState
from swarm.training.window_heads import (
    AnchorHead,
    Bulk,
    ComputedHead,
    EventHead,
    MergeHead,
    SnapshotHead,
    StepHead,
    WindowHead,
    head_bytes,
    split_window,
)
from swarm.types import Digest, RoundIndex, RunIndex, StageIndex

WINDOW_BYTES_MAX = 256 << 20
"""Longest encoded window: what one machine is asked to hold in memory for a stranger."""


@dataclass(frozen=True, slots=True)
class WindowKey:
    """Which window of which segment."""

    run: RunIndex
    round: RoundIndex
    stage: StageIndex
    seat: int
    window: int


@dataclass(frozen=True, slots=True)
class ComputedMicrobatch:
    """One micro-batch that was counted in a step, with what others signed for it."""

    origin: int
    step: int
    """The origin's number, not that of the step it was counted in."""
    microbatch: int
    request: MicroBatch | None
    """The signed activations from below; None in stage 0."""
    reply: MicroBatchGrad | None
    """The signed gradient from above; None in the last stage."""

    @property
    def place(self) -> Place:
        """Which micro-batch it is."""
        return (self.origin, self.step, self.microbatch)


@dataclass(frozen=True, slots=True)
class AnchorSet:
    """A new canonical checkpoint became the anchor; only before a segment's first step."""

    root: Digest


@dataclass(frozen=True, slots=True)
class SnapshotTaken:
    """A fragment was copied between two steps, to be offered."""

    fragment: int


@dataclass(frozen=True, slots=True)
class FragmentMerged:
    """A fragment's outer step was applied."""

    fragment: int
    partner_seat: int
    """-1: alone."""
    weight_nano: int
    my_payload: Digest
    offer: Offer | None
    """The partner's signed offer; None alone."""
    payload: bytes
    """The partner's quantized bytes, before zstandard: what ``offer.payload_hash`` covers; empty alone."""
    receipt: Receipt | None = None
    """The drawn partner's, for ``my_payload`` in int4: the residual moved with this merge. Alone too."""


@dataclass(frozen=True, slots=True)
class StepTaken:
    """An optimizer step was taken with these micro-batches, sorted by their numbers."""

    step: int
    """Within the segment, from 0 without a gap."""
    microbatches: tuple[ComputedMicrobatch, ...]
    dropped: tuple[Place, ...]
    """Those that were sent and never answered, sorted."""


Event = AnchorSet | SnapshotTaken | FragmentMerged | StepTaken


@dataclass(frozen=True, slots=True)
class WindowData:
    """The state a window began with, and what happened in it, in order."""

    key: WindowKey
    is_last: bool
    """Whether the segment ended with this window."""
    start: ShardState
    events: tuple[Event, ...]


def anchors_named(data: WindowData) -> frozenset[Digest]:
    """Every anchor whose tensor a replay of this window needs."""
    later = (event.root for event in data.events if isinstance(event, AnchorSet))
    return frozenset({data.start.anchor_root, *later})


def encode_window(data: WindowData) -> list[bytes | memoryview]:
    """The pieces of a window's bytes, in order; no tensor is copied."""
    key, start = data.key, data.start
    head = WindowHead(
        key.run,
        key.round,
        key.stage,
        key.seat,
        key.window,
        data.is_last,
        start.step,
        start.anchor_root,
        start.tokens_total,
        start.tokens_at_sync,
        tuple((fragment, tokens) for fragment, tokens, _ in start.snapshots),
        tuple(_head_of(event) for event in data.events),
    )
    tensors = [*start.tensors, start.residual_R, *(theta for _, _, theta in start.snapshots)]
    return [head_bytes(head), *(phi_bytes(tensor) for tensor in tensors), *_payloads(data.events)]


def decode_window(spec: RunSpec, raw: bytes | memoryview) -> WindowData:
    """Read what a stranger says is a window of this run; raises ``PeerFault``.

    Every number is within its bounds, every tensor and payload as long as the run says, and every value of the
    state finite.
    """
    view = memoryview(raw).cast("B")
    if len(view) > WINDOW_BYTES_MAX:
        raise BadEncoding(f"a window of {len(view)} bytes")
    head, bulk = split_window(spec, view)
    plan = plan_stages(spec.model, spec.num_stages)[head.stage]
    spans = plan.fragments(spec.outer.fragments)
    state = _state(spec, head, bulk, spans)
    events = tuple(_event(spec, event, bulk, spans) for event in head.events)
    bulk.end()
    key = WindowKey(head.run, head.round, head.stage, head.seat, head.window)
    return WindowData(key, head.is_last, state, events)


def _head_of(event: Event) -> EventHead:
    match event:
        case AnchorSet(root):
            return AnchorHead(root)
        case SnapshotTaken(fragment):
            return SnapshotHead(fragment)
        case FragmentMerged(fragment, seat, weight_nano, mine, offer, _, receipt):
            return MergeHead(fragment, seat, weight_nano, mine, offer, receipt)
        case StepTaken(step, microbatches, dropped):
            return StepHead(step, tuple(_bare(one) for one in microbatches), dropped)


def _bare(one: ComputedMicrobatch) -> ComputedHead:
    request = None if one.request is None else replace(one.request, payload=b"")
    reply = None if one.reply is None else replace(one.reply, payload=b"")
    return ComputedHead(*one.place, request, reply)


def _payloads(events: tuple[Event, ...]) -> Iterator[bytes]:
    for event in events:
        match event:
            case FragmentMerged():
                yield event.payload
            case StepTaken():
                for one in event.microbatches:
                    yield from (m.payload for m in (one.request, one.reply) if m is not None)
            case _:
                pass


def _state(spec: RunSpec, head: WindowHead, bulk: Bulk, spans: Sequence[Span]) -> ShardState:
    num_parameters = spans[-1].stop
    params_P, m_P, v_P, phi_P, momentum_P = (bulk.tensor(num_parameters) for _ in range(5))
    residual_R = bulk.tensor(residual_numel(spec, num_parameters))
    return ShardState(
        params_P,
        m_P,
        v_P,
        phi_P,
        momentum_P,
        head.step,
        Digest(head.anchor_root),
        head.tokens_total,
        head.tokens_at_sync,
        tuple((part, tokens, bulk.tensor(spans[part].numel)) for part, tokens in head.snapshots),
        residual_R,
    )


def _event(spec: RunSpec, event: EventHead, bulk: Bulk, spans: Sequence[Span]) -> Event:
    match event:
        case AnchorHead(root):
            return AnchorSet(Digest(root))
        case SnapshotHead(fragment):
            return SnapshotTaken(fragment)
        case MergeHead(fragment, seat, weight_nano, mine, offer, receipt):
            payload = b""
            if offer is not None:
                is_consensus = offer.codec is Codec.F32
                numel = traded_numel(spec, spans[fragment].numel, is_consensus=is_consensus)
                num_bytes = payload_bytes(offer.codec, numel)
                if offer.num_bytes != num_bytes:
                    raise BadEncoding("an offer of another size than its fragment")
                payload = bytes(bulk.take(num_bytes))
            mine = Digest(mine)
            return FragmentMerged(fragment, seat, weight_nano, mine, offer, payload, receipt)
        case StepHead(step, microbatches, dropped):
            counted = tuple(_computed(spec, one, bulk) for one in microbatches)
            return StepTaken(step, counted, dropped)


def _computed(spec: RunSpec, one: ComputedHead, bulk: Bulk) -> ComputedMicrobatch:
    num_bytes, request, reply = activation_bytes(spec), one.request, one.reply
    if request is not None:
        request = replace(request, payload=bytes(bulk.take(num_bytes)))
        check_fit(spec, request)
    if reply is not None:
        reply = replace(reply, payload=bytes(bulk.take(num_bytes)))
    return ComputedMicrobatch(one.origin, one.step, one.microbatch, request, reply)
