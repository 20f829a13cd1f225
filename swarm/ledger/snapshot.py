"""Cut the state at the end of an epoch into parts, each of which is proved alone, and put it together again.

Core: frozen structs and pure checks.

    handoffs --validators--> last header of an epoch --state root--> names of all parts --> one part, entries

A part holds the entries whose paths in the sparse map begin with the same bits, in the order of these paths.
The names of all parts lead to the state root, so that a false part is known as soon as it comes, whoever sent
it, and parts can come from many peers in any order. Nothing is believed that is not under a final header.
"""

from collections.abc import Sequence

from swarm.config.spec import Genesis
from swarm.errors import BadEncoding, BrokenPromise
from swarm.ledger.blocks import Block, block_digest, check_block_shape, is_last_of_epoch
from swarm.ledger.chain import Head
from swarm.ledger.light import (
    Handoff,
    KnownEpoch,
    TrustedEpoch,
    advance,
    follow_handoffs,
    handoff_digest,
)
from swarm.ledger.state.records import Entry
from swarm.ledger.state.state import State, decode_entry, state_of
from swarm.primitives.codec import FRAME_BYTES_MAX, Message, decode, encode
from swarm.primitives.merkle import MapPart, SparseMap, root_of_parts
from swarm.types import NO_DIGEST, Digest, Height

SNAPSHOT_PROTOCOL = "/swarm/ledger-snapshot/1"

OFFER, HANDOFFS, PART, EARLIER = range(4)
"""Subjects of requests: the newest boundary, handoffs that lead to it, one part, blocks before a height."""

PART_BYTES = 128 << 10
"""Bytes of a part, on average: a second over a slow uplink."""
PART_BYTES_MAX = FRAME_BYTES_MAX - 1024
"""Bytes of the longest part: one entry, the roster of a large round, may take two MiB."""
DEPTH_MAX = 12
"""Parts are named by so many bits at most: 4,096 of them, 150 KB of names."""
OFFER_BYTES_MAX = 256 << 10
HANDOFFS_BYTES = 512 << 10
"""Bytes of handoffs in a reply: it ends with the first one that crosses this."""
HANDOFFS_BYTES_MAX = HANDOFFS_BYTES + (16 << 10)
EARLIER_BYTES = 1 << 20
EARLIER_BYTES_MAX = FRAME_BYTES_MAX
EARLIER_BLOCKS_MAX = 1024
REQUEST_BYTES_MAX = 64


class SnapshotRequest(Message, frozen=True):
    """Request for a snapshot, or for what goes with it."""

    subject: int
    """``OFFER``, ``HANDOFFS``, ``PART`` or ``EARLIER``."""
    height: Height
    """Height of the snapshot; of ``EARLIER`` the one below which blocks are wanted."""
    number: int
    """Number of the part; of ``HANDOFFS`` the epoch from which on they are wanted."""


class PartName(Message, frozen=True):
    """Name of a part of a state."""

    digest: Digest
    """``NO_DIGEST`` for an empty one, which is not sent."""
    is_single: bool
    """True if it holds one entry: that stands higher in the map where its neighbour is empty."""


class Offer(Message, frozen=True):
    """The newest snapshot that a peer has."""

    boundary: Handoff | None
    """Last header of an epoch, with the validators of the next one; None if there is no snapshot."""
    parts: tuple[PartName, ...]


class HandoffsReply(Message, frozen=True):
    """Handoffs that lead on from an epoch, in order."""

    handoffs: tuple[Handoff, ...]


class PartReply(Message, frozen=True):
    """Keys and encoded entries of a part, in the order of their paths."""

    entries: tuple[tuple[bytes, bytes], ...]


class EarlierReply(Message, frozen=True):
    """Blocks before a height, newest first; empty if they are not here."""

    blocks: tuple[Block, ...]


NO_OFFER = Offer(None, ())


def parse_request(data: bytes) -> SnapshotRequest:
    """Decode a request; raise ``BadEncoding``."""
    request = decode(SnapshotRequest, data, limit=REQUEST_BYTES_MAX)
    if request.subject not in range(4) or min(request.height, request.number) < 0:
        raise BadEncoding("a snapshot request out of bounds")
    return request


