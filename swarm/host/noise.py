"""Noise session that moves many messages per turn of the event loop.

Shell: libp2p's own session with other reads and writes; the handshake and the ciphers are libp2p's.

Unguarded: every message costs two reads, one write and a dozen turns of the loop, so that Python, not the
cipher, sets the pace; and a writer that is cancelled half way leaves half a message on the wire, after which
the other side can decrypt nothing and the connection is lost for all its streams.
"""

import contextlib
import math
import os
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import trio
from cryptography.exceptions import InvalidTag
from libp2p.io.exceptions import ConnectionClosedError, IncompleteReadError
from libp2p.io.trio import TrioTCPStream
from libp2p.security.noise.io import MAX_PLAINTEXT_LENGTH, NoiseTransportReadWriter
from libp2p.security.secure_session import SecureSession

from swarm.host.closing import Untyped, shielded
from swarm.host.sealing import LENGTH_BYTES, Outgoing
from swarm.host.uplink import Uplink
from swarm.types import Bytes

READ_BYTES = 256 << 10
"""Bytes asked of the socket at once: four full messages."""
SHORT_READ_BYTES = 16 << 10
"""Bytes asked of it while much is held for others: a connection that is not drained holds little more then."""
UNSENT_BYTES = 128 << 10
UNSENT_OPTION: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)
"""Socket option that limits the unsent bytes to ``UNSENT_BYTES``; None if the system has none. Nothing small
can overtake what a socket has taken, and by itself it takes seconds of a slow link."""
QUICK_BYTES_PER_S = 50e6
QUICK_BYTES, QUICK_WRITE_BYTES = 2 << 20, 200 << 10
"""Bytes in long writes, one after the other, that a line must take at this rate to be a quick one, which it is
until one is slower. They are more than a socket and the line under it hold, which take them at any rate."""
QUICK_TIMES = 4
"""On a quick line so many times as much may be unsent, and stand in a frame: it passes in 20 ms."""
WRITE_S, WRITE_BYTES = 10.0, 256 << 10
"""Seconds for the socket to take one write of so many bytes, a frame: 200 kbit/s. A peer that takes longer has
stopped reading, and loses the connection."""


