"""Define the messages of the gossip protocols, and what their signatures cover.

Core: pure functions.

A signature covers the digest of the network's genesis and the encoding of the message with an empty signature,
under the purpose "offer" or "receipt". Bounds that do not depend on the conversation are checked here;
``gossip/trade/pull.py`` checks the rest.
"""

from enum import IntEnum
from typing import cast

from swarm.errors import BadEncoding
from swarm.gossip.blobs.chunks import HASH_BYTES, BlobManifest
from swarm.primitives.codec import Message, decode, encode, replace
from swarm.primitives.commitments import TENSOR_CHUNK_BYTES
from swarm.primitives.crypto import SecretKey, fast_digest, verify
from swarm.types import Bytes, Digest, PeerId, RoundIndex, RunIndex, StageIndex

REQUEST_BYTES_MAX = 4 << 10
"""Bytes of the longest request on "exchange" or "blob": a few numbers, two hashes and a signature."""
REPLY_BYTES_MAX = (1 << 20) + (4 << 10)
"""Bytes of the longest reply: 1 MiB of chunks or chunk hashes, and their envelope."""
BLOB_CHUNKS_MAX = 4
"""Chunks of a blob in one reply: 4 MiB."""
BLOB_REPLY_BYTES_MAX = 1 + BLOB_CHUNKS_MAX * TENSOR_CHUNK_BYTES
BLOB_MESSAGE, BLOB_CHUNKS = 0, 1
"""First byte of a reply on "blob": an encoded message stands behind it, or the bytes of chunks as they are."""
EXCHANGE_CHUNK_BYTES = 64 << 10
"""Bytes of a trade's chunk: sent by a 1 Mbit/s uplink in half a second (docs/spec/training.md section 4)."""
CHUNKS_PER_REPLY_MAX = 16
"""Chunks in one reply: 1 MiB."""
NO_SIGNATURE = b""
"""Signature of a message before it is signed, and in the bytes that are signed."""
COUNT_MAX = (1 << 53) - 1
"""Largest counter in any message: exact in every language and every float64."""


class Codec(IntEnum):
    """Encoding of a payload (``gossip/codecs/int8.py``, ``gossip/codecs/int4.py``)."""

    INT8 = 0
    BF16 = 1
    INT4 = 2
    F32 = 3
    """Codec of the final averaging only: its replicas must agree on every bit."""
    INT3 = 4


class FragmentKey(Message, frozen=True):
    """Identity of a fragment on its way: run, stage, exchange, round and seat."""

    run: RunIndex
    stage: StageIndex
    exchange: int
    """Number of the exchange in its round: ``exchange % fragments`` is the fragment."""
    round: RoundIndex
    seat: int
    """Index of the seat that sends it."""


class OfferRequest(Message, frozen=True, tag=1):
    """Request for a seat's fragment; the seat may answer ``NotYet`` after ``wait_ms``."""

    key: FragmentKey
    to_seat: int
    """Index of the seat that asks."""
    anchor_root: Digest
    """Root of the requester's anchor of this fragment: int8 needs the same one on both sides."""
    wait_ms: int


class ChunkRequest(Message, frozen=True, tag=2):
    """Request for ``count`` chunks of an offered payload, from number ``first`` on."""

    payload_hash: Digest
    first: int
    count: int


class Receipt(Message, frozen=True, tag=3):
    """Signed confirmation by the receiver that the payload arrived whole; the sender keeps it."""

    key: FragmentKey
    to_seat: int
    payload_hash: Digest
    signature: bytes


class FirstChunks(Message, frozen=True, tag=4):
    """Request for chunks, as many as there are, of the payload that an equal ``OfferRequest`` is offered."""

    key: FragmentKey
    to_seat: int
    anchor_root: Digest
    first: int
    count: int


ExchangeRequest = OfferRequest | ChunkRequest | Receipt | FirstChunks


class Offer(Message, frozen=True, tag=3):
    """Signed statement by the sender that these bytes are its fragment."""

    key: FragmentKey
    incarnation: int
    """Starts of the sender's process: two offers contradict each other only within one incarnation."""
    step: int
    """Optimizer steps that the seat had taken in this run at the snapshot."""
    tokens: int
    """Tokens that the seat trained on since its last sync: its weight."""
    codec: Codec
    anchor_root: Digest
    payload_hash: Digest
    """Hash of the quantized bytes, before zstandard."""
    num_bytes: int
    """Bytes of the quantized payload."""
    wire_bytes: int
    """Bytes on the wire; equal to ``num_bytes`` if the payload is not compressed."""
    chunk_root: Digest
    """Root of the manifest of the bytes on the wire, in chunks of 64 KiB."""
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
    """Views of the message that was read, or of the payload they are taken from; not copied."""


