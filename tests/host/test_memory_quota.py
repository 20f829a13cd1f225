"""What is held for others is bounded, and whoever holds the most makes room."""

import random

import pytest

from swarm.errors import Unreachable
from swarm.host.client import STREAMS_MAX
from swarm.host.memory_quota import (
    BULK_BYTES_MAX,
    BULK_PER_PEER_BYTES_MAX,
    ByteBudget,
    bulk_budget,
    small_budget,
)
from swarm.primitives.codec import FRAME_BYTES_MAX, LONGEST_FRAME_BYTES
from swarm.types import PeerId

ALICE, BOB, MALLORY = (PeerId(bytes([i]) * 32) for i in range(3))


def a_room() -> ByteBudget:
    return ByteBudget(per_peer_bytes_max=60, bytes_max=100)


@pytest.mark.rule("H5", "S5")
def test_one_peer_has_its_part_and_gets_it_back() -> None:
    room = a_room()
    number, evicted = room.admit(MALLORY, 60)
    assert evicted == ()
    with pytest.raises(Unreachable):
        room.admit(MALLORY, 1)
    assert room.admit(ALICE, 40)[1] == ()
    room.release(number)
    room.release(number)
    assert (room.of(MALLORY), room.num_bytes) == (0, 40)
    assert room.admit(MALLORY, 60)[1] == ()


@pytest.mark.rule("H5", "S5")
def test_whoever_holds_the_most_makes_room_oldest_first() -> None:
    room = a_room()
    first, _ = room.admit(MALLORY, 30)
    second, _ = room.admit(MALLORY, 30)
    room.admit(BOB, 30)
    assert room.admit(ALICE, 20)[1] == (first,)
    assert (room.of(MALLORY), room.of(BOB), room.of(ALICE)) == (30, 30, 20)
    assert room.admit(BOB, 20)[1] == ()
    room.arrived(second)
    with pytest.raises(Unreachable):
        room.admit(ALICE, 40)


@pytest.mark.rule("H5")
def test_what_has_arrived_is_not_pushed_out_and_nobody_pushes_out_the_poorer() -> None:
    room = a_room()
    number, _ = room.admit(MALLORY, 60)
    room.arrived(number)
    room.admit(BOB, 40)
    with pytest.raises(Unreachable):
        room.admit(ALICE, 1 + 40)
    assert room.admit(ALICE, 10)[1], "BOB holds more than ALICE will"
    before = (room.num_bytes, room.of(ALICE), room.of(MALLORY))
    with pytest.raises(Unreachable):
        room.admit(MALLORY, 40)
    assert (room.num_bytes, room.of(ALICE), room.of(MALLORY)) == before


@pytest.mark.rule("H5", "S5")
def test_a_peer_may_keep_every_stream_of_micro_batches_full_and_say_more() -> None:
    """And that is all: thirty of the longest frames are the room of everybody together."""
    room = bulk_budget()
    for _ in range(STREAMS_MAX):
        room.admit(ALICE, LONGEST_FRAME_BYTES)
    room.admit(ALICE, FRAME_BYTES_MAX)
    with pytest.raises(Unreachable):
        room.admit(ALICE, LONGEST_FRAME_BYTES)
    assert BULK_PER_PEER_BYTES_MAX < (72 << 20) + (1 << 20)
    assert BULK_BYTES_MAX == 256 << 20


@pytest.mark.rule("H5", "S5")
@pytest.mark.parametrize("room", [a_room(), small_budget(), bulk_budget()])
def test_no_order_of_offers_breaks_a_bound(room: ByteBudget, seed: int) -> None:
    dice, held = random.Random(seed), dict[int, None]()
    most, part = room._bytes_max, room._per_peer_bytes_max
    for _ in range(2_000):
        peer = PeerId(bytes([dice.randrange(12)]) * 32)
        match dice.randrange(3):
            case 0 if held:
                room.release(gone := dice.choice(sorted(held)))
                held.pop(gone)
            case 1 if held:
                room.arrived(dice.choice(sorted(held)))
            case _:
                try:
                    number, evicted = room.admit(peer, dice.randrange(part))
                except Unreachable:
                    continue
                held[number] = None
                for other in evicted:
                    del held[other]
        assert room.num_bytes <= most
        assert all(room.of(PeerId(bytes([i]) * 32)) <= part for i in range(12))
    for number in held:
        room.release(number)
    assert room.num_bytes == 0
    assert not room._by_peer
    assert not room._held


@pytest.mark.rule("H5", "S5")
def test_a_crowd_that_announces_everything_and_sends_nothing_pushes_out_itself() -> None:
    """Sixteen strangers ask for all they may have; a peer with an honest micro-batch is let in at once."""
    room = bulk_budget()
    for stranger in range(3, 19):
        for _ in range(16):
            try:
                room.admit(PeerId(bytes([stranger]) * 32), 4 << 20)
            except Unreachable:
                break
    assert room.num_bytes == 256 << 20
    assert room.admit(ALICE, 4 << 20)[1]
    assert room.of(ALICE) == 4 << 20
