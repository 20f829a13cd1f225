"""The replay record of one window of a segment: the state at its start, and what happened in it.

Core: frozen records and pure checks.

The header is the window without its tensors and payloads (``window_bytes.py``). It comes from another peer and
determines how much memory is used: its length, the number of its events and micro-batches, and every number in
it are bounded by the run. The verify package checks the signatures of the messages and replays the events. The
state at the end is there in runs without exact numerics only: whoever replays the window measures how far from
it another machine ends.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from swarm.config.spec import NANO, RunSpec
from swarm.errors import BadEncoding
from swarm.gossip.pairing import FINAL_ROUNDS_MAX
from swarm.gossip.trade.messages import Offer, Receipt, check_count, check_key, check_root
from swarm.primitives.codec import Message, replace
from swarm.primitives.crypto import SIGNATURE_BYTES
from swarm.training.messages import (
    MicroBatch,
    MicroBatchGrad,
    check_numbers,
)
from swarm.training.model.optimizer import MICROBATCHES_MAX
from swarm.training.plan import RoundPlan
from swarm.training.record.segment import NO_PARTNER, MicrobatchId, ShardState, no_trades_over
from swarm.training.shard import DROPPED_MAX
from swarm.types import NO_DIGEST, Bytes, Digest, RoundIndex, RunIndex, StageIndex

WINDOW_BYTES_MAX = 256 << 20
"""Longest encoded window: a verifier holds one of another peer in memory."""
STATES_EVERY = 25
"""Windows of which one has its start state, where checks look at elements: the others are computed from it."""
SPARE_MICROBATCHES = 32
"""Micro-batches of one step that may be computed and not counted, besides those that a replica is expected to
answer: every one costs whoever replays the window as much as one that counts."""
SNAPSHOTS_MAX = 4
"""Offers in one exchange: usually one, rarely more if a trade came late."""
_MICROBATCH_BYTES = 512
"""Bytes of a micro-batch in a header: two signatures, a digest and thirty numbers of at most 9 bytes."""
_EVENT_BYTES = 640
"""Bytes of any other event: a merge with an offer and a receipt is the longest."""
_MICROBATCH_ID_BYTES = 28
_HEAD_BYTES = 1024
_WAITING_MAX = MICROBATCHES_MAX + SPARE_MICROBATCHES


@dataclass(frozen=True, slots=True)
class WindowKey:
    """Id of a window within a run."""

    run: RunIndex
    round: RoundIndex
    stage: StageIndex
    seat: int
    window: int


class ComputedMicrobatch(Message, frozen=True):
    """One micro-batch that was counted in a step, with the messages that other peers signed for it.

    In a header the payloads of both messages are empty: they follow behind it.
    """

    origin: int
    step: int
    """The origin's number, not that of the step it was counted in."""
    microbatch: int
    request: MicroBatch | None
    """The signed activations from below; None in stage 0."""
    reply: MicroBatchGrad | None
    """The signed gradient from above; None in the last stage."""

    @property
    def microbatch_id(self) -> MicrobatchId:
        """Id of the micro-batch: (origin, step, micro-batch)."""
        return (self.origin, self.step, self.microbatch)


class AnchorSet(Message, frozen=True, tag=1):
    """A new canonical checkpoint became the anchor; only before a segment's first step."""

    root: Digest


class SnapshotTaken(Message, frozen=True, tag=2):
    """The fragment of an exchange was copied between two steps, to be offered."""

    exchange: int


class MergeHead(Message, frozen=True, tag=3):
    """A merge as the header has it: all but the partner's payload, which follows behind the header."""

    exchange: int
    partner_seat: int
    """Index of the partner's seat; -1 in a solo step."""
    weight_nano: int
    my_payload: Digest
    offer: Offer | None
    """The partner's signed offer; None in a solo step."""
    receipt: Receipt | None = None
    """The drawn partner's receipt for ``my_payload`` in int4, which moved the residual; also if solo."""


