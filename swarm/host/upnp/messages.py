"""Write what a router is asked, and read what it answers, which may be anything.

Core: pure functions.

https://openconnectivity.org/developer/specifications/upnp-resources/upnp/internet-gateway-device-igd-v-2-0/

Whoever is in our network may answer as a router. So an answer counts only if it names the host that it comes
from, by number, in our own network: nobody can send us to a third one. No redirection is followed, and XML with
a document type, which could make a kilobyte into gigabytes, is refused before it is parsed.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Interface
from urllib.parse import urljoin, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from swarm.errors import BadEncoding, SwarmError

SEARCH_AT = ("239.255.255.250", 1900)
KIND = "urn:schemas-upnp-org:device:InternetGatewayDevice:1"
SERVICES = tuple(
    f"urn:schemas-upnp-org:service:{name}"
    for name in ("WANIPConnection:2", "WANIPConnection:1", "WANPPPConnection:1")
)
"""Services that forward ports, the best first."""
SERVICES_MAX = 3
"""Services of one router that are tried: one of them has the line."""
DATAGRAM_BYTES_MAX = 2_048
HEAD_BYTES_MAX = 8 << 10
RESPONSE_BYTES_MAX = 128 << 10
"""Bytes of an answer by TCP, head included: a description has 3 to 20 KiB."""
ELEMENTS_MAX = 4_096
URL = re.compile(r"[!-~]{1,512}")
FIELD_CHARS_MAX = 64

ONLY_PERMANENT = 725
"""Refusal of a router that forwards for ever alone."""
CONFLICT = 718


class Refused(SwarmError):
    """Refusal of a router, with its number."""

    def __init__(self, code: int) -> None:
        super().__init__(f"it refuses with error {code}")
        self.code = code


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Address of a router, in our network, and a path there."""

    host: str
    port: int
    path: str

    @property
    def url(self) -> str:
        """Its address as a text."""
        return f"http://{self.host}:{self.port}{self.path}"


@dataclass(frozen=True, slots=True)
class Service:
    """Service of a router that forwards ports."""

    kind: str
    control: Endpoint


def search() -> bytes:
    """Return the question by multicast for a router."""
    host, port = SEARCH_AT
    lines = (
        "M-SEARCH * HTTP/1.1",
        f"HOST: {host}:{port}",
        'MAN: "ssdp:discover"',
        "MX: 1",
        f"ST: {KIND}",
    )
    return "\r\n".join((*lines, "", "")).encode()


def parse_found(data: bytes, sender: str, lan: IPv4Interface) -> Endpoint:
    """Read who answers the search: where its description is.

    Raises ``BadEncoding`` for what is no answer, and for one that leads to another host than its sender's.
    """
    if len(data) > DATAGRAM_BYTES_MAX:
        raise BadEncoding("an answer this long")
    lines = data.decode("latin-1").split("\r\n")
    if not re.fullmatch(r"HTTP/1\.[01] 200( .*)?", lines[0]):
        raise BadEncoding("no answer to a search")
    found = [line[len("location:") :].strip() for line in lines if _is_field(line, "location")]
    if len(found) != 1:
        raise BadEncoding("an answer without a location")
    return parse_url(found[0], sender, lan)


def parse_url(url: str, host: str, lan: IPv4Interface) -> Endpoint:
    """Read an address of a router; raise ``BadEncoding`` if it is not of this host, or not in our network."""
    if not URL.fullmatch(url):
        raise BadEncoding("no address of a router")
    try:
        parts = urlsplit(url)
        port = parts.port or 80
        address = ipaddress.IPv4Address(parts.hostname or "")
    except ValueError:
        raise BadEncoding("no address of a router") from None
    if parts.scheme != "http" or parts.username is not None or parts.password is not None:
        raise BadEncoding("no address of a router")
    if address not in lan.network or address == lan.ip or not address.is_private:
        raise BadEncoding(f"{address} is not a router in our network")
    if str(address) != host:
        raise BadEncoding(f"{host} answers for {address}")
    path = parts.path or "/"
    return Endpoint(str(address), port, f"{path}?{parts.query}" if parts.query else path)


def parse_description(body: bytes, at: Endpoint, lan: IPv4Interface) -> tuple[Service, ...]:
    """Read which services a router has that forward ports, the best first; raise ``BadEncoding`` for none.

    One that is controlled at another host counts for nothing.
    """
    tree = parse_xml(body)
    base = next((_text(each) for each in tree if _name(each) == "URLBase"), "") or at.url
    found = list[Service]()
    for element in tree:
        if _name(element) != "service":
            continue
        fields = {_name(child): _text(child) for child in element}
        kind = fields.get("serviceType", "")
        if kind not in SERVICES:
            continue
        try:
            control = parse_url(_joined(base, fields.get("controlURL", "")), at.host, lan)
        except BadEncoding:
            continue
        found.append(Service(kind, control))
    if not found:
        raise BadEncoding("a router that forwards no ports")
    return tuple(sorted(found, key=lambda one: SERVICES.index(one.kind)))[:SERVICES_MAX]


def _joined(base: str, path: str) -> str:
    if not (URL.fullmatch(base) and URL.fullmatch(path)):
        raise BadEncoding("no address of a router")
    try:
        return urljoin(base, path)
    except ValueError:
        raise BadEncoding("no address of a router") from None


def get(at: Endpoint) -> bytes:
    """Return the question for a description."""
    return _request("GET", at, {}, b"")


