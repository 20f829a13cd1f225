"""The messages of relays are libp2p's, and what is none is refused by name."""

import pytest
from libp2p.relay.circuit_v2.pb.circuit_pb2 import HopMessage
from multiaddr.multiaddr import Multiaddr

from swarm.errors import BadEncoding
from swarm.host.relay import messages
from swarm.host.relay.messages import MESSAGE_BYTES_MAX, Bounds, Status
from swarm.types import PeerId

PEER = PeerId(b"\x07" * 32)
IDENTITY = bytes.fromhex("002408011220") + PEER


@pytest.mark.rule("H34")
def test_the_bytes_are_those_of_the_specification() -> None:
    assert messages.reserve() == bytes.fromhex("0800")
    assert messages.connect(PEER) == bytes.fromhex("0801 1228 0a26") + IDENTITY
    assert messages.stop_status(Status.OK) == bytes.fromhex("0801 2064")


@pytest.mark.rule("H34")
def test_questions_and_answers_come_back() -> None:
    assert messages.parse_question(messages.reserve()) is None
    assert messages.parse_question(messages.connect(PEER)) == PEER
    reserved = messages.hop_status(Status.OK, expires=77)
    assert HopMessage.FromString(reserved).reservation.expire == 77
    said = messages.parse_hop_status(reserved)
    assert said.status is Status.OK
    bounded = messages.hop_status(Status.OK, bounds=Bounds(3, 1 << 32))
    assert messages.parse_hop_status(bounded).bounds == Bounds(3, 1 << 32)
    assert said.bounds == Bounds(0, 0)
    refused = messages.parse_hop_status(messages.hop_status(Status.NO_RESERVATION))
    assert refused.status is Status.NO_RESERVATION
    assert messages.parse_stop_connect(messages.stop_connect(PEER, Bounds(1, 2))) == PEER
    assert messages.parse_stop_status(messages.stop_status(Status.OK)) is Status.OK


@pytest.mark.rule("H37")
def test_addresses_of_a_direct_way_come_back_and_others_are_left_out() -> None:
    direct = ("/ip4/44.0.1.2/tcp/4100", "/ip6/2a00::1/tcp/9")
    assert messages.parse_punch(messages.punch(direct)) == direct
    others = ["/ip4/44.0.1.2/udp/4100/quic-v1", *direct * 4]
    assert messages.parse_punch(messages.punch(others)) == direct[:1] + direct[1:] + direct[:1]
    messages.parse_punch_now(messages.punch_now())
    assert messages.read_address(Multiaddr(direct[0]).to_bytes()) == direct[0]
    assert not messages.read_address(b"\xff\xff")
    assert not messages.read_address(b"")


@pytest.mark.rule("H34")
@pytest.mark.parametrize(
    ("parse", "data"),
    [
        (messages.parse_question, b""),
        (messages.parse_question, b"\xff" * 9),
        (messages.parse_question, messages.hop_status(Status.OK)),
        (messages.parse_question, bytes.fromhex("0801")),
        (messages.parse_question, bytes.fromhex("0801 1206 0a04 12345678")),
        (messages.parse_question, b"\x0a" * (MESSAGE_BYTES_MAX + 1)),
        (messages.parse_hop_status, messages.reserve()),
        (messages.parse_hop_status, bytes.fromhex("0802 2801")),
        (messages.parse_stop_connect, messages.stop_status(Status.OK)),
        (messages.parse_stop_connect, b""),
        (messages.parse_stop_status, messages.stop_connect(PEER, Bounds(1, 2))),
        (messages.parse_punch, messages.punch_now()),
        (messages.parse_punch_now, messages.punch(())),
        (messages.parse_observed, b"\xff" * 9),
    ],
)
def test_what_is_no_message_is_refused(parse, data: bytes) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    with pytest.raises(BadEncoding):
        parse(data)
