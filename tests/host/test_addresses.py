"""Addresses are checked, cleaned, kept in the order in which they are worth trying, and bounded."""

import pytest

from swarm.errors import BadEncoding
from swarm.host import addresses
from swarm.host.addresses import (
    AddressBook,
    believable,
    format_address,
    is_loopback,
    network_at,
    network_of,
    parse_address,
    split_listen,
)
from swarm.types import PeerId

PEER = PeerId(b"p" * 32)
A, B, C = (f"/ip4/192.0.2.{n}/tcp/4001" for n in (1, 2, 3))


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("/ip4/192.0.2.1/tcp/4001", "/ip4/192.0.2.1/tcp/4001"),
        ("/ip4/192.0.2.1/tcp/4001/p2p/12D3KooWx", "/ip4/192.0.2.1/tcp/4001"),
        ("/ip6/2001:DB8:0:0::1/tcp/1", "/ip6/2001:db8::1/tcp/1"),
        ("/dns/Example.ORG/tcp/65535", "/dns/example.org/tcp/65535"),
    ],
)
def test_an_address_has_one_form(text: str, clean: str) -> None:
    assert parse_address(text) == clean


@pytest.mark.parametrize(
    "text",
    [
        "",
        "192.0.2.1:4001",
        "/ip4/192.0.2.1/udp/4001",
        "/ip4/192.0.2.1/tcp/0",
        "/ip4/192.0.2.1/tcp/65536",
        "/ip4/192.0.2.1/tcp/4001/ws",
        "/ip4/0.0.0.0/tcp/4001",
        "/ip4/224.0.0.1/tcp/4001",
        "/ip6/192.0.2.1/tcp/4001",
        "/ip4/192.0.2.1/tcp/٣",
        "/dns/../tcp/1",
        "/dns/" + "a" * 200 + "/tcp/1",
    ],
)
def test_what_cannot_be_dialled_is_refused(text: str) -> None:
    with pytest.raises(BadEncoding):
        parse_address(text)


def test_listen_texts_are_read_in_three_forms() -> None:
    assert split_listen("0.0.0.0:4001") == ("0.0.0.0", 4001)
    assert split_listen("[::1]:0") == ("::1", 0)
    assert split_listen("/ip4/127.0.0.1/tcp/7") == ("127.0.0.1", 7)
    for wrong in ("4001", ":4001", "host:", "host:x", "host:70000"):
        with pytest.raises(BadEncoding):
            split_listen(wrong)
    assert format_address("::1", 4) == "/ip6/::1/tcp/4"
    assert is_loopback("/ip4/127.9.9.9/tcp/1")
    assert not is_loopback(A)


@pytest.mark.rule("H15")
def test_a_remote_peer_cannot_claim_our_own_machine() -> None:
    claimed = ["/ip4/127.0.0.1/tcp/1", A, "junk", A]
    assert believable(claimed, "192.0.2.9") == (A,)
    assert believable(claimed, "127.0.0.1") == ("/ip4/127.0.0.1/tcp/1", A)


@pytest.mark.rule("H15")
def test_the_newest_address_comes_first_and_a_failed_one_last() -> None:
    address_book = AddressBook()
    assert address_book.learn(PEER, [A])
    assert address_book.learn(PEER, [B, C])
    assert address_book.addresses(PEER) == (B, C, A)
    address_book.failed(PEER, B)
    assert address_book.addresses(PEER) == (C, A, B)
    address_book.worked(PEER, A)
    assert address_book.addresses(PEER) == (A, C, B)


def test_a_known_address_again_changes_nothing() -> None:
    address_book = AddressBook()
    address_book.learn(PEER, [A, B])
    assert not address_book.learn(PEER, [B])
    assert not address_book.learn(PEER, ["junk"])
    assert address_book.addresses(PEER) == (B, A)


def test_the_book_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "PEERS_MAX", 2)
    address_book = AddressBook()
    for n in range(3):
        address_book.learn(
            PeerId(bytes([n]) * 32), [f"/ip4/192.0.2.{m}/tcp/1" for m in range(1, 20)]
        )
    assert address_book.addresses(PeerId(bytes(32))) == ()
    assert len(address_book.addresses(PeerId(b"\2" * 32))) == addresses.ADDRESSES_MAX


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("8.8.4.4", "8.8.4.0/24"),
        ("::ffff:8.8.4.4", "8.8.4.0/24"),
        ("2001:4860:4860:1::8888", "2001:4860:4860::/48"),
        ("192.168.1.7", ""),
        ("127.0.0.1", ""),
        ("100.64.1.1", ""),
        ("fe80::1%eth0", ""),
        ("::1", ""),
        ("example.org", ""),
        ("", ""),
    ],
)
def test_a_network_is_what_one_line_has_and_only_public_ones_count(host: str, network: str) -> None:
    assert network_of(host) == network


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("/ip4/8.8.8.8/tcp/1", "8.8.8.0/24"),
        ("/ip6/2001:4860::8/tcp/1", "2001:4860::/48"),
        ("/ip4/192.168.1.1/tcp/1", ""),
        ("/dns/a.b.example.org/tcp/1", "example.org"),
        ("/dns4/example.org/tcp/1", "example.org"),
        ("junk", ""),
    ],
)
def test_many_names_of_one_domain_are_one_network(address: str, network: str) -> None:
    assert network_at(address) == network
