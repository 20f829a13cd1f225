"""Yamux that copies received bytes once, sent bytes not at all, and holds none that have no room.

Shell: libp2p's own multiplexer with other buffers; its frames, windows and states are libp2p's.

    header --fits the window of its stream--> cut into pieces --> unread --> read
       +-- longer --> fault, connection cut       +-- of no stream --> skipped

Unguarded: a body is copied five times between the cipher and the reader of the stream, and every frame is
described for a log that is not kept; both together cost more than the cipher. A peer has a frame of 16 MiB held
on each connection, whatever window it was granted, and streams without number.
"""

import contextlib
import math
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import trio
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.stream_muxer.exceptions import MuxedStreamEOF, MuxedStreamReset
from libp2p.stream_muxer.yamux.yamux import (
    DEFAULT_WINDOW_SIZE,
    FLAG_ACK,
    FLAG_FIN,
    FLAG_RST,
    FLAG_SYN,
    HEADER_SIZE,
    MAX_WINDOW_SIZE,
    TYPE_DATA,
    TYPE_WINDOW_UPDATE,
    YAMUX_HEADER_FORMAT,
    Yamux,
    YamuxStream,
)

from swarm.errors import PeerFault
from swarm.host.closing import Untyped, socket_under
from swarm.host.memory_quota import STREAMS_PER_PEER_MAX, UnreadBytes
from swarm.host.meter import Meter
from swarm.host.noise import NoiseSession, no_count
from swarm.host.paces import Work
from swarm.host.pacing import Pacing
from swarm.types import Bytes

SMALL_BYTES = 4 << 10
"""Bytes below which data is copied: to what lies before it in a pile, so that no peer makes us keep an object
for each byte, and behind its header, so that a short frame is one message of the cipher."""

_AGREED = ("negotiated_muxer_protocol", "negotiated_security_protocol")
"""Attributes that libp2p sets on a connection when the protocols are agreed."""
BODY_S = 60.0
"""Seconds for the body of a frame once its header is there, as in libp2p."""
PIECE_BYTES = 256 << 10
"""Most bytes of a body that are read at once: no frame of our own is longer (``streams.FRAME_BYTES_MAX``)."""
REPLY_BYTES_MIN = 1 << 10
"""Bytes from which a frame of an answer is not charged to its sender: we asked for it. In smaller frames an
answer could cost what it likes."""
STREAMS_OPEN_MAX = STREAMS_PER_PEER_MAX + 64
"""Inbound streams of one connection, those included that nobody serves yet, or any more."""


class Frame(NamedTuple):
    """Header of a frame."""

    kind: int
    flags: int
    stream_id: int
    length: int

    @classmethod
    def parse(cls, header: bytes) -> "Frame":
        """Read a header; its version is not looked at, as in libp2p."""
        return cls(*struct.unpack(YAMUX_HEADER_FORMAT, header)[1:])

    def pack(self) -> bytes:
        """Return the header as it is sent."""
        return struct.pack(YAMUX_HEADER_FORMAT, 0, *self)

    @property
    def opens(self) -> bool:
        """True if it opens a stream."""
        return bool(self.flags & FLAG_SYN) and self.kind in {TYPE_DATA, TYPE_WINDOW_UPDATE}

    def pieces(self, piece_bytes: int = PIECE_BYTES) -> list["Frame"]:
        """Return frames that say the same in shorter bodies: the first opens the stream, the last ends it."""
        starts = range(0, max(self.length, 1), piece_bytes)
        last = starts[-1]
        return [
            Frame(
                self.kind,
                (self.flags & (FLAG_SYN | FLAG_ACK) if start == 0 else 0)
                | (self.flags & (FLAG_FIN | FLAG_RST) if start == last else 0),
                self.stream_id,
                min(self.length - start, piece_bytes),
            )
            for start in starts
        ]


