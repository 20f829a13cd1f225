"""Be reached through relays, and dial through them.

Shell: one task that keeps places at relays, one handler for who comes through them, and dials. Rule H35.

    relay   WANTED --reserved--> HELD --renewed every minute--> HELD
               ^                   +--refused, gone--> RESTING (1 min, 10 min if it is none)
               +----------------------------------------------+
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Protocol

import trio
from libp2p.abc import INetStream
from libp2p.network.connection.raw_connection import RawConnection
from multiaddr.multiaddr import Multiaddr

from swarm.errors import BadEncoding, PeerFault, SwarmError, Unreachable
from swarm.host.addresses import relay_in, through
from swarm.host.connections import Connections, NotSpoken
from swarm.host.libp2p_patches import GuardedHost
from swarm.host.links import Link
from swarm.host.peer_ids import id_of
from swarm.host.relay import messages
from swarm.host.relay.bridge import CircuitEnd, carry, socket_pair
from swarm.host.relay.messages import (
    HOP,
    MESSAGE_BYTES_MAX,
    REASONS,
    Bounds,
    HopStatus,
    Status,
)
from swarm.host.streams import FrameStream
from swarm.primitives.crypto import peer_name
from swarm.ticket import reach_of
from swarm.types import PeerId

RELAYS_MAX = 2
"""Relays at which a node keeps a place: one may leave."""
POLL_S = 2.0
RENEW_S = 60.0
"""Seconds from one reservation to the next at the same relay: so long a dead relay is told to others."""
REST_S, NO_RELAY_REST_S = 60.0, 600.0
"""Seconds until a relay that refused, or a peer that is none, is asked again."""
ASK_S = 10.0
FIRST_S = 10.0
"""Seconds that a launch waits for a relay that its ticket could name."""
DIALS_MAX = 8
TRIES_MAX = 8
"""Peers that are asked in one turn whether they relay."""
RESTING_MAX = 1024

log = logging.getLogger("swarm.host")


class Wish(Enum):
    """Relays that a node is in need of."""

    NONE = auto()
    """None: it can be dialled, or nobody would come."""
    NAMED = auto()
    """Those that somebody named: nobody has tried yet whether it can be dialled."""
    ANY = auto()


class RelayedHost(Protocol):
    """The part of a host that this needs; ``Host`` has it."""

    def connected(self) -> list[PeerId]:
        """Return the connected peers."""
        ...

    def blame(self, peer: PeerId, fault: PeerFault) -> None:
        """Note a fault of a peer."""
        ...


@dataclass
class _Held:
    address: str
    """Address of this node through the relay."""
    renew_at: float


class Relays:
    """Places of this node at relays, and its circuits through them."""

    def __init__(
        self,
        host: RelayedHost,
        libp2p_host: GuardedHost,
        nursery: trio.Nursery,
        links: Connections,
        *,
        reach_relay: Callable[[PeerId, str], Awaitable[None]],
        addresses: Callable[[PeerId], Sequence[str]],
        wants: Callable[[], Wish],
    ) -> None:
        """``reach_relay(peer, address)`` is awaited for a link to a relay, ``addresses(peer)`` are those known
        of it, best first, and ``wants()`` says whether this node is in need of one.
        """
        self._host, self._libp2p_host, self._nursery, self._links = (
            host,
            libp2p_host,
            nursery,
            links,
        )
        self._reach_relay, self._addresses, self._wants = reach_relay, addresses, wants
        self._named = dict[PeerId, str]()
        """Relays that the owner or a ticket names, with an address."""
        self._held = dict[PeerId, _Held]()
        self._rests = dict[PeerId, float]()
        self._turn = trio.Event()
        self._dials = trio.CapacityLimiter(DIALS_MAX)

    def addresses(self) -> list[str]:
        """Return the addresses of this node through relays."""
        return [held.address for held in self._held.values()]

    def relays(self) -> list[PeerId]:
        """Return the relays at which this node has a place."""
        return list(self._held)

    def name(self, relay: PeerId, address: str) -> None:
        """Ask this relay before others."""
        self._named[relay] = address

    # ---- places

    async def keep(self) -> None:
        """Keep places at relays while this node is in need of them, until cancelled."""
        while True:
            self._drop_lost()
            now = trio.current_time()
            for relay, held in list(self._held.items()):
                if now >= held.renew_at:
                    await self.reserve(relay)
            if (wish := self._wants()) is Wish.NONE:
                self._held.clear()
            for relay in self._candidates(wish, now):
                if len(self._held) < RELAYS_MAX:
                    await self.reserve(relay)
            self._turn.set()
            await trio.sleep(POLL_S)

    async def asked(self) -> None:
        """Wait until the relays that somebody named have answered, at most ``FIRST_S``."""
        if self._named:
            with trio.move_on_after(FIRST_S):
                await self._turn.wait()

    def _drop_lost(self) -> None:
        for relay in [relay for relay in self._held if self._links.relay_link(relay) is None]:
            del self._held[relay]

    def _candidates(self, wish: "Wish", now: float) -> list[PeerId]:
        self._rests = {peer: until for peer, until in self._rests.items() if until > now}
        known = [] if wish is Wish.NONE else list(self._named)
        known += self._host.connected() if wish is Wish.ANY else []
        fresh = (peer for peer in dict.fromkeys(known) if peer not in self._rests)
        return [peer for peer in fresh if peer not in self._held][:TRIES_MAX]

    async def reserve(self, relay: PeerId) -> None:
        """Take a place at a relay, or renew it; note what became of it."""
        now, rest_s = trio.current_time(), REST_S
        try:
            link = await self._link_to(relay, self._named.get(relay, ""))
            stream, said = await self._ask(link, messages.reserve())
            if said.status is Status.OK:
                await stream.close()
                self._held[relay] = _Held(self._own_address(link), now + RENEW_S)
                return
            log.info("%s: no place: %s", peer_name(relay), REASONS[said.status])
            if said.status is Status.PERMISSION_DENIED:
                rest_s = NO_RELAY_REST_S
        except PeerFault as fault:
            self._host.blame(relay, fault)
        except SwarmError as error:
            log.info("no place at a relay: %s", error)
            rest_s = NO_RELAY_REST_S if isinstance(error, NotSpoken) else REST_S
        self._held.pop(relay, None)
        self._rests[relay] = now + rest_s
        if len(self._rests) > RESTING_MAX:
            del self._rests[next(iter(self._rests))]

    async def bounds(self, relay: PeerId, address: str) -> Bounds:
        """Return the limits of circuits that a relay tells to who asks it for a place.

        Raises ``Unreachable`` or ``PeerFault`` if it gives none.
        """
        stream, said = await self._ask(await self._link_to(relay, address), messages.reserve())
        if said.status is not Status.OK:
            raise Unreachable(f"the relay {peer_name(relay)}: {REASONS[said.status]}")
        await stream.close()
        return said.bounds

    async def _link_to(self, relay: PeerId, address: str) -> Link:
        link = self._links.relay_link(relay)
        if link is None:
            await self._reach_relay(relay, address)
            link = self._links.relay_link(relay)
        if link is None:
            raise Unreachable(f"{peer_name(relay)} is not connected")
        return link

    async def _ask(self, link: Link, question: bytes) -> tuple[FrameStream, HopStatus]:
        """Ask a relay; return the stream with its answer. Raises ``Unreachable`` and ``PeerFault``."""
        stream: FrameStream | None = None
        said: HopStatus | None = None
        try:
            with trio.move_on_after(ASK_S):
                stream = FrameStream(await self._links.open_on(link, [HOP]))
                await stream.send_line(question)
                said = messages.parse_hop_status(await stream.receive_line(MESSAGE_BYTES_MAX))
                return stream, said
        except BadEncoding as error:
            raise PeerFault(f"of a relay: {error}") from None
        finally:
            if stream is not None and (said is None or said.status is not Status.OK):
                await stream.reset()
        raise Unreachable(f"{peer_name(link.peer)} did not answer as a relay within {ASK_S:g} s")

    # ---- circuits

    async def dial(self, peer: PeerId, address: str) -> Any:  # noqa: ANN401  libp2p's connection
        """Connect to a peer at an address through a relay; raise ``Unreachable``, or an error of libp2p."""
        found = relay_in(address)
        assert found is not None, "an address through a relay"
        relay, at = found
        async with self._dials:
            link = await self._link_to(relay, at)
            stream, said = await self._ask(link, messages.connect(peer))
            if said.status is not Status.OK:
                raise Unreachable(f"the relay {peer_name(relay)}: {REASONS[said.status]}")
            end, far = self._ends(link)
            self._nursery.start_soon(carry, stream, far)
            network: Any = self._libp2p_host.get_network()
            try:
                return await network.upgrade_outbound_raw_conn(
                    RawConnection(end, True), id_of(peer)
                )
            except BaseException:
                await trio.aclose_forcefully(end.stream)
                raise

    async def serve(self, net_stream: INetStream) -> None:
        """Agree to a circuit that a relay offers, if this node has a place there; it lasts as the stream."""
        link = self._links.link_of(net_stream.swarm_conn)  # type: ignore[attr-defined]
        if link is None:
            return
        stream = FrameStream(net_stream)
        is_agreed = False
        try:
            with trio.move_on_after(ASK_S):
                caller = messages.parse_stop_connect(await stream.receive_line(MESSAGE_BYTES_MAX))
                if link.peer not in self._held or link.relay is not None:
                    await stream.send_line(messages.stop_status(Status.PERMISSION_DENIED))
                    await stream.close()
                    return
                log.info("%s comes through %s", peer_name(caller), peer_name(link.peer))
                await stream.send_line(messages.stop_status(Status.OK))
                is_agreed = True
        except (BadEncoding, PeerFault) as error:
            self._host.blame(link.peer, PeerFault(f"of a relay: {error}"))
        except Unreachable as error:
            log.debug("no circuit: %s", error)
        if not is_agreed:
            await stream.reset()
            return
        end, far = self._ends(link)
        network: Any = self._libp2p_host.get_network()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(carry, stream, far)
            try:
                await network._handle_inbound_connection(end, Multiaddr(self._own_address(link)))
            except Exception as error:  # as a listener of libp2p: a handshake raises anything
                log.debug("nobody came through %s: %r", peer_name(link.peer), error)
            await trio.aclose_forcefully(end.stream)
            nursery.cancel_scope.cancel()

    def _own_address(self, link: Link) -> str:
        """Return the address of this node through a relay, at the one of the relay's that most can dial.

        Raises ``Unreachable`` if no address of it is known.
        """
        direct = [at for at in self._addresses(link.peer) if relay_in(at) is None]
        if not direct:
            raise Unreachable(f"no address is known of {peer_name(link.peer)}")
        return through(link.peer, min(direct, key=reach_of))

    def _ends(self, link: Link) -> tuple[CircuitEnd, trio.SocketStream]:
        near, far = socket_pair()
        return CircuitEnd(near, link.peer, link.remote), far
