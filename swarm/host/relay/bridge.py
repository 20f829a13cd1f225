"""Carry bytes between two streams, and between a stream and a connection that is dialled through it.

Shell: two tasks for each circuit. libp2p's connections want a socket under them: one through a relay gets an
end of a pair of sockets, and its other end is carried to the stream. So such a connection is read, paced,
counted and cut as every other is; it costs one more copy, which next to the relay's own line is nothing.
"""

import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import trio
from libp2p.io.trio import TrioTCPStream

from swarm.errors import SwarmError
from swarm.host.streams import FrameStream
from swarm.types import PeerId

CHUNK_BYTES = 64 << 10
"""Bytes that are carried at once: one message of the cipher."""


class CircuitEnd(TrioTCPStream):
    """Socket under a connection that goes through a relay."""

    def __init__(self, end: trio.SocketStream, relay: PeerId, remote: tuple[str, int]) -> None:
        """Wrap one end of a pair; the connection counts as one from where the relay is."""
        super().__init__(end)
        self.relay = relay
        self._cached_remote_address = remote


def socket_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    """Return two sockets of this process, each the other end of the other."""
    one, other = trio.socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    return trio.SocketStream(one), trio.SocketStream(other)


async def carry(stream: FrameStream, end: trio.SocketStream) -> None:
    """Carry bytes both ways between a stream and a socket until one of them ends; close both."""
    near = _End(
        partial(end.receive_some, CHUNK_BYTES), end.send_all, partial(trio.aclose_forcefully, end)
    )
    await _both_ways(_end_of(stream), near)


async def join(
    one: FrameStream, other: FrameStream, *, num_bytes: int, pace: Callable[[int], float]
) -> None:
    """Carry bytes both ways between two streams until one ends or has sent ``num_bytes``; reset both.

    ``pace(num_bytes)`` returns the seconds to wait before so many are passed on.
    """
    ends = [_end_of(stream) for stream in (one, other)]
    for end in ends:
        end.put = _paced(end.put, num_bytes, pace)
    await _both_ways(*ends)


class _Spent(SwarmError):
    """Circuit that has carried what it may."""


@dataclass
class _End:
    read: Callable[[], Awaitable[bytes]]
    put: Callable[[bytes], Awaitable[None]]
    close: Callable[[], Awaitable[None]]


def _end_of(stream: FrameStream) -> _End:
    return _End(partial(stream.take_some, CHUNK_BYTES), stream.put, stream.reset)


def _paced(
    put: Callable[[bytes], Awaitable[None]], num_bytes: int, pace: Callable[[int], float]
) -> Callable[[bytes], Awaitable[None]]:
    left = num_bytes

    async def passed(data: bytes) -> None:
        nonlocal left
        left -= len(data)
        if left < 0:
            raise _Spent("this circuit has carried what it may")
        await trio.sleep(pace(len(data)))
        await put(data)

    return passed


async def _both_ways(one: _End, other: _End) -> None:
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_one_way, one, other, nursery.cancel_scope)
            nursery.start_soon(_one_way, other, one, nursery.cancel_scope)
    finally:
        await one.close()
        await other.close()


async def _one_way(source: _End, sink: _End, scope: trio.CancelScope) -> None:
    try:
        while data := await source.read():
            await sink.put(data)
    except (SwarmError, trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    scope.cancel()
