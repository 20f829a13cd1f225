"""Ledgers of several nodes in one process, over links without sockets, in virtual time."""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import trio

from swarm.config.spec import Genesis
from swarm.errors import PeerFault, SwarmError, Unreachable
from swarm.gossip.news.service import News
from swarm.host.pacing import Pacing
from swarm.host.service import Host, PeerConnected, PeerLost
from swarm.ledger.consensus.memory import VoteMemory
from swarm.ledger.service import LedgerService
from swarm.primitives.codec import encode
from swarm.primitives.crypto import SecretKey
from swarm.store import Store
from swarm.testing.ledger import make_genesis, numbered_key
from swarm.types import Bytes, Height, PeerId

log = logging.getLogger("swarm.ledger")
Handler = Callable[[PeerId, bytes], Awaitable[Bytes]]


class MemoryNet:
    """Links between hosts in one process; ``cut`` peers are unreachable."""

    def __init__(self) -> None:
        self.hosts: dict[PeerId, MemoryHost] = {}
        self.cut: set[PeerId] = set()
        self.origins: dict[PeerId, str] = {}
        self.num_calls = 0


class MemoryHost:
    """A host without sockets: the same questions, answers, refusals and silences."""

    def __init__(self, net: MemoryNet, secret: SecretKey, delay_s: float = 0.01) -> None:
        self.net, self.peer, self.delay_s = net, secret.peer, delay_s
        self.handlers: dict[str, Callable[[PeerId, bytes], Awaitable[bytes]]] = {}
        self.blamed: list[PeerFault] = []
        self.pacing = Pacing(lambda _peer, _now: True)
        net.hosts[secret.peer] = self

    def serve(self, protocol: str, handler: Handler, **_limits: int) -> None:
        async def answer(peer: PeerId, request: bytes) -> bytes:
            return bytes(await handler(peer, request))

        self.handlers[protocol] = answer

    def owes(self, peer: PeerId) -> bool:
        return False

    def connected(self) -> list[PeerId]:
        up = set(self.net.hosts) - self.net.cut - {self.peer}
        return sorted(up) if self.peer not in self.net.cut else []

    def known(self) -> list[PeerId]:
        return self.connected()

    def is_connected(self, peer: PeerId) -> bool:
        return peer in self.connected()

    def network(self, peer: PeerId) -> str:
        return ""

    def is_dialled(self, peer: PeerId) -> bool:
        return self.peer < peer

    def origin(self, peer: PeerId) -> str:
        return self.net.origins.get(peer, "")

    async def work_for(self, peer: PeerId, work: Callable[..., bytes], *arguments: object) -> bytes:
        return await trio.to_thread.run_sync(work, *arguments)

    def subscribe(self) -> "trio.MemoryReceiveChannel[PeerConnected | PeerLost]":
        self.send, receive = trio.open_memory_channel[PeerConnected | PeerLost](16)
        return receive

    def blame(self, peer: PeerId, fault: PeerFault) -> None:
        self.blamed.append(fault)

    async def call(
        self, peer: PeerId, protocol: str, request: bytes, *, timeout_s: float, reply_limit: int = 0
    ) -> bytes:
        await trio.sleep(self.delay_s)
        other = self.net.hosts.get(peer)
        if other is None or not self.is_connected(peer) or protocol not in other.handlers:
            raise Unreachable("gone")
        self.net.num_calls += 1
        with trio.move_on_after(timeout_s):
            try:
                return await other.handlers[protocol](self.peer, request)
            except PeerFault as fault:
                other.blame(self.peer, fault)
                raise Unreachable("declined") from None
            except SwarmError as error:
                raise Unreachable(str(error)) from None
        raise Unreachable("silent")


@asynccontextmanager
async def a_ledger(
    home: Path,
    genesis: Genesis,
    number: int,
    host: object,
    *,
    validate: bool = True,
    delta_s: float = 2.0,
    remembers: bool = False,
    keeps_all: bool = False,
    report: Callable[[str], None] = log.warning,
) -> AsyncGenerator[LedgerService]:
    """One node's ledger, serving until the block ends; with a memory of its votes if it ``remembers``."""
    store = Store.open(home / f"{number}.sqlite")
    try:
        secret, memory = numbered_key(number), VoteMemory.open(home) if remembers else None
        news = News(cast("Host", host), seed=secret.seed)
        ledger = LedgerService.open(
            store,
            genesis,
            secret,
            cast("Host", host),
            news=news,
            validate=validate,
            delta_s=delta_s,
            memory=memory,
            keeps_all=keeps_all,
            report=report,
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(news.run)
            await nursery.start(ledger.run)
            yield ledger
            nursery.cancel_scope.cancel()
    finally:
        store.close()


def a_genesis(num_validators: int, interval_ms: int = 1000, **changes: object) -> Genesis:
    return make_genesis(6, num_validators, block_interval_ms=interval_ms, **changes)


def digests(ledger: LedgerService, upto: int) -> list[bytes]:
    links = [ledger.block_at(Height(height)) for height in range(1, upto + 1)]
    return [encode(link[0]) for link in links if link is not None]