class FragmentMerged(MergeHead, frozen=True, kw_only=True, tag=3):
    """A fragment's outer step was applied."""

    payload: Bytes = b""
    """The partner's quantized bytes before zstandard, covered by ``offer.payload_hash``; empty if solo."""


class StepTaken(Message, frozen=True, tag=4):
    """An optimizer step was taken with these micro-batches, sorted by their numbers."""

    step: int
    """Number within the segment, from 0 without a gap."""
    microbatches: tuple[ComputedMicrobatch, ...]
    dropped: tuple[MicrobatchId, ...]
    """Micro-batches that were sent and never answered, sorted."""


class Uncounted(Message, frozen=True, tag=5):
    """Micro-batches that were computed with the weights of now and are in no step, sorted by their numbers.

    Their answer never came, or their gradient was lost. Something of them was sent: a replay computes it, too.
    """

    microbatches: tuple[ComputedMicrobatch, ...]
    """Without a reply where none came: what went up is computed; else what went down, too."""


Event = AnchorSet | SnapshotTaken | FragmentMerged | StepTaken | Uncounted
EventHead = AnchorSet | SnapshotTaken | MergeHead | StepTaken | Uncounted


def waiting_max(plan: RoundPlan, stage: StageIndex) -> int:
    """Return the micro-batches that a seat may have computed since its weights changed last."""
    return min(plan.quota(stage), MICROBATCHES_MAX) + SPARE_MICROBATCHES


@dataclass(frozen=True, slots=True)
class WindowData:
    """The start state of a window and its events, in order."""

    key: WindowKey
    is_last: bool
    """True if the segment ended with this window."""
    start: ShardState
    events: tuple[Event, ...]
    end: ShardState | None = None
    """State at the end, as the next window or segment begins with it; None in a run with exact numerics."""
    start_root: Digest = field(default=NO_DIGEST, compare=False)
    """Root of the start state, where its own seat has hashed it; it is not in the bytes of the window."""


class EndHead(Message, frozen=True):
    """Numbers of the state at the end of a window, as ``WindowHead`` has those of its start."""

    step: int
    anchor_root: bytes
    tokens_total: int
    tokens_at_sync: tuple[int, ...]
    snapshots: tuple[tuple[int, int], ...]


class WindowHead(Message, frozen=True):
    """Encoded ``window.WindowData``: its key, the numbers of its start state, its events."""

    run: RunIndex
    round: RoundIndex
    stage: StageIndex
    seat: int
    window: int
    is_last: bool
    step: int
    anchor_root: bytes
    tokens_total: int
    tokens_at_sync: tuple[int, ...]
    """Of each fragment; behind them, in a run of several trades a round, the trades of each that are over."""
    snapshots: tuple[tuple[int, int], ...]
    """(exchange, tokens it was offered with)."""
    events: tuple[EventHead, ...]
    end: EndHead | None = None


def header_bytes_max(spec: RunSpec) -> int:
    """Return the most bytes of a header of a window of this run."""
    steps, fragments = spec.checks.window_steps, spec.outer.fragments
    step = _EVENT_BYTES + MICROBATCHES_MAX * _MICROBATCH_BYTES + DROPPED_MAX * _MICROBATCH_ID_BYTES
    others = 1 + spec.outer.exchanges * (SNAPSHOTS_MAX + 1)
    uncounted = _uncounted_max(spec) * (_EVENT_BYTES + _WAITING_MAX * _MICROBATCH_BYTES)
    numbers = 2 * (_HEAD_BYTES + fragments * 2 * _MICROBATCH_ID_BYTES)
    return numbers + steps * step + others * _EVENT_BYTES + uncounted


def _uncounted_max(spec: RunSpec) -> int:
    """Return the most events of uncounted micro-batches: before each step and merge, and at the end."""
    return spec.checks.window_steps + spec.outer.exchanges + 1


def check_head(spec: RunSpec, head: WindowHead) -> None:
    """Raise ``BadEncoding`` unless every number of a header is within the bounds of its run."""
    _check_place(spec, head)
    _check_numbers(spec, head)
    if head.end is not None:
        _check_end(spec, head.end)
    _check_events(spec, head)


