"""Bytes on their way to a socket: sealed as it takes them, a few messages at a time.

Core: plain pieces in, sealed messages out, and how many bytes of them the socket took.

    pieces --add--> waiting --messages--> sealed --taken--> gone
                       +---------------------+--keep--> copied, once their writer has left

For a peer that reads nothing no more is sealed than ``SEALED_BYTES`` and a message; the rest stays with whoever
wrote it.
"""

from collections import deque
from collections.abc import Callable, Sequence

from libp2p.security.noise.io import MAX_PLAINTEXT_LENGTH

from swarm.types import Bytes

LENGTH_BYTES = 2
"""Bytes of the length before each message, big-endian: the framing of libp2p's Noise."""
SEALED_BYTES = 64 << 10
"""Bytes that are sealed before the socket is asked to take them: one full message."""


class Outgoing:
    """Bytes of one connection that its socket has not taken."""

    def __init__(self, seal: Callable[[Bytes], bytes]) -> None:
        """Begin with none; ``seal`` is called once for each message, in their order."""
        self._seal = seal
        self._waiting = deque[memoryview]()
        self._sealed = deque[memoryview]()
        self._num_sealed = 0

    def __bool__(self) -> bool:
        return bool(self._waiting or self._sealed)

    def num_bytes(self) -> int:
        """Return how many bytes there are, sealed or not."""
        return self._num_sealed + sum(map(len, self._waiting))

    def add(self, pieces: Sequence[Bytes]) -> None:
        """Put pieces behind the rest, each to be sealed in messages of its own."""
        self._waiting.extend(memoryview(piece) for piece in pieces if piece)

    def messages(self) -> Sequence[memoryview]:
        """Return the sealed bytes that are next, sealing more where there are few; empty where all are gone."""
        while self._waiting and self._num_sealed < SEALED_BYTES:
            piece = self._waiting.popleft()
            sealed = self._seal(piece[:MAX_PLAINTEXT_LENGTH])
            if rest := piece[MAX_PLAINTEXT_LENGTH:]:
                self._waiting.appendleft(rest)
            head = len(sealed).to_bytes(LENGTH_BYTES, "big")
            self._sealed += (memoryview(head), memoryview(sealed))
            self._num_sealed += LENGTH_BYTES + len(sealed)
        return tuple(self._sealed)

    def taken(self, num_bytes: int) -> None:
        """Drop sealed bytes that the socket took."""
        self._num_sealed -= num_bytes
        while num_bytes:
            first = self._sealed.popleft()
            if len(first) > num_bytes:
                self._sealed.appendleft(first[num_bytes:])
                return
            num_bytes -= len(first)

    def keep(self) -> None:
        """Copy what is left of other objects, so that none of them is held for a part of it."""
        for parts in (self._waiting, self._sealed):
            copied = b"".join(parts)
            parts.clear()
            if copied:
                parts.append(memoryview(copied))

    def clear(self) -> None:
        """Drop all of it: the connection is lost."""
        self._waiting.clear()
        self._sealed.clear()
        self._num_sealed = 0
