"""A ticket fits a chat message, survives line breaks, and names its own typos."""

import random

import pytest

from swarm.errors import BadTicket
from swarm.ticket import (
    _ALPHABET,
    PREFIX,
    TICKET_CHARS_MAX,
    Ticket,
    _check,
    _to_base58,
    format_ticket,
    parse_ticket,
    reach_text,
    widest,
)
from swarm.types import PeerId

HOUR = 3600


def a_ticket(*addresses: str, expires: int = 0) -> Ticket:
    dice = random.Random(7)
    return Ticket(
        dice.randbytes(16),
        dice.randbytes(16),
        PeerId(dice.randbytes(32)),
        addresses or ("/ip4/192.168.1.7/tcp/40123",),
        expires,
    )


@pytest.mark.parametrize(
    "addresses",
    [
        ("/ip4/127.0.0.1/tcp/1",),
        ("/ip4/255.255.255.255/tcp/65535", "/ip6/fe80::1/tcp/7000"),
        ("/ip6/2001:db8:0:1:2:3:4:5/tcp/7000", "/ip6/::1/tcp/7001"),
        ("/dns/swarm.example.org/tcp/443", "/dns4/a/tcp/1"),
        ("/dns6/" + "n" * 60 + "/tcp/65535", "/dns4/" + "m" * 60 + "/tcp/65535"),
    ],
)
def test_a_ticket_comes_back_as_it_was_and_is_short(addresses: tuple[str, ...]) -> None:
    ticket = a_ticket(*addresses, expires=2_000_000_000)
    text = format_ticket(ticket)
    assert text.startswith(PREFIX)
    assert len(text) <= TICKET_CHARS_MAX
    assert parse_ticket(text, now=1_999_999_999) == ticket


def test_spaces_quotes_and_line_breaks_are_forgiven() -> None:
    ticket = a_ticket()
    text = format_ticket(ticket)
    wrapped = f'  "{text[:40]}\n   {text[40:90]}\r\n{text[90:]}"\n'
    assert parse_ticket(wrapped, now=0) == ticket
    assert parse_ticket(text.replace("swarm1", "SWARM1"), now=0) == ticket


@pytest.mark.parametrize(
    ("addresses", "who"),
    [
        (("/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/1"), "only this machine can use this ticket"),
        (("/dns/localhost/tcp/1",), "only this machine"),
        (("/ip4/192.168.1.7/tcp/1",), "only machines of a private network with this machine"),
        (("/ip4/127.0.0.1/tcp/1", "/ip6/fe80::1/tcp/1"), "only machines of a private network"),
        (("/ip4/192.168.1.7/tcp/1", "/ip4/8.8.8.8/tcp/1"), ""),
        (("/dns4/swarm.example.org/tcp/1",), ""),
    ],
)
def test_a_ticket_says_who_can_use_it(addresses: tuple[str, ...], who: str) -> None:
    said = reach_text(addresses)
    assert said.startswith(who)
    assert bool(said) is bool(who)


def test_the_addresses_that_most_can_dial_go_into_a_ticket_first() -> None:
    near = ("/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.1/tcp/1", "/ip4/10.0.0.2/tcp/1")
    far = "/ip4/8.8.8.8/tcp/1"
    assert widest((*near, far)) == (far, near[1])
    assert widest(near[:1]) == near[:1]


