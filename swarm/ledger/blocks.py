"""Define and check headers, blocks and the certificates that make blocks final.

Core: pure functions over frozen structs.

Block 0 is the genesis: it has no header, its digest is the chain id, and block 1 names it as its parent.
Blocks are counted in epochs of equal length. One set of validators votes on all blocks of an epoch, in views
that begin anew with it; the header of its last block names the set of the next one. A vote is a signature over
(chain, epoch, view, block digest) under the purpose of its kind; a certificate is a bitmap over the validators,
in the order of their set, with one vote per set bit, in the same order.
"""

from collections.abc import Sequence

from swarm.config.spec import Genesis
from swarm.errors import BadEncoding, BadSignature
from swarm.primitives.codec import Message, decode, encode
from swarm.primitives.crypto import digest, framed, verify
from swarm.primitives.merkle import merkle_root, sha256_hash
from swarm.types import NO_DIGEST, Amount, Digest, Height, PeerId, View

BODY_BYTES_MAX = 256 << 10
"""Bytes of a block's transactions together: four such blocks a second fit a home uplink of 10 Mbit/s."""

BODY_TRANSACTIONS_MAX = 2048
"""Most transactions in one block: under a second of signatures and arithmetic on one core."""

BLOCK_BYTES_MAX = BODY_BYTES_MAX + (16 << 10)
"""Bytes of an encoded block: its body, five bytes of length per transaction, and the header."""

VALIDATORS_MAX = 64
"""Most validators: their bitmap is one 64-bit integer."""

VRF_PROOF_BYTES = 80

NOTARIZE, NULLIFY, FINALIZE = 0, 1, 2
VOTE_PURPOSES = ("vote-notarize", "vote-nullify", "vote-finalize")
"""Signing purpose of each kind of vote and certificate, by number."""


class Header(Message, frozen=True):
    """Header of a block: the part that a certificate makes final."""

    chain: Digest
    height: Height
    epoch: int
    """Epoch of the block, and of the validators that vote on it."""
    view: View
    """View of the epoch in which it was proposed first."""
    parent: Digest
    state_root: Digest
    """Root of the state after this block."""
    body_root: Digest
    next_validators: Digest
    """Digest of the validators that vote on the block after this one (``validators_digest``)."""
    vrf_proof: bytes
    """ECVRF proof of the leader over ``vrf_alpha``; its output updates the beacon."""
    leader: PeerId


class Block(Message, frozen=True):
    """A header and the encoded, signed transactions under its body root."""

    header: Header
    transactions: tuple[bytes, ...]


class Certificate(Message, frozen=True):
    """Equal votes of more than two thirds of the power in one view."""

    kind: int
    """``NOTARIZE``, ``NULLIFY`` or ``FINALIZE``."""
    view: View
    block: Digest
    """Digest of the block voted for; ``NO_DIGEST`` if the view is nullified."""
    bitmap: int
    """Bitmap of the voters: bit i is set if validator i of the epoch's set voted."""
    signatures: tuple[bytes, ...]


class Validator(Message, frozen=True):
    """A validator and its voting power."""

    peer: PeerId
    power: Amount


class ValidatorSet(Message, frozen=True):
    """Validators of an epoch, sorted by peer: the preimage of ``Header.next_validators``."""

    validators: tuple[Validator, ...]


def validators_of(genesis: Genesis) -> tuple[Validator, ...]:
    """Return the validators of a genesis, in its order, with their stake as power."""
    stakes = {account.peer: account.stake for account in genesis.accounts}
    return tuple(Validator(peer, Amount(stakes.get(peer, 0))) for peer in genesis.validators)


def validators_digest(validators: Sequence[Validator]) -> Digest:
    """Return the digest under which a header names a set of validators: of its encoding, in its order."""
    return digest("validators", encode(ValidatorSet(tuple(validators))))


def is_quorum(power: int, validators: Sequence[Validator]) -> bool:
    """Return True if ``power`` is more than two thirds of the power of all validators."""
    return 3 * power > 2 * sum(validator.power for validator in validators)


class Outline(Message, frozen=True):
    """Fields of a header that prove what is under its state root; the others are hashed into ``tail``."""

    height: Height
    view: View
    """View of the epoch in which it was proposed first."""
    state_root: Digest
    tail: Digest
    """``tail_digest`` of the validators it names and of the rest of the header."""


def block_digest(header: Header) -> Digest:
    """Return the digest that identifies a block: of its outline, so that little proves it to a light client."""
    return outline_digest(outline_of(header))


def outline_of(header: Header) -> Outline:
    """Return the short form of a header."""
    tail = tail_digest(header.next_validators, rest_digest(header))
    return Outline(header.height, header.view, header.state_root, tail)


