"""Define the requests and replies of bulk sync, prove a reply final, and choose whom to ask.

Core: frozen structs, pure checks, and a machine without I/O.

A reply is a run of blocks and ONE finalization, which makes all its ancestors final. If the last block has no
finalization of its own, bare headers lead from it to one that has. All of them are of one epoch: whoever reads
them knows its validators, and with the last block those of the next.
"""

from collections.abc import Callable, Sequence

from swarm.config.spec import Genesis
from swarm.errors import BadEncoding, BrokenPromise, OutOfTurn
from swarm.ledger.blocks import (
    BLOCK_BYTES_MAX,
    Block,
    Certificate,
    Header,
    Validator,
    block_digest,
    check_block_shape,
    epoch_of,
    last_height,
)
from swarm.ledger.chain import check_final
from swarm.ledger.state.state import check_genesis
from swarm.primitives.codec import Message, decode, encode, replace
from swarm.types import Digest, Height, PeerId

SYNC_PROTOCOL = "/swarm/ledger-sync/3"

WAIT_MS_MAX = 5_000
"""Milliseconds a server holds a request open for the next block, at most."""

REPLY_BLOCKS_BYTES = 1 << 20
"""Bytes of blocks in a reply: it ends with the first block that crosses this."""

REPLY_BLOCKS_MAX = 1024
REPLY_HEADERS_MAX = 256
"""Headers from the last block to a finalized one: finality may have stalled that long."""

AHEAD_MAX = 16
"""Blocks past its newest that a node waits for: who asks for later ones has no use for its next."""
FULL_REST_S = 30.0
"""Seconds for which a follower does not wait at a peer that was full; it may have room by then."""
FAILED_REST_S = 10.0
ASKS_MAX = 32
"""Requests to one peer in a turn."""
PROBE_TURNS = 4
"""Every so many turns a follower asks another peer what it has, first: the one that delivers may be late on
purpose. It does not wait there: two followers that wait for a block at each other both get none."""
UNCONNECTED_MAX = 4
"""Peers without a connection that are dialled in one turn, if those with one are all full or fail."""

REPLY_BYTES_MAX = REPLY_BLOCKS_BYTES + BLOCK_BYTES_MAX + (160 << 10)
GENESIS_BYTES_MAX = 8 << 20


class FollowRequest(Message, frozen=True):
    """Request for the final blocks from a height on."""

    from_height: Height
    """Height of the first block; 0 asks for the genesis instead."""
    wait_ms: int
    """Milliseconds to wait for the first block if there is none yet; at most ``WAIT_MS_MAX``."""


class FollowReply(Message, frozen=True):
    """Final blocks, oldest first; empty if there are none yet."""

    blocks: tuple[Block, ...]
    headers: tuple[Header, ...]
    """Headers after the last block, up to the one that the certificate names; mostly empty."""
    certificate: Certificate | None
    first: Height
    """Height from which on the sender has all blocks; it has pruned, or never had, those before."""
    is_full: bool
    """True if the sender holds as many waiting followers as it may: this one asks somebody else next."""


NOTHING_YET = FollowReply((), (), None, Height(1), is_full=False)

Read = Callable[[Height], tuple[Block, Certificate | None] | None]
"""Reader of a final block and its own finalization if it has one; None past the end."""


def parse_request(data: bytes) -> FollowRequest:
    """Decode a request; raise ``BadEncoding``."""
    request = decode(FollowRequest, data, limit=64)
    if request.from_height < 0 or not 0 <= request.wait_ms <= WAIT_MS_MAX:
        raise BadEncoding("a follow request out of bounds")
    return request


def parse_reply(data: bytes) -> FollowReply:
    """Decode a reply; raise ``BadEncoding``."""
    return decode(FollowReply, data, limit=REPLY_BYTES_MAX)


def compose_reply(from_height: Height, read: Read, epoch_blocks: int) -> FollowReply:
    """Return the blocks that can be proved final from ``from_height`` on, up to the end of its epoch.

    It is ``NOTHING_YET`` if none can.
    """
    blocks, num_bytes, proved = list[Block](), 0, 0
    height, certificate = from_height, None
    last = last_height(epoch_blocks, epoch_of(epoch_blocks, from_height))
    while num_bytes < REPLY_BLOCKS_BYTES and len(blocks) < REPLY_BLOCKS_MAX:
        link = read(height) if height <= last else None
        if link is None:
            break
        blocks.append(link[0])
        num_bytes += len(encode(link[0]))
        if link[1] is not None:
            proved, certificate = len(blocks), link[1]
        height = Height(height + 1)
    if certificate is not None:
        return replace(NOTHING_YET, blocks=tuple(blocks[:proved]), certificate=certificate)
    headers = list[Header]()
    while (
        len(headers) < REPLY_HEADERS_MAX and height <= last and (link := read(height)) is not None
    ):
        headers.append(link[0].header)
        if link[1] is not None:
            found = {"blocks": tuple(blocks), "headers": tuple(headers), "certificate": link[1]}
            return replace(NOTHING_YET, **found)
        height = Height(height + 1)
    return NOTHING_YET


