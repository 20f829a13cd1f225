"""Define how what a seat has signed is demanded of its list, and how the list is shown.

Core: frozen structs and pure functions.

Who holds a signed message, and is served the list of its sender by nobody, cannot prove that the list has
something else. It says on the ledger what was signed. Whoever has the list shows there what it has at that
place: an opening under the root in the sender's commit needs no signature.

Source: docs/spec/protocol.md section 6.
"""

from swarm.errors import BadEncoding, BadSignature, BrokenPromise, InvalidStatement, Reason
from swarm.gossip.trade.messages import Offer, fragment_digest
from swarm.ledger.edges import (
    EdgeMessage,
    check_message_shape,
    check_opening_shape,
    place_of,
    sender_of,
    verify_message,
)
from swarm.ledger.state.accusations import Demand
from swarm.primitives.codec import Message, encode
from swarm.primitives.crypto import fast_digest
from swarm.primitives.edges import GradientSent, SentOpening, entry_at
from swarm.types import NO_DIGEST, Amount, Digest, Height, PeerId, RoundIndex, RunIndex, StageIndex

DEMAND_BYTES_MAX = 1 << 10
"""Bytes of an encoded demand: a message of about 250 bytes, whatever its numbers are."""
SHOW_BYTES_MAX = 2 << 10
"""Bytes of an encoded answer: two entries with their paths have 1,300."""


class DemandEntry(Message, frozen=True, tag=44):
    """Demand that the list of a segment be shown at the place of a message that its solver has signed."""

    run: RunIndex
    round: RoundIndex
    stage: StageIndex
    seat: int
    message: EdgeMessage


class ShowEntry(Message, frozen=True, tag=45):
    """Opening of the list of a segment at the place that somebody demands; by whoever has the list."""

    run: RunIndex
    round: RoundIndex
    stage: StageIndex
    seat: int
    demand: int
    """Number of the demand in the record of the segment."""
    opening: SentOpening
    """The entry at that place, or the neighbours between which it would be."""


def check_demand_shape(body: DemandEntry) -> None:
    """Raise ``BadEncoding`` if a field is out of bounds; the caller bounds the coordinates of the segment."""
    if len(encode(body)) > DEMAND_BYTES_MAX:
        raise BadEncoding("a demand of more bytes than one message has")
    check_message_shape(body.message)


def check_show_shape(body: ShowEntry) -> None:
    """Raise ``BadEncoding`` if the opening is out of bounds; the caller bounds all numbers."""
    if len(encode(body)) > SHOW_BYTES_MAX:
        raise BadEncoding("an answer of more bytes than one opening has")
    check_opening_shape(body.opening)


def said_in(message: EdgeMessage) -> Digest:
    """Return the digest that the entry of a message must have."""
    return fragment_digest(message) if isinstance(message, Offer) else message.wire


def check_demand(
    body: DemandEntry,
    *,
    peer: PeerId,
    incarnation: int,
    sent_root: Digest,
    chain: Digest,
    run_digest: Digest,
) -> None:
    """Raise ``InvalidStatement`` unless the solver of a segment has signed what is demanded, for that segment.

    What convicts without the list is no reason to demand it. The arguments are those of ``check_fraud``.
    """
    message = body.message
    if sender_of(message) != (body.run, body.round, body.stage, body.seat):
        raise InvalidStatement(Reason.BAD_FIELD, "a message of another segment")
    if message.incarnation < incarnation:
        raise InvalidStatement(Reason.BAD_FIELD, "sent before its seat began this segment again")
    if message.incarnation > incarnation:
        raise InvalidStatement(Reason.BAD_FIELD, "a later start of the process is proof enough")
    if sent_root == NO_DIGEST:
        raise InvalidStatement(Reason.BAD_FIELD, "a list of nothing has nothing to show")
    try:
        verify_message(message, peer, chain, run_digest)
    except (BadSignature, BadEncoding) as error:
        raise InvalidStatement(Reason.BAD_SIGNATURE, str(error)) from None


def index_shown(sent_root: Digest, demand: Demand, opening: SentOpening) -> int | None:
    """Return the number of the entry that has what is demanded; None if the list has something else.

    Raises ``InvalidStatement`` for an opening that shows neither.
    """
    try:
        entry = entry_at(sent_root, opening, demand.place)
    except BrokenPromise as error:
        raise InvalidStatement(Reason.BAD_PROOF, str(error)) from None
    if entry is None or (entry.down if demand.is_down else entry.up) != demand.said:
        return None
    return opening.index + opening.entries.index(entry)


def fits(demand: Demand, index: int, others: tuple[Demand, ...]) -> bool:
    """Return True if an entry stands where the entries shown before let it stand: a list is in order.

    The number of entries is under the root, so an entry of an honest list has one number.
    """
    return all(
        _order(demand.place, other.place) == _order((index,), (other.index,))
        for other in others
        if other.index >= 0
    )


def _order(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    return (one > other) - (one < other)


def new_demand(body: DemandEntry, sender: PeerId, bond: int, end: int) -> Demand:
    """Return the part of a segment's record that waits for the answer to a demand."""
    message = body.message
    return Demand(
        peer=sender,
        place=place_of(message),
        is_down=isinstance(message, GradientSent),
        said=said_in(message),
        bond=Amount(bond),
        end=Height(end),
    )


def demand_order(beacon: Digest, peer: PeerId, label: bytes) -> Digest:
    """Return the number by which a peer draws what it demands, the lowest first.

    The label is the signature of a message, or the name of a kind of them. The beacon comes after the commit:
    who lies cannot know where it will be looked at.
    """
    return fast_digest("edge-demand", beacon, peer, label)
