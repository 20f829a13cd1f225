"""What a router says is believed of itself alone, in our own network, and is bounded."""

from ipaddress import IPv4Interface

import pytest

from swarm.errors import BadEncoding
from swarm.host.upnp import messages
from swarm.host.upnp.messages import KIND, Endpoint, Refused, Service
from tests.e2e.igd import DESCRIPTION, FAULT, REPLY
from tests.e2e.igd import KIND as SERVICE

LAN, ROUTER = IPv4Interface("192.168.1.10/24"), "192.168.1.1"
AT = Endpoint(ROUTER, 5000, "/desc.xml")


def found(location: str, sender: str = ROUTER) -> Endpoint:
    answer = f"HTTP/1.1 200 OK\r\nST: {KIND}\r\nLocation:  {location}\r\n\r\n"
    return messages.parse_found(answer.encode(), sender, LAN)


def described(control: str, kind: str = SERVICE) -> bytes:
    return DESCRIPTION.format(kind=kind, control=control).encode()


@pytest.mark.rule("H39")
def test_a_router_is_found_and_its_service() -> None:
    assert found("http://192.168.1.1:5000/desc.xml") == AT
    assert found("http://192.168.1.1?a=b") == Endpoint(ROUTER, 80, "/?a=b")
    (service,) = messages.parse_description(described("/ctl"), AT, LAN)
    assert service == Service(SERVICE, Endpoint(ROUTER, 5000, "/ctl"))
    (absolute,) = messages.parse_description(described("http://192.168.1.1:80/x"), AT, LAN)
    assert absolute.control.url == "http://192.168.1.1:80/x"
    based = described("ctl").replace(
        b"<device>", b"<URLBase>http://192.168.1.1:9/a/</URLBase><device>"
    )
    assert messages.parse_description(based, AT, LAN)[0].control.url == "http://192.168.1.1:9/a/ctl"
    asked = messages.call(service, "Add", {"NewRemoteHost": "", "New": "<&"}).decode()
    assert asked.startswith("POST /ctl HTTP/1.1\r\nHost: 192.168.1.1:5000\r\n")
    assert f'SOAPAction: "{SERVICE}#Add"\r\n' in asked
    assert "<New>&lt;&amp;</New>" in asked
    assert messages.search().startswith(b"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\n")


@pytest.mark.rule("H39", "S4d")
@pytest.mark.parametrize(
    "location",
    [
        "http://192.168.1.7/desc.xml",
        "http://192.168.2.1/desc.xml",
        "http://44.0.0.1/desc.xml",
        "http://127.0.0.1:7420/api/v1/state",
        "http://169.254.169.254/latest/meta-data/",
        "http://192.168.1.10:7420/api/v1/state",
        "http://router.example.org/desc.xml",
        "http://3232235777/desc.xml",
        "http://[::ffff:192.168.1.1]/",
        "https://192.168.1.1/desc.xml",
        "file:///etc/passwd",
        "http://a:b@192.168.1.1/",
        "http://192.168.1.1:0x50/",
        "http://192.168.1.1:99999/",
        "http://192.168.1.1/a b",
        "http://192.168.1.1/\tX-Evil:1",
        f"http://192.168.1.1/{'a' * 600}",
        "",
    ],
)
def test_attack_an_answer_that_leads_elsewhere_is_none(location: str) -> None:
    """Nobody in our network can have this node ask a third host, or a service of its own machine."""
    with pytest.raises(BadEncoding):
        found(location)
    if "192.168.1.7" not in location:  # which is in our network, and may answer for itself
        with pytest.raises(BadEncoding):
            found(location, location.partition("//")[2].partition("/")[0].partition(":")[0])
    if location:
        with pytest.raises(BadEncoding):
            messages.parse_description(described(location.replace("&", "&amp;")), AT, LAN)


@pytest.mark.rule("H39", "S4d")
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\xff" * 900,
        b"HTTP/1.1 302 Found\r\nLocation: http://192.168.1.1/\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nST: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nLocation: http://192.168.1.1/\r\nLocation: http://192.168.1.1/\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nLocation: http://192.168.1.1/\r\nX: " + b"x" * 3_000 + b"\r\n\r\n",
    ],
)
def test_what_is_no_answer_to_a_search_is_none(answer: bytes) -> None:
    with pytest.raises(BadEncoding):
        messages.parse_found(answer, ROUTER, LAN)


@pytest.mark.rule("H39")
def test_an_answer_comes_in_pieces() -> None:
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"
    chunks = (
        b"HTTP/1.0 500 No\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n"
    )
    for data, status in ((whole, 200), (chunks, 500)):
        for cut in range(len(data) - 6):
            assert messages.parse_response(data[:cut], is_ended=False) is None
        assert messages.parse_response(data, is_ended=False) == (status, b"body")
    bare = b"HTTP/1.0 200\r\n\r\nbody"
    assert messages.parse_response(bare, is_ended=False) is None
    assert messages.parse_response(bare, is_ended=True) == (200, b"body")


@pytest.mark.rule("H39", "S4d")
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbody",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nbb",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 9_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * messages.RESPONSE_BYTES_MAX,
    ],
)
def test_attack_an_answer_without_end_or_length_is_refused(data: bytes) -> None:
    with pytest.raises(BadEncoding):
        messages.parse_response(data, is_ended=True)


BOMB = b"""<?xml version="1.0"?>
<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;">]><x>&b;</x>"""


@pytest.mark.rule("H39", "S4d")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<root>",
        b"\xff\xfe<\x00r\x00/\x00>\x00",
        '<?xml version="1.0" encoding="utf-16"?>'.encode("utf-16"),
        BOMB,
        b'<!DOCTYPE x SYSTEM "http://44.0.0.1/x.dtd"><x/>',
        b"<a>" * 18_000 + b"</a>" * 18_000,
        b"<a>" * 3_000 + b"</a>" * 3_000,
        b"<r>" + b"<a/>" * 5_000 + b"</r>",
        b"<root/>",
    ],
)
def test_attack_a_document_that_explodes_or_says_nothing_is_refused(body: bytes) -> None:
    with pytest.raises(BadEncoding):
        messages.parse_description(body, AT, LAN)


@pytest.mark.rule("H39")
def test_replies_refusals_and_addresses_are_read() -> None:
    reply = REPLY.format("<NewExternalIPAddress> 44.0.1.2 </NewExternalIPAddress>").encode()
    assert messages.parse_reply(200, reply, "NewExternalIPAddress") == "44.0.1.2"
    assert messages.parse_reply(200, REPLY.format("").encode()) == ""
    with pytest.raises(Refused, match="718") as refused:
        messages.parse_reply(500, REPLY.format(FAULT.format(718)).encode())
    assert refused.value.code == messages.CONFLICT
    for status, body in ((500, REPLY.format(FAULT.format("x" * 99))), (302, ""), (200, "<a/>")):
        with pytest.raises(BadEncoding):
            messages.parse_reply(status, body.encode(), "NewExternalIPAddress")
    long = REPLY.format(f"<F>{'1' * 99}</F>").encode()
    with pytest.raises(BadEncoding):
        messages.parse_reply(200, long, "F")
    assert messages.parse_external("44.0.1.2") == "44.0.1.2"
    for other in ("", "x", "10.0.0.1", "100.64.0.1", "127.0.0.1", "0.0.0.0", "224.0.0.1", "::1"):
        with pytest.raises(BadEncoding):
            messages.parse_external(other)
