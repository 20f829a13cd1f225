"""Connections of this host, by connection and by peer, and what is known of each.

Shell: state of libp2p's connections; it changes as they do.
"""

import math
from collections.abc import Iterator
from typing import Any

import trio
from libp2p.rcmgr import Direction

from swarm.host.closing import Untyped, host_under, open_scope, relay_under
from swarm.types import PeerId

SILENT_S = 8.0
"""Seconds for which one of two links to a peer may be silent while the other is heard, until that is the better
one: each link is heard every 5 s, by a ping or its answer if by nothing else."""


class Link:
    """Connection to one peer: its state, round trip and end."""

    def __init__(self, conn: Untyped, peer: PeerId) -> None:
        self.conn = conn
        self.peer = peer
        self.is_outbound = conn.direction == Direction.OUTBOUND
        self.remote: tuple[str, int] = conn.muxed_conn.get_remote_address() or ("", 0)
        self.remote_host = self.remote[0]
        self.local_host = host_under(conn.muxed_conn.secured_conn)
        """Address of this machine that the connection is from; "" if it goes through a relay."""
        self.relay: PeerId | None = relay_under(
            getattr(conn.muxed_conn.secured_conn, "swarm_raw", None)
        )
        """Relay that the connection goes through; None for a direct one."""
        self.is_helper = False
        """True if it leads to a relay that is no peer of our network: it says no hello."""
        self.greeted = trio.Event()
        self.ended = trio.Event()
        self.session = b""
        self.clock_s = 0.0
        """Seconds by which the clock of the peer is ahead of trio's, which nobody sets."""
        self.rtt_s: float | None = None
        self.failures = 0
        self.is_replaced = False
        """True once another process of the peer has said hello: nothing is asked on this link any more."""
        self.scope = open_scope()

    @property
    def heard_at(self) -> float:
        """Time at which the peer sent something last; minus infinity if that is not known."""
        return float(getattr(self.conn.muxed_conn, "heard_at", -math.inf))

    @property
    def is_live(self) -> bool:
        """True if the connection is greeted and not closed."""
        closed = self.conn.is_closed or self.conn.muxed_conn.event_shutting_down.is_set()
        return (
            self.greeted.is_set()
            and not closed
            and not self.ended.is_set()
            and not self.is_replaced
            and not self.is_helper
        )


class Links:
    """The connections that have not ended, found without a search: floods leave hundreds."""

    def __init__(self, own: PeerId) -> None:
        self._own = own
        self._by_conn: dict[Any, Link] = {}
        self._by_peer: dict[PeerId, list[Link]] = {}

    def __iter__(self) -> Iterator[Link]:
        return iter(self._by_conn.values())

    def at(self, conn: Untyped) -> Link | None:
        """Return the link of a connection."""
        return self._by_conn.get(conn)

    def add(self, link: Link) -> None:
        """Take up a link."""
        self._by_conn[link.conn] = link
        self._by_peer.setdefault(link.peer, []).append(link)

    def remove(self, conn: Untyped) -> Link | None:
        """Let the link of a connection go, and return it; None if there is none."""
        link = self._by_conn.pop(conn, None)
        if link is not None:
            rest = self._by_peer[link.peer]
            rest.remove(link)
            if not rest:
                del self._by_peer[link.peer]
        return link

    def with_peer(self, peer: PeerId) -> list[Link]:
        """Return all links to a peer, the greeted ones and the others."""
        return [*self._by_peer.get(peer, ())]

    def of(self, peer: PeerId) -> list[Link]:
        """Return the greeted, open links to a peer, the best one last.

        A direct one is better than one through a relay, and one that is heard better than one that is silent:
        the peer may have moved. Of two that dialled each other at once, both sides prefer the link dialled by
        the smaller key.
        """
        found = [link for link in self._by_peer.get(peer, ()) if link.is_live]
        if len(found) < 2:
            return found
        smaller, silent = self._own < peer, max(link.heard_at for link in found) - SILENT_S
        return sorted(
            found,
            key=lambda link: (
                link.relay is None,
                link.heard_at >= silent,
                link.is_outbound == smaller,
            ),
        )

    def to_relay(self, peer: PeerId) -> Link | None:
        """Return a direct link to a relay, of our network or not; None if there is none."""
        for link in self._by_peer.get(peer, ()):
            is_usable = link.is_live or (link.is_helper and not link.ended.is_set())
            if link.relay is None and is_usable:
                return link
        return None

    def peers(self) -> list[PeerId]:
        """Return the connected peers, in the order of their keys."""
        return sorted(
            peer for peer, links in self._by_peer.items() if any(link.is_live for link in links)
        )
