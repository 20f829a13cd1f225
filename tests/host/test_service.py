"""Peers connect, ask and answer; a peer that leaves, freezes or returns costs the others a bounded wait."""

import time
from collections import Counter
from types import ModuleType

import pytest
import trio

from swarm.errors import InvalidStatement, PeerFault, Reason, Unreachable, UsageError
from swarm.host import client, connections
from swarm.host.listen import bindings
from swarm.host.service import PeerConnected, PeerLost, open_host
from swarm.host.streams import Declined
from swarm.primitives.codec import FRAME_BYTES_MAX, LONGEST_FRAME_BYTES
from swarm.types import PeerId


async def test_a_question_is_answered_over_a_kept_stream(net: ModuleType) -> None:
    async with net.hosts(2) as (alice, bob):
        await net.meet(alice, bob)
        for size in (0, 1, 70_000, 300_000, 4 << 20):
            question = b"x" * size
            assert await alice.call(bob.peer, net.UPPER, question, timeout_s=5) == question.upper()
        sent, received = alice.traffic(bob.peer)
        assert 4_564_305 < sent < received < 4_564_400  # an answer has one byte more: its status
        await net.until(lambda: alice.rtt_ms(bob.peer) is not None)


async def test_the_longest_frame_goes_both_ways_where_a_protocol_asks_for_it(
    net: ModuleType,
) -> None:
    """And nowhere else: the other protocols keep their limit."""
    async with net.hosts(2) as (alice, bob):
        bob.serve("/swarm/long/1", net.upper, request_limit=LONGEST_FRAME_BYTES)
        await net.meet(alice, bob)
        question, long = b"x" * LONGEST_FRAME_BYTES, LONGEST_FRAME_BYTES
        answer = await alice.call(
            bob.peer, "/swarm/long/1", question, timeout_s=20, reply_limit=long
        )
        assert answer == question.upper()
        with pytest.raises(Unreachable):
            await alice.call(bob.peer, net.UPPER, question[: FRAME_BYTES_MAX + 1], timeout_s=20)
        assert bob.faults() == {alice.peer: 1}


async def test_calls_dial_by_themselves_and_run_side_by_side(net: ModuleType) -> None:
    async with net.hosts(2) as (alice, bob):
        alice.learn(bob.peer, bob.addresses())
        answers: list[bytes] = []

        async def ask(number: int) -> None:
            answers.append(await alice.call(bob.peer, net.UPPER, b"n%d" % number, timeout_s=5))

        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(ask, number)
        assert sorted(answers) == sorted(b"N%d" % number for number in range(30))
        assert len(alice.libp2p_host.get_network().get_connections()) == 1


async def test_the_answer_to_a_hello_names_where_the_other_can_be_dialled(net: ModuleType) -> None:
    async with net.hosts(2) as (alice, bob):
        await net.meet(alice, bob)
        assert bob.known_addresses(alice.peer) == alice.addresses()
        assert alice.connected() == [bob.peer]
        assert isinstance(bob.events.receive_nowait(), PeerConnected)


