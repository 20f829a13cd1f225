"""One connection to one peer, and the two names a peer has.

Shell: plain state around a libp2p connection.
"""

import trio
from libp2p.peer.id import ID
from libp2p.rcmgr import Direction

from swarm.crypto import parse_peer, peer_text
from swarm.host.tidy import Untyped, open_scope
from swarm.types import PeerId


class Link:
    """One connection to one peer."""

    def __init__(self, conn: Untyped, peer: PeerId) -> None:
        self.conn = conn
        self.peer = peer
        self.is_outbound = conn.direction == Direction.OUTBOUND
        remote = conn.muxed_conn.get_remote_address()
        self.remote_host: str = remote[0] if remote else ""
        self.greeted = trio.Event()
        self.ended = trio.Event()
        self.session = b""
        self.rtt_s: float | None = None
        self.failures = 0
        self.scope = open_scope()

    @property
    def is_live(self) -> bool:
        """Whether it is greeted and not closed."""
        closed = self.conn.is_closed or self.conn.muxed_conn.event_shutting_down.is_set()
        return self.greeted.is_set() and not closed and not self.ended.is_set()


def peer_of(peer_id: ID) -> PeerId:
    """Our name for a libp2p peer; raises ``BadEncoding`` if its key is not Ed25519."""
    return parse_peer(peer_id.to_base58())


def id_of(peer: PeerId) -> ID:
    """libp2p's name for a peer."""
    return ID.from_base58(peer_text(peer))
