"""The way in is never fatal: it is retried, explained, and found again after a break."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any, cast

import pytest
import trio
import trio.testing

from swarm.errors import Unreachable
from swarm.host import bootstrap as way_in
from swarm.host.bootstrap import Failed, Progress, Reached, Trying, bootstrap
from swarm.host.outbound import RETRY_ISOLATED_S
from swarm.types import PeerId


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


class Dialling:
    """A host that notes when it dials, and reaches nobody."""

    peer = PeerId(bytes(32))

    def __init__(self) -> None:
        self.others: list[PeerId] = [self.peer]
        self.dialled_at: list[float] = []
        self.dialled: Sequence[str] = ()

    def connected(self) -> list[PeerId]:
        return self.others

    def known_addresses(self, _: PeerId) -> list[str]:
        return []

    def learn(self, peer: PeerId, addresses: Sequence[str]) -> None:
        """Forget it."""

    async def connect(self, _: PeerId, addresses: Sequence[str]) -> None:
        self.dialled_at.append(trio.current_time())
        self.dialled = addresses
        raise Unreachable("gone")


@pytest.mark.rule("H18")
async def test_attack_a_flood_of_addresses_does_not_make_a_named_peer_be_forgotten(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The table of the host is bounded, and has none of it any more."""
    host = Dialling()
    send, reports = trio.open_memory_channel[Progress](0)
    reports.close()
    with trio.move_on_after(60):
        await bootstrap(cast("Any", host), [(PeerId(b"b" * 32), ["/ip4/8.8.8.8/tcp/1"])], send)
    assert list(host.dialled) == ["/ip4/8.8.8.8/tcp/1"]


@pytest.mark.rule("H18", "H27")
async def test_a_long_wait_ends_early_for_who_loses_its_last_peer(
    autojump_clock: trio.testing.MockClock,
) -> None:
    host = Dialling()
    send, reports = trio.open_memory_channel[Progress](0)
    reports.close()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bootstrap, cast("Any", host), [(PeerId(b"b" * 32), [])], send)
        await trio.sleep(300)
        assert host.dialled_at[-1] - host.dialled_at[-2] > 20
        host.others = []
        lost_at = trio.current_time()
        await trio.sleep(100)
        nursery.cancel_scope.cancel()
    later = [at for at in host.dialled_at if at > lost_at]
    assert later[0] - lost_at <= 1.2 * RETRY_ISOLATED_S + way_in.POLL_S
    assert len(later) >= 100 / (1.2 * RETRY_ISOLATED_S) - 1
