"""Hosts on loopback reach each other through a relay, and by a direct way where there is one."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from types import ModuleType
from typing import Any

import pytest
import trio

from swarm.errors import Unreachable
from swarm.host.addresses import through
from swarm.host.connections import Connections
from swarm.host.links import Link
from swarm.host.relay import bridge, hop, messages
from swarm.host.relay.hop import Relaying, RelayMode
from swarm.host.relay.messages import HOP, MESSAGE_BYTES_MAX, STOP, Bounds, Status
from swarm.host.service import Host, open_host
from swarm.host.streams import FrameStream


@pytest.fixture(autouse=True)
def _one_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """On loopback each could dial each: here nobody looks for a direct way by itself."""
    monkeypatch.setattr(Connections, "_found_way", lambda *_: None)


@asynccontextmanager
async def three(
    net: ModuleType, mode: RelayMode = RelayMode.ON, mbit: float = 8000.0
) -> AsyncGenerator[tuple[Host, Host, Host]]:
    """A relay, one with a place at it, and one that knows of nobody."""
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(
            open_host(
                net.a_secret(9),
                listen=["127.0.0.1:0"],
                chain16=net.CHAIN,
                relaying=Relaying(mode, mbit),
            )
        )
        home, caller = await stack.enter_async_context(net.hosts(2))
        await net.meet(home, relay)
        await home.relays.reserve(relay.peer)
        yield relay, home, caller


@pytest.mark.rule("H34", "H35")
async def test_a_peer_is_reached_through_a_relay_and_proves_its_own_key(net: ModuleType) -> None:
    async with three(net) as (relay, home, caller):
        (address,) = home.relays.addresses()
        assert address == through(relay.peer, relay.addresses()[0])
        assert address in home.addresses()
        assert home.relays.relays() == [relay.peer]
        await caller.connect(home.peer, [address])
        await net.until(lambda: home.is_connected(caller.peer))
        assert (caller.path(home.peer), home.path(caller.peer)) == ("relayed", "relayed")
        assert (caller.path(relay.peer), home.path(relay.peer)) == ("lan", "lan")
        for size in (0, 1, 70_000, 4 << 20):
            question = b"x" * size
            answer = await caller.call(home.peer, net.UPPER, question, timeout_s=10)
            assert answer == question.upper()
            answer = await home.call(caller.peer, net.UPPER, question, timeout_s=10)
            assert answer == question.upper()
        with pytest.raises(Unreachable, match="not there any more"):
            await caller.connect(net.a_secret(77).peer, [address])


@pytest.mark.rule("H35")
async def test_a_relay_that_leaves_ends_its_circuits_and_is_not_told_any_more(
    net: ModuleType,
) -> None:
    async with three(net) as (relay, home, caller):
        await caller.connect(home.peer, home.relays.addresses())
        await relay.close()
        await net.until(lambda: not caller.is_connected(home.peer))
        await net.until(lambda: not home.is_connected(caller.peer))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(home.relays.keep)
            await net.until(lambda: not home.relays.addresses())
            nursery.cancel_scope.cancel()


@pytest.mark.rule("H34")
async def test_who_does_not_relay_gives_no_place(net: ModuleType) -> None:
    for mode in (RelayMode.OFF, RelayMode.AUTO):
        async with three(net, mode) as (_, home, _caller):
            assert not home.relays.addresses()
            assert home.reachability() == "unknown"


@pytest.mark.rule("H34")
async def test_a_peer_without_a_place_is_not_called(net: ModuleType) -> None:
    async with three(net) as (relay, home, caller):
        await net.meet(caller, relay)
        with pytest.raises(Unreachable, match="not there any more"):
            await home.connect(caller.peer, [through(relay.peer, relay.addresses()[0])])


async def ask(host: Host, peer: Any, protocol: str, line: bytes) -> bytes:  # noqa: ANN401
    """Say one line to a peer on a stream, and return its answer."""
    link: Link = host._links.of(peer)[-1]
    stream = FrameStream(await host._links.open_on(link, [protocol]))
    with trio.fail_after(10):
        await stream.send_line(line)
        return await stream.receive_line(MESSAGE_BYTES_MAX)


@pytest.mark.rule("H34", "S4c")
async def test_attack_junk_for_a_relay(net: ModuleType) -> None:
    """It is answered as such, and blamed."""
    async with three(net) as (relay, _home, _caller), net.a_host(5) as fifth:
        await net.meet(fifth, relay)
        said = await ask(fifth, relay.peer, HOP, b"\xff" * 9)
        assert messages.parse_hop_status(said).status is Status.MALFORMED_MESSAGE
        await net.until(lambda: relay.faults().get(fifth.peer) == 1)


@pytest.mark.rule("H35", "S4c")
async def test_attack_a_peer_offers_a_circuit_that_nobody_asked_for(net: ModuleType) -> None:
    """A stranger that says it is a relay of ours is refused: we have no place there."""
    async with three(net) as (_, home, caller):
        await net.meet(caller, home)
        offer = messages.stop_connect(net.a_secret(4).peer, Bounds(1, 1))
        said = await ask(caller, home.peer, STOP, offer)
        assert messages.parse_stop_status(said) is Status.PERMISSION_DENIED


@pytest.mark.rule("H34")
async def test_a_circuit_that_has_carried_what_it_may_ends(
    net: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hop, "CIRCUIT_BYTES", 1 << 20)
    async with three(net) as (_, home, caller):
        await caller.connect(home.peer, home.relays.addresses())
        with pytest.raises(Unreachable):
            await caller.call(home.peer, net.UPPER, b"x" * (4 << 20), timeout_s=10)


@pytest.mark.rule("H34")
async def test_circuits_are_paced_all_together() -> None:
    sent, waits = list[int](), list[int]()

    async def put(data: bytes) -> None:
        sent.append(len(data))

    def pace(num_bytes: int) -> float:
        waits.append(num_bytes)
        return 0.0

    passed = bridge._paced(put, 100, pace)
    await passed(b"x" * 60)
    await passed(b"x" * 40)
    with pytest.raises(bridge._Spent):
        await passed(b"x")
    assert (sent, waits) == ([60, 40], [60, 40])


@pytest.mark.rule("H37")
async def test_a_direct_way_replaces_one_through_a_relay(
    net: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    async with three(net) as (_, home, caller):
        await caller.connect(home.peer, home.relays.addresses())
        await net.until(lambda: caller.path(home.peer) == "lan", 20)
        await net.until(lambda: home.path(caller.peer) == "lan", 20)
        answer = await caller.call(home.peer, net.UPPER, b"x", timeout_s=5)
        assert answer == b"X"
