"""All bytes are sealed once, in order, a few at a time, however the socket takes them."""

import random

import pytest
from libp2p.security.noise.io import MAX_PLAINTEXT_LENGTH

from swarm.host.sealing import LENGTH_BYTES, SEALED_BYTES, Outgoing
from swarm.types import Bytes

TAG = bytes(16)


class Seal:
    """No cipher: a tag behind what is sealed; the calls are noted."""

    def __init__(self) -> None:
        self.sealed = list[bytes]()

    def __call__(self, data: Bytes) -> bytes:
        self.sealed.append(bytes(data))
        return bytes(data) + TAG


def opened(wire: bytes) -> list[bytes]:
    """The messages on a wire."""
    found = list[bytes]()
    while wire:
        size = LENGTH_BYTES + int.from_bytes(wire[:LENGTH_BYTES], "big")
        found.append(wire[LENGTH_BYTES : size - len(TAG)])
        wire = wire[size:]
    return found


def moved(outgoing: Outgoing, room: int) -> bytes:
    """What a socket with room for so many bytes takes."""
    taken = b"".join(outgoing.messages())[:room]
    outgoing.taken(len(taken))
    return taken


@pytest.mark.rule("H20")
def test_what_is_added_comes_out_once_and_in_order(seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(30):
        seal, wire, said = Seal(), b"", b""
        outgoing = Outgoing(seal)
        for _ in range(5):
            pieces = [dice.randbytes(dice.choice((0, 1, 12, 5_000, 200_000))) for _ in range(3)]
            said += b"".join(pieces)
            outgoing.add(pieces)
            while outgoing and dice.random() < 0.9:
                wire += moved(outgoing, dice.choice((1, 100, 40_000, 1 << 20)))
            if dice.random() < 0.5:
                outgoing.keep()
        while outgoing:
            wire += moved(outgoing, 1 << 20)
        assert b"".join(opened(wire)) == said == b"".join(seal.sealed)
        assert outgoing.num_bytes() == 0


@pytest.mark.rule("H31")
def test_little_is_sealed_for_who_takes_nothing() -> None:
    seal = Seal()
    outgoing = Outgoing(seal)
    outgoing.add([b"header", bytes(1 << 20)])
    for _ in range(5):
        assert sum(map(len, outgoing.messages())) <= SEALED_BYTES + MAX_PLAINTEXT_LENGTH
    assert len(seal.sealed) == 2


def test_what_is_kept_is_of_its_own() -> None:
    outgoing, body = Outgoing(Seal()), bytearray(300_000)
    outgoing.add([memoryview(body)[:200_000]])
    moved(outgoing, 10)
    before = outgoing.num_bytes()
    outgoing.keep()
    body += b"can be resized: nobody looks into it"
    assert outgoing.num_bytes() == before > 200_000 - 10


def test_what_is_cleared_is_gone() -> None:
    outgoing = Outgoing(Seal())
    outgoing.add([bytes(100_000)])
    outgoing.messages()
    outgoing.clear()
    assert not outgoing
    assert outgoing.messages() == ()
    assert outgoing.num_bytes() == 0
