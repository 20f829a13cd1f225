"""Sixty-four keys of one address that flood a node, or one honest peer that asks it short questions.

Child of ``benchmarks/floods.py``. A flooder says ``{"links": n}`` when its keys are connected, floods until its
stdin is closed and says then what it got; a probe times its questions for as long as each order says.
"""

import argparse
import contextlib
import functools
import json
import os
import random
import secrets
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import trio

from swarm.errors import SwarmError, Unreachable
from swarm.host.connections import PING_BYTES, PING_PROTOCOL
from swarm.host.service import Host, open_host
from swarm.host.streams import LINK_ERRORS
from swarm.ledger.net.relay import BATCH_MAX, TransactionBatch
from swarm.ledger.net.relay import PROTOCOL as TRANSACTIONS
from swarm.ledger.net.sync import (
    REPLY_BYTES_MAX,
    SYNC_PROTOCOL,
    WAIT_MS_MAX,
    FollowReply,
    FollowRequest,
)
from swarm.ledger.snapshot import (
    OFFER,
    OFFER_BYTES_MAX,
    PART,
    SNAPSHOT_PROTOCOL,
    SnapshotRequest,
)
from swarm.ledger.transactions import Join, Transfer, sign_transaction
from swarm.primitives.codec import decode, encode
from swarm.primitives.crypto import SecretKey
from swarm.types import Amount, Digest, Height, PeerId, RunIndex

KEYS = 64
FROM = "127.0.0.2"
"""Address that all flooders come from."""
QUESTIONS = 8
"""Questions of each key under way at one time: 512 in all."""
CALL_S = 10.0
FAR_BLOCKS = 12
"""Blocks past the newest that a far question asks for."""
NICE = 19
"""Flooders take what others leave of this machine's cores: in earnest they have their own."""
PROBE_PAUSE_S = 0.02
PROBE_LATE_S = 2.0


