"""Measure how long the event loop of a node waits at most for one turn of a task, among 1,024 seats.

From one boundary of a round past the next: four validators, and a follower that checks, in one process on one
event loop, each with the ledger service, the verifier and the controller of a node, over links in memory, with
real disks and threads. Seats are stand-ins: nothing is trained, fetched or replayed here, which a node does in
other threads and processes. Every turn of a task is timed; those of the driver, which signs for all other
peers, do not count.
"""

import gc
import math
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import cast

import trio

from benchmarks.common import Outcome
from benchmarks.crowd import Crowd
from swarm.config.spec import Genesis
from swarm.errors import InvalidStatement
from swarm.gossip.blobs.service import Blobs
from swarm.gossip.news.service import News
from swarm.host.service import Host
from swarm.ledger.chain import Head
from swarm.ledger.consensus.timers import TimerParams
from swarm.ledger.consensus.validator import ValidatorRunner
from swarm.ledger.mempool import Mempool
from swarm.ledger.net.archive import Archive
from swarm.ledger.net.follower import Follower
from swarm.ledger.net.relay import Relay
from swarm.ledger.net.snapshots import Snapshots
from swarm.ledger.service import DELTA_S, LedgerService
from swarm.ledger.transition.runs import boundary_height
from swarm.node.context import NodeContext
from swarm.node.control.controller import Controller
from swarm.primitives.crypto import SecretKey
from swarm.store import Store
from swarm.testing.executor import InlineExecutor
from swarm.verify.ports import ArtifactPort
from swarm.verify.service import Verifier
from tests.ledger.services import MemoryHost, MemoryNet
from tests.node.standins import Context, NoArtifacts, Seats
from tests.verify.simulated_network import RecordedEvents

INTERVAL_MS = 250
"""Block interval: a quarter of a real one, so that the bench takes a quarter of the time."""
VALIDATORS = 4
DRIVER = "driver"
"""Name of the task whose turns do not count."""


