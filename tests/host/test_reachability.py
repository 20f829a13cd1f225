"""Who can reach a node is what most of the peers say that dialled it, and nobody is made to dial a stranger."""

import pytest

from swarm.errors import BadEncoding
from swarm.host.reachability import (
    VOTE_S,
    DialBack,
    Dialled,
    Reachable,
    Verdict,
    Votes,
    candidates,
    may_dial,
    parse_answer,
    parse_question,
    verdict_text,
)
from swarm.primitives.codec import encode
from swarm.types import PeerId

LAN, PUBLIC, ROUTER = "/ip4/192.168.1.5/tcp/4001", "/ip4/9.9.9.9/tcp/4001", "9.9.9.9"


def a_peer(number: int) -> PeerId:
    return PeerId(bytes([number]) * 32)


@pytest.mark.rule("H23")
def test_a_node_behind_a_router_asks_for_its_port_at_the_router() -> None:
    assert candidates([LAN], "192.168.1.5") == (LAN,)
    assert candidates([LAN], ROUTER) == (PUBLIC,)
    assert candidates([LAN, "/ip6/2001:db8::1/tcp/4002"], ROUTER) == (
        PUBLIC,
        "/ip4/9.9.9.9/tcp/4002",
    )
    assert candidates([LAN], "") == ()
    assert len(candidates([f"/ip4/192.168.1.5/tcp/{port}" for port in range(1, 9)], ROUTER)) == 4


@pytest.mark.rule("H23")
def test_attack_a_peer_is_not_made_to_dial_a_stranger() -> None:
    assert may_dial(PUBLIC, ROUTER)
    assert not may_dial("/ip4/9.9.9.8/tcp/4001", ROUTER)
    assert not may_dial("/dns/example.org/tcp/22", ROUTER)
    assert not may_dial(PUBLIC, "")
    assert may_dial("/ip6/2001:db8::1/tcp/1", "2001:DB8:0::1")


@pytest.mark.rule("H23")
def test_the_widest_address_that_most_have_reached_decides() -> None:
    votes = Votes()
    assert votes.verdict(0.0) == Verdict(Reachable.UNKNOWN)
    votes.note(a_peer(1), [LAN], [LAN], 0.0)
    assert votes.verdict(1.0) == Verdict(Reachable.NETWORK, LAN, 1, 1)
    votes.note(a_peer(2), [PUBLIC], [PUBLIC], 1.0)
    votes.note(a_peer(3), [PUBLIC], [], 1.0)
    assert votes.verdict(2.0).reached is Reachable.NETWORK, "half is not most"
    votes.note(a_peer(4), [PUBLIC], [PUBLIC], 2.0)
    assert votes.verdict(3.0) == Verdict(Reachable.PUBLIC, PUBLIC, 2, 3)
    assert votes.proved(3.0) == (PUBLIC,)
    assert votes.verdict(VOTE_S + 10.0) == Verdict(Reachable.UNKNOWN), "that was long ago"


@pytest.mark.rule("H23")
def test_attack_one_liar_has_nobody_told_an_address_of_its_choice() -> None:
    """It says that it has reached us at somebody's host, so that all others knock there."""
    votes = Votes()
    votes.note(a_peer(1), ["/ip4/6.6.6.6/tcp/4001"], ["/ip4/6.6.6.6/tcp/4001"], 0.0)
    assert votes.proved(0.0) == ()
    votes.note(a_peer(1), [LAN], [LAN, "/ip4/6.6.6.6/tcp/4001"], 0.0)
    assert votes.verdict(0.0).address == LAN, "it was not asked for that"


@pytest.mark.rule("H23")
def test_at_an_address_that_the_router_names_too_one_peer_is_enough() -> None:
    votes = Votes()
    assert votes.proved(0.0, PUBLIC) == (), "the router's word alone is none"
    votes.note(a_peer(1), [PUBLIC], [], 0.0)
    assert votes.proved(0.0, PUBLIC) == ()
    votes.note(a_peer(1), [PUBLIC], [PUBLIC], 0.0)
    assert votes.proved(0.0, PUBLIC) == (PUBLIC,)
    assert votes.proved(0.0, "/ip4/9.9.9.9/tcp/4002") == ()


@pytest.mark.rule("H23")
def test_a_node_that_nobody_reaches_is_told_which_port_to_forward() -> None:
    votes = Votes()
    votes.note(a_peer(1), [PUBLIC], [], 0.0)
    votes.note(a_peer(2), [PUBLIC], [], 0.0)
    verdict = votes.verdict(1.0)
    assert verdict == Verdict(Reachable.NOBODY, asked=2)
    assert "no peer can dial this node (2 tried)" in verdict_text(verdict, [LAN])
    assert "forward TCP port 4001" in verdict_text(verdict, [LAN])
    assert "anybody can reach this node: 2 of 3 peers dialled it at" in verdict_text(
        Verdict(Reachable.PUBLIC, PUBLIC, 2, 3), [LAN]
    )
    for reached in Reachable:
        assert verdict_text(Verdict(reached, LAN, 1, 1), [LAN])
    votes.forget()
    assert votes.verdict(1.0) == Verdict(Reachable.UNKNOWN)


@pytest.mark.rule("H23")
def test_questions_and_answers_are_bounded() -> None:
    assert parse_question(encode(DialBack((PUBLIC,)))) == DialBack((PUBLIC,))
    assert parse_answer(encode(Dialled(ROUTER, (PUBLIC,)))) == Dialled(ROUTER, (PUBLIC,))
    for asked in (
        DialBack((PUBLIC,) * 5),
        DialBack(("/ip4/9.9.9.9/udp/1",)),
        DialBack(("x" * 2_000,)),
    ):
        with pytest.raises(BadEncoding):
            parse_question(encode(asked))
    for said in (
        Dialled("9" * 80, ()),
        Dialled("0.0.0.0", ()),
        Dialled("", (PUBLIC,) * 5),
        Dialled("", ("junk",)),
    ):
        with pytest.raises(BadEncoding):
            parse_answer(encode(said))