class NoiseSession(SecureSession):
    """Reads and writes of one secured connection."""

    uplink = Uplink()
    """Line that writes are paced by; by default one without a limit."""

    def __init__(self, secured: SecureSession) -> None:
        """Take over a session whose handshake is done and of which nothing has been read."""
        super().__init__(
            local_peer=secured.local_peer,
            local_private_key=secured.local_private_key,
            remote_peer=secured.remote_peer,
            remote_permanent_pubkey=secured.remote_permanent_pubkey,
            is_initiator=secured.is_initiator,
            conn=secured.conn,
        )
        messages: Any = secured.conn
        self._raw: Untyped = _unlocked(messages.read_writer.read_write_closer)
        # The states under libp2p's cipher: they take views, which the noise package's own functions refuse.
        ciphers: Untyped = messages.noise_state.noise_protocol
        self._open = ciphers.cipher_state_decrypt
        self._outgoing = Outgoing(partial(ciphers.cipher_state_encrypt.encrypt_with_ad, None))
        self._write_ends_at = math.inf
        self._num_unsent = 0
        self.is_quick = False
        """True if the line takes more than ``QUICK_BYTES_PER_S``."""
        self._quick_bytes = 0
        self._sealed = memoryview(b"")
        self._plain = b""
        self._plain_at = 0
        self._num_held = 0
        self.count: Callable[[int], None] = no_count
        """Function that is told how many bytes more, or fewer, are held between the socket and the reader, or
        left of writes whose task is gone."""
        self.is_short: Callable[[], bool] = _never
        """Function that says whether so much is held for others that little is to be read at once."""

    async def read(self, n: int | None = None) -> bytes:
        """Return ``n`` bytes, waiting for all of them; without ``n``, some bytes.

        The latter are those decrypted already, or the next message. Raises ``IncompleteReadError`` if the
        connection ends before.
        """
        if n == 0:
            return b""
        if n is None:
            return await self.read_some(MAX_PLAINTEXT_LENGTH)
        first = self._take(n)
        if len(first) == n:
            return first
        parts, have = [first], len(first)
        try:
            while have < n:
                self._plain, self._plain_at = await self._next(have), 0
                parts.append(self._take(n - have))
                have += len(parts[-1])
        finally:
            self._hold(0)
        return b"".join(parts)

    async def read_some(self, most: int) -> bytes:
        """Return at most ``most`` bytes: those that are decrypted already, or of the next message.

        Raises like ``read``.
        """
        if not self._plain:
            self._plain, self._plain_at = await self._next(), 0
        if not self._plain_at and len(self._plain) <= most:
            data, self._plain = self._plain, b""
            return data
        return self._take(most)

    async def write(self, data: bytes) -> None:
        """Seal and send all of ``data``; see ``write_pieces``."""
        await self.write_pieces((data,))

    async def write_pieces(self, pieces: Sequence[Bytes]) -> None:
        """Seal and send pieces, each in messages of its own; one task at a time.

        A call waits for its turn on the uplink, and for what is left of calls before, and sends nothing if it
        is cancelled there. Of one that is cancelled later the rest is kept, and goes before what is written
        next, so that no message is cut in half. Raises ``ConnectionClosedError`` if the peer does not take it
        within ``WRITE_S``.
        """
        num_bytes = sum(map(len, pieces))
        if wait_s := self.uplink.wait_s(num_bytes, trio.current_time()):
            await trio.sleep(wait_s)
        # The socket may have room again since a write was left: that its time is up says nothing then.
        self._push()
        try:
            with trio.move_on_at(self._write_ends_at if self._outgoing else math.inf) as scope:
                if self._outgoing:
                    await self._flush()
                began = trio.current_time()
                write_s = WRITE_S * max(1.0, num_bytes / WRITE_BYTES)
                self._write_ends_at = scope.deadline = began + write_s
                self._outgoing.add(pieces)
                await self._flush()
                self._rate(num_bytes, trio.current_time() - began)
                return
        finally:
            self._leave()
        self._outgoing.clear()
        self._hold_unsent()
        with shielded(1):
            await self._raw.close()
        raise ConnectionClosedError("the peer stopped reading", transport="tcp")

    async def _flush(self) -> None:
        """Let the socket take all that is to be sent."""
        self._push()
        while self._outgoing:
            await self._raw.wait_for_room()
            self._push()
        await trio.lowlevel.checkpoint()

    def _push(self) -> None:
        """Give the socket what it takes at once."""
        is_full = False
        while self._outgoing and not is_full:
            messages = self._outgoing.messages()
            num_taken: int = self._raw.put(messages)
            self._outgoing.taken(num_taken)
            is_full = num_taken < sum(map(len, messages))

    def _rate(self, num_bytes: int, took_s: float) -> None:
        """Judge by a long write whether the line is quick."""
        if num_bytes < QUICK_WRITE_BYTES:
            return
        is_taken = min(num_bytes / max(took_s, 1e-9), self.uplink.bytes_per_s) >= QUICK_BYTES_PER_S
        self._quick_bytes = self._quick_bytes + num_bytes if is_taken else 0
        if self.is_quick != (is_quick := self._quick_bytes >= QUICK_BYTES):
            self.is_quick = is_quick
            self._raw.hold_unsent(UNSENT_BYTES * (QUICK_TIMES if is_quick else 1))

    def _leave(self) -> None:
        """Keep what must follow of a write that ends here, and count it: nobody else does."""
        self._outgoing.keep()
        self._hold_unsent()

    def _hold_unsent(self) -> None:
        held = self._outgoing.num_bytes()
        self.count(held - self._num_unsent)
        self._num_unsent = held

    def _take(self, most: int) -> bytes:
        """Take at most ``most`` bytes of what is decrypted already."""
        data = self._plain[self._plain_at : self._plain_at + most]
        self._plain_at += len(data)
        if self._plain_at == len(self._plain):
            self._plain, self._plain_at = b"", 0
        return data

    def _hold(self, num_bytes: int) -> None:
        """Tell what is held: ``num_bytes`` of a read that is not done, and what was read of the socket."""
        sealed: Untyped = self._sealed.obj
        held = num_bytes + len(self._plain) + len(sealed)
        self.count(held - self._num_held)
        self._num_held = held

    async def _next(self, have: int = 0) -> bytes:
        """Decrypt the next message, reading on where it is not whole; ``have`` bytes wait for it."""
        message: Bytes | None = None
        while message is None:
            rest, size = self._sealed, LENGTH_BYTES
            if len(rest) >= LENGTH_BYTES:
                size += int.from_bytes(rest[:LENGTH_BYTES], "big")
            missing = size - len(rest)
            if missing <= 0 and size > LENGTH_BYTES:
                # An empty view would keep all that was read with it.
                message, self._sealed = rest[LENGTH_BYTES:size], rest[size:] or memoryview(b"")
                continue
            self._hold(have)
            data: bytes = await self._raw.read(SHORT_READ_BYTES if self.is_short() else READ_BYTES)
            if not data:
                raise IncompleteReadError("the connection ended", LENGTH_BYTES, len(rest))
            if not rest:
                self._sealed = memoryview(data)
            elif size > LENGTH_BYTES and missing <= len(data):
                # Only the message that was cut is put together; the others stay where they were read.
                message = b"".join((rest[LENGTH_BYTES:], data[:missing]))
                self._sealed = memoryview(data)[missing:] or memoryview(b"")
            else:
                self._sealed = memoryview(b"".join((rest, data)))
            self._hold(have)
        return self._opened(message)

    def _opened(self, message: Bytes) -> bytes:
        try:
            plain: bytes = self._open.decrypt_with_ad(None, message)
        except InvalidTag:
            raise ConnectionClosedError("a message that is not whole", transport="tcp") from None
        if not plain:
            raise ConnectionClosedError("an empty message", transport="tcp")
        return plain


