"""Parse, clean and rank the addresses at which peers may be dialled.

Core: pure functions and one bounded table. Addresses are multiaddr texts without the peer:
``/ip4/192.0.2.1/tcp/4001``, ``/ip6/.../tcp/...``, ``/dns/example.org/tcp/...``. One through a relay is that of
the relay with its key: ``/ip4/192.0.2.1/tcp/4001/p2p/12D3.../p2p-circuit``.
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from swarm.errors import BadEncoding
from swarm.primitives.crypto import parse_peer, peer_text
from swarm.types import PeerId

CIRCUIT = "/p2p-circuit"
"""End of an address through a relay; who is dialled there may follow."""

ADDRESSES_MAX = 8
"""Addresses kept for one peer: a machine with more interfaces than that announces its best ones."""

PEERS_MAX = 4096
"""Peers whose addresses are kept; the one updated longest ago makes room."""

ADDRESS_CHARS_MAX = 160
"""Characters of an address. A DNS name may have 253, but one that long need not be typed or stored."""

NETWORKS_MAX = 4096
"""Addresses of which it is remembered what network they are of."""

V4_NETWORK_BITS, V6_NETWORK_BITS = 24, 48
"""Bits of an address that name a network: whoever has one address of it may have them all."""

_NAMES = ("dns", "dns4", "dns6")
_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,120}[a-z0-9])?", re.IGNORECASE)


def parse_address(text: str) -> str:
    """Return ``text`` in the form in which we write addresses, without a trailing ``/p2p/...``.

    Raises ``BadEncoding`` if it is not an IP or DNS address with a TCP port in 1..65535, and no such address of
    a relay.
    """
    direct, sign, _ = text.partition(CIRCUIT)
    parts = direct.split("/")
    if len(parts) == 7 and parts[5] == "p2p":
        relay = f"/p2p/{peer_text(parse_peer(parts[6]))}{CIRCUIT}" if sign else ""
        return _parse_direct(text, parts[:5]) + relay
    return _parse_direct(text, parts if not sign else [])


def _parse_direct(text: str, parts: Sequence[str]) -> str:
    if len(text) > ADDRESS_CHARS_MAX or len(parts) != 5 or parts[0] or parts[3] != "tcp":
        raise BadEncoding(f"{text[:80]!r} is not an address like /ip4/192.0.2.1/tcp/4001")
    kind, host, port = parts[1], parts[2], parts[4]
    if not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise BadEncoding(f"{port[:20]!r} is not a TCP port")
    if kind in _NAMES:
        if not _HOST_NAME.fullmatch(host):
            raise BadEncoding(f"{host[:80]!r} is not a host name")
        return f"/{kind}/{host.lower()}/tcp/{int(port)}"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise BadEncoding(f"{host[:80]!r} is not an IP address") from None
    if kind != f"ip{address.version}" or address.is_unspecified or address.is_multicast:
        raise BadEncoding(f"{text[:80]!r} cannot be dialled")
    return f"/{kind}/{address.compressed}/tcp/{int(port)}"


def format_address(host: str, port: int) -> str:
    """Return host and port as an address: ``("127.0.0.1", 4001)`` is ``/ip4/127.0.0.1/tcp/4001``."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"/dns/{host.lower()}/tcp/{port}"
    return f"/ip{address.version}/{address.compressed}/tcp/{port}"


def split_listen(text: str) -> tuple[str, int]:
    """Return (host, port) of ``host:port``, ``[v6]:port`` or an address text; port 0 is allowed here.

    Raises ``BadEncoding`` if the text is none of these.
    """
    if text.startswith("/"):
        parts = text.split("/")
        host, port = (parts[2], parts[4]) if len(parts) == 5 else ("", "")
    else:
        host, _, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise BadEncoding(f"{text[:80]!r} is not host:port, such as 0.0.0.0:4001")
    return host, int(port)


def through(relay: PeerId, address: str) -> str:
    """Return the address of whom a relay, which is dialled at ``address``, has a reservation for."""
    return f"{address}/p2p/{peer_text(relay)}{CIRCUIT}"


