"""Whatever a partner does at whichever chunk, a pull ends by its deadline: whole, or with nothing."""

import contextlib

import pytest
import trio
import trio.testing

from swarm.errors import Unreachable
from swarm.gossip.codecs.int8 import int8_bytes
from swarm.gossip.trade import outbox, payload, pull
from swarm.gossip.trade.messages import (
    CHUNKS_PER_REPLY_MAX,
    ChunkRequest,
    FirstChunks,
    OfferRequest,
    Receipt,
    payload_digest,
)
from swarm.gossip.trade.payload import ReceivedFragment
from swarm.gossip.trade.pull import Wanted
from swarm.gossip.trade.service import EXCHANGE_PROTOCOL, Trades
from swarm.primitives.codec import encode
from swarm.testing.executor import InlineExecutor
from tests.fakes import FakeHost, FakeNetwork
from tests.gossip.builders import ANCHOR_ROOT, CHAIN, NUMEL, a_key, a_snapshot
from tests.gossip.trade.stalling import (
    MANNERS,
    Manner,
    Stalling,
    drips,
    mixes_up,
    overtakes,
    stalls,
    stalls_once,
    vanishes,
)

CHUNK_BYTES = 64
NUM_CHUNKS = -(-int8_bytes(NUMEL) // CHUNK_BYTES)
WITHIN_S = 30.0


@pytest.fixture(autouse=True)
def one_small_chunk_in_each_request(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (payload, pull, outbox):
        monkeypatch.setattr(module, "EXCHANGE_CHUNK_BYTES", CHUNK_BYTES)
    for name in ("BUDGET_FIRST", "BUDGET_MAX"):
        monkeypatch.setattr(pull, name, pull.REQUESTS_MAX)
    monkeypatch.setattr(pull, "FIRST_COUNTS", ())


async def pulled(
    manner: Manner,
    at: int,
    kind: type[OfferRequest | ChunkRequest | Receipt | FirstChunks] = ChunkRequest,
) -> tuple[ReceivedFragment | None, float, int, Stalling]:
    """What came of one pull, when it ended, and how often the partner was blamed."""
    network = FakeNetwork()
    left, right = network.host(1), network.host(2)
    puller, server = (
        Trades(h, h.secret, CHAIN, InlineExecutor(lambda _: 0.0)) for h in (left, right)
    )
    server.publish(a_key(seat=2), a_snapshot(seed=2), partner=left.peer)
    stalling = Stalling(right, manner, at, kind)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(puller.run)
        began = trio.current_time()
        wanted = Wanted(a_key(seat=2), right.peer, 1, ANCHOR_ROOT, NUMEL)
        traded = await puller.pull(wanted, a_snapshot().anchor, deadline=began + WITHIN_S)
        took_s = trio.current_time() - began
        await trio.sleep_until(began + 2 * WITHIN_S)
        nursery.cancel_scope.cancel()
    return traded, took_s, len(left.blamed), stalling


async def test_without_a_stall_every_chunk_is_asked_for_on_its_own(
    autojump_clock: trio.testing.MockClock,
) -> None:
    traded, took_s, blamed, stalling = await pulled(stalls, NUM_CHUNKS)
    assert (stalling.num_requests, blamed) == (NUM_CHUNKS, 0)
    assert traded is not None
    assert took_s < 1.0


@pytest.mark.rule("G26", "S11", "S33")
@pytest.mark.parametrize("manner", MANNERS, ids=lambda manner: manner.__name__)
async def test_at_every_chunk_a_pull_ends_by_its_deadline(
    autojump_clock: trio.testing.MockClock, manner: Manner
) -> None:
    for at in range(NUM_CHUNKS):
        traded, took_s, blamed, _ = await pulled(manner, at)
        assert took_s <= WITHIN_S + 0.001, at
        assert (traded is None) == (manner not in {stalls_once, overtakes}), at
        assert blamed == (manner is mixes_up), at
        if traded is not None:
            assert payload_digest(traded.payload) == traded.offer.payload_hash


@pytest.mark.rule("G26", "S33")
@pytest.mark.parametrize("manner", [stalls, drips, vanishes], ids=lambda manner: manner.__name__)
async def test_before_the_first_chunk_too(
    autojump_clock: trio.testing.MockClock, manner: Manner
) -> None:
    traded, took_s, blamed, _ = await pulled(manner, 0, OfferRequest)
    assert took_s <= WITHIN_S + 0.001
    assert (traded, blamed) == (None, 0)


@pytest.mark.rule("G28")
@pytest.mark.parametrize("manner", [stalls, drips, vanishes], ids=lambda manner: manner.__name__)
async def test_no_trade_waits_for_its_receipt(
    autojump_clock: trio.testing.MockClock, manner: Manner
) -> None:
    traded, took_s, blamed, stalling = await pulled(manner, 0, Receipt)
    assert traded is not None
    assert (stalling.num_requests, blamed) == (1, 0)
    assert took_s < 1.0


@pytest.mark.rule("G26", "G27", "S33")
@pytest.mark.parametrize("first_count", [1, 3, CHUNKS_PER_REPLY_MAX])
@pytest.mark.parametrize("manner", MANNERS, ids=lambda manner: manner.__name__)
async def test_whatever_becomes_of_the_first_chunks_a_pull_ends_by_its_deadline(
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
    manner: Manner,
    first_count: int,
) -> None:
    """They are asked for without an offer; lost, they are asked for again like any others."""
    monkeypatch.setattr(pull, "FIRST_COUNTS", (first_count,))
    traded, took_s, blamed, stalling = await pulled(manner, 0, FirstChunks)
    assert stalling.num_requests == 1
    assert took_s <= WITHIN_S + 0.001
    assert blamed == (manner is mixes_up)
    assert (traded is None) == (manner in {vanishes, mixes_up})


@pytest.mark.rule("G27")
async def test_first_chunks_of_what_is_not_published_yet_are_asked_for_again(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull, "FIRST_COUNTS", (8,))
    network = FakeNetwork()
    left, right = network.host(1), network.host(2)
    puller, server = (
        Trades(h, h.secret, CHAIN, InlineExecutor(lambda _: 0.0)) for h in (left, right)
    )

    async with trio.open_nursery() as nursery:

        async def publish_late() -> None:
            await trio.sleep(3.0)
            server.publish(a_key(seat=2), a_snapshot(seed=2), partner=left.peer)

        nursery.start_soon(publish_late)
        wanted = Wanted(a_key(seat=2), right.peer, 1, ANCHOR_ROOT, NUMEL)
        deadline = trio.current_time() + WITHIN_S
        assert await puller.pull(wanted, a_snapshot().anchor, deadline=deadline) is not None
        assert trio.current_time() < deadline - WITHIN_S + 4.0
    assert left.blamed == right.blamed == []


async def test_a_crowd_that_parks_everywhere_holds_up_no_partner(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Strangers park all they may for a fragment of the next round; the partner's trade takes no longer."""
    network = FakeNetwork()
    left, right = network.host(1), network.host(2)
    outsiders = [
        network.host(100 + n) for n in range(outbox.PARKED_MAX // outbox.PARKED_PER_PEER_MAX)
    ]
    puller, server = (
        Trades(h, h.secret, CHAIN, InlineExecutor(lambda _: 0.0)) for h in (left, right)
    )
    server.publish(a_key(seat=2), a_snapshot(seed=2), partner=left.peer)

    async def park(outsider: FakeHost) -> None:
        ask = encode(OfferRequest(a_key(seat=2, round_index=6), 1, ANCHOR_ROOT, 5_000))
        with contextlib.suppress(Unreachable):
            await outsider.call(right.peer, EXCHANGE_PROTOCOL, ask, timeout_s=60)

    async with trio.open_nursery() as nursery:
        for outsider in outsiders:
            for _ in range(outbox.PARKED_PER_PEER_MAX):
                nursery.start_soon(park, outsider)
        await trio.sleep(0.1)
        began = trio.current_time()
        wanted = Wanted(a_key(seat=2), right.peer, 1, ANCHOR_ROOT, NUMEL)
        traded = await puller.pull(wanted, a_snapshot().anchor, deadline=began + WITHIN_S)
        assert traded is not None
        assert trio.current_time() - began < 1.0
