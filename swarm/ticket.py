"""Write and read tickets: an invitation as a short string with check digits, ``swarm1:...``.

Core: pure functions.

A ticket names the network and the run by the first 16 bytes of their hashes, one peer, and one or two addresses
of that peer. Payload, then the first 4 bytes of its hash, written in base 58:

    version 1 | genesis 16 | run 16 | peer 32 | expires 5 | addresses (kind 1, host, port 2) ...

An address through a relay has 128 added to its kind, and the 32 bytes of the relay's key behind its port.
"""

import ipaddress
import re
from collections.abc import Iterator, Sequence
from enum import IntEnum

from swarm.errors import BadEncoding, BadTicket, ExpiredTicket
from swarm.primitives.codec import Message
from swarm.primitives.crypto import PEER_BYTES, digest, parse_peer, peer_text
from swarm.types import PeerId

PREFIX = "swarm1:"
TICKET_CHARS_MAX = 300
"""Characters of a ticket: fits a chat message, a QR code and two lines of a letter."""
ADDRESSES_MAX = 2
DNS_CHARS_MAX = 60
"""Characters of a host name; two of this length still fit into a ticket."""
_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_CHECK_BYTES = 4
_VERSION = 1
_HEAD_BYTES = 1 + 16 + 16 + 32 + 5
_EXPIRES_MAX = (1 << 40) - 1
_IP_KINDS = {"ip4": 4, "ip6": 6}
_DNS_KINDS = {"dns": 16, "dns4": 17, "dns6": 18}
_DNS_NAMES = {number: name for name, number in _DNS_KINDS.items()}
_ADDRESS = re.compile(
    r"/(ip4|ip6|dns|dns4|dns6)/([^/]+)/tcp/([0-9]{1,5})(?:/p2p/([^/]+)/p2p-circuit)?"
)
_RELAYED = 128
_PACKED_BYTES_MAX = 139
"""Bytes of all addresses for which there is room in ``TICKET_CHARS_MAX`` characters."""
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
_ASK_AGAIN = "ask for a new one: swarm ticket new"
_COPY_AGAIN = "copy the whole ticket again, from swarm1: to its end"


class Ticket(Message, frozen=True):
    """Invitation to a run: its network, its id, and one peer to connect to."""

    genesis16: bytes
    run16: bytes
    """First 16 bytes of the run's digest; zeros stand for no run in particular."""
    peer: PeerId
    addresses: tuple[str, ...]
    """One or two of ``/ip4|ip6|dns|dns4|dns6/HOST/tcp/PORT``; of one through a relay ``/p2p/RELAY/p2p-circuit``
    follows.
    """
    expires: int
    """Unix seconds; 0: never."""


def format_ticket(ticket: Ticket) -> str:
    """Write a ticket; raise ``BadTicket`` if a field is out of its bounds."""
    sizes = (len(ticket.genesis16), len(ticket.run16), len(ticket.peer))
    if sizes != (16, 16, 32) or not 0 <= ticket.expires <= _EXPIRES_MAX:
        raise BadTicket(
            "a ticket has a 16-byte genesis and run, a 32-byte peer and a time to expire"
        )
    if not 1 <= len(ticket.addresses) <= ADDRESSES_MAX:
        raise BadTicket(f"a ticket has 1 to {ADDRESSES_MAX} addresses, not {len(ticket.addresses)}")
    head = bytes([_VERSION]) + ticket.genesis16 + ticket.run16 + ticket.peer
    packed = b"".join(_pack_address(address) for address in ticket.addresses)
    payload = head + ticket.expires.to_bytes(5, "big") + packed
    return PREFIX + _to_base58(payload + _check(payload))


def parse_ticket(text: str, now: int) -> Ticket:
    """Read a ticket at unix time ``now``; spaces and line breaks inside are ignored.

    Raises ``BadTicket`` that names the cause: not a ticket, a mistyped character and where, cut short,
    made by a newer version; and ``ExpiredTicket`` that says since when.
    """
    body = _body(text)
    for position, letter in enumerate(body, 1):
        if letter not in _ALPHABET:
            raise BadTicket(
                f"the ticket is mistyped: {letter!r} near character {position} after {PREFIX}"
                " never occurs in one",
                hint=_COPY_AGAIN,
            )
    payload = _open(_number(body))
    if payload is None:
        raise BadTicket(f"the ticket is mistyped: {_slip(body)}", hint=_COPY_AGAIN)
    if payload[0] != _VERSION:
        raise BadTicket("the ticket was made by a newer version", hint="pipx upgrade swarm-train")
    ticket = _unpack(payload)
    if 0 < ticket.expires <= now:
        raise ExpiredTicket(f"the ticket expired {_ago(now - ticket.expires)} ago", hint=_ASK_AGAIN)
    return ticket


