"""A neighbour of another make finds a peer and its record through a node of ours: libp2p's daemon in Go.

The daemon's own DHT speaks the id of the public IPFS network, which no node of ours serves. So it is told, over
its control socket, what to say: TCP, Noise, Yamux and the agreement on protocols are Go's; the hello and the
questions are those that a Kademlia of another make would send.
"""

import subprocess
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from libp2p.kad_dht.pb.kademlia_pb2 import Message
from libp2p.utils.varint import encode_uvarint
from multiaddr.multiaddr import Multiaddr

from swarm.cli.commands.relay import daemon, tethered
from swarm.dht.records import parse_record, record_key
from swarm.dht.service import PROTOCOL
from swarm.errors import UsageError
from swarm.host.handshake import PROTOCOL as HELLO
from swarm.host.handshake import Hello, parse_hello
from swarm.host.peer_ids import id_of
from swarm.host.service import Host
from swarm.primitives.codec import encode
from tests.dht.test_service import CHAIN, tables, until

CONNECT, STREAM_OPEN = 1, 2
START_S = 20.0


def field(number: int, value: bytes) -> bytes:
    """A field of bytes of a protobuf message."""
    return bytes([number << 3 | 2]) + encode_uvarint(len(value)) + value


class GoPeer:
    """The daemon, by its control socket."""

    def __init__(self, path: str) -> None:
        self._path = path

    async def connect(self, host: Host) -> None:
        """Let it dial a node of ours."""
        where = b"".join(field(2, Multiaddr(text).to_bytes()) for text in host.addresses())
        asked = field(2, field(1, id_of(host.peer).to_bytes()) + where)
        await trio.aclose_forcefully(await self._request(CONNECT, asked))

    async def open(self, host: Host, protocol: str) -> trio.SocketStream:
        """Let it open a stream to a node of ours; the bytes of the stream follow."""
        asked = field(1, id_of(host.peer).to_bytes()) + field(2, protocol.encode())
        return await self._request(STREAM_OPEN, field(3, asked))

    async def _request(self, kind: int, rest: bytes) -> trio.SocketStream:
        control = await trio.open_unix_socket(self._path)
        try:
            await control.send_all(prefixed(bytes([1 << 3, kind]) + rest))
            answer = await read_prefixed(control)
            assert answer[:2] == b"\x08\x00", answer
        except BaseException:
            await trio.aclose_forcefully(control)
            raise
        return control


def prefixed(data: bytes) -> bytes:
    return encode_uvarint(len(data)) + data


async def read_exactly(stream: trio.SocketStream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = await stream.receive_some(count - len(data))
        assert part, "the stream ended"
        data += part
    return data


async def read_prefixed(stream: trio.SocketStream) -> bytes:
    size = shift = 0
    while True:
        (byte,) = await read_exactly(stream, 1)
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return await read_exactly(stream, size)


def started(command: list[str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@asynccontextmanager
async def go_peer(folder: Path) -> AsyncGenerator[GoPeer]:
    try:
        program = str(daemon())
    except UsageError as error:
        pytest.skip(str(error))
    path = str(folder / "p2pd.sock")
    command = tethered(
        [program, "-q", "-listen", f"/unix{path}", "-hostAddrs", "/ip4/127.0.0.1/tcp/0"]
    )
    process = started(command)
    try:
        with trio.fail_after(START_S):
            while not Path(path).exists():  # noqa: ASYNC110, ASYNC240
                await trio.sleep(0.05)
        yield GoPeer(path)
    finally:
        process.kill()
        process.wait()


async def greet(neighbour: GoPeer, host: Host) -> None:
    """Say the hello of the network, and read that of the node."""
    hello = encode(Hello("another/1", CHAIN, b"session8", (), int(time.time())))
    async with await neighbour.open(host, HELLO) as stream:
        await stream.send_all(len(hello).to_bytes(4, "big") + hello)
        size = int.from_bytes(await read_exactly(stream, 4), "big")
        status, *rest = await read_exactly(stream, size)
        assert status == 0
        assert parse_hello(bytes(rest)).chain == CHAIN


async def asked(neighbour: GoPeer, host: Host, question: Message) -> Message:
    async with await neighbour.open(host, str(PROTOCOL)) as stream:
        await stream.send_all(prefixed(question.SerializeToString()))
        answer = Message()
        answer.ParseFromString(await read_prefixed(stream))
        return answer


@pytest.mark.rule("H2", "D12")
async def test_a_neighbour_of_another_make_finds_a_peer_and_its_record(tmp_path: Path) -> None:
    async with tables(3) as ((alice, _), (bob, bobs), (carol, _)), go_peer(tmp_path) as neighbour:
        await bobs.publish("announce", b"one", 60)
        with trio.fail_after(20):
            await neighbour.connect(alice)
            await greet(neighbour, alice)
            await until(lambda: len(alice.connected()) == 3)
            ask = partial(asked, neighbour, alice)
            key = id_of(bob.peer).to_bytes()
            near = await ask(Message(type=Message.FIND_NODE, key=key))
            found = {bytes(peer.id): list(peer.addrs) for peer in near.closerPeers}
            assert {key, id_of(carol.peer).to_bytes()} <= set(found)
            assert Multiaddr(bob.addresses()[0]).to_bytes() in found[key]
            wanted = record_key("announce", bob.peer).encode("ascii")
            value = (await ask(Message(type=Message.GET_VALUE, key=wanted))).record.value
            assert parse_record(value).payload == b"one"
            assert parse_record(value).peer == bob.peer


@pytest.mark.rule("H2")
async def test_who_says_no_hello_is_answered_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swarm.host.connections.GREET_S", 0.5)
    async with tables(2) as ((alice, _), (bob, _)), go_peer(tmp_path) as neighbour:
        with trio.fail_after(20):
            await neighbour.connect(alice)
            question = Message(type=Message.FIND_NODE, key=id_of(bob.peer).to_bytes())
            with pytest.raises((AssertionError, trio.BrokenResourceError, OSError)):
                await asked(neighbour, alice, question)
            assert alice.connected() == [bob.peer]
