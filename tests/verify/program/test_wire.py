"""Bytes on a wire and their values, in every format of a run, have the bits of the codecs."""

import random

import pytest
import torch
from torch import Tensor

from swarm.gossip.codecs.activations import from_wire, to_wire, wire_bytes
from swarm.gossip.trade.messages import Codec
from swarm.gossip.trade.payload import (
    FragmentPayload,
    encode_payload,
    payload_bytes,
    read_payload,
)
from swarm.training.model.exact.selftest import trusted_kernels
from swarm.types import NO_DIGEST, Bytes
from swarm.verify.program.nodes import Builder, Program
from swarm.verify.program.wire import CODECS, WIRES, Form, bytes_of, given_bytes, values_in
from tests.verify.program.test_microbatch import bits, on_wire

LENGTHS = (1, 2, 127, 128, 129, 385, (1 << 16) + 131)
FORMS = {**WIRES, **{codec.name: form for codec, form in CODECS.items()}}


def coded(form: Form, numel: int) -> Program:
    """The program that encodes ``x``, and decodes ``data``."""
    b = Builder()
    sent = bytes_of(b, b.given("x", numel), form, "wire")
    return b.program(
        sent=sent, read=values_in(b, given_bytes(b, "data", form, numel, "wire"), form, numel)
    )


def drawn(numel: int, seed: int) -> Tensor:
    """Values of many sizes, some of which are zero, halfway between two levels, or the peak of their block."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(numel, generator=rng) * torch.exp(2 * torch.randn(numel, generator=rng))
    x[::5] = 0.0
    x[128:256] = 0.0
    x[3::7] = (torch.randint(-14, 15, x[3::7].shape, generator=rng) / 2) * (x[:1].abs() + 1) / 7
    return x


def encoded(name: str, x: Tensor) -> Bytes:
    if name in WIRES:
        return to_wire(x, name)
    snapshot = FragmentPayload(x, torch.zeros_like(x), NO_DIGEST, 0, 0)
    return encode_payload(snapshot, Codec[name])[0]


def decoded(name: str, data: Bytes, numel: int) -> Tensor:
    if name in WIRES:
        return from_wire(bytes(data), (numel,), name)
    return read_payload(Codec[name], data, torch.zeros(numel))


def values_of(program: Program, x: Tensor, data: Bytes) -> list[Tensor]:
    return program.run(trusted_kernels().kernels, {"x": x, "data": on_wire(data)})


def check_elements(program: Program, values: list[Tensor], count: int) -> None:
    rng = random.Random(1)
    for number in range(len(program.nodes)):
        if program.nodes[number].operator == "input":
            continue
        numel = values[number].numel()
        places = range(numel) if numel <= count else [0, numel - 1, *rng.sample(range(numel), 40)]
        for at in places:
            one = program.element(number, (at,), values)
            assert torch.equal(bits(one.view(1)), bits(values[number][at].view(1)))
            assert one.dtype == values[number].dtype


@pytest.mark.rule("V38", "V39")
@pytest.mark.parametrize("numel", LENGTHS)
@pytest.mark.parametrize("name", FORMS)
def test_bytes_and_values_are_those_of_the_codec(name: str, numel: int) -> None:
    form, program = FORMS[name], coded(FORMS[name], numel)
    x = drawn(numel, numel)
    data = encoded(name, x)
    values = values_of(program, x, data)
    sent, read = (values[program.outputs[side]] for side in ("sent", "read"))
    assert sent.numpy().tobytes() == bytes(data)
    assert torch.equal(bits(read), bits(decoded(name, data, numel)))
    known = wire_bytes(name, numel) if name in WIRES else payload_bytes(Codec[name], numel)
    assert form.num_bytes(numel) == known == len(data)
    check_elements(program, values, 400)
