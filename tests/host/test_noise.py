"""A session is libp2p's own on the wire, however the bytes are cut, and a cancelled writer breaks nothing."""

from collections.abc import Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing
from cryptography.exceptions import InvalidTag
from libp2p.io.exceptions import ConnectionClosedError, IncompleteReadError
from libp2p.security.noise.io import MAX_PLAINTEXT_LENGTH, NoiseTransportReadWriter

from swarm.host import libp2p_patches, noise
from swarm.host.noise import NoiseSession
from swarm.host.uplink import Uplink
from swarm.types import Bytes


class Pipe:
    """One end of a connection in memory; reads come in pieces of ``piece`` bytes."""

    def __init__(self, piece: int = 1 << 20) -> None:
        self.piece = piece
        self.unsent = 0
        self.room = 1 << 30
        """Bytes that are still taken."""
        self.incoming = bytearray()
        self.other: Pipe | None = None
        self.is_closed = False
        self.taking = trio.Event()
        self.taking.set()

    def put(self, messages: Sequence[Bytes]) -> int:
        if not self.taking.is_set():
            return 0
        assert self.other is not None
        data = b"".join(messages)[: self.room]
        self.other.incoming += data
        self.room -= len(data)
        return len(data)

    async def wait_for_room(self) -> None:
        await self.taking.wait()

    def hold_unsent(self, num_bytes: int) -> None:
        self.unsent = num_bytes

    async def read(self, n: int) -> bytes:
        await trio.lowlevel.checkpoint()
        taken = bytes(self.incoming[: min(n, self.piece)])
        del self.incoming[: len(taken)]
        return taken

    async def close(self) -> None:
        self.is_closed = True


class Plain:
    """No cipher: 16 bytes longer, like what is sealed; a change to them is detected."""

    def encrypt_with_ad(self, _: None, data: Bytes) -> bytes:
        return bytes(data) + bytes(16)

    def decrypt_with_ad(self, _: None, data: Bytes) -> bytes:
        if any(data[-16:]):
            raise InvalidTag
        return bytes(data[:-16])


def a_session(pipe: Pipe) -> NoiseSession:
    bare: Any = object.__new__(NoiseSession)
    ciphers = SimpleNamespace(cipher_state_encrypt=Plain(), cipher_state_decrypt=Plain())
    messages: Any = NoiseTransportReadWriter(pipe, SimpleNamespace(noise_protocol=ciphers))  # type: ignore[arg-type]
    for name in ("local_peer", "local_private_key", "remote_peer", "remote_permanent_pubkey"):
        setattr(bare, name, None)
    bare.is_initiator, bare.conn = True, messages
    return NoiseSession(bare)


def a_pair(piece: int) -> tuple[NoiseSession, NoiseSession, Pipe]:
    near, far = Pipe(piece), Pipe(piece)
    near.other, far.other = far, near
    return a_session(near), a_session(far), near


