"""Entry point of the network: open a host, send requests to peers, answer theirs.

Shell: composes links, caller and server around one libp2p host; decides nothing.
"""

import contextlib
import importlib.metadata
import logging
import os
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import trio
from libp2p.abc import INetConn, INetStream
from libp2p.peer.id import ID
from multiaddr.multiaddr import Multiaddr

from swarm.errors import BadEncoding, PeerFault, Unreachable, UsageError
from swarm.host import reachability
from swarm.host.addresses import AddressBook, format_address, is_loopback, network_of
from swarm.host.backoff import CircuitBreakers, PeerScores
from swarm.host.client import Client, Traffic
from swarm.host.closing import plain_errors, shielded
from swarm.host.connections import PING_BYTES, PING_PROTOCOL, Connections
from swarm.host.dialback import DialBacks
from swarm.host.handshake import CHAIN_BYTES, SESSION_BYTES, Hello
from swarm.host.libp2p_patches import GuardedHost, GuardedSwarm, build_host, route_logging
from swarm.host.listen import announced, bindings, expand, listening_at
from swarm.host.memory_quota import STREAM_BYTES
from swarm.host.pacing import Pacing
from swarm.host.peer_ids import id_of, peer_of
from swarm.host.places import group_of
from swarm.host.reachability import Reachable
from swarm.host.relay.circuits import Relays
from swarm.host.relay.hop import Relaying
from swarm.host.relay.setup import set_up_relays
from swarm.host.server import Handler, Server
from swarm.host.twins import ASK_BYTES_MAX, Twin, TwinWatch
from swarm.host.twins import PROTOCOL as TWIN_PROTOCOL
from swarm.host.uplink import Uplink
from swarm.primitives.codec import FRAME_BYTES_MAX
from swarm.primitives.crypto import SecretKey, peer_name
from swarm.ticket import Reach, reach_of
from swarm.types import PeerId

T = TypeVar("T")

EVENTS_MAX = 256
"""Events kept for a reader that is late; the oldest make room."""

TWINS_MAX = 8
"""Messages of other processes with our key that are kept for a reader."""

CLOSE_S = 1.5
"""Seconds for all farewells at the end."""

_VERSION = importlib.metadata.version("swarm-train")[:32]

log = logging.getLogger("swarm.host")