@dataclass
class Flooder:
    """One key, connected to the victim again whenever it is cut."""

    host: Host
    secret: SecretKey
    victim: PeerId
    address: str
    chain: Digest
    height: int
    counts: Counter[str] = field(default_factory=Counter[str])
    nonce: int = 0

    async def connect(self) -> None:
        """Connect to the victim if there is no connection; raise ``Unreachable``."""
        await self.host.connect(self.victim, [self.address])

    async def ask(self, protocol: str, question: bytes, reply_limit: int = 1 << 20) -> None:
        """Ask one question, and count how it ended."""
        try:
            await self.host.call(
                self.victim, protocol, question, timeout_s=CALL_S, reply_limit=reply_limit
            )
        except SwarmError:
            self.counts["refused"] += 1
            await trio.sleep(0.05)
        else:
            self.counts["answered"] += 1

    async def fill(self) -> None:
        """Dial again and again, beside a connection that says nothing."""
        try:
            await self.host.prove(self.victim)
            self.counts["answered"] += 1
        except SwarmError:
            self.counts["refused"] += 1
        await trio.sleep(0.05)

    async def far_sync(self) -> None:
        """Ask for blocks that do not exist yet, and wait for them."""
        question = FollowRequest(Height(self.height + FAR_BLOCKS), WAIT_MS_MAX)
        await self.ask(SYNC_PROTOCOL, encode(question))

    async def sybil_join(self) -> None:
        """Ask for a seat, each time in another transaction."""
        await self._send([self._signed(Join(RunIndex(1), secrets.randbelow(1_000)))])

    async def park(self) -> None:
        """Announce questions on all kinds of streams, and do not send them."""
        protocol = random.choice((SYNC_PROTOCOL, SNAPSHOT_PROTOCOL, TRANSACTIONS, PING_PROTOCOL))
        links = self.host._links.of(self.victim)
        if not links:
            await self.connect()
            return
        stream = await self.host._links.open_on(links[0], [protocol])
        await stream.write((8).to_bytes(4, "big"))
        self.counts["answered"] += 1
        await trio.sleep(CALL_S)
        await stream.reset()

    async def bulk_sync(self) -> None:
        """Ask for all blocks, and for parts of snapshots."""
        kind = random.choice((OFFER, PART, None))
        if kind is None:
            question = encode(FollowRequest(Height(random.choice((0, 1))), 0))
            await self.ask(SYNC_PROTOCOL, question, REPLY_BYTES_MAX)
        else:
            question = encode(SnapshotRequest(kind, Height(0), random.randrange(4)))
            await self.ask(SNAPSHOT_PROTOCOL, question, OFFER_BYTES_MAX)

    async def transactions(self) -> None:
        """Send payments that nobody can pay, each another one, properly signed."""
        body = Transfer(self.victim, Amount(1))
        await self._send([self._signed(body) for _ in range(BATCH_MAX // 4)])

    def _signed(self, body: Join | Transfer) -> bytes:
        self.nonce += 1
        expiry = self.height + 40
        return sign_transaction(self.secret, self.chain, body, nonce=self.nonce, expiry=expiry)

    async def _send(self, signed: list[bytes]) -> None:
        await self.ask(TRANSACTIONS, encode(TransactionBatch(tuple(signed))))


FLOODS: dict[str, Callable[[Flooder], Awaitable[None]]] = {
    flood.__name__: flood
    for flood in (
        *(Flooder.fill, Flooder.far_sync, Flooder.sybil_join),
        *(Flooder.park, Flooder.bulk_sync, Flooder.transactions),
    )
}
AT_ONCE = {"fill": 1, "sybil_join": 1, "transactions": 2}
"""Tasks of each key; ``QUESTIONS`` where nothing is said."""


async def flood(name: str, victim: PeerId, address: str, chain: Digest, height: int) -> None:
    """Flood until stdin is closed."""
    trio.open_tcp_stream = functools.partial(trio.open_tcp_stream, local_address=FROM)
    async with AsyncExitStack() as stack:
        flooders = list[Flooder]()
        for number in range(KEYS):
            secret = SecretKey.from_seed((number + 1_000).to_bytes(32, "big"))
            opened = open_host(secret, listen=[f"{FROM}:0"], chain16=chain[:16])
            host = await stack.enter_async_context(opened)
            flooders.append(Flooder(host, secret, victim, address, chain, height))
            with contextlib.suppress(Unreachable):
                await flooders[-1].connect()
        _say({"links": sum(one.host.is_connected(victim) for one in flooders)})
        async with trio.open_nursery() as nursery:
            for one in flooders:
                for _ in range(AT_ONCE.get(name, QUESTIONS)):
                    nursery.start_soon(_keep_on, FLOODS[name], one)
            await trio.to_thread.run_sync(sys.stdin.read)
            nursery.cancel_scope.cancel()
        _say(dict(sum((one.counts for one in flooders), Counter[str]())))
        os._exit(0)  # 64 farewells take seconds, and the next flood waits


async def _keep_on(attack: Callable[[Flooder], Awaitable[None]], one: Flooder) -> None:
    while True:
        try:
            await one.connect()
            await attack(one)
        except (SwarmError, *LINK_ERRORS, ExceptionGroup, trio.TooSlowError):
            await trio.sleep(0.2)


async def probe(victim: PeerId, address: str, chain: Digest, height: int) -> None:
    """Ping the victim and ask for its newest block, in turns, for as long as a line of stdin says in seconds;
    say how long each took.
    """
    secret = SecretKey.from_seed(secrets.token_bytes(32))
    async with open_host(secret, listen=["127.0.0.1:0"], chain16=chain[:16]) as host:
        await host.connect(victim, [address])
        _say({"links": 1})
        while line := await trio.to_thread.run_sync(sys.stdin.readline):
            taken, ends_at = list[float](), trio.current_time() + float(json.loads(line)["for_s"])
            while (began := trio.current_time()) < ends_at:
                with contextlib.suppress(Unreachable):
                    if len(taken) % 2:
                        question = os.urandom(PING_BYTES)
                        await host.call(victim, PING_PROTOCOL, question, timeout_s=PROBE_LATE_S)
                    else:
                        height = await _newest(host, victim, height)
                taken.append(trio.current_time() - began)
                await trio.sleep(PROBE_PAUSE_S)
            _say({"seconds": taken})


async def _newest(host: Host, victim: PeerId, height: int) -> int:
    """Ask for the block at a height, and those after it; return the height of the last one."""
    question = encode(FollowRequest(Height(height), 0))
    limit, timeout_s = REPLY_BYTES_MAX, PROBE_LATE_S
    data = await host.call(victim, SYNC_PROTOCOL, question, timeout_s=timeout_s, reply_limit=limit)
    return height + max(len(decode(FollowReply, data, limit=limit).blocks) - 1, 0)


def _say(answer: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Flood, or probe, one node."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("flood", choices=(*FLOODS, "probe"))
    parser.add_argument("--peer", type=bytes.fromhex, required=True)
    parser.add_argument("--address", required=True)
    parser.add_argument("--chain", type=bytes.fromhex, required=True)
    parser.add_argument("--height", type=int, default=0)
    args = parser.parse_args()
    victim, chain = PeerId(args.peer), Digest(args.chain)
    if args.flood == "probe":
        trio.run(probe, victim, args.address, chain, args.height)
        return
    os.nice(NICE)
    trio.run(flood, args.flood, victim, args.address, chain, args.height)


if __name__ == "__main__":
    main()
