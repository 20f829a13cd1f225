"""Whole frames, in order, over one stream.

Shell: the one read loop and the one write loop of the house.

A frame is a 4-byte big-endian length and that many bytes. A reply's first byte says whether it is an
answer or a refusal. A stream carries one question at a time; it falls silent or breaks, it never lies.
"""

from collections.abc import Callable
from typing import Any

import trio
from libp2p.abc import INetStream
from libp2p.exceptions import BaseLibp2pError

from swarm.errors import PeerFault, Unreachable
from swarm.host.tidy import shielded

READ_BYTES = 64 * 1024
"""Read at most one Yamux frame at a time; libp2p's own read_exactly gives up after 100 short reads."""

WRITE_BYTES_MAX = 65_535 - 16 - 12
"""Handed to libp2p at once: one Yamux frame in one Noise message. Its own 65,524 bytes need two messages."""

WINDOW_POLL_S = 0.005
"""How often a writer looks whether the reader took something. libp2p's own wait polls every 10 ms and
fails after 5 s, which a busy machine reaches; ours ends with the caller's deadline."""

HEADER_BYTES = 4
ANSWER, REFUSAL = 0, 1
REFUSAL_BYTES_MAX = 400
"""A refusal is one sentence."""

LINK_ERRORS = (
    BaseLibp2pError,
    OSError,
    EOFError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
)
"""What libp2p raises when a link breaks under us, in one place or another."""


class Declined(Unreachable):
    """The other side understood the question and refused to answer; the message is its reason."""


class NoReply(Unreachable):
    """The stream broke before the first byte of a reply: asking again cannot repeat an answer."""


class FrameStream:
    """Frames over one libp2p stream. One task at a time may use it."""

    def __init__(
        self, stream: INetStream, *, count: Callable[[int, int], None] | None = None
    ) -> None:
        """``count(sent_bytes, received_bytes)`` is called as bytes move."""
        self._stream = stream
        self._muxed: Any = stream.muxed_stream  # type: ignore[attr-defined]
        self._count = count
        self._buffer = bytearray()
        self.used_at = trio.current_time()

    @property
    def is_usable(self) -> bool:
        """Whether the stream is open both ways and silent, as far as we know."""
        muxed = self._muxed
        ended = muxed.closed or muxed.send_closed or muxed.recv_closed or muxed.reset_received
        return not (ended or self._buffer or muxed.conn.event_shutting_down.is_set())

    @property
    def is_gone(self) -> bool:
        """Whether the other side closed or reset the stream."""
        muxed = self._muxed
        return bool(
            muxed.closed
            or muxed.recv_closed
            or muxed.reset_received
            or muxed.conn.event_shutting_down.is_set()
        )

    async def send(self, body: bytes, *, status: int | None = None) -> None:
        """Write one frame; ``status`` is put before the body. Raises ``Unreachable``."""
        prefix = b"" if status is None else bytes([status])
        size = len(prefix) + len(body)
        data = b"".join((size.to_bytes(HEADER_BYTES, "big"), prefix, body))
        try:
            await self._write(data)
        except LINK_ERRORS as error:
            raise Unreachable(f"the link broke while sending ({_named(error)})") from None
        self.used_at = trio.current_time()

    async def _write(self, data: bytes) -> None:
        sent = 0
        while sent < len(data):
            while self._muxed.send_window <= 0:
                if self._muxed.send_closed or self._muxed.closed:
                    raise Unreachable("the other side closed the stream")
                await trio.sleep(WINDOW_POLL_S)
            size = min(self._muxed.send_window, WRITE_BYTES_MAX, len(data) - sent)
            await self._stream.write(data[sent : sent + size])
            if self._count is not None:
                self._count(size, 0)
            sent += size

    async def receive(self, limit: int) -> bytes | None:
        """Read one frame of at most ``limit`` bytes; None if the stream ended before its first byte.

        Raises ``PeerFault`` if a longer one is announced, ``Unreachable`` if the stream breaks.
        """
        started = bool(self._buffer)
        try:
            while len(self._buffer) < HEADER_BYTES:
                await self._fill()
                started = True
            size = int.from_bytes(self._buffer[:HEADER_BYTES], "big")
            if size > limit:
                raise PeerFault(f"a frame of {size} bytes where at most {limit} are allowed")
            end = HEADER_BYTES + size
            while len(self._buffer) < end:
                await self._fill()
        except LINK_ERRORS as error:
            if not started:
                return None
            raise Unreachable(f"the link broke while receiving ({_named(error)})") from None
        body = bytes(memoryview(self._buffer)[HEADER_BYTES:end])
        del self._buffer[:end]
        self.used_at = trio.current_time()
        return body

    async def _fill(self) -> None:
        data = await self._stream.read(READ_BYTES)
        if not data:
            raise EOFError
        if self._count is not None:
            self._count(0, len(data))
        self._buffer += data

    async def ask(self, request: bytes, *, reply_limit: int) -> bytes:
        """Send one request and return its answer.

        Raises ``NoReply`` if the stream ends before the reply begins, ``Declined`` on a refusal,
        ``Unreachable`` if it breaks later, ``PeerFault`` on an oversized or malformed reply.
        """
        try:
            await self.send(request)
        except Unreachable as error:
            raise NoReply(str(error)) from None
        reply = await self.receive(max(reply_limit, REFUSAL_BYTES_MAX) + 1)
        if reply is None:
            raise NoReply("the link broke before an answer came")
        if not reply:
            raise PeerFault("an empty reply")
        if reply[0] == ANSWER and len(reply) - 1 <= reply_limit:
            return reply[1:]
        if reply[0] == REFUSAL and len(reply) - 1 <= REFUSAL_BYTES_MAX:
            raise Declined(_readable(reply[1:]))
        raise PeerFault("a reply that is neither an answer nor a refusal")

    async def close(self) -> None:
        """Say that nothing more will be sent; never raises for a broken link."""
        with trio.move_on_after(1):
            try:
                await self._stream.close()
            except LINK_ERRORS:
                await self._stream.reset()

    async def reset(self) -> None:
        """End the stream both ways at once, even from a cancelled task."""
        with shielded(1):
            await self._stream.reset()


def refusal(reason: str) -> bytes:
    """A reason as the body of a refusal."""
    return reason.encode("utf-8")[:REFUSAL_BYTES_MAX].decode("utf-8", "ignore").encode("utf-8")


def _readable(reason: bytes) -> str:
    """A stranger's text, safe to show: printable, on one line."""
    text = reason.decode("utf-8", "replace")
    return "".join(c if c.isprintable() else " " for c in text).strip() or "no reason given"


def _named(error: BaseException) -> str:
    return str(error) or type(error).__name__
