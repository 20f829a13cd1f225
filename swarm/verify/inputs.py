"""Commit to what a window of a log takes from others, event by event, so that one event can be shown alone.

Core: frozen messages and pure functions of a log.

    micro-batch   its number, its neighbours, digests of what came from them
    step          number, what was dropped, M(its micro-batches)
    merge         exchange, partner's seat, weight, both payloads, codec, receipt
    copy, anchor  as in the log
    window        M(its events, in order), without what changes no state

Every value is a function of the bytes of the log alone. A solver signs the root in the manifest of its log, and
whoever fetches that compares. So what a log says of one event is shown under its solver's signature, in a few
hundred bytes, to those who do not have it (``program/shown.py``).
"""

from swarm.gossip.trade.messages import Codec
from swarm.primitives.codec import Message, encode
from swarm.primitives.crypto import fast_digest
from swarm.primitives.merkle import merkle_proof, merkle_root
from swarm.training.messages import NO_SEAT, wire_digest
from swarm.training.record.segment import MicrobatchId
from swarm.training.record.window import (
    AnchorSet,
    ComputedMicrobatch,
    Event,
    FragmentMerged,
    SnapshotTaken,
    StepTaken,
    Uncounted,
    WindowData,
)
from swarm.types import NO_DIGEST, Digest


class MicrobatchInputs(Message, frozen=True):
    """Inputs of one counted micro-batch."""

    origin: int
    step: int
    microbatch: int
    source: int
    """Seat below that sent its activations; -1 in the first stage."""
    destination: int
    """Seat above that sent its gradient; its own in the last stage of several, -1 in the only one."""
    in_activation: Digest
    in_gradient: Digest
    answered: Digest
    """Activations for which the seat above sent its gradient; ``NO_DIGEST`` without one."""


class MergeInputs(Message, frozen=True, tag=3):
    """Inputs of a merge."""

    exchange: int
    partner_seat: int
    weight_nano: int
    my_payload: Digest
    partner_payload: Digest
    codec: Codec | None
    has_receipt: bool


class StepInputs(Message, frozen=True, tag=4):
    """Inputs of a step: its micro-batches open under a root of their own."""

    step: int
    """Number within the segment."""
    dropped: Digest
    """Hash of the micro-batches that were sent and never answered."""
    num_microbatches: int
    microbatches: Digest


EventInputs = AnchorSet | SnapshotTaken | MergeInputs | StepInputs


def microbatch_inputs(seat: int, one: ComputedMicrobatch) -> MicrobatchInputs:
    """Return the inputs of a counted micro-batch of a seat."""
    request, reply = one.request, one.reply
    own = seat if request is not None else NO_SEAT
    return MicrobatchInputs(
        *one.microbatch_id,
        source=NO_SEAT if request is None else request.source,
        destination=own if reply is None else reply.destination,
        in_activation=NO_DIGEST if request is None else wire_digest(bytes(request.payload)),
        in_gradient=NO_DIGEST if reply is None else wire_digest(bytes(reply.payload)),
        answered=NO_DIGEST if reply is None else reply.activations,
    )


def dropped_digest(dropped: tuple[MicrobatchId, ...]) -> Digest:
    """Return the hash of the micro-batches that a step dropped."""
    return fast_digest("dropped-microbatches", encode(dropped))


class InputTree:
    """The inputs of all events of a window that change its state, with the tree over them."""

    def __init__(self, data: WindowData) -> None:
        self.events: list[EventInputs] = []
        self._microbatches: dict[int, list[MicrobatchInputs]] = {}
        seat = data.key.seat
        for event in data.events:
            if not isinstance(event, Uncounted):
                self.events.append(self._inputs(seat, event))

    def _inputs(self, seat: int, event: Event) -> EventInputs:
        match event:
            case StepTaken(step, microbatches, dropped):
                counted = [microbatch_inputs(seat, one) for one in microbatches]
                self._microbatches[len(self.events)] = counted
                root = merkle_root(list(map(encode, counted)))
                return StepInputs(step, dropped_digest(dropped), len(counted), root)
            case FragmentMerged(offer=offer):
                return MergeInputs(
                    exchange=event.exchange,
                    partner_seat=event.partner_seat,
                    weight_nano=event.weight_nano,
                    my_payload=event.my_payload,
                    partner_payload=NO_DIGEST if offer is None else offer.payload_hash,
                    codec=None if offer is None else offer.codec,
                    has_receipt=event.receipt is not None,
                )
            case AnchorSet() | SnapshotTaken():
                return event
            case Uncounted():
                raise AssertionError("what changes no state is left out")

    @property
    def root(self) -> Digest:
        """Root over all events."""
        return merkle_root(list(map(encode, self.events)))

    def path(self, event: int) -> tuple[bytes, ...]:
        """Return the path of an event to the root."""
        return merkle_proof(list(map(encode, self.events)), event)

    def microbatch(self, event: int, number: int) -> MicrobatchInputs:
        """Return the inputs of a micro-batch of a step."""
        return self._microbatches[event][number]

    def microbatch_path(self, event: int, number: int) -> tuple[bytes, ...]:
        """Return the path of a micro-batch of a step to the root in that."""
        return merkle_proof(list(map(encode, self._microbatches[event])), number)
