"""A pile is what Yamux takes it for, however frames are cut, and no peer makes it cost more than its bytes."""

import itertools
import random
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.peer.id import ID
from libp2p.stream_muxer.yamux.yamux import (
    FLAG_ACK,
    FLAG_FIN,
    FLAG_RST,
    FLAG_SYN,
    TYPE_DATA,
    Yamux,
    YamuxStream,
)

from swarm.errors import PeerFault
from swarm.host.streams import FRAME_BYTES_MAX
from swarm.host.yamux import (
    PIECE_BYTES,
    SMALL_BYTES,
    Frame,
    GuardedYamux,
    ReceiveBuffer,
    _Buffers,
    check_window,
)


@pytest.mark.parametrize("seed", range(30))
def test_a_pile_answers_like_a_bytearray(seed: int) -> None:
    rng = random.Random(seed)
    pile, model = ReceiveBuffer(), bytearray()
    for _ in range(60):
        match rng.randrange(7):
            case 0:
                size = rng.randrange(len(model) + 2)
                assert bytes(pile[:size]) == model[:size]
                del pile[:size], model[:size]
            case 2:
                size = rng.randrange(len(model) + 2)
                assert b"".join(pile.pop(size)) == model[:size]
                del model[:size]
            case 1:
                assert bytes(pile) == model
                pile.clear()
                model.clear()
            case _:
                piece = rng.randbytes(rng.choice([0, 1, 7, SMALL_BYTES - 1, 3 * SMALL_BYTES]))
                pile.extend(piece)
                model.extend(piece)
        assert len(pile) == len(model)
        assert bool(pile) == bool(model)
    assert bytes(pile) == model


def test_a_single_frame_is_not_copied() -> None:
    pile, frame = ReceiveBuffer(), bytes(SMALL_BYTES)
    pile.extend(frame)
    assert bytes(pile) is frame
    pile.extend(other := bytes(3 * SMALL_BYTES))
    taken = pile.pop(1 << 20)
    assert [piece is whole for piece, whole in zip(taken, (frame, other), strict=True)] == [
        True
    ] * 2
    assert len(pile) == 0


class Wire:
    """Connection on which the same frame comes again and again, the socket of which ends at nothing."""

    def __init__(self, frame: Frame) -> None:
        self._data = itertools.cycle(frame.pack() + bytes(frame.length))
        socket = SimpleNamespace(shutdown=lambda _: None)
        stream = SimpleNamespace(stream=SimpleNamespace(socket=socket))
        self.swarm_raw = SimpleNamespace(stream=stream)

    async def read(self, num_bytes: int) -> bytes:
        await trio.lowlevel.checkpoint()
        return bytes(itertools.islice(self._data, num_bytes))


async def test_a_body_is_on_its_pile_as_it_comes_and_skipped_once_its_stream_is_forgotten() -> None:
    wire: Any = Wire(Frame(TYPE_DATA, 0, 1, 3 * PIECE_BYTES))
    muxed = GuardedYamux(Yamux(wire, ID(b"peer"), is_initiator=True))
    stream = muxed.streams[1] = YamuxStream(1, muxed, True)
    muxed.stream_buffers[1], muxed.stream_events[1] = bytearray(), trio.Event()
    stream.recv_window = 10 * PIECE_BYTES
    async with trio.open_nursery() as nursery:
        nursery.start_soon(muxed._next_header)
        await muxed.stream_events[1].wait()
        assert len(muxed.stream_buffers[1]) >= PIECE_BYTES
        assert stream.recv_window == 10 * PIECE_BYTES - len(muxed.stream_buffers[1])
        stream.closed = True
        await muxed.forget(stream)
        for _ in range(500):
            await trio.lowlevel.checkpoint()
        assert not muxed.stream_buffers
        nursery.cancel_scope.cancel()


@pytest.mark.rule("H8", "S5")
async def test_attack_what_a_socket_still_has_of_a_connection_that_was_cut_is_not_taken_in() -> (
    None
):
    wire: Any = Wire(Frame(TYPE_DATA, FLAG_SYN, 1, 10_000))
    muxed = GuardedYamux(Yamux(wire, ID(b"mallory"), is_initiator=False))
    assert Frame.parse(await muxed._next_header()).length == 10_000
    muxed.hang_up(PeerFault("holds too much"))
    with pytest.raises(ConnectionClosedError):
        await muxed._read_data_body(10_000)
    with pytest.raises(ConnectionClosedError):
        await muxed._next_header()


