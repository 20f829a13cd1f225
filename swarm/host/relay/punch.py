"""Replace a connection through a relay by a direct one: dial, or dial each other at once (DCUtR).

Shell: one task for each such connection, one handler for the other side. Rule H37.

    who was dialled --its addresses--> who dialled
                    <--its addresses--
                    --now-->                         half a round trip later both dial, from the port that they
                                                     listen at: each router takes the other's call for an answer

https://github.com/libp2p/specs/blob/master/relay/DCUtR.md
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import trio
from libp2p.abc import INetStream
from multiaddr.multiaddr import Multiaddr

from swarm.errors import BadEncoding, PeerFault, SwarmError, Unreachable
from swarm.host.addresses import relay_in
from swarm.host.closing import Untyped
from swarm.host.connections import Connections
from swarm.host.libp2p_patches import GuardedHost
from swarm.host.links import Link
from swarm.host.listen import listening_at
from swarm.host.peer_ids import id_of
from swarm.host.relay import messages
from swarm.host.relay.messages import DCUTR, IDENTIFY, IDENTIFY_BYTES_MAX, MESSAGE_BYTES_MAX
from swarm.host.streams import LINK_ERRORS, FrameStream
from swarm.primitives.crypto import peer_name
from swarm.types import PeerId

ROUNDS = 3
PUNCH_S = 4.0
"""Seconds for both dials of a round: a SYN that came too early is sent again after one."""
FIRST_S = 2.0
"""Seconds until the one who was dialled begins: the other first dials in the ordinary way."""
EXCHANGE_S = 10.0
PUNCHES_MAX = 4
"""Peers to which this node finds a direct way at once."""

log = logging.getLogger("swarm.host")


class Puncher:
    """Search for a direct way to the peers that are connected through a relay."""

    def __init__(
        self,
        libp2p_host: GuardedHost,
        links: Connections,
        *,
        go_direct: Callable[[PeerId], Awaitable[None]],
        own_addresses: Callable[[], Sequence[str]],
        blame: Callable[[PeerId, PeerFault], None],
    ) -> None:
        """``go_direct(peer)`` dials a peer at its direct addresses; raises ``Unreachable`` if it is at none."""
        self._network: Any = libp2p_host.get_network()
        self._links, self._go_direct, self._blame = links, go_direct, blame
        self._own_addresses = own_addresses
        self._slots = trio.CapacityLimiter(PUNCHES_MAX)

    async def improve(self, link: Link) -> None:
        """Look for a direct way to the peer of a link through a relay; never fails."""
        async with self._slots:
            try:
                if link.is_outbound:
                    await self._go_direct(link.peer)
                    return
                await trio.sleep(FIRST_S)
                for number in range(ROUNDS):
                    if self._is_settled(link):
                        return
                    await self._lead(link)
                    log.info("way to %s: try %d", peer_name(link.peer), number + 1)
            except PeerFault as fault:
                self._blame(link.peer, fault)
            except SwarmError as error:
                log.info("no direct way to %s: %s", peer_name(link.peer), error)

    def _is_settled(self, link: Link) -> bool:
        best = self._links.of(link.peer)[-1:]
        return not best or best[0].relay is None

    async def _lead(self, link: Link) -> None:
        """Agree with the one who dialled on a moment, and dial it then as the one who answers."""
        agreed: tuple[str, ...] = ()
        stream = FrameStream(await self._links.open_on(link, [DCUTR]))
        try:
            with trio.move_on_after(EXCHANGE_S):
                own = await self._observed(link)
                asked = trio.current_time()
                await stream.send_line(messages.punch(own))
                theirs = messages.parse_punch(await stream.receive_line(MESSAGE_BYTES_MAX))
                rtt_s = trio.current_time() - asked
                await stream.send_line(messages.punch_now())
                await trio.sleep(rtt_s / 2)
                agreed = theirs
        except BadEncoding as error:
            raise PeerFault(f"of a direct way: {error}") from None
        finally:
            await stream.close()
        await self._dial(link.peer, agreed, self._network.dial_addr_as_responder)

    async def serve(self, net_stream: INetStream) -> None:
        """Follow the one who was dialled through a relay, and dial it when it says so."""
        link = self._links.link_of(net_stream.swarm_conn)  # type: ignore[attr-defined]
        stream = FrameStream(net_stream)
        if link is None or link.relay is None or not link.is_outbound:
            await stream.reset()
            return
        agreed: tuple[str, ...] = ()
        try:
            with trio.move_on_after(EXCHANGE_S):
                theirs = messages.parse_punch(await stream.receive_line(MESSAGE_BYTES_MAX))
                await stream.send_line(messages.punch(await self._observed(link)))
                messages.parse_punch_now(await stream.receive_line(MESSAGE_BYTES_MAX))
                agreed = theirs
        except (BadEncoding, PeerFault) as error:
            self._blame(link.peer, PeerFault(f"of a direct way: {error}"))
            return
        except Unreachable as error:
            log.debug("no direct way: %s", error)
            return
        finally:
            await stream.close()
        await self._dial(link.peer, agreed, self._network.dial_addr)

    async def _observed(self, link: Link) -> list[str]:
        """Return addresses at which this node may be dialled: as the relay sees it, then its own."""
        own = [address for address in self._own_addresses() if relay_in(address) is None]
        relay = self._links.relay_link(link.relay) if link.relay is not None else None
        if relay is None:
            return own
        stream = FrameStream(await self._links.open_on(relay, [IDENTIFY]))
        try:
            seen = messages.parse_observed(await stream.receive_line(IDENTIFY_BYTES_MAX))
        except (SwarmError, *LINK_ERRORS) as error:
            log.debug("not told where from: %s", error)
            seen = ""
        finally:
            await stream.reset()
        return list(dict.fromkeys([*([seen] if seen else []), *own]))

    async def _dial(
        self, peer: PeerId, addresses: Sequence[str], dial: Callable[..., Awaitable[Untyped]]
    ) -> None:
        """Dial a peer at all addresses at once, from the port at which this node listens."""
        with trio.move_on_after(PUNCH_S):
            async with trio.open_nursery() as nursery:
                for address in addresses:
                    nursery.start_soon(self._dial_one, peer, address, dial)

    async def _dial_one(
        self, peer: PeerId, address: str, dial: Callable[..., Awaitable[Untyped]]
    ) -> None:
        source = listening_at(self._network, address)
        try:
            await dial(Multiaddr(address), id_of(peer), source)
        except LINK_ERRORS as error:
            log.debug("nobody at %s: %r", address, error)
