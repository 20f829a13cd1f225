"""Validators over any links make one chain; who was away catches up; a damaged disk stops the node."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from swarm.config.spec import Genesis
from swarm.errors import Corrupt, InvalidStatement, Unreachable, UsageError
from swarm.gossip.news.service import News
from swarm.host.service import Host, open_host
from swarm.ledger.chain import verify_chain
from swarm.ledger.consensus import validator
from swarm.ledger.consensus.journal import HEAD_KEY, TABLE
from swarm.ledger.net import relay
from swarm.ledger.net.archive import BLOCKS, SNAPSHOT_BLOCKS, SNAPSHOTS
from swarm.ledger.net.sync import SYNC_PROTOCOL, FollowRequest, parse_genesis
from swarm.ledger.service import LedgerService
from swarm.ledger.snapshot import SNAPSHOT_PROTOCOL
from swarm.ledger.transactions import Transfer
from swarm.primitives.codec import encode
from swarm.store import Store, key_of
from swarm.testing.ledger import numbered_key
from swarm.types import Amount, Height
from tests.ledger.services import (
    MemoryHost,
    MemoryNet,
    a_genesis,
    a_ledger,
    digests,
)


async def test_one_validator_alone_makes_blocks_at_the_interval(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    net, genesis = MemoryNet(), a_genesis(1)
    async with a_ledger(tmp_path, genesis, 0, MemoryHost(net, numbered_key(0))) as ledger:
        start = trio.current_time()
        state = await ledger.wait_height(10)
        assert 8.0 < trio.current_time() - start < 11.0
        assert state.supply == ledger.state.supply


async def test_four_validators_and_a_follower_see_one_chain_and_a_transfer_lands(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    net, genesis = MemoryNet(), a_genesis(4)
    hosts = [MemoryHost(net, numbered_key(i)) for i in range(5)]
    async with (
        a_ledger(tmp_path, genesis, 0, hosts[0]) as first,
        a_ledger(tmp_path, genesis, 1, hosts[1]) as second,
        a_ledger(tmp_path, genesis, 2, hosts[2]),
        a_ledger(tmp_path, genesis, 3, hosts[3]),
        a_ledger(tmp_path, genesis, 4, hosts[4], validate=False) as follower,
    ):
        await follower.wait_height(2)
        body = Transfer(numbered_key(0).peer, Amount(5))
        before = first.state.account(numbered_key(0).peer).balance
        height = await follower.submit_final(body, 30.0)
        assert height <= 7
        await first.wait_height(12)
        assert first.state.account(numbered_key(0).peer).balance >= before + 5
        await second.wait_height(12)
        await follower.wait_height(12)
        assert digests(first, 12) == digests(second, 12) == digests(follower, 12)
        assert trio.current_time() < 16.0
        calls = net.num_calls
        await first.wait_height(22)
        await follower.wait_height(22)
        assert (net.num_calls - calls) / 10 < 45
        assert not any(host.blamed for host in hosts)
        with pytest.raises(InvalidStatement):
            await follower.submit(Transfer(numbered_key(0).peer, Amount(1 << 50)))
        links = [link for h in range(1, 21) if (link := first.block_at(Height(h)))]
        report = verify_chain(genesis, links)
        assert (report.head.state.height, report.supply) == (20, genesis_supply(genesis))


def genesis_supply(genesis: Genesis) -> int:
    return sum(account.balance + account.stake for account in genesis.accounts)


async def test_a_validator_that_was_away_catches_up_and_votes_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    net, genesis = MemoryNet(), a_genesis(4)
    hosts = [MemoryHost(net, numbered_key(i)) for i in range(4)]
    async with (
        a_ledger(tmp_path, genesis, 0, hosts[0]) as first,
        a_ledger(tmp_path, genesis, 1, hosts[1]) as second,
        a_ledger(tmp_path, genesis, 2, hosts[2]),
    ):
        async with a_ledger(tmp_path, genesis, 3, hosts[3]) as last:
            await last.wait_height(5)
        net.cut.add(hosts[3].peer)
        await first.wait_height(40)
        net.cut.remove(hosts[3].peer)
        async with a_ledger(tmp_path, genesis, 3, hosts[3]) as back:
            with trio.fail_after(5.0):
                await back.wait_height(40)
            net.cut.add(hosts[2].peer)
            reached = second.height
            await back.wait_height(reached + 10)  # three of four again: its vote is needed
            assert digests(back, 40) == digests(first, 40)
            assert back.stats.evidence == first.stats.evidence == 0


async def test_a_restart_goes_on_from_a_snapshot_and_verifies_the_rest(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    net, genesis = MemoryNet(), a_genesis(1)
    host = MemoryHost(net, numbered_key(0))
    async with a_ledger(tmp_path, genesis, 0, host) as ledger:
        state = await ledger.wait_height(SNAPSHOT_BLOCKS + 5)
    async with a_ledger(tmp_path, genesis, 0, host) as again:
        assert again.height >= state.height
        assert (await again.wait_height(SNAPSHOT_BLOCKS + 12)).supply == state.supply


async def test_a_joiner_gets_the_genesis_and_a_stranger_cannot_vote(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    net, genesis = MemoryNet(), a_genesis(1)
    host, stranger = MemoryHost(net, numbered_key(0)), MemoryHost(net, numbered_key(5))
    async with a_ledger(tmp_path, genesis, 0, host):
        request = encode(FollowRequest(Height(0), 0))
        raw = await stranger.call(host.peer, SYNC_PROTOCOL, request, timeout_s=1.0)
        assert parse_genesis(raw, genesis.chain[:16]) == genesis
        protocols = [validator.PROTOCOL, relay.PROTOCOL, SYNC_PROTOCOL, SNAPSHOT_PROTOCOL]
        for protocol in protocols:
            with pytest.raises(Unreachable):
                await stranger.call(host.peer, protocol, b"\xff", timeout_s=1.0)
        assert len(host.blamed) == len(protocols)


@pytest.mark.rule("L32")
async def test_a_damaged_disk_stops_the_node_before_it_signs(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    net, genesis = MemoryNet(), a_genesis(2)
    host, other = MemoryHost(net, numbered_key(0)), MemoryHost(net, numbered_key(1))
    async with (
        a_ledger(tmp_path, genesis, 0, host) as ledger,
        a_ledger(tmp_path, genesis, 1, other) as second,
    ):
        await ledger.wait_height(3)
        await second.wait_height(3)
    with pytest.raises(UsageError):
        await opened(tmp_path, a_genesis(3), host)
    store = Store.open(tmp_path / "0.sqlite")
    head, third = store.get(TABLE, HEAD_KEY), store.get(BLOCKS, key_of(3))
    assert head is not None
    assert third is not None
    for table, key, value in (
        (TABLE, HEAD_KEY, None),
        (TABLE, HEAD_KEY, head[:-1] + bytes([head[-1] ^ 1])),
        (TABLE, key_of(1 << 40), head),
        (BLOCKS, key_of(2), None),
        (BLOCKS, key_of(3), third[:-1]),
        (SNAPSHOTS, key_of(3), b"\x91\x90"),
    ):
        before = store.get(table, key)
        store.write([(table, key, value)])
        with pytest.raises(Corrupt):
            await opened(tmp_path, genesis, host)
        store.write([(table, key, before)])
    store.close()
    await opened(tmp_path, genesis, host)


async def opened(home: Path, genesis: Genesis, host: MemoryHost) -> None:
    store = Store.open(home / "0.sqlite")
    try:
        news = News(cast("Host", host))
        LedgerService.open(
            store, genesis, numbered_key(0), cast("Host", host), news=news, validate=True
        )
    finally:
        store.close()


async def test_four_validators_on_real_sockets_outlive_one_and_take_it_back(tmp_path: Path) -> None:
    genesis = a_genesis(4, interval_ms=100)
    chain16 = bytes(genesis.chain[:16])

    @asynccontextmanager
    async def a_node(number: int, meet: list[Host]) -> AsyncGenerator[tuple[Host, LedgerService]]:
        secret = numbered_key(number)
        async with open_host(secret, listen=["127.0.0.1:0"], chain16=chain16) as host:
            for other in meet:
                host.learn(other.peer, other.addresses())
                other.learn(host.peer, host.addresses())
                await host.connect(other.peer, other.addresses())
            async with a_ledger(tmp_path, genesis, number, host, delta_s=0.3) as ledger:
                yield host, ledger

    with trio.fail_after(40):
        async with (
            a_node(0, []) as (host0, first),
            a_node(1, [host0]) as (host1, _second),
            a_node(2, [host0, host1]) as (host2, third),
        ):
            async with a_node(3, [host0, host1, host2]) as (_host3, last):
                await last.wait_height(8)
            reached = first.height
            await first.wait_height(reached + 3)
            async with a_node(3, [host0, host1, host2]) as (_host3, back):
                await back.wait_height(reached + 7)
                await third.wait_height(reached + 7)
                assert digests(back, reached) == digests(first, reached)
                assert not host0.faults()
