"""Send and receive length-prefixed frames, in order, over one stream.

Shell: the only read loop and the only write loop on streams.

A frame is a 4-byte big-endian length and that many bytes. A reply's first byte says whether it is an answer or
a refusal. A stream carries one request at a time; it may fall silent or break, and never delivers a frame in
part or out of order.
"""

import struct
from collections.abc import Callable
from typing import Any

import trio
from libp2p.abc import INetStream
from libp2p.exceptions import BaseLibp2pError
from libp2p.security.noise.io import MAX_PLAINTEXT_LENGTH
from libp2p.stream_muxer.yamux.yamux import TYPE_DATA, YAMUX_HEADER_FORMAT

from swarm.errors import PeerFault, Unreachable
from swarm.host.closing import Untyped, shielded
from swarm.host.noise import QUICK_TIMES
from swarm.types import Bytes

READ_BYTES = 512 * 1024
"""Most bytes read at once; libp2p's own read_exactly gives up after 100 short reads."""

HEAD_READ_BYTES = 4 * 1024
"""Bytes read of a request before it is admitted: the whole of a small one."""

FRAME_BYTES_MAX = 4 * MAX_PLAINTEXT_LENGTH
"""Payload bytes of one Yamux frame: it fills four Noise messages, behind a short one with its header. A small
message waits for at most one such frame, a tenth of a second at 20 Mbit/s. libp2p's own 65,524 bytes need two
each. On a quick line it is four times as long (``noise.QUICK_BYTES_PER_S``)."""

BULK_BYTES = 64 * 1024
"""Bytes above which bodies go out one after the other on one connection: the first asked for is the first
complete, and requests, pings and votes pass between their frames."""

WINDOW_BYTES_MAX = 5 << 20
"""Most bytes that a caller grants the replies of one stream at once, instead of Yamux's 256 KiB: no reply waits
for credit in the middle. libp2p doubles windows up to 16 MiB by itself; ``memory_quota.UnreadBytes`` bounds
what is held."""

WINDOW_POLL_S = 0.005
"""Seconds between a writer's checks that the reader took something. libp2p's own wait polls every 10 ms and
fails after 5 s, which a busy machine reaches; ours ends with the caller's deadline."""

HEADER_BYTES = 4
ANSWER, REFUSAL = 0, 1
VARINT_BITS_MAX = 28
REFUSAL_BYTES_MAX = 400
"""Bytes of a refusal, which is one sentence."""

LINK_ERRORS = (
    BaseLibp2pError,
    OSError,
    EOFError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
)
"""Errors that libp2p and trio raise, in one place or another, when a link breaks under us."""


class Declined(Unreachable):
    """Refusal of a peer that understood the request; the message is its reason."""


class NoReply(Unreachable):
    """Stream that broke before the first byte of a reply: asking again cannot yield a second reply."""


