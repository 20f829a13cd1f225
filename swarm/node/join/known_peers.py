"""Remember the connected peers and the port of the last start, so that the next start needs no ticket.

Shell: reads the host's links, writes rows of the store.

If any port will do, a node listens at the port of its last start, where peers that remember it find it. Without
this a network that all peers left could not form again: each would dial the others at their old ports.
"""

from collections.abc import Sequence
from contextlib import suppress

import trio

from swarm.config.schema import NodeConfig
from swarm.errors import BadEncoding, DiskFull, UsageError
from swarm.host.addresses import split_listen
from swarm.host.listen import WILDCARDS, bindings
from swarm.host.service import Host
from swarm.primitives.codec import Message, decode, encode
from swarm.store import Store
from swarm.types import PeerId

PEERS_KEY = b"acquaintances"
PEERS_MAX = 16
"""Peers remembered: of so many one is still there after a week."""
ADDRESSES_MAX = 4
ADDRESS_CHARS_MAX = 200
BYTES_MAX = 1 << 14
FIRST_POLL_S = 1.0
POLL_INTERVAL_S = 20.0
"""Seconds between two checks; a node that is killed forgets the peers it met since the last one."""

Target = tuple[PeerId, tuple[str, ...]]


class KnownPeer(Message, frozen=True):
    """Peer and the addresses at which it could be dialled, best first."""

    peer: bytes
    addresses: tuple[str, ...]


class KnownPeers(Message, frozen=True):
    """Peers connected last."""

    peers: tuple[KnownPeer, ...]


def recalled(store: Store, table: str) -> list[Target]:
    """Return the peers that the last start of this home was connected to; none if the row cannot be read."""
    raw = store.get(table, PEERS_KEY)
    try:
        known = decode(KnownPeers, raw or b"", limit=BYTES_MAX).peers
    except BadEncoding:
        return []
    return [(PeerId(one.peer), one.addresses) for one in known[:PEERS_MAX]]


async def keep_recalling(host: Host, store: Store, table: str) -> None:
    """Write down the connected peers whenever they have changed; runs until cancelled."""
    written, pause_s = b"", FIRST_POLL_S
    while True:
        await trio.sleep(pause_s)
        now = _connected(host, recalled(store, table))
        if now.peers and encode(now) != written:
            written, pause_s = encode(now), POLL_INTERVAL_S
            with suppress(DiskFull):  # the old row remains usable
                await store.write_soon([(table, PEERS_KEY, written)])


def _connected(host: Host, before: list[Target]) -> KnownPeers:
    """Return the connected peers that can be dialled, then the earlier ones, up to ``PEERS_MAX``."""
    found = {peer: tuple(host.known_addresses(peer)) for peer in host.connected()}
    found |= {peer: addresses for peer, addresses in before if not found.get(peer)}
    kept = [
        KnownPeer(peer, addresses[:ADDRESSES_MAX])
        for peer, addresses in found.items()
        if addresses and all(len(address) <= ADDRESS_CHARS_MAX for address in addresses)
    ]
    return KnownPeers(tuple(kept[:PEERS_MAX]))


PORT_KEY = b"listening-port"
PORT_MAX = 65_535


def usual_listen(store: Store, table: str, listen: Sequence[str]) -> tuple[str, ...]:
    """Return the addresses to listen at, port 0 replaced by the port of the last start if that is free.

    The list is unchanged if not exactly one address has port 0, or that of IPv4 and that of IPv6, or if one
    cannot be parsed: ``open_host`` says why.
    """
    addresses = _open_addresses(listen)
    port = int.from_bytes(store.get(table, PORT_KEY) or b"", "big")
    if not addresses or not 0 < port <= PORT_MAX:
        return tuple(listen)
    again = {text: f"{text.rpartition(':')[0]}:{port}" for text in addresses}
    try:
        bindings(list(again.values()))
    except UsageError:
        return tuple(listen)
    return tuple(again.get(text, text) for text in listen)


async def remember_port(
    store: Store, table: str, config: NodeConfig, addresses: Sequence[str]
) -> None:
    """Write down the port that the address with port 0 got, if the disk has room.

    ``addresses`` are the multiaddrs of the open host, those that are only announced first.
    """
    bound, listen = addresses[len(config.announce) :], config.listen
    if not _open_addresses(listen):
        return
    fixed = {split_listen(text)[1] for text in listen}
    ports = [int(text.split("/tcp/")[1].split("/")[0]) for text in bound if "/tcp/" in text]
    found = next((port for port in ports if port not in fixed and 0 < port <= PORT_MAX), None)
    if found is not None:
        with suppress(DiskFull):
            await store.write_soon([(table, PORT_KEY, found.to_bytes(2, "big"))])


def _open_addresses(listen: Sequence[str]) -> list[str]:
    """Return the address with port 0, or both wildcards with it; none if there are others, or one cannot be
    parsed.
    """
    try:
        found = {text: split_listen(text) for text in listen}
    except BadEncoding:
        return []
    hosts = {text: host for text, (host, port) in found.items() if port == 0}
    return list(hosts) if len(hosts) == 1 or sorted(hosts.values()) == list(WILDCARDS) else []
