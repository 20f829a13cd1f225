"""Yamux that copies received bytes once, and sent bytes not at all.

Shell: libp2p's own multiplexer with other buffers; its frames, windows and states are libp2p's.

Unguarded: a body is copied five times between the cipher and the reader of the stream, and every frame is
described for a log that is not kept; both together cost more than the cipher.
"""

from collections import deque

import trio
from libp2p.stream_muxer.exceptions import MuxedStreamEOF, MuxedStreamReset
from libp2p.stream_muxer.yamux.yamux import Yamux

from swarm.host.closing import Untyped
from swarm.host.noise import NoiseSession
from swarm.types import Bytes

SMALL_BYTES = 4 << 10
"""Bytes below which data is copied: to what lies before it in a pile, so that no peer makes us keep an object
for each byte, and behind its header, so that a short frame is one message of the cipher."""

_AGREED = ("negotiated_muxer_protocol", "negotiated_security_protocol")
"""Attributes that libp2p sets on a connection when the protocols are agreed."""
BODY_S = 60.0
"""Seconds for the body of a frame once its header is there, as in libp2p."""


class ReceiveBuffer:
    """Received and unread bytes of a stream, by reference: the part of ``bytearray`` that Yamux uses."""

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
        """Return the first ``part.stop`` bytes, in time proportional to that many, however long the pile is."""
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
        """Drop all of it."""
        del self[: self._num_bytes]


class WriteLock:
    """Variant of ``trio.Lock`` that takes no turn of the loop when it is free; waiting tasks come in order."""

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
    """Buffers of one connection: where Yamux puts an empty one, there is a ``ReceiveBuffer``."""

    def __setitem__(self, stream_id: int, empty: object) -> None:
        super().__setitem__(stream_id, ReceiveBuffer())


class GuardedYamux(Yamux):
    """Streams of one connection, with ``ReceiveBuffer`` buffers and fewer locks."""

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
        """Return at most ``most`` bytes that arrived on a stream, as soon as there are any; one task at a time.

        Raises like libp2p's own read, which takes three locks and gives credit after every frame; this one
        gives it when half of the window has been read.
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
        """Update libp2p's state after a read: finalize a closed stream, give credit for what was read."""
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
        """Write one frame: ``data`` begins with its header, and ``body`` is the rest of it."""
        async with self._write_lock:
            if len(body) < SMALL_BYTES or not isinstance(self.secured_conn, NoiseSession):
                await self.secured_conn.write(data + body)
            else:
                await self.secured_conn.write_pieces((data, body))


def guarded_streams(fresh: Untyped) -> Untyped:
    """Return the connection with our buffers if it is Yamux, else as it is."""
    return GuardedYamux(fresh) if isinstance(fresh, Yamux) else fresh
