"""The links of a mesh are drawn origin by origin, so that keys of one place do not fill it."""

from collections import Counter

import pytest

from swarm.gossip.news.mesh import (
    BEST_KEPT,
    MESH,
    MESH_MAX,
    MESH_MIN,
    ORIGIN_MAX,
    OUTBOUND_MIN,
    Link,
    better_links,
    crowding,
    draw_links,
    draw_surplus,
    is_crowded,
)
from swarm.primitives.crypto import SecretKey
from swarm.primitives.randomness import stream

DICE = stream(b"seed", "tests")


def a_link(number: int, origin: str = "", *, is_outbound: bool = False, score: float = 0.0) -> Link:
    key = SecretKey.from_seed(number.to_bytes(32, "big")).peer
    return Link(key, origin or f"origin {number}", is_outbound, score)


@pytest.mark.rule("G35")
def test_attack_many_keys_of_one_origin_are_drawn_like_one() -> None:
    crowd = [a_link(number, "crowd") for number in range(100)]
    honest = [a_link(number) for number in range(100, 100 + MESH - 2)]
    drawn = draw_links([*crowd, *honest], [], MESH, DICE)
    assert Counter(link.origin == "crowd" for link in drawn) == {False: MESH - 2, True: 2}


@pytest.mark.rule("G35")
def test_where_all_are_at_one_place_nobody_is_crowded() -> None:
    all_ = [a_link(number, "lab") for number in range(MESH_MAX)]
    assert len(draw_links(all_, [], MESH, DICE)) == MESH
    assert not is_crowded(all_[0], all_[1:], [])
    assert crowding(all_, []) is None


@pytest.mark.rule("G35")
def test_a_crowd_in_the_mesh_makes_room_for_others_one_by_one() -> None:
    crowd = [a_link(number, "crowd", score=number) for number in range(MESH)]
    other = a_link(100)
    assert crowding(crowd, [other]) == crowd[0], "the worst of it goes first"
    assert is_crowded(a_link(50, "crowd"), crowd, [other])
    assert not is_crowded(other, crowd, [])
    mixed = [*crowd[: MESH_MIN - 1], other, a_link(101)]
    assert crowding(mixed, []) is not None, "the mesh stays large enough without it"
    assert crowding(mixed[1:], []) is None
    few = [*crowd[:ORIGIN_MAX], other]
    assert crowding(few, [a_link(102)]) is None


@pytest.mark.rule("G35")
def test_a_mesh_that_is_too_large_keeps_the_best_and_those_we_dialled() -> None:
    links = [a_link(n, score=float(n), is_outbound=n < OUTBOUND_MIN) for n in range(MESH_MAX + 1)]
    gone = draw_surplus(links, DICE)
    assert len(links) - len(gone) == MESH
    kept = [link for link in links if link not in gone]
    assert set(links[-BEST_KEPT:]) <= set(kept)
    assert sum(link.is_outbound for link in kept) == OUTBOUND_MIN
    assert draw_surplus(links[1:], DICE) == []


def test_a_mesh_that_brings_nothing_gets_better_links() -> None:
    mesh = [a_link(n) for n in range(MESH)]
    better, worse = a_link(50, score=2), a_link(51, score=-1)
    assert better_links(mesh, [better, worse], DICE) == [better]
    good = [a_link(n, score=5) for n in range(MESH)]
    assert better_links(good, [a_link(50, score=9)], DICE) == []
    assert better_links([], [better], DICE) == []
