"""Let many followers follow four validators in virtual time, and count how many blocks they are behind.

Each is the ledger service of a node with a database of its own, and has links of 10 to 50 ms to 16 others, most
of them followers. A validator or follower answers as many requests at a time as a host lets it; further ones
wait. What is not simulated is processor time: all blocks are empty, and applying them costs no virtual time.
"""

import random
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import trio
from trio.testing import MockClock

from benchmarks.ledger_founder import threads_inline
from swarm.errors import Unreachable
from swarm.ledger.service import LedgerService
from swarm.primitives.crypto import SecretKey
from swarm.testing.ledger import numbered_key
from swarm.types import PeerId
from tests.ledger.services import Handler, MemoryHost, MemoryNet, a_genesis, a_ledger

VALIDATORS = 4
LINKS = 16
"""Links that a node makes (``swarm/host/bootstrap.py``)."""
BLOCKS = 3
"""Blocks over which the distance is counted, once all have the first ones."""


class MeshHost(MemoryHost):
    """A host with links to some others, which answers a bounded number of requests at a time."""

    def __init__(self, net: MemoryNet, secret: SecretKey, dice: random.Random) -> None:
        super().__init__(net, secret, dice.uniform(0.01, 0.05))
        self.links: set[PeerId] = set()
        self._slots: dict[str, trio.Semaphore] = {}

    def link(self, other: "MeshHost") -> None:
        """Connect both."""
        self.links.add(other.peer)
        other.links.add(self.peer)

    def serve(self, protocol: str, handler: Handler, **limits: int) -> None:
        """Answer a protocol; further requests wait."""
        super().serve(protocol, handler)
        self._slots[protocol] = trio.Semaphore(limits.get("concurrency", 32))

    def connected(self) -> list[PeerId]:
        """Return those with a link."""
        return sorted(self.links)

    async def call(
        self, peer: PeerId, protocol: str, request: bytes, *, timeout_s: float, reply_limit: int = 0
    ) -> bytes:
        """Ask; wait while the other answers as many as it may."""
        other = self.net.hosts.get(peer)
        if not isinstance(other, MeshHost) or protocol not in other._slots:
            raise Unreachable("not served there")
        with trio.move_on_after(timeout_s):
            async with other._slots[protocol]:
                return await super().call(
                    peer, protocol, request, timeout_s=timeout_s, reply_limit=reply_limit
                )
        raise Unreachable("busy")


def measure_followers(home: Path, count: int, blocks: int = BLOCKS) -> dict[str, object]:
    """Return how many blocks ``count`` followers are behind the newest block of any validator."""
    home.mkdir(parents=True, exist_ok=True)
    with threads_inline():
        return dict(trio.run(_follow, home, count, blocks, clock=MockClock(autojump_threshold=0)))


async def _follow(home: Path, count: int, blocks: int) -> Mapping[str, object]:
    dice, net, genesis = random.Random(1), MemoryNet(), a_genesis(VALIDATORS, epoch_blocks=1_000)
    hosts, ledgers = list[MeshHost](), list[LedgerService]()
    for number in range(VALIDATORS + count):
        host = MeshHost(net, numbered_key(number), dice)
        known = hosts if number <= VALIDATORS else dice.sample(hosts, min(LINKS, len(hosts)))
        for other in known:
            host.link(other)
        hosts.append(host)
    async with AsyncExitStack() as stack:
        for number, host in enumerate(hosts):
            is_voter = number < VALIDATORS
            opened = a_ledger(home, genesis, number, host, validate=is_voter)
            ledgers.append(await stack.enter_async_context(opened))
        followers, behind = ledgers[VALIDATORS:], list[int]()
        for ledger in followers:
            await ledger.wait_height(2)
        begun = ledgers[0].height
        while (height := max(ledger.height for ledger in ledgers)) < begun + blocks:
            behind += [height - ledger.height for ledger in followers]
            await trio.sleep(0.1)
    return {
        "followers": count,
        "behind_most": max(behind),
        "behind_none_share": round(behind.count(0) / len(behind), 3),
        "behind_within_2_share": round(sum(lag <= 2 for lag in behind) / len(behind), 4),
        "links_of_a_validator": max(len(host.links) for host in hosts[:VALIDATORS]),
    }
