"""Set up relaying on a host: be reached through relays, punch holes, and carry for others.

Shell: registers the handlers of three protocols.
"""

from collections.abc import Callable, Sequence
from functools import partial

import trio
from libp2p.custom_types import TProtocol

from swarm.errors import PeerFault
from swarm.host.client import Client
from swarm.host.connections import Connections
from swarm.host.dialback import DialBacks
from swarm.host.libp2p_patches import GuardedHost
from swarm.host.reachability import Reachable
from swarm.host.relay.circuits import RelayedHost, Relays, Wish
from swarm.host.relay.hop import Hop, Relaying, RelayMode
from swarm.host.relay.messages import DCUTR, HOP, STOP
from swarm.host.relay.punch import Puncher
from swarm.host.uplink import BYTES_PER_MBIT, Uplink
from swarm.types import PeerId


def set_up_relays(
    host: RelayedHost,
    libp2p_host: GuardedHost,
    nursery: trio.Nursery,
    links: Connections,
    caller: Client,
    *,
    reach: DialBacks,
    addresses: Callable[[PeerId], Sequence[str]],
    own_addresses: Callable[[], list[str]],
    blame: Callable[[PeerId, PeerFault], None],
    relaying: Relaying,
) -> Relays:
    """Return the places of this host at relays, and relay for others if this node is willing.

    ``reach`` is the record of who can dial this node, ``addresses`` those of a peer.
    """
    relays = Relays(
        host,
        libp2p_host,
        nursery,
        links,
        reach_relay=caller.reach_relay,
        addresses=addresses,
        wants=lambda: _wish(reach.verdict().reached),
    )
    caller.dial_relayed = relays.dial
    libp2p_host.set_stream_handler(TProtocol(STOP), relays.serve)
    puncher = Puncher(
        libp2p_host,
        links,
        go_direct=partial(caller.prove, is_direct=True),
        own_addresses=own_addresses,
        blame=blame,
    )
    libp2p_host.set_stream_handler(TProtocol(DCUTR), puncher.serve)
    links.on_relayed = lambda link: nursery.start_soon(puncher.improve, link)
    links.on_direct = caller.forget
    if relaying.mode is not RelayMode.OFF:
        hop = Hop(
            links,
            line=Uplink(relaying.mbit * BYTES_PER_MBIT),
            is_willing=lambda: relaying.mode is RelayMode.ON or reach.is_public(),
            blame=blame,
        )
        libp2p_host.set_stream_handler(TProtocol(HOP), hop.serve)
    return relays


def _wish(reached: Reachable) -> Wish:
    """Return which relays a node wants that is reached so."""
    match reached:
        case Reachable.NOBODY | Reachable.NETWORK:
            return Wish.ANY
        case Reachable.UNKNOWN:
            return Wish.NAMED
        case Reachable.PUBLIC | Reachable.MACHINE:
            return Wish.NONE
