"""Bombs, absurd values and lengths that are claimed: refused by type, in memory that the promise bounds."""

import random
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
import zstandard

from swarm.errors import BadEncoding, PeerFault
from swarm.gossip.codecs.activations import FORMS, from_wire, to_wire, wire_bytes
from swarm.gossip.codecs.int8 import decompress
from swarm.gossip.trade.messages import (
    BLOB_MESSAGE,
    REPLY_BYTES_MAX,
    Codec,
    decode_blob_reply,
    decode_blob_request,
    decode_exchange_reply,
    decode_exchange_request,
    payload_digest,
)
from swarm.gossip.trade.payload import encode_payload, open_payload, payload_bytes, read_payload
from swarm.primitives.codec import replace
from tests.gossip.builders import NUMEL, a_key, a_packed, a_snapshot

MAGIC = b"\x28\xb5\x2f\xfd"
SPARE_BYTES = 1 << 20
"""What a refusal may cost beside what was promised."""
ALL = list(Codec)
FLOAT_MAX = float(torch.finfo(torch.float32).max)


@contextmanager
def memory_of_at_most(num_bytes: int) -> Iterator[None]:
    """The peak inside, above what was held before."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] <= num_bytes
    finally:
        tracemalloc.stop()


def block(size: int, kind: int, *, is_last: bool) -> bytes:
    """A block's header; kind 1 is one byte repeated ``size`` times."""
    return (size << 3 | kind << 1 | is_last).to_bytes(3, "little")


def forged(claimed: int, makes: int, *, window_log: int = 17) -> bytes:
    """A frame that says it has ``claimed`` bytes, and unpacks to ``makes``: 4 bytes for each 128 KiB."""
    window = ((window_log - 10) << 3).to_bytes(1, "little")
    head = MAGIC + b"\xc0" + window + claimed.to_bytes(8, "little")
    blocks, left = b"", makes
    while left > 0:
        size = min(left, 1 << 17)
        left -= size
        blocks += block(size, 1, is_last=not left) + b"x"
    return head + (blocks or block(0, 0, is_last=True))


def test_the_forger_writes_what_the_library_reads() -> None:
    assert decompress(forged(300_000, 300_000), 300_000) == b"x" * 300_000


