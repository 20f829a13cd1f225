"""libp2p's notices of connections, reduced to the two we act on.

Shell: an adapter.
"""

from collections.abc import Callable

from libp2p.abc import INetConn, INetStream, INetwork, INotifee
from multiaddr.multiaddr import Multiaddr


class Notices(INotifee):
    """Calls one function when a connection is up and one when it is down."""

    def __init__(
        self, up: Callable[[INetConn], object], down: Callable[[INetConn], object]
    ) -> None:
        self._up = up
        self._down = down

    async def connected(self, network: INetwork, conn: INetConn) -> None:  # noqa: ARG002
        """A connection is up."""
        self._up(conn)

    async def disconnected(self, network: INetwork, conn: INetConn) -> None:  # noqa: ARG002
        """A connection is down."""
        self._down(conn)

    async def opened_stream(self, network: INetwork, stream: INetStream) -> None:
        """Nothing to do."""

    async def closed_stream(self, network: INetwork, stream: INetStream) -> None:
        """Nothing to do."""

    async def listen(self, network: INetwork, multiaddr: Multiaddr) -> None:
        """Nothing to do."""

    async def listen_close(self, network: INetwork, multiaddr: Multiaddr) -> None:
        """Nothing to do."""