@pytest.mark.parametrize("piece", [1, 7, 1000, 65_537, 1 << 20])
@pytest.mark.parametrize("length", [1, 12, MAX_PLAINTEXT_LENGTH, MAX_PLAINTEXT_LENGTH + 1, 200_000])
async def test_bytes_arrive_as_they_were_sent(piece: int, length: int) -> None:
    near, far, _ = a_pair(piece)
    data = bytes(range(256)) * (length // 256 + 1)
    await near.write(data[:length])
    await near.write(b"tail")
    assert await far.read(0) == b""
    assert await far.read(length) == data[:length]
    assert await far.read(1) == b"t"
    assert await far.read(None) == b"ail"


@pytest.mark.parametrize("piece", [1, 7, 1000, 65_537, 1 << 20])
async def test_pieces_arrive_one_behind_the_other(piece: int) -> None:
    near, far, _ = a_pair(piece)
    body = bytes(range(256)) * 600
    await near.write_pieces((b"header", memoryview(body)[1:], b"", body))
    assert await far.read(6) == b"header"
    assert await far.read(2 * len(body) - 1) == body[1:] + body


@pytest.mark.rule("H20")
async def test_a_message_that_was_bent_on_its_way_ends_the_connection() -> None:
    near, far, pipe = a_pair(1 << 20)
    await near.write(b"whole")
    assert pipe.other is not None
    pipe.other.incoming[-1] ^= 1
    with pytest.raises(ConnectionClosedError):
        await far.read(5)


@pytest.mark.rule("H20")
async def test_an_end_between_messages_differs_from_one_within() -> None:
    near, far, pipe = a_pair(1 << 20)
    await near.write(b"whole")
    assert await far.read(5) == b"whole"
    with pytest.raises(IncompleteReadError) as clean:
        await far.read(1)
    assert clean.value.is_clean_close
    await near.write(b"half of this")
    assert pipe.other is not None
    del pipe.other.incoming[-3:]
    with pytest.raises(IncompleteReadError) as broken:
        await far.read(12)
    assert not broken.value.is_clean_close


async def test_an_empty_message_ends_the_connection() -> None:
    _, far, pipe = a_pair(1 << 20)
    assert pipe.other is not None
    pipe.other.incoming += b"\0\x10" + bytes(16)
    with pytest.raises(ConnectionClosedError):
        await far.read(1)


async def leave(session: NoiseSession, said: bytes) -> None:
    """Write, and be cancelled where that waits."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.write, said)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


@pytest.mark.rule("H20")
async def test_a_cancelled_writer_leaves_the_line_whole() -> None:
    near, far, pipe = a_pair(1 << 20)
    pipe.taking = trio.Event()
    await leave(near, b"first")
    pipe.taking.set()
    await near.write(b"second")
    assert await far.read(11) == b"firstsecond"


@pytest.mark.rule("H20")
@pytest.mark.parametrize("room", [0, 1, 50_000, 100_000, 256_000])
async def test_a_frame_whose_writer_left_is_finished_by_the_next_one(room: int) -> None:
    near, far, pipe = a_pair(1 << 20)
    frame = bytes(range(256)) * 1000
    left = trio.Event()

    async def full() -> None:
        left.set()
        await trio.sleep_forever()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pipe, "wait_for_room", full)
        pipe.room = room
        async with trio.open_nursery() as nursery:
            nursery.start_soon(near.write_pieces, (b"header", frame))
            await left.wait()
            nursery.cancel_scope.cancel()
    pipe.room = 1 << 30
    await near.write(b"next")
    assert await far.read(6 + len(frame) + 4) == b"header" + frame + b"next"


async def test_a_line_that_takes_much_is_a_quick_one_until_it_is_slow(
    autojump_clock: trio.testing.MockClock,
) -> None:
    near, _, pipe = a_pair(1 << 20)
    near.uplink = Uplink(1e6)
    for _ in range(20):
        await near.write(bytes(1 << 18))
    assert not near.is_quick, "an upload limit is a line, too"
    near.uplink = Uplink()
    await near.write(bytes(noise.QUICK_BYTES - 1))
    for _ in range(100):
        await near.write(bytes(10_000))
    assert not near.is_quick, "short writes say nothing"
    await near.write(bytes(1 << 18))
    assert near.is_quick
    assert pipe.unsent == noise.QUICK_TIMES * noise.UNSENT_BYTES

    async def room_later() -> None:
        await trio.sleep(0.01)
        pipe.taking.set()

    pipe.taking = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(room_later)
        await near.write(bytes(1 << 18))
    assert not near.is_quick
    assert pipe.unsent == noise.UNSENT_BYTES
    for number in range(8):
        assert not near.is_quick, number
        await near.write(bytes(1 << 18))
    assert near.is_quick


async def test_who_leaves_while_others_are_before_it_has_sent_nothing() -> None:
    near, far, pipe = a_pair(1 << 20)
    pipe.taking = trio.Event()
    for said in (b"first", bytes(1000)):
        await leave(near, said)
    pipe.taking.set()
    await near.write(b"third")
    assert await far.read(10) == b"firstthird"


@pytest.mark.rule("H6")
async def test_a_socket_that_has_room_again_is_not_judged_by_a_write_that_was_left_long_ago(
    autojump_clock: trio.testing.MockClock,
) -> None:
    near, far, pipe = a_pair(1 << 20)
    pipe.taking = trio.Event()
    await leave(near, bytes(200_000))
    pipe.taking.set()
    await trio.sleep(10 * noise.WRITE_S)
    await near.write(b"x")
    assert await far.read(200_001) == bytes(200_000) + b"x"


@pytest.mark.rule("H31")
async def test_what_a_writer_leaves_is_counted_until_it_is_sent() -> None:
    near, far, pipe = a_pair(1 << 20)
    held = list[int]()
    near.count = held.append
    pipe.taking = trio.Event()
    await leave(near, bytes(200_000))
    assert 200_000 < sum(held) < 201_000
    pipe.taking.set()
    await near.write(b"x")
    assert sum(held) == 0
    assert await far.read(200_001) == bytes(200_000) + b"x"


@pytest.mark.rule("H8")
@pytest.mark.parametrize("piece", [1000, 65_537, 1 << 20])
async def test_what_the_cipher_holds_is_counted_until_it_is_read(piece: int) -> None:
    near, far, _ = a_pair(piece)
    held, highest = 0, 0

    def count(num_bytes: int) -> None:
        nonlocal held, highest
        held += num_bytes
        highest = max(highest, held)

    far.count = count
    await near.write(bytes(200_000))
    assert await far.read(150_000) == bytes(150_000)
    assert highest > 65_000
    assert await far.read(50_000) == bytes(50_000)
    with pytest.raises(IncompleteReadError):
        await far.read(1)
    assert held == 0


@pytest.mark.rule("H31")
async def test_little_is_read_at_once_while_much_is_held_for_others() -> None:
    near, far, pipe = a_pair(1 << 20)
    far.is_short = lambda: True
    await near.write(bytes(60_000))
    await near.write(bytes(60_000))
    assert await far.read(1) == b"\0"
    assert pipe.other is not None
    assert len(pipe.other.incoming) > 120_000 - 5 * noise.SHORT_READ_BYTES


@pytest.mark.rule("H6")
async def test_a_peer_that_stops_reading_loses_the_connection(
    autojump_clock: trio.testing.MockClock,
) -> None:
    near, _, pipe = a_pair(1 << 20)
    pipe.taking = trio.Event()
    with pytest.raises(ConnectionClosedError):
        await near.write(b"never taken")
    assert trio.current_time() == pytest.approx(noise.WRITE_S)
    assert pipe.is_closed


@pytest.mark.rule("H1")
async def test_libp2ps_own_session_understands_ours(
    net: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One side with our reads and writes, the other with libp2p's."""
    async with net.a_host(1) as ours:
        monkeypatch.setattr(libp2p_patches, "quick", lambda secured, _: secured)
        async with net.a_host(2) as theirs:
            await net.meet(theirs, ours)
            (link,) = theirs._links.of(ours.peer)
            assert not isinstance(link.conn.muxed_conn.secured_conn, NoiseSession)
            question = b"abcdefgh" * 100_000
            for asker, answerer in ((ours, theirs), (theirs, ours)):
                answer = await asker.call(
                    answerer.peer, net.UPPER, question, timeout_s=20, reply_limit=1 << 20
                )
                assert answer == question.upper()