def bombs(num_bytes: int) -> dict[str, bytes]:
    many = zstandard.ZstdCompressor(level=1).compress(bytes(num_bytes))
    return {
        "claims a terabyte": forged(1 << 40, 1 << 20),
        "claims all there is": forged((1 << 64) - 1, 1 << 20),
        "makes more than it claims": forged(num_bytes, 64 << 20),
        "makes less than it claims": forged(num_bytes, num_bytes // 2),
        "makes nothing": forged(num_bytes, 0),
        "wants a window of 2 GiB": forged(num_bytes, num_bytes, window_log=31),
        "wants a window of 16 MiB": forged(num_bytes, num_bytes, window_log=24),
        "two frames": many + many,
        "hides behind a frame that is skipped": b"\x50\x2a\x4d\x18\x04\0\0\0abcd" + many,
        "skips forever": b"\x50\x2a\x4d\x18\xff\xff\xff\xff",
        "needs a dictionary": MAGIC + b"\x23\x01\x02\x03\x04" + many[5:],
    }


@pytest.mark.rule("G6", "S32")
@pytest.mark.parametrize("name", bombs(200_000))
def test_a_bomb_is_refused_in_the_memory_that_was_promised(name: str) -> None:
    num_bytes = 200_000
    wire = bombs(num_bytes)[name]
    with memory_of_at_most(num_bytes + SPARE_BYTES), pytest.raises(BadEncoding):
        decompress(wire, num_bytes)


@pytest.mark.rule("S3", "S32")
@pytest.mark.parametrize("codec", ALL)
def test_no_fragment_is_a_bomb_in_any_codec(codec: Codec) -> None:
    """Signed and hashed by a partner; the receiver knows how long a fragment is."""
    honest, anchor = a_packed(a_key(), codec=codec).offer, a_snapshot().anchor
    num_bytes = payload_bytes(codec, NUMEL)
    assert honest.num_bytes == num_bytes
    for wire in bombs(num_bytes).values():
        offer = replace(honest, wire_bytes=len(wire))
        with memory_of_at_most(num_bytes + SPARE_BYTES), pytest.raises(PeerFault):
            open_payload(offer, wire, anchor)


LIES = [
    (np.nan, False),
    (np.inf, False),
    (-np.inf, False),
    (FLOAT_MAX, True),
    (-FLOAT_MAX, True),
    (1e-40, True),
    (1e-45, True),
    (-0.0, True),
]
"""A value, and whether it is a number that can be computed with."""


def bits_of(codec: Codec, value: float) -> bytes:
    """The peak or the value as it lies first in a payload."""
    with np.errstate(over="ignore"):
        match codec:
            case Codec.F32:
                return np.array([value], "<f4").tobytes()
            case Codec.BF16:
                upper = np.array([value], "<f4").view("<u4") >> 16
                return upper.astype("<u2").tobytes()
            case Codec.INT8 | Codec.INT4 | Codec.INT3:
                limited = max(-65504.0, min(65504.0, value)) if np.isfinite(value) else value
                return np.array([limited], "<f2").tobytes()


@pytest.mark.rule("G4", "S10", "S31")
@pytest.mark.parametrize("codec", ALL)
@pytest.mark.parametrize(("value", "is_number"), LIES)
def test_a_value_in_a_fragment_is_finite_or_refused(
    codec: Codec, value: float, is_number: bool
) -> None:
    snapshot = a_snapshot()
    payload, _ = encode_payload(snapshot, codec)
    first = bits_of(codec, value)
    bent = first + payload[len(first) :]
    is_peak = codec in {Codec.INT8, Codec.INT4, Codec.INT3}
    if not is_number or (is_peak and value < -1):
        with pytest.raises(BadEncoding):
            read_payload(codec, bent, snapshot.anchor)
        return
    theta = read_payload(codec, bent, snapshot.anchor)
    assert theta.dtype == torch.float32
    assert theta.shape == snapshot.anchor.shape
    assert bool(torch.isfinite(theta).all())
    if codec is Codec.F32:
        assert float(theta[0]) == float(np.float32(value)), "denormals keep their bits"


@pytest.mark.rule("G4", "S31")
@pytest.mark.parametrize("codec", ALL)
def test_a_fragment_of_another_dtype_or_length_is_refused(codec: Codec) -> None:
    """The bytes of each codec, read as those of every other; one value more or less.

    Every payload of int3 is one of int4, too: the offer says which it is, and another codec than the run's is
    refused.
    """
    snapshot = a_snapshot()
    for other in ALL:
        payload = bytes(encode_payload(snapshot, other)[0])
        is_readable = other is codec or (other, codec) == (Codec.INT3, Codec.INT4)
        for bad in (payload[:-1], payload + b"\0", *([] if is_readable else [payload])):
            with memory_of_at_most(SPARE_BYTES), pytest.raises(BadEncoding):
                read_payload(codec, bad, snapshot.anchor)


@pytest.mark.rule("S10", "S31")
@pytest.mark.parametrize("codec", ALL)
def test_random_bytes_are_a_fragment_of_finite_values_or_refused(codec: Codec, seed: int) -> None:
    rng, anchor = random.Random(seed), a_snapshot().anchor
    for _ in range(100):
        payload = rng.randbytes(payload_bytes(codec, NUMEL))
        try:
            assert bool(torch.isfinite(read_payload(codec, payload, anchor)).all())
        except BadEncoding:
            continue


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("value", "is_number"), LIES)
def test_a_value_between_stages_is_finite_or_refused(
    form: str, value: float, is_number: bool
) -> None:
    shape = (2, 3, 50)
    payload = to_wire(torch.randn(shape, generator=torch.Generator().manual_seed(1)), form)
    bent = bits_of(Codec.BF16, value) + payload[2:]
    if not is_number or (form != "bf16" and value < -1):
        with pytest.raises(BadEncoding):
            from_wire(bent, shape, form)
        return
    x = from_wire(bent, shape, form)
    assert (x.dtype, x.shape) == (torch.float32, shape)
    assert bool(torch.isfinite(x).all())
    for bad in (b"", bent[:-1], bent + b"\0"):
        with pytest.raises(BadEncoding):
            from_wire(bad, shape, form)
    assert len(bent) == wire_bytes(form, 300)


DECODERS: list[Callable[[bytes], object]] = [
    decode_exchange_request,
    decode_exchange_reply,
    decode_blob_request,
    decode_blob_reply,
]
CLAIMS = [
    b"\xdd\xff\xff\xff\xff",  # an array of 2^32 - 1
    b"\xdc\xff\xff",
    b"\xdf\xff\xff\xff\xff",  # a map
    b"\xc6\xff\xff\xff\xff",  # bytes
    b"\xdb\xff\xff\xff\xff",  # text
    b"\xc9\xff\xff\xff\xff\x01",  # an extension
    b"\x91" * 2_000,  # nested
]


@pytest.mark.rule("S3", "S28")
@pytest.mark.parametrize("decoder", DECODERS, ids=lambda decoder: decoder.__name__)
def test_a_length_that_is_claimed_costs_nothing(decoder: Callable[[bytes], object]) -> None:
    """Alone, and wherever a field of a message may stand."""
    before = bytes([BLOB_MESSAGE]) if decoder is decode_blob_reply else b""
    for claim in CLAIMS:
        for fields in range(5):
            for tag in range(1, 5):
                head = bytes([0x90 + fields + 1, tag]) + b"\x01" * max(fields - 1, 0)
                with memory_of_at_most(SPARE_BYTES), pytest.raises(BadEncoding):
                    decoder(before + (head + claim if fields else claim))
    too_long = bytes(REPLY_BYTES_MAX + 1)
    with memory_of_at_most(SPARE_BYTES), pytest.raises(BadEncoding):
        decoder(too_long)


def test_what_is_hashed_is_what_is_opened() -> None:
    """A frame that unpacks to as many bytes as promised, and others."""
    codec, snapshot = Codec.BF16, a_snapshot()
    num_bytes = payload_bytes(codec, NUMEL)
    offer = replace(
        a_packed(a_key(), codec=codec).offer, payload_hash=payload_digest(bytes(num_bytes))
    )
    with pytest.raises(PeerFault, match="not the one promised"):
        open_payload(offer, forged(num_bytes, num_bytes), snapshot.anchor)