def relay_in(address: str) -> tuple[PeerId, str] | None:
    """Return the relay of an address through one, and the relay's own address; None for a direct address."""
    if not address.endswith(CIRCUIT):
        return None
    own, _, relay = address.removesuffix(CIRCUIT).partition("/p2p/")
    return parse_peer(relay), own


def direct_first(addresses: Iterable[str]) -> list[str]:
    """Return addresses in the order given, but those through relays last."""
    return sorted(addresses, key=lambda address: address.endswith(CIRCUIT))


def is_loopback(address: str) -> bool:
    """Return True if an address text names the machine itself."""
    host = address.split("/")[2] if address.count("/") >= 2 else ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@lru_cache(maxsize=NETWORKS_MAX)
def network_of(host: str) -> str:
    """Return the network of an address, a /24 or an IPv6 /48: what one household or provider's line has.

    It is "" for an address that is not a public one, and for what is no IP address.
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return ""
    address = getattr(address, "ipv4_mapped", None) or address
    if not address.is_global:
        return ""
    bits = V4_NETWORK_BITS if address.version == 4 else V6_NETWORK_BITS
    return str(ipaddress.ip_network((address, bits), strict=False))


def network_at(address: str) -> str:
    """Return the network that an address text leads into; of a host name its domain, whose owner names any.

    It is "" for an address that is not a public one.
    """
    kind, host = address.split("/")[1:3] if address.count("/") >= 2 else ("", "")
    return ".".join(host.split(".")[-2:]) if kind in _NAMES else network_of(host)


def believable(claimed: Iterable[str], remote_host: str) -> tuple[str, ...]:
    """Return the usable ones of the addresses that a peer claims for itself, at most ``ADDRESSES_MAX``.

    A loopback address means this machine only to a peer that itself came in over loopback. Addresses that
    cannot be parsed are left out: a newer version may know kinds that we do not.
    """
    kept: list[str] = []
    near = is_loopback(format_address(remote_host, 1)) if remote_host else False
    for text in claimed:
        try:
            address = parse_address(text)
        except BadEncoding:
            continue
        if (near or not is_loopback(address)) and address not in kept:
            kept.append(address)
    return tuple(kept[:ADDRESSES_MAX])


class AddressBook:
    """Addresses by peer, best first; bounded, dropping the peer updated longest ago."""

    def __init__(self) -> None:
        self._addresses: dict[PeerId, tuple[str, ...]] = {}

    def learn(self, peer: PeerId, addresses: Sequence[str]) -> bool:
        """Put ``addresses`` first; return True if one of them is new.

        Texts that are not addresses are skipped.
        """
        fresh: list[str] = []
        for text in addresses:
            try:
                fresh.append(parse_address(text))
            except BadEncoding:
                continue
        known = self._addresses.pop(peer, ())
        merged = tuple(dict.fromkeys((*fresh, *known)))[:ADDRESSES_MAX]
        if not merged:
            return False
        self._addresses[peer] = merged
        while len(self._addresses) > PEERS_MAX:
            del self._addresses[next(iter(self._addresses))]
        return not set(fresh) <= set(known)

    def peers(self) -> list[PeerId]:
        """Return the peers that have addresses."""
        return list(self._addresses)

    def addresses(self, peer: PeerId) -> tuple[str, ...]:
        """Return the addresses to dial, in order."""
        return self._addresses.get(peer, ())

    def worked(self, peer: PeerId, address: str) -> None:
        """Move an address to the front, after a successful dial."""
        known = self._addresses.get(peer, ())
        if address in known:
            others = (other for other in known if other != address)
            self._addresses[peer] = (address, *others)

    def failed(self, peer: PeerId, address: str) -> None:
        """Move an address to the back, after a failed dial."""
        known = self._addresses.get(peer, ())
        if address in known:
            others = (other for other in known if other != address)
            self._addresses[peer] = (*others, address)