def call(service: Service, action: str, arguments: Mapping[str, str]) -> bytes:
    """Return a question to a service."""
    fields = "".join(f"<{name}>{escape(text)}</{name}>" for name, text in arguments.items())
    envelope = (
        '<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"'
        ' s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>'
        f'<u:{action} xmlns:u="{service.kind}">{fields}</u:{action}></s:Body></s:Envelope>'
    ).encode()
    head = {"Content-Type": 'text/xml; charset="utf-8"', "SOAPAction": f'"{service.kind}#{action}"'}
    return _request("POST", service.control, head, envelope)


def _request(method: str, at: Endpoint, head: Mapping[str, str], body: bytes) -> bytes:
    fields = {"Host": f"{at.host}:{at.port}", "Connection": "close", **head}
    if body:
        fields["Content-Length"] = str(len(body))
    lines = [f"{method} {at.path} HTTP/1.1", *(f"{name}: {text}" for name, text in fields.items())]
    return "\r\n".join((*lines, "", "")).encode() + body


def parse_response(data: bytes, *, is_ended: bool) -> tuple[int, bytes] | None:
    """Read an answer as far as it has come: its status and body; None while it is not whole.

    ``is_ended`` says that nothing follows. Raises ``BadEncoding``, also for an answer that is too long.
    """
    if len(data) > RESPONSE_BYTES_MAX:
        raise BadEncoding("an answer this long")
    head, sign, body = data.partition(b"\r\n\r\n")
    if len(head) > HEAD_BYTES_MAX:
        raise BadEncoding("an answer with a head this long")
    if not sign:
        if is_ended:
            raise BadEncoding("half an answer")
        return None
    lines = head.decode("latin-1").split("\r\n")
    status = re.fullmatch(r"HTTP/1\.[01] ([1-5][0-9]{2})( .*)?", lines[0])
    if status is None:
        raise BadEncoding("no answer of HTTP")
    if any(_is_field(line, "transfer-encoding") and "chunked" in line.lower() for line in lines):
        whole = _unchunked(body)
    else:
        whole = _measured(body, lines, is_ended=is_ended)
    if whole is None and is_ended:
        raise BadEncoding("half an answer")
    return None if whole is None else (int(status[1]), whole)


def _measured(body: bytes, lines: list[str], *, is_ended: bool) -> bytes | None:
    lengths = [
        line.partition(":")[2].strip() for line in lines if _is_field(line, "content-length")
    ]
    if not lengths:
        return body if is_ended else None
    if len(set(lengths)) > 1 or not re.fullmatch(r"[0-9]{1,7}", lengths[0]):
        raise BadEncoding("an answer of no length")
    return body[: int(lengths[0])] if len(body) >= int(lengths[0]) else None


def _unchunked(body: bytes) -> bytes | None:
    """Return a body that comes in chunks; None while it is not whole."""
    parts = list[bytes]()
    while True:
        line, sign, body = body.partition(b"\r\n")
        size = re.fullmatch(rb"([0-9a-fA-F]{1,6})[ \t]*(;[^\r\n]{0,256})?", line)
        if not sign:
            return None
        if size is None:
            raise BadEncoding("a chunk of no length")
        length = int(size[1], 16)
        if not length:
            return b"".join(parts)
        if len(body) < length + 2:
            return None
        parts.append(body[:length])
        body = body[length + 2 :]


def parse_reply(status: int, body: bytes, field: str = "") -> str:
    """Read the answer of a service: one of its fields, "" where none is asked for.

    Raises ``Refused`` with the number of a refusal, ``BadEncoding`` for anything else.
    """
    tree = parse_xml(body) if status in {200, 500} else []
    if status == 500:
        code = next((_text(each) for each in tree if _name(each) == "errorCode"), "")
        if re.fullmatch(r"[0-9]{3}", code):
            raise Refused(int(code))
    if status != 200:
        raise BadEncoding(f"an answer with status {status}")
    if not field:
        return ""
    found = [_text(each) for each in tree if _name(each) == field]
    if len(found) != 1 or len(found[0]) > FIELD_CHARS_MAX:
        raise BadEncoding(f"an answer without {field}")
    return found[0]


def parse_external(text: str) -> str:
    """Read the public address of a router; raise ``BadEncoding`` for any other."""
    try:
        address = ipaddress.IPv4Address(text)
    except ValueError:
        raise BadEncoding("the router does not know its own address") from None
    if not address.is_global or address.is_multicast:
        raise BadEncoding(f"its own address, {address}, is not a public one: it is behind another")
    return str(address)


def parse_xml(body: bytes) -> list[ElementTree.Element]:
    """Return the elements of a document of a router; raise ``BadEncoding``."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise BadEncoding("a text of a router that is none") from None
    if "<!doctype" in text.lower() or "<!entity" in text.lower():
        raise BadEncoding("a document of a router with a type")
    try:
        root = ElementTree.fromstring(text)  # noqa: S314  no entities, and bounded
    except (ElementTree.ParseError, ValueError):
        raise BadEncoding("a document of a router that is none") from None
    found = list[ElementTree.Element]()
    for element in root.iter():
        found.append(element)
        if len(found) > ELEMENTS_MAX:
            raise BadEncoding("a document of a router this large")
    return found


def _is_field(line: str, name: str) -> bool:
    return line.lower().startswith(f"{name}:")


def _name(element: ElementTree.Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _text(element: ElementTree.Element) -> str:
    return (element.text or "").strip()
