"""Hostile links over real sockets against one node in a process of its own, and what they cost its memory.

    python -m tests.host.hostile [--links N] [--seconds S] [ATTACK ...]

plays each attack (``scripts/soak links``) against a fresh node, with its part of the table, that has so many
links: those that come in fill three quarters of its places, and it dials the others itself, as it does peers of
its choice. One JSON object says, for each, how many MB the node had at its highest over the node without links,
and how many five seconds after all had hung up. ``mixed`` is every attack at once, each by a part of the links.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import trio
from libp2p.kad_dht.pb.kademlia_pb2 import Message
from libp2p.stream_muxer.yamux.yamux import (
    DEFAULT_WINDOW_SIZE,
    FLAG_SYN,
    TYPE_DATA,
    TYPE_PING,
    TYPE_WINDOW_UPDATE,
)
from libp2p.utils.varint import encode_uvarint, encode_varint_prefixed

from swarm.cli.responsive import keep_responsive
from swarm.dht.messages import QUESTION_BYTES_MAX
from swarm.dht.records import record_key, sign_record
from swarm.dht.service import PROTOCOL as TABLE
from swarm.dht.service import Dht
from swarm.errors import Unreachable
from swarm.host.places import OUTBOUND_PART, PLACES_MAX
from swarm.host.service import Host, open_host
from swarm.host.streams import LINK_ERRORS
from swarm.host.yamux import Frame
from swarm.primitives.codec import encode
from swarm.primitives.crypto import SecretKey
from swarm.types import PeerId

CHAIN = b"c" * 16
NODE = SecretKey.from_seed(b"\1" * 32)
LARGE, SLOW = "/hostile/large/1", "/hostile/slow/1"
"""Protocols of the node: one with long answers, one whose handler is busy."""
LARGE_BYTES = 4 << 20
WINDOW = DEFAULT_WINDOW_SIZE
IDLE_S, AFTER_S = 2.0, 5.0
PAYLOAD_BYTES = 3_300
"""Bytes of what a record says: as many as it may."""

# ---- the node


async def node() -> None:
    """Serve until stdin ends: a line dials an address, or, if it is empty, prints (MB now, the most MB)."""
    async with open_host(NODE, listen=["127.0.0.1:0"], chain16=CHAIN) as host:
        host.serve(LARGE, _large, request_limit=LARGE_BYTES)
        host.serve(SLOW, _slow, request_limit=LARGE_BYTES)
        table = Dht(host, NODE)
        async with trio.open_nursery() as nursery:
            await nursery.start(table.run)
            nursery.start_soon(keep_responsive)
            _say(host.addresses()[0])
            while line := await trio.to_thread.run_sync(sys.stdin.readline):
                if not line.strip():
                    _say(json.dumps((*_memory_mb(), len(host.connected()))))
                    continue
                peer, address = line.split()
                with contextlib.suppress(Unreachable):
                    await host.connect(PeerId(bytes.fromhex(peer)), [address])
                _say("")
            nursery.cancel_scope.cancel()


async def _large(_peer: PeerId, _request: bytes) -> bytes:
    return bytes(LARGE_BYTES)


async def _slow(_peer: PeerId, _request: bytes) -> bytes:
    await trio.sleep(60)
    return b""


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _memory_mb() -> tuple[float, float]:
    """Return the resident MB of this process, now and at the highest since the last call."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    sizes = {name: text for name, _, text in (line.partition(":") for line in lines)}
    now, highest = (int(sizes[name].split()[0]) * 1024 / 1e6 for name in ("VmRSS", "VmHWM"))
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return now, highest


