"""Compare what seats signed and sent with the lists to which their commits bind them.

Core: pure functions, and a table that a replay fills.

    window's log --edges_in--> messages that others signed --find_lie, with the list of each--> EdgeFraud
    replay of a window --Sent--> what the seat sent in it == its list, or the log is refused

A log holds the signed messages of its seat's neighbours and partners. Who has replayed it, or kept it as its
own, asks for the lists of those seats: the root of each is on the ledger, so a list needs no signature, and any
holder may serve it. A message that its sender's list does not have convicts it without a replay.

Source: docs/spec/verification.md section 2.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from swarm.errors import BadEncoding, BrokenPromise, OtherBits, OutOfTurn, UsageError
from swarm.gossip.trade.messages import Codec, fragment_content, payload_digest
from swarm.gossip.trade.payload import encode_payload
from swarm.ledger.edges import (
    EdgeFraud,
    EdgeMessage,
    check_entry,
    is_said,
    place_of,
    sender_of,
)
from swarm.primitives.codec import Message, decode, encode
from swarm.primitives.edges import (
    ENTRY_BYTES_MAX,
    SENT_MAX,
    SentEntry,
    SentKind,
    are_in_order,
    open_at,
    open_place,
    sent_root,
)
from swarm.training.averaging.outer_step import FragmentSnapshot
from swarm.training.averaging.payload import fragment_payload
from swarm.training.messages import activation_sent, gradient_sent, wire_digest
from swarm.training.plan import RoundPlan
from swarm.training.record.segment import MicrobatchRecord
from swarm.training.record.window import FragmentMerged, StepTaken, Uncounted, WindowData
from swarm.training.recorder import entry_of
from swarm.types import Digest

SENT_BYTES_MAX = 16 + SENT_MAX * ENTRY_BYTES_MAX
"""Bytes of an encoded list."""


class SentList(Message, frozen=True):
    """Everything that a seat sent in one segment, by place."""

    entries: tuple[SentEntry, ...]


def encode_list(entries: Sequence[SentEntry]) -> bytes:
    """Return the bytes of a list."""
    return encode(SentList(tuple(entries)))


def decode_list(raw: bytes, root: Digest) -> tuple[SentEntry, ...]:
    """Return the list under ``root``, in whatever order.

    Raises ``PeerFault`` for the bytes of another list, and for one with an entry that no opening could show.
    """
    entries = decode(SentList, raw, limit=SENT_BYTES_MAX).entries
    if len(entries) > SENT_MAX:
        raise BadEncoding(f"a list of {len(entries)} entries")
    for entry in entries:
        check_entry(entry)
    if sent_root(entries) != root:
        raise BrokenPromise("not the list of its commit")
    return entries


def edges_in(data: WindowData) -> Iterator[EdgeMessage]:
    """Yield every message in a log that another seat signed, without its payload."""
    for event in data.events:
        match event:
            case StepTaken() | Uncounted():
                for one in event.microbatches:
                    if one.request is not None:
                        yield activation_sent(one.request, wire_digest(one.request.payload))
                    if one.reply is not None:
                        yield gradient_sent(one.reply)
            case FragmentMerged(offer=offer) if offer is not None:
                yield offer
            case _:
                pass


def find_lie(
    messages: Iterable[EdgeMessage], incarnation: int, entries: Sequence[SentEntry]
) -> EdgeFraud | None:
    """Return a proof that one of a segment's messages is not what its sender's list has; None if none is a lie.

    ``incarnation`` is that of the sender's commit, ``entries`` the list that the commit names. What was sent
    before the sender's process started again is in no list.
    """
    disorder = disorder_in(entries)
    listed = {entry.place: entry for entry in entries}
    for message in messages:
        segment, place = sender_of(message), place_of(message)
        if message.incarnation > incarnation:
            return EdgeFraud(*segment, message, None)
        if disorder is not None:
            return EdgeFraud(*segment, None, open_at(entries, disorder, 2))
        if message.incarnation == incarnation and not is_said(message, listed.get(place)):
            return EdgeFraud(*segment, message, open_place(entries, place))
    return None


def disorder_in(entries: Sequence[SentEntry]) -> int | None:
    """Return the number of the first entry that is not below the next one; None if there is none."""
    if are_in_order(entries):
        return None
    pairs = enumerate(pairwise(entries))
    return next(at for at, (one, other) in pairs if one.place >= other.place)


class Sent:
    """Comparison of what a replay of one window finds to be sent with the list of the segment."""

    def __init__(self, plan: RoundPlan, window: int, entries: Sequence[SentEntry]) -> None:
        mine = [entry for entry in entries if entry.window == window]
        self._plan = plan
        self._window = window
        self._microbatches = {e.place: e for e in mine if e.kind == SentKind.MICROBATCH}
        self._fragments = {e.place: e for e in mine if e.kind != SentKind.MICROBATCH}

    def microbatch(self, record: MicrobatchRecord) -> None:
        """Find a micro-batch in the list.

        Raises ``OtherBits`` if the list has other bytes of it, and ``OutOfTurn`` if it has none.
        """
        entry = entry_of(record, self._window)
        listed = self._microbatches.pop(entry.place, None)
        if listed is None:
            raise OutOfTurn("a micro-batch that the list of what was sent does not have")
        if listed != entry:
            raise OtherBits("a micro-batch of which other bytes were sent than are computed")

    def snapshot(self, snapshot: FragmentSnapshot) -> None:
        """Find the offers of a copied fragment in the list, in whichever encodings it has any."""
        plan = self._plan
        for place, entry in list(self._fragments.items()):
            _, exchange, number, _ = place
            if exchange == snapshot.exchange and number in set(Codec):
                digest = _offered(plan, snapshot, Codec(number))
                if entry.up == digest and not entry.down and entry.third == 0:
                    del self._fragments[place]

    def check(self) -> None:
        """Raise ``OutOfTurn`` if the list has something of this window that was not found."""
        if self._microbatches or self._fragments:
            raise OutOfTurn("something was sent that this window does not compute")


def _offered(plan: RoundPlan, snapshot: FragmentSnapshot, codec: Codec) -> Digest | None:
    """Return the digest of a fragment as it is offered in one encoding; None if it cannot be encoded so."""
    mine = fragment_payload(
        plan.spec, plan.round, snapshot, is_final_averaging=plan.is_final_averaging
    )
    try:
        payload, _ = encode_payload(mine, codec)
    except UsageError:
        return None
    named = (mine.step, mine.tokens, codec, mine.anchor_root, payload_digest(payload))
    return fragment_content(*named)


def check_list(entries: Sequence[SentEntry], num_windows: int) -> None:
    """Raise ``OutOfTurn`` unless a list is in order and every entry is of a window of the segment."""
    if not are_in_order(entries):
        raise OutOfTurn("a list of what was sent that is out of order")
    if any(not 0 <= entry.window < num_windows for entry in entries):
        raise OutOfTurn("something was sent in a window that the segment does not have")