def no_count(_: int) -> None:
    """Count nothing."""


def _never() -> bool:
    return False


class _Socket:
    """TCP socket as libp2p wraps it, without its locks: one task reads it, and one at a time writes."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self.close = stream.aclose
        self.hold_unsent(UNSENT_BYTES)

    def hold_unsent(self, num_bytes: int) -> None:
        """Take no more than so many bytes that are not sent yet."""
        if UNSENT_OPTION is not None and self._stream.socket.family != socket.AF_UNIX:
            with contextlib.suppress(OSError, trio.ClosedResourceError):
                self._stream.setsockopt(socket.IPPROTO_TCP, UNSENT_OPTION, num_bytes)

    def put(self, messages: Sequence[memoryview]) -> int:
        """Give bytes to the socket without waiting; return how many of them it took."""
        if (handle := self._stream.socket.fileno()) < 0:
            return sum(map(len, messages))  # We closed it ourselves: these bytes are not needed.
        try:
            return os.writev(handle, messages)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise ConnectionClosedError(str(error), transport="tcp") from error

    async def wait_for_room(self) -> None:
        """Wait until the socket takes more."""
        if (handle := self._stream.socket.fileno()) >= 0:
            with contextlib.suppress(trio.ClosedResourceError):
                await trio.lowlevel.wait_writable(handle)

    async def read(self, num_bytes: int) -> bytes:
        try:
            return await self._stream.receive_some(num_bytes)
        except trio.BrokenResourceError as error:
            raise ConnectionClosedError(str(error), transport="tcp") from error
        except trio.ClosedResourceError:
            return b""


def _unlocked(raw: Untyped) -> Untyped:
    stream: Untyped = getattr(raw, "stream", None)
    return _Socket(stream.stream) if isinstance(stream, TrioTCPStream) else raw


def quick(secured: Untyped, uplink: Uplink) -> Untyped:
    """Return the connection with our reads and writes if it is a Noise session, else as it is."""
    if isinstance(secured, SecureSession) and isinstance(secured.conn, NoiseTransportReadWriter):
        session = NoiseSession(secured)
        session.uplink = uplink
        return session
    return secured
