"""Send small statements to many peers, several in one frame, without one slow peer holding up the rest.

Shell: one bounded queue and one task per peer; what is too old is dropped, never waited for.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

import trio

from swarm.errors import PeerFault, Unreachable
from swarm.types import PeerId

Item = TypeVar("Item")

QUEUE_MAX = 256
"""Statements waiting for one peer: minutes of votes; the oldest make room, they are the stalest."""
REPLY_BYTES_MAX = 16
"""The answer is an empty acknowledgement."""
CALL_TIMEOUT_S = 5.0
REST_S = 0.25
"""First rest after a failed call; doubles up to ``REST_MAX_S``."""
REST_MAX_S = 4.0
PEERS_MAX = 256


class Caller(Protocol):
    """The part of the host a courier needs."""

    async def call(
        self,
        peer: PeerId,
        protocol: str,
        request: bytes,
        *,
        timeout_s: float,
        reply_limit: int = ...,
    ) -> bytes:
        """Ask ``peer`` one question."""
        ...

    def blame(self, peer: PeerId, fault: PeerFault) -> None:
        """Note a fault."""
        ...


class Courier(Generic[Item]):
    """Queues by peer; ``run`` serves them until cancelled."""

    def __init__(
        self,
        host: Caller,
        protocol: str,
        encode_frame: Callable[[Sequence[Item]], bytes],
        *,
        frame_items_max: int,
        frame_bytes_max: int,
        size_of: Callable[[Item], int],
    ) -> None:
        self._host, self._protocol, self._encode = host, protocol, encode_frame
        self._items_max, self._bytes_max, self._size_of = frame_items_max, frame_bytes_max, size_of
        self._queues: dict[PeerId, deque[Item]] = {}
        self._bells: dict[PeerId, trio.Event] = {}
        self._nursery: trio.Nursery | None = None
        self.num_frames, self.num_bytes, self.num_items = 0, 0, 0

    async def run(self) -> None:
        """Carry what is posted, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for peer in self._queues:
                nursery.start_soon(self._serve, peer)
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None  # the host may still bring in what would be passed on

    def post(self, peer: PeerId, items: Sequence[Item]) -> None:
        """Queue items for a peer; the oldest make room when its queue is full."""
        if peer not in self._queues:
            if len(self._queues) >= PEERS_MAX:
                return
            self._queues[peer], self._bells[peer] = deque[Item](maxlen=QUEUE_MAX), trio.Event()
            if self._nursery is not None:
                self._nursery.start_soon(self._serve, peer)
        self._queues[peer].extend(items)
        self._bells[peer].set()

    async def _serve(self, peer: PeerId) -> None:
        queue, rest_s = self._queues[peer], REST_S
        while True:
            await self._bells[peer].wait()
            self._bells[peer] = trio.Event()
            while queue:
                if await self._deliver(peer, self._take(queue)):
                    rest_s = REST_S
                else:
                    await trio.sleep(rest_s)
                    rest_s = min(2 * rest_s, REST_MAX_S)

    def _take(self, queue: deque[Item]) -> list[Item]:
        items, room = [queue.popleft()], self._bytes_max
        room -= self._size_of(items[0])
        while queue and len(items) < self._items_max and self._size_of(queue[0]) <= room:
            items.append(queue.popleft())
            room -= self._size_of(items[-1])
        return items

    async def _deliver(self, peer: PeerId, items: list[Item]) -> bool:
        """Whether the peer took the frame. A lost frame is not sent again: those who lack it ask."""
        frame = self._encode(items)
        self.num_frames, self.num_items = self.num_frames + 1, self.num_items + len(items)
        self.num_bytes += len(frame)
        try:
            await self._host.call(
                peer, self._protocol, frame, timeout_s=CALL_TIMEOUT_S, reply_limit=REPLY_BYTES_MAX
            )
        except Unreachable:
            return False
        except PeerFault as fault:
            self._host.blame(peer, fault)
            return False
        return True
