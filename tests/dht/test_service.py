"""Peers find each other on the table, only fresh and honest records come out, and the map fills itself."""

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio

from swarm.dht.directory import Announcement, view
from swarm.dht.records import record_key, sign_record
from swarm.dht.service import Dht
from swarm.errors import Unreachable
from swarm.host.service import Host, open_host
from swarm.primitives.codec import encode
from swarm.primitives.crypto import SecretKey

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
            announcement = Announcement(
                run16=b"r" * 16,
                roles=1,
                seats=((0, 0),),
                tokens_per_s=5,
                loss_milli=-1,
                round=1,
                steps=2,
                height=3,
                reachability="direct",
                version="1.0",
                addresses=tuple(host.addresses()),
                state="training",
                num_traded=0,
                last_partner=b"",
            )
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
