"""Yamux that copies a byte once on its way in, and not at all on its way out.

Shell: libp2p's own multiplexer with other buffers; its frames, windows and states are libp2p's.

Unguarded: a body is copied five times between the cipher and whoever reads the stream, and every frame is
described for a log that nobody keeps; both together cost more than the cipher.
"""

from collections import deque

import trio
from libp2p.stream_muxer.exceptions import MuxedStreamEOF, MuxedStreamReset
from libp2p.stream_muxer.yamux.yamux import Yamux

from swarm.host.closing import Untyped
from swarm.host.noise import NoiseSession
from swarm.types import Bytes

SMALL_BYTES = 4 << 10
"""Less than this is copied: to what lies before it in a pile, so that no peer makes us keep an object for each
byte, and behind its header, so that a short frame is one message of the cipher."""

_AGREED = ("negotiated_muxer_protocol", "negotiated_security_protocol")
"""What libp2p writes on a connection."""
BODY_S = 60.0
"""Time for the body of a frame once its header is there, as in libp2p."""


class ReceiveBuffer:
    """What has arrived on a stream and was not read: a ``bytearray`` as far as Yamux uses it, by reference."""

    def __init__(self) -> None:
        self._parts = deque[bytes | bytearray]()
        self._at = 0
        """Bytes of the first part that have been taken."""
        self._num_bytes = 0

    def __len__(self) -> int:
        return self._num_bytes

    def __bytes__(self) -> bytes:
        return self[: self._num_bytes]

    def __getitem__(self, part: slice) -> bytes:
        """The first ``part.stop`` bytes: in the time that these take, however many there are."""
        wanted, found = min(part.stop, self._num_bytes), list[Bytes]()
        first = self._parts[0] if self._parts else b""
        if wanted == len(first) and isinstance(first, bytes) and not self._at:
            return first
        at = self._at
        for one in self._parts:
            if wanted <= 0:
                break
            found.append(memoryview(one)[at : at + wanted])
            wanted -= len(found[-1])
            at = 0
        return b"".join(found)

    def __delitem__(self, part: slice) -> None:
        left = min(part.stop, self._num_bytes)
        self._num_bytes -= left
        self._at += left
        while self._parts and self._at >= len(self._parts[0]):
            self._at -= len(self._parts.popleft())

    def extend(self, data: bytes) -> None:
        """Put ``data`` behind the rest."""
        self._num_bytes += len(data)
        if len(data) >= SMALL_BYTES:
            self._parts.append(data)
        elif self._parts and isinstance(last := self._parts[-1], bytearray):
            last += data
        elif data:
            self._parts.append(bytearray(data))

    def clear(self) -> None:
        """Forget all of it."""
        del self[: self._num_bytes]


class WriteLock:
    """A ``trio.Lock`` that takes no turn of the loop where it is free; whoever waits still comes in order."""

    def __init__(self) -> None:
        self._lock = trio.Lock()

    async def __aenter__(self) -> None:
        try:
            self._lock.acquire_nowait()
        except trio.WouldBlock:
            await self._lock.acquire()

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()


class _Buffers(dict[int, ReceiveBuffer]):
    """The buffers of one connection: wherever Yamux begins an empty one, a pile."""

    def __setitem__(self, stream_id: int, empty: object) -> None:
        super().__setitem__(stream_id, ReceiveBuffer())


class GuardedYamux(Yamux):
    """One connection's streams."""

    def __init__(self, fresh: Yamux) -> None:
        """Take over a connection that has been agreed on and not been started."""
        super().__init__(
            fresh.secured_conn,
            fresh.peer_id,
            is_initiator=fresh.is_initiator_value,
            on_close=fresh.on_close,
        )
        self.stream_buffers = _Buffers()  # type: ignore[assignment]
        self._write_lock = WriteLock()  # type: ignore[assignment]
        for name in _AGREED:
            setattr(self, name, getattr(fresh, name, None))

    async def take(self, stream: Untyped, most: int) -> bytes:
        """What has arrived on a stream, ``most`` bytes of it, as soon as there is any; one task at a time.

        Raises like libp2p's own read, which takes three locks and gives credit after every frame; ours gives it
        when half of the window has been read.
        """
        number = stream.stream_id
        while True:
            pile: Untyped = self.stream_buffers.get(number)
            if pile is None or self.event_shutting_down.is_set():
                raise MuxedStreamReset if stream.reset_received else MuxedStreamEOF
            if pile and (stream.recv_closed or not stream.reset_received):
                break
            if stream.recv_closed and not stream.reset_received:
                raise MuxedStreamEOF
            if stream.closed or stream.reset_received:
                raise MuxedStreamReset
            await self.stream_events[number].wait()
            if number in self.stream_events:
                self.stream_events[number] = trio.Event()
        data: bytes = pile[:most]
        del pile[: len(data)]
        await self._taken(stream, len(data))
        return data

    async def _taken(self, stream: Untyped, num_bytes: int) -> None:
        """Keep libp2p's books: what is over is forgotten, and what was read may be sent again."""
        if stream.closed:
            await self._finalize_stream(stream, fully_closed=True)
        stream._pending_recv_release += num_bytes
        if stream._pending_recv_release >= stream.target_recv_window // 2:
            await stream._auto_tune_and_send_window_update()

    async def _read_data_body(self, length: int) -> bytes:
        if not isinstance(self.secured_conn, NoiseSession):
            return await super()._read_data_body(length)
        with trio.fail_after(BODY_S):
            return await self.secured_conn.read(length)

    async def _write_frame(self, data: bytes, body: Bytes = b"") -> None:
        """Write one frame: its header, and what else there is of it in ``body``."""
        async with self._write_lock:
            if len(body) < SMALL_BYTES or not isinstance(self.secured_conn, NoiseSession):
                await self.secured_conn.write(data + body)
            else:
                await self.secured_conn.write_pieces((data, body))


def guarded_streams(fresh: Untyped) -> Untyped:
    """The same connection with our buffers, if it is Yamux."""
    return GuardedYamux(fresh) if isinstance(fresh, Yamux) else fresh
