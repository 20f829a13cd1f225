"""A message of the table is refused before libp2p parses it, if anything in it is out of bounds."""

import random

import pytest
from libp2p.kad_dht.pb.kademlia_pb2 import Message

from swarm.dht.messages import (
    ADDRESS_BYTES_MAX,
    ADDRESSES_MAX,
    ANSWER_BYTES_MAX,
    KEY_BYTES_MAX,
    PEERS_MAX,
    SIGNED_BYTES_MAX,
    check_message,
    parse_prefix,
)
from swarm.dht.records import RECORD_BYTES_MAX, VALUE_BYTES_MAX
from swarm.errors import BadEncoding


def a_message() -> Message:
    """The fullest message that is allowed."""
    message = Message(type=Message.MessageType.GET_VALUE, clusterLevelRaw=1)
    message.key = message.record.key = bytes(KEY_BYTES_MAX)
    message.record.value = bytes(VALUE_BYTES_MAX)
    message.record.author, message.record.signature = bytes(36), bytes(64)
    message.record.timeReceived = "2026-11-30T12:00:00.000000000Z"
    for peers in (message.closerPeers, message.providerPeers):
        for _ in range(PEERS_MAX):
            peer = peers.add(id=bytes(38), connection=Message.ConnectionType.CONNECTED)
            peer.addrs.extend([bytes(60)] * ADDRESSES_MAX)
    return message


@pytest.mark.rule("D12", "D13")
def test_the_fullest_honest_message_passes() -> None:
    data = a_message().SerializeToString()
    check_message(data)
    assert len(data) < ANSWER_BYTES_MAX
    assert len(a_message().record.SerializeToString()) <= RECORD_BYTES_MAX


@pytest.mark.rule("D12")
@pytest.mark.parametrize("field", ["key", "value", "author", "signature", "timeReceived"])
def test_attack_a_record_with_one_huge_field(field: str) -> None:
    message = a_message()
    setattr(message.record, field, "9" * 5000 if field == "timeReceived" else bytes(900 << 10))
    with pytest.raises(BadEncoding):
        check_message(message.SerializeToString())


@pytest.mark.rule("D12")
def test_attack_a_record_whose_parts_are_sent_one_by_one() -> None:
    """Parsers put the parts of a field that comes twice together."""
    record = Message()
    record.record.value = bytes(VALUE_BYTES_MAX)
    with pytest.raises(BadEncoding, match="more than 1 times"):
        check_message(2 * record.SerializeToString())


@pytest.mark.rule("D12")
def test_attack_a_field_that_nobody_knows() -> None:
    unknown = b"\x7a\x02ab"
    with pytest.raises(BadEncoding, match="unknown field 15"):
        check_message(unknown)
    message = Message()
    message.record.value = b"v"
    data = message.SerializeToString()
    inside = data[:1] + bytes([data[1] + len(unknown)]) + data[2:] + unknown
    with pytest.raises(BadEncoding, match="unknown field 15"):
        check_message(inside)


@pytest.mark.rule("D12")
def test_attack_too_many_peers_or_addresses_or_too_long_ones() -> None:
    def crowd(message: Message) -> None:
        message.closerPeers.add(id=bytes(38))

    def addresses(message: Message) -> None:
        message.closerPeers[0].addrs.append(b"x")

    def address(message: Message) -> None:
        message.providerPeers[3].addrs[0] = bytes(ADDRESS_BYTES_MAX + 1)

    def name(message: Message) -> None:
        message.providerPeers[3].id = bytes(65)

    def signed(message: Message) -> None:
        message.senderRecord = bytes(SIGNED_BYTES_MAX + 1)

    for attack in (crowd, addresses, address, name, signed):
        message = a_message()
        attack(message)
        with pytest.raises(BadEncoding):
            check_message(message.SerializeToString())


@pytest.mark.rule("D12")
def test_attack_a_signed_statement_of_a_thousand_addresses() -> None:
    places = b"\x1a\x05\x0a\x03\x06\x00\x01" * (ADDRESSES_MAX + 1)
    message = Message()
    message.senderRecord = b"\x1a" + bytes([len(places)]) + places
    with pytest.raises(BadEncoding, match="more than 16 times"):
        check_message(message.SerializeToString())


@pytest.mark.rule("D12")
def test_no_bytes_do_more_than_be_refused(seed: int) -> None:
    rng, whole = random.Random(seed), a_message().SerializeToString()
    for _ in range(300):
        data = bytearray(whole[: rng.randrange(1, len(whole))])
        for _ in range(rng.randrange(4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            check_message(bytes(data))
        except BadEncoding:
            continue
        assert len(Message.FromString(bytes(data)).record.SerializeToString()) <= RECORD_BYTES_MAX


@pytest.mark.rule("D13")
@pytest.mark.parametrize(
    ("data", "expected"),
    [(b"", None), (b"\xff", None), (b"\x05abc", (1, 5)), (b"\x80\x40", (2, 8192))],
)
def test_a_length_is_read_as_it_comes(data: bytes, expected: tuple[int, int] | None) -> None:
    assert parse_prefix(data, 8192) == expected


@pytest.mark.rule("D13")
@pytest.mark.parametrize("data", [b"\x00", b"\x81\x40", b"\xff\xff\xff\xff\x0f", b"\xff" * 5])
def test_attack_a_length_that_is_no_length_of_a_message(data: bytes) -> None:
    with pytest.raises(BadEncoding):
        parse_prefix(data, 8192)
