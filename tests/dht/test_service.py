"""Peers find each other on the table, only fresh and honest records come out, and the map fills itself."""

import contextlib
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trio
from libp2p.kad_dht.pb.kademlia_pb2 import Message, Record
from libp2p.peer.peerinfo import PeerInfo
from libp2p.utils.varint import encode_uvarint, encode_varint_prefixed
from multiaddr.multiaddr import Multiaddr

from swarm.dht import service
from swarm.dht.directory import Announcement, view
from swarm.dht.records import RECORD_BYTES_MAX, record_key, sign_record
from swarm.dht.service import Dht
from swarm.errors import Unreachable
from swarm.host.peer_ids import id_of
from swarm.host.service import Host, open_host
from swarm.host.streams import LINK_ERRORS
from swarm.primitives.codec import encode
from swarm.primitives.codec import replace as changed
from swarm.primitives.crypto import SecretKey
from tests.dht.test_announcer import ANNOUNCEMENT

CHAIN = b"c" * 16


def a_secret(number: int) -> SecretKey:
    return SecretKey.from_seed(bytes([number]) * 32)


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(10):
        while not condition():  # noqa: ASYNC110  conditions of many kinds, none with an event
            await trio.sleep(0.02)


@asynccontextmanager
async def tables(count: int) -> AsyncGenerator[list[tuple[Host, Dht]]]:
    """``count`` hosts, all connected to the first, each with its part of the table."""
    async with AsyncExitStack() as stack:
        hosts = [
            await stack.enter_async_context(
                open_host(a_secret(number), listen=["127.0.0.1:0"], chain16=CHAIN)
            )
            for number in range(1, count + 1)
        ]
        async with trio.open_nursery() as nursery:
            made = [(host, Dht(host, a_secret(number))) for number, host in enumerate(hosts, 1)]
            for _, dht in made:
                await nursery.start(dht.run)
            for host in hosts[1:]:
                await host.connect(hosts[0].peer, hosts[0].addresses())
            await until(lambda: len(hosts[0].connected()) == count - 1)
            yield made
            nursery.cancel_scope.cancel()


async def test_a_record_published_by_one_is_read_by_another_that_never_met_it() -> None:
    async with tables(4) as (_, (bob, bobs), (carol, carols), _):
        assert not carol.is_connected(bob.peer)
        await bobs.publish("announce", b"one", 60)
        found = await carols.read("announce", bob.peer)
        assert found is not None
        assert found.payload == b"one"


@pytest.mark.rule("D15", "D17")
async def test_a_record_is_held_by_peers_that_its_owner_was_not_connected_to() -> None:
    async with tables(5) as ((alice, _), (bob, bobs), *others):
        assert bob.connected() == [alice.peer]
        key = record_key("announce", bob.peer).encode("ascii")
        with trio.fail_after(30):  # a busy machine may dial for longer than one question waits
            while any(dht._kad.value_store.get(key) is None for _, dht in others):
                await bobs.publish("announce", b"one", 60)


@pytest.mark.rule("D6")
async def test_a_read_is_fresh_and_never_older_than_what_we_hold() -> None:
    async with tables(3) as ((alice, alices), (bob, bobs), (_, carols)):
        for payload in (b"one", b"two", b"three"):
            await bobs.publish("announce", payload, 60)
            for reader in (alices, carols):
                found = await reader.read("announce", bob.peer)
                assert found is not None
                assert found.payload == payload
        assert await carols.read("announce", alice.peer) is None


@pytest.mark.rule("D3", "D4")
async def test_a_forged_or_expired_record_is_stored_nowhere() -> None:
    async with tables(3) as ((alice, alices), (_, bobs), _):
        key = record_key("announce", alice.peer)
        now_s, mallory = int(time.time()), a_secret(99)
        forged = sign_record(mallory, "announce", b"lie", seq=1, expires_at=now_s + 60)
        expired = sign_record(a_secret(1), "announce", b"old", seq=1, expires_at=now_s - 1)
        for record in (forged, expired):
            kad = bobs._kad
            assert not await kad.value_store._store_at_peer(
                alice.libp2p_host.get_id(), key.encode(), encode(record)
            )
            assert alices._kad.value_store.size() == 0


