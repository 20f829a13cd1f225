"""Put answers to questions of other peers together: those of strangers in turns that cost a part of a core.

Shell: what an answer costs is measured, and ``paces.py`` decides when the next of its origin may begin.
"""

import time
from collections.abc import Callable

import trio

from swarm.errors import Unreachable
from swarm.host.service import Host
from swarm.ledger.net.archive import Archive
from swarm.ledger.net.paces import Paces
from swarm.ledger.net.waiting import has_standing
from swarm.types import PeerId


class Answering:
    """Work of one node for the questions of others, of blocks and of snapshots together."""

    def __init__(self, archive: Archive, host: Host) -> None:
        self._archive, self._host = archive, host
        self._paces = Paces()

    async def answer(
        self, peer: PeerId, work: Callable[..., bytes], *arguments: int, in_thread: bool = True
    ) -> bytes:
        """Return what ``work`` returns, in its turn if the peer has neither a stake nor a seat.

        Raises ``Unreachable`` if too many questions of its origin wait.
        """
        if has_standing(self._archive.head.state, peer):
            return (await _done(work, arguments, in_thread=in_thread))[0]
        origin = self._host.origin(peer)
        wait_s = self._paces.begin(origin, trio.current_time())
        if wait_s is None:
            raise Unreachable("too many questions of peers without a stake from one address")
        cost_s: float | None = None
        try:
            await trio.sleep(wait_s)
            data, cost_s = await _done(work, arguments, in_thread=in_thread)
        finally:
            self._paces.end(origin, cost_s)
        return data


async def _done(
    work: Callable[..., bytes], arguments: tuple[int, ...], *, in_thread: bool
) -> tuple[bytes, float]:
    if in_thread:
        return await trio.to_thread.run_sync(_timed, work, arguments)
    return _timed(work, arguments)


def _timed(work: Callable[..., bytes], arguments: tuple[int, ...]) -> tuple[bytes, float]:
    """Return the answer, and the processor seconds of this thread that it took."""
    began = time.thread_time()
    return work(*arguments), time.thread_time() - began