@dataclass(frozen=True, slots=True)
class PeerConnected:
    """Event: a peer is connected and on our network."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class PeerLost:
    """Event: the last connection to a peer ended."""

    peer: PeerId


class Host:
    """This node among its peers: connections, requests and replies. Made by ``open_host``."""

    def __init__(
        self,
        secret: SecretKey,
        libp2p_host: GuardedHost,
        nursery: trio.Nursery,
        *,
        announce: tuple[str, ...],
        chain16: bytes,
        relaying: Relaying,
    ) -> None:
        self.peer = secret.peer
        self.libp2p_host = libp2p_host
        """libp2p's host, for the DHT only."""
        self.chain16 = chain16
        self._announce = announce
        self._session = secrets.token_bytes(SESSION_BYTES)
        self._began = trio.current_time()
        self._watch = TwinWatch(secret, chain16, self._session, secrets.token_bytes)
        tell_twin, self.twins = trio.open_memory_channel[Twin](TWINS_MAX)
        """Other processes with the key of this one; of those that nobody reads the newest are dropped."""
        self._tell_twin = tell_twin
        self._nursery = nursery
        self._address_book = AddressBook()
        self._breakers = CircuitBreakers()
        self._scores = PeerScores()
        self.pacing = Pacing(self._is_trusted)
        self._traffic = Traffic()
        self._readers: list[
            tuple[trio.MemorySendChannel[PeerConnected | PeerLost], trio.MemoryReceiveChannel[Any]]
        ] = []
        self.events = self.subscribe()
        """Channel of ``PeerConnected`` and ``PeerLost``, at most ``EVENTS_MAX``, oldest dropped first."""
        self._links = Connections(
            libp2p_host,
            nursery,
            introduce=self._introduce,
            address_book=self._address_book,
            breakers=self._breakers,
            scores=self._scores,
            changed=self._changed,
            held=self._held,
        )
        self._caller = Client(
            libp2p_host,
            nursery,
            self._links,
            address_book=self._address_book,
            breakers=self._breakers,
            scores=self._scores,
            traffic=self._traffic,
        )
        self._server = Server(libp2p_host, blame=self.blame, traffic=self._traffic)
        self.small_quota = self._server.small
        """Quota of short messages: the DHT counts its own there."""
        self.serve(PING_PROTOCOL, _echo, request_limit=PING_BYTES)
        self.serve(TWIN_PROTOCOL, self._answer_twin, request_limit=ASK_BYTES_MAX, per_peer=2)
        self.reach = DialBacks(self, remote_host=self._remote_host, dial=self._links.probe)
        """Record of who can dial this node."""
        self.relays = self._set_up_relays(relaying)

    def _set_up_relays(self, relaying: Relaying) -> Relays:
        """Dial back who asks, be reached through relays, and relay for others if this node is willing."""
        limit = {"request_limit": reachability.BYTES_MAX, "concurrency": 8, "per_peer": 1}
        self.serve(reachability.PROTOCOL, self.reach.answer, **limit)
        return set_up_relays(
            self,
            self.libp2p_host,
            self._nursery,
            self._links,
            self._caller,
            reach=self.reach,
            addresses=self._address_book.addresses,
            own_addresses=self.addresses,
            blame=self.blame,
            relaying=relaying,
        )

    def reachability(self) -> str:
        """Return the way in which others reach this node: "direct", "relayed", "lan" or "unknown"."""
        reached = self.reach.verdict().reached
        if reached is Reachable.PUBLIC:
            return "direct"
        if self.relays.addresses():
            return "relayed"
        return "lan" if reached is Reachable.NETWORK else "unknown"

    def reach_text(self) -> str:
        """Return who can reach this node, and how, as a sentence."""
        through = " and ".join(map(peer_name, self.relays.relays()))
        kind = "relays" if " and " in through else "relay"
        others = f"; others reach it through the {kind} {through}" if through else ""
        return f"{self.reach.text()}{others}"

    def path(self, peer: PeerId) -> str:
        """Return the way to a connected peer: "lan", "direct" or "relayed"; "" for none."""
        found = self._links.of(peer)
        if not found:
            return ""
        link = found[-1]
        if link.relay is not None:
            return "relayed"
        return "direct" if network_of(link.remote_host) else "lan"

    # ---- peers and addresses

    def addresses(self) -> list[str]:
        """Return the addresses at which others can dial us: multiaddr texts without the peer.

        Announced addresses come first, then public ones of this machine, then one at which peers have reached
        us. A wildcard stands for the machine's interface addresses; loopback is named only if there is nothing
        else: who listens there and announces another address is behind a forwarder that nobody is to go round.
        """
        own = list[str]()
        for listener in self.libp2p_host.get_network().listeners.values():
            own += [text for bound in listener.get_addrs() for text in expand(str(bound))]
        outward = [text for text in own if not is_loopback(text)]
        public = [text for text in outward if reach_of(text) is Reach.ANYWHERE]
        proved = self.reach.proved() if outward else ()
        best = [*self._announce, *public, *proved]
        direct = [*best, *outward] or own
        return list(dict.fromkeys([*best, *self.relays.addresses(), *direct]))

    def forwardable(self, own: str) -> int:
        """Return the port at which this node listens at an IPv4 address of this machine; 0 if it does not."""
        found = listening_at(self.libp2p_host.get_network(), format_address(own, 1), own)
        return found[1] if found else 0

    def suppose(self, address: str) -> None:
        """Have peers dial this node at an address of its router, too; "" for none any more."""
        self.reach.suppose(address)

    def _introduce(self) -> Hello:
        addresses = tuple(self.addresses()[:8])
        return Hello(_VERSION, self.chain16, self._session, addresses, int(time.time()))

    async def _answer_twin(self, _peer: PeerId, request: bytes) -> bytes:
        """Answer a neighbour that sees two processes with our key, or believes so."""
        reply, twin = self._watch.answer(request, trio.current_time() - self._began)
        if twin is not None:
            with contextlib.suppress(trio.WouldBlock):
                self._tell_twin.send_nowait(twin)
        return reply

    def learn(self, peer: PeerId, addresses: Sequence[str]) -> None:
        """Remember addresses of a peer, best first; a new address ends its rest after failures."""
        if peer != self.peer and self._address_book.learn(peer, addresses):
            self._breakers.reset(peer)

    def known_addresses(self, peer: PeerId) -> list[str]:
        """Return the addresses that would be dialled, in order."""
        return list(self._address_book.addresses(peer))

    async def connect(self, peer: PeerId, addresses: Sequence[str]) -> None:
        """Connect to ``peer`` if there is no connection: one address at a time, 5 s each.

        Raises ``Unreachable`` naming what was tried and why it failed.
        """
        if peer == self.peer:
            raise Unreachable("that is this node itself")
        self._address_book.learn(peer, addresses)
        self._breakers.reset(peer)
        await self._caller.connect(peer)

    async def prove(self, peer: PeerId) -> None:
        """Dial a peer that is connected, to see that its address is one; raise ``Unreachable``.

        Of the two connections the peers keep one.
        """
        await self._caller.prove(peer)

    async def leave(self, hosts: Sequence[str]) -> None:
        """Drop connections from addresses that this machine has no more; peers say anew who can reach it."""
        self.reach.forget()
        self._breakers.reset_all()
        await self._links.drop_from(hosts)

    def keep(self, peers: Collection[PeerId]) -> None:
        """Let no connection to these peers be pushed out when the places for connections are taken."""
        network: Any = self.libp2p_host.get_network()
        network.kept = frozenset(map(id_of, peers))

    def is_dialled(self, peer: PeerId) -> bool:
        """Return True if we dialled a connection to ``peer`` that is open."""
        return any(link.is_outbound for link in self._links.of(peer))

    def known(self) -> list[PeerId]:
        """Return the peers whose addresses are known, connected or not, in the order of their keys."""
        return sorted(self._address_book.peers())

    def connected(self) -> list[PeerId]:
        """Return the peers we are connected to, in the order of their keys."""
        return self._links.peers()

    def is_connected(self, peer: PeerId) -> bool:
        """Return True if a greeted connection to ``peer`` is open."""
        return bool(self._links.of(peer))

    def why_parted(self, peer: PeerId) -> str:
        """Return why we did not stay connected to a peer, as the end of a sentence; empty if unknown."""
        return self._links.why_parted(peer)

    def rtt_ms(self, peer: PeerId) -> int | None:
        """Return the smoothed round trip through the peer's event loop, in milliseconds.

        The best link counts; None if none is measured yet.
        """
        times = [link.rtt_s for link in self._links.of(peer) if link.rtt_s is not None]
        return round(min(times) * 1000) if times else None

    def skews_s(self) -> dict[PeerId, int]:
        """Return by how many seconds the clock of each connected peer is ahead of ours, by its last hello."""
        ahead_s = trio.current_time() - time.time()
        links = ((peer, self._links.of(peer)) for peer in self.connected())
        return {peer: round(found[-1].clock_s + ahead_s) for peer, found in links if found}

    def _remote_host(self, peer: PeerId) -> str:
        """Return the host that a peer is connected from, not through a relay; "" for none."""
        direct = [link for link in self._links.of(peer) if link.relay is None]
        return direct[-1].remote_host if direct else ""

    def origin(self, peer: PeerId) -> str:
        """Return what a peer is counted by: the public network that it is connected from, else its address.

        Through a relay it comes from where the relay is.
        """
        return group_of(next((link.remote_host for link in self._links.of(peer)), ""))

    def network(self, peer: PeerId) -> str:
        """Return the public network that a peer is connected from (``addresses.network_of``); "" for none."""
        return next(
            filter(None, (network_of(link.remote_host) for link in self._links.of(peer))), ""
        )

    def _is_trusted(self, peer: PeerId, now: float) -> bool:
        links = self._links.of(peer)
        is_silent = bool(links) and all(link.failures for link in links)
        return self._scores.is_clean(peer, now) and not is_silent

    def owes(self, peer: PeerId) -> bool:
        """Return True if a peer has cost this node much of late: what can wait is not asked of it."""
        return any(self.pacing.owes(link.conn.muxed_conn) for link in self._links.of(peer))

    async def work_for(self, peer: PeerId, work: Callable[..., T], *arguments: object) -> T:
        """Return what ``work`` returns, from a thread, and charge a peer with it as with all else."""
        result: T
        result, cost_s = await trio.to_thread.run_sync(_timed, work, arguments)
        if links := self._links.of(peer):
            self.pacing.spend(self.pacing.payer(links[0].conn.muxed_conn), cost_s)
        return result

    def traffic(self, peer: PeerId) -> tuple[int, int]:
        """Return the (sent, received) bytes of requests and replies since the start."""
        return self._traffic.of(peer)

    # ---- requests

    async def call(
        self,
        peer: PeerId,
        protocol: str,
        request: bytes,
        *,
        timeout_s: float,
        reply_limit: int = FRAME_BYTES_MAX,
        idempotent: bool = False,
    ) -> bytes:
        """Send one request to ``peer``, connecting first if need be, over a kept stream.

        A call that was cancelled or timed out ends its stream, and the handler at the other side with it.

        Args:
            peer: Peer to ask.
            protocol: Protocol id that the peer serves.
            request: Body of the request.
            timeout_s: Seconds for all of it, a dial included.
            reply_limit: Most bytes of the reply.
            idempotent: True to ask once more if a kept stream broke before the reply began.

        Returns:
            Body of the reply.

        Raises:
            Unreachable: Timeout, broken link or dead peer.
            Declined: Refusal, a subclass of ``Unreachable``; the message is the other side's.
            PeerFault: Oversized or malformed reply; the caller decides whether to blame the peer.
        """
        if peer == self.peer:
            raise Unreachable("that is this node itself")
        return await self._caller.call(
            peer,
            protocol,
            request,
            timeout_s=timeout_s,
            reply_limit=reply_limit,
            idempotent=idempotent,
        )

    def serve(
        self,
        protocol: str,
        handler: Handler,
        *,
        request_limit: int,
        concurrency: int = 32,
        per_peer: int = 8,
    ) -> None:
        """Answer ``protocol`` with ``await handler(peer, request)``.

        A handler's ``PeerFault`` is blamed and refused, any other ``SwarmError`` refused with its message;
        anything else is logged and refused as an internal error. A handler is cancelled when its caller leaves.

        Args:
            protocol: Protocol id.
            handler: Function that returns the body of the reply.
            request_limit: Most bytes of a request; a longer one is a fault.
            concurrency: Handlers that run at once; further requests wait.
            per_peer: Handlers that run at once for one peer; further requests wait.
        """
        self._server.serve(
            protocol,
            handler,
            request_limit=request_limit,
            concurrency=concurrency,
            per_peer=per_peer,
        )

    # ---- blame

    def blame(self, peer: PeerId, fault: PeerFault) -> None:
        """Note that a peer broke the protocol; one that does so again and again is banned for a while."""
        log.info("%s broke the protocol: %s", peer_name(peer), fault)
        if self._scores.blame(peer, trio.current_time()):
            self._nursery.start_soon(self._links.drop_peer, peer)

    def faults(self) -> dict[PeerId, int]:
        """Return the number of faults noted per peer."""
        return self._scores.faults()

    def handler_errors(self) -> dict[str, int]:
        """Return the errors of our own handlers per protocol: each is a bug."""
        return dict(self._server.errors)

    # ---- events

    def subscribe(self) -> "trio.MemoryReceiveChannel[PeerConnected | PeerLost]":
        """Return a channel of connection events for one more reader; a late reader misses the oldest."""
        send, receive = trio.open_memory_channel[PeerConnected | PeerLost](EVENTS_MAX)
        self._readers.append((send, receive))
        return receive

    def _changed(self, peer: PeerId, is_connected: bool) -> None:
        if is_connected:
            # libp2p's own services look for addresses in its peer store.
            addresses = [Multiaddr(text) for text in self._address_book.addresses(peer)]
            self.libp2p_host.get_peerstore().add_addrs(id_of(peer), addresses, 3600)
        else:
            self._caller.forget(peer)
        for send, receive in self._readers:
            try:
                send.send_nowait(PeerConnected(peer) if is_connected else PeerLost(peer))
            except trio.WouldBlock:
                with contextlib.suppress(trio.WouldBlock):
                    receive.receive_nowait()
                send.send_nowait(PeerConnected(peer) if is_connected else PeerLost(peer))
            except trio.BrokenResourceError:
                continue

    # ---- calls from the guarded libp2p classes (guards.Door)

    async def dial(self, peer_id: ID) -> list[INetConn]:
        """Connect for libp2p's own services."""
        peer = _known(peer_id)
        rest_s = self._breakers.rest_s(peer, trio.current_time())
        if rest_s > 0:
            raise Unreachable(f"{peer_name(peer)} did not answer; next try in {rest_s:.1f} s")
        self._learn_from_peerstore(peer, peer_id)
        return [(await self._caller.connect(peer)).conn]

    async def open_stream(self, peer_id: ID, protocols: Sequence[str]) -> INetStream:
        """Open a stream for libp2p's own services."""
        peer = _known(peer_id)
        self._learn_from_peerstore(peer, peer_id)
        return await self._caller.open_stream(peer, protocols)

    def _learn_from_peerstore(self, peer: PeerId, peer_id: ID) -> None:
        """Take over addresses that the DHT heard of, behind those we know ourselves."""
        if self._links.of(peer):
            return
        store = self.libp2p_host.get_peerstore()
        if peer_id in store.peers_with_addrs():
            heard = [str(address) for address in store.addrs(peer_id)]
            self.learn(peer, [*self._address_book.addresses(peer), *heard])

    async def admit(self, stream: INetStream, protocol: str) -> bool:
        """Return True if an inbound stream may be served."""
        return await self._links.admit(stream, protocol)

    def handler_failed(self, peer_id: ID, protocol: str, error: Exception) -> None:
        """Log that a libp2p service's handler raised: the peer sent junk, or left."""
        log.info("%s failed on a stream from %s: %r", protocol or "negotiation", peer_id, error)

    def faulted(self, peer_id: ID, fault: PeerFault) -> None:
        """Blame a peer that broke the rules of a connection."""
        with contextlib.suppress(BadEncoding):  # no peer of ours, and cut already
            self.blame(peer_of(peer_id), fault)

    def _held(self) -> int:
        """Return the bytes held for others: questions, answers and messages, and what nobody has read yet."""
        network: Any = self.libp2p_host.get_network()
        quotas = self.small_quota, self._server.bulk
        streams = self.libp2p_host.streams.budget.num_bytes * STREAM_BYTES
        held = sum(quota.budget.num_bytes for quota in quotas)
        return held + streams + int(network.unread.num_bytes)

    async def close(self) -> None:
        """Close every connection politely, within ``CLOSE_S``, then libp2p's host."""
        with shielded(CLOSE_S):
            await self._links.close()
        with shielded(CLOSE_S / 3):
            await self.libp2p_host.close()


