"""Pairs are a pure function of finalised state: the same for everyone, chosen by nobody."""

import pytest

from swarm.crypto import SecretKey
from swarm.gossip.pairing import SeatKey, pair_up
from swarm.types import Digest, PeerId, RoundIndex, StageIndex

BEACON = Digest(b"\x01" * 32)
RUN = Digest(b"\x02" * 32)
PEERS = [SecretKey.from_seed(bytes([i]) * 32).peer for i in range(16)]


def roster(count: int) -> list[SeatKey]:
    return [SeatKey(i, PEERS[i]) for i in range(count)]


def pairs_of(
    seats: list[SeatKey], *, beacon: Digest = BEACON, round_index: int = 3, fragment: int = 1
) -> dict[SeatKey, SeatKey]:
    return pair_up(seats, beacon, RUN, StageIndex(0), fragment, RoundIndex(round_index))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 16])
def test_everybody_but_the_odd_one_has_one_partner(count: int) -> None:
    pairs = pairs_of(roster(count))
    assert len(pairs) == count - count % 2
    assert all(pairs[partner] == seat and partner != seat for seat, partner in pairs.items())


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
