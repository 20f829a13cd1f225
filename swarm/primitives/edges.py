"""Define what a seat signs and sends to others, and the list of all of it to which its commit binds it.

Core: frozen structs and pure functions.

An edge is a payload that goes from one seat to another: activations up, gradients down, fragments across. Its
sender signs every one, and lists what it sent in a segment:

    entry     = place | number of the window that computed it | digest of what went up | of what went down
    sent root = M(entries, by place), in the commit of the segment

A place is a micro-batch or the fragment of an exchange in one encoding, and there is one entry for it. So a
signed message that the list does not have, or has otherwise, is proof of a lie: whoever replays a window sees
that the list says what the seat computed, and whoever got something else holds the sender's signature. Neither
a replay nor a log is needed for it: two neighbours in the list show what it does not have.

A message counts for one start of its sender's process (``incarnation``): after a crash a seat begins its
segment again, and what it had sent before is in no list.

Source: docs/spec/protocol.md section 5, docs/spec/verification.md section 2.
"""

from bisect import bisect_left
from collections.abc import Sequence
from enum import IntEnum
from itertools import pairwise

from swarm.errors import BrokenPromise
from swarm.primitives.codec import Message, encode, replace
from swarm.primitives.commitments import leaves_root
from swarm.primitives.crypto import fast_digest
from swarm.primitives.merkle import merkle_proof, verify_proof
from swarm.types import NO_DIGEST, Digest, RoundIndex, RunIndex, StageIndex

SENT_MAX = 16_384
"""Entries of one segment: one of 50 steps has a few hundred. A seat that comes to them takes no more work."""
ENTRY_BYTES_MAX = 120
"""Bytes of an encoded entry: five numbers and two digests."""

Place = tuple[int, int, int, int]
"""Key of an entry: (kind, origin, step, micro-batch), or (kind, exchange, codec, 0)."""


class SentKind(IntEnum):
    """Kind of an entry."""

    MICROBATCH = 0
    FRAGMENT = 1


class SentEntry(Message, frozen=True):
    """Digests of all that a seat sent of one micro-batch, or of one fragment."""

    kind: int
    first: int
    second: int
    third: int
    window: int
    """Number of the window whose replay computes it."""
    up: bytes
    """Digest of the activations for the stage above, or of the fragment; empty if there are none."""
    down: bytes
    """Digest of the gradient for the stage below; empty if there is none."""

    @property
    def place(self) -> Place:
        """Place of the entry, by which a list is sorted."""
        return (self.kind, self.first, self.second, self.third)


class ActivationSent(Message, frozen=True, tag=1):
    """Signed statement of a seat about the activations that it sends to the stage above."""

    run: RunIndex
    round: RoundIndex
    step: int
    microbatch: int
    origin: int
    stage: StageIndex
    """The stage that they are sent to."""
    source: int
    """Index of the sending seat, in stage ``stage - 1``."""
    destination: int
    incarnation: int
    """Starts of the sender's process."""
    version: int
    budget_ms: int
    batch: int
    length: int
    features: int
    wire: Digest
    """Digest of the wire bytes."""
    signature: bytes

    @property
    def place(self) -> Place:
        """Place of the entry that must have them."""
        return (SentKind.MICROBATCH, self.origin, self.step, self.microbatch)


class GradientSent(Message, frozen=True, tag=2):
    """Signed statement of a seat about the gradient that it sends back to the stage below."""

    run: RunIndex
    round: RoundIndex
    step: int
    microbatch: int
    origin: int
    stage: StageIndex
    """The stage that sends it."""
    source: int
    destination: int
    """Index of the sending seat: the activations were sent to it."""
    requested_by: int
    """Incarnation of the seat below."""
    version: int
    incarnation: int
    """Starts of the sender's process."""
    activations: Digest
    loss_micro: int
    tokens: int
    wire: Digest
    """Digest of the wire bytes."""
    signature: bytes

    @property
    def place(self) -> Place:
        """Place of the entry that must have it."""
        return (SentKind.MICROBATCH, self.origin, self.step, self.microbatch)


def signed_bytes(statement: ActivationSent | GradientSent) -> bytes:
    """Return the bytes that a statement's signature covers."""
    return encode(replace(statement, signature=b""))


def sent_root(entries: Sequence[SentEntry]) -> Digest:
    """Return the root over a list of entries, in the order in which they are; ``NO_DIGEST`` of none."""
    return leaves_root([sent_leaf(entry) for entry in entries])


def sent_leaf(entry: SentEntry) -> Digest:
    """Return the hash of one entry."""
    return fast_digest("sent-entry", encode(entry))


def are_in_order(entries: Sequence[SentEntry]) -> bool:
    """Return True if no place is there twice, and every entry is in its place."""
    return all(one.place < other.place for one, other in pairwise(entries))


class SentOpening(Message, frozen=True):
    """One entry of a list, or two neighbours, with the paths to its root."""

    count: int
    """Entries of the whole list."""
    index: int
    """Number of the first entry that is shown."""
    entries: tuple[SentEntry, ...]
    paths: tuple[tuple[bytes, ...], ...]


def open_at(entries: Sequence[SentEntry], index: int, number: int = 1) -> SentOpening:
    """Return the opening of ``number`` neighbours from ``index`` on."""
    leaves = [sent_leaf(entry) for entry in entries]
    shown = range(index, index + number)
    paths = tuple(merkle_proof(leaves, at) for at in shown)
    return SentOpening(len(entries), index, tuple(entries[at] for at in shown), paths)


def open_place(entries: Sequence[SentEntry], place: Place) -> SentOpening | None:
    """Return the opening of a sorted list that shows what it has at a place, or that it has nothing there.

    None for the empty list, which has nothing to show.
    """
    if not entries:
        return None
    at = bisect_left([entry.place for entry in entries], place)
    if at < len(entries) and entries[at].place == place:
        return open_at(entries, at)
    first = max(at - 1, 0)
    return open_at(entries, first, min(at + 1, len(entries)) - first)


def check_opening(root: Digest, opening: SentOpening) -> None:
    """Raise ``BrokenPromise`` unless the entries of an opening are neighbours in the list under ``root``."""
    if not 1 <= len(opening.entries) <= 2 or len(opening.paths) != len(opening.entries):
        raise BrokenPromise("an opening of no entry, or of more than two")
    for at, (entry, path) in enumerate(zip(opening.entries, opening.paths, strict=True)):
        verify_proof(root, sent_leaf(entry), opening.index + at, opening.count, path)


def entry_at(root: Digest, opening: SentOpening | None, place: Place) -> SentEntry | None:
    """Return the entry of a list at a place, as an opening of it proves; None if it has none there.

    Raises ``BrokenPromise`` for an opening that proves neither.
    """
    if opening is None:
        if root != NO_DIGEST:
            raise BrokenPromise("nothing is shown of a list that is not empty")
        return None
    check_opening(root, opening)
    first, last = opening.entries[0], opening.entries[-1]
    for entry in opening.entries:
        if entry.place == place:
            return entry
    begins, ends = opening.index == 0, opening.index + len(opening.entries) == opening.count
    is_between = len(opening.entries) == 2 and first.place < place < last.place
    if is_between or (begins and place < first.place) or (ends and last.place < place):
        return None
    raise BrokenPromise("entries that do not stand where the place would be")
