"""Write the replay record of a window as bytes, and read it.

Core: bytes in, bytes out.

    bytes = magic | length of the header | header | tensors of the start state | of the end state | payloads

The header is the window without its tensors and payloads. Their lengths are not in it: they follow from the
run, so untrusted bytes cannot ask for memory. A window has exactly one encoding, and ``decode_window`` accepts
no other. Legend: P parameters of the shard.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from swarm.config.spec import RunSpec
from swarm.errors import BadEncoding
from swarm.gossip.trade.messages import Codec
from swarm.gossip.trade.payload import payload_bytes
from swarm.primitives.codec import decode, encode, replace
from swarm.training.averaging.payload import residual_numel, traded_numel
from swarm.training.messages import activation_bytes, check_fit
from swarm.training.model.operators import are_finite
from swarm.training.model.optimizer import num_second_moments
from swarm.training.model.stages import Span, plans_of
from swarm.training.record.checkpoint import FLOAT_BYTES, flat_tensor, phi_bytes
from swarm.training.record.segment import ShardState
from swarm.training.record.window import (
    WINDOW_BYTES_MAX,
    ComputedMicrobatch,
    EndHead,
    Event,
    EventHead,
    FragmentMerged,
    MergeHead,
    StepTaken,
    Uncounted,
    WindowData,
    WindowHead,
    WindowKey,
    check_head,
    head_of,
    header_bytes_max,
    is_bare,
    split_counts,
)
from swarm.types import Bytes, Digest

MAGIC = b"SWARMWN5"
"""First bytes of a window; the last digit is the version of the format."""
LENGTH_BYTES = 4


class Bulk:
    """Reader of the bytes after the header."""

    def __init__(self, view: memoryview, at: int) -> None:
        self._view = view
        self._at = at

    def take(self, num_bytes: int) -> memoryview:
        """Return the next bytes; raise ``BadEncoding`` if there are too few."""
        if num_bytes > len(self._view) - self._at:
            raise BadEncoding("a window that was cut short")
        self._at += num_bytes
        return self._view[self._at - num_bytes : self._at]

    def tensor(self, numel: int) -> Tensor:
        """Return the next values; raise ``BadEncoding`` if one is not finite."""
        tensor = flat_tensor(self.take(FLOAT_BYTES * numel))
        if not are_finite(tensor):
            raise BadEncoding("a window that begins with values that are not finite")
        return tensor

    def end(self) -> None:
        """Raise ``BadEncoding`` unless all bytes were read."""
        if self._at != len(self._view):
            raise BadEncoding("a window with more bytes than its events")


def head_bytes(head: WindowHead) -> bytes:
    """Return the magic, the length and the header of a window's bytes."""
    header = encode(head)
    return MAGIC + len(header).to_bytes(LENGTH_BYTES, "big") + header


def split_window(spec: RunSpec, view: memoryview) -> tuple[WindowHead, Bulk]:
    """Return the checked header of a window, and a reader for the bytes after it."""
    start = len(MAGIC) + LENGTH_BYTES
    length = int.from_bytes(view[len(MAGIC) : start], "big")
    longest = min(header_bytes_max(spec), len(view) - start)
    if bytes(view[: len(MAGIC)]) != MAGIC or length > longest:
        raise BadEncoding("not a window")
    head = decode(WindowHead, bytes(view[start : start + length]), limit=length)
    check_head(spec, head)
    return head, Bulk(view, start + length)


def encode_window(data: WindowData) -> list[Bytes]:
    """Return the pieces of a window's bytes, in order; no tensor is copied."""
    key, start, end = data.key, data.start, data.end
    head = WindowHead(
        run=key.run,
        round=key.round,
        stage=key.stage,
        seat=key.seat,
        window=key.window,
        is_last=data.is_last,
        **_numbers_of(start),
        events=tuple(head_of(event) for event in data.events),
        end=None if end is None else EndHead(**_numbers_of(end)),
    )
    states = [start] if end is None else [start, end]
    tensors = [phi_bytes(tensor) for state in states for tensor in _tensors_of(state)]
    return [head_bytes(head), *tensors, *_payloads(data.events)]


def _numbers_of(state: ShardState) -> dict[str, Any]:
    """Return the numbers of a state, as both kinds of header have them."""
    return {
        "step": state.step,
        "anchor_root": state.anchor_root,
        "tokens_total": state.tokens_total,
        "tokens_at_sync": (*state.tokens_at_sync, *state.trades_over),
        "snapshots": tuple((exchange, tokens) for exchange, tokens, _ in state.snapshots),
    }