def test_an_expired_ticket_says_since_when() -> None:
    text = format_ticket(a_ticket(expires=1_000_000))
    assert parse_ticket(text, now=999_999).expires == 1_000_000
    for late, words in ((0, "0 s"), (59, "59 s"), (3 * HOUR, "3 h"), (49 * HOUR, "2 d")):
        with pytest.raises(BadTicket, match=f"expired {words} ago"):
            parse_ticket(text, now=1_000_000 + late)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "not a ticket"),
        ("hello", "not a ticket"),
        ("/ip4/127.0.0.1/tcp/1/p2p/12D3Koo", "not a ticket"),
        ("swarm1:", "characters"),
        ("swarm1:" + "2" * 400, "characters"),
        ("swarm2:abc", "newer version"),
        ("swarm1:abc0def", "'0' near character 4"),
        ("swarm1:abcdef", "mistyped"),
        ("swarm1:1111", "mistyped"),
    ],
)
def test_what_is_not_a_ticket_is_named(text: str, cause: str) -> None:
    with pytest.raises(BadTicket, match=cause) as caught:
        parse_ticket(text, now=0)
    assert caught.value.hint
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("position", [1, 20, 77, 105])
def test_one_slip_of_the_finger_is_found(position: int) -> None:
    text = format_ticket(a_ticket())
    at = len(PREFIX) + position - 1
    wrong = _ALPHABET[(_ALPHABET.index(text[at]) + 1) % 58]
    slips = {
        text[:at] + wrong + text[at + 1 :]: "a wrong character near character",
        text[:at] + wrong + text[at:]: "one character too many near character",
        text[:at] + text[at + 1 :]: "a missing character near character",
    }
    if text[at] != text[at + 1]:
        swapped = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
        slips[swapped] = "two swapped characters near character"
    for slipped, cause in slips.items():
        with pytest.raises(BadTicket, match=cause) as caught:
            parse_ticket(slipped, now=0)
        found = int(str(caught.value).split("near character ")[1].split()[0])
        assert abs(found - position) <= 1


def test_a_ticket_cut_short_is_named() -> None:
    text = format_ticket(a_ticket())
    with pytest.raises(BadTicket, match="cut short"):
        parse_ticket(text[:-9], now=0)


def test_no_mistyped_ticket_is_ever_accepted() -> None:
    text, dice = format_ticket(a_ticket()), random.Random(1)
    for _ in range(6):
        letters = list(text)
        for at in dice.sample(range(len(PREFIX), len(text)), 3):
            letters[at] = _ALPHABET[(_ALPHABET.index(letters[at]) + dice.randrange(1, 58)) % 58]
        with pytest.raises(BadTicket):
            parse_ticket("".join(letters), now=0)


@pytest.mark.parametrize(
    "tail",
    [
        b"",
        b"\x04",
        b"\x04\x7f\x00\x00\x01",
        b"\x04\x7f\x00\x00\x01\x00\x00",
        b"\x10",
        b"\x10\xff",
        b"\x10\x03a/b\x00\x01",
        b"\x10\x00\x00\x01",
        b"\x63\x00\x00\x01",
        b"\x04\x7f\x00\x00\x01\x00\x01" * 3,
    ],
)
def test_a_well_checked_ticket_with_nonsense_inside_is_refused(tail: bytes) -> None:
    payload = b"\x01" + bytes(16 + 16 + 32 + 5) + tail
    with pytest.raises(BadTicket):
        parse_ticket(PREFIX + _to_base58(payload + _check(payload)), now=0)


def test_a_ticket_of_a_later_form_is_refused() -> None:
    payload = b"\x02" + bytes(90)
    with pytest.raises(BadTicket, match="newer version"):
        parse_ticket(PREFIX + _to_base58(payload + _check(payload)), now=0)


@pytest.mark.parametrize(
    "ticket",
    [
        a_ticket("/ip4/1.2.3.4/udp/7"),
        a_ticket("/ip4/1.2.3.4/tcp/0"),
        a_ticket("/ip4/1.2.3.4/tcp/70000"),
        a_ticket("/ip4/1.2.3/tcp/7"),
        a_ticket("/ip4/1.2.3.4/tcp/7/p2p/12D3Koo"),
        a_ticket("/dns/" + "n" * 61 + "/tcp/7"),
        a_ticket("/dns/sp ace/tcp/7"),
        a_ticket(*["/ip4/1.2.3.4/tcp/7"] * 3),
        a_ticket(expires=-1),
        Ticket(b"short", bytes(16), PeerId(bytes(32)), ("/ip4/1.2.3.4/tcp/7",), 0),
    ],
)
def test_a_ticket_that_cannot_be_written_is_refused(ticket: Ticket) -> None:
    with pytest.raises(BadTicket):
        format_ticket(ticket)