async def test_providers_are_found_with_their_addresses() -> None:
    async with tables(4) as (_, (bob, bobs), (carol, carols), (_, daves)):
        await bobs.provide(b"run")
        await carols.provide(b"run")
        expected = sorted([bob.peer, carol.peer])
        with trio.fail_after(10):  # the claims travel without an answer
            while sorted(await daves.find_providers(b"run", 10)) != expected:  # noqa: ASYNC110
                await trio.sleep(0.05)
        assert await daves.find_peer_addresses(bob.peer) == bob.addresses()


@pytest.mark.rule("D7")
async def test_an_address_from_hearsay_is_tried_after_those_known_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with tables(3) as (_, (bob, _), (carol, carols)):
        hearsay = "/ip4/127.0.0.1/tcp/9"

        async def found(_: object) -> list[str]:
            return [hearsay]

        monkeypatch.setattr(carols._table, "find_peer", found)
        carol.learn(bob.peer, bob.addresses())
        assert await carols.find_peer_addresses(bob.peer) == [*bob.addresses(), hearsay]


async def asked(asker: Host, answerer: Host) -> Any:  # noqa: ANN401  as libp2p has it
    """Return a stream of the table on which nothing is checked or counted."""
    (link,) = asker._links.of(answerer.peer)
    return await asker._links.open_on(link, [service.PROTOCOL])


def framed(message: Message) -> bytes:
    return encode_varint_prefixed(message.SerializeToString())


@pytest.mark.rule("D12", "S5")
async def test_attack_a_record_with_900_kib_of_author_is_refused_before_it_comes() -> None:
    async with tables(2) as ((alice, alices), (mallory, _)):
        key = record_key("announce", mallory.peer).encode()
        message = Message(type=Message.MessageType.PUT_VALUE, key=key)
        value = sign_record(a_secret(2), "announce", b"x", seq=1, expires_at=int(time.time()) + 60)
        message.record.key, message.record.value = key, encode(value)
        stream = await asked(mallory, alice)
        await stream.write(framed(message))
        assert await stream.read(1), "such a record is stored"
        for author in (900 << 10, 4000):
            message.record.author = bytes(author)
            stream = await asked(mallory, alice)
            with contextlib.suppress(*LINK_ERRORS):
                await stream.write(framed(message)[: 16 << 10])
            with trio.fail_after(10):
                while not stream.muxed_stream.reset_received:  # noqa: ASYNC110  it has no event
                    await trio.sleep(0.02)
        assert alice.faults() == {mallory.peer: 2}
        assert alice.small_quota.budget.num_bytes == 0
        ((record, _),) = alices._kad.value_store.store.values()
        assert len(record.SerializeToString()) <= RECORD_BYTES_MAX


@pytest.mark.rule("D13", "S5")
async def test_attack_half_messages_are_counted_and_end_at_their_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service, "MESSAGE_S", 1)
    async with tables(2) as ((alice, _), (mallory, _)):
        await until(lambda: alice.small_quota.budget.num_bytes == 0)
        stream = await asked(mallory, alice)
        await stream.write(encode_uvarint(8000) + bytes(4000))
        await until(lambda: alice.small_quota.budget.num_bytes == 8002)
        await until(lambda: stream.muxed_stream.reset_received)
        assert alice.small_quota.budget.num_bytes == 0
        assert alice.faults() == {}


@pytest.mark.rule("D13", "S5")
async def test_attack_streams_on_which_no_message_begins_end_at_their_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service, "IDLE_S", 0.3)
    async with tables(2) as ((alice, _), (mallory, _)):
        streams = [await asked(mallory, alice) for _ in range(2)]
        with contextlib.suppress(*LINK_ERRORS):
            await streams[1].write(b"\xff")
        await until(lambda: all(stream.muxed_stream.reset_received for stream in streams))
        assert alice.faults() == {}


