"""Trades and blobs cross real sockets as they cross the fake network."""

from contextlib import AsyncExitStack
from pathlib import Path

import trio

from swarm.compute import InlineCompute
from swarm.gossip.blobs import Blobs
from swarm.gossip.exchange import Snapshot, Wanted
from swarm.gossip.service import Trades
from swarm.host.service import Host, open_host
from tests.gossip.builders import ANCHOR_ROOT, CHAIN, GIVER, TAKER, a_key, a_snapshot

NUMEL = 1_500_000
DATA = bytes(range(251)) * 20_000


async def test_a_trade_and_a_blob_cross_real_sockets(tmp_path: Path) -> None:
    with trio.fail_after(60):
        async with AsyncExitStack() as stack:
            hosts: list[Host] = []
            for secret in (GIVER, TAKER):
                opened = open_host(secret, listen=["127.0.0.1:0"], chain16=bytes(16))
                hosts.append(await stack.enter_async_context(opened))
            giver, taker = hosts
            await taker.connect(giver.peer, giver.addresses())
            blobs = [
                Blobs(tmp_path / str(i), host, quota_bytes=1 << 30) for i, host in enumerate(hosts)
            ]
            root = await blobs[0].add(DATA)
            path = await blobs[1].fetch(root, len(DATA), lambda: [giver.peer])
            assert path.read_bytes() == DATA

            compute = InlineCompute(lambda _: 0.0)
            trades = [
                Trades(host, secret, CHAIN, compute)
                for host, secret in zip(hosts, (GIVER, TAKER), strict=True)
            ]
            snapshot = a_snapshot(numel=NUMEL)
            wanted = Wanted(a_key(), giver.peer, 4, ANCHOR_ROOT, NUMEL)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_publish_late, trades[0], snapshot)
                deadline = trio.current_time() + 50
                traded = await trades[1].pull(wanted, snapshot.anchor, deadline=deadline)
            assert traded is not None
            assert float((traded.theta_hat - snapshot.theta).abs().max()) < 0.01
            given = trades[0].given(a_key())
            assert given is not None
            assert given.receipt is not None
            assert giver.faults() == taker.faults() == {}


async def _publish_late(trades: Trades, snapshot: Snapshot) -> None:
    await trio.sleep(0.1)
    trades.publish(a_key(), snapshot, partner=TAKER.peer)