class Taken(Message, frozen=True, tag=4):
    """Answer to ``Receipt``."""


class Busy(Message, frozen=True, tag=5):
    """Answer to ``OfferRequest`` of a fallback partner: enough others were admitted before."""


ExchangeReply = Offered | NotYet | Chunks | Taken | Busy


class ManifestRequest(Message, frozen=True, tag=1):
    """Request for the manifest of a blob."""

    root: Digest


class BlobChunksRequest(Message, frozen=True, tag=2):
    """Request for 1 MiB chunks of a blob, one behind the other."""

    root: Digest
    first: int
    count: int
    """Number of chunks, at most ``BLOB_CHUNKS_MAX``."""


BlobRequest = ManifestRequest | BlobChunksRequest


class BlobFound(Message, frozen=True, tag=1):
    """Answer to ``ManifestRequest``."""

    manifest: BlobManifest


class BlobMissing(Message, frozen=True, tag=3):
    """Answer to ``ManifestRequest`` and ``BlobChunksRequest``: the blob is not here."""


BlobReply = BlobFound | BlobMissing


def decode_exchange_request(raw: bytes) -> ExchangeRequest:
    """Decode a request on "exchange"; raises ``BadEncoding``."""
    kind = cast("type[ExchangeRequest]", ExchangeRequest)
    return decode(kind, raw, limit=REQUEST_BYTES_MAX)


def decode_exchange_reply(raw: bytes) -> ExchangeReply:
    """Decode a reply on "exchange"; raises ``BadEncoding``."""
    return decode(cast("type[ExchangeReply]", ExchangeReply), raw, limit=REPLY_BYTES_MAX)


def decode_blob_request(raw: bytes) -> BlobRequest:
    """Decode a request on "blob"; raises ``BadEncoding``."""
    return decode(cast("type[BlobRequest]", BlobRequest), raw, limit=REQUEST_BYTES_MAX)


def blob_reply(message: BlobReply) -> bytes:
    """Return a reply on "blob" that is a message."""
    return bytes([BLOB_MESSAGE]) + encode(message)


def decode_blob_reply(raw: bytes) -> BlobReply | memoryview:
    """Decode a reply on "blob"; the bytes of chunks are not copied. Raises ``BadEncoding``."""
    said = memoryview(raw)[1:]
    if raw[:1] == bytes([BLOB_CHUNKS]):
        return said
    if raw[:1] != bytes([BLOB_MESSAGE]):
        raise BadEncoding("neither a message nor chunks")
    return decode(cast("type[BlobReply]", BlobReply), said, limit=REPLY_BYTES_MAX)


def payload_digest(payload: Bytes) -> Digest:
    """Return the hash of a payload that offers and receipts name: of the quantized bytes, before zstandard."""
    return fast_digest("payload", payload)


def fragment_digest(offer: Offer) -> Digest:
    """Return the digest of what an offer says, without its form on the wire: a replay computes it again."""
    return fragment_content(
        offer.step, offer.tokens, offer.codec, offer.anchor_root, offer.payload_hash
    )


def fragment_content(
    step: int, tokens: int, codec: Codec, anchor_root: Digest, payload_hash: Digest
) -> Digest:
    """Return the digest of what an offer with these fields says."""
    return fast_digest("sent-fragment", encode((step, tokens, codec, anchor_root, payload_hash)))


def sign_offer(secret: SecretKey, chain: Digest, offer: Offer) -> Offer:
    """Return the offer, signed."""
    return replace(offer, signature=secret.sign("offer", chain, _unsigned(offer)))


def verify_offer(sender: PeerId, chain: Digest, offer: Offer) -> None:
    """Raise ``BadEncoding`` if a number is out of bounds, ``BadSignature`` unless ``sender`` signed."""
    check_key(offer.key)
    check_count("incarnation", offer.incarnation)
    check_count("step", offer.step)
    check_count("tokens", offer.tokens)
    verify(sender, offer.signature, "offer", chain, _unsigned(offer))


def sign_receipt(secret: SecretKey, chain: Digest, receipt: Receipt) -> Receipt:
    """Return the receipt, signed."""
    return replace(receipt, signature=secret.sign("receipt", chain, _unsigned(receipt)))


def verify_receipt(receiver: PeerId, chain: Digest, receipt: Receipt) -> None:
    """Raise ``BadEncoding`` if a number is out of bounds, ``BadSignature`` unless ``receiver`` signed."""
    check_key(receipt.key)
    check_count("seat", receipt.to_seat)
    verify(receiver, receipt.signature, "receipt", chain, _unsigned(receipt))


def check_key(key: FragmentKey) -> None:
    """Raise ``BadEncoding`` if a coordinate is not in [0, 2^53)."""
    for name in ("run", "stage", "exchange", "round", "seat"):
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
