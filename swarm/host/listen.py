"""Find the addresses to listen on, and the ones to announce.

Shell: looks at the machine's ports and interfaces.
"""

import errno
import socket
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import IPv4Interface

import psutil  # type: ignore[import-untyped]

from swarm.errors import BadEncoding, UsageError
from swarm.host.addresses import format_address, is_loopback, parse_address, split_listen
from swarm.host.closing import Untyped

V4_WILDCARD, V6_WILDCARD = WILDCARDS = ("0.0.0.0", "::")  # noqa: S104  compared with, not bound to
NOWHERE = "192.0.2.1", 9
"""Address of the internet at which nobody is, by RFC 5737."""
LONE_BITS = 31
"""Bits of a network in which there is nobody else, and no router."""
FAMILIES = socket.AF_INET, socket.AF_INET6
PORT_TRIES = 8


def bindings(listen: Sequence[str]) -> list[tuple[str, int]]:
    """Read ``host:port`` texts as (host, port) pairs.

    A machine without IPv6 listens on the others alone. Both wildcards with port 0 get one free port: who
    forwards it at a router forwards one.

    Raises ``UsageError`` if one is malformed or cannot be listened on.
    """
    try:
        endpoints = [split_listen(text) for text in listen]
    except BadEncoding as error:
        raise UsageError(str(error), hint="write it as 0.0.0.0:4001") from None
    others = [endpoint for endpoint in endpoints if endpoint[0] != V6_WILDCARD]
    if others and len(others) < len(endpoints) and not _has_ipv6():
        endpoints = others
    for host, port in endpoints:
        _check_free(host, port)
    return _on_one_port(endpoints)


def _has_ipv6() -> bool:
    """Return True if this machine can listen on IPv6."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind((V6_WILDCARD, 0))
    except OSError:
        return False
    return True


def _on_one_port(endpoints: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return the endpoints with one free port for both wildcards, where both ask for any."""
    both = {(V4_WILDCARD, 0), (V6_WILDCARD, 0)}
    if not both <= set(endpoints):
        return endpoints
    for _ in range(PORT_TRIES):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind((V4_WILDCARD, 0))
            port = int(probe.getsockname()[1])
        with suppress(UsageError):
            _check_free(V6_WILDCARD, port)
            return [(host, port if (host, at) in both else at) for host, at in endpoints]
    return endpoints


def announced(announce: Sequence[str]) -> tuple[str, ...]:
    """Read the addresses to tell others, ``host:port`` or multiaddr texts; raise ``UsageError``."""
    try:
        return tuple(
            parse_address(text if text.startswith("/") else format_address(*split_listen(text)))
            for text in announce
        )
    except BadEncoding as error:
        raise UsageError(str(error), hint="write it as example.org:4001") from None


def expand(bound: str) -> list[str]:
    """Return a bound address as others can use it: a wildcard stands for the machine's interfaces."""
    host, port = split_listen(bound)
    hosts = _interface_hosts(host) if host in WILDCARDS else [host]
    return [format_address(each, port) for each in hosts]


def home_network() -> IPv4Interface | None:
    """Return the private IPv4 network of this machine that leads to the internet, with its address there.

    None if it has none, or a public address instead.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(NOWHERE)  # asks for a route; nothing is sent
            own = str(probe.getsockname()[0])
        except OSError:
            return None
    masks = (
        entry.netmask
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family == socket.AF_INET and entry.address == own and entry.netmask
    )
    try:
        found = IPv4Interface(f"{own}/{next(masks, '255.255.255.255')}")
    except ValueError:  # a mask of no network
        return None
    is_home = found.is_private and not found.is_loopback and not found.is_link_local
    return found if is_home and found.network.prefixlen < LONE_BITS else None


def listening_at(network: Untyped, address: str, own: str = "") -> tuple[str, int] | None:
    """Return host and port that this node listens at, of the family of an address; None if it does not.

    ``own`` is the address of this machine that is to be one of those it listens at.
    """
    kind = address.split("/")[1]
    for listener in network.listeners.values():
        for bound in listener.get_addrs():
            family, host, _, port = str(bound).split("/")[1:5]
            if family == kind and (not own or host in (own, *WILDCARDS)):
                return host, int(port)
    return None


def _check_free(host: str, port: int) -> None:
    """Raise ``UsageError`` if this address cannot be listened on.

    libp2p listens with SO_REUSEPORT, under which two nodes of one user would share a port, and each connection
    would reach one of them by chance.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except socket.gaierror:
            raise UsageError(
                f"{host!r} is not an address of this machine", hint="swarm join --listen 0.0.0.0:0"
            ) from None
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise UsageError(
                    f"port {port} on {host} is already in use",
                    hint=f"choose another port, or see who has it: ss -ltnp 'sport = :{port}'",
                ) from None
            raise UsageError(
                f"cannot listen on {host}:{port}: {error.strerror}",
                hint=f"swarm join --listen 0.0.0.0:{port}",
            ) from None


def _interface_hosts(wildcard: str) -> list[str]:
    """Return the addresses behind 0.0.0.0 or ``::``; loopback only if there is nothing else."""
    family = socket.AF_INET6 if wildcard == "::" else socket.AF_INET
    return outward_hosts(family) or ["::1" if wildcard == "::" else "127.0.0.1"]


def outward_hosts(*families: socket.AddressFamily) -> list[str]:
    """Return the addresses of this machine by which others know it, of IPv4 and IPv6 if no family is named."""
    found = (
        entry.address
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family in (families or FAMILIES) and "%" not in entry.address
    )
    return sorted(host for host in found if not is_loopback(format_address(host, 1)))
