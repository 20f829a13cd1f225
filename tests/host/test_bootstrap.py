"""The way in is never fatal: it is retried, explained, and found again after a break."""

from types import ModuleType

import pytest
import trio

from swarm.host import bootstrap as way_in
from swarm.host.bootstrap import Failed, Progress, Reached, Trying, bootstrap


@pytest.mark.rule("H18")
async def test_an_absent_helper_is_retried_until_it_comes(
    net: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(way_in, "RETRY_FIRST_S", 0.05)
    monkeypatch.setattr(way_in, "RETRY_MOST_S", 0.1)
    monkeypatch.setattr(way_in, "CHECK_INTERVAL_S", 0.05)
    send, reports = trio.open_memory_channel[Progress](100)
    async with net.a_host(1) as alice, trio.open_nursery() as nursery:
        async with net.a_host(2) as bob:
            port = int(bob.addresses()[0].rsplit("/", 1)[1])
        nursery.start_soon(
            bootstrap,
            alice,
            [(bob.peer, bob.known_addresses(bob.peer) or [f"/ip4/127.0.0.1/tcp/{port}"])],
            send,
        )
        with trio.fail_after(10):
            assert await reports.receive() == Trying(bob.peer, 1)
            failed = await reports.receive()
            assert isinstance(failed, Failed)
            assert "connection refused" in failed.reason
            for round_number in range(2):
                async with net.a_host(2, port=port):
                    while not isinstance(report := await reports.receive(), Reached):
                        pass
                    assert report.is_first == (round_number == 0)
                await net.until(lambda: not alice.connected())
        nursery.cancel_scope.cancel()


@pytest.mark.rule("H18")
async def test_a_reader_that_left_stops_nothing(net: ModuleType) -> None:
    send, reports = trio.open_memory_channel[Progress](0)
    reports.close()
    async with net.hosts(2) as (alice, bob), trio.open_nursery() as nursery:
        nursery.start_soon(bootstrap, alice, [(bob.peer, bob.addresses())], send)
        await net.until(lambda: alice.is_connected(bob.peer))
        nursery.cancel_scope.cancel()


async def test_no_peer_to_ask_is_no_error(net: ModuleType) -> None:
    send, _ = trio.open_memory_channel[Progress](0)
    async with net.a_host(1) as alice:
        await bootstrap(alice, [], send)
