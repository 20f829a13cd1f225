"""Everything the gossip room says on a stream, and what its signatures cover.

Core: pure functions.

A signature covers the chain id and the encoding of the message with an empty signature, under the purpose
"offer" or "receipt". Bounds that do not depend on the conversation are checked here; ``gossip/trade/pull.py``
checks
the rest.
"""

from enum import IntEnum
from typing import cast

from swarm.errors import BadEncoding
from swarm.gossip.blobs.chunks import HASH_BYTES, BlobManifest
from swarm.primitives.codec import Message, decode, encode, replace
from swarm.primitives.crypto import SecretKey, fast_digest, verify
from swarm.types import Bytes, Digest, PeerId, RoundIndex, RunIndex, StageIndex

REQUEST_BYTES_MAX = 4 << 10
"""Longest request on "exchange" or "blob": a few numbers, two hashes and a signature."""
REPLY_BYTES_MAX = (1 << 20) + (4 << 10)
"""Longest reply: 1 MiB of chunks or chunk hashes, and what wraps them."""
EXCHANGE_CHUNK_BYTES = 64 << 10
"""A trade's chunk: what a 1 Mbit/s uplink sends in half a second (docs/spec/training.md section 4)."""
CHUNKS_PER_REPLY_MAX = 16
"""Chunks in one reply: 1 MiB."""
NO_SIGNATURE = b""
"""What stands in a message before it is signed, and in the bytes that are signed."""
COUNT_MAX = (1 << 53) - 1
"""Largest counter in any message: exact in every language and every float64."""


class Codec(IntEnum):
    """How a payload is encoded (``gossip/codecs/int8.py``, ``gossip/codecs/int4.py``)."""

    INT8 = 0
    BF16 = 1
    INT4 = 2
    F32 = 3
    """Of the rounds of consensus alone: whoever agrees, agrees on every bit."""


class FragmentKey(Message, frozen=True):
    """Which fragment of which seat in which round."""

    run: RunIndex
    stage: StageIndex
    fragment: int
    round: RoundIndex
    seat: int
    """Index of the seat that gives it."""


class OfferRequest(Message, frozen=True, tag=1):
    """Ask a seat for its fragment; it may answer ``NotYet`` after ``wait_ms``."""

    key: FragmentKey
    to_seat: int
    """Index of the seat that asks."""
    anchor_root: Digest
    """The asker's anchor of this fragment: int8 needs the same one on both sides."""
    wait_ms: int


class ChunkRequest(Message, frozen=True, tag=2):
    """Ask for ``count`` chunks of an offered payload, from number ``first`` on."""

    payload_hash: Digest
    first: int
    count: int


class Receipt(Message, frozen=True, tag=3):
    """The asker's word that the payload arrived whole; the giver keeps it."""

    key: FragmentKey
    to_seat: int
    payload_hash: Digest
    signature: bytes


class FirstChunks(Message, frozen=True, tag=4):
    """Ask for chunks, as many as there are, of what an ``OfferRequest`` in the same words is offered."""

    key: FragmentKey
    to_seat: int
    anchor_root: Digest
    first: int
    count: int


ExchangeRequest = OfferRequest | ChunkRequest | Receipt | FirstChunks


class Offer(Message, frozen=True):
    """A giver's signed word: this is my fragment, in these bytes."""

    key: FragmentKey
    step: int
    """Optimizer steps the seat has taken in this run when it took the snapshot."""
    tokens: int
    """Tokens the seat trained on since its last sync: its weight."""
    codec: Codec
    anchor_root: Digest
    payload_hash: Digest
    """Over the quantized bytes, before zstandard."""
    num_bytes: int
    """Length of the quantized bytes."""
    wire_bytes: int
    """Length of what travels; equal to ``num_bytes`` if it is not compressed."""
    chunk_root: Digest
    """Root of the manifest of what travels, in chunks of 64 KiB."""
    signature: bytes


class Offered(Message, frozen=True, tag=1):
    """Answer to ``OfferRequest``: the offer and the hashes of its chunks."""

    offer: Offer
    hashes: bytes


class NotYet(Message, frozen=True, tag=2):
    """Answer to ``OfferRequest`` and ``FirstChunks``: the seat has not reached this fragment yet; ask again."""


class Chunks(Message, frozen=True, tag=3):
    """Answer to ``ChunkRequest`` and ``FirstChunks``."""

    parts: tuple[memoryview, ...]
    """Views of the message that was read, or of the payload they are taken from: not copied."""


