"""Nothing a peer does ends the process, fills the memory or keeps others out (one test per guard)."""

import contextlib
import logging
import os
import socket
import subprocess
import sys
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import trio
import trio.lowlevel
from libp2p.custom_types import TProtocol
from libp2p.exceptions import ParseError
from libp2p.io.abc import Reader
from libp2p.peer.id import ID
from libp2p.stream_muxer.yamux.yamux import (
    DEFAULT_WINDOW_SIZE,
    FLAG_SYN,
    HEADER_SIZE,
    TYPE_DATA,
    TYPE_WINDOW_UPDATE,
)
from libp2p.tools.anyio_service.trio_tasks import FunctionTask
from libp2p.utils.varint import encode_uvarint
from multiaddr.multiaddr import Multiaddr

from swarm.errors import PeerFault, Unreachable
from swarm.host import connections, libp2p_patches, memory_quota, paces, server, yamux
from swarm.host.paces import Standing
from swarm.host.peer_ids import id_of
from swarm.host.places import Place
from swarm.host.service import Host
from swarm.host.streams import LINK_ERRORS, Declined, FrameStream
from swarm.host.yamux import Frame
from swarm.types import Bytes, PeerId


async def raw_stream(asker: Host, answerer: Host, protocol: str) -> FrameStream:
    (link,) = asker._links.of(answerer.peer)
    return FrameStream(await asker._links.open_on(link, [protocol]))


async def still_answers(net: ModuleType, host: Host) -> bool:
    async with net.a_host(77) as newcomer:
        await newcomer.connect(host.peer, host.addresses())
        return bool(await newcomer.call(host.peer, net.UPPER, b"x", timeout_s=5) == b"X")


@pytest.mark.rule("H3")
async def test_a_handler_that_raises_ends_nothing_but_its_stream(net: ModuleType) -> None:
    async def boom(*_: object) -> bytes:
        raise ZeroDivisionError

    async with net.hosts(2) as (alice, mallory):
        alice.serve("/swarm/boom/1", boom, request_limit=10)
        alice.libp2p_host.set_stream_handler(TProtocol("/raw-boom/1"), boom)
        await net.meet(mallory, alice)
        with pytest.raises(Declined, match="internal error"):
            await mallory.call(alice.peer, "/swarm/boom/1", b"", timeout_s=5)
        assert alice.handler_errors() == {"/swarm/boom/1": 1}
        with contextlib.suppress(Unreachable):
            await raw_stream(mallory, alice, "/raw-boom/1")
        assert await still_answers(net, alice)