class FrameStream:
    """Frames over one libp2p stream. One task at a time may use it."""

    def __init__(
        self, stream: INetStream, *, count: Callable[[int, int], None] | None = None
    ) -> None:
        """Wrap ``stream``; ``count(sent_bytes, received_bytes)`` is called as bytes move."""
        self._stream = stream
        self._muxed: Any = stream.muxed_stream  # type: ignore[attr-defined]
        self._count = count
        self._bulk = _bulk_lock(self._muxed.conn)
        self._parts = list[bytes]()
        self._held = 0
        self.used_at = trio.current_time()

    @property
    def is_usable(self) -> bool:
        """True if the stream is open both ways and silent, as far as we know."""
        muxed = self._muxed
        ended = muxed.closed or muxed.send_closed or muxed.recv_closed or muxed.reset_received
        return not (ended or self._held or muxed.conn.event_shutting_down.is_set())

    @property
    def is_gone(self) -> bool:
        """True if the other side closed or reset the stream."""
        muxed = self._muxed
        return bool(
            muxed.closed
            or muxed.recv_closed
            or muxed.reset_received
            or muxed.conn.event_shutting_down.is_set()
        )

    async def send(self, body: Bytes, *, status: int | None = None) -> None:
        """Write one frame; ``status`` is put before the body. Raises ``Unreachable``."""
        prefix = b"" if status is None else bytes([status])
        head = (len(prefix) + len(body)).to_bytes(HEADER_BYTES, "big") + prefix
        try:
            await self._write(head, memoryview(body))
        except LINK_ERRORS as error:
            raise Unreachable(f"the link broke while sending ({_named(error)})") from None
        self.used_at = trio.current_time()

    async def _write(self, head: bytes, body: memoryview) -> None:
        """Write one frame after the other, each as large as the window allows.

        libp2p's own write takes five locks and as many turns of the loop for a quarter of a frame; one task at
        a time writes here, so that none of them protects anything.
        """
        sent, total = 0, len(head) + len(body)
        while sent < total:
            while self._muxed.send_window <= 0:
                self._check_open()
                await trio.sleep(WINDOW_POLL_S)
            if total > BULK_BYTES:
                async with self._bulk:
                    sent = await self._write_frames(head, body, sent)
            else:
                sent = await self._write_frames(head, body, sent)

    async def _write_frames(self, head: bytes, body: memoryview, sent: int) -> int:
        """Write on while the window allows; return how many bytes have been sent in all."""
        muxed, total = self._muxed, len(head) + len(body)
        most = FRAME_BYTES_MAX * (QUICK_TIMES if muxed.conn.is_quick else 1)
        while sent < total and muxed.send_window > 0:
            self._check_open()
            size = min(muxed.send_window, most, total - sent)
            muxed.send_window -= size
            header = struct.pack(YAMUX_HEADER_FORMAT, 0, TYPE_DATA, 0, muxed.stream_id, size)
            first, end = max(0, sent - len(head)), max(0, sent + size - len(head))
            await muxed.conn._write_frame(header + head[sent : sent + size], body[first:end])
            if self._count is not None:
                self._count(size, 0)
            sent += size
        return sent

    def _check_open(self) -> None:
        if self._muxed.send_closed or self._muxed.closed:
            raise Unreachable("the other side closed the stream")

    async def widen(self, window_bytes: int) -> None:
        """Let the other side send ``window_bytes``, at most ``WINDOW_BYTES_MAX``, before we read any."""
        muxed, window = self._muxed, min(window_bytes, WINDOW_BYTES_MAX)
        more = window - muxed.target_recv_window
        if more > 0:
            muxed.target_recv_window = window
            muxed.recv_window += more
            try:
                await muxed.send_window_update(more)
            except LINK_ERRORS as error:
                raise Unreachable(f"the link broke ({_named(error)})") from None

    async def announced(self, limit: int) -> int | None:
        """Return the length of the next frame, reading little of it; None if the stream ended before it.

        Raises like ``receive``, which reads it.
        """
        started = bool(self._held)
        try:
            await self._fill(HEADER_BYTES, HEAD_READ_BYTES)
        except LINK_ERRORS as error:
            if not started and not self._held:
                return None
            raise Unreachable(f"the link broke while receiving ({_named(error)})") from None
        size = int.from_bytes(b"".join(self._parts)[:HEADER_BYTES], "big")
        if size > limit:
            raise PeerFault(f"a frame of {size} bytes where at most {limit} are allowed")
        return size

    async def receive(self, limit: int) -> bytes | None:
        """Read one frame of at most ``limit`` bytes; return None if the stream ended before its first byte.

        Raises ``PeerFault`` if a longer one is announced, ``Unreachable`` if the stream breaks.
        """
        frame = await self._receive(limit, 0)
        return None if frame is None else frame[1]

    async def _receive(self, limit: int, head_bytes: int) -> tuple[bytes, bytes] | None:
        """Read one frame like ``receive``, and return its first ``head_bytes`` apart from the rest.

        A large body is copied only once that way.
        """
        started = bool(self._held)
        try:
            await self._fill(HEADER_BYTES)
            started = True
            if len(self._parts[0]) < HEADER_BYTES + head_bytes:
                self._parts = [b"".join(self._parts)]
            size = int.from_bytes(self._parts[0][:HEADER_BYTES], "big")
            if size > limit:
                raise PeerFault(f"a frame of {size} bytes where at most {limit} are allowed")
            await self._fill(HEADER_BYTES + size)
        except LINK_ERRORS as error:
            if not started:
                return None
            raise Unreachable(f"the link broke while receiving ({_named(error)})") from None
        self.used_at = trio.current_time()
        return self._cut(HEADER_BYTES + size, HEADER_BYTES + min(head_bytes, size))

    def _cut(self, end: int, begin: int) -> tuple[bytes, bytes]:
        """Take a whole frame out of what was read: return what stands before ``begin``, and after it."""
        parts = self._parts
        if len(parts[0]) < begin:
            parts = [b"".join(parts)]
        last, extra = parts[-1], self._held - end
        self._parts, self._held = ([last[len(last) - extra :]] if extra else []), extra
        head = parts[0][HEADER_BYTES:begin]
        views = [memoryview(part) for part in parts]
        views[-1] = views[-1][: len(last) - extra]
        views[0] = views[0][begin:]
        return head, b"".join(views)

    async def _fill(self, num_bytes: int, at_once: int = READ_BYTES) -> None:
        """Read until this many bytes are held."""
        while self._held < num_bytes:
            pieces: list[bytes] = await self._muxed.conn.take_pieces(self._muxed, at_once)
            num_taken = sum(map(len, pieces))
            if self._count is not None:
                self._count(0, num_taken)
            self._parts += pieces
            self._held += num_taken

    async def send_line(self, body: bytes) -> None:
        """Write a message behind its length as a varint, as libp2p's own protocols do.

        Raises ``Unreachable``.
        """
        await self.put(_varint(len(body)) + body)

    async def receive_line(self, limit: int) -> bytes:
        """Read such a message, and nothing behind it.

        Raises ``PeerFault`` if it is longer than ``limit``, ``Unreachable`` if the stream ends before.
        """
        try:
            size = shift = 0
            last = 0x80
            while last & 0x80:
                await self._fill(1, 1)
                last = self._take(1)[0]
                size |= (last & 0x7F) << shift
                shift += 7
                if size > limit or shift > VARINT_BITS_MAX:
                    raise PeerFault(f"a message of more than {limit} bytes")
            await self._fill(size, size)
        except LINK_ERRORS as error:
            raise Unreachable(f"the link broke while receiving ({_named(error)})") from None
        return self._take(size)

    async def put(self, data: bytes) -> None:
        """Write bytes as they are. Raises ``Unreachable``."""
        try:
            await self._write(b"", memoryview(data))
        except LINK_ERRORS as error:
            raise Unreachable(f"the link broke while sending ({_named(error)})") from None

    async def take_some(self, most: int) -> bytes:
        """Return some bytes as they come, at most ``most``; none at the end of the stream."""
        try:
            await self._fill(1, most)
        except LINK_ERRORS:
            return b""
        return self._take(min(self._held, most))

    def _take(self, num_bytes: int) -> bytes:
        """Take bytes that were read."""
        data = b"".join(self._parts)
        rest = data[num_bytes:]
        self._parts, self._held = [rest] if rest else [], len(rest)
        return data[:num_bytes]

    async def ask(self, request: bytes, *, reply_limit: int) -> bytes:
        """Send one request and return its answer.

        Raises ``NoReply`` if the stream ends before the reply begins, ``Declined`` on a refusal,
        ``Unreachable`` if it breaks later, ``PeerFault`` on an oversized or malformed reply.
        """
        try:
            await self.send(request)
        except Unreachable as error:
            raise NoReply(str(error)) from None
        reply = await self._receive(max(reply_limit, REFUSAL_BYTES_MAX) + 1, 1)
        if reply is None:
            raise NoReply("the link broke before an answer came")
        status, body = reply
        if not status:
            raise PeerFault("an empty reply")
        if status[0] == ANSWER and len(body) <= reply_limit:
            return body
        if status[0] == REFUSAL and len(body) <= REFUSAL_BYTES_MAX:
            raise Declined(_readable(body))
        raise PeerFault("a reply that is neither an answer nor a refusal")

    async def close(self) -> None:
        """Say that nothing more will be sent, and drop what still comes; never raises for a broken link."""
        with trio.move_on_after(1):
            try:
                await self._stream.close()
                await self._muxed.conn.forget(self._muxed)
            except LINK_ERRORS:
                await self._stream.reset()

    async def reset(self) -> None:
        """End the stream both ways at once, even from a cancelled task."""
        with shielded(1):
            await self._stream.reset()


def _bulk_lock(connection: Untyped) -> trio.Lock:
    """Return the lock that lets large bodies through one at a time on a connection."""
    if not hasattr(connection, "swarm_bulk"):
        connection.swarm_bulk = trio.Lock()
    lock: trio.Lock = connection.swarm_bulk
    return lock


def _varint(number: int) -> bytes:
    """Return a number in groups of seven bits, the lowest first."""
    groups = list[int]()
    while number >= 0x80:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups, number])


def refusal(reason: str) -> bytes:
    """Return a reason as the body of a refusal, cut to ``REFUSAL_BYTES_MAX``."""
    return reason.encode("utf-8")[:REFUSAL_BYTES_MAX].decode("utf-8", "ignore").encode("utf-8")


def _readable(reason: bytes) -> str:
    """Return a stranger's text, safe to show: printable, on one line."""
    text = reason.decode("utf-8", "replace")
    return "".join(c if c.isprintable() else " " for c in text).strip() or "no reason given"


def _named(error: BaseException) -> str:
    return str(error) or type(error).__name__
