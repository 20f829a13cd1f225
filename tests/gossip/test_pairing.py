"""Pairs are a pure function of finalised state: the same for all, chosen by no peer."""

from collections.abc import Mapping

import pytest

from swarm.gossip.pairing import SeatKey, heaviest_edges, pair_up
from swarm.primitives.codec import encode
from swarm.primitives.crypto import SecretKey, digest
from swarm.types import Digest, PeerId, RoundIndex, StageIndex

BEACON = Digest(b"\x01" * 32)
RUN = Digest(b"\x02" * 32)
GOLDEN = {0: 3, 3: 0, 6: 4, 4: 6, 1: 5, 5: 1}
"""Of seven seats: a format, since every machine must find the same."""
GOLDEN_EDGES = [5, 6, 4, 1, 3, 0]
"""Of the seat that is left over, the heaviest first: a format, too."""
PEERS = [SecretKey.from_seed(bytes([i]) * 32).peer for i in range(16)]


def roster(count: int) -> list[SeatKey]:
    return [SeatKey(i, PEERS[i]) for i in range(count)]


def pairs_of(
    seats: list[SeatKey], *, beacon: Digest = BEACON, round_index: int = 3, fragment: int = 1
) -> Mapping[SeatKey, SeatKey]:
    return pair_up(seats, beacon, RUN, StageIndex(0), fragment, RoundIndex(round_index))


def by_the_book(seats: list[SeatKey]) -> dict[SeatKey, SeatKey]:
    """Sort by digest; the first that waits takes the next of another peer: as specified, not as fast."""
    context = encode((0, 1, 3))
    waiting = sorted(
        set(seats),
        key=lambda seat: digest("pairing", BEACON, RUN, context, encode((seat.index, seat.peer))),
    )
    pairs: dict[SeatKey, SeatKey] = {}
    while waiting:
        seat = waiting.pop(0)
        partner = next((other for other in waiting if other.peer != seat.peer), None)
        if partner is not None:
            waiting.remove(partner)
            pairs[seat], pairs[partner] = partner, seat
    return pairs


@pytest.mark.rule("G1")
@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 16])
def test_every_seat_but_the_odd_one_has_one_partner(count: int) -> None:
    pairs = pairs_of(roster(count))
    assert len(pairs) == count - count % 2
    assert all(pairs[partner] == seat and partner != seat for seat, partner in pairs.items())


@pytest.mark.rule("G1")
def test_the_order_of_the_roster_does_not_matter() -> None:
    assert pairs_of(roster(9)) == pairs_of(roster(9)[::-1])


def test_beacon_round_and_fragment_each_draw_new_pairs() -> None:
    base = pairs_of(roster(16))
    assert base != pairs_of(roster(16), beacon=RUN)
    assert base != pairs_of(roster(16), round_index=4)
    assert base != pairs_of(roster(16), fragment=2)


def test_every_pair_comes_up_over_the_rounds() -> None:
    met = {
        frozenset((seat.index, partner.index))
        for round_index in range(60)
        for seat, partner in pairs_of(roster(6), round_index=round_index).items()
    }
    assert len(met) == 15


@pytest.mark.rule("G2")
def test_two_seats_of_one_peer_never_pair() -> None:
    mine = [SeatKey(0, PEERS[0]), SeatKey(1, PEERS[0])]
    assert pairs_of(mine) == {}
    for round_index in range(40):
        pairs = pairs_of([*mine, SeatKey(2, PEERS[1])], round_index=round_index)
        assert len(pairs) == 2
        assert all(seat.peer != partner.peer for seat, partner in pairs.items())


def test_a_seat_listed_twice_counts_once() -> None:
    seat = SeatKey(0, PeerId(PEERS[0]))
    assert pairs_of([seat, seat]) == {}


@pytest.mark.rule("G1")
@pytest.mark.parametrize("peers", [1, 2, 3, 5, 16])
def test_the_pairs_are_those_of_the_book(peers: int) -> None:
    """Also where a peer holds many seats, and an index takes one byte, two or three."""
    for count in (0, 1, 2, 5, 16, 40):
        for stride in (1, 9, 997):
            seats = [SeatKey(i * stride, PEERS[i * i % peers]) for i in range(count)]
            assert pairs_of(seats) == by_the_book(seats)


@pytest.mark.rule("G1")
def test_these_are_the_pairs() -> None:
    pairs = {seat.index: partner.index for seat, partner in pairs_of(roster(7)).items()}
    assert pairs == GOLDEN


def test_a_cached_pairing_cannot_be_changed() -> None:
    seats = roster(4)
    with pytest.raises(TypeError):
        pairs_of(seats)[seats[0]] = seats[0]  # type: ignore[index]
    assert pairs_of(seats) is pairs_of(list(seats))


def edges_of(
    seat: SeatKey, seats: list[SeatKey], *, round_index: int = 3, fragment: int = 1
) -> list[int]:
    where = (BEACON, RUN, StageIndex(0), fragment, RoundIndex(round_index))
    return [other.index for other in heaviest_edges(seat, seats, *where)]


@pytest.mark.rule("G29")
def test_edges_weigh_the_same_from_both_ends_so_the_heaviest_choose_each_other() -> None:
    seats = roster(9)
    order = {seat.index: edges_of(seat, seats) for seat in seats}
    weights = {
        frozenset((a, b)): digest(
            "pairing-edge",
            BEACON,
            RUN,
            encode((0, 1, 3)),
            encode(((min(a, b), PEERS[min(a, b)]), (max(a, b), PEERS[max(a, b)]))),
        )
        for a in range(9)
        for b in range(a)
    }
    for index, found in order.items():
        assert sorted(found) == [other for other in range(9) if other != index]
        by_weight = sorted(found, key=lambda other: weights[frozenset((index, other))])
        assert found == by_weight[::-1]
    a, b = max(weights, key=weights.__getitem__)
    assert order[a][0] == b
    assert order[b][0] == a


@pytest.mark.rule("G29")
def test_edges_are_drawn_anew_for_each_round_and_fragment_and_never_lead_to_oneself() -> None:
    seats = [*roster(12), SeatKey(12, PEERS[0])]
    base = edges_of(seats[0], seats)
    assert 12 not in base
    assert base == edges_of(seats[0], seats[::-1])
    assert base != edges_of(seats[0], seats, round_index=4)
    assert base != edges_of(seats[0], seats, fragment=2)


@pytest.mark.rule("G29")
def test_these_are_the_edges() -> None:
    assert edges_of(roster(7)[2], roster(7)) == GOLDEN_EDGES
