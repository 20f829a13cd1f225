"""Links are found by connection and by peer, and the best one to a peer stands last."""

import math
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from libp2p.rcmgr import Direction

from swarm.host.links import SILENT_S, Link, Links
from swarm.types import PeerId

US, SMALL, LARGE = PeerId(b"\x05" * 32), PeerId(b"\x01" * 32), PeerId(b"\x09" * 32)


@dataclass(eq=False)
class Conn:
    """Connection as libp2p has it."""

    direction: Direction = Direction.INBOUND
    is_closed: bool = False
    muxed_conn: Any = field(
        default_factory=lambda: SimpleNamespace(
            get_remote_address=lambda: ("127.0.0.1", 1),
            secured_conn=SimpleNamespace(),
            event_shutting_down=trio.Event(),
            heard_at=0.0,
        )
    )


def link_to(peer: PeerId, *, is_outbound: bool = False, heard_at: float = 0.0) -> Link:
    conn = Conn(Direction.OUTBOUND if is_outbound else Direction.INBOUND)
    conn.muxed_conn.heard_at = heard_at
    link = Link(conn, peer)
    link.greeted.set()
    return link


@pytest.fixture(autouse=True)
def no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarm.host.links.host_under", lambda _: "127.0.0.1")


def test_a_link_is_found_until_it_is_removed() -> None:
    links, one, other = Links(US), link_to(SMALL), link_to(LARGE)
    links.add(one)
    links.add(other)
    assert links.at(one.conn) is one
    assert links.of(SMALL) == links.with_peer(SMALL) == [one]
    assert links.peers() == [SMALL, LARGE]
    assert links.remove(one.conn) is one
    assert links.remove(one.conn) is links.at(one.conn) is None
    assert links.of(SMALL) == links.with_peer(SMALL) == []
    assert links.peers() == [LARGE]
    assert list(links) == [other]


def test_what_is_not_greeted_or_has_ended_is_no_connection() -> None:
    links, stranger, gone, replaced = Links(US), *(link_to(SMALL) for _ in range(3))
    stranger.greeted = trio.Event()
    gone.ended.set()
    replaced.is_replaced = True
    for link in (stranger, gone, replaced):
        links.add(link)
    assert (links.of(SMALL), links.peers()) == ([], [])
    assert links.with_peer(SMALL) == [stranger, gone, replaced]


@pytest.mark.parametrize(("peer", "best"), [(SMALL, False), (LARGE, True)])
def test_both_sides_prefer_what_the_smaller_key_dialled(peer: PeerId, best: bool) -> None:
    links = Links(US)
    for is_outbound in (True, False):
        links.add(link_to(peer, is_outbound=is_outbound))
    assert links.of(peer)[-1].is_outbound is best


def test_a_link_that_is_heard_is_better_than_a_silent_one_and_a_direct_one_better_still() -> None:
    links = Links(US)
    silent = link_to(SMALL, is_outbound=True, heard_at=-SILENT_S - 1)
    heard = link_to(SMALL, heard_at=0.0)
    relayed = link_to(SMALL, heard_at=math.inf)
    relayed.relay = LARGE
    for link in (relayed, heard, silent):
        links.add(link)
    assert links.of(SMALL)[0] is relayed
    assert links.to_relay(SMALL) in (heard, silent)
    links.remove(relayed.conn)
    assert links.of(SMALL) == [silent, heard]


def test_a_helper_is_a_way_to_be_relayed_and_no_peer() -> None:
    links, helper = Links(US), link_to(LARGE)
    helper.is_helper = True
    links.add(helper)
    assert links.to_relay(LARGE) is helper
    assert links.of(LARGE) == []
    helper.ended.set()
    assert links.to_relay(LARGE) is None