def _check_place(spec: RunSpec, head: WindowHead) -> None:
    for name in ("run", "round", "stage", "seat", "window"):
        check_count(name, getattr(head, name))
    if head.stage >= spec.num_stages or head.round >= spec.rounds + FINAL_ROUNDS_MAX:
        raise BadEncoding("a window of a stage or round that the run does not have")


def _check_end(spec: RunSpec, end: EndHead) -> None:
    if spec.is_exact:
        raise BadEncoding("a state at the end, which a replay gives")
    _check_numbers(spec, end)


def _check_numbers(spec: RunSpec, head: WindowHead | EndHead) -> None:
    """Check the numbers of a state."""
    check_count("step", head.step)
    check_count("tokens_total", head.tokens_total)
    check_root(Digest(head.anchor_root))
    exchanges = [exchange for exchange, _ in head.snapshots]
    _check_ascending(exchanges)
    for exchange in exchanges:
        _check_exchange(spec, exchange)
    if len({spec.outer.fragment_of(exchange) for exchange in exchanges}) != len(exchanges):
        raise BadEncoding("a fragment on its way in two exchanges")
    at_sync, trades_over = split_counts(spec, head)
    if (len(at_sync), len(trades_over)) != (spec.outer.fragments, len(no_trades_over(spec))):
        raise BadEncoding(f"tokens of {len(head.tokens_at_sync)} fragments")
    if not all(0 <= over <= spec.outer.trades_per_round for over in trades_over):
        raise BadEncoding("more trades that are over than a round has")
    for tokens in (*at_sync, *(tokens for _, tokens in head.snapshots)):
        if not 0 <= tokens <= head.tokens_total:
            raise BadEncoding(f"{tokens} tokens of {head.tokens_total}")


def _check_events(spec: RunSpec, head: WindowHead) -> None:
    counts = dict.fromkeys((AnchorSet, SnapshotTaken, MergeHead, StepTaken, Uncounted), 0)
    for event in head.events:
        counts[type(event)] += 1
        match event:
            case AnchorSet(root):
                check_root(Digest(root))
            case SnapshotTaken(exchange):
                _check_exchange(spec, exchange)
            case MergeHead():
                _check_merge(spec, event)
            case StepTaken():
                _check_step(spec, head.stage, event)
            case Uncounted(microbatches):
                _check_uncounted(spec, head.stage, microbatches)
    exchanges = spec.outer.exchanges
    if counts[AnchorSet] > 1 or counts[MergeHead] > exchanges:
        raise BadEncoding("a window with more anchors or merges than a segment has")
    if counts[SnapshotTaken] > SNAPSHOTS_MAX * exchanges:
        raise BadEncoding("a window with more snapshots than a segment has")
    if counts[Uncounted] > _uncounted_max(spec):
        raise BadEncoding("more uncounted micro-batches than a window has weights")
    done = counts[StepTaken] + counts[MergeHead]
    if counts[StepTaken] > spec.checks.window_steps or not done:
        raise BadEncoding(f"a window of {counts[StepTaken]} steps")


def _check_merge(spec: RunSpec, event: MergeHead) -> None:
    _check_exchange(spec, event.exchange)
    check_root(Digest(event.my_payload))
    offer, seat, receipt = event.offer, event.partner_seat, event.receipt
    if receipt is not None:
        check_key(receipt.key)
        check_count("seat", receipt.to_seat)
        check_root(receipt.payload_hash)
        _check_signature(receipt.signature)
    if not 0 <= event.weight_nano <= NANO or (offer is None) != (seat == NO_PARTNER):
        raise BadEncoding("a merge that is neither with a partner nor alone")
    if offer is None:
        return
    check_count("seat", seat)
    check_key(offer.key)
    for name in ("incarnation", "step", "tokens", "num_bytes", "wire_bytes"):
        check_count(name, getattr(offer, name))
    for root in (offer.anchor_root, offer.payload_hash, offer.chunk_root):
        check_root(root)
    _check_signature(offer.signature)