@pytest.mark.rule("H21")
async def test_a_hello_says_whose_clock_is_off(
    net: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with net.hosts(2) as (alice, bob):
        await net.meet(alice, bob)
        assert abs(alice.skews_s()[bob.peer]) <= 2
        assert abs(bob.skews_s()[alice.peer]) <= 2
        slow = time.time() - 900
        monkeypatch.setattr("swarm.host.service.time.time", lambda: slow)
        assert 898 <= alice.skews_s()[bob.peer] <= 902
    assert alice.skews_s() == {}


@pytest.mark.rule("H13")
async def test_two_peers_that_dial_each_other_at_once_both_get_through(
    net: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "PING_INTERVAL_S", 0.2)
    async with net.hosts(2) as (alice, bob), trio.open_nursery() as nursery:
        nursery.start_soon(alice.connect, bob.peer, bob.addresses())
        nursery.start_soon(bob.connect, alice.peer, alice.addresses())
        await net.until(lambda: alice.is_connected(bob.peer) and bob.is_connected(alice.peer))
        assert await alice.call(bob.peer, net.UPPER, b"a", timeout_s=5) == b"A"
        assert await bob.call(alice.peer, net.UPPER, b"b", timeout_s=5) == b"B"
        # Once idle, the spare connection goes, and no call fails.
        await net.until(
            lambda: len(alice._links.of(bob.peer)) == len(bob._links.of(alice.peer)) == 1
        )
        assert await alice.call(bob.peer, net.UPPER, b"a", timeout_s=5) == b"A"
        assert alice.events.statistics().current_buffer_used == 1


@pytest.mark.rule("H3")
async def test_a_refusal_carries_its_reason(net: ModuleType) -> None:
    async def refuse(peer: PeerId, request: bytes) -> bytes:
        raise InvalidStatement(Reason.NONCE, "7")

    async with net.hosts(2) as (alice, bob):
        bob.serve("/swarm/refuse/1", refuse, request_limit=10)
        await net.meet(alice, bob)
        with pytest.raises(Declined, match="nonce out of window: 7"):
            await alice.call(bob.peer, "/swarm/refuse/1", b"", timeout_s=5)
        with pytest.raises(Unreachable, match="does not speak /swarm/unknown/1"):
            await alice.call(bob.peer, "/swarm/unknown/1", b"", timeout_s=5)


@pytest.mark.rule("H10")
async def test_a_call_that_timed_out_never_hands_its_answer_to_the_next(net: ModuleType) -> None:
    release = trio.Event()
    cancelled = trio.Event()

    async def slow(peer: PeerId, request: bytes) -> bytes:
        if request == b"first":
            try:
                await release.wait()
            except trio.Cancelled:
                cancelled.set()
                raise
        return request

    async with net.hosts(2) as (alice, bob):
        bob.serve("/swarm/slow/1", slow, request_limit=10)
        await net.meet(alice, bob)
        assert await alice.call(bob.peer, "/swarm/slow/1", b"zero", timeout_s=5) == b"zero"
        with pytest.raises(Unreachable, match="did not answer"):
            await alice.call(bob.peer, "/swarm/slow/1", b"first", timeout_s=0.1)
        assert await alice.call(bob.peer, "/swarm/slow/1", b"second", timeout_s=5) == b"second"
        with trio.fail_after(3):
            await cancelled.wait()  # the handler whose caller left was told


@pytest.mark.rule("H10")
@pytest.mark.parametrize("idempotent", [True, False])
async def test_a_question_lost_with_its_stream_is_repeated_only_if_it_may_be(
    net: ModuleType, idempotent: bool
) -> None:
    seen: list[bytes] = []

    async def break_second(peer: PeerId, request: bytes) -> bytes:
        seen.append(request)
        if len(seen) == 2:
            for link in bob._links.of(peer):
                for stream in link.conn.get_streams():
                    if stream.get_protocol() == "/swarm/fragile/1":
                        await stream.muxed_stream.reset()
        return request

    async with net.hosts(2) as (alice, bob):
        bob.serve("/swarm/fragile/1", break_second, request_limit=10)
        await net.meet(alice, bob)

        async def ask(request: bytes) -> bytes:
            reply: bytes = await alice.call(
                bob.peer, "/swarm/fragile/1", request, timeout_s=5, idempotent=idempotent
            )
            return reply

        assert await ask(b"one") == b"one"
        if idempotent:
            assert await ask(b"two") == b"two"
            assert seen == [b"one", b"two", b"two"]
        else:
            with pytest.raises(Unreachable):
                await ask(b"two")
            assert seen == [b"one", b"two"]


@pytest.mark.rule("H2")
async def test_a_peer_of_another_network_is_recognised_and_not_kept(net: ModuleType) -> None:
    async with net.a_host(1) as alice, net.a_host(2, chain=b"d" * 16) as mallory:
        with pytest.raises(Unreachable, match="is on another network \\(genesis"):
            await alice.connect(mallory.peer, mallory.addresses())
        await net.until(lambda: not mallory.libp2p_host.get_network().get_connections())
        assert alice.connected() == mallory.connected() == []


@pytest.mark.rule("H11")
async def test_a_peer_that_returns_elsewhere_is_reached_within_seconds(net: ModuleType) -> None:
    async with net.a_host(1) as alice:
        async with net.a_host(2) as bob:
            await net.meet(alice, bob)
            assert await alice.call(bob.peer, net.UPPER, b"a", timeout_s=5) == b"A"
            peer = bob.peer
        await net.until(lambda: not alice.is_connected(peer))
        for _ in range(3):
            with pytest.raises(Unreachable):
                await alice.call(peer, net.UPPER, b"b", timeout_s=2)
        async with net.a_host(2) as again:
            alice.learn(peer, again.addresses())
            with trio.fail_after(2):
                assert await alice.call(peer, net.UPPER, b"c", timeout_s=2) == b"C"


@pytest.mark.rule("H13")
async def test_a_restarted_peer_replaces_its_old_half_dead_connection(net: ModuleType) -> None:
    async with net.a_host(1) as alice, net.a_host(2) as bob:
        await net.meet(bob, alice)
        (old,) = alice._links.of(bob.peer)
        bob._session = b"restart!"  # a new process under the same key, as far as alice can see
        network = bob.libp2p_host.get_network()
        await network.dial_addr(net.multiaddr(alice), net.id_of(alice))
        await net.until(
            lambda: [link for link in alice._links.of(bob.peer) if link is not old] != []
        )
        await net.until(old.ended.is_set)
        assert await alice.call(bob.peer, net.UPPER, b"a", timeout_s=5) == b"A"


@pytest.mark.rule("H9")
async def test_every_address_is_tried_one_at_a_time(
    net: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "DIAL_S", 0.3)
    async with net.hosts(3) as (alice, bob, carol):
        (mute,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with mute:
            mute_port = mute.socket.getsockname()[1]
            tries = ["/ip4/127.0.0.1/tcp/1", f"/ip4/127.0.0.1/tcp/{mute_port}", *carol.addresses()]
            with pytest.raises(Unreachable) as caught:
                await alice.connect(bob.peer, tries)
            text = str(caught.value)
            assert "connection refused" in text
            assert "no answer within 0.3 s" in text
            assert "another peer answers there" in text
            await alice.connect(bob.peer, [*tries, *bob.addresses()])
            assert alice.known_addresses(bob.peer)[0] == bob.addresses()[0]


@pytest.mark.rule("H9")
async def test_callers_of_one_peer_share_one_dial(net: ModuleType) -> None:
    async with net.hosts(2) as (alice, bob):
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(alice.connect, bob.peer, bob.addresses())
        assert len(alice.libp2p_host.get_network().get_connections()) == 1


@pytest.mark.rule("H9")
async def test_a_caller_that_gives_up_leaves_the_dial_to_the_others(net: ModuleType) -> None:
    async with net.hosts(2) as (alice, bob):
        async with trio.open_nursery() as nursery:
            with trio.move_on_after(0.001):
                await alice.connect(bob.peer, bob.addresses())
            nursery.start_soon(alice.connect, bob.peer, bob.addresses())
        assert alice.is_connected(bob.peer)


async def test_a_lost_peer_is_reported_and_its_address_kept(net: ModuleType) -> None:
    async with net.a_host(1) as alice:
        async with net.a_host(2) as bob:
            await net.meet(alice, bob)
            peer = bob.peer
        with trio.fail_after(2):
            assert [await alice.events.receive(), await alice.events.receive()] == [
                PeerConnected(peer),
                PeerLost(peer),
            ]
        assert alice.known_addresses(peer)


async def test_late_readers_miss_the_oldest_events(net: ModuleType) -> None:
    async with net.a_host(1) as alice:
        for number in range(300):
            alice._changed(net.a_secret(number % 200 + 2).peer, False)
        assert alice.events.statistics().current_buffer_used == 256


@pytest.mark.rule("H12", "S4")
async def test_a_peer_over_the_fault_limit_is_cut_off_and_refused(net: ModuleType) -> None:
    async def blame(peer: PeerId, request: bytes) -> bytes:
        raise PeerFault("nonsense")

    async with net.hosts(2) as (alice, mallory):
        alice.serve("/swarm/blame/1", blame, request_limit=10)
        await net.meet(mallory, alice)
        for _ in range(6):
            with pytest.raises(Unreachable):
                await mallory.call(alice.peer, "/swarm/blame/1", b"", timeout_s=5)
        assert alice.faults() == {mallory.peer: 5}
        await net.until(lambda: not (alice.connected() or mallory.connected()))
        with pytest.raises(Unreachable, match="refused us"):
            await mallory.connect(alice.peer, alice.addresses())
        with pytest.raises(Unreachable, match="refused for"):
            await alice.connect(mallory.peer, mallory.addresses())


@pytest.mark.rule("H6", "H11")
async def test_a_frozen_peer_costs_one_wait_and_is_dropped(
    net: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("PING_INTERVAL_S", 0.05), ("PING_TIMEOUT_S", 0.2)):
        monkeypatch.setattr(connections, name, value)
    monkeypatch.setattr(client, "OPEN_S", 0.2)
    async with net.hosts(2) as (alice, bob):
        await net.meet(alice, bob)
        net.freeze(bob)
        began = trio.current_time()
        with pytest.raises(Unreachable):
            await alice.call(bob.peer, net.UPPER, b"", timeout_s=2)
        first_s = trio.current_time() - began
        began = trio.current_time()
        with pytest.raises(Unreachable, match="next try in"):
            await alice.call(bob.peer, net.UPPER, b"", timeout_s=2)
        assert trio.current_time() - began < 0.05 < first_s < 1
        await net.until(lambda: not alice.is_connected(bob.peer))
        await net.until(lambda: not alice.libp2p_host.get_network().get_connections())


@pytest.mark.rule("H36")
async def test_a_peer_that_is_heard_is_not_pinged_and_one_that_falls_silent_is(
    net: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two ends one pings: the other hears it. An answer now and then measures the round trip."""
    monkeypatch.setattr(connections, "PING_INTERVAL_S", 0.2)
    pings = Counter[PeerId]()

    async def count(peer: PeerId, request: bytes) -> bytes:
        pings[peer] += 1
        return request

    async with net.hosts(2) as (alice, bob):
        for host in (alice, bob):
            host.serve(connections.PING_PROTOCOL, count, request_limit=connections.PING_BYTES)
        await net.meet(alice, bob)
        await net.until(lambda: len(pings) == 2)
        pings.clear()
        for _ in range(30):
            await alice.call(bob.peer, net.UPPER, b"a", timeout_s=5)
            await trio.sleep(0.05)
        assert not pings
        await net.until(lambda: bool(pings))
        assert alice.rtt_ms(bob.peer) is not None


@pytest.mark.rule("H17")
async def test_closing_is_quick_even_among_frozen_peers_and_leaves_nothing(net: ModuleType) -> None:
    async with net.hosts(4) as peers:
        async with net.a_host(9) as leaver:
            for peer in peers:
                await net.meet(leaver, peer)
            net.freeze(peers[0])
            began = trio.current_time()
        assert trio.current_time() - began < 2
        await net.until(lambda: not any(peer.connected() for peer in peers[1:]))


@pytest.mark.rule("H17")
async def test_an_error_in_the_body_comes_out_as_it_is(net: ModuleType) -> None:
    async def fail() -> None:
        async with net.hosts(2) as (alice, bob):
            await net.meet(alice, bob)
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await fail()
    with trio.move_on_after(0.05) as scope:
        async with net.a_host(1):
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_a_busy_port_is_the_users_to_mend(net: ModuleType) -> None:
    async with net.a_host(1) as alice:
        port = alice.addresses()[0].rsplit("/", 1)[1]
        with pytest.raises(
            UsageError, match=f"port {port} on 127.0.0.1 is already in use"
        ) as caught:
            async with net.a_host(2, port=int(port)):
                pass
        assert caught.value.hint


@pytest.mark.parametrize("listen", ["nonsense", "127.0.0.1:x", "203.0.113.7:0"])
async def test_a_place_one_cannot_listen_on_is_named(net: ModuleType, listen: str) -> None:
    with pytest.raises(UsageError):
        async with open_host(net.a_secret(1), listen=[listen], chain16=net.CHAIN):
            pass


@pytest.mark.rule("H15")
async def test_announced_addresses_come_first(net: ModuleType) -> None:
    async with open_host(
        net.a_secret(1), listen=["0.0.0.0:0"], announce=["Example.org:4001"], chain16=net.CHAIN
    ) as alice:
        assert alice.addresses()[0] == "/dns/example.org/tcp/4001"
        assert all(address.startswith("/ip4/") for address in alice.addresses()[1:])


@pytest.mark.rule("H15")
async def test_nobody_is_told_the_way_round_a_forwarder(net: ModuleType) -> None:
    """A node that listens on loopback and announces a forwarder's address tells that one alone."""
    async with open_host(
        net.a_secret(1),
        listen=["127.0.0.1:0"],
        announce=["/ip4/127.0.0.1/tcp/4001"],
        chain16=net.CHAIN,
    ) as alice:
        assert alice.addresses() == ["/ip4/127.0.0.1/tcp/4001"]


@pytest.mark.rule("H15")
async def test_a_wildcard_is_never_announced(net: ModuleType) -> None:
    async with open_host(net.a_secret(1), listen=["0.0.0.0:0"], chain16=net.CHAIN) as alice:
        assert alice.addresses()
        assert not any("0.0.0.0" in address for address in alice.addresses())


@pytest.mark.rule("H24")
async def test_a_node_listens_on_both_kinds_of_addresses_at_one_port(net: ModuleType) -> None:
    both = open_host(net.a_secret(1), listen=["0.0.0.0:0", "[::]:0"], chain16=net.CHAIN)
    async with both as alice, net.a_host(2) as bob:
        alice.serve(net.UPPER, net.upper, request_limit=10)
        listeners = alice.libp2p_host.get_network().listeners.values()
        bound = [str(address) for listener in listeners for address in listener.get_addrs()]
        ports = {address.rpartition("/tcp/")[2].split("/")[0] for address in bound}
        assert len(ports) == 1
        hosts = ["/ip4/127.0.0.1"]
        hosts += ["/ip6/::1"] * any(address.startswith("/ip6/") for address in bound)
        for host in hosts:
            await bob.connect(alice.peer, [f"{host}/tcp/{next(iter(ports))}"])
            assert await bob.call(alice.peer, net.UPPER, b"a", timeout_s=5) == b"A"
            await bob._links.drop_peer(alice.peer)
            await net.until(lambda: not alice.is_connected(bob.peer))


@pytest.mark.rule("H24")
async def test_a_peer_on_ipv6_is_known_by_its_address(net: ModuleType) -> None:
    """libp2p knows none: all such peers would share the limit of one address."""
    try:
        bindings(["[::1]:0"])
    except UsageError as error:
        pytest.skip(f"no IPv6 on this machine: {error}")
    here = ["[::1]:0"]
    alice_host = open_host(net.a_secret(1), listen=here, chain16=net.CHAIN)
    async with (
        alice_host as alice,
        open_host(net.a_secret(2), listen=here, chain16=net.CHAIN) as bob,
    ):
        await net.meet(alice, bob)
        assert [link.remote_host for link in bob._links.of(alice.peer)] == ["::1"]
        assert bob.known_addresses(alice.peer) == alice.addresses()


@pytest.mark.rule("H24")
async def test_a_machine_without_ipv6_listens_without_it(
    net: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swarm.host.listen._has_ipv6", lambda: False)
    assert bindings(["0.0.0.0:0", "[::]:0"]) == [("0.0.0.0", 0)]
    async with open_host(
        net.a_secret(1), listen=["0.0.0.0:0", "[::]:0"], chain16=net.CHAIN
    ) as alice:
        assert alice.addresses()


async def test_no_peer_calls_itself(net: ModuleType) -> None:
    async with net.a_host(1) as alice:
        for attempt in (
            alice.connect(alice.peer, []),
            alice.call(alice.peer, net.UPPER, b"", timeout_s=1),
        ):
            with pytest.raises(Unreachable, match="itself"):
                await attempt


@pytest.mark.rule("H26")
async def test_who_came_to_us_is_proved_by_a_dial_of_our_own(net: ModuleType) -> None:
    """Its address is one then; of the two connections one is enough, and calls go on."""
    async with net.hosts(2) as (alice, bob):
        await net.meet(bob, alice)
        assert not alice.is_dialled(bob.peer)
        await alice.prove(bob.peer)
        assert alice.is_dialled(bob.peer)
        assert await bob.call(alice.peer, net.UPPER, b"x", timeout_s=5) == b"X"


@pytest.mark.rule("H26")
async def test_attack_an_address_where_nobody_listens_is_not_proved(net: ModuleType) -> None:
    """The peer is connected, and says that it is to be found elsewhere."""
    async with net.hosts(2) as (alice, bob):
        await net.meet(bob, alice)
        alice._address_book._addresses[bob.peer] = ("/ip4/127.0.0.1/tcp/1",)
        with pytest.raises(Unreachable, match="connection refused"):
            await alice.prove(bob.peer)
        assert alice.is_connected(bob.peer)
        alice._address_book._addresses[bob.peer] = (alice.addresses()[0],)
        with pytest.raises(Unreachable):
            await alice.prove(bob.peer)
