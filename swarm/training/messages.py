"""Define the messages between stages: micro-batches up, gradients down, each signed.

Core: pure functions.

A signature covers the network, the run, every coordinate and the hash of the wire bytes (``wire_digest``),
under the purpose "micro-batch" or "micro-batch-grad". The receiver computes from those bytes, so each peer
answers only for its own arithmetic on inputs that others signed. A gradient names the bytes of the activations
that it answers: their sender cannot claim later that it had sent others. ``Passed`` is a micro-batch on its way
to the next stage, with the forward pass that waits for its gradient.

Source: docs/spec/protocol.md section 3, docs/spec/verification.md section 2.
"""

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import cast

from torch import Tensor

from swarm.config.spec import RunSpec
from swarm.errors import BadEncoding, OutOfTurn, PeerFault, Unreachable, UsageError
from swarm.gossip.codecs.activations import to_wire, wire_bytes
from swarm.primitives.codec import LONGEST_FRAME_BYTES, Message, decode, replace
from swarm.primitives.crypto import SecretKey, fast_digest, verify
from swarm.primitives.edges import ActivationSent, GradientSent, signed_bytes
from swarm.training.model.bottleneck import signal_width
from swarm.training.model.stages import Forward as ForwardPass
from swarm.training.plan import RoundPlan
from swarm.training.record.segment import MicrobatchId, MicrobatchRecord
from swarm.types import Digest, PeerId, RoundIndex, RunIndex, StageIndex

COUNT_MAX = (1 << 53) - 1
"""Largest counter in any message: exact in every language and every float64."""
BUDGET_MS_MAX = 10 * 60 * 1000
"""Longest time budget of a micro-batch: far above any hop deadline."""
NO_LOSS = -1
"""Loss of a stage that is not the last."""
MICRO = 1_000_000
LOSS_MICRO_MAX = 1000 * MICRO
"""1000 nats a token: a bound far above the loss of any model."""


class MicroBatch(Message, frozen=True):
    """Activations on their way to the next stage."""

    run: RunIndex
    round: RoundIndex
    step: int
    """The origin's optimizer step within the round."""
    microbatch: int
    """The origin's number of this micro-batch within the step."""
    origin: int
    """Index of the stage 0 seat that drew the samples."""
    stage: StageIndex
    """The stage that the message is sent to."""
    source: int
    """Index of the sending seat, in stage ``stage - 1``."""
    destination: int
    """Index of the receiving seat, in stage ``stage``."""
    incarnation: int
    """Starts of the sender's process: two messages equivocate only within one incarnation."""
    version: int
    """The sender's weight version; an answer for an old one is discarded."""
    budget_ms: int
    """Milliseconds left for the answer when this was sent."""
    batch: int
    length: int
    features: int
    payload: bytes
    """(batch, length, features) in the wire format that the run names (gossip/codecs/activations.py)."""
    signature: bytes

    @property
    def microbatch_id(self) -> tuple[int, int, int]:
        """Id of the micro-batch: (origin, step, micro-batch)."""
        return (self.origin, self.step, self.microbatch)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the activations."""
        return (self.batch, self.length, self.features)


class MicroBatchGrad(Message, frozen=True, tag=1):
    """The answer: the gradient of the loss by those activations, with the request's coordinates."""

    run: RunIndex
    round: RoundIndex
    step: int
    microbatch: int
    origin: int
    stage: StageIndex
    source: int
    destination: int
    incarnation: int
    version: int
    answerer: int
    """Starts of the process that answers."""
    activations: Digest
    """``wire_digest`` of the activations that it is the gradient by."""
    loss_micro: int
    """Mean loss in millionths of a nat a token, as the last stage measured it; ``NO_LOSS`` if none was."""
    tokens: int
    """Tokens that the loss is the mean of: batch times length."""
    payload: bytes
    signature: bytes

    @property
    def microbatch_id(self) -> tuple[int, int, int]:
        """Id of the micro-batch: (origin, step, micro-batch)."""
        return (self.origin, self.step, self.microbatch)

    @classmethod
    def reply_to(
        cls, request: MicroBatch, answerer: int, wire: Digest, loss_micro: int, payload: bytes
    ) -> "MicroBatchGrad":
        """Return the unsigned answer of incarnation ``answerer`` to a request with the payload of ``wire``."""
        what = (wire, loss_micro, _tokens(request), payload)
        return cls(*_message_id(request), answerer, *what, signature=b"")