class Reach(IntEnum):
    """The machines to which an address means the peer it belongs to, the most of them first."""

    ANYWHERE = 0
    PRIVATE = 1
    """Machines of one private network."""
    MACHINE = 2
    """The peer's own machine."""


def reach_of(address: str) -> Reach:
    """Return who can dial an address of the form in a ticket; a host name may lie anywhere."""
    try:
        host = ipaddress.ip_address(host_of(address))
    except ValueError:
        return Reach.MACHINE if host_of(address) == "localhost" else Reach.ANYWHERE
    if host.is_loopback:
        return Reach.MACHINE
    return Reach.ANYWHERE if host.is_global else Reach.PRIVATE


def widest(addresses: Sequence[str]) -> tuple[str, ...]:
    """Return the addresses for a ticket: as many as fit, those that most machines can dial first."""
    chosen, left = list[str](), _PACKED_BYTES_MAX
    for address in sorted(addresses, key=reach_of):
        if len(chosen) == ADDRESSES_MAX:
            break
        size = len(_pack_address(address))
        if size <= left:
            chosen.append(address)
            left -= size
    return tuple(chosen)


def reach_text(addresses: Sequence[str], machine: str = "this machine") -> str:
    """Return a sentence that says who can use a ticket with these addresses; empty for anybody.

    ``machine`` is what the machine that made it is called.
    """
    reach = min(map(reach_of, addresses), default=Reach.ANYWHERE)
    if reach is Reach.ANYWHERE:
        return ""
    hosts = " and ".join(dict.fromkeys(map(host_of, addresses)))
    who = machine if reach is Reach.MACHINE else f"machines of a private network with {machine}"
    return f"only {who} can use this ticket: its address is {hosts}"


def host_of(address: str) -> str:
    """Return the host of an address text; "" of what is none."""
    return address.split("/")[2] if address.count("/") > 1 else ""


def _body(text: str) -> str:
    """Return the text after the prefix; raise ``BadTicket`` if this is no ticket of this version."""
    squeezed = "".join(text.split()).strip("\"'<>`")
    if not squeezed.lower().startswith(PREFIX):
        if re.match(r"swarm[0-9]+:", squeezed.lower()):
            raise BadTicket(
                "the ticket was made by a newer version", hint="pipx upgrade swarm-train"
            )
        raise BadTicket(
            f"{squeezed[:24]!r} is not a ticket: tickets begin with {PREFIX}", hint=_ASK_AGAIN
        )
    body = squeezed[len(PREFIX) :]
    if not body or len(squeezed) > TICKET_CHARS_MAX:
        raise BadTicket(
            f"a ticket has up to {TICKET_CHARS_MAX} characters, this one {len(squeezed)}",
            hint=_COPY_AGAIN,
        )
    return body


def _check(payload: bytes) -> bytes:
    return digest("ticket", payload)[:_CHECK_BYTES]


def _to_base58(data: bytes) -> str:
    """Encode in big-endian base 58; the first byte is never zero, so no leading digits are lost."""
    number, letters = int.from_bytes(data, "big"), list[str]()
    while number:
        number, digit = divmod(number, 58)
        letters.append(_ALPHABET[digit])
    return "".join(reversed(letters))


def _number(body: str) -> int:
    number = 0
    for letter in body:
        number = number * 58 + _ALPHABET.index(letter)
    return number