def check_reply(
    reply: FollowReply,
    *,
    parent: Digest,
    height: Height,
    epoch: int,
    chain: Digest,
    validators: tuple[Validator, ...],
) -> tuple[Block, ...]:
    """Return the blocks of a reply that follow ``parent`` at ``height``, proved final.

    Cheap: hashes and one certificate. The blocks are still to be applied.

    Args:
        reply: The decoded reply of a peer.
        parent: Digest of the newest block here.
        height: Height of that block.
        epoch: Epoch of the block after it.
        chain: The chain id.
        validators: The validators of that epoch, whose quorum makes its blocks final.

    Raises:
        PeerFault: The reply is malformed, does not follow ``parent``, or is not proved final.
    """
    if not reply.blocks and not reply.headers and reply.certificate is None:
        return ()
    if not reply.blocks or reply.certificate is None:
        raise OutOfTurn("a reply with half of what it needs")
    if len(reply.blocks) > REPLY_BLOCKS_MAX or len(reply.headers) > REPLY_HEADERS_MAX:
        raise OutOfTurn("a reply with more blocks or headers than fit")
    for block in reply.blocks:
        check_block_shape(block)
    headers = [*(block.header for block in reply.blocks), *reply.headers]
    if any(header.epoch != epoch for header in headers):
        raise BrokenPromise(f"blocks of other epochs than {epoch}")
    _check_links(headers, parent, height, chain)
    check_final(headers[-1], reply.certificate, validators)
    return reply.blocks


def parse_genesis(data: bytes, chain16: bytes) -> Genesis:
    """Decode the genesis of a network whose chain id begins with ``chain16``; raise ``PeerFault``."""
    genesis = decode(Genesis, data, limit=GENESIS_BYTES_MAX)
    if len(chain16) < 16 or not genesis.chain.startswith(chain16):
        raise BrokenPromise("the genesis of another network")
    check_genesis(genesis)
    return genesis


def _check_links(headers: Sequence[Header], parent: Digest, height: Height, chain: Digest) -> None:
    for offset, header in enumerate(headers, start=1):
        if (header.chain, header.height, header.parent) != (chain, height + offset, parent):
            raise BrokenPromise(f"block {height + offset} does not follow the one before")
        parent = block_digest(header)


class Sources:
    """Peers that a follower asks for blocks, best first.

    The one that delivered last is asked again. It began with validators, as long as they have room: then with
    whoever is connected, and then with whoever is known. So followers form trees below the validators.
    """

    def __init__(self, start: int) -> None:
        self._turn = start
        self._source: PeerId | None = None
        self._full: dict[PeerId, float] = {}
        self._failed: dict[PeerId, float] = {}

    def order(
        self,
        connected: Sequence[PeerId],
        known: Sequence[PeerId],
        voters: frozenset[PeerId],
        now: float,
    ) -> list[PeerId]:
        """Return the peers to ask in this turn.

        Those that were full lately come after the others that are connected, since they send what is there but
        hold no request; then a few without a connection; and those that failed lately are last.
        """
        self._turn += 1
        for rests in (self._full, self._failed):
            for peer in [peer for peer, until in rests.items() if until <= now]:
                del rests[peer]
        near = frozenset(connected)
        far = _rotated([peer for peer in known if peer not in near], self._turn)[:UNCONNECTED_MAX]
        groups = (
            [peer for peer in connected if peer in voters],
            [peer for peer in connected if peer not in voters],
        )
        found = [peer for group in groups for peer in _rotated(group, self._turn)]
        if self._source in near:
            found.sort(key=lambda peer: peer != self._source)
        found = [*sorted(found, key=lambda peer: peer in self._full), *far]
        return sorted(found, key=lambda peer: peer in self._failed)

    def probed(self, connected: Sequence[PeerId]) -> PeerId | None:
        """Return a peer to ask, without waiting, whether the one that delivers is late; None in most turns."""
        others = [peer for peer in connected if peer != self._source]
        if self._source is None or self._turn % PROBE_TURNS or not others:
            return None
        return others[self._turn // PROBE_TURNS % len(others)]

    def delivered(self, peer: PeerId) -> None:
        """Note that a peer sent new blocks."""
        self._source = peer
        self._failed.pop(peer, None)

    def full(self, peer: PeerId, now: float) -> None:
        """Note that a peer holds as many requests as it may."""
        self._full[peer] = now + FULL_REST_S

    def failed(self, peer: PeerId, now: float) -> None:
        """Note that a peer did not answer, lied, had no news for long, or lacks the blocks that are needed."""
        self._failed[peer] = now + FAILED_REST_S
        if self._source == peer:
            self._source = None


def _rotated(peers: Sequence[PeerId], by: int) -> list[PeerId]:
    start = by % len(peers) if peers else 0
    return [*peers[start:], *peers[:start]]
