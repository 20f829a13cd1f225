"""Keep a port of the router forwarded to this node, where there is a router that does so.

Shell: one task; ``messages`` reads what a router says. Rule H39.

    NONE --found, it forwards--> FORWARDED --renewed every half lease--> FORWARDED
     ^ +--no router, refused: 10 min, or another network--+ |
     +--------- refused, another network, the end of this node: taken back ----+

What a router says of its own address is told to nobody: it is one more address at which peers are asked to dial
this node, and only what they confirm counts (``dialback``).
"""

import logging
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Interface
from typing import Protocol

import trio

from swarm.errors import BadEncoding, SwarmError, Unreachable
from swarm.host.addresses import format_address
from swarm.host.closing import shielded
from swarm.host.listen import home_network
from swarm.host.upnp import messages
from swarm.host.upnp.messages import CONFLICT, ONLY_PERMANENT, Endpoint, Refused, Service

FIRST_S = 2.0
"""Seconds after the start: a node has more urgent things to do."""
SEARCH_S = 2.5
"""Seconds in which routers answer: they draw one of up to a second."""
ROUTERS_MAX = 4
ANSWERS_MAX = 32
ASK_S = 5.0
"""Seconds for a whole question and its answer, however slowly a router sends."""
ALL_S = 60.0
"""Seconds for all questions to all routers found."""
LEASE_S = 3_600
AGAIN_S = 600.0
LOOK_S = 5.0
LEAVE_S = 0.5
"""Seconds at the end to take the port back; if the router does not answer, it ends with its lease."""
PORTS_TRIED = 4
PORT_FIRST, PORT_LAST = 1_024, 65_535
CHUNK_BYTES = 16 << 10
PARTS_MAX = 512
"""Pieces in which an answer may come: each is looked at with all that came before it."""

log = logging.getLogger("swarm.host")


class ForwardedHost(Protocol):
    """The part of a host that this needs; ``Host`` has it."""

    def forwardable(self, own: str) -> int:
        """Return the port at which this node listens at an IPv4 address of this machine; 0 if it does not."""
        ...

    def suppose(self, address: str) -> None:
        """Have peers dial this node at an address, too; "" for none any more."""
        ...


@dataclass(frozen=True, slots=True)
class Mapping:
    """Port of a router that is forwarded to this node."""

    service: Service
    own: str
    inner: int
    outer: int
    external: str
    """Address of the router in the internet, as it says."""
    lease_s: int
    """0: for ever."""


async def keep_forwarded(
    host: ForwardedHost,
    report: Callable[[str], None],
    network: Callable[[], IPv4Interface | None] = home_network,
) -> None:
    """Have the router forward a port to this node, until cancelled; what cannot be had is no error.

    ``report`` is told once what was had, or why it was not; ``network`` returns the private network of now.
    """
    told = ""

    def tell(text: str) -> None:
        nonlocal told
        if text != told:
            report(text)
        told = text

    await trio.sleep(FIRST_S)
    while True:
        lan, pause_s = network(), AGAIN_S
        port = host.forwardable(str(lan.ip)) if lan else 0
        if lan and port:
            try:
                async with _forwarded(lan, port) as mapping:
                    pause_s = LOOK_S
                    tell(_text(mapping))
                    host.suppose(format_address(mapping.external, mapping.outer))
                    try:
                        await _renewed(mapping, partial(_is_there, network, lan))
                    finally:
                        host.suppose("")
            except (SwarmError, OSError) as error:
                log.info("no port of a router: %s", error)
                if isinstance(error, _Unwilling):
                    tell(str(error))
        with trio.move_on_after(pause_s):
            while _is_there(network, lan):  # noqa: ASYNC110  interfaces have no event
                await trio.sleep(LOOK_S)


class _Unwilling(Unreachable):
    """Router that was found, and does not forward."""


def _is_there(network: Callable[[], IPv4Interface | None], lan: IPv4Interface | None) -> bool:
    return network() == lan


def _text(mapping: Mapping) -> str:
    return (
        f"the router at {mapping.service.control.host} forwards its TCP port {mapping.outer} to this"
        f" node (UPnP): peers are asked to dial {mapping.external}:{mapping.outer}"
    )


# ---- one mapping


@asynccontextmanager
async def _forwarded(lan: IPv4Interface, port: int) -> AsyncGenerator[Mapping]:
    """Hold a port of a router, which is taken back at the end.

    Raises ``Unreachable``, and ``_Unwilling`` if a router refuses.
    """
    found = await _mapped(lan, port)
    try:
        yield found
    finally:
        with shielded(LEAVE_S), suppress(SwarmError, OSError):
            await _delete(found)


async def _mapped(lan: IPv4Interface, port: int) -> Mapping:
    with trio.move_on_after(ALL_S):
        return await _map_somewhere(lan, port)
    raise Unreachable(f"no router forwards in {ALL_S:g} s")


async def _map_somewhere(lan: IPv4Interface, port: int) -> Mapping:
    why = ""
    for at in await _search(lan):
        try:
            status, body = await _ask(at, messages.get(at))
            if status != 200:
                raise BadEncoding(f"a description with status {status}")
            services = messages.parse_description(body, at, lan)
        except (SwarmError, OSError) as error:
            log.info("no router at %s: %s", at.host, error)
            continue
        for service in services:
            try:
                return await _map_at(service, lan, port)
            except (SwarmError, OSError) as error:
                log.info("no port at %s: %s", at.host, error)
                why = why or f"the router at {at.host} forwards no port to this node: {error}"
    if why:
        raise _Unwilling(why)
    raise Unreachable("no router answers")