def _open(number: int) -> bytes | None:
    """Return the payload if the check digits hold, else None."""
    data = number.to_bytes((number.bit_length() + 7) // 8, "big")
    payload, check = data[:-_CHECK_BYTES], data[-_CHECK_BYTES:]
    return payload if payload and _check(payload) == check else None


def _slip(body: str) -> str:
    """Describe the typing error: find the single slip after which the check digits hold.

    About 25,000 candidates, a tenth of a second; a wrong answer has odds of 1 in 100,000. The ticket is not
    corrected silently: it decides which network is joined.
    """
    for position, number, what in _one_slip_away(body):
        if number.bit_length() > 8 * _HEAD_BYTES and _open(number) is not None:
            return f"{what} near character {position} after {PREFIX}"
    return "its check digits do not fit, so several characters are wrong or it was cut short"


def _one_slip_away(body: str) -> Iterator[tuple[int, int, str]]:
    """Yield (position from 1, candidate, description) for every single slip, the likeliest kinds first."""
    count = len(body)
    powers = [58**i for i in range(count + 2)]
    digits = [_ALPHABET.index(letter) for letter in body]
    heads = [0]
    for digit in digits:
        heads.append(heads[-1] * 58 + digit)
    whole = heads[count]
    tails = [whole - heads[i] * powers[count - i] for i in range(count + 1)]
    for i in range(count):
        base = whole - digits[i] * powers[count - i - 1]
        for digit in range(i == 0, 58):  # a leading zero is no digit
            yield i + 1, base + digit * powers[count - i - 1], "a wrong character"
    for i in range(count - 1):
        pair = digits[i + 1] * 58 + digits[i]
        swapped = (heads[i] * 58 * 58 + pair) * powers[count - i - 2] + tails[i + 2]
        yield i + 1, swapped, "two swapped characters"
    for i in range(count):
        yield i + 1, heads[i] * powers[count - i - 1] + tails[i + 1], "one character too many"
    for i in range(count + 1):
        for digit in range(i == 0, 58):
            number = (heads[i] * 58 + digit) * powers[count - i] + tails[i]
            yield i + 1, number, "a missing character"


def _unpack(payload: bytes) -> Ticket:
    if len(payload) <= _HEAD_BYTES:
        raise BadTicket("the ticket has no address in it", hint=_ASK_AGAIN)
    rest, addresses = payload[_HEAD_BYTES:], list[str]()
    while rest:
        address, rest = _unpack_address(rest)
        addresses.append(address)
    if len(addresses) > ADDRESSES_MAX:
        raise BadTicket("the ticket has too many addresses in it", hint=_ASK_AGAIN)
    return Ticket(
        payload[1:17],
        payload[17:33],
        PeerId(payload[33:65]),
        tuple(addresses),
        int.from_bytes(payload[65:_HEAD_BYTES], "big"),
    )


def _pack_address(address: str) -> bytes:
    found = _ADDRESS.fullmatch(address)
    if found is None or not 1 <= int(found[3]) <= 65535:
        raise BadTicket(f"{address[:80]!r} does not fit into a ticket: /ip4/HOST/tcp/PORT does")
    scheme, host, port = found[1], found[2], int(found[3]).to_bytes(2, "big")
    if found[4]:
        try:
            relay = parse_peer(found[4])
        except BadEncoding as error:
            raise BadTicket(str(error)) from None
        direct = _pack_address(address.partition("/p2p/")[0])
        return bytes([direct[0] + _RELAYED]) + direct[1:] + relay
    if scheme in _IP_KINDS:
        try:
            packed = (ipaddress.IPv4Address if scheme == "ip4" else ipaddress.IPv6Address)(
                host
            ).packed
        except ValueError:
            raise BadTicket(f"{host[:60]!r} is not an {scheme} address") from None
        return bytes([_IP_KINDS[scheme]]) + packed + port
    if len(host) > DNS_CHARS_MAX or not _HOST_NAME.fullmatch(host):
        raise BadTicket(f"{host[:80]!r} is not a host name of at most {DNS_CHARS_MAX} characters")
    return bytes([_DNS_KINDS[scheme], len(host)]) + host.encode("ascii") + port


def _unpack_address(data: bytes) -> tuple[str, bytes]:
    """Return the first address of ``data``, and the remaining bytes."""
    kind = data[0]
    if kind >= _RELAYED:
        direct, rest = _unpack_address(bytes([kind - _RELAYED]) + data[1:])
        relay, rest = rest[:PEER_BYTES], rest[PEER_BYTES:]
        if len(relay) != PEER_BYTES:
            raise BadTicket("the ticket has half a relay in it", hint=_ASK_AGAIN)
        return f"{direct}/p2p/{peer_text(PeerId(relay))}/p2p-circuit", rest
    if kind in _DNS_NAMES:
        start, length = 2, data[1] if len(data) > 1 else 0
    elif kind in _IP_KINDS.values():
        start, length = 1, 4 if kind == _IP_KINDS["ip4"] else 16
    else:
        raise BadTicket(
            "the ticket has a kind of address that this version does not know",
            hint="pipx upgrade swarm-train",
        )
    raw, rest = data[start : start + length], data[start + length + 2 :]
    port = int.from_bytes(data[start + length : start + length + 2], "big")
    if len(data) < start + length + 2 or not port:
        raise BadTicket("the ticket has half an address in it", hint=_ASK_AGAIN)
    if kind in _DNS_NAMES:
        host = raw.decode("ascii", errors="replace")
        if not _HOST_NAME.fullmatch(host) or length > DNS_CHARS_MAX:
            raise BadTicket("the ticket has a strange host name in it", hint=_ASK_AGAIN)
        return f"/{_DNS_NAMES[kind]}/{host}/tcp/{port}", rest
    scheme = "ip4" if length == 4 else "ip6"
    return f"/{scheme}/{ipaddress.ip_address(raw)}/tcp/{port}", rest


def _ago(seconds: int) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