class Node:
    """The node in a process of its own."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.host.hostile", "--node"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.address = self._read()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def _ask(self, line: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._read()

    async def look(self) -> tuple[float, float, int]:
        """Return (MB now, MB at the highest since the last look, connected peers)."""
        now, highest, num_links = json.loads(await trio.to_thread.run_sync(self._ask, ""))
        return now, highest, num_links

    async def dial(self, host: Host) -> None:
        """Let the node dial a host."""
        line = f"{host.peer.hex()} {host.addresses()[0]}"
        await trio.to_thread.run_sync(self._ask, line)

    def end(self) -> None:
        """End the process."""
        with self._process:
            self._process.kill()


# ---- the attacks, each by one link


def _muxed(host: Host) -> Any:  # noqa: ANN401  as libp2p has it
    links = host._links.of(NODE.peer)
    if not links:
        raise Unreachable("cut")
    return links[0].conn.muxed_conn


async def _open(host: Host, protocol: str, said: bytes, announced: int | None = None) -> None:
    """Open a stream and say something on it, in one frame; ``announced`` bytes stand in the header."""
    muxed = _muxed(host)
    lines = b"".join(_line(text) for text in ("/multistream/1.0.0", protocol))
    number, muxed.next_stream_id = muxed.next_stream_id, muxed.next_stream_id + 2
    length = len(lines) + (len(said) if announced is None else announced)
    header = Frame(TYPE_DATA, FLAG_SYN, number, length).pack()
    await muxed._write_frame(header + lines, said)


def _line(text: str) -> bytes:
    return bytes([len(text) + 1]) + text.encode("ascii") + b"\n"


async def bodies(host: Host) -> None:
    """Send most of a frame that fits its window, and stop."""
    await _open(host, SLOW, bytes(WINDOW - 4096), announced=WINDOW - 1024)
    await trio.sleep_forever()


async def lines(host: Host) -> None:
    """Send endless lines where a protocol is agreed on, as its reader gives credit for them."""
    muxed = _muxed(host)
    stream = await muxed.open_stream()
    await stream.write(encode_uvarint(1 << 40))
    while True:
        await stream.write(bytes(WINDOW // 2))


async def giants(host: Host) -> None:
    """Announce a frame of 16 MiB, and send it."""
    await _open(host, SLOW, bytes((16 << 20) - 4096), announced=(16 << 20) - 1024)
    await trio.sleep_forever()


async def unread(host: Host) -> None:
    """Fill the window of many streams whose handler is busy."""
    for _ in range(200):
        await _open(host, SLOW, b"\0\0\0\1q" + bytes(WINDOW - 4096))
    await trio.sleep_forever()


async def questions(host: Host) -> None:
    """Announce long questions, and send as much of each as its window allows."""
    for _ in range(200):
        await _open(host, LARGE, LARGE_BYTES.to_bytes(4, "big") + bytes(WINDOW - 4096))
    await trio.sleep_forever()


async def answers(host: Host) -> None:
    """Ask for long answers, and take none."""
    _muxed(host).secured_conn.read = _never
    for _ in range(40):
        await _open(host, LARGE, b"\0\0\0\1q")
    await trio.sleep_forever()


async def streams(host: Host) -> None:
    """Open a thousand streams and say nothing on them."""
    muxed = _muxed(host)
    for _ in range(1_000):
        number, muxed.next_stream_id = muxed.next_stream_id, muxed.next_stream_id + 2
        await muxed._write_frame(Frame(TYPE_WINDOW_UPDATE, FLAG_SYN, number, 0).pack())
    await trio.sleep_forever()


async def pings(host: Host) -> None:
    """Ask for more echoes than are read, with long frames behind them."""
    muxed = _muxed(host)
    muxed.secured_conn.read = _never
    skipped = Frame(TYPE_DATA, 0, 1_000_001, 60_000).pack() + bytes(60_000)
    while True:
        await muxed._write_frame(Frame(TYPE_PING, FLAG_SYN, 0, 7).pack() * 5_000 + skipped)


async def _never(_: int | None = None) -> bytes:
    await trio.sleep_forever()
    raise AssertionError


async def halves(host: Host) -> None:
    """Send half messages of the table on many streams, again and again."""
    half = encode_uvarint(QUESTION_BYTES_MAX) + bytes(QUESTION_BYTES_MAX - 1)
    while True:
        for _ in range(40):
            await _open(host, TABLE, half)
        await trio.sleep(4)


async def monsters(host: Host) -> None:
    """Send messages of the table of 4 MiB, and records with 900 KiB of author."""
    message = _record()
    message.record.author = bytes(900 << 10)
    while True:
        for said in (encode_varint_prefixed(message.SerializeToString()), encode_uvarint(4 << 20)):
            await _open(host, TABLE, (said + bytes(WINDOW))[: WINDOW - 4096])
        await trio.sleep(1)


async def records(host: Host) -> None:
    """Store records of invented keys, as large as they may be, and claims to provide everything."""
    own = host.libp2p_host.get_id().to_bytes()
    places = [b"\x04\x0a" + os.urandom(2) + b"\x01\x06\0\x01" for _ in range(16)]
    while True:
        for _ in range(8):
            await _open(host, TABLE, encode_varint_prefixed(_record().SerializeToString()))
        claim = Message(type=Message.MessageType.ADD_PROVIDER, key=os.urandom(64))
        claim.providerPeers.add(id=own, addrs=places)
        await _open(host, TABLE, encode_varint_prefixed(claim.SerializeToString()))
        await trio.sleep(1)


def _record() -> Message:
    """A record of an invented peer, about as large as it may be."""
    secret = SecretKey.from_seed(os.urandom(32))
    value = os.urandom(PAYLOAD_BYTES)
    signed = sign_record(secret, "announce", value, seq=1, expires_at=int(time.time()) + 3600)
    message = Message(type=Message.MessageType.PUT_VALUE)
    message.key = message.record.key = record_key("announce", secret.peer).encode()
    message.record.value = encode(signed)
    return message


ATTACKS: dict[str, Callable[[Host], Awaitable[None]]] = {
    attack.__name__: attack
    for attack in (
        *(bodies, lines, giants, unread, questions, answers),
        *(streams, pings, halves, monsters, records),
    )
}
MIXED = "mixed"

# ---- the campaign


async def play(name: str, num_links: int, seconds: float) -> dict[str, float]:
    """Return the MB over the idle node that one attack took, and that were left when all had hung up."""
    attacks = list(ATTACKS.values()) if name == MIXED else [ATTACKS[name]]
    victim = await trio.to_thread.run_sync(Node)
    try:
        async with AsyncExitStack() as stack:
            await trio.sleep(IDLE_S)
            await victim.look()
            idle, *_ = await victim.look()
            hosts = [await _linked(stack, victim, number) for number in range(num_links)]
            linked, _, there = await victim.look()
            highest = linked
            async with trio.open_nursery() as nursery:
                for number, host in enumerate(hosts):
                    nursery.start_soon(_keep_on, attacks[number % len(attacks)], host, victim)
                ends_at = trio.current_time() + seconds
                while trio.current_time() < ends_at:
                    await trio.sleep(0.5)
                    highest = max(highest, (await victim.look())[1])
                nursery.cancel_scope.cancel()
        await trio.sleep(AFTER_S)
        left, last, _ = await victim.look()
    finally:
        victim.end()
    figures = {
        "links_mb": linked - idle,
        "highest_mb": max(highest, last) - idle,
        "left_mb": left - idle,
    }
    return {"links": there, **{name: round(mb, 1) for name, mb in figures.items()}}


async def _linked(stack: AsyncExitStack, victim: Node, number: int) -> Host:
    secret = SecretKey.from_seed((number + 1_000).to_bytes(32, "big"))
    host = await stack.enter_async_context(open_host(secret, listen=["127.0.0.1:0"], chain16=CHAIN))
    if number < PLACES_MAX - PLACES_MAX // OUTBOUND_PART:
        with contextlib.suppress(Unreachable):
            await host.connect(NODE.peer, [victim.address])
    else:
        await victim.dial(host)
    return host


async def _keep_on(attack: Callable[[Host], Awaitable[None]], host: Host, victim: Node) -> None:
    """Attack, and come back when the link is cut; who was dialled does not come back."""
    while True:
        with contextlib.suppress(
            Unreachable, *LINK_ERRORS, ExceptionGroup, KeyError, trio.TooSlowError
        ):
            await attack(host)
        await trio.sleep(1)
        with contextlib.suppress(Unreachable):
            await host.connect(NODE.peer, [victim.address])


def main() -> None:
    """Play the attacks that are named, or all of them."""
    parser = argparse.ArgumentParser(description="Measure what hostile links cost a node.")
    parser.add_argument("attacks", nargs="*", metavar="ATTACK", help=", ".join((*ATTACKS, MIXED)))
    parser.add_argument("--links", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--node", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.node:
        trio.run(node)
        return
    if unknown := {*arguments.attacks} - {*ATTACKS, MIXED}:
        parser.error(f"no such attack: {', '.join(sorted(unknown))}")
    found = dict[str, dict[str, float]]()
    for name in arguments.attacks or (*ATTACKS, MIXED):
        found[name] = trio.run(play, name, arguments.links, arguments.seconds)
        sys.stderr.write(f"{name}: {found[name]}\n")
    _say(json.dumps(found))


if __name__ == "__main__":
    main()