@asynccontextmanager
async def open_host(
    secret: SecretKey,
    *,
    listen: Sequence[str],
    announce: Sequence[str] = (),
    chain16: bytes,
    uplink: Uplink | None = None,
    relaying: Relaying | None = None,
) -> AsyncGenerator[Host]:
    """Open this node's host for the peers of one network; leaving takes under 2 s and leaves nothing.

    Args:
        secret: Key of this node.
        listen: Addresses to listen on, ``host:port``; port 0 for any.
        announce: Further addresses to tell others.
        chain16: First 16 bytes of the genesis digest of the network.
        uplink: Line that paces what is sent; None: no limit.
        relaying: Whether this node carries for peers that cannot be dialled, and how much; None: if it can be
            dialled itself.

    Raises:
        UsageError: An address is malformed or in use.
    """
    assert len(chain16) == CHAIN_BYTES, "a network is named by 16 bytes"
    os.environ.setdefault(
        "PY_YAMUX_RELEASE_ON_READ", "0"
    )  # one credit per half window, not per read
    route_logging()
    endpoints, extra = bindings(listen), announced(announce)
    libp2p_host = build_host(secret, uplink)
    network: Any = libp2p_host.get_network()
    assert isinstance(network, GuardedSwarm)
    addresses = [Multiaddr(format_address(host, port)) for host, port in endpoints]
    with plain_errors() as errors:
        async with trio.open_nursery() as nursery:
            host = Host(
                secret,
                libp2p_host,
                nursery,
                announce=extra,
                chain16=chain16,
                relaying=relaying or Relaying(),
            )
            network.limits = libp2p_host.limits = host
            async with libp2p_host.run(listen_addrs=addresses):
                try:
                    if len(network.listeners) < len(endpoints):
                        raise UsageError(f"cannot listen on {', '.join(listen)}")
                    yield host
                except BaseException as error:
                    errors.append(error)
                    raise
                finally:
                    await host.close()
            # Only here: cancelled any earlier, this scope would swallow the caller's own error.
            nursery.cancel_scope.cancel()


def _timed(work: Callable[..., T], arguments: tuple[object, ...]) -> tuple[T, float]:
    """Return the result, and the processor seconds of this thread that it took."""
    began = time.thread_time()
    return work(*arguments), time.thread_time() - began


def _known(peer_id: ID) -> PeerId:
    try:
        return peer_of(peer_id)
    except BadEncoding as error:
        raise Unreachable(str(error)) from None


async def _echo(peer: PeerId, request: bytes) -> bytes:  # noqa: ARG001  a handler like any other
    return request