def check_window(frame: Frame, window_bytes: int) -> None:
    """Raise ``PeerFault`` if the body of a frame is longer than what its sender may send."""
    if frame.length > window_bytes:
        raise PeerFault(f"a frame of {frame.length} bytes where {window_bytes} may be sent")


class ReceiveBuffer:
    """Received and unread bytes of a stream, by reference: the part of ``bytearray`` that Yamux uses."""

    def __init__(self, count: Callable[[int], None] = no_count) -> None:
        """Make an empty buffer; ``count`` is told how many bytes more, or fewer, it holds."""
        self._count = count
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
        self._count(-left)
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
        self._count(len(data))

    def pop(self, most: int) -> list[bytes]:
        """Take at most ``most`` bytes from the front, in the pieces in which they lie."""
        found, left = list[bytes](), min(most, self._num_bytes)
        while left:
            first = self._parts[0]
            if self._at or len(first) > left or not isinstance(first, bytes):
                first = self[: min(left, len(first) - self._at)]
            found.append(first)
            left -= len(first)
            del self[: len(first)]
        return found

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

    def __init__(self, count: Callable[[int], None]) -> None:
        super().__init__()
        self._counted = count

    def __setitem__(self, stream_id: int, empty: object) -> None:
        super().__setitem__(stream_id, ReceiveBuffer(self._counted))

    def __delitem__(self, stream_id: int) -> None:
        self[stream_id].clear()
        super().__delitem__(stream_id)

    def pop(self, stream_id: int, default: Untyped = None) -> Untyped:
        """Drop the bytes of a stream and return its empty buffer."""
        if stream_id in self:
            self[stream_id].clear()
        return super().pop(stream_id, default)

    def clear(self) -> None:
        """Drop the bytes of every stream."""
        for buffer in self.values():
            buffer.clear()
        super().clear()


