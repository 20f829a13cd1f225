"""Gossip messages have one byte form, and a signature covers all of it."""

import pytest

from swarm.errors import BadEncoding, BadSignature
from swarm.gossip.blobs.chunks import blob_manifest
from swarm.gossip.trade.messages import (
    BLOB_CHUNKS,
    COUNT_MAX,
    REQUEST_BYTES_MAX,
    BlobChunksRequest,
    BlobFound,
    BlobMissing,
    ChunkRequest,
    Codec,
    FirstChunks,
    ManifestRequest,
    NotYet,
    Offered,
    OfferRequest,
    Receipt,
    Taken,
    blob_reply,
    check_root,
    decode_blob_reply,
    decode_blob_request,
    decode_exchange_reply,
    decode_exchange_request,
    sign_offer,
    sign_receipt,
    verify_offer,
    verify_receipt,
)
from swarm.primitives.codec import encode, replace
from swarm.types import NO_DIGEST, Digest
from tests.gossip.builders import ANCHOR_ROOT, CHAIN, RECEIVER, SENDER, a_key, a_packed, some_chunks

RECEIPT = sign_receipt(RECEIVER, CHAIN, Receipt(a_key(), 4, ANCHOR_ROOT, b""))
OFFER = a_packed(a_key()).offer


def test_every_exchange_message_comes_back_as_it_was() -> None:
    first = FirstChunks(a_key(), 4, ANCHOR_ROOT, 8, 8)
    offer = OfferRequest(a_key(), 4, ANCHOR_ROOT, 5)
    for request in (offer, first, ChunkRequest(NO_DIGEST, 0, 1), RECEIPT):
        assert decode_exchange_request(encode(request)) == request
    for reply in (Offered(OFFER, b""), NotYet(), some_chunks(b"a", b"b"), Taken()):
        assert decode_exchange_reply(encode(reply)) == reply


def test_every_blob_message_comes_back_as_it_was() -> None:
    for request in (ManifestRequest(NO_DIGEST), BlobChunksRequest(NO_DIGEST, 3, 2)):
        assert decode_blob_request(encode(request)) == request
    for reply in (BlobFound(blob_manifest(b"x", dtype="uint8", shape=(1,))), BlobMissing()):
        assert decode_blob_reply(blob_reply(reply)) == reply


def test_chunks_of_a_blob_are_not_copied() -> None:
    reply = bytes([BLOB_CHUNKS]) + b"chunks"
    decoded = decode_blob_reply(reply)
    assert isinstance(decoded, memoryview)
    assert decoded.obj is reply
    assert bytes(decoded) == b"chunks"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xc1",
        encode((9, 1)),
        encode(Taken()) + b"\x00",
        bytes(REQUEST_BYTES_MAX + 1),
        encode((1, (1, 0, 1, 5, 3), 4, ANCHOR_ROOT, 5, 6)),
        encode((1, (1, 0, 1, "5", 3), 4, ANCHOR_ROOT, 5)),
    ],
    ids=["empty", "garbage", "unknown tag", "trailing", "oversize", "extra field", "text"],
)
def test_garbage_is_refused(raw: bytes) -> None:
    with pytest.raises(BadEncoding):
        decode_exchange_request(raw)
    with pytest.raises(BadEncoding):
        decode_blob_request(raw)


@pytest.mark.rule("S7")
def test_an_offer_is_its_senders_on_one_chain_only() -> None:
    verify_offer(SENDER.peer, CHAIN, OFFER)
    with pytest.raises(BadSignature):
        verify_offer(RECEIVER.peer, CHAIN, OFFER)
    with pytest.raises(BadSignature):
        verify_offer(SENDER.peer, NO_DIGEST, OFFER)


@pytest.mark.rule("G8")
@pytest.mark.parametrize(
    "changes",
    [
        {"key": a_key(seat=9)},
        {"step": 51},
        {"tokens": 1},
        {"codec": Codec.BF16},
        {"anchor_root": NO_DIGEST},
        {"payload_hash": NO_DIGEST},
        {"num_bytes": 1},
        {"wire_bytes": 1},
        {"chunk_root": NO_DIGEST},
        {"signature": bytes(64)},
        {"signature": b""},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_no_field_of_an_offer_can_be_changed(changes: dict[str, object]) -> None:
    with pytest.raises(BadSignature):
        verify_offer(SENDER.peer, CHAIN, replace(OFFER, **changes))


@pytest.mark.parametrize("tokens", [-1, COUNT_MAX + 1])
def test_absurd_numbers_are_refused_even_when_signed(tokens: int) -> None:
    with pytest.raises(BadEncoding):
        verify_offer(SENDER.peer, CHAIN, sign_offer(SENDER, CHAIN, replace(OFFER, tokens=tokens)))
    with pytest.raises(BadEncoding):
        verify_receipt(RECEIVER.peer, CHAIN, replace(RECEIPT, to_seat=tokens))
    with pytest.raises(BadEncoding):
        verify_receipt(RECEIVER.peer, CHAIN, replace(RECEIPT, key=a_key(seat=tokens)))


def test_a_receipt_is_its_receivers_and_not_an_offer() -> None:
    verify_receipt(RECEIVER.peer, CHAIN, RECEIPT)
    with pytest.raises(BadSignature):
        verify_receipt(SENDER.peer, CHAIN, RECEIPT)
    with pytest.raises(BadSignature):
        verify_receipt(RECEIVER.peer, CHAIN, replace(RECEIPT, payload_hash=NO_DIGEST))


@pytest.mark.rule("S1")
def test_a_root_that_is_not_a_hash_never_becomes_a_file_name() -> None:
    check_root(NO_DIGEST)
    with pytest.raises(BadEncoding):
        check_root(Digest(b"../../etc/passwd"))
