"""Quantized bytes are deterministic, near what they stand for, and nothing hostile gets through."""

import numpy as np
import pytest
import torch
import zstandard
from torch import Tensor

from swarm.errors import BadEncoding, UsageError
from swarm.gossip.codecs import native
from swarm.gossip.codecs.int8 import (
    BLOCK,
    CHUNK,
    LEVELS,
    compress,
    decode_bf16,
    decode_f32,
    decode_int8,
    decompress,
    encode_bf16,
    encode_f32,
    encode_int8,
    int8_bytes,
)


@pytest.fixture(autouse=True, params=[True, False], ids=["kernels", "tensors"])
def with_and_without_kernels(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the extension was not built, both are the same."""
    if not request.param:
        monkeypatch.setattr(native, "load", lambda: None)


SIZES = [1, 127, 128, 129, 1000, CHUNK, 2 * CHUNK + 129]


def some(numel: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(numel, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("numel", SIZES)
def test_int8_stays_within_half_a_level_of_the_difference(numel: int) -> None:
    anchor = some(numel)
    theta = anchor + some(numel, seed=1, scale=0.01)
    payload = encode_int8(theta, anchor)
    assert len(payload) == int8_bytes(numel)
    back = decode_int8(payload, anchor, numel)
    worst = float((theta - anchor).abs().max()) / LEVELS
    assert float((back - theta).abs().max()) <= 0.51 * worst + 1e-6


def test_int8_costs_one_byte_and_a_sixty_fourth_per_parameter() -> None:
    assert int8_bytes(BLOCK * 100) == BLOCK * 100 * (1 + 1 / 64)


def test_int8_of_the_anchor_itself_is_all_zeros_and_comes_back_exactly() -> None:
    anchor = some(300)
    payload = encode_int8(anchor, anchor)
    assert not any(payload)
    assert torch.equal(decode_int8(payload, anchor, 300), anchor)


@pytest.mark.parametrize("scale", [1e-30, 1e-9, 1e-6, 1e-4, 1e3])
def test_int8_of_tiny_and_huge_differences_never_leaves_its_peak(scale: float) -> None:
    zero = torch.zeros(256)
    theta = some(256, scale=scale)
    back = decode_int8(encode_int8(theta, zero), zero, 256)
    assert float(back.abs().max()) <= float(theta.abs().max()) * 1.001 + 6e-8


@pytest.mark.rule("G3")
def test_int8_layout_is_peaks_then_levels() -> None:
    theta = torch.zeros(130)
    theta[0], theta[1], theta[129] = 2.0, -1.0, -4.0
    payload = encode_int8(theta, torch.zeros(130))
    assert np.frombuffer(payload, "<f2", 2).tolist() == [2.0, 4.0]
    native = np.frombuffer(payload, "i1", offset=4)
    assert (native[0], native[1], native[129]) == (127, -64, -127)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e9])
def test_what_is_not_finite_or_too_far_is_not_encoded(bad: float) -> None:
    theta = torch.zeros(5)
    theta[3] = bad
    with pytest.raises(UsageError):
        encode_int8(theta, torch.zeros(5))


def by_the_book(theta: Tensor, anchor: Tensor) -> bytes:
    """The layout in as many words: whole-vector numpy, no chunks."""
    blocks = np.zeros((-(-len(theta) // BLOCK), BLOCK), np.float32)
    blocks.reshape(-1)[: len(theta)] = (theta - anchor).numpy()
    peaks = np.abs(blocks).max(1).astype("<f2")
    step = peaks.astype(np.float32) / np.float32(LEVELS)
    native = np.rint(blocks / np.where(step > 0, step, np.float32(1))[:, None])
    native = native.clip(-LEVELS, LEVELS).astype(np.int8).reshape(-1)[: len(theta)]
    return bytes(peaks.tobytes() + native.tobytes())


@pytest.mark.rule("G3")
@pytest.mark.parametrize("numel", SIZES)
def test_int8_in_chunks_has_the_bits_of_the_definition(numel: int) -> None:
    anchor = some(numel)
    theta = anchor + some(numel, seed=1, scale=0.01)
    assert encode_int8(theta, anchor) == by_the_book(theta, anchor)


def test_huge_but_finite_values_are_no_reason_to_refuse() -> None:
    anchor = torch.full((200,), 3e38)
    assert torch.equal(decode_int8(bytes(int8_bytes(200)), anchor, 200), anchor)
    with pytest.raises(BadEncoding):
        decode_int8(bytes(int8_bytes(200)), anchor * 2, 200)


def test_a_bf16_encoder_refuses_what_is_not_finite() -> None:
    with pytest.raises(UsageError):
        encode_bf16(torch.tensor([1.0, float("inf")]))


@pytest.mark.rule("G4")
@pytest.mark.parametrize(
    "payload",
    [
        b"",
        bytes(int8_bytes(200) - 1),
        bytes(int8_bytes(200) + 1),
        np.array([np.inf, 0], "<f2").tobytes() + bytes(200),
        np.array([np.nan, 0], "<f2").tobytes() + bytes(200),
        np.array([-1, 0], "<f2").tobytes() + bytes(200),
        np.array([1, 0], "<f2").tobytes() + b"\x80" + bytes(199),
    ],
    ids=["empty", "short", "long", "infinite peak", "nan peak", "negative peak", "level -128"],
)
def test_int8_that_no_encoder_writes_is_refused(payload: bytes) -> None:
    with pytest.raises(BadEncoding):
        decode_int8(payload, torch.zeros(200), 200)


@pytest.mark.rule("G3")
@pytest.mark.parametrize("numel", SIZES)
def test_bf16_keeps_eight_bits_of_every_value(numel: int) -> None:
    theta = some(numel)
    back = decode_bf16(encode_bf16(theta), numel)
    assert back.dtype == torch.float32
    assert float(((back - theta) / theta).abs().max()) <= 2**-8


@pytest.mark.rule("G4")
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_bf16_that_is_not_finite_is_refused(value: float) -> None:
    payload = torch.tensor([0.0, value]).to(torch.bfloat16).view(torch.int16).numpy().tobytes()
    with pytest.raises(BadEncoding):
        decode_bf16(payload, 2)


@pytest.mark.rule("G3")
def test_the_bits_do_not_depend_on_the_number_of_threads() -> None:
    anchor, theta = some(70_000), some(70_000, seed=1)
    before = torch.get_num_threads()
    try:
        payloads = set[bytes]()
        for threads in (1, 2):
            torch.set_num_threads(threads)
            payloads.add(bytes(encode_int8(theta, anchor)))
    finally:
        torch.set_num_threads(before)
    assert len(payloads) == 1


@pytest.mark.rule("G6")
def test_zstandard_is_used_where_it_pays_and_undone() -> None:
    dull, noise = bytes(10_000), np.random.default_rng(0).bytes(10_000)
    assert len(compress(dull)) < 100
    assert compress(noise) == noise
    assert decompress(compress(dull), 10_000) == dull
    assert decompress(noise, 10_000) == noise


def frame(payload: bytes, **options: bool) -> bytes:
    return zstandard.ZstdCompressor(**options).compress(payload)  # type: ignore[arg-type]


def wide_window() -> bytes:
    parameters = zstandard.ZstdCompressionParameters(window_log=24)
    writer = zstandard.ZstdCompressor(compression_params=parameters).compressobj(size=20 << 20)
    return writer.compress(bytes(20 << 20)) + writer.flush()


@pytest.mark.rule("G6", "S32")
@pytest.mark.parametrize(
    ("wire", "num_bytes"),
    [
        (frame(bytes(1 << 24)), 1000),
        (frame(bytes(1000)), 1001),
        (frame(bytes(1000), write_content_size=False), 1000),
        (frame(bytes(1000)) + b"more", 1000),
        (frame(bytes(1000))[:-1], 1000),
        (b"not a frame", 1000),
        (b"", 1000),
        (wide_window(), 20 << 20),
    ],
    ids=["bomb", "other size", "no size", "extra", "cut", "garbage", "empty", "wide window"],
)
def test_a_hostile_frame_is_refused_before_it_is_unpacked(wire: bytes, num_bytes: int) -> None:
    with pytest.raises(BadEncoding):
        decompress(wire, num_bytes)


@pytest.mark.rule("G4")
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_neither_sent_nor_read_as_it_is(value: float) -> None:
    theta_N = torch.tensor([1.0, value])
    with pytest.raises(UsageError):
        encode_f32(theta_N)
    with pytest.raises(BadEncoding):
        decode_f32(theta_N.numpy().tobytes(), 2)
    assert torch.equal(decode_f32(encode_f32(theta_N[:1]), 1), theta_N[:1])
