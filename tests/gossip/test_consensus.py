"""At the end of a run everybody knows whom to meet, and all replicas of a stage become one."""

from collections.abc import Mapping

import pytest
import torch

from swarm.crypto import SecretKey
from swarm.errors import UsageError
from swarm.gossip.consensus import (
    START_STD_MAX,
    STD_MAX,
    consensus_pairs,
    consensus_rounds,
    contraction,
    is_butterfly,
)
from swarm.gossip.pairing import SeatKey
from swarm.types import Digest, StageIndex

BEACON = Digest(b"\x01" * 32)
RUN = Digest(b"\x02" * 32)
PEERS = [SecretKey.from_seed(bytes([i]) * 32).peer for i in range(16)]


def roster(count: int) -> list[SeatKey]:
    return [SeatKey(i, PEERS[i]) for i in range(count)]


def pairs_of(
    seats: list[SeatKey], round_: int, beacon: Digest = BEACON
) -> Mapping[SeatKey, SeatKey]:
    return consensus_pairs(seats, beacon, RUN, StageIndex(0), round_)


def agree(seats: list[SeatKey], values: torch.Tensor, beacon: Digest = BEACON) -> torch.Tensor:
    for k in range(consensus_rounds(len(seats))):
        pairs = pairs_of(seats, k, beacon)
        before = values.clone()
        for i, seat in enumerate(seats):
            if seat in pairs:
                values[i] = before[i] * 0.5 + before[pairs[seat].index] * 0.5
    return values


@pytest.mark.parametrize("count", [2, 4, 8, 16])
def test_a_butterfly_ends_with_one_model_bit_for_bit(count: int) -> None:
    values = torch.randn(count, 1000, generator=torch.Generator().manual_seed(count))
    mean = values.mean(0)
    end = agree(roster(count), values)
    assert all(torch.equal(end[0], other) for other in end)
    torch.testing.assert_close(end[0], mean)
    assert consensus_rounds(count) == count.bit_length() - 1


@pytest.mark.parametrize("count", [3, 5, 6, 7, 12])
@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_other_rosters_gossip_until_the_difference_cannot_be_seen(count: int, seed: int) -> None:
    dice = torch.Generator().manual_seed(seed)
    values = START_STD_MAX * torch.randn(count, 200, generator=dice, dtype=torch.float64)
    end = agree(roster(count), values, Digest(bytes([seed]) * 32))
    assert float((end - end.mean(0)).square().mean().sqrt()) < STD_MAX


@pytest.mark.parametrize("count", [2, 3, 5, 8, 13])
def test_partners_name_each_other_in_every_round(count: int) -> None:
    for k in range(consensus_rounds(count)):
        pairs = pairs_of(roster(count), k)
        assert len(pairs) == count - count % 2
        assert all(pairs[partner] == seat != partner for seat, partner in pairs.items())


def test_a_butterfly_meets_as_many_partners_as_it_has_rounds() -> None:
    seats = roster(16)
    met = {frozenset((a, b)) for k in range(4) for a, b in pairs_of(seats, k).items()}
    assert len(met) == 4 * 8


def test_the_order_of_the_roster_does_not_matter_and_the_beacon_does() -> None:
    assert pairs_of(roster(8), 0) == pairs_of(roster(8)[::-1], 0)
    assert pairs_of(roster(8), 0) != pairs_of(roster(8), 0, RUN)


def test_a_peer_with_two_seats_takes_part_with_both() -> None:
    seats = [*roster(3), SeatKey(3, PEERS[0])]
    assert sorted(pairs_of(seats, 0)) == sorted(seats)


@pytest.mark.parametrize("count", [0, 1])
def test_one_replica_has_nobody_to_agree_with(count: int) -> None:
    assert consensus_rounds(count) == 0
    with pytest.raises(UsageError):
        pairs_of(roster(count), 0)


def test_there_is_no_round_past_the_last() -> None:
    for bad in (-1, 3):
        with pytest.raises(UsageError):
            pairs_of(roster(8), bad)
    with pytest.raises(UsageError):
        consensus_rounds(-1)
    with pytest.raises(UsageError):
        contraction(1)


def test_powers_of_two_are_butterflies() -> None:
    assert [n for n in range(20) if is_butterfly(n)] == [1, 2, 4, 8, 16]
    assert contraction(2) == 0
    assert contraction(6) ** 2 == pytest.approx(0.4)