@pytest.mark.rule("D13", "S4")
async def test_attack_streams_of_the_table_without_a_question_are_few(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service, "INBOUND_PER_PEER_MAX", 4)
    async with tables(3) as ((alice, _), (mallory, _), (bob, bobs)):
        streams: list[Any] = []
        for _ in range(12):
            with contextlib.suppress(Unreachable):  # it is refused before the protocol is agreed on
                streams.append(await asked(mallory, alice))
        await until(lambda: sum(not one.muxed_stream.reset_received for one in streams) <= 4)
        await bobs.publish("announce", b"x", 60)
        found = await bobs.read("announce", bob.peer)
        assert found is not None


@pytest.mark.rule("D13")
async def test_attack_an_answer_that_is_too_long_is_the_answerers_fault() -> None:
    async def long(stream: Any) -> None:  # noqa: ANN401  as libp2p has it
        await stream.read(1)
        await stream.write(encode_uvarint(4 << 20))

    async with tables(2) as ((alice, alices), (mallory, _)):
        mallory.libp2p_host.set_stream_handler(service.PROTOCOL, long)
        key = record_key("announce", mallory.peer)
        assert await alices._kad.get_value(key) is None
        assert alice.faults()[mallory.peer] >= 1
        assert alice.small_quota.budget.num_bytes == 0


@pytest.mark.rule("D14")
async def test_attack_claims_of_one_peer_and_of_a_crowd_make_room_for_newer_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service, "PROVIDED_MAX", 30)
    address = Multiaddr("/ip4/10.0.0.1/tcp/1")
    async with tables(1) as ((alice, alices),):
        store = alices._kad.provider_store
        own = alice.libp2p_host.get_id()
        store.add_provider(b"own", PeerInfo(own, [address]))
        for number in range(100):
            store.add_provider(b"%d" % number, PeerInfo(id_of(a_secret(9).peer), [address] * 40))
        assert store.size() == 1 + service.PROVIDED_PER_PEER_MAX
        assert len(store.get_providers(b"99")[0].addrs) == 8
        for number in range(100):
            store.add_provider(b"x", PeerInfo(id_of(a_secret(100 + number).peer), [address]))
            store.add_provider(
                b"y%d" % number, PeerInfo(id_of(a_secret(100 + number).peer), [address])
            )
        assert store.size() == 1 + 30
        assert [found.peer_id for found in store.get_providers(b"own")] == [own]
        assert store.get_providers(b"y99")


@pytest.mark.rule("D14")
async def test_attack_records_of_invented_keys_push_out_the_oldest_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service, "VALUES_MAX", 10)
    async with tables(1) as ((_, dht),):
        store = dht._kad.value_store
        for number in range(20):
            store.put_record(b"%d" % number, Record(value=b"v"))
            store.put_record(b"kept", Record(value=b"new"))
        assert set(store.store) == {b"kept", *(b"%d" % number for number in range(11, 20))}


async def test_many_publications_at_once_all_arrive() -> None:
    async with tables(6) as made:
        async with trio.open_nursery() as nursery:
            for host, dht in made:
                nursery.start_soon(dht.publish, "announce", host.peer, 60)
        for host, _ in made:
            found = await made[3][1].read("announce", host.peer)
            assert found is not None
            assert found.payload == host.peer


async def test_a_node_without_peers_gets_an_error_at_once() -> None:
    async with tables(1) as ((_, dht),):
        for attempt in (dht.publish("announce", b"", 60), dht.read("announce", a_secret(9).peer)):
            with pytest.raises(Unreachable, match="no peer is connected"):
                await attempt


async def test_the_map_fills_itself_from_one_known_peer() -> None:
    async with tables(4) as made, trio.open_nursery() as nursery:
        for host, dht in made:
            announcement = changed(ANNOUNCEMENT, addresses=tuple(host.addresses()))
            nursery.start_soon(_loop, dht, announcement)

        def is_full(dht: Dht) -> bool:
            shown = view(dht.peer_map, trio.current_time())
            return len(shown) == 4 and all(
                each.reason == "ok" and each.is_connected for each in shown
            )

        await until(lambda: all(is_full(dht) for _, dht in made))
        nursery.cancel_scope.cancel()


async def _loop(dht: Dht, announcement: Announcement) -> None:
    roster = [a_secret(number).peer for number in range(1, 5)]
    await dht.directory_loop(lambda: announcement, lambda: roster, interval_s=0.3)
