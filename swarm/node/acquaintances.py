"""Remember whom this node was connected to, so that the next start finds its way without a ticket.

Shell: reads the host's links, writes one row of the store.
"""

from contextlib import suppress

import trio

from swarm.codec import Message, decode, encode
from swarm.errors import BadEncoding, DiskFull
from swarm.host.service import Host
from swarm.store import Store
from swarm.types import PeerId

KEY = b"acquaintances"
PEERS_MAX = 16
"""Peers remembered: one of so many is still there after a week."""
ADDRESSES_MAX = 4
ADDRESS_CHARS_MAX = 200
BYTES_MAX = 1 << 14
FIRST_LOOK_S = 1.0
LOOK_INTERVAL_S = 20.0
"""A node that is killed forgets whom it met since then."""

Target = tuple[PeerId, tuple[str, ...]]


class Acquaintance(Message, frozen=True):
    """A peer and where it could be dialled, best first."""

    peer: bytes
    addresses: tuple[str, ...]


class Acquaintances(Message, frozen=True):
    """Those connected last."""

    peers: tuple[Acquaintance, ...]


def recalled(store: Store, table: str) -> list[Target]:
    """Whom the last start of this home was connected to; nobody when that cannot be read."""
    raw = store.get(table, KEY)
    try:
        known = decode(Acquaintances, raw or b"", limit=BYTES_MAX).peers
    except BadEncoding:
        return []
    return [(PeerId(one.peer), one.addresses) for one in known[:PEERS_MAX]]


async def keep_recalling(host: Host, store: Store, table: str) -> None:
    """Write down who is connected whenever that has changed; runs until cancelled."""
    written, pause_s = b"", FIRST_LOOK_S
    while True:
        await trio.sleep(pause_s)
        now = _connected(host, recalled(store, table))
        if now.peers and encode(now) != written:
            written, pause_s = encode(now), LOOK_INTERVAL_S
            with suppress(DiskFull):  # the old row serves as well
                await store.write_soon([(table, KEY, written)])


def _connected(host: Host, before: list[Target]) -> Acquaintances:
    """The connected peers that can be dialled, then those of earlier, up to the limit."""
    found = {peer: tuple(host.known_addresses(peer)) for peer in host.connected()}
    found |= {peer: addresses for peer, addresses in before if not found.get(peer)}
    kept = [
        Acquaintance(peer, addresses[:ADDRESSES_MAX])
        for peer, addresses in found.items()
        if addresses and all(len(address) <= ADDRESS_CHARS_MAX for address in addresses)
    ]
    return Acquaintances(tuple(kept[:PEERS_MAX]))
