"""A hello is bounded, and tells a peer of another network apart."""

import pytest

from swarm.errors import BadEncoding
from swarm.host.handshake import Hello, parse_hello, reason_to_part
from swarm.primitives.codec import encode

MINE = Hello("1.0", b"c" * 16, b"s" * 8, ("/ip4/192.0.2.1/tcp/1",), 1_800_000_000)


def test_a_hello_survives_the_wire() -> None:
    assert parse_hello(encode(MINE)) == MINE


@pytest.mark.rule("H2")
@pytest.mark.parametrize(
    "hello",
    [
        Hello("1.0", b"c" * 15, b"s" * 8, (), 0),
        Hello("1.0", b"c" * 16, b"", (), 0),
        Hello("v" * 33, b"c" * 16, b"s" * 8, (), 0),
        Hello("1.0", b"c" * 16, b"s" * 8, ("a",) * 9, 0),
        Hello("1.0", b"c" * 16, b"s" * 8, ("a" * 161,), 0),
        Hello("1.0", b"c" * 16, b"s" * 8, (), -1),
        Hello("1.0", b"c" * 16, b"s" * 8, (), 1 << 40),
    ],
    ids=["chain", "session", "version", "addresses", "address", "before 1970", "absurd"],
)
def test_a_hello_out_of_bounds_is_refused(hello: Hello) -> None:
    with pytest.raises(BadEncoding):
        parse_hello(encode(hello))


def test_junk_is_refused() -> None:
    for junk in (b"", b"\xff" * 50, encode(MINE) + b"\0", b"\0" * 5000):
        with pytest.raises(BadEncoding):
            parse_hello(junk)


@pytest.mark.rule("H2")
def test_only_a_peer_of_our_own_network_is_kept() -> None:
    assert not reason_to_part(MINE, Hello("0.9", b"c" * 16, b"t" * 8, (), 0))
    assert "another network (genesis 6464" in reason_to_part(
        MINE, Hello("1.0", b"d" * 16, b"t" * 8, (), 0)
    )