async def test_a_new_connection_is_no_search_of_all_tasks(
    net: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = list[object]()
    async with net.hosts(2) as (alice, bob):
        monkeypatch.setattr(FunctionTask, "iterate_tasks", lambda *tasks: searched.append(tasks))
        await net.meet(alice, bob)
        assert await alice.call(bob.peer, net.UPPER, b"x", timeout_s=5) == b"X"
    assert searched == []


@pytest.mark.rule("H4", "S3")
async def test_an_oversized_frame_is_blamed_before_it_is_read(net: ModuleType) -> None:
    async with net.hosts(2) as (alice, mallory):
        await net.meet(mallory, alice)
        stream = await raw_stream(mallory, alice, net.UPPER)
        await stream._stream.write(b"\xff\xff\xff\xff")
        await net.until(lambda: alice.faults() == {mallory.peer: 1})
        await net.until(lambda: stream.is_gone)


@pytest.mark.rule("H4")
async def test_an_oversized_or_malformed_answer_is_the_peers_fault(net: ModuleType) -> None:
    async def five(peer: PeerId, request: bytes) -> bytes:
        return b"x" * 500

    async with net.hosts(2) as (alice, mallory):
        mallory.serve("/swarm/five/1", five, request_limit=10)
        await net.meet(alice, mallory)
        with pytest.raises(PeerFault):
            await alice.call(mallory.peer, "/swarm/five/1", b"", timeout_s=5, reply_limit=499)
        assert await alice.call(mallory.peer, "/swarm/five/1", b"", timeout_s=5, reply_limit=500)


@pytest.mark.rule("H4")
async def test_a_half_sent_frame_delays_no_other(net: ModuleType) -> None:
    async with net.hosts(2) as (alice, mallory):
        await net.meet(mallory, alice)
        stream = await raw_stream(mallory, alice, net.UPPER)
        await stream._stream.write(b"\0\0\0\x09half")
        assert await mallory.call(alice.peer, net.UPPER, b"a", timeout_s=5) == b"A"
        await stream.reset()
        assert alice.faults() == {}


async def never_read(*_: object) -> None:
    await trio.sleep_forever()


def unread(host: Host) -> Any:  # noqa: ANN401  as libp2p has it
    network: Any = host.libp2p_host.get_network()
    return network.unread


@pytest.mark.rule("H8", "S5")
async def test_attack_a_peer_that_fills_every_window_is_cut_at_once(
    net: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_quota, "UNREAD_PER_CONNECTION_BYTES_MAX", 2 << 20)
    async with net.hosts(3) as (alice, bob, mallory):
        alice.libp2p_host.set_stream_handler(TProtocol("/mute/1"), never_read)
        await net.meet(bob, alice)
        await net.meet(mallory, alice)
        highest = 0
        with trio.move_on_after(5), contextlib.suppress(*LINK_ERRORS, Unreachable):
            while mallory.is_connected(alice.peer):
                muxed = (await raw_stream(mallory, alice, "/mute/1"))._muxed
                frame = Frame(TYPE_DATA, 0, muxed.stream_id, 200_000).pack()
                await muxed.conn._write_frame(frame, bytes(200_000))
                highest = max(highest, unread(alice).num_bytes)
        await net.until(lambda: not alice.is_connected(mallory.peer))
        assert alice.faults() == {mallory.peer: 1}
        assert 1 << 20 < highest <= 2 << 20
        assert await bob.call(alice.peer, net.UPPER, b"x", timeout_s=5) == b"X"
        await net.until(lambda: unread(alice).num_bytes == 0)


@pytest.mark.rule("H29", "S5")
@pytest.mark.parametrize("is_open", [True, False], ids=["open stream", "new stream"])
async def test_attack_a_frame_longer_than_its_window_is_refused_before_its_body(
    net: ModuleType, is_open: bool
) -> None:
    async with net.hosts(2) as (alice, mallory):
        alice.libp2p_host.set_stream_handler(TProtocol("/mute/1"), never_read)
        await net.meet(mallory, alice)
        muxed = (await raw_stream(mallory, alice, "/mute/1"))._muxed
        number, flags, window = muxed.stream_id + 2, FLAG_SYN, DEFAULT_WINDOW_SIZE
        if is_open:
            number, flags = muxed.stream_id, 0
            theirs = alice._links.of(mallory.peer)[0].conn.muxed_conn
            window = theirs.streams[number].recv_window
        header = Frame(TYPE_DATA, flags, number, window + 1)
        await muxed.conn._write_frame(header.pack())
        await net.until(lambda: not alice.is_connected(mallory.peer))
        assert alice.faults() == {mallory.peer: 1}
        assert unread(alice).num_bytes == 0


@pytest.mark.rule("H29", "S5")
async def test_attack_the_body_of_a_frame_of_no_stream_is_skipped_and_not_held(
    net: ModuleType,
) -> None:
    async with net.hosts(2) as (alice, mallory):
        await net.meet(mallory, alice)
        (link,) = mallory._links.of(alice.peer)
        muxed, highest = link.conn.muxed_conn, 0
        async with trio.open_nursery() as nursery:
            done = trio.Event()

            async def attack() -> None:
                await muxed._write_frame(Frame(TYPE_DATA, 0, 4001, 8 << 20).pack(), bytes(8 << 20))
                done.set()

            nursery.start_soon(attack)
            while not done.is_set():
                await trio.lowlevel.checkpoint()
                highest = max(highest, unread(alice).num_bytes)
        assert await mallory.call(alice.peer, net.UPPER, b"x", timeout_s=5) == b"X"
        assert 0 < highest <= 2 << 20, "no more than one piece, and what the cipher holds"
        assert alice.faults() == {}


@pytest.mark.rule("H29", "S5")
async def test_attack_a_body_that_trickles_in_is_counted_and_ends_at_its_deadline(
    net: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yamux, "BODY_S", 0.3)
    async with net.hosts(2) as (alice, mallory):
        alice.libp2p_host.set_stream_handler(TProtocol("/mute/1"), never_read)
        await net.meet(mallory, alice)
        muxed = (await raw_stream(mallory, alice, "/mute/1"))._muxed
        half = bytes(100_000)
        await muxed.conn._write_frame(Frame(TYPE_DATA, 0, muxed.stream_id, 200_000).pack(), half)
        await net.until(lambda: unread(alice).num_bytes >= len(half))
        await net.until(lambda: not alice.is_connected(mallory.peer))
        assert unread(alice).num_bytes == 0


@pytest.mark.rule("H7", "S4")
async def test_mute_sockets_do_not_keep_newcomers_out(
    net: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libp2p_patches, "HANDSHAKES_PER_ADDRESS_MAX", 8)
    async with net.a_host(1) as alice:
        port = int(alice.addresses()[0].rsplit("/", 1)[1])
        mute = [socket.create_connection(("127.0.0.1", port)) for _ in range(60)]
        try:
            with trio.fail_after(3):
                assert await still_answers(net, alice)
            assert len(alice.libp2p_host.get_network()._handshakes) <= 8
        finally:
            for each in mute:
                each.close()


@pytest.mark.rule("H7", "S4")
async def test_ended_connections_give_their_places_back(
    net: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libp2p_patches, "CONNECTIONS_MAX", 3)
    async with net.a_host(1) as alice:
        for _ in range(6):
            assert await still_answers(net, alice)


def from_elsewhere(
    monkeypatch: pytest.MonkeyPatch, host: Host, address: str, *peers: PeerId
) -> None:
    """Let a host believe that some peers come from another address: here there is one machine."""
    network: Any = host.libp2p_host.get_network()
    others, place = {id_of(peer) for peer in peers}, network._place

    def placed(muxed_conn: Any, **options: bool) -> Place:  # noqa: ANN401  as libp2p has it
        found: Place = place(muxed_conn, **options)
        is_other = muxed_conn.peer_id in others
        return replace(found, remote_host=address) if is_other else found

    monkeypatch.setattr(network, "_place", placed)


@pytest.mark.rule("H7", "H28", "S4a")
async def test_attack_a_crowd_of_one_machine_keeps_nobody_out_and_leaves_us_places_to_dial(
    net: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three places for those who come, one for us; the crowd is turned away, and makes room for others."""
    monkeypatch.setattr(libp2p_patches, "CONNECTIONS_MAX", 4)
    async with net.hosts(7) as (alice, bob, carol, *crowd):
        from_elsewhere(monkeypatch, alice, "8.8.8.8", carol.peer)
        for mallory in crowd[:3]:
            await net.meet(mallory, alice)
        with pytest.raises(Unreachable):
            await crowd[3].connect(alice.peer, alice.addresses())
        await alice.connect(bob.peer, bob.addresses())
        await net.meet(carol, alice)
        await net.until(lambda: not alice.is_connected(crowd[2].peer))
        there = {bob.peer, carol.peer, *(mallory.peer for mallory in crowd[:2])}
        assert set(alice.connected()) == there
        assert await alice.call(carol.peer, net.UPPER, b"x", timeout_s=5) == b"X"


@pytest.mark.rule("H28")
async def test_attack_a_full_host_still_dials_a_peer_of_its_choice(
    net: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libp2p_patches, "CONNECTIONS_MAX", 4)
    async with net.hosts(6) as (alice, bob, carol, *crowd):
        alice.keep({bob.peer})
        await net.meet(bob, alice)
        for mallory in crowd[:2]:
            await net.meet(mallory, alice)
        await alice.connect(crowd[2].peer, crowd[2].addresses())
        with pytest.raises(Unreachable, match="every place for connections is taken here"):
            await alice.connect(carol.peer, carol.addresses())
        alice.keep({bob.peer, carol.peer})
        await alice.connect(carol.peer, carol.addresses())
        await net.until(lambda: len(alice.connected()) == 4)
        assert {bob.peer, carol.peer} <= set(alice.connected())


@pytest.mark.rule("H2")
async def test_a_peer_without_a_hello_is_served_nothing_and_dropped(
    net: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "GREET_S", 0.3)

    async def say_nothing(self: object, link: object) -> None:
        await trio.sleep_forever()

    async with net.hosts(2) as (alice, mallory):
        monkeypatch.setattr(mallory._links, "_greet", say_nothing.__get__(mallory._links))
        network = mallory.libp2p_host.get_network()
        conn = await network.dial_addr(net.multiaddr(alice), net.id_of(alice))
        link = mallory._links.link_of(conn)
        assert link is not None
        stream = FrameStream(await mallory._links.open_on(link, [net.UPPER]))
        with pytest.raises(Unreachable):
            await stream.ask(b"x", reply_limit=10)
        await net.until(lambda: conn.is_closed)
        assert alice.connected() == []


@pytest.mark.rule("H30", "S4")
async def test_streams_of_one_peer_are_limited(
    net: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_quota, "STREAMS_PER_PEER_MAX", 10)
    async with net.hosts(2) as (alice, mallory):
        await net.meet(mallory, alice)
        (link,) = mallory._links.of(alice.peer)
        opened = [await link.conn.new_stream() for _ in range(40)]
        await net.until(lambda: sum(s.muxed_stream.reset_received for s in opened) >= 25)
        assert alice.libp2p_host.streams.budget.num_bytes <= 10


@pytest.mark.rule("H30", "S5")
async def test_attack_streams_of_a_crowd_make_room_for_a_peer_with_few(
    net: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_quota, "STREAMS_MAX", 12)
    async with net.hosts(3) as (alice, bob, mallory):
        await net.meet(mallory, alice)
        await net.meet(bob, alice)
        (link,) = mallory._links.of(alice.peer)
        for _ in range(30):
            await link.conn.new_stream()
        for _ in range(3):
            assert await bob.call(alice.peer, net.UPPER, b"x", timeout_s=5) == b"X"
        assert alice.libp2p_host.streams.budget.num_bytes <= 12


@pytest.mark.rule("H30", "S5")
async def test_attack_streams_that_nobody_serves_are_kept_neither_open_nor_full(
    net: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their handlers are done; their peer sends on and never ends them."""

    async def look_away(stream: Any) -> None:  # noqa: ANN401  as libp2p has it
        await stream.close()

    async with net.hosts(2) as (alice, mallory):
        alice.libp2p_host.set_stream_handler(TProtocol("/rude/1"), look_away)
        await net.meet(mallory, alice)
        conn = alice._links.of(mallory.peer)[0].conn
        await net.until(lambda: len(conn.muxed_conn.streams) <= 2)
        for _ in range(20):
            stream = await raw_stream(mallory, alice, "/rude/1")
            await stream._stream.write(bytes(1000))
        await net.until(lambda: len(conn.muxed_conn.streams) <= 2)
        assert len(conn.get_streams()) <= 2
        await net.until(lambda: unread(alice).num_bytes == 0)
        assert alice.faults() == {}


@pytest.mark.rule("H30", "S5")
async def test_attack_streams_that_are_opened_faster_than_they_are_served_are_refused(
    net: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yamux, "STREAMS_OPEN_MAX", 20)
    async with net.hosts(2) as (alice, mallory):
        await net.meet(mallory, alice)
        muxed = mallory._links.of(alice.peer)[0].conn.muxed_conn
        theirs = alice._links.of(mallory.peer)[0].conn.muxed_conn
        opened = [await muxed.open_stream() for _ in range(60)]
        await net.until(lambda: sum(stream.reset_received for stream in opened) >= 40)
        assert sum(not stream.is_initiator for stream in theirs.streams.values()) <= 20
        assert alice.is_connected(mallory.peer)


async def test_agreeing_on_a_protocol_is_not_answered_with_credit(
    net: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libp2p answers each read of a few bytes with a frame, at both ends."""
    async with net.hosts(2) as (alice, bob):
        await net.meet(bob, alice)
        kinds = list[int]()
        for host, other in ((alice, bob), (bob, alice)):
            muxed: Any = host._links.of(other.peer)[0].conn.muxed_conn
            write = muxed._write_frame

            async def noted(data: bytes, body: Bytes = b"", write: Any = write) -> None:  # noqa: ANN401
                kinds.append(Frame.parse(data[:HEADER_SIZE]).kind)
                await write(data, body)

            monkeypatch.setattr(muxed, "_write_frame", noted)
        stream = await raw_stream(bob, alice, net.UPPER)
        assert await stream.ask(b"x", reply_limit=8) == b"X"
        # One opens the stream and one accepts it, and so do those of a ping; all others are credit.
        assert kinds.count(TYPE_WINDOW_UPDATE) <= 4


@pytest.mark.rule("H40", "S4")
async def test_attack_who_is_refused_before_the_handshake_is_held_off_and_then_hung_up_on(
    net: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paces, "WAITING_MAX", 0)
    monkeypatch.setattr(libp2p_patches, "HELD_OFF_S", 0.3)
    monkeypatch.setattr(libp2p_patches, "own_host", lambda _stream: "")
    async with net.a_host(1) as alice:
        alice.pacing.judge_by(lambda _peer: Standing.STRANGER)
        alice.pacing.spend(alice.pacing.payer_at("127.0.0.1", ""), paces.BURST_S)
        port = int(alice.addresses()[0].rsplit("/", 1)[1])
        began = trio.current_time()
        async with await trio.open_tcp_stream("127.0.0.1", port) as raw:
            with contextlib.suppress(trio.BrokenResourceError):
                assert await raw.receive_some(64) == b"", "not a word"
        assert 0.2 < trio.current_time() - began < 5.0


@pytest.mark.rule("H32", "S5")
async def test_attack_an_endless_line_is_refused_before_and_behind_the_handshake(
    net: ModuleType,
) -> None:
    endless = encode_uvarint(1 << 30)
    async with net.hosts(2) as (alice, mallory):
        port = int(alice.addresses()[0].rsplit("/", 1)[1])
        async with await trio.open_tcp_stream("127.0.0.1", port) as raw:
            await raw.send_all(endless)
            with trio.fail_after(3), contextlib.suppress(trio.BrokenResourceError):
                while await raw.receive_some():
                    pass
        await net.meet(mallory, alice)
        (link,) = mallory._links.of(alice.peer)
        stream = await link.conn.new_stream()
        await stream.write(endless + bytes(1000))
        await net.until(lambda: stream.muxed_stream.reset_received)
        assert await still_answers(net, alice)


@pytest.mark.rule("H32")
@pytest.mark.parametrize("data", [b"\x00", b"\x01a", b"\x81\x08" + bytes(1025), b"\xff" * 10])
async def test_what_is_no_line_of_a_protocol_is_refused(data: bytes) -> None:
    class Sent(Reader):
        def __init__(self) -> None:
            self.at = 0

        async def read(self, n: int | None = None) -> bytes:
            self.at += n or 0
            return data[self.at - (n or 0) : self.at]

    with pytest.raises(ParseError):
        await libp2p_patches.read_line(Sent())


@pytest.mark.rule("H31")
async def test_what_a_flood_took_is_given_back_to_the_system(
    net: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = trio.Event()
    monkeypatch.setattr(connections, "WATCH_INTERVAL_S", 0.05)
    monkeypatch.setattr(connections, "give_back", lambda: trio.from_thread.run_sync(given.set))
    async with net.a_host(1) as alice:
        with alice._server.bulk.admitted(alice.peer, connections.GIVE_BACK_BYTES):
            await trio.sleep(0.2)
            assert not given.is_set()
        with trio.fail_after(5):
            await given.wait()


@pytest.mark.rule("H31")
async def test_attack_hearsay_of_a_thousand_peers_pushes_out_no_key_of_ours(
    net: ModuleType,
) -> None:
    async with net.a_host(1) as alice:
        store = alice.libp2p_host.get_peerstore()
        addresses = [Multiaddr(f"/ip4/10.0.0.1/tcp/{port}") for port in range(1, 40)]
        for number in range(1_100):
            store.add_addrs(ID(number.to_bytes(34, "big")), addresses, 60)
        assert len(store.peer_data_map) <= store.max_peers
        assert store.addrs(ID((1_099).to_bytes(34, "big"))) == addresses[-8:]
        assert alice.libp2p_host.get_private_key() is not None


@pytest.mark.rule("H1")
async def test_plaintext_is_not_spoken(net: ModuleType) -> None:
    async with net.a_host(1) as alice:
        port = int(alice.addresses()[0].rsplit("/", 1)[1])
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            for text in (b"/multistream/1.0.0\n", b"/plaintext/2.0.0\n", b"/secio/1.0.0\n"):
                await stream.send_all(bytes([len(text)]) + text)
            heard = b""
            with trio.move_on_after(0.5):
                while heard.count(b"na\n") < 2:
                    heard += await stream.receive_some()
        assert heard.endswith(b"\x03na\n\x03na\n")


@pytest.mark.rule("H16")
async def test_no_peer_may_write_into_our_peer_store(net: ModuleType) -> None:
    async with net.hosts(2) as (alice, mallory):
        await net.meet(mallory, alice)
        with pytest.raises(Unreachable, match="does not speak"):
            await raw_stream(mallory, alice, "/ipfs/id/push/1.0.0")


@pytest.mark.rule("H16")
async def test_libp2p_never_dials_on_its_own(net: ModuleType) -> None:
    async with net.hosts(2) as (alice, bob):
        store = alice.libp2p_host.get_peerstore()
        store.add_addrs(net.id_of(bob), [net.multiaddr(bob)], 60)
        await alice.libp2p_host.get_network().auto_connector.maybe_connect()
        assert alice.connected() == []


@pytest.mark.rule("H16")
async def test_libp2p_reports_to_our_own_logger_and_sets_nothing_up(net: ModuleType) -> None:
    handlers = list(logging.getLogger().handlers)
    heard: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    listener, ours = Listener(), logging.getLogger("swarm.libp2p")
    ours.addHandler(listener)
    try:
        async with net.a_host(1) as alice:
            logging.getLogger("libp2p.network.connection").warning("told")
            assert await still_answers(net, alice)
    finally:
        ours.removeHandler(listener)
    assert "told" in heard
    assert logging.getLogger().handlers == handlers


@pytest.mark.rule("H17")
async def test_closing_leaves_no_socket_behind(net: ModuleType) -> None:
    async with net.a_host(1) as alice:
        await still_answers(net, alice)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        async with net.hosts(3) as (alice, bob, carol):
            await net.meet(alice, bob)
            await net.meet(carol, alice)
    await trio.sleep(0.2)
    assert len(os.listdir("/proc/self/fd")) <= before + 1


VICTIM = """
import sys, trio
sys.path.insert(0, sys.argv[1])
import conftest as net

async def main():
    async with net.a_host(5) as host:
        print(host.addresses()[0], flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)

trio.run(main)
"""


async def test_a_peer_killed_in_the_middle_comes_back_elsewhere(net: ModuleType) -> None:
    peer = net.a_secret(5).peer

    def start() -> tuple[subprocess.Popen[str], str]:
        victim = subprocess.Popen(
            [sys.executable, "-c", VICTIM, os.path.dirname(__file__)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert victim.stdout is not None
        return victim, victim.stdout.readline().strip()

    async with net.a_host(1) as alice:
        for _ in range(2):
            victim, address = await trio.to_thread.run_sync(start)
            with victim:
                try:
                    alice.learn(peer, [address])
                    with trio.fail_after(3):
                        assert await alice.call(peer, net.UPPER, b"a", timeout_s=3) == b"A"
                    victim.kill()
                    await net.until(lambda: not alice.is_connected(peer))
                    with pytest.raises(
                        Unreachable, match=r"refused|next try|hung up|handshake failed"
                    ):
                        await alice.call(peer, net.UPPER, b"a", timeout_s=3)
                finally:
                    victim.kill()


@pytest.mark.rule("H5", "S5")
async def test_half_sent_questions_of_a_crowd_hold_bounded_memory(
    net: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One unknown peer announces long questions on many streams and sends half of each."""
    with monkeypatch.context() as patch:
        patch.setattr(memory_quota, "BULK_PER_PEER_BYTES_MAX", 1 << 20)
        async with net.hosts(2) as (alice, mallory):
            await net.meet(mallory, alice)
            half = (200_000).to_bytes(4, "big") + bytes(100_000)
            streams = [await raw_stream(mallory, alice, net.UPPER) for _ in range(12)]
            for stream in streams:
                with contextlib.suppress(*LINK_ERRORS):
                    await stream._stream.write(half)
            await net.until(lambda: sum(stream.is_gone for stream in streams) == 12 - 5)
            assert alice._server.bulk.budget.num_bytes == 5 * 200_000
            assert await still_answers(net, alice)
            assert alice.faults() == {}
            for stream in streams:
                await stream.reset()
            await net.until(lambda: alice._server.bulk.budget.num_bytes == 0)


@pytest.mark.rule("H6", "S5")
async def test_a_question_that_trickles_in_ends_at_its_deadline(
    net: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "RECEIVE_S", 0.2)
    async with net.hosts(2) as (alice, mallory):
        await net.meet(mallory, alice)
        stream = await raw_stream(mallory, alice, net.UPPER)
        with trio.fail_after(5), contextlib.suppress(*LINK_ERRORS):
            await stream._stream.write((100_000).to_bytes(4, "big"))
            while not stream.is_gone:
                await stream._stream.write(b"x")
                await trio.sleep(0.02)
        assert stream.is_gone
        assert alice._server.bulk.budget.num_bytes == 0
        assert await mallory.call(alice.peer, net.UPPER, b"a", timeout_s=5) == b"A"


@pytest.mark.rule("H5", "S5")
async def test_answers_without_a_reader_hold_bounded_memory(
    net: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight long answers are asked for at once where three may be held."""

    num_questions, all_arrived = 0, trio.Event()

    async def large(peer: PeerId, request: bytes) -> bytes:
        nonlocal num_questions
        num_questions += 1
        if num_questions == 8:
            all_arrived.set()
        await all_arrived.wait()
        return bytes(1 << 20)

    monkeypatch.setattr(memory_quota, "BULK_PER_PEER_BYTES_MAX", 3 << 20)
    async with net.hosts(2) as (alice, mallory):
        alice.serve("/swarm/large/1", large, request_limit=10)
        await net.meet(mallory, alice)
        streams = [await raw_stream(mallory, alice, "/swarm/large/1") for _ in range(8)]
        for stream in streams:
            await stream.widen(
                2 << 20
            )  # what is let in fits, and is not held until a reader takes it
            await stream.send(b"")
        await net.until(lambda: sum(stream.is_gone for stream in streams) == 8 - 3)
        assert alice._server.bulk.budget.num_bytes <= 3 << 20
        for stream in streams:
            await stream.reset()
        await net.until(lambda: alice._server.bulk.budget.num_bytes == 0)
        assert await still_answers(net, alice)
