"""Prove that a seat sent something else than it committed to: one signed message and one opening of its list.

Core: pure functions.

A lie about an edge needs no replay and no hearing. Every validator sees in the block that a peer signed a
message for a place, and that the list of its segment has something else at that place, or nothing: a gradient
sent down that is not the one it computed, other bytes for one partner, activations of a micro-batch that it
never counted, a fragment where it says that it gave none. A list out of order is a lie by itself: what is in it
twice, a micro-batch counted in two windows among them, has neighbours that show it.

A message from a later start of its sender's process than the commit's is one, too: an honest seat that starts
again does not commit what it had begun before.

Source: docs/spec/verification.md section 2.
"""

from swarm.errors import BadEncoding, BadSignature, BrokenPromise, InvalidStatement, Reason
from swarm.gossip.trade.messages import Offer, check_key, fragment_digest, verify_offer
from swarm.primitives.codec import Message, encode
from swarm.primitives.crypto import SIGNATURE_BYTES, verify
from swarm.primitives.edges import (
    SENT_MAX,
    ActivationSent,
    GradientSent,
    Place,
    SentEntry,
    SentKind,
    SentOpening,
    are_in_order,
    check_opening,
    entry_at,
    signed_bytes,
)
from swarm.types import Digest, PeerId, RoundIndex, RunIndex, StageIndex

EDGE_FRAUD_BYTES_MAX = 2 << 10
"""Bytes of an encoded proof: a message of about 250 bytes, and two entries with their paths."""
PATH_MAX = SENT_MAX.bit_length()
COUNT_MAX = (1 << 53) - 1

EdgeMessage = ActivationSent | GradientSent | Offer


class EdgeFraud(Message, frozen=True, tag=39):
    """Proof that a seat sent something else than its commit says."""

    run: RunIndex
    round: RoundIndex
    stage: StageIndex
    seat: int
    message: EdgeMessage | None
    """Message that it signed; None where the list alone is the proof."""
    opening: SentOpening | None
    """Part of its list around that place; None for an empty list, or where the message alone is the proof."""


def check_fraud_shape(body: EdgeFraud) -> None:
    """Raise ``BadEncoding`` if a field is out of bounds; the caller bounds the coordinates of the segment."""
    if len(encode(body)) > EDGE_FRAUD_BYTES_MAX:
        raise BadEncoding("a proof of more bytes than one message and one opening have")
    if body.opening is not None:
        check_opening_shape(body.opening)
    if body.message is not None:
        check_message_shape(body.message)


def check_message_shape(message: EdgeMessage) -> None:
    """Raise ``BadEncoding`` if the signature of a message, or the key of an offer, is out of bounds."""
    if len(message.signature) != SIGNATURE_BYTES:
        raise BadEncoding(f"a signature of {len(message.signature)} bytes")
    if isinstance(message, Offer):
        check_key(message.key)


def check_opening_shape(opening: SentOpening) -> None:
    """Raise ``BadEncoding`` if a part of an opening is out of bounds."""
    if not 0 <= opening.index < opening.count <= SENT_MAX:
        raise BadEncoding("an opening outside its list")
    if not 1 <= len(opening.entries) <= 2 or len(opening.paths) != len(opening.entries):
        raise BadEncoding("an opening of no entry, or of more than two")
    for path in opening.paths:
        if len(path) > PATH_MAX or any(len(part) != 32 for part in path):
            raise BadEncoding("a path that no list has")
    for entry in opening.entries:
        check_entry(entry)


def check_entry(entry: SentEntry) -> None:
    """Raise ``BadEncoding`` if a field of an entry is out of bounds: no opening could show it."""
    if not all(0 <= number <= COUNT_MAX for number in (*entry.place, entry.window)):
        raise BadEncoding("an entry with a number that is negative or absurd")
    if not {len(entry.up), len(entry.down)} <= {0, 32}:
        raise BadEncoding("an entry with a digest that has not 32 bytes")


def place_of(message: EdgeMessage) -> Place:
    """Return the place at which the sender's list must have a message."""
    if isinstance(message, Offer):
        return (SentKind.FRAGMENT, message.key.exchange, message.codec, 0)
    return message.place


def is_said(message: EdgeMessage, entry: SentEntry | None) -> bool:
    """Return True if an entry has what a message says."""
    if entry is None:
        return False
    match message:
        case ActivationSent(wire=wire):
            return entry.up == wire
        case GradientSent(wire=wire):
            return entry.down == wire
        case Offer():
            return entry.up == fragment_digest(message)


def sender_of(message: EdgeMessage) -> tuple[RunIndex, RoundIndex, StageIndex, int]:
    """Return the segment of the seat that sent a message: (run, round, stage, seat)."""
    match message:
        case ActivationSent():
            return message.run, message.round, StageIndex(message.stage - 1), message.source
        case GradientSent():
            return message.run, message.round, message.stage, message.destination
        case Offer(key=key):
            return key.run, key.round, key.stage, key.seat


def verify_message(message: EdgeMessage, peer: PeerId, chain: Digest, run_digest: Digest) -> None:
    """Raise ``BadSignature`` unless ``peer`` signed a message, ``BadEncoding`` if a number is out of bounds."""
    match message:
        case ActivationSent(signature=signature):
            verify(peer, signature, "micro-batch", chain, run_digest, signed_bytes(message))
        case GradientSent(signature=signature):
            verify(peer, signature, "micro-batch-grad", chain, run_digest, signed_bytes(message))
        case Offer():
            verify_offer(peer, chain, message)


def check_fraud(
    body: EdgeFraud,
    *,
    peer: PeerId,
    incarnation: int,
    sent_root: Digest,
    chain: Digest,
    run_digest: Digest,
) -> None:
    """Raise ``InvalidStatement`` unless a proof shows that the seat of its segment lied.

    Args:
        body: The proof; its shape was checked.
        peer: Solver of the segment.
        incarnation: Start of the solver's process, as its commit has it.
        sent_root: Root of the list of what it sent, as its commit has it.
        chain: Id of the network.
        run_digest: Digest of the spec of the run.
    """
    message, opening = body.message, body.opening
    try:
        if message is None:
            _check_disorder(sent_root, opening)
            return
        if sender_of(message) != (body.run, body.round, body.stage, body.seat):
            raise InvalidStatement(Reason.BAD_FIELD, "a message of another segment")
        if message.incarnation < incarnation:
            raise InvalidStatement(
                Reason.BAD_FIELD, "sent before its seat began this segment again"
            )
        if message.incarnation > incarnation and opening is not None:
            raise InvalidStatement(Reason.BAD_FIELD, "a later start of the process is proof enough")
        if message.incarnation == incarnation:
            entry = entry_at(sent_root, opening, place_of(message))
            if is_said(message, entry):
                raise InvalidStatement(Reason.BAD_FIELD, "the list has what was sent")
    except BrokenPromise as error:
        raise InvalidStatement(Reason.BAD_PROOF, str(error)) from None
    try:
        verify_message(message, peer, chain, run_digest)
    except (BadSignature, BadEncoding) as error:
        raise InvalidStatement(Reason.BAD_SIGNATURE, str(error)) from None


def _check_disorder(sent_root: Digest, opening: SentOpening | None) -> None:
    if opening is None:
        raise InvalidStatement(Reason.BAD_FIELD, "neither a message nor a part of the list")
    check_opening(sent_root, opening)
    if len(opening.entries) != 2 or are_in_order(opening.entries):
        raise InvalidStatement(Reason.BAD_FIELD, "entries in order")
