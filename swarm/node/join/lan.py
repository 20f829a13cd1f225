"""Tell the machines of this network how to join, and find what they tell: multicast DNS, RFC 6762 and 6763.

Shell: sockets and a thread of the library zeroconf. A service of this kind carries one ticket, as any other
text would: who finds one checks it as one that was typed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from socket import AF_INET, AF_INET6, inet_pton
from time import monotonic, sleep, time
from typing import Any, Protocol

import trio
from zeroconf import IPVersion, ServiceBrowser, ServiceInfo, ServiceStateChange, Zeroconf

from swarm.errors import BadTicket
from swarm.events import EventKind
from swarm.host.closing import shielded
from swarm.node.api.actions import InvitingNode, make_ticket
from swarm.node.ports import HasConfig, HasReport
from swarm.primitives.crypto import peer_name
from swarm.ticket import TICKET_CHARS_MAX, Reach, Ticket, parse_ticket, reach_of
from swarm.types import NO_DIGEST

KIND = "_swarm-train._tcp.local."
PART_CHARS = 120
"""Characters of a ticket in one string of a TXT record, which has 255 bytes at most."""
PARTS = -(-TICKET_CHARS_MAX // PART_CHARS)
LISTEN_S = 3.0
"""Seconds in which all that are there answer, if they are not asleep."""
PATIENCE_S = 12.0
"""Seconds until nobody is there: a run may have begun a moment ago, and radio loses multicast."""
AGAIN_S = 0.5
FOUND_MAX = 64
ASK_MS = 1_500
KINDS = {"ip4": AF_INET, "ip6": AF_INET6}
POLL_S = 0.5
AGAIN_TOLD_S = 5.0
"""Seconds between two looks at the addresses of this node, and so between two tickets that are told."""
CLOSE_S = 1.0
"""Seconds to say that the run is not here any more."""


@dataclass(frozen=True, slots=True)
class Found:
    """Ticket of a node of this network."""

    text: str
    ticket: Ticket


def service(ticket: str, parsed: Ticket) -> ServiceInfo:
    """Return the service that carries a ticket."""
    hosts = [address.split("/") for address in parsed.addresses]
    numbers = [(KINDS[kind], host) for _, kind, host, *_ in hosts if kind in KINDS]
    parts = [ticket[at : at + PART_CHARS] for at in range(0, len(ticket), PART_CHARS)]
    name = f"{peer_name(parsed.peer)}-{parsed.peer.hex()[:8]}"
    return ServiceInfo(
        KIND,
        f"{name}.{KIND}",
        addresses=[inet_pton(family, host) for family, host in numbers],
        port=int(hosts[0][4]),
        properties={f"t{number}": part for number, part in enumerate(parts)},
        server=f"{name}.local.",
    )


def ticket_of(properties: dict[bytes, bytes | None], now: int) -> Found | None:
    """Return the ticket that a service carries; None if there is none that could be used."""
    parts = [properties.get(b"t%d" % number) or b"" for number in range(PARTS)]
    text = b"".join(parts).decode("ascii", "replace")
    if len(text) > TICKET_CHARS_MAX:
        return None
    try:
        return Found(text, parse_ticket(text, now))
    except BadTicket:
        return None


class TellingNode(InvitingNode, HasConfig, HasReport, Protocol):
    """Parts of a node that tells others how to join it."""


async def tell_network(context: TellingNode) -> None:
    """Answer those of this network that look for a run, until cancelled, once there is one to join.

    A node that listens on its own machine alone tells nobody; one whose addresses change tells the new ones, on
    the networks of now. What cannot be told is a word, and no error.
    """
    if not context.config.lan:
        return
    while True:
        while context.run16 == NO_DIGEST[:16] or not _is_open(context.host.addresses()):  # noqa: ASYNC110
            await trio.sleep(POLL_S)
        await _tell(context, context.host.addresses())


async def _tell(context: TellingNode, addresses: Sequence[str]) -> None:
    """Tell the ticket of now until the addresses of this node are others."""
    text = make_ticket(context)
    info = service(text, parse_ticket(text, int(time())))
    try:
        teller = await trio.to_thread.run_sync(_opened)
    except OSError as error:
        why = f"machines of this network are not told of this run: {error}"
        context.report(EventKind.NETWORK, why)
        await _changed(context, addresses)
        return
    try:
        tell = partial(teller.register_service, info, allow_name_change=True)
        await trio.to_thread.run_sync(tell)
        await _changed(context, addresses)
    finally:
        with shielded(CLOSE_S):
            await trio.to_thread.run_sync(teller.close)


async def _changed(context: TellingNode, addresses: Sequence[str]) -> None:
    while set(context.host.addresses()) == set(addresses):  # noqa: ASYNC110
        await trio.sleep(AGAIN_TOLD_S)


def _opened() -> Zeroconf:
    try:
        return Zeroconf(ip_version=IPVersion.All, use_asyncio=False)
    except OSError:  # a machine without IPv6
        return Zeroconf(ip_version=IPVersion.V4Only, use_asyncio=False)


def _is_open(addresses: Sequence[str]) -> bool:
    return any(reach_of(address) is not Reach.MACHINE for address in addresses)


def search(listen_s: float = LISTEN_S, patience_s: float = PATIENCE_S) -> list[Found]:
    """Return the tickets that machines of this network tell, of each peer one; none without a network.

    It listens for `listen_s` to hear of all runs, and on until `patience_s` while it has heard of none.
    """
    try:
        asker = _opened()
    except OSError:
        return []
    names = list[str]()

    def heard(zeroconf: Zeroconf, service_type: str, name: str, state_change: Any) -> None:  # noqa: ANN401
        del zeroconf, service_type
        if state_change is ServiceStateChange.Added and len(names) < FOUND_MAX:
            names.append(name)

    ends = monotonic() + max(listen_s, patience_s)
    try:
        ServiceBrowser(asker, KIND, handlers=[heard])
        sleep(listen_s)
        found = _told(asker, names, listen_s)
        while not found and monotonic() < ends:
            sleep(AGAIN_S)
            found = _told(asker, names, listen_s)
    finally:
        asker.close()
    return found


def _told(asker: Zeroconf, names: Sequence[str], within_s: float) -> list[Found]:
    """Return the tickets of services by name, as many as answer in time."""
    ends, now = monotonic() + within_s, int(time())
    found = list[Found | None]()
    for name in list(names):
        if monotonic() < ends:
            info = asker.get_service_info(KIND, name, timeout=ASK_MS)
            found.append(None if info is None else ticket_of(info.properties, now))
    return list({one.ticket.peer: one for one in found if one is not None}.values())


def choose(found: Sequence[Found]) -> tuple[Found | None, str]:
    """Return the ticket to join with, and a sentence; none if there are several runs to choose from.

    Of several peers of one run the first will do: it names the others.
    """
    runs = {(one.ticket.genesis16, one.ticket.run16): one for one in found}
    if not runs:
        return None, "no machine of this network tells of a run"
    if len(runs) > 1:
        lines = [f"{peer_name(one.ticket.peer)}: swarm join {one.text}" for one in runs.values()]
        return None, "\n  ".join(["machines of this network tell of several runs:", *sorted(lines)])
    one = next(iter(runs.values()))
    return one, f"found on this network: the run of {peer_name(one.ticket.peer)}"