class Refusal(IntEnum):
    """Reasons for which a seat refuses a micro-batch; the sender asks another replica of the stage."""

    BUSY = 0
    LATE = 1
    FULL = 2
    UNKNOWN = 3


class MicroBatchRefused(Message, frozen=True, tag=2):
    """Refusal instead of a gradient; not signed, because a refusal is no fault."""

    reason: Refusal


MicroBatchAnswer = MicroBatchGrad | MicroBatchRefused


def decode_answer(raw: bytes) -> MicroBatchAnswer:
    """Read the answer to a ``MicroBatch``; raise ``BadEncoding``."""
    kind = cast("type[MicroBatchAnswer]", MicroBatchAnswer)
    return decode(kind, raw, limit=LONGEST_FRAME_BYTES)


def wire_digest(payload: bytes) -> Digest:
    """Return the digest of wire bytes, as signatures and transcripts carry it."""
    return fast_digest("wire", payload)


def wire_of(spec: RunSpec, x: Tensor) -> bytes:
    """Return activations or gradients in wire format; raise ``PeerFault`` if they are not finite.

    Honest inputs give finite results, so the fault is the sender's.
    """
    try:
        return to_wire(x, spec.wire.activations)
    except UsageError:
        raise PeerFault("a micro-batch whose results are not finite") from None


def loss_micro_of(loss: float) -> int:
    """Return a loss in millionths of a nat; raise ``PeerFault`` if not finite or above ``LOSS_MICRO_MAX``."""
    if not math.isfinite(loss) or loss * MICRO > LOSS_MICRO_MAX:
        raise PeerFault("a micro-batch whose loss is not finite or absurd")
    return max(round(loss * MICRO), 0)


def activation_bytes(spec: RunSpec) -> int:
    """Return the bytes of every payload that crosses a stage boundary of a run, up or down."""
    numel = spec.microbatch_size * spec.model.seq_len * signal_width(spec.model)
    return wire_bytes(spec.wire.activations, numel)


def sign_microbatch(
    secret: SecretKey,
    chain: Digest,
    run_digest: Digest,
    message: MicroBatch,
    wire: Digest | None = None,
) -> MicroBatch:
    """Return the message with its signature; ``wire`` is its payload's digest, if already known."""
    statement = signed_bytes(activation_sent(message, wire or wire_digest(message.payload)))
    return replace(message, signature=secret.sign("micro-batch", chain, run_digest, statement))


def sign_grad(
    secret: SecretKey, chain: Digest, run_digest: Digest, message: MicroBatchGrad
) -> MicroBatchGrad:
    """Return the answer with its signature."""
    statement = signed_bytes(gradient_sent(message))
    return replace(message, signature=secret.sign("micro-batch-grad", chain, run_digest, statement))


def check_microbatch(
    chain: Digest, run_digest: Digest, spec: RunSpec, message: MicroBatch, sender: PeerId
) -> Digest:
    """Verify a micro-batch and return the digest of its payload.

    Raises ``BadEncoding`` unless it fits the run, ``BadSignature`` unless ``sender`` signed it. The caller must
    check that ``sender`` holds the source seat.
    """
    check_fit(spec, message)
    wire = wire_digest(message.payload)
    _check_signed(chain, run_digest, message, wire, sender)
    return wire


def check_bare_microbatch(
    chain: Digest,
    run_digest: Digest,
    spec: RunSpec,
    message: MicroBatch,
    wire: Digest,
    sender: PeerId,
) -> None:
    """Check a micro-batch as ``check_microbatch`` does, whose payload is only known by its digest."""
    _check_shape(spec, message)
    _check_signed(chain, run_digest, message, wire, sender)