class Taken(Message, frozen=True, tag=4):
    """Answer to ``Receipt``."""


class Busy(Message, frozen=True, tag=5):
    """Answer to ``OfferRequest`` of a fallback partner: others like it were given this fragment already."""


ExchangeReply = Offered | NotYet | Chunks | Taken | Busy


class ManifestRequest(Message, frozen=True, tag=1):
    """Ask what a blob is."""

    root: Digest


class BlobChunkRequest(Message, frozen=True, tag=2):
    """Ask for one 1 MiB chunk of a blob."""

    root: Digest
    index: int


BlobRequest = ManifestRequest | BlobChunkRequest


class BlobFound(Message, frozen=True, tag=1):
    """Answer to ``ManifestRequest``."""

    manifest: BlobManifest


class BlobChunk(Message, frozen=True, tag=2):
    """Answer to ``BlobChunkRequest``."""

    data: bytes


class BlobMissing(Message, frozen=True, tag=3):
    """Answer to both: not here."""


BlobReply = BlobFound | BlobChunk | BlobMissing


def decode_exchange_request(raw: bytes) -> ExchangeRequest:
    """Read what came on "exchange"; raises ``BadEncoding``."""
    kind = cast("type[ExchangeRequest]", ExchangeRequest)
    return decode(kind, raw, limit=REQUEST_BYTES_MAX)


def decode_exchange_reply(raw: bytes) -> ExchangeReply:
    """Read the answer on "exchange"; raises ``BadEncoding``."""
    return decode(cast("type[ExchangeReply]", ExchangeReply), raw, limit=REPLY_BYTES_MAX)


def decode_blob_request(raw: bytes) -> BlobRequest:
    """Read what came on "blob"; raises ``BadEncoding``."""
    return decode(cast("type[BlobRequest]", BlobRequest), raw, limit=REQUEST_BYTES_MAX)


def decode_blob_reply(raw: bytes) -> BlobReply:
    """Read the answer on "blob"; raises ``BadEncoding``."""
    return decode(cast("type[BlobReply]", BlobReply), raw, limit=REPLY_BYTES_MAX)


def payload_digest(payload: Bytes) -> Digest:
    """What an offer and a receipt name: the quantized bytes, before zstandard."""
    return fast_digest("payload", payload)


def sign_offer(secret: SecretKey, chain: Digest, offer: Offer) -> Offer:
    """The offer, signed."""
    return replace(offer, signature=secret.sign("offer", chain, _unsigned(offer)))


def verify_offer(giver: PeerId, chain: Digest, offer: Offer) -> None:
    """Raise ``BadEncoding`` if a number is out of bounds, ``BadSignature`` unless ``giver`` signed."""
    check_key(offer.key)
    check_count("step", offer.step)
    check_count("tokens", offer.tokens)
    verify(giver, offer.signature, "offer", chain, _unsigned(offer))


def sign_receipt(secret: SecretKey, chain: Digest, receipt: Receipt) -> Receipt:
    """The receipt, signed."""
    return replace(receipt, signature=secret.sign("receipt", chain, _unsigned(receipt)))


def verify_receipt(taker: PeerId, chain: Digest, receipt: Receipt) -> None:
    """Raise ``BadEncoding`` if a number is out of bounds, ``BadSignature`` unless ``taker`` signed."""
    check_key(receipt.key)
    check_count("seat", receipt.to_seat)
    verify(taker, receipt.signature, "receipt", chain, _unsigned(receipt))


def check_key(key: FragmentKey) -> None:
    """Raise ``BadEncoding`` if a coordinate is negative or absurd."""
    for name in ("run", "stage", "fragment", "round", "seat"):
        check_count(name, getattr(key, name))


def check_root(root: Digest) -> None:
    """Raise ``BadEncoding`` unless a hash has 32 bytes: it becomes a file name."""
    if len(root) != HASH_BYTES:
        raise BadEncoding(f"a hash of {len(root)} bytes")


def check_count(name: str, value: int) -> None:
    """Raise ``BadEncoding`` unless ``value`` is in [0, 2^53)."""
    if not 0 <= value <= COUNT_MAX:
        raise BadEncoding(f"a {name} of {value}")


def _unsigned(message: Offer | Receipt) -> bytes:
    return encode(replace(message, signature=b""))
