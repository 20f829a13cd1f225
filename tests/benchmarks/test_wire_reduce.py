"""An all-reduce over trades gives every peer the mean of all, or nothing when one of them is silent."""

import pytest
import torch
import trio
import trio.testing
from torch import Tensor

from benchmarks.wire_reduce import MEANS, AllReduce
from swarm.gossip.trade.service import Trades
from swarm.primitives.crypto import SecretKey
from swarm.testing.executor import InlineExecutor
from swarm.types import Digest, RoundIndex
from tests.fakes import FakeHost, FakeNetwork

CHAIN = Digest(b"\x0c" * 32)
NUMEL = 1003


def a_group(count: int) -> tuple[list[FakeHost], list[AllReduce]]:
    network, compute = FakeNetwork(), InlineExecutor(lambda _: 0.01)
    hosts = [network.host(number + 1) for number in range(count)]
    peers = [SecretKey.from_seed(bytes([number + 1]) * 32).peer for number in range(count)]
    trades = [Trades(host, host.secret, CHAIN, compute) for host in hosts]
    seats = [AllReduce(each, compute, seat, peers) for seat, each in enumerate(trades)]
    return hosts, seats


def vectors(count: int) -> list[Tensor]:
    generators = [torch.Generator().manual_seed(seed) for seed in range(count)]
    return [torch.randn(NUMEL, generator=generator) for generator in generators]


async def reduced(
    seats: list[AllReduce], mine: list[Tensor], kind: str, number: int
) -> dict[int, Tensor | None]:
    found: dict[int, Tensor | None] = {}
    deadline = trio.current_time() + 30

    async def one(seat: int) -> None:
        group, how = seats[seat], MEANS[kind]
        found[seat] = await group.mean(mine[seat], RoundIndex(number), how, deadline)

    async with trio.open_nursery() as nursery:
        for seat in range(len(seats)):
            nursery.start_soon(one, seat)
    return found


@pytest.mark.parametrize("kind", sorted(MEANS))
@pytest.mark.parametrize("count", [2, 3, 4])
async def test_everybody_gets_the_mean_bit_for_bit_alike(
    autojump_clock: trio.testing.MockClock, kind: str, count: int
) -> None:
    hosts, seats = a_group(count)
    mine = vectors(count)
    for number in range(3):
        found = await reduced(seats, mine, kind, number)
        due = MEANS[kind](mine)
        for mean_N in found.values():
            assert mean_N is not None
            assert torch.equal(mean_N, due)
    assert all(host.faults() == {} for host in hosts)


async def test_with_one_that_is_silent_nobody_has_anything(
    autojump_clock: trio.testing.MockClock,
) -> None:
    hosts, seats = a_group(4)
    hosts[3].is_alive = False
    began = trio.current_time()
    found = await reduced(seats[:3], vectors(4), "diloco", 0)
    assert found == {0: None, 1: None, 2: None}
    assert trio.current_time() <= began + 30.001
