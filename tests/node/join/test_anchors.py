"""Anchor peers are in different networks, and newcomers cannot flush them, however many they are."""

from collections.abc import Sequence
from itertools import pairwise

import pytest

from swarm.node.join.anchors import (
    ADDRESS_CHARS_MAX,
    ANCHORS_MAX,
    GONE_S,
    NEW_MAX,
    PEERS_MAX,
    PER_NETWORK_MAX,
    RIPE_DOUBLE_S,
    RIPE_S,
    SWAP_S,
    Anchors,
    KnownPeer,
    KnownPeers,
    Seen,
    remembered,
    watched,
)
from swarm.primitives.codec import replace
from swarm.types import PeerId

STEP_S = 20
NOBODY = KnownPeers(())


def a_peer(number: int) -> PeerId:
    return PeerId(number.to_bytes(32, "big"))


def seen(
    number: int,
    *,
    network: str = "",
    connected_s: float = RIPE_S,
    is_proved: bool = True,
    is_validator: bool = False,
) -> Seen:
    return Seen(
        peer=a_peer(number),
        addresses=(f"/ip4/8.8.8.8/tcp/{number + 1}",),
        network=network,
        connected_s=connected_s,
        is_proved=is_proved,
        is_validator=is_validator,
    )


def after(anchors: Anchors, peers: Sequence[Seen], seconds: int) -> Anchors:
    """The anchors after some time with the same peers."""
    for _ in range(0, seconds, STEP_S):
        anchors = watched(anchors, peers, STEP_S)
    return anchors


def numbers(anchors: Anchors) -> list[int]:
    return [int.from_bytes(one.peer, "big") for one in anchors.peers]


OLD = watched(Anchors(), [seen(number, network=f"n{number}") for number in range(4)], STEP_S)


@pytest.mark.rule("N29")
def test_whoever_was_connected_for_long_becomes_one() -> None:
    """At least three where there are so many; not those that came to us, which nobody can dial again."""
    short = [seen(number, connected_s=RIPE_S - 1) for number in range(9)]
    assert watched(Anchors(), short, STEP_S).peers == ()
    unproved = [seen(number, is_proved=False) for number in range(9)]
    assert watched(Anchors(), unproved, STEP_S).peers == ()
    assert len(watched(Anchors(), [seen(1), seen(2), seen(3)], STEP_S).peers) == 3
    assert (
        len(watched(Anchors(), [seen(number) for number in range(9)], STEP_S).peers) == ANCHORS_MAX
    )


@pytest.mark.rule("N29")
def test_other_networks_come_first_then_validators_then_the_oldest() -> None:
    peers = [
        seen(0, network="a", connected_s=9e3),
        seen(1, network="a", connected_s=8e3),
        seen(2, network="b", connected_s=7e2),
        seen(3, network="c", is_validator=True),
        seen(4, network="d", connected_s=7e3),
    ]
    assert numbers(watched(Anchors(), peers, STEP_S)) == [3, 0, 4, 2]
    assert set(numbers(watched(Anchors(), peers[:3], STEP_S))) == {0, 1, 2}, "where there are such"
    young = [replace(one, connected_s=RIPE_DOUBLE_S - 1) for one in peers[:3]]
    assert len(watched(Anchors(), young, STEP_S).peers) == 2, "not at once: others may come"


@pytest.mark.rule("N29", "S4a")
def test_attack_newcomers_do_not_flush_the_anchors() -> None:
    """Two days of a crowd that is always connected, while the anchors are."""
    crowd = [seen(100 + n, network=f"evil{n}", connected_s=1e6) for n in range(5)]
    here = [seen(n, network=f"n{n}", connected_s=1e6) for n in range(4)]
    assert numbers(after(OLD, [*crowd, *here], 2 * 24 * 3600)) == [0, 1, 2, 3]


@pytest.mark.rule("N29")
def test_attack_who_keeps_the_anchors_away_needs_hours_for_each() -> None:
    """None of them is met: the first is replaced after six hours, the others an hour apart."""
    crowd = [seen(100 + n, network=f"evil{n}", connected_s=1e6) for n in range(40)]
    anchors, changes, now = OLD, list[int](), 0
    while len(changes) < 4:
        before, now = numbers(anchors), now + STEP_S
        anchors = watched(anchors, crowd, STEP_S)
        if numbers(anchors) != before:
            changes.append(now)
    assert changes[0] >= GONE_S
    assert all(b - a >= SWAP_S for a, b in pairwise(changes))
    assert changes[2] >= GONE_S + 2 * SWAP_S