def _tensors_of(state: ShardState) -> list[Tensor]:
    """Return the tensors of a state in the order in which they are written."""
    return [*state.tensors, state.residual_R, *(theta for _, _, theta in state.snapshots)]


def decode_window(spec: RunSpec, raw: bytes | memoryview) -> WindowData:
    """Decode and check the bytes of a window of this run from an untrusted peer; raise ``PeerFault``.

    Every number is within its bounds, every tensor and payload as long as the run says, and every value of the
    state finite.
    """
    view = memoryview(raw).cast("B")
    if len(view) > WINDOW_BYTES_MAX and not spec.checks.spots:  # these are the seat's own
        raise BadEncoding(f"a window of {len(view)} bytes")
    head, bulk = split_window(spec, view)
    plan = plans_of(spec)[head.stage]
    spans = plan.fragments(spec.outer.fragments)
    second = num_second_moments(spec.optimizer, plan)
    start = _state(spec, head, bulk, spans, second, is_bare=is_bare(spec, head.window))
    end = None if head.end is None else _state(spec, head.end, bulk, spans, second)
    events = tuple(_event(spec, event, bulk, spans) for event in head.events)
    bulk.end()
    key = WindowKey(head.run, head.round, head.stage, head.seat, head.window)
    return WindowData(
        key=key,
        is_last=head.is_last,
        start=start,
        events=events,
        end=end,
    )


def _payloads(events: tuple[Event, ...]) -> Iterator[Bytes]:
    for event in events:
        match event:
            case FragmentMerged():
                yield event.payload
            case StepTaken() | Uncounted():
                for one in event.microbatches:
                    yield from (m.payload for m in (one.request, one.reply) if m is not None)
            case _:
                pass


def _state(
    spec: RunSpec,
    head: WindowHead | EndHead,
    bulk: Bulk,
    spans: Sequence[Span],
    second: int,
    *,
    is_bare: bool = False,
) -> ShardState:
    """Return the state of a header, with the values that follow it; a bare one has none."""

    def tensor(numel: int) -> Tensor:
        return bulk.tensor(0 if is_bare else numel)

    num_parameters = spans[-1].stop
    params_P, m_P = tensor(num_parameters), tensor(num_parameters)
    v_A = tensor(second)
    phi_P, momentum_P = tensor(num_parameters), tensor(num_parameters)
    residual_R = tensor(residual_numel(spec, num_parameters))
    at_sync, trades_over = split_counts(spec, head)
    return ShardState(
        params_P=params_P,
        m_P=m_P,
        v_A=v_A,
        phi_P=phi_P,
        momentum_P=momentum_P,
        step=head.step,
        anchor_root=Digest(head.anchor_root),
        tokens_total=head.tokens_total,
        tokens_at_sync=at_sync,
        snapshots=tuple(
            (exchange, tokens, tensor(spans[spec.outer.fragment_of(exchange)].numel))
            for exchange, tokens in head.snapshots
        ),
        residual_R=residual_R,
        trades_over=trades_over,
    )


def _event(spec: RunSpec, event: EventHead, bulk: Bulk, spans: Sequence[Span]) -> Event:
    match event:
        case MergeHead(exchange, _, _, _, offer):
            payload = b""
            if offer is not None:
                is_final_averaging = offer.codec is Codec.F32
                span = spans[spec.outer.fragment_of(exchange)]
                numel = traded_numel(spec, span.numel, is_final_averaging=is_final_averaging)
                num_bytes = payload_bytes(offer.codec, numel)
                if offer.num_bytes != num_bytes:
                    raise BadEncoding("an offer of another size than its fragment")
                payload = bytes(bulk.take(num_bytes))
            fields = {name: getattr(event, name) for name in MergeHead.__struct_fields__}
            return FragmentMerged(**fields, payload=payload)
        case StepTaken() | Uncounted():
            counted = tuple(_computed(spec, one, bulk) for one in event.microbatches)
            return replace(event, microbatches=counted)
        case _:
            return event


def _computed(spec: RunSpec, one: ComputedMicrobatch, bulk: Bulk) -> ComputedMicrobatch:
    num_bytes, request, reply = activation_bytes(spec), one.request, one.reply
    if request is not None:
        request = replace(request, payload=bytes(bulk.take(num_bytes)))
        check_fit(spec, request)
    if reply is not None:
        reply = replace(reply, payload=bytes(bulk.take(num_bytes)))
    return replace(one, request=request, reply=reply)
