"""The places of a relay are shared by origin: free keys behind one address take few of them."""

import pytest

from swarm.host.relay import places
from swarm.host.relay.places import Circuits, Reservations
from swarm.types import PeerId


def peer(number: int) -> PeerId:
    return PeerId(number.to_bytes(32, "big"))


@pytest.mark.rule("H34")
def test_a_place_lasts_an_hour_and_can_be_renewed() -> None:
    table = Reservations()
    assert table.reserve(peer(1), "a", 0.0)
    assert table.has(peer(1), places.RESERVATION_S - 1)
    assert not table.has(peer(1), places.RESERVATION_S)
    assert table.reserve(peer(1), "a", 100.0)
    assert table.has(peer(1), places.RESERVATION_S + 50)
    assert len(table) == 1
    table.forget(peer(1))
    assert not table.has(peer(1), 101.0)


@pytest.mark.rule("H34")
def test_attack_keys_of_one_address_take_all_places_of_a_relay() -> None:
    table = Reservations()
    taken = [table.reserve(peer(number), "flood", 0.0) for number in range(300)]
    assert sum(taken) == places.RESERVATIONS_PER_ORIGIN_MAX
    assert table.reserve(peer(1000), "home", 0.0)


@pytest.mark.rule("H34")
def test_where_all_places_are_taken_the_origin_with_the_most_makes_room() -> None:
    table = Reservations()
    per = places.RESERVATIONS_PER_ORIGIN_MAX
    for number in range(places.RESERVATIONS_MAX):
        assert table.reserve(peer(number), f"home {number // per}", 0.0)
    assert table.reserve(peer(999), "newcomer", 1.0)
    assert len(table) == places.RESERVATIONS_MAX
    assert table.has(peer(999), 1.0)
    assert not table.has(peer(per - 1), 1.0), "the youngest of the first of the largest"
    assert not table.reserve(peer(998), "home 1", 1.0), "who has the most itself pushes nobody out"


@pytest.mark.rule("H34")
def test_attack_circuits_of_one_key_or_one_address_take_all_of_a_relay() -> None:
    table = Circuits()
    one = [table.open(peer(1), "a", peer(2)) for _ in range(100)]
    assert len([number for number in one if number is not None]) == places.CIRCUITS_PER_PEER_MAX
    many = [table.open(peer(10 + number), "a", peer(1000 + number)) for number in range(100)]
    opened = len([number for number in many if number is not None])
    assert opened + places.CIRCUITS_PER_PEER_MAX == places.CIRCUITS_PER_ORIGIN_MAX
    assert table.open(peer(5), "b", peer(6)) is not None
    for number in one:
        if number is not None:
            table.close(number)
    assert table.open(peer(1), "a", peer(2)) is not None