class GuardedYamux(Yamux):
    """Streams of one connection, with ``ReceiveBuffer`` buffers, fewer locks, and bounds on what is held."""

    def __init__(self, fresh: Yamux) -> None:
        """Take over a connection that has been agreed on and not been started."""
        super().__init__(
            fresh.secured_conn,
            fresh.peer_id,
            is_initiator=fresh.is_initiator_value,
            on_close=fresh.on_close,
        )
        self.stream_buffers = _Buffers(self._count)  # type: ignore[assignment]
        self._write_lock = WriteLock()  # type: ignore[assignment]
        self._unread: UnreadBytes[GuardedYamux] = UnreadBytes()
        self._blame: Callable[[GuardedYamux, PeerFault], None] = _no_blame
        self._is_cut = False
        self.pacing: Pacing | None = None
        """Accounts that the work for this connection is charged to; set before anything arrives."""
        self._meter = Meter()
        self._is_reply = False
        """True if the frame under way is a part of an answer that we asked for."""
        self._headers = deque[bytes]()
        """Headers that libp2p reads next: of the pieces of a frame whose body comes now."""
        self._body_ends_at = math.inf
        self.heard_at = -math.inf
        """Time at which the last bytes of a stream came in: who sends some is alive."""
        self.given_bytes = 0
        """Bytes of answers to our questions."""
        self._read = fresh.secured_conn.read
        self._read_some: Callable[[int], Awaitable[bytes]] = fresh.secured_conn.read
        """Read at most so many bytes of the connection, as soon as there are any."""
        self.secured_conn.read = self._next_header  # type: ignore[assignment, method-assign]
        if isinstance(fresh.secured_conn, NoiseSession):
            self._read_some = fresh.secured_conn.read_some
            fresh.secured_conn.count = self._count
            fresh.secured_conn.is_short = self._is_crowded
        for name in _AGREED:
            setattr(self, name, getattr(fresh, name, None))

    @property
    def is_quick(self) -> bool:
        """True if so much passes that a long frame holds up nothing."""
        return isinstance(self.secured_conn, NoiseSession) and self.secured_conn.is_quick

    def count_in(
        self,
        unread: "UnreadBytes[GuardedYamux]",
        blame: "Callable[[GuardedYamux, PeerFault], None]",
    ) -> None:
        """Count what arrives in ``unread``, and report each fault of the peer; before anything has arrived."""
        self._unread, self._blame = unread, blame

    # ---- what is held

    def _count(self, num_bytes: int) -> None:
        """Count bytes that arrived, or were read or dropped; cut the connection that holds too much."""
        if num_bytes < 0:
            self._unread.remove(self, -num_bytes)
        elif num_bytes and not self._is_cut:
            held = self._unread.of(self) + num_bytes
            over = self._unread.add(self, num_bytes)
            if over is not None:
                over.hang_up(PeerFault(f"{held} bytes unread, where all may hold less"))

    def _is_crowded(self) -> bool:
        return 2 * self._unread.num_bytes > self._unread.bytes_max

    def hang_up(self, fault: PeerFault) -> None:
        """Blame the peer, drop what it sent and end the connection; its reader finds that out by itself."""
        self._is_cut = True
        self._unread.forget(self)
        self._blame(self, fault)
        for buffer in self.stream_buffers.values():
            buffer.clear()
        with contextlib.suppress(OSError):
            socket_under(self.secured_conn).socket.shutdown(socket.SHUT_RDWR)

    async def handle_incoming(self) -> None:
        """Read frames until the connection ends; nothing of it counts any more then."""
        try:
            await self._meter.run(super().handle_incoming())
        finally:
            self._is_cut = True
            self._unread.forget(self)

    async def forget(self, stream: Untyped) -> None:
        """Drop what is left of a stream that nobody reads any more; what still arrives for it is skipped."""
        stream.closed = stream.send_closed = stream.recv_closed = True
        async with self.streams_lock:  # what arrived before it was taken would keep the stream
            if (pile := self.stream_buffers.get(stream.stream_id)) is not None:
                pile.clear()
            self._finalize_stream_locked(stream, fully_closed=True)

    # ---- frames

    async def _next_header(self, _: int | None = None) -> bytes:
        """Return the next header for libp2p, once its frame has been judged: what it reads of the connection
        beside bodies.
        """
        while not self._headers:
            await self._pay()
            frame = Frame.parse(await self._unless_cut(self._read(HEADER_SIZE)))
            try:
                await self._judge(frame)
            except PeerFault as fault:
                self.hang_up(fault)
                raise
        return self._headers.popleft()

    async def _pay(self) -> None:
        """Charge the frame before, and wait while its sender has had too much of this node."""
        cost_s, pacing = self._meter.take(), self.pacing
        if pacing is None or self._is_reply:
            return
        if payer := pacing.payer(self):
            pacing.spend(payer, cost_s)
            pacing.learn(payer, Work.FRAME, cost_s)
            await pacing.turn(payer, Work.FRAME)

    async def _judge(self, frame: Frame) -> None:
        """Let a frame in, cut into pieces, or skip it; raise ``PeerFault`` if it is longer than its window."""
        stream: Untyped = self.streams.get(frame.stream_id)
        if frame.length and frame.kind == TYPE_DATA:
            self.heard_at = trio.current_time()
        if stream is not None and stream.is_initiator:
            self.given_bytes += frame.length
        self._is_reply = (
            stream is not None and stream.is_initiator and frame.length >= REPLY_BYTES_MIN
        )
        if frame.kind != TYPE_DATA:
            if frame.opens and stream is None and self._is_full():
                await self._refuse(frame)
            else:
                self._headers.append(frame.pack())
            return
        if stream is not None:
            check_window(frame, stream.recv_window)
        else:
            # The end of a stream may cross with what its peer has sent within its window, whatever that was.
            check_window(frame, DEFAULT_WINDOW_SIZE if frame.opens else MAX_WINDOW_SIZE)
        self._body_ends_at = trio.current_time() + BODY_S
        if stream is not None and not frame.flags:
            await self._let_in(stream, frame.length)
            return
        if frame.opens == (stream is None) and not (frame.opens and self._is_full()):
            self._headers.extend(piece.pack() for piece in frame.pieces())
            return
        for piece in frame.pieces():
            await self._read_data_body(piece.length)
        if frame.opens:
            await self._refuse(frame)

    async def _let_in(self, stream: Untyped, length: int) -> None:
        """Put the body of a frame that says nothing else on the pile of its stream, as it comes.

        libp2p reads all of it first, under two locks, and describes it for a log that is not kept.
        """
        number = stream.stream_id
        with trio.fail_at(self._body_ends_at):
            while length > 0:
                data = await self._unless_cut(self._read_some(min(length, PIECE_BYTES)))
                length -= len(data)
                if number not in self.streams:
                    continue  # it was forgotten meanwhile
                pile = self.stream_buffers[number]
                pile.extend(data)
                stream.recv_window -= len(data)
                if length == 0 or len(pile) >= PIECE_BYTES:
                    self.stream_events[number].set()

    def _is_full(self) -> bool:
        inbound = sum(not stream.is_initiator for stream in self.streams.values())
        return inbound >= STREAMS_OPEN_MAX

    async def _refuse(self, frame: Frame) -> None:
        await self._write_frame(Frame(TYPE_WINDOW_UPDATE, FLAG_RST, frame.stream_id, 0).pack())

    async def _read_data_body(self, length: int) -> bytes:
        with trio.fail_at(self._body_ends_at):
            return await self._unless_cut(self._read(length))

    async def _unless_cut(self, reading: Awaitable[bytes]) -> bytes:
        """Return what was read; what a socket still has of a connection that was cut is not taken in."""
        data = await reading
        if self._is_cut:
            raise ConnectionClosedError("held too much", transport="tcp")
        return data

    async def take(self, stream: Untyped, most: int) -> bytes:
        """Return at most ``most`` bytes that arrived on a stream, as soon as there are any; one task at a time.

        Raises like libp2p's own read, which takes three locks and gives credit after every frame; this one
        gives it when half of the window has been read.
        """
        return b"".join(await self.take_pieces(stream, most))

    async def take_pieces(self, stream: Untyped, most: int) -> list[bytes]:
        """Return them like ``take``, in the pieces in which they arrived, so that none is copied."""
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
        pieces: list[bytes] = pile.pop(most)
        await self._taken(stream, sum(map(len, pieces)))
        return pieces

    async def _taken(self, stream: Untyped, num_bytes: int) -> None:
        """Update libp2p's state after a read: finalize a closed stream, give credit for what was read."""
        if stream.closed:
            await self._finalize_stream(stream, fully_closed=True)
        stream._pending_recv_release += num_bytes
        if stream._pending_recv_release >= stream.target_recv_window // 2:
            await stream._auto_tune_and_send_window_update()

    async def _write_frame(self, data: bytes, body: Bytes = b"") -> None:
        """Write one frame: ``data`` begins with its header, and ``body`` is the rest of it."""
        async with self._write_lock:
            if len(body) < SMALL_BYTES or not isinstance(self.secured_conn, NoiseSession):
                await self.secured_conn.write(data + body)
            else:
                await self.secured_conn.write_pieces((data, body))


_read_all = YamuxStream.read


async def read_stream(stream: Untyped, n: int | None = -1) -> bytes:
    """Return at most ``n`` bytes of a stream, for libp2p's own readers.

    Unguarded: each read of a few bytes is answered with a frame of credit, a dozen times where a protocol is
    agreed on; and it is credit for more than was read.
    """
    if isinstance(stream.conn, GuardedYamux) and n is not None and n > 0:
        return await stream.conn.take(stream, n)
    return await _read_all(stream, n)


def _no_blame(_connection: GuardedYamux, _fault: PeerFault) -> None:
    pass


def guarded_streams(fresh: Untyped) -> Untyped:
    """Return the connection with our buffers if it is Yamux, else as it is."""
    return GuardedYamux(fresh) if isinstance(fresh, Yamux) else fresh
