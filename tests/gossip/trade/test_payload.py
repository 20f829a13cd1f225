"""A payload says what was signed, in the codec that the round and both anchors call for, or is refused."""

import dataclasses

import pytest
import torch

from swarm.errors import BadEncoding, BrokenPromise, UsageError
from swarm.gossip.blobs.chunks import manifest
from swarm.gossip.codecs.int8 import encode_bf16
from swarm.gossip.trade.messages import (
    EXCHANGE_CHUNK_BYTES,
    Codec,
    payload_digest,
)
from swarm.gossip.trade.payload import (
    FragmentPayload,
    check_snapshot,
    choose_codec,
    encode_payload,
    open_payload,
    pack,
    read_payload,
)
from swarm.primitives.codec import replace
from swarm.types import NO_DIGEST, Digest
from tests.gossip.builders import (
    ANCHOR_ROOT,
    NUMEL,
    a_key,
    a_packed,
    a_snapshot,
)

OTHER_ROOT = Digest(b"\x0b" * 32)


@pytest.mark.rule("G5")
@pytest.mark.parametrize("common", list(Codec))
def test_the_runs_codec_needs_one_anchor_on_both_sides(common: Codec) -> None:
    assert choose_codec(common, ANCHOR_ROOT, ANCHOR_ROOT) is common
    other = Codec.F32 if common is Codec.F32 else Codec.BF16
    assert choose_codec(common, ANCHOR_ROOT, OTHER_ROOT) is other
    assert choose_codec(common, NO_DIGEST, NO_DIGEST) is other


def test_int4_leaves_a_residual_where_it_had_one() -> None:
    snapshot = a_snapshot()
    packed = a_packed(a_key(), codec=Codec.INT4)
    assert packed.residual is not None
    _, theta = open_payload(packed.offer, packed.wire, snapshot.anchor)
    assert snapshot.residual is not None
    due = snapshot.theta + snapshot.residual
    torch.testing.assert_close(theta + packed.residual, due, atol=1e-6, rtol=0)
    assert a_packed(a_key(), codec=Codec.INT8).residual is None
    once = pack(a_key(), dataclasses.replace(snapshot, residual=None), Codec.INT4)
    assert once.residual is None
    zero = dataclasses.replace(snapshot, residual=torch.zeros_like(snapshot.theta))
    assert once.offer == pack(a_key(), zero, Codec.INT4).offer


@pytest.mark.rule("S31")
@pytest.mark.parametrize("codec", list(Codec))
def test_a_scale_or_a_length_that_no_encoder_writes_is_refused(codec: Codec) -> None:
    """Signed by a partner, with the hash of what it sends: only the values are false."""
    snapshot = a_snapshot()
    payload = bytes(encode_payload(snapshot, codec)[0])
    for bad in (
        b"\xff\x7f\xff\x7f" + payload[4:],  # not a number, as float16, bfloat16 and float32
        payload[:-1],
        payload + b"\x00",
        b"",
    ):
        with pytest.raises(BadEncoding):
            read_payload(codec, bad, snapshot.anchor)
    if codec in {Codec.INT8, Codec.INT4, Codec.INT3}:
        for scale in (b"\x00\x7c", b"\x00\xbc"):  # infinite; negative
            with pytest.raises(BadEncoding):
                read_payload(codec, scale + payload[2:], snapshot.anchor)


@pytest.mark.rule("G8")
def test_a_payload_is_hashed_before_zstandard() -> None:
    snapshot = a_snapshot()
    flat = FragmentPayload(snapshot.anchor, snapshot.anchor, ANCHOR_ROOT, 1, 1)
    packed = pack(a_key(), flat, Codec.INT8)
    assert packed.offer.wire_bytes < packed.offer.num_bytes
    assert packed.offer.payload_hash == payload_digest(bytes(packed.offer.num_bytes))
    payload, theta = open_payload(packed.offer, packed.wire, snapshot.anchor)
    assert torch.equal(theta, snapshot.anchor)
    assert payload == bytes(packed.offer.num_bytes)


@pytest.mark.rule("G9", "S10")
def test_a_payload_that_does_not_unpack_to_its_promise_is_refused() -> None:
    anchor = a_snapshot().anchor
    honest = a_packed(a_key(), codec=Codec.BF16)
    wrong = replace(honest.offer, payload_hash=NO_DIGEST)
    with pytest.raises(BrokenPromise):
        open_payload(wrong, honest.wire, anchor)
    with pytest.raises(BadEncoding):
        open_payload(honest.offer, honest.wire[:-1], anchor)


@pytest.mark.rule("S10")
def test_a_payload_with_values_that_are_not_finite_is_refused() -> None:
    infinite = bytearray(encode_bf16(torch.zeros(NUMEL)))
    infinite[0:2] = b"\x80\x7f"
    payload = bytes(infinite)
    offer = replace(
        a_packed(a_key(), codec=Codec.BF16).offer,
        payload_hash=payload_digest(payload),
        wire_bytes=len(payload),
        chunk_root=manifest(payload, EXCHANGE_CHUNK_BYTES).root,
    )
    with pytest.raises(BadEncoding):
        open_payload(offer, payload, a_snapshot().anchor)


def test_a_snapshot_must_be_flat_float32_as_long_as_its_anchor() -> None:
    good = a_snapshot()
    check_snapshot(good)
    flat = good.theta
    for theta, anchor in (
        (flat.double(), good.anchor),
        (flat, good.anchor.half()),
        (flat.view(2, -1), good.anchor.view(2, -1)),
        (flat[1:], good.anchor),
        (flat[:0], good.anchor[:0]),
    ):
        with pytest.raises(UsageError):
            check_snapshot(FragmentPayload(theta, anchor, ANCHOR_ROOT, 1, 1))
