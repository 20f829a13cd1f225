"""The table stores, finds and lists with dead peers and liars about, and keeps what nobody stores anew."""

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import MockClock

from swarm.dht.lookup import CLOSEST
from swarm.dht.records import record_key, sign_record
from swarm.dht.table import (
    ASK_S,
    PROTOCOL,
    PROVIDED_KEYS_MAX,
    PROVIDED_PER_PEER_MAX,
    PROVIDER_S,
    PROVIDERS_MAX,
    REPUBLISH_S,
    Contact,
    Providers,
    Reply,
    StoreRecord,
    Table,
)
from swarm.errors import Unreachable
from swarm.primitives.codec import FRAME_BYTES_MAX, encode
from swarm.primitives.crypto import SecretKey
from swarm.primitives.randomness import stream
from swarm.types import PeerId
from tests.fakes import FakeHost, FakeNetwork

ADDRESS = "/ip4/127.0.0.1/tcp/1"
TOPIC = "announce"
OWNER = SecretKey.from_seed(b"o" * 32)
KEY = record_key(TOPIC, OWNER.peer)


@dataclass
class Held:
    """Records held, and when they were stored last."""

    records: dict[str, tuple[bytes, float]] = field(default_factory=dict)

    def get(self, key: str) -> bytes | None:
        held = self.records.get(key)
        return None if held is None else held[0]

    def put(self, key: str, record: bytes) -> None:
        self.records[key] = record, trio.current_time()

    def items(self) -> list[tuple[str, bytes, float]]:
        now = trio.current_time()
        return [(key, record, now - stored) for key, (record, stored) in self.records.items()]


class Peer(FakeHost):
    """A fake host as far as a table uses it: who is dead is found out only by asking."""

    def __init__(self, network: FakeNetwork, number: int) -> None:
        super().__init__(network, SecretKey.from_seed(number.to_bytes(32, "big")))
        network.hosts[self.peer] = self
        self.believed = network
        self.held = Held()
        dice = stream(self.peer, "test.lookup")
        self.table = Table(self, self.held, dice)  # type: ignore[arg-type]

    def connected(self) -> list[PeerId]:
        return sorted(peer for peer in self.believed.hosts if peer != self.peer)

    def is_connected(self, peer: PeerId) -> bool:
        return peer in self.believed.hosts

    def known_addresses(self, peer: PeerId) -> list[str]:
        return [ADDRESS]

    async def reach(self, peer: PeerId, timeout_s: float) -> FakeHost:
        other = self.believed.hosts.get(peer)
        if other is None or not other.is_alive:
            await trio.sleep(timeout_s)
            raise Unreachable("no answer in time")
        return await super().reach(peer, timeout_s)


@asynccontextmanager
async def tables(count: int) -> AsyncGenerator[tuple[list[Peer], trio.Nursery, FakeNetwork]]:
    network = FakeNetwork()
    peers = [Peer(network, number) for number in range(1, count + 1)]
    async with trio.open_nursery() as nursery:
        for peer in peers:
            await nursery.start(peer.table.run)
        yield peers, nursery, network
        nursery.cancel_scope.cancel()


def a_record(seq: int, ttl_s: int = 80_000, signer: SecretKey = OWNER) -> bytes:
    expires_at = int(time.time()) + ttl_s
    return encode(sign_record(signer, TOPIC, b"%d" % seq, seq=seq, expires_at=expires_at))


async def payload(peer: Peer) -> bytes | None:
    found = await peer.table.read(TOPIC, OWNER.peer)
    return None if found is None else found.payload


@pytest.mark.rule("D15")
async def test_all_that_live_read_the_newest_record_while_three_in_ten_are_dead(
    autojump_clock: MockClock,
) -> None:
    async with tables(20) as (peers, _, _):
        await peers[0].table.publish(KEY, a_record(1))
        await peers[0].table.publish(KEY, a_record(2))
        for peer in peers[:6]:
            peer.is_alive = False
        for peer in peers[6:]:
            began = trio.current_time()
            assert await payload(peer) == b"2"
            assert trio.current_time() - began < ASK_S
        await peers[7].table.publish(KEY, a_record(3))
        assert all([await payload(peer) == b"3" for peer in peers[6:]])


@pytest.mark.rule("D3", "D4", "D5")
async def test_no_table_holds_a_forged_an_expired_or_an_older_record(
    autojump_clock: MockClock,
) -> None:
    mallory = SecretKey.from_seed(b"m" * 32)
    async with tables(2) as ((asker, holder), _, _):
        asked = 0
        await asker.table.publish(KEY, a_record(5))
        for record in (a_record(9, signer=mallory), a_record(9, ttl_s=-5), a_record(4), b"junk"):
            with pytest.raises(Unreachable):
                await asker.call(
                    holder.peer, PROTOCOL, encode(StoreRecord(KEY, record)), timeout_s=5
                )
            asked += 1
        assert asked == 4
        assert await payload(asker) == b"5"


