"""Name what packages above need of a host: ask peers, answer them, and note their faults.

Shell: interfaces alone. A package that needs more adds it to these.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from swarm.errors import PeerFault
from swarm.types import Bytes, PeerId


class Asks(Protocol):
    """Part of ``swarm.host.service.Host`` that asks."""

    async def call(
        self,
        peer: PeerId,
        protocol: str,
        request: bytes,
        *,
        timeout_s: float,
        reply_limit: int = ...,
    ) -> bytes:
        """Send a request and return the answer; raises ``Unreachable`` or ``PeerFault``."""
        ...

    def blame(self, peer: PeerId, fault: PeerFault) -> None:
        """Count a fault against a peer."""
        ...


class AsksAndAnswers(Asks, Protocol):
    """Part of it that asks and answers."""

    def serve(
        self,
        protocol: str,
        handler: Callable[[PeerId, bytes], Awaitable[Bytes]],
        *,
        request_limit: int,
        concurrency: int = ...,
        per_peer: int = ...,
    ) -> None:
        """Answer requests with ``handler``; errors that it raises become blame or a refusal."""
        ...