class Turns(trio.abc.Instrument):
    """Clock of the turns of tasks: how long the event loop waited for each, by the processor and by the wall.

    Processor time is what a turn takes where nobody else wants the processor; nothing in a turn waits for a
    disk or a socket.
    """

    def __init__(self) -> None:
        self.busy: dict[str, float] = {}
        """Longest turn of the tasks of a name, in seconds of the processor."""
        self.longest: dict[str, float] = {}
        """Longest turn of the tasks of a name, in seconds."""
        self.all = list[float]()
        """Seconds of the processor of every turn."""
        self._began = (math.inf, math.inf)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002  trio's signature
        """Note when a turn begins."""
        self._began = time.perf_counter(), time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Note how long it was."""
        if task.name == DRIVER:
            return
        name, busy = task.name, time.thread_time() - self._began[1]
        spent = time.perf_counter() - self._began[0]
        self.all.append(busy)
        self.busy[name] = max(self.busy.get(name, 0.0), busy)
        self.longest[name] = max(self.longest.get(name, 0.0), spent)


@asynccontextmanager
async def a_node(
    home: Path, crowd: Crowd, begun: Head, secret: SecretKey, net: MemoryNet, *, validate: bool
) -> AsyncGenerator[tuple[LedgerService, Mempool]]:
    """Serve ledger, verifier and controller of one node whose chain ends in the last block of the crowd."""
    home.mkdir(parents=True)  # noqa: ASYNC240  nobody waits yet
    genesis, host = crowd.ledger.genesis, MemoryHost(net, secret, delay_s=0.001)
    store, link_host = Store.open(home / "store.sqlite"), cast("Host", host)
    try:
        archive, pool = Archive(store, genesis, begun), Mempool()
        block, certificate = crowd.ledger.links[-1]
        await archive.append([block], certificate, known={})
        pace = TimerParams(genesis.block_interval_ms / 1000, DELTA_S)
        replica = ValidatorRunner(archive, pool, secret, link_host, pace) if validate else None
        news = News(link_host, seed=secret.seed)
        relay = Relay(archive, pool, secret, link_host, news)
        snapshots = Snapshots(archive, link_host)
        served = (archive, pool, link_host, replica, snapshots)
        follower = Follower(*served, uses_snapshots=False)
        ledger = LedgerService(archive, pool, replica, follower, relay, snapshots, keeps_all=True)
        checks = _verifier(home, genesis, secret, host, ledger, store)
        context = Context(secret, genesis, host, ledger, checks, RecordedEvents())
        async with trio.open_nursery() as nursery:
            await nursery.start(news.run)
            await nursery.start(ledger.run)
            await nursery.start(checks.run)
            controller = Controller(cast("NodeContext", context), nursery)
            controller.seats = Seats()  # type: ignore[assignment]
            nursery.start_soon(controller.serve)
            yield ledger, pool
            nursery.cancel_scope.cancel()
    finally:
        store.close()


def _verifier(
    home: Path,
    genesis: Genesis,
    secret: SecretKey,
    host: MemoryHost,
    ledger: LedgerService,
    store: Store,
) -> Verifier:
    return Verifier(
        host=host,
        secret=secret,
        chain=genesis.chain,
        ledger=ledger,
        blobs=Blobs(home / "blobs", host, quota_bytes=1 << 20),
        store=store,
        compute=InlineExecutor(lambda _: 0.0),
        artifacts=cast("ArtifactPort", NoArtifacts()),
        report=RecordedEvents(),
    )


async def drive(crowd: Crowd, ledger: LedgerService, pools: Sequence[Mempool], last: int) -> None:
    """Sign for all peers after every block, and put all of it into the pools of the validators at once.

    That is the worst case: the next block has all there is room for, and the checking node has seen none of it.
    """
    while ledger.height < last:
        state = ledger.state
        for statement in crowd.statements(state):
            for pool in pools:
                try:
                    pool.add(statement.data, state)
                except InvalidStatement:
                    crowd.refused(statement)
        await ledger.wait_height(state.height + 1)


async def measure_loop(
    home: Path, num_stages: int, replicas: int, blocks: int, interval_ms: int = INTERVAL_MS
) -> Outcome:
    """Return the longest turn of the event loop over so many blocks around boundaries, in milliseconds."""
    crowd = Crowd.seated(num_stages, replicas, VALIDATORS, block_interval_ms=interval_ms)
    pool, first = Mempool(), boundary_height(crowd.run, 1) - 2
    while crowd.ledger.state.height < first:
        begun = crowd.ledger.head
        crowd.block(pool, quiet=True)
    voters = [crowd.ledger.key_of(voter.peer) for voter in crowd.ledger.state.validators]
    checker = next(key for key in crowd.ledger.keys if key not in voters)
    crowd.absent = frozenset(key.peer for key in (*voters, checker))
    net, turns = MemoryNet(), Turns()
    last = first + blocks
    gc.collect()
    gc.freeze()  # as a node does once its libraries are loaded
    async with AsyncExitStack() as stack:
        nodes = list[tuple[LedgerService, Mempool]]()
        for number, key in enumerate((*voters, checker)):
            node = a_node(home / str(number), crowd, begun, key, net, validate=key is not checker)
            nodes.append(await stack.enter_async_context(node))
        async with trio.open_nursery() as nursery:
            pools = [pool for _, pool in nodes[:-1]]
            nursery.start_soon(drive, crowd, nodes[0][0], pools, last, name=DRIVER)
            trio.lowlevel.add_instrument(turns)
            await nodes[-1][0].wait_height(last)
            trio.lowlevel.remove_instrument(turns)
    busiest = sorted(turns.busy, key=lambda name: -turns.busy[name])[:6]
    return Outcome(
        figures={"loop_stall_ms_1024": round(max(turns.all) * 1_000, 1)},
        detail={
            "loop_turns": len(turns.all),
            "loop_turns_above_20_ms": sum(spent > 0.02 for spent in turns.all),
            "loop_stall_ms_1024_by_the_wall": round(max(turns.longest.values()) * 1_000, 1),
            "loop_longest_ms": {
                name.removeprefix("swarm."): round(turns.busy[name] * 1_000, 1) for name in busiest
            },
            "loop_segments_verified": nodes[-1][0].state.verdicts(crowd.run.index).verified,
        },
    )