@pytest.mark.rule("N29")
def test_attack_a_node_that_is_made_to_start_again_keeps_its_anchors() -> None:
    """Connections begin anew at each start, and what counts towards a replacement is on the disk."""
    anchors = OLD
    crowd = [seen(100 + n, network=f"evil{n}", connected_s=STEP_S) for n in range(40)]
    for _ in range(1000):
        anchors = watched(anchors, crowd, 1)
    assert numbers(anchors) == [0, 1, 2, 3]


@pytest.mark.rule("N29")
def test_a_node_that_is_isolated_forgets_nobody() -> None:
    assert after(OLD, [], 30 * 24 * 3600) == OLD


@pytest.mark.rule("N29")
def test_an_anchor_that_is_met_once_in_a_while_stays() -> None:
    other, back = seen(50, network="x", connected_s=1e6), seen(0, network="n0")
    anchors = OLD
    for _ in range(20):
        anchors = after(
            anchors, [other, *(seen(n, network=f"n{n}") for n in (1, 2, 3))], GONE_S // 2
        )
        anchors = watched(anchors, [back, other], STEP_S)
    assert numbers(anchors) == [0, 1, 2, 3]


@pytest.mark.rule("N29")
def test_two_anchors_of_one_network_make_room_for_another_network() -> None:
    """The newer of them, an hour after the last replacement; none where networks are private."""
    same = watched(Anchors(), [seen(n, network="a", connected_s=1e4 - n) for n in range(4)], STEP_S)
    peers = [*(seen(n, network="a") for n in range(4)), seen(9, network="b")]
    assert numbers(after(same, peers, SWAP_S - 2 * STEP_S)) == [0, 1, 2, 3]
    assert numbers(after(same, peers, SWAP_S)) == [0, 1, 2, 9]
    lan = watched(Anchors(), [seen(n) for n in range(4)], STEP_S)
    assert numbers(after(lan, [*(seen(n) for n in range(4)), seen(9)], 3 * SWAP_S)) == [0, 1, 2, 3]


def order_of(known: KnownPeers) -> list[int]:
    return [int.from_bytes(one.peer, "big") for one in known.peers]


@pytest.mark.rule("N15")
def test_anchors_are_called_first_then_those_connected_then_earlier_ones() -> None:
    before = remembered(Anchors(), [seen(number) for number in range(6)], NOBODY)
    anchors = watched(Anchors(), [seen(5), seen(4)], STEP_S)
    now = remembered(anchors, [seen(7), seen(8, connected_s=9e3)], before)
    assert order_of(now) == [4, 5, 8, 7, 0, 1, 2, 3]
    nameless = Seen(peer=a_peer(60), addresses=(), connected_s=1e6, is_proved=True)
    long = Seen(peer=a_peer(61), addresses=("x" * (ADDRESS_CHARS_MAX + 1),), connected_s=1e6)
    assert order_of(remembered(anchors, [nameless, long], now)) == order_of(now)


@pytest.mark.rule("N29")
def test_attack_a_crowd_with_small_keys_does_not_fill_the_memory() -> None:
    """Its keys are the first in any order of keys, and it comes from few networks."""
    friends = [seen(1000 + number, network=f"n{number}") for number in range(12)]
    before = remembered(Anchors(), friends, NOBODY)
    crowd = [seen(n, network=f"evil{n % 3}", connected_s=9e6) for n in range(200)]
    after_ = order_of(remembered(Anchors(), crowd, before))
    assert sum(number < 1000 for number in after_) <= 3 * PER_NETWORK_MAX
    lan = [seen(number, connected_s=9e6) for number in range(200)]
    kept = order_of(remembered(Anchors(), lan, before))
    assert len(kept) == PEERS_MAX
    assert sum(number < 1000 for number in kept) == NEW_MAX


def test_a_peer_that_moved_is_remembered_at_its_new_address() -> None:
    moved = KnownPeers((KnownPeer(a_peer(3), ("/ip4/1.1.1.1/tcp/9",)),))
    assert remembered(Anchors(), [seen(3)], moved).peers[0].addresses == ("/ip4/8.8.8.8/tcp/4",)