def _check_signed(
    chain: Digest, run_digest: Digest, message: MicroBatch, wire: Digest, sender: PeerId
) -> None:
    statement = signed_bytes(activation_sent(message, wire))
    verify(sender, message.signature, "micro-batch", chain, run_digest, statement)


def check_fit(spec: RunSpec, message: MicroBatch) -> None:
    """Raise ``BadEncoding`` unless the run has such a micro-batch, in this shape, with such a payload."""
    _check_shape(spec, message)
    if len(message.payload) != activation_bytes(spec):
        raise BadEncoding("a micro-batch whose payload is not the size it states")


def _check_shape(spec: RunSpec, message: MicroBatch) -> None:
    _check_message_id(_message_id(message))
    model = spec.model
    if not 1 <= message.stage < spec.num_stages:
        raise BadEncoding(f"a micro-batch for stage {message.stage} of {spec.num_stages}")
    if message.step >= spec.inner_steps_max or message.round >= spec.rounds:
        raise BadEncoding("a micro-batch of a step or round that the run does not have")
    if message.microbatch >= spec.microbatches_per_step:
        raise BadEncoding(f"micro-batch {message.microbatch} of {spec.microbatches_per_step}")
    if not 0 <= message.budget_ms <= BUDGET_MS_MAX:
        raise BadEncoding(f"a time budget of {message.budget_ms} ms")
    if (message.batch, message.length) != (spec.microbatch_size, model.seq_len):
        raise BadEncoding(f"a micro-batch of {message.batch} sequences of {message.length}")
    if message.features != (width := signal_width(model)):
        raise BadEncoding(f"{message.features} features where {width} cross a cut of the model")


def check_numbers(answer: MicroBatchGrad) -> None:
    """Raise ``BadEncoding`` unless every number of a gradient is within the bounds of a message."""
    _check_message_id(_message_id(answer))
    if not 0 <= answer.answerer <= COUNT_MAX:
        raise BadEncoding("a gradient of a process that is negative or absurd")
    if not 0 <= answer.tokens <= COUNT_MAX:
        raise BadEncoding(f"a gradient of {answer.tokens} tokens")
    if not NO_LOSS <= answer.loss_micro <= LOSS_MICRO_MAX:
        raise BadEncoding(f"a loss of {answer.loss_micro} millionths of a nat")


def check_grad(
    chain: Digest,
    run_digest: Digest,
    spec: RunSpec,
    request: MicroBatch,
    wire: Digest,
    answer: MicroBatchGrad,
    sender: PeerId,
) -> None:
    """Raise ``PeerFault`` unless ``answer`` is ``sender``'s signed gradient for ``request``.

    The payload of ``request`` is represented by its digest ``wire`` and is not read.
    """
    if len(answer.payload) != activation_bytes(spec):
        raise BadEncoding("a gradient of another shape than its activations")
    payload = wire_digest(answer.payload)
    check_bare_grad(chain, run_digest, request, wire, answer, payload, sender)


def check_bare_grad(
    chain: Digest,
    run_digest: Digest,
    request: MicroBatch,
    wire: Digest,
    answer: MicroBatchGrad,
    payload: Digest,
    sender: PeerId,
) -> None:
    """Check a gradient as ``check_grad`` does, whose payload is only known by its digest."""
    if _message_id(answer) != _message_id(request):
        raise OutOfTurn("a gradient for another micro-batch")
    if answer.activations != wire:
        raise OutOfTurn("a gradient for other activations")
    if answer.tokens != _tokens(request):
        raise BadEncoding("a gradient of another shape than its activations")
    check_numbers(answer)
    statement = signed_bytes(bare_gradient_sent(answer, payload))
    verify(sender, answer.signature, "micro-batch-grad", chain, run_digest, statement)


MessageId = tuple[RunIndex, RoundIndex, int, int, int, StageIndex, int, int, int, int]


def _message_id(message: MicroBatch | MicroBatchGrad) -> MessageId:
    return (
        message.run,
        message.round,
        message.step,
        message.microbatch,
        message.origin,
        message.stage,
        message.source,
        message.destination,
        message.incarnation,
        message.version,
    )