@pytest.mark.rule("D17")
async def test_a_record_survives_its_owner_and_its_holders_until_it_expires(
    autojump_clock: MockClock,
) -> None:
    async with tables(24) as (peers, nursery, network):
        await peers[0].table.publish(KEY, a_record(1))
        short = record_key(TOPIC, peers[1].peer)
        await peers[1].table.publish(short, a_record(1, 30, peers[1].secret))
        holders = [peer for peer in peers if KEY in peer.held.records]
        for peer in holders[:-3]:
            peer.is_alive = False
            del network.hosts[peer.peer]
        newcomers = [Peer(network, number) for number in range(100, 130)]
        for newcomer in newcomers:
            await nursery.start(newcomer.table.run)
        await trio.sleep(2 * REPUBLISH_S)
        assert sum(KEY in peer.held.records for peer in newcomers) >= CLOSEST / 2
        assert await payload(newcomers[0]) == b"1"
        assert not any(short in peer.held.records for peer in newcomers)


@pytest.mark.rule("D17")
async def test_one_holder_of_many_stores_a_record_anew(autojump_clock: MockClock) -> None:
    async with tables(20) as (peers, _, _):
        await peers[0].table.publish(KEY, a_record(1))
        before = sum(sum(peer.calls.values()) for peer in peers)
        await trio.sleep(1.6 * REPUBLISH_S)
        stored = sum(sum(peer.calls.values()) for peer in peers) - before
        refreshes = 2 * 20 * 20
        assert stored - refreshes <= 5 * 2 * CLOSEST


@pytest.mark.rule("D18")
async def test_providers_are_listed_by_all_and_gone_after_ten_minutes(
    autojump_clock: MockClock,
) -> None:
    async with tables(30) as (peers, _, _):
        for peer in peers[:25]:
            await peer.table.provide(b"run")
        found = await peers[28].table.find_providers(b"run", 64)
        assert set(found) == {peer.peer for peer in peers[:25]}
        await trio.sleep(PROVIDER_S)
        assert not await peers[28].table.find_providers(b"run", 64)


@pytest.mark.rule("D18")
async def test_a_liar_does_not_put_its_own_before_those_that_many_list(
    autojump_clock: MockClock,
) -> None:
    async with tables(12) as (peers, _, _):
        invented = tuple(Contact(bytes([0, n] * 16), (ADDRESS,)) for n in range(PROVIDERS_MAX))

        async def lie(asker: PeerId, request: bytes) -> bytes:
            return encode(Reply(b"", (*invented, Contact(b"short", ())), invented))

        peers[3].serve(PROTOCOL, lie, request_limit=FRAME_BYTES_MAX)
        for peer in peers[4:8]:
            await peer.table.provide(b"run")
        found = await peers[0].table.find_providers(b"run", 4)
        assert set(found) == {peer.peer for peer in peers[4:8]}


@pytest.mark.rule("D16")
async def test_an_answer_that_is_none_is_blamed_and_the_record_found(
    autojump_clock: MockClock,
) -> None:
    async with tables(9) as (peers, _, _):
        await peers[0].table.publish(KEY, a_record(1))

        async def junk(asker: PeerId, request: bytes) -> bytes:
            return b"\xff"

        async def fine(asker: PeerId, request: bytes) -> bytes:
            return encode(Reply(a_record(1)[:-1] + b"\x00", (), ()))

        peers[1].serve(PROTOCOL, junk, request_limit=FRAME_BYTES_MAX)
        peers[2].serve(PROTOCOL, fine, request_limit=FRAME_BYTES_MAX)
        for peer in peers[3:]:
            assert await payload(peer) == b"1"
        blamed = {peer for each in peers[3:] for peer in each.faults()}
        assert blamed == {peers[1].peer, peers[2].peer}


@pytest.mark.rule("D18")
def test_lists_of_providers_are_bounded() -> None:
    providers = Providers()
    for number in range(PROVIDED_KEYS_MAX + 5):
        name = number.to_bytes(4, "big")
        providers.add(name, PeerId(name * 8), 0.0)
    assert not providers.of((4).to_bytes(4, "big"), 0.0)
    assert providers.of((5).to_bytes(4, "big"), 0.0)
    for number in range(PROVIDED_PER_PEER_MAX + 1):
        providers.add(bytes([number]), OWNER.peer, 0.0)
    held = [number for number in range(20) if OWNER.peer in providers.of(bytes([number]), 0.0)]
    assert held == list(range(1, PROVIDED_PER_PEER_MAX + 1)), "one peer puts out its own"
    for number in range(PROVIDERS_MAX + 1):
        providers.add(b"run", PeerId(number.to_bytes(32, "big")), float(number))
    listed = providers.of(b"run", 70.0)
    assert len(listed) == PROVIDERS_MAX
    assert PeerId(bytes(32)) not in listed
