"""Let validators vote over sockets and in the simulator, and let a follower catch up over a socket."""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import numpy as np
import trio

from benchmarks.common import Outcome
from swarm.config.spec import Genesis
from swarm.errors import InvalidStatement
from swarm.host.service import Host, open_host
from swarm.ledger.blocks import Block, Certificate, block_digest
from swarm.ledger.chain import genesis_head
from swarm.ledger.consensus.timers import TimerParams
from swarm.ledger.consensus.votes import Proposal, Statement
from swarm.ledger.net.archive import Archive
from swarm.ledger.service import LedgerService
from swarm.ledger.transactions import Transfer
from swarm.primitives import vrf
from swarm.primitives.crypto import SecretKey
from swarm.store import Store
from swarm.testing.ledger import InMemoryLedger, numbered_key
from swarm.types import Amount, Digest, Height
from tests.ledger.consensus.scenarios import Scenario
from tests.ledger.consensus.simulation import Replica, World
from tests.ledger.services import a_genesis, a_ledger

VALIDATORS = 4
INTERVAL_MS = 50
"""The shortest block interval that a genesis may have: 20 blocks a second at most."""
WINDOW = 32
"""Transfers of one validator under way."""


async def vote_over_sockets(home: Path, blocks: int, transfers: int) -> Outcome:
    """Four validators in one process make blocks, empty ones first and then full of transfers."""
    outcome = Outcome()
    genesis = a_genesis(VALIDATORS, INTERVAL_MS, epoch_blocks=100_000)
    async with AsyncExitStack() as stack:
        ledgers, hosts = list[LedgerService](), list[Host]()
        for number in range(VALIDATORS):
            host, ledger = await stack.enter_async_context(a_node(home, genesis, number, hosts))
            hosts.append(host)
            ledgers.append(ledger)
        await _wait_all(ledgers, ledgers[0].height + 10)
        first, began = ledgers[0].height, time.perf_counter()
        await _wait_all(ledgers, first + blocks)
        seconds = time.perf_counter() - began
        samples = [sample for ledger in ledgers for sample in ledger.finality_samples]
        began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for number, ledger in enumerate(ledgers):
                to = numbered_key((number + 1) % VALIDATORS)
                nursery.start_soon(_pay, ledger, to, transfers)
        outcome.figures = {
            "end_to_end_tx_per_s": round(VALIDATORS * transfers / (time.perf_counter() - began)),
            "blocks_per_s": round(blocks / seconds, 1),
            "finality_p50_s": round(float(np.quantile(samples, 0.5)), 3),
            "finality_p95_s": round(float(np.quantile(samples, 0.95)), 3),
        }
        outcome.detail = {"finality_samples": len(samples), "block_interval_ms": INTERVAL_MS}
    return outcome


@asynccontextmanager
async def a_node(
    home: Path,
    genesis: Genesis,
    number: int,
    meet: Sequence[Host],
    *,
    validate: bool = True,
    keeps_all: bool = False,
) -> AsyncGenerator[tuple[Host, LedgerService]]:
    """Open a host on a socket with its ledger, which knows the others."""
    secret, chain16 = numbered_key(number), bytes(genesis.chain[:16])
    async with open_host(secret, listen=["127.0.0.1:0"], chain16=chain16) as host:
        for other in meet:
            host.learn(other.peer, other.addresses())
            other.learn(host.peer, host.addresses())
            await host.connect(other.peer, other.addresses())
        opened = a_ledger(home, genesis, number, host, validate=validate, keeps_all=keeps_all)
        async with opened as ledger:
            yield host, ledger


async def _wait_all(ledgers: Sequence[LedgerService], height: int) -> None:
    for ledger in ledgers:
        await ledger.wait_height(height)


async def _pay(ledger: LedgerService, to: SecretKey, count: int) -> None:
    """Submit transfers, up to ``WINDOW`` at a time, and wait until the last one is final."""
    limit = trio.CapacityLimiter(WINDOW)

    async def one() -> None:
        async with limit:
            while True:
                try:
                    await ledger.submit_final(Transfer(to.peer, Amount(1)), 60.0)
                    return
                except InvalidStatement:
                    await ledger.wait_height(ledger.height + 1)

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(one)


class HopWorld(World):
    """The simulation without faults, in which every message takes one second: a hop."""

    pace = TimerParams(interval_s=0.0, delta_s=4.0)

    def __init__(self, ends_s: float) -> None:
        super().__init__(Scenario(VALIDATORS, ends_s=ends_s), 0)
        self.proposed_at: dict[Digest, float] = {}
        self.final_at: dict[Digest, float] = {}
        """When the last validator made a block final."""

    def deliver(self, sender: int, to: int, statements: list[Statement], epoch: int) -> None:
        """Every statement arrives one second later."""
        for statement in statements:
            if isinstance(statement, Proposal):
                name = block_digest(statement.block.header)
                self.proposed_at.setdefault(name, self.now)
            self.hear(statement, self.replicas[sender], epoch)
            self.at(
                self.now + 1.0, partial(self.receive, self.replicas[to], statement, sender, epoch)
            )

    def finalize(self, replica: Replica, blocks: tuple[Block, ...], last: Certificate) -> None:
        """Note when."""
        super().finalize(replica, blocks, last)
        self.final_at |= {block_digest(block.header): self.now for block in blocks}


def simulate_hops(seconds: int) -> dict[str, object]:
    """Return message delays from a proposal to finality at every validator, and from block to block."""
    world = HopWorld(float(seconds))
    world.run()
    chain = [block_digest(block.header) for block in world.replicas[0].chain]
    chain = [name for name in chain if name in world.final_at][1:-2]
    waits = [world.final_at[name] - world.proposed_at[name] for name in chain]
    starts = [world.proposed_at[name] for name in chain]
    return {
        "finality_hops": round(float(np.mean(waits)), 2),
        "block_hops": round(float(np.mean(np.diff(starts))), 2),
    }


async def follow_chain(
    home: Path, made: tuple[InMemoryLedger, list[tuple[Block, Certificate]]]
) -> float:
    """Return the seconds in which a fresh node verifies and keeps a chain that another serves over a socket."""
    ledger, links = made
    store = Store.open(home / "5.sqlite")
    try:
        archive = Archive(store, ledger.genesis, genesis_head(ledger.genesis))
        for block, certificate in links:
            await archive.append([block], certificate, known={})
    finally:
        store.close()
    async with a_node(home, ledger.genesis, 5, [], validate=False) as (host, _):
        vrf.verify.cache_clear()  # the follower has seen none of these blocks
        began = time.perf_counter()
        opened = a_node(home, ledger.genesis, 4, [host], validate=False, keeps_all=True)
        async with opened as (_, follower):
            await follower.wait_height(Height(len(links)))
            seconds = time.perf_counter() - began
            assert follower.first == 1, "every block was verified"
            return seconds
