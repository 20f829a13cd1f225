"""At the end of a run every seat knows its partners, and all replicas of a stage become one."""

import pytest
import torch

from swarm.config.spec import NANO
from swarm.errors import UsageError
from swarm.gossip.pairing import FinalTrade, SeatKey, final_rounds, final_trades
from swarm.primitives.crypto import SecretKey
from swarm.training.averaging.outer_step import Partner, final_averaging_step
from swarm.types import Digest, StageIndex

BEACON = Digest(b"\x01" * 32)
RUN = Digest(b"\x02" * 32)
PEERS = [SecretKey.from_seed(bytes([i]) * 32).peer for i in range(20)]


def roster(count: int) -> list[SeatKey]:
    return [SeatKey(i, PEERS[i]) for i in range(count)]


def trades_of(
    seats: list[SeatKey], round_: int, beacon: Digest = BEACON
) -> dict[SeatKey, FinalTrade]:
    return final_trades(seats, beacon, RUN, StageIndex(0), round_)


def agree(
    seats: list[SeatKey], values: torch.Tensor, lost: frozenset[int] = frozenset()
) -> torch.Tensor:
    """All rounds; the seats that are ``lost`` never answer."""
    for k in range(final_rounds(len(seats))):
        trades, before = trades_of(seats, k), values.clone()
        for i, seat in enumerate(seats):
            trade = trades.get(seat)
            partner = None
            if trade is not None and not {i, trade.partner.index} & lost:
                partner = Partner(before[trade.partner.index], trade.weight_nano / NANO)
            values[i] = final_averaging_step(before[i], partner).phi_F
    return values


@pytest.mark.rule("G21")
@pytest.mark.parametrize("count", [*range(1, 18)])
def test_any_roster_ends_with_one_model_bit_for_bit_and_it_is_the_mean(count: int) -> None:
    values = torch.randn(count, 1000, generator=torch.Generator().manual_seed(count))
    values[:, :10] = -0.0
    mean = values.mean(0)
    end = agree(roster(count), values)
    assert len({row.numpy().tobytes() for row in end}) == 1
    torch.testing.assert_close(end[0], mean, rtol=1e-5, atol=1e-6)


@pytest.mark.rule("G21")
def test_a_power_of_two_takes_its_logarithm_and_others_two_more() -> None:
    taken = [final_rounds(count) for count in range(10)]
    assert taken == [0, 0, 1, 3, 2, 4, 4, 4, 3, 5]
    assert final_rounds(1 << 10) == 10


@pytest.mark.rule("G21")
@pytest.mark.parametrize("count", [2, 3, 5, 8, 13])
def test_partners_name_each_other_and_share_what_is_one(count: int) -> None:
    for k in range(final_rounds(count)):
        trades = trades_of(roster(count), k)
        assert trades
        for seat, trade in trades.items():
            back = trades[trade.partner]
            assert back.partner == seat != trade.partner
            assert trade.weight_nano + back.weight_nano == NANO
            assert 0 <= trade.weight_nano <= NANO


def test_a_butterfly_meets_as_many_partners_as_it_has_rounds() -> None:
    seats = roster(16)
    met = {frozenset((a, t.partner)) for k in range(4) for a, t in trades_of(seats, k).items()}
    assert len(met) == 4 * 8


@pytest.mark.parametrize("count", [3, 4, 8])
def test_a_seat_that_is_lost_leaves_the_others_closer_than_they_were(count: int) -> None:
    values = torch.randn(count, 1000, generator=torch.Generator().manual_seed(count))
    before = float(values[1:].std(0).mean())
    end = agree(roster(count), values, frozenset({0}))
    assert float(end[1:].std(0).mean()) < before


def test_the_order_of_the_roster_does_not_matter_and_the_beacon_does() -> None:
    assert trades_of(roster(8), 0) == trades_of(roster(8)[::-1], 0)
    assert trades_of(roster(8), 0) != trades_of(roster(8), 0, RUN)


@pytest.mark.rule("G21")
def test_after_the_last_round_no_seat_trades_and_none_is_before_the_first() -> None:
    assert trades_of(roster(8), 3) == trades_of(roster(1), 0) == trades_of([], 0) == {}
    for bad in (lambda: trades_of(roster(8), -1), lambda: final_rounds(-1)):
        with pytest.raises(UsageError):
            bad()