@pytest.mark.rule("H19")
def test_frames_of_one_byte_cost_one_byte_each() -> None:
    pile = ReceiveBuffer()
    for _ in range(100_000):
        pile.extend(b"ab")
    assert len(pile) == 200_000
    assert len(pile._parts) == 1
    assert sys.getsizeof(pile._parts[0]) < 2 * len(pile)


def test_large_frames_and_small_ones_in_turns_cost_little_more() -> None:
    pile = ReceiveBuffer()
    for _ in range(100):
        pile.extend(bytes(SMALL_BYTES))
        pile.extend(b"a")
    assert len(pile._parts) == 200


@pytest.mark.rule("H19")
def test_a_pile_of_many_questions_is_read_in_the_time_of_one() -> None:
    """A peer sends megabytes of small questions at once, and each is read alone."""
    pile = ReceiveBuffer()
    for _ in range(8):
        pile.extend(bytes(1 << 20))
    taken = []
    for _ in range(100):
        view = pile[:64]
        del pile[:64]
        taken.append(view)
    assert len(pile) == (8 << 20) - 6400
    assert {len(one) for one in taken} == {64}
    assert len(pile._parts) == 8, "nothing was put together for it"


def test_a_small_frame_behind_one_that_is_half_read_joins_what_is_left() -> None:
    pile = ReceiveBuffer()
    pile.extend(b"abc")
    assert pile[:2] == b"ab"
    del pile[:2]
    pile.extend(b"def")
    assert bytes(pile) == b"cdef"
    pile.clear()
    pile.extend(b"gh")
    assert bytes(pile) == b"gh"


@pytest.mark.rule("H29")
@pytest.mark.parametrize("length", [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 5 * PIECE_BYTES])
@pytest.mark.parametrize("flags", [0, FLAG_SYN, FLAG_FIN, FLAG_SYN | FLAG_FIN, FLAG_ACK | FLAG_RST])
def test_a_frame_in_pieces_says_the_same(length: int, flags: int) -> None:
    """It opens its stream with the first piece, and ends it with the last."""
    pieces = Frame(TYPE_DATA, flags, 3, length).pieces()
    assert sum(piece.length for piece in pieces) == length
    assert max(piece.length for piece in pieces) <= PIECE_BYTES
    assert {piece.stream_id for piece in pieces} == {3}
    begin, end = FLAG_SYN | FLAG_ACK, FLAG_FIN | FLAG_RST
    assert pieces[0].flags & begin == flags & begin
    assert pieces[-1].flags & end == flags & end
    assert all(not piece.flags & begin for piece in pieces[1:])
    assert all(not piece.flags & end for piece in pieces[:-1])
    assert [Frame.parse(piece.pack()) for piece in pieces] == pieces


def test_no_frame_of_our_own_is_cut() -> None:
    assert FRAME_BYTES_MAX <= PIECE_BYTES


@pytest.mark.rule("H29")
def test_a_frame_may_fill_its_window_and_no_more() -> None:
    check_window(Frame(TYPE_DATA, 0, 1, 1000), 1000)
    with pytest.raises(PeerFault, match="1001 bytes where 1000"):
        check_window(Frame(TYPE_DATA, 0, 1, 1001), 1000)


@pytest.mark.rule("H8")
@pytest.mark.parametrize("seed", range(10))
def test_every_byte_of_a_pile_is_counted_until_it_is_read_or_dropped(seed: int) -> None:
    rng, counted = random.Random(seed), [0]

    def count(num_bytes: int) -> None:
        counted[0] += num_bytes

    buffers = _Buffers(count)
    for _ in range(200):
        number = rng.randrange(4)
        match rng.randrange(6):
            case 0:
                buffers.pop(number, None)
            case 1 if number in buffers:
                del buffers[number]
            case 2 if number in buffers:
                del buffers[number][: rng.randrange(9000)]
            case 3 if rng.random() < 0.1:
                buffers.clear()
            case _:
                if number not in buffers:
                    buffers[number] = bytearray()
                buffers[number].extend(bytes(rng.randrange(9000)))
        assert counted[0] == sum(map(len, buffers.values()))