def outline_digest(outline: Outline) -> Digest:
    """Return the digest of the block with this outline."""
    return digest("block", encode(outline))


def tail_digest(next_validators: Digest, rest: Digest) -> Digest:
    """Return the part of an outline that names the next validators."""
    return digest("block-tail", next_validators, rest)


def rest_digest(header: Header) -> Digest:
    """Return the digest of the fields of a header that no light client reads."""
    parts = (header.chain, header.epoch, header.parent, header.body_root, header.vrf_proof)
    return digest("block-rest", encode((*parts, header.leader)))


def body_root(transactions: Sequence[bytes]) -> Digest:
    """Return the SHA-256 Merkle root over the encoded transactions, in their order."""
    return merkle_root(transactions, sha256_hash)


def epoch_of(epoch_blocks: int, height: int) -> int:
    """Return the epoch that contains a height."""
    return height // epoch_blocks


def last_height(epoch_blocks: int, epoch: int) -> Height:
    """Return the height of the last block of an epoch."""
    return Height((epoch + 1) * epoch_blocks - 1)


def is_last_of_epoch(epoch_blocks: int, height: int) -> bool:
    """Return True if the block of a height is the last one of its epoch."""
    return height == last_height(epoch_blocks, epoch_of(epoch_blocks, height))


def vote_parts(
    chain: Digest, epoch: int, view: View, block: Digest
) -> tuple[bytes, bytes, bytes, bytes]:
    """Return the parts a vote signs under ``VOTE_PURPOSES[kind]``: chain, epoch, view, block."""
    return chain, epoch.to_bytes(8, "big"), view.to_bytes(8, "big"), block


def vrf_alpha(chain: Digest, epoch: int, view: View, beacon: Digest) -> bytes:
    """Return the input of a leader's VRF proof; ``beacon`` is the one after the parent block."""
    return framed(
        "beacon-proof", (chain, epoch.to_bytes(8, "big"), view.to_bytes(8, "big"), beacon)
    )


def next_beacon(beacon: Digest, beta: bytes) -> Digest:
    """Return R_h, computed from R_{h-1} and the VRF output of the leader of block h."""
    return digest("beacon", beacon, beta)


def parse_block(data: bytes) -> Block:
    """Decode a block and check its sizes; raise ``BadEncoding``."""
    block = decode(Block, data, limit=BLOCK_BYTES_MAX)
    check_block_shape(block)
    return block


def check_block_shape(block: Block) -> None:
    """Raise ``BadEncoding`` unless every size is within bounds and the body matches the header's root."""
    header = block.header
    if not all(
        len(part) == 32
        for part in (
            header.chain,
            header.parent,
            header.state_root,
            header.body_root,
            header.next_validators,
            header.leader,
        )
    ):
        raise BadEncoding("a header field is not 32 bytes")
    lowest = min(header.height - 1, header.view - 1, header.epoch)
    if lowest < 0 or len(header.vrf_proof) != VRF_PROOF_BYTES:
        raise BadEncoding("a header field is out of bounds")
    if len(block.transactions) > BODY_TRANSACTIONS_MAX:
        raise BadEncoding(f"more than {BODY_TRANSACTIONS_MAX} transactions in a block")
    if sum(map(len, block.transactions)) > BODY_BYTES_MAX:
        raise BadEncoding(f"a body of more than {BODY_BYTES_MAX} bytes")
    if body_root(block.transactions) != header.body_root:
        raise BadEncoding("the body is not the one its header names")


def check_certificate(
    certificate: Certificate, chain: Digest, epoch: int, validators: Sequence[Validator]
) -> None:
    """Raise ``BadEncoding`` or ``BadSignature`` unless a quorum of the epoch's ``validators`` signed this."""
    bitmap, kind = certificate.bitmap, certificate.kind
    if kind not in {NOTARIZE, NULLIFY, FINALIZE} or certificate.view < 1:
        raise BadEncoding("no such kind of certificate")
    if len(certificate.block) != 32 or (kind == NULLIFY) != (certificate.block == NO_DIGEST):
        raise BadEncoding("a certificate names one block, and none when it nullifies")
    if not 0 <= bitmap < 1 << len(validators) or bitmap.bit_count() != len(certificate.signatures):
        raise BadEncoding("the bitmap does not fit validators and signatures")
    voters = [v for i, v in enumerate(validators) if bitmap >> i & 1]
    if not is_quorum(sum(voter.power for voter in voters), validators):
        raise BadSignature("a certificate without a quorum")
    parts = vote_parts(chain, epoch, certificate.view, certificate.block)
    for voter, signature in zip(voters, certificate.signatures, strict=True):
        verify(voter.peer, signature, VOTE_PURPOSES[kind], *parts)
