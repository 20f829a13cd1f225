"""Remember peers and the port of the last start, so that the next start needs no ticket.

Shell: reads and writes rows of the store; ``anchors`` decides which peers.

If any port will do, a node listens at the port of its last start, where peers that remember it find it. Without
this a network that all peers left could not form again: each would dial the others at their old ports.
"""

from collections.abc import Sequence
from contextlib import suppress

from swarm.config.schema import NodeConfig
from swarm.errors import BadEncoding, DiskFull, UsageError
from swarm.host.addresses import split_listen
from swarm.host.listen import WILDCARDS, bindings
from swarm.node.join.anchors import (
    ANCHORS_MAX,
    PEERS_MAX,
    Anchors,
    KnownPeers,
    Seen,
    remembered,
)
from swarm.node.ports import StorePort
from swarm.primitives.codec import decode, encode
from swarm.store import Store
from swarm.types import PeerId

PEERS_KEY = b"acquaintances"
ANCHORS_KEY = b"anchor-peers"
BYTES_MAX = 1 << 14

Target = tuple[PeerId, tuple[str, ...]]


def recalled(store: StorePort, table: str) -> list[Target]:
    """Return the peers that this home remembers, anchor peers first; none if the row cannot be read."""
    return [(PeerId(one.peer), one.addresses) for one in _known(store, table).peers[:PEERS_MAX]]


def anchors_of(store: StorePort, table: str) -> Anchors:
    """Return the anchor peers of this home; none if the row cannot be read."""
    try:
        found = decode(Anchors, store.get(table, ANCHORS_KEY) or b"", limit=BYTES_MAX)
    except BadEncoding:
        return Anchors()
    return Anchors(found.peers[:ANCHORS_MAX], found.rested_s)


async def remember(store: StorePort, table: str, anchors: Anchors, seen: Sequence[Seen]) -> None:
    """Write down the anchor peers and others that were met, if there is anything new and the disk has room."""
    rows = (
        (ANCHORS_KEY, encode(anchors)),
        (PEERS_KEY, encode(remembered(anchors, seen, _known(store, table)))),
    )
    changes = [(table, key, row) for key, row in rows if row != store.get(table, key)]
    if changes:
        with suppress(DiskFull):  # the old rows remain usable
            await store.write_soon(changes)


def _known(store: StorePort, table: str) -> KnownPeers:
    try:
        return decode(KnownPeers, store.get(table, PEERS_KEY) or b"", limit=BYTES_MAX)
    except BadEncoding:
        return KnownPeers(())


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
