"""Trades and blobs cross real sockets as they cross the fake network."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio

from swarm.gossip.blobs.service import Blobs
from swarm.gossip.codecs.int8 import int8_bytes
from swarm.gossip.trade import outbox
from swarm.gossip.trade.messages import FragmentKey, payload_digest
from swarm.gossip.trade.payload import FragmentPayload
from swarm.gossip.trade.pull import Wanted
from swarm.gossip.trade.service import Trades
from swarm.host.service import Host, open_host
from swarm.testing.executor import InlineExecutor
from tests.gossip.builders import ANCHOR_ROOT, CHAIN, RECEIVER, SENDER, a_key, a_snapshot

NUMEL = 1_500_000
DATA = bytes(range(251)) * 20_000


@asynccontextmanager
async def two_hosts() -> AsyncGenerator[tuple[Host, Host]]:
    """Of SENDER and RECEIVER, connected."""
    async with AsyncExitStack() as stack:
        hosts: list[Host] = []
        for secret in (SENDER, RECEIVER):
            opened = open_host(secret, listen=["127.0.0.1:0"], chain16=bytes(16))
            hosts.append(await stack.enter_async_context(opened))
        sender, receiver = hosts
        await receiver.connect(sender.peer, sender.addresses())
        yield sender, receiver


def both_trades(sender: Host, receiver: Host) -> list[Trades]:
    compute, pairs = InlineExecutor(lambda _: 0.0), ((sender, SENDER), (receiver, RECEIVER))
    return [Trades(host, secret, CHAIN, compute) for host, secret in pairs]


async def test_a_blob_crosses_real_sockets(tmp_path: Path) -> None:
    with trio.fail_after(60):
        async with two_hosts() as (sender, receiver):
            blobs = [
                Blobs(tmp_path / str(i), host, quota_bytes=1 << 30)
                for i, host in enumerate((sender, receiver))
            ]
            root = await blobs[0].add(DATA)
            path = await blobs[1].fetch(root, len(DATA), lambda: [sender.peer])
            assert path.read_bytes() == DATA


@pytest.mark.rule("G6")
async def test_trades_cross_real_sockets_shorter_at_first_and_as_they_are_on_a_fast_line(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "FAST_BYTES_PER_S", 1.0)  # as fast as it was measured, however slow
    with trio.fail_after(60):
        async with two_hosts() as (sender, receiver):
            trades = both_trades(sender, receiver)
            for each in trades:
                nursery.start_soon(each.run)
            deadline = trio.current_time() + 50
            lengths = list[int]()
            for round_index in (5, 6):
                key = a_key(round_index=round_index)
                snapshot = a_snapshot(numel=NUMEL, seed=round_index)
                wanted = Wanted(key, sender.peer, 4, ANCHOR_ROOT, NUMEL)
                async with trio.open_nursery() as publishing:
                    publishing.start_soon(_publish_late, trades[0], key, snapshot)
                    traded = await trades[1].pull(wanted, snapshot.anchor, deadline=deadline)
                assert traded is not None
                assert float((traded.values - snapshot.theta).abs().max()) < 0.01
                assert payload_digest(traded.payload) == traded.offer.payload_hash
                assert await trades[0].acknowledged(key, deadline=deadline) is not None
                lengths.append(traded.offer.wire_bytes)
            assert lengths[0] < lengths[1] == int8_bytes(NUMEL)
            assert sender.faults() == receiver.faults() == {}


async def _publish_late(trades: Trades, key: FragmentKey, snapshot: FragmentPayload) -> None:
    await trio.sleep(0.1)
    trades.publish(key, snapshot, partner=RECEIVER.peer)
