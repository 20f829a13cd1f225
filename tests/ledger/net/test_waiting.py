"""The places of followers that wait: standing first, then where they come from; a few are everybody's."""

import pytest

from swarm.ledger.net.waiting import HELD_MAX, STRANGERS_MIN, Waiter, WaitingPlaces
from swarm.types import PeerId

HERE, THERE = "203.0.113.0/24", "198.51.100.0/24"


def a_waiter(number: int, origin: str = HERE, *, has_standing: bool = False) -> Waiter:
    return Waiter(PeerId(bytes([number]) * 32), origin, has_standing)


def filled(*waiters: Waiter) -> WaitingPlaces:
    places = WaitingPlaces()
    for waiter in waiters:
        assert places.enter(waiter) == (True, None)
    return places


def crowd(count: int, first: int = 0, **changes: object) -> list[Waiter]:
    return [a_waiter(first + number, **changes) for number in range(count)]  # type: ignore[arg-type]


@pytest.mark.rule("L119")
def test_a_free_place_is_anybodys_and_each_has_one() -> None:
    places = filled(*crowd(HELD_MAX))
    assert places.enter(a_waiter(3)) == (False, None)
    places.leave(a_waiter(3).peer)
    assert places.enter(a_waiter(99)) == (True, None)


@pytest.mark.rule("L119")
def test_attack_many_keys_of_one_origin_put_out_each_other_and_nobody_else() -> None:
    places = filled(a_waiter(50, THERE), *crowd(HELD_MAX - 1))
    assert places.enter(a_waiter(99)) == (False, None)
    is_in, out = places.enter(a_waiter(60, THERE))
    assert (is_in, out) == (True, a_waiter(HELD_MAX - 2).peer), "the youngest of the largest"
    balanced = filled(*crowd(HELD_MAX // 2), *crowd(HELD_MAX // 2, 50, origin=THERE))
    assert balanced.enter(a_waiter(99)) == (False, None)


@pytest.mark.rule("L119")
def test_who_has_standing_gets_the_place_of_a_stranger_but_of_the_last_four() -> None:
    places = filled(*crowd(HELD_MAX))
    for number in range(HELD_MAX - STRANGERS_MIN):
        is_in, out = places.enter(a_waiter(100 + number, has_standing=True))
        assert is_in
        assert out is not None
    assert places.enter(a_waiter(200, has_standing=True)) == (False, None)


@pytest.mark.rule("L119")
def test_strangers_have_four_places_among_those_with_standing() -> None:
    places = filled(*crowd(HELD_MAX, has_standing=True))
    for number in range(STRANGERS_MIN):
        is_in, out = places.enter(a_waiter(100 + number))
        assert is_in
        assert out == a_waiter(HELD_MAX - 1 - number).peer
    assert places.enter(a_waiter(200)) == (False, None)
    assert places.enter(a_waiter(201, THERE))[0], "of another origin"
