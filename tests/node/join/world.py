"""Hosts that dial each other in virtual time: machines that die, come back, move, and links that are cut."""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import trio

from swarm.errors import Unreachable
from swarm.host.addresses import network_at
from swarm.host.bootstrap import Progress, bootstrap
from swarm.ledger.blocks import Validator
from swarm.node.context import NodeStats
from swarm.node.join import known_peers
from swarm.node.join.join import TABLE
from swarm.node.join.staying import Staying
from swarm.primitives.randomness import stream
from swarm.store import Change
from swarm.types import Amount, PeerId
from tests.node.fakes import GENESIS, Reports

DIAL_S = 5.0
"""Seconds until a dial of an address that answers nothing is given up, as in a host."""


def a_peer(number: int) -> PeerId:
    return PeerId(bytes([number]) * 32)


@dataclass
class MemoryStore:
    """Rows that outlive a restart."""

    rows: dict[tuple[str, bytes], bytes] = field(default_factory=dict)

    def get(self, table: str, key: bytes) -> bytes | None:
        return self.rows.get((table, key))

    async def write_soon(self, changes: Sequence[Change]) -> None:
        await trio.lowlevel.checkpoint()
        for table, key, value in changes:
            assert value is not None
            self.rows[table, key] = value


@dataclass
class World:
    """The machines, and which of them reach each other."""

    seed: int = 0
    machines: dict[PeerId, "Machine"] = field(default_factory=dict)
    cut: set[PeerId] = field(default_factory=set)
    """Machines without a way to any other."""
    is_mute: bool = True
    """Whether who is away answers nothing, or refuses at once."""

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)

    def reaches(self, a: PeerId, b: PeerId) -> bool:
        return self.machines[b].is_up and not {a, b} & self.cut

    def break_links(self) -> None:
        """End the connections that lead nowhere any more."""
        for machine in self.machines.values():
            for peer in [p for p in machine.links if not self.reaches(machine.peer, p)]:
                machine.part(peer)


class Machine:
    """One machine: its host, and the node on it, which stays connected while it is up."""

    def __init__(self, world: World, number: int, address: str) -> None:
        self.world, self.peer, self.address = world, a_peer(number), address
        self.is_up = False
        self.links: dict[PeerId, bool] = {}
        """Connected peers; True where this machine has dialled."""
        self.book: dict[PeerId, str] = {}
        self.kept: frozenset[PeerId] = frozenset()
        self.num_dials = 0
        self.store = MemoryStore()
        self.reports = Reports()
        self.stats = NodeStats()
        self.scope = trio.CancelScope()
        self.voters: tuple[PeerId, ...] = ()
        self.members: list[PeerId] = []
        world.machines[self.peer] = self

    # ---- the host

    def connected(self) -> list[PeerId]:
        return sorted(self.links)

    def is_connected(self, peer: PeerId) -> bool:
        return peer in self.links

    def is_dialled(self, peer: PeerId) -> bool:
        return self.links.get(peer, False)

    def known(self) -> list[PeerId]:
        return sorted(self.book)

    def known_addresses(self, peer: PeerId) -> list[str]:
        return [self.book[peer]] if peer in self.book else []

    def learn(self, peer: PeerId, addresses: Sequence[str]) -> None:
        if addresses and peer != self.peer:
            self.book[peer] = addresses[0]

    def network(self, peer: PeerId) -> str:
        return network_at(self.world.machines[peer].address)

    def keep(self, peers: Collection[PeerId]) -> None:
        self.kept = frozenset(peers)

    async def connect(self, peer: PeerId, addresses: Sequence[str]) -> None:
        self.learn(peer, addresses)
        if peer not in self.links:
            await self.prove(peer)

    async def prove(self, peer: PeerId) -> None:
        self.num_dials += 1
        other = next((m for m in self.world.machines.values() if m.peer == peer), None)
        at = next((m for m in self.world.machines.values() if m.address == self.book[peer]), None)
        await trio.sleep(self.world.dice.uniform(0.01, 0.2))
        if at is None or not self.world.reaches(self.peer, at.peer):
            await trio.sleep(DIAL_S if self.world.is_mute else 0.0)
            raise Unreachable(f"cannot reach it at {self.book[peer]} (no answer within 5 s)")
        if at is not other:
            raise Unreachable(f"cannot reach it at {self.book[peer]} (another peer answers there)")
        if not self.is_up:
            raise Unreachable("this machine is down")
        self.links[peer] = True
        other.links.setdefault(self.peer, False)
        other.book.setdefault(self.peer, self.address)

    def part(self, peer: PeerId) -> None:
        self.links.pop(peer, None)
        self.world.machines[peer].links.pop(self.peer, None)

    # ---- the node

    def context(self) -> Any:  # noqa: ANN401  the parts of a node that matter here
        voters = tuple(Validator(peer, Amount(1)) for peer in self.voters)
        return SimpleNamespace(
            me=self.peer,
            host=self,
            genesis=GENESIS,
            store=self.store,
            stats=self.stats,
            report=self.reports,
            run=SimpleNamespace(seats=[[SimpleNamespace(peer=peer) for peer in self.members]]),
            ledger=SimpleNamespace(
                height=1, is_validator=False, state=SimpleNamespace(validators=voters)
            ),
        )

    async def run(self, named: Sequence[PeerId] = ()) -> None:
        """Be up until ``go_down``: as a node does, with its bootstrap, and what its home remembers."""
        self.is_up, self.scope = True, trio.CancelScope()
        self.book = {peer: self.world.machines[peer].address for peer in named}
        targets = [(peer, [self.book[peer]]) for peer in named]
        recalled = known_peers.recalled(cast("Any", self.store), TABLE)
        targets += [(peer, list(where)) for peer, where in recalled if peer not in named]
        send, receive = trio.open_memory_channel[Progress](0)
        receive.close()
        dice = stream(self.world.dice.randbytes(32), "host.outbound")
        staying = Staying(self.context(), [peer for peer, _ in targets], dice)
        with self.scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(bootstrap, cast("Any", self), targets, send)
                nursery.start_soon(staying.run)

    def go_down(self) -> None:
        """As a power cut: nothing but the rows of the home is left."""
        self.is_up = False
        self.scope.cancel()
        for peer in list(self.links):
            self.part(peer)
        self.book.clear()