def _check_message_id(message_id: MessageId) -> None:
    if not all(0 <= number <= COUNT_MAX for number in message_id):
        raise BadEncoding("a micro-batch with a coordinate that is negative or absurd")


def activation_sent(message: MicroBatch, wire: Digest) -> ActivationSent:
    """Return what the signature of a micro-batch covers, and it; ``wire`` is the digest of the payload."""
    shape = (message.budget_ms, message.batch, message.length, message.features)
    return ActivationSent(*_message_id(message), *shape, wire, message.signature)


def gradient_sent(message: MicroBatchGrad) -> GradientSent:
    """Return what the signature of a gradient covers, and the signature itself."""
    return bare_gradient_sent(message, wire_digest(message.payload))


def bare_gradient_sent(message: MicroBatchGrad, wire: Digest) -> GradientSent:
    """Return what the signature of a gradient covers whose payload is only known by its digest ``wire``."""
    what = (message.answerer, message.activations, message.loss_micro, message.tokens)
    return GradientSent(*_message_id(message), *what, wire, message.signature)


def _tokens(message: MicroBatch) -> int:
    return message.batch * message.length


IN_FLIGHT_BYTES = 64 << 20
"""Bytes of the micro-batches that an origin has in flight at once: a quarter of what a peer holds for all
others (host/memory_quota.py), since routing may send it those of several origins.
"""


NO_SEAT = -1
"""Destination of a micro-batch before a replica is chosen."""


def request_of(
    plan: RoundPlan,
    microbatch_id: MicrobatchId,
    *,
    stage: int,
    source: int,
    incarnation: int,
    version: int,
    payload: bytes,
) -> MicroBatch:
    """Return an unsigned micro-batch for ``stage``: its destination and time budget are set when it is sent."""
    origin, step, microbatch = microbatch_id
    spec = plan.spec
    return MicroBatch(
        run=plan.run,
        round=plan.round,
        step=step,
        microbatch=microbatch,
        origin=origin,
        stage=StageIndex(stage),
        source=source,
        destination=NO_SEAT,
        incarnation=incarnation,
        version=version,
        budget_ms=0,
        batch=spec.microbatch_size,
        length=spec.model.seq_len,
        features=signal_width(spec.model),
        payload=payload,
        signature=b"",
    )


class TooBusy(Unreachable):
    """Refusal of a seat that cannot take a micro-batch now: another replica should be asked."""


Forward = Callable[[RoundPlan, MicroBatch, Digest, float], Awaitable[MicroBatchGrad]]
"""Send a micro-batch to the next stage and return its gradient; raises ``Unreachable``.

Given are the plan, the unsigned request, the ``wire_digest`` of its payload, and the seconds left.
"""


@dataclass(slots=True)
class Passed:
    """A forward pass that waits for its gradient."""

    forward: ForwardPass
    shape: tuple[int, int, int]
    record: MicrobatchRecord
    """Its record but for the gradients and the destination, which are not known yet."""
    weights: int
    """``Shard.weights`` of the forward pass; the gradient is rejected after they change."""

    @property
    def microbatch_id(self) -> MicrobatchId:
        """Id of the micro-batch: (origin, step, micro-batch)."""
        return self.record.microbatch_id


def in_flight_max(spec: RunSpec) -> int:
    """Return the micro-batches that one origin has in flight at once; the others of its step wait.

    Every stage holds each of them, its bytes and its forward pass, until the gradient came back. Two for each
    stage are enough to keep all stages busy. What is saved on the wire by int4 or a bottleneck lets no more of
    them in flight: a forward pass takes as much memory as without.
    """
    is_plain_int8 = spec.wire.activations == "int8" and not spec.model.bottleneck_rank
    rows = spec.microbatch_size * spec.model.seq_len
    form = "int8" if is_plain_int8 else "bf16"
    whole_bytes = wire_bytes(form, rows * spec.model.hidden_size)
    return max(IN_FLIGHT_BYTES // whole_bytes, 2 * spec.num_stages)