async def _map_at(service: Service, lan: IPv4Interface, port: int) -> Mapping:
    said = await _call(service, "GetExternalIPAddress", {}, "NewExternalIPAddress")
    external, lease_s = messages.parse_external(said), LEASE_S
    outer, tried = port, 0
    while True:
        mapping = Mapping(
            service=service,
            own=str(lan.ip),
            inner=port,
            outer=outer,
            external=external,
            lease_s=lease_s,
        )
        try:
            if await _is_anothers(mapping):
                raise Refused(CONFLICT)
            await _add(mapping)
        except Refused as refused:
            tried += 1
            if tried >= PORTS_TRIED:
                raise
            if refused.code == ONLY_PERMANENT:
                lease_s = 0
            elif refused.code == CONFLICT:
                outer = random.randint(PORT_FIRST, PORT_LAST)
            else:
                raise
            continue
        return mapping


async def _renewed(mapping: Mapping, is_there: Callable[[], bool]) -> None:
    """Renew a mapping until this machine is in another network; raise ``SwarmError`` if the router refuses."""
    while True:
        with trio.move_on_after(LEASE_S / 2):
            while is_there():  # noqa: ASYNC110  interfaces have no event
                await trio.sleep(LOOK_S)
            return
        said = await _call(mapping.service, "GetExternalIPAddress", {}, "NewExternalIPAddress")
        if messages.parse_external(said) != mapping.external:
            raise Unreachable("the router has another address now")
        await _add(mapping)


async def _is_anothers(mapping: Mapping) -> bool:
    """Return True if the port is forwarded to another machine: some routers would take it from that."""
    try:
        client = await _call(
            mapping.service,
            "GetSpecificPortMappingEntry",
            _entry(mapping),
            "NewInternalClient",
        )
    except (Refused, BadEncoding):  # there is none, or it does not say
        return False
    return bool(client) and client != mapping.own


async def _add(mapping: Mapping) -> None:
    arguments = {
        **_entry(mapping),
        "NewInternalPort": str(mapping.inner),
        "NewInternalClient": mapping.own,
        "NewEnabled": "1",
        "NewPortMappingDescription": "swarm",
        "NewLeaseDuration": str(mapping.lease_s),
    }
    try:
        await _call(mapping.service, "AddPortMapping", arguments)
    except trio.Cancelled:  # it may be on its way already
        with shielded(LEAVE_S), suppress(SwarmError, OSError):
            await _delete(mapping)
        raise


async def _delete(mapping: Mapping) -> None:
    with suppress(Refused):
        await _call(mapping.service, "DeletePortMapping", _entry(mapping))


def _entry(mapping: Mapping) -> dict[str, str]:
    port = str(mapping.outer)
    return {"NewRemoteHost": "", "NewExternalPort": port, "NewProtocol": "TCP"}


async def _call(service: Service, action: str, arguments: dict[str, str], field: str = "") -> str:
    status, body = await _ask(service.control, messages.call(service, action, arguments))
    return messages.parse_reply(status, body, field)


# ---- datagrams and connections


async def _search(lan: IPv4Interface) -> list[Endpoint]:
    """Return where routers of this network describe themselves."""
    found = list[Endpoint]()
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as asker:
        await asker.bind((str(lan.ip), 0))
        asker.setsockopt(trio.socket.IPPROTO_IP, trio.socket.IP_MULTICAST_IF, lan.ip.packed)
        asker.setsockopt(trio.socket.IPPROTO_IP, trio.socket.IP_MULTICAST_TTL, 2)
        await asker.sendto(messages.search(), messages.SEARCH_AT)
        with trio.move_on_after(SEARCH_S):
            for _ in range(ANSWERS_MAX):
                data, (sender, *_) = await asker.recvfrom(messages.DATAGRAM_BYTES_MAX + 1)
                try:
                    at = messages.parse_found(data, sender, lan)
                except BadEncoding as error:
                    log.info("no router at %s: %s", sender, error)
                    continue
                if at not in found:
                    found.append(at)
                if len(found) == ROUTERS_MAX:
                    break
    return found


async def _ask(at: Endpoint, question: bytes) -> tuple[int, bytes]:
    """Ask a router; return the status and body. Raises ``Unreachable``, ``BadEncoding`` or ``OSError``."""
    with trio.move_on_after(ASK_S):
        # By number: no name is asked for.
        stream = await trio.open_tcp_stream(at.host, at.port)
        try:
            await stream.send_all(question)
            data = b""
            for _ in range(PARTS_MAX):
                part = await stream.receive_some(CHUNK_BYTES)
                data += part
                answer = messages.parse_response(data, is_ended=not part)
                if answer is not None:
                    return answer
            raise BadEncoding("an answer in this many pieces")
        except trio.BrokenResourceError as error:
            raise Unreachable(f"{at.host} hung up") from error
        finally:
            await trio.aclose_forcefully(stream)
    raise Unreachable(f"{at.host} did not answer within {ASK_S:g} s")
