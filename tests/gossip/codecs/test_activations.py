"""What crosses a stage boundary decodes to one tensor on both sides, however small; junk is refused."""

import numpy as np
import pytest
import torch
from torch import Tensor

from swarm.errors import BadEncoding, UsageError
from swarm.gossip.codecs import int4
from swarm.gossip.codecs.activations import FORMS, from_wire, to_wire, wire_bytes
from swarm.gossip.codecs.int8 import BLOCK, CHUNK, LEVELS

SIZES = [1, 127, 128, 129, 1000, CHUNK, CHUNK + 129]


def some(numel: int, seed: int = 0) -> Tensor:
    return torch.randn(numel, generator=torch.Generator().manual_seed(seed))


@pytest.mark.rule("G25", "T3")
@pytest.mark.parametrize("form", FORMS)
def test_activations_travel_in_their_shape_and_decode_to_what_was_hashed(form: str) -> None:
    x = some(24).view(2, 3, 4)
    payload = to_wire(x, form)
    assert len(payload) == wire_bytes(form, x.numel())
    back = from_wire(payload, (2, 3, 4), form)
    assert (back.shape, back.dtype) == (x.shape, torch.float32)
    assert torch.equal(from_wire(to_wire(back, form), (2, 3, 4), form), back)


@pytest.mark.parametrize("form", FORMS)
def test_activations_of_a_strided_tensor_travel_in_c_order(form: str) -> None:
    x = some(12).view(3, 4).t()
    assert to_wire(x, form) == to_wire(x.contiguous(), form)


@pytest.mark.rule("G25")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(2, 3, 3), (24,), (25,), (0,)])
def test_a_payload_of_another_size_is_refused(form: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(BadEncoding):
        from_wire(to_wire(torch.zeros(20), form), shape, form)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 3.4e38])
def test_what_is_not_finite_is_not_sent(form: str, value: float) -> None:
    x = some(300)
    x[200] = value
    with pytest.raises(UsageError):
        to_wire(x, form)


def test_a_form_that_does_not_exist_is_our_own_mistake() -> None:
    for call in (lambda: to_wire(torch.ones(1), "fp8"), lambda: wire_bytes("fp8", 1)):
        with pytest.raises(UsageError):
            call()


@pytest.mark.rule("G25")
@pytest.mark.parametrize(("form", "levels"), [("int8", LEVELS), ("int4", int4.LEVELS)])
@pytest.mark.parametrize("numel", SIZES)
@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e-30, 1e30])
def test_every_value_is_kept_within_half_a_level_of_its_block(
    form: str, levels: int, numel: int, scale: float
) -> None:
    x = some(numel) * scale
    back = from_wire(to_wire(x, form), (numel,), form)
    for start in range(0, numel, BLOCK):
        block, got = x[start : start + BLOCK], back[start : start + BLOCK]
        # A peak that bfloat16 rounds down cuts off more: 2^-9 of it.
        most = (0.5 / levels + 2**-8) * float(block.abs().max())
        assert float((got - block).abs().max()) <= most


@pytest.mark.rule("G25")
def test_int4_costs_half_a_byte_a_value_beside_two_a_block() -> None:
    assert wire_bytes("int4", 100 * BLOCK) == 100 * (BLOCK // 2 + 2)
    assert wire_bytes("int4", 3) == 4
    assert not any(to_wire(torch.zeros(3 * BLOCK), "int4"))
    payload = to_wire(torch.tensor([7.0, -1.0, 2.0]), "int4")
    assert payload == b"\xe0\x40" + bytes([0xF7, 0x02])
    assert from_wire(payload, (3,), "int4").tolist() == [7.0, -1.0, 2.0]


@pytest.mark.rule("G25")
@pytest.mark.parametrize("byte", [0x08, 0x80, 0x88], ids=["low", "high", "both"])
def test_an_int4_level_that_no_encoder_writes_is_refused(byte: int) -> None:
    payload = bytearray(to_wire(some(200), "int4"))
    payload[50] = byte
    with pytest.raises(BadEncoding):
        from_wire(bytes(payload), (200,), "int4")


@pytest.mark.rule("G25")
def test_an_int4_level_behind_the_last_value_is_refused() -> None:
    payload = bytearray(to_wire(some(201), "int4"))
    assert payload[-1] < 16
    payload[-1] |= 0x10
    with pytest.raises(BadEncoding):
        from_wire(bytes(payload), (201,), "int4")


def test_int8_costs_two_bytes_a_block_beside_its_levels() -> None:
    assert wire_bytes("int8", 100 * BLOCK) == 100 * (BLOCK + 2)
    assert not any(to_wire(torch.zeros(3 * BLOCK), "int8"))
    payload = to_wire(torch.tensor([127.0, -1.0]), "int8")
    assert payload == b"\xfe\x42" + bytes([127, 255])


@pytest.mark.rule("G25")
@pytest.mark.parametrize(
    ("at", "value"),
    [(0, 0x7F80), (0, 0x7FC0), (0, 0xFF80), (0, 0xBF80), (1, 0x7F80)],
    ids=["infinite", "not a number", "minus infinity", "negative", "the last"],
)
def test_a_scale_that_no_encoder_writes_is_refused(at: int, value: int) -> None:
    payload = bytearray(to_wire(some(200), "int8"))
    payload[2 * at : 2 * at + 2] = value.to_bytes(2, "little")
    with pytest.raises(BadEncoding):
        from_wire(bytes(payload), (200,), "int8")


@pytest.mark.rule("G25")
def test_a_level_that_no_encoder_writes_is_refused() -> None:
    payload = bytearray(to_wire(some(200), "int8"))
    payload[50] = 0x80
    with pytest.raises(BadEncoding):
        from_wire(bytes(payload), (200,), "int8")


@pytest.mark.parametrize("form", ["int8", "int4"])
def test_any_other_bytes_decode_to_finite_values(form: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        payload = rng.bytes(wire_bytes(form, 200))
        try:
            back = from_wire(payload, (200,), form)
        except BadEncoding:
            continue
        assert bool(torch.isfinite(back).all())