def cut_state(state: State) -> list[MapPart[Entry]]:
    """Return the parts of a state, of ``PART_BYTES`` on average; encodes all of it."""
    size = sum(len(key) + len(encode(entry)) for key, entry in state.entries.items())
    depth = max(-(-size // PART_BYTES) - 1, 0).bit_length()
    return state.entries.cut(min(depth, DEPTH_MAX))


def compose_offer(boundary: Handoff, parts: Sequence[MapPart[Entry]]) -> Offer:
    """Return the offer of a state that was cut."""
    return Offer(boundary, tuple(PartName(part.digest, len(part) == 1) for part in parts))


def compose_part(part: MapPart[Entry]) -> PartReply:
    """Return the entries of a part."""
    return PartReply(tuple((key, encode(entry)) for key, entry in part.items()))


def parse_offer(data: bytes) -> Offer:
    """Decode an offer; raise ``BadEncoding`` if it is out of bounds."""
    offer = decode(Offer, data, limit=OFFER_BYTES_MAX)
    count = len(offer.parts)
    if offer.boundary is None:
        if count:
            raise BadEncoding("parts of no snapshot")
    elif not 1 <= count <= 1 << DEPTH_MAX or count & (count - 1):
        raise BadEncoding(f"a snapshot of {count} parts")
    if any(len(part.digest) != len(NO_DIGEST) for part in offer.parts):
        raise BadEncoding("a part whose name is cut")
    return offer


def check_offer(genesis: Genesis, known: KnownEpoch, offer: Offer) -> KnownEpoch:
    """Return the epoch after the boundary of an offer, proved by the validators of ``known``, its epoch.

    Raises ``PeerFault`` unless these made the boundary final and all parts are under its state root.
    """
    boundary = offer.boundary
    if boundary is None or not is_last_of_epoch(genesis.epoch_blocks, boundary.height):
        raise BrokenPromise("a snapshot that is not of the end of an epoch")
    after = advance(genesis, known, boundary)
    if root_of_parts([(p.digest, p.is_single) for p in offer.parts]) != boundary.state_root:
        raise BrokenPromise("a snapshot whose parts are not those of the final header")
    return after


def check_part(offer: Offer, number: int, data: bytes) -> MapPart[Entry]:
    """Return a part that a peer sent; raise ``PeerFault`` unless it is the one that the offer names."""
    reply = decode(PartReply, data, limit=PART_BYTES_MAX)
    items = [(key, decode_entry(key, value)) for key, value in reply.entries]
    depth = (len(offer.parts) - 1).bit_length()
    part = MapPart[Entry].build(items, index=number, depth=depth)
    if part.digest != offer.parts[number].digest:
        raise BrokenPromise(f"part {number} of a snapshot is not the one that is final")
    return part


def join_state(genesis: Genesis, offer: Offer, parts: Sequence[MapPart[Entry]]) -> State:
    """Return the state of an offer and its parts, which were checked; raise ``PeerFault`` if they make none."""
    assert offer.boundary is not None, "checked"
    state = state_of(SparseMap[Entry].join(parts))
    check_state(genesis, offer.boundary, state)
    return state


def check_state(genesis: Genesis, boundary: Handoff, state: State) -> None:
    """Raise ``BrokenPromise`` unless this is the state after the header of a boundary."""
    if state.root != boundary.state_root or state.height != boundary.height:
        raise BrokenPromise("a snapshot that is not the state after its header")
    if state.chain != genesis.chain or state.validators != boundary.validators:
        raise BrokenPromise("a snapshot of another network, or with other validators")


def check_start(
    genesis: Genesis,
    handoffs: Sequence[Handoff],
    boundary: Handoff,
    state: State,
    trusted: TrustedEpoch | None = None,
) -> Head:
    """Return the head at a boundary to which handoffs lead from the genesis, or from a trusted epoch.

    Raises ``PeerFault`` if they do not, or if the state is not the one after it.
    """
    known = follow_handoffs(genesis, handoffs, trusted)
    if not is_last_of_epoch(genesis.epoch_blocks, boundary.height):
        raise BrokenPromise("a snapshot that is not of the end of an epoch")
    advance(genesis, known, boundary)
    check_state(genesis, boundary, state)
    return Head(handoff_digest(boundary, boundary.validators), state)


def check_earlier(data: bytes, below: Height, parent: Digest) -> tuple[Block, ...]:
    """Return blocks that a peer sent, newest first: the one below a height has the digest ``parent``.

    Raises ``PeerFault`` unless each is the parent of the one before. Who knows a final block knows by hashes
    alone that those before it are final.
    """
    blocks = decode(EarlierReply, data, limit=EARLIER_BYTES_MAX).blocks
    if len(blocks) > min(EARLIER_BLOCKS_MAX, below - 1):
        raise BadEncoding("a reply with more blocks than there are")
    for height, block in zip(range(below - 1, 0, -1), blocks, strict=False):
        check_block_shape(block)
        if block.header.height != height or block_digest(block.header) != parent:
            raise BrokenPromise(f"not the final block {height}")
        parent = block.header.parent
    return blocks


def oldest_needed(state: State) -> Height:
    """Return the first height whose block can still be asked for: by a dispute, an audit or a report.

    What its solver and its verifiers said is in the blocks; the state has only what it is judged by.
    """
    heights = [record.height for record in state.live_segments()]
    return Height(min([*heights, state.height + 1]))


def oldest_kept(state: State) -> Height:
    """Return the height from which on a node keeps blocks, unless it keeps all: those of the unbonding time, of
    the longest challenge window beyond that, and what is still needed.
    """
    params = state.params
    runs = (state.find_run(index) for index in state.globals.active_runs)
    windows = (run.spec.checks.challenge_window_blocks for run in runs if run is not None)
    span = params.unbonding_epochs * params.epoch_blocks + max(windows, default=0)
    return Height(max(min(state.height - span, oldest_needed(state)), 1))
