"""A node asks peers to dial it anew, and they do so on a connection of its own, at its own host alone."""

from types import ModuleType

import pytest
import trio

from swarm.errors import Unreachable
from swarm.host.dialback import spread
from swarm.host.reachability import PROTOCOL, DialBack, Reachable, parse_answer
from swarm.host.service import open_host
from swarm.primitives.codec import encode
from swarm.types import PeerId


@pytest.mark.rule("H23")
async def test_a_peer_dials_back_and_leaves_no_connection_behind(net: ModuleType) -> None:
    async with net.hosts(2) as (alice, bob):
        await net.meet(alice, bob)
        request = encode(DialBack(tuple(alice.addresses())))
        answer = await alice.call(bob.peer, PROTOCOL, request, timeout_s=10)
        said = parse_answer(answer)
        assert (said.observed, list(said.reached)) == ("127.0.0.1", alice.addresses())
        assert await alice.call(bob.peer, net.UPPER, b"a", timeout_s=5) == b"A"
        assert await bob.call(alice.peer, net.UPPER, b"b", timeout_s=5) == b"B"
        connections = alice.libp2p_host.get_network().get_connections
        await net.until(lambda: len(connections()) == 1)
        with pytest.raises(Unreachable, match="a moment ago"):
            await alice.call(bob.peer, PROTOCOL, request, timeout_s=10)
        assert alice.faults() == bob.faults() == {}


@pytest.mark.rule("H23")
async def test_attack_nobody_dials_another_host_or_a_port_where_another_peer_listens(
    net: ModuleType,
) -> None:
    async with net.hosts(3) as (alice, bob, carol):
        await net.meet(alice, bob)
        tries = ("/ip4/127.0.0.2/tcp/9", "/ip4/192.0.2.1/tcp/9", *carol.addresses())
        answer = await alice.call(bob.peer, PROTOCOL, encode(DialBack(tries)), timeout_s=10)
        assert parse_answer(answer).reached == (), (
            "the first two are not of its host, the last not it"
        )
        assert not bob.is_connected(carol.peer)


@pytest.mark.rule("H23", "H39")
async def test_peers_are_asked_at_once_to_dial_where_a_router_forwards(
    net: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swarm.host.dialback.FIRST_S", 0.05)
    async with net.hosts(2) as (alice, bob), trio.open_nursery() as nursery:
        await net.meet(alice, bob)
        nursery.start_soon(alice.reach.keep_asking)
        votes = alice.reach._votes._votes
        await net.until(lambda: bob.peer in votes)
        forwarded, own = "/ip4/127.0.0.1/tcp/9", alice.addresses()
        assert votes[bob.peer].tried == tuple(own)
        bob.reach._last.clear()
        alice.suppose(forwarded)
        await net.until(lambda: votes[bob.peer].tried == (forwarded, *own))
        assert votes[bob.peer].reached == set(own)
        assert "forwards TCP port 9 to it (UPnP)" in alice.reach_text()
        assert forwarded not in alice.addresses()
        alice.suppose("")
        assert "UPnP" not in alice.reach_text()
        assert alice.forwardable("127.0.0.1") == int(own[0].rsplit("/", 1)[1])
        assert alice.forwardable("127.0.0.2") == 0
        nursery.cancel_scope.cancel()


@pytest.mark.rule("H23")
async def test_who_listens_on_loopback_alone_knows_without_asking(net: ModuleType) -> None:
    async with net.hosts(1) as (alice,):
        assert alice.reach.verdict().reached is Reachable.MACHINE


@pytest.mark.rule("H23")
async def test_a_node_asks_by_itself_and_hears_that_it_is_reached(
    net: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swarm.host.dialback.FIRST_S", 0.05)
    alice_host = open_host(net.a_secret(1), listen=["0.0.0.0:0"], chain16=net.CHAIN)
    async with alice_host as alice, net.a_host(2) as bob, trio.open_nursery() as nursery:
        if alice.reach.verdict().reached is Reachable.MACHINE:
            pytest.skip("this machine has loopback alone")
        assert alice.reach.verdict().reached is Reachable.UNKNOWN
        await alice.connect(bob.peer, bob.addresses())
        nursery.start_soon(alice.reach.keep_asking)
        await net.until(lambda: alice.reach.verdict().reached is not Reachable.UNKNOWN)
        assert alice.reach.verdict().reached is Reachable.MACHINE, "by bob, who is on it"
        assert alice.reach.verdict().yes == 1
        nursery.cancel_scope.cancel()


@pytest.mark.rule("H23")
def test_peers_of_different_networks_are_asked_first() -> None:
    peers = [PeerId(bytes([number]) * 32) for number in range(6)]
    where = dict(
        zip(peers, ["9.9.9.0/24", "9.9.9.0/24", "", "8.8.8.0/24", "7.7.7.0/24", ""], strict=True)
    )
    assert spread(peers, where.__getitem__) == [peers[0], peers[3], peers[4]]
    assert spread(peers[:3], where.__getitem__) == [peers[0], peers[2], peers[1]]
