"""Listen where the last start listened, when any port will do: those who remember this node find it there.

Shell: reads and writes one row of the store, and tries whether the port is free.

Without this a network that everybody left could not meet again: each would call the others where they were.
"""

from collections.abc import Sequence
from contextlib import suppress

from swarm.errors import BadEncoding, DiskFull, UsageError
from swarm.host.addresses import split_listen
from swarm.host.listening import bindings
from swarm.run_file import NodeConfig
from swarm.store import Store

KEY = b"listening-port"
PORT_MAX = 65_535


def usual(store: Store, table: str, listen: Sequence[str]) -> tuple[str, ...]:
    """The places to listen at; the one with port 0 has the port of the last start, if that is free.

    More than one such place, or none, is left as it is; so is what cannot be read, for ``open_host`` says why.
    """
    place = _open_place(listen)
    port = int.from_bytes(store.get(table, KEY) or b"", "big")
    if place is None or not 0 < port <= PORT_MAX:
        return tuple(listen)
    again = f"{place.rpartition(':')[0]}:{port}"
    try:
        bindings([again])
    except UsageError:
        return tuple(listen)
    return tuple(again if text == place else text for text in listen)


async def remember(store: Store, table: str, config: NodeConfig, addresses: Sequence[str]) -> None:
    """Write down which port the place with port 0 got, if the disk takes it.

    ``addresses`` are multiaddr texts of the open host, those that are only announced first.
    """
    bound, listen = addresses[len(config.announce) :], config.listen
    if _open_place(listen) is None:
        return
    fixed = {split_listen(text)[1] for text in listen}
    ports = [int(text.split("/tcp/")[1].split("/")[0]) for text in bound if "/tcp/" in text]
    found = next((port for port in ports if port not in fixed and 0 < port <= PORT_MAX), None)
    if found is not None:
        with suppress(DiskFull):
            await store.write_soon([(table, KEY, found.to_bytes(2, "big"))])


def _open_place(listen: Sequence[str]) -> str | None:
    """The one place with port 0."""
    try:
        found = [text for text in listen if split_listen(text)[1] == 0]
    except BadEncoding:
        return None
    return found[0] if len(found) == 1 else None
