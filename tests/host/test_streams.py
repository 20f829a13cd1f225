"""Large bodies take turns, small ones pass between their frames, and no writer waits for credit in the
middle.
"""

from types import ModuleType

import pytest
import trio

from swarm.errors import PeerFault, Unreachable
from swarm.host.streams import FRAME_BYTES_MAX, WINDOW_BYTES_MAX, FrameStream
from swarm.types import PeerId

LARGE = 1 << 20


async def test_frames_of_every_length_come_back_as_they_went(net: ModuleType) -> None:
    async with net.hosts(2) as (alice, bob):
        await net.meet(alice, bob)
        for length in (0, 1, 2, 65_519, FRAME_BYTES_MAX - 4, FRAME_BYTES_MAX, LARGE):
            question = bytes(97 + i % 26 for i in range(length % 1000)) + b"z" * (
                length - length % 1000
            )
            answer = await alice.call(
                bob.peer, net.UPPER, question, timeout_s=20, reply_limit=max(1, length)
            )
            assert answer == question.upper()
        assert alice.faults() == bob.faults() == {}


@pytest.mark.rule("H4")
async def test_an_answer_one_byte_too_long_is_the_peers_fault(net: ModuleType) -> None:
    async with net.hosts(2) as (alice, bob):
        await net.meet(alice, bob)
        with pytest.raises(PeerFault):
            await alice.call(bob.peer, net.UPPER, bytes(LARGE + 1), timeout_s=5, reply_limit=LARGE)


@pytest.mark.rule("H19")
async def test_a_ping_passes_between_the_frames_of_large_answers(net: ModuleType) -> None:
    """The reader of eight large answers does not read: the ninth, small one is not behind them."""

    async def large(peer: PeerId, request: bytes) -> bytes:
        return bytes(LARGE)

    async with net.hosts(2) as (alice, bob):
        bob.serve("/swarm/large/1", large, request_limit=10)
        await net.meet(alice, bob)
        (link,) = alice._links.of(bob.peer)
        streams = [
            FrameStream(await alice._links.open_on(link, ["/swarm/large/1"])) for _ in range(8)
        ]
        for stream in streams:
            await stream.send(b"")
        assert await alice.call(bob.peer, net.UPPER, b"ping", timeout_s=5) == b"PING"
        for stream in streams:
            with trio.fail_after(20):
                assert await stream.receive(2 * LARGE) == b"\0" + bytes(LARGE)


@pytest.mark.rule("H8")
async def test_what_an_asker_grants_is_bounded(
    net: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with net.hosts(2) as (alice, bob):
        await net.meet(alice, bob)
        (link,) = alice._links.of(bob.peer)
        stream = FrameStream(await alice._links.open_on(link, [net.UPPER]))
        granted = list[int]()

        async def note(increment: int) -> None:
            granted.append(increment)

        monkeypatch.setattr(stream._muxed, "send_window_update", note)
        for _ in range(3):
            await stream.widen(1 << 40)
        assert len(granted) <= 1
        assert sum(granted) <= WINDOW_BYTES_MAX


async def test_a_stream_that_was_closed_takes_nothing(net: ModuleType) -> None:
    async with net.hosts(2) as (alice, bob):
        await net.meet(alice, bob)
        (link,) = alice._links.of(bob.peer)
        stream = FrameStream(await alice._links.open_on(link, [net.UPPER]))
        await stream.close()
        with pytest.raises(Unreachable):
            await stream.send(b"late")