def _check_step(spec: RunSpec, stage: int, event: StepTaken) -> None:
    check_count("step", event.step)
    if not 1 <= len(event.microbatches) <= MICROBATCHES_MAX:
        raise BadEncoding(f"a step of {len(event.microbatches)} micro-batches")
    if len(event.dropped) > DROPPED_MAX:
        raise BadEncoding(f"a step that dropped {len(event.dropped)} micro-batches")
    _check_ids(event.dropped)
    _check_microbatches(stage, event.microbatches)
    if any((one.reply is None) != (stage == spec.num_stages - 1) for one in event.microbatches):
        raise BadEncoding("a gradient where there is no stage above, or none where there is")


def _check_uncounted(
    spec: RunSpec, stage: int, microbatches: tuple[ComputedMicrobatch, ...]
) -> None:
    if not 1 <= len(microbatches) <= _WAITING_MAX:
        raise BadEncoding(f"{len(microbatches)} micro-batches that are not counted")
    _check_microbatches(stage, microbatches)
    if stage == spec.num_stages - 1 and any(one.reply is not None for one in microbatches):
        raise BadEncoding("a gradient where there is no stage above")


def _check_microbatches(stage: int, microbatches: tuple[ComputedMicrobatch, ...]) -> None:
    _check_ids([one.microbatch_id for one in microbatches])
    for one in microbatches:
        if (one.request is None) != (stage == 0):
            raise BadEncoding("activations where there is no stage below, or none where there is")
        if one.request is not None:
            _check_bare(one.request)
        if one.reply is not None:
            _check_bare(one.reply)
            check_root(one.reply.activations)
            check_numbers(one.reply)


def _check_ids(ids: Sequence[MicrobatchId]) -> None:
    _check_ascending(ids)
    for number in (number for microbatch_id in ids for number in microbatch_id):
        check_count("coordinate", number)


def _check_bare(message: MicroBatch | MicroBatchGrad) -> None:
    """Refuse a payload in a header: it would be a second encoding of the same window."""
    _check_signature(message.signature)
    if message.payload:
        raise BadEncoding("a payload in a header")


def _check_exchange(spec: RunSpec, exchange: int) -> None:
    if not 0 <= exchange < spec.outer.exchanges:
        raise BadEncoding(f"exchange {exchange} of {spec.outer.exchanges}")


def split_counts(
    spec: RunSpec, head: WindowHead | EndHead
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return (tokens at each fragment's last merge, trades that are over) of a header."""
    counts, fragments = head.tokens_at_sync, spec.outer.fragments
    return counts[:fragments], counts[fragments:]


def _check_signature(signature: bytes) -> None:
    if len(signature) != SIGNATURE_BYTES:
        raise BadEncoding(f"a signature of {len(signature)} bytes")


def _check_ascending(keys: Sequence[int] | Sequence[MicrobatchId]) -> None:
    if any(a >= b for a, b in pairwise(keys)):  # type: ignore[operator]
        raise BadEncoding("out of order, or there twice")


def anchors_named(data: WindowData) -> frozenset[Digest]:
    """Return every anchor whose tensor a replay of this window needs."""
    later = (event.root for event in data.events if isinstance(event, AnchorSet))
    return frozenset({data.start.anchor_root, *later})


def head_of(event: Event) -> EventHead:
    """Return an event as a header has it, without payloads."""
    match event:
        case FragmentMerged():
            return MergeHead(*(getattr(event, name) for name in MergeHead.__struct_fields__))
        case StepTaken() | Uncounted():
            return replace(event, microbatches=tuple(map(_bare, event.microbatches)))
        case _:
            return event


def _bare(one: ComputedMicrobatch) -> ComputedMicrobatch:
    request = None if one.request is None else replace(one.request, payload=b"")
    reply = None if one.reply is None else replace(one.reply, payload=b"")
    return replace(one, request=request, reply=reply)


def is_bare(spec: RunSpec, window: int) -> bool:
    """Return True if the log of a window has only the numbers of its start state, and none of its values.

    In a run whose checks look at elements no log leaves its seat: only the seat has to know the state.
    """
    return spec.checks.spots and window % STATES_EVERY > 0
