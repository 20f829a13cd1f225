"""Define the requests and replies of bulk sync, and prove a reply final.

Core: frozen structs and pure checks.

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
from swarm.primitives.codec import Message, decode, encode
from swarm.types import Digest, Height

SYNC_PROTOCOL = "/swarm/ledger-sync/3"

WAIT_MS_MAX = 5_000
"""Milliseconds a server holds a request open for the next block, at most."""

REPLY_BLOCKS_BYTES = 1 << 20
"""Bytes of blocks in a reply: it ends with the first block that crosses this."""

REPLY_BLOCKS_MAX = 1024
REPLY_HEADERS_MAX = 256
"""Headers from the last block to a finalized one: finality may have stalled that long."""

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


NOTHING_YET = FollowReply((), (), None)

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
        return FollowReply(tuple(blocks[:proved]), (), certificate)
    headers = list[Header]()
    while (
        len(headers) < REPLY_HEADERS_MAX and height <= last and (link := read(height)) is not None
    ):
        headers.append(link[0].header)
        if link[1] is not None:
            return FollowReply(tuple(blocks), tuple(headers), link[1])
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
    if reply == NOTHING_YET:
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
