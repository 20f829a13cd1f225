"""int4 is half of int8, what it drops comes with the next payload, and nothing hostile gets through."""

import numpy as np
import pytest
import torch
from torch import Tensor

from swarm.errors import BadEncoding, UsageError
from swarm.gossip.codecs import native
from swarm.gossip.codecs.int4 import (
    INT3_LEVELS,
    LEVELS,
    Coded,
    decode_int3,
    decode_int4,
    encode_int3,
    encode_int4,
    encode_int4_once,
    int4_bytes,
    is_coarse,
)
from swarm.gossip.codecs.int8 import BLOCK, CHUNK, compress


@pytest.fixture(autouse=True, params=[True, False], ids=["kernels", "tensors"])
def with_and_without_kernels(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the extension was not built, both are the same."""
    if not request.param:
        monkeypatch.setattr(native, "load", lambda: None)


SIZES = [1, 2, 3, 127, 128, 129, 1000, CHUNK, CHUNK + 1, 2 * CHUNK + 129]


def some(numel: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(numel, generator=torch.Generator().manual_seed(seed))


def coded(numel: int) -> tuple[Tensor, Tensor, Tensor, Coded]:
    anchor, residual = some(numel), some(numel, seed=2, scale=0.001)
    theta = anchor + some(numel, seed=1, scale=0.01)
    return theta, anchor, residual, encode_int4(theta, anchor, residual)


@pytest.mark.rule("G22")
@pytest.mark.parametrize("numel", SIZES)
def test_what_is_sent_and_the_residual_sum_to_the_input(numel: int) -> None:
    theta, anchor, residual, sent = coded(numel)
    assert len(sent.payload) == int4_bytes(numel)
    decoded = decode_int4(sent.payload, anchor, numel)
    torch.testing.assert_close(decoded + sent.residual_N, theta + residual, atol=1e-6, rtol=0)
    worst = float((theta - anchor + residual).abs().max()) / LEVELS
    assert float(sent.residual_N.abs().max()) <= 0.51 * worst + 1e-6


def test_int4_costs_at_most_point_52_bytes_per_parameter() -> None:
    assert int4_bytes(BLOCK * 100) / (BLOCK * 100) == 0.515625


@pytest.mark.rule("G22a")
@pytest.mark.parametrize("numel", SIZES)
def test_int3_is_as_long_and_off_by_half_a_level_of_its_block_at_most(numel: int) -> None:
    theta, anchor, _, _ = coded(numel)
    payload = encode_int3(theta, anchor)
    assert len(payload) == int4_bytes(numel)
    off = (decode_int3(payload, anchor, numel) - theta).abs()
    for start in range(0, numel, BLOCK):
        block = slice(start, start + BLOCK)
        peak = float((theta - anchor)[block].abs().max())
        assert float(off[block].max()) <= 0.51 * peak / INT3_LEVELS + 1e-6


@pytest.mark.rule("G22a")
def test_int3_leaves_three_tenths_of_a_byte_on_the_wire_and_int4_four() -> None:
    theta, zero = some(1 << 18), torch.zeros(1 << 18)
    each = [
        len(compress(encode(theta, zero))) / (1 << 18) for encode in (encode_int3, encode_int4_once)
    ]
    assert 0.25 < each[0] < 0.32
    assert 0.40 < each[1] < 0.46


@pytest.mark.rule("G22a")
@pytest.mark.parametrize(
    "pairs", [b"\x04", b"\x0c", b"\x40", b"\xc0"], ids="4 -4 high-4 high--4".split()
)
def test_a_level_that_int3_does_not_have_is_refused(pairs: bytes) -> None:
    payload = pieces([1], pairs)
    assert decode_int4(payload, torch.zeros(2), 2).abs().max() == pytest.approx(4 / 7)
    with pytest.raises(BadEncoding):
        decode_int3(payload, torch.zeros(2), 2)


@pytest.mark.rule("G22")
def test_layout_is_peaks_then_pairs_of_levels_the_earlier_one_low() -> None:
    theta = torch.zeros(131)
    theta[0], theta[1], theta[2], theta[128], theta[130] = 7.0, -1.0, -7.0, 14.0, -14.0
    payload = encode_int4(theta, torch.zeros(131), torch.zeros(131)).payload
    assert np.frombuffer(payload, "<f2", 2).tolist() == [7.0, 14.0]
    assert payload[4:6] == bytes([0xF7, 0x09])
    assert payload[-2:] == bytes([0x07, 0x09])


def test_of_the_anchor_itself_everything_is_zero_and_nothing_is_left() -> None:
    anchor = some(300)
    sent = encode_int4(anchor, anchor, torch.zeros(300))
    assert not any(sent.payload)
    assert not bool(sent.residual_N.any())
    assert torch.equal(decode_int4(sent.payload, anchor, 300), anchor)


def test_error_feedback_says_everything_in_the_long_run() -> None:
    theta, anchor = some(512, seed=1, scale=0.01), torch.zeros(512)
    residual, total = torch.zeros(512), torch.zeros(512)
    for _ in range(64):
        sent = encode_int4(theta, anchor, residual)
        total += decode_int4(sent.payload, anchor, 512)
        residual = sent.residual_N
    torch.testing.assert_close(total / 64, theta, atol=1e-4, rtol=0)
    once = decode_int4(encode_int4(theta, anchor, torch.zeros(512)).payload, anchor, 512)
    assert float((once - theta).abs().max()) > 1e-3


@pytest.mark.rule("G22")
def test_a_payload_that_was_not_acknowledged_leaves_the_residual_as_it_was() -> None:
    theta, anchor, residual, first = coded(1000)
    copies = [x.clone() for x in (theta, anchor, residual)]
    assert encode_int4(theta, anchor, residual).payload == first.payload
    assert all(torch.equal(x, y) for x, y in zip((theta, anchor, residual), copies, strict=True))
    assert not torch.equal(first.residual_N, residual)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e9])
@pytest.mark.parametrize("where", [0, 1, 2], ids=["theta", "anchor", "residual"])
def test_what_is_not_finite_or_too_far_is_not_encoded(bad: float, where: int) -> None:
    parts = [torch.zeros(5) for _ in range(3)]
    parts[where][3] = bad
    with pytest.raises(UsageError):
        encode_int4(*parts)


def test_shapes_that_differ_are_the_callers_mistake() -> None:
    with pytest.raises(UsageError):
        encode_int4(torch.zeros(5), torch.zeros(5), torch.zeros(4))


def pieces(peaks: list[float], pairs: bytes) -> bytes:
    return np.array(peaks, "<f2").tobytes() + pairs


@pytest.mark.rule("G22")
@pytest.mark.parametrize(
    "payload",
    [
        b"",
        bytes(int4_bytes(201) - 1),
        bytes(int4_bytes(201) + 1),
        pieces([np.inf, 0], bytes(101)),
        pieces([np.nan, 0], bytes(101)),
        pieces([-1, 0], bytes(101)),
        pieces([1, 0], b"\x08" + bytes(100)),
        pieces([1, 0], b"\x80" + bytes(100)),
        pieces([1, 0], bytes(100) + b"\x10"),
    ],
    ids="empty short long infinite nan negative low-8 high-8 behind".split(),
)
def test_what_no_encoder_writes_is_refused(payload: bytes) -> None:
    with pytest.raises(BadEncoding):
        decode_int4(payload, torch.zeros(201), 201)


def test_a_value_that_leaves_float32_is_refused() -> None:
    anchor = torch.full((4,), 3.4e38)
    with pytest.raises(BadEncoding):
        decode_int4(pieces([65504], b"\x77\x77"), anchor * 2, 4)


def test_huge_but_finite_values_are_no_reason_to_refuse() -> None:
    anchor = torch.full((200,), 3e38)
    assert torch.equal(decode_int4(bytes(int4_bytes(200)), anchor, 200), anchor)


def test_the_bits_do_not_depend_on_the_number_of_threads() -> None:
    theta, anchor, residual, sent = coded(3 * CHUNK)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        again = encode_int4(theta, anchor, residual)
    finally:
        torch.set_num_threads(before)
    assert again.payload == sent.payload
    assert torch.equal(again.residual_N, sent.residual_N)


@pytest.mark.rule("G23")
@pytest.mark.parametrize(
    ("rounds", "coarse"), [(1, 0), (2, 1), (10, 9), (11, 9), (22, 19), (500, 450)]
)
def test_the_last_tenth_of_a_run_is_traded_finely(rounds: int, coarse: int) -> None:
    assert [is_coarse(r, rounds) for r in range(rounds)] == [r < coarse for r in range(rounds)]
