"""Nodes that check each other under virtual time: real doors, blobs and stores; replays that are looked up."""

import math
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import trio
from torch import Tensor

from swarm.events import EventKind
from swarm.gossip.blobs.service import Blobs
from swarm.ledger.blocks import Block, Certificate
from swarm.ledger.edges import EdgeMessage
from swarm.ledger.state.records import Run
from swarm.ledger.state.state import State
from swarm.ledger.transactions import Body
from swarm.primitives.codec import replace
from swarm.primitives.commitments import REFUSED, WindowResult
from swarm.primitives.crypto import SecretKey
from swarm.store import Store
from swarm.testing.executor import InlineExecutor
from swarm.training.data.dataset import TokenSource
from swarm.training.record.segment import ShardState
from swarm.training.record.window import WindowData, WindowKey
from swarm.types import NO_DIGEST, Digest, Height, StageIndex
from swarm.verify.duties import MoveKey
from swarm.verify.log_store import LogStore
from swarm.verify.replay_process import Log
from swarm.verify.service import Verifier
from swarm.verify.tolerance import Comparison
from tests.fakes import FakeHost, FakeNetwork
from tests.ledger.checking import Case
from tests.verify.actors import FINAL, BlockProducer, scripted_move

BLOCK_S = 1.0
REPLAY_S = 0.2
QUOTA = 1 << 26


class Chain:
    """One block producer that many nodes watch; a block every second."""

    def __init__(self, case: Case) -> None:
        self.producer = BlockProducer(case)
        self.moved = trio.Condition()

    async def run(self) -> None:
        """Make blocks until cancelled."""
        while True:
            await trio.sleep(BLOCK_S)
            self.producer.block()
            async with self.moved:
                self.moved.notify_all()


class NodeLedger:
    """What one node sees of the chain: ``LedgerService``, as far as checks use it."""

    def __init__(self, chain: Chain, secret: SecretKey) -> None:
        self._chain, self._secret = chain, secret

    @property
    def state(self) -> State:
        return self._chain.producer.state

    async def wait_height(self, height: int) -> State:
        async with self._chain.moved:
            while self.state.height < height:
                await self._chain.moved.wait()
        return self.state

    async def submit(self, body: Body) -> Digest:
        self._chain.producer.submit(self._secret, body)
        return NO_DIGEST

    def block_at(self, height: Height) -> tuple[Block, Certificate | None] | None:
        links = self._chain.producer.ledger.links
        return links[height - 1] if 1 <= height <= len(links) else None


class AllArtifacts:
    """An artifact cache that has everything."""

    async def tokens(self, run: Run) -> TokenSource:
        return np.zeros(16, np.uint8)

    async def anchor(self, run: Run, stage: StageIndex, root: Digest) -> Tensor:
        return torch.zeros(4)

    async def base(self, run: Run, stage: StageIndex) -> Tensor | None:
        return None

    def canonical(self, run: Run, stage: StageIndex, root: Digest) -> bool:
        return True


@dataclass
class LookedUp:
    """Replays by the name of the log: the truth of the case, unless a test says otherwise."""

    case: Case
    answers: dict[Digest, WindowResult] = field(default_factory=dict)

    def anchors(self, log: Log) -> frozenset[Digest]:
        return frozenset({NO_DIGEST})

    def answer(
        self,
        log: Log,
        tokens: TokenSource,
        anchors: Mapping[Digest, Tensor],
        base_W: Tensor | None = None,
    ) -> WindowResult:
        assert set(anchors) == {NO_DIGEST}
        manifest = log.manifest
        return self.answers.get(manifest.root) or self.case.true.results[manifest.window]

    def compare(
        self,
        log: Log,
        tokens: TokenSource,
        anchors: Mapping[Digest, Tensor],
        base_W: Tensor | None = None,
    ) -> Comparison:
        found = self.answer(log, tokens, anchors, base_W)
        if found == REFUSED:
            return Comparison(REFUSED, 0.13, 5e-4)
        return Comparison(replace(found, leaves_root=NO_DIGEST), 2e-6, 5e-4)

    def edges(self, log: Log) -> Sequence[EdgeMessage]:
        return ()


@dataclass
class RecordedEvents:
    """Where a node's events go."""

    events: list[tuple[EventKind, str]] = field(default_factory=list)

    def __call__(self, kind: EventKind, text: str, **fields: str | int) -> None:
        self.events.append((kind, text))

    def kinds(self) -> list[EventKind]:
        return [kind for kind, _ in self.events]


class Node:
    """One peer: what it has on disk survives ``restart``."""

    def __init__(
        self,
        network: "SimulatedNetwork",
        secret: SecretKey,
        folder: Path,
        *,
        quota_bytes: int = QUOTA,
    ) -> None:
        self.network, self.secret = network, secret
        self.checks_at_once, self.audit_rate = 2, 0.0
        self.replays = network.replays
        folder.mkdir()
        self.store = Store.open(folder / "store.sqlite")
        self.host = FakeHost(network.transport, secret)
        network.transport.hosts[secret.peer] = self.host
        self.blobs = Blobs(folder / "blobs", self.host, quota_bytes=quota_bytes)
        self.recorded = RecordedEvents()
        self.scope = trio.move_on_after(math.inf)
        self.checks = self._open()

    def _open(self) -> Verifier:
        checks = Verifier(
            host=self.host,
            secret=self.secret,
            chain=self.network.chain.producer.state.chain,
            ledger=NodeLedger(self.network.chain, self.secret),
            blobs=self.blobs,
            store=self.store,
            compute=InlineExecutor(lambda _: REPLAY_S),
            artifacts=AllArtifacts(),
            report=self.recorded,
            checks_at_once=self.checks_at_once,
            audit_rate=self.audit_rate,
            replays=self.replays,
        )
        hearings = checks._hearings

        async def find(wanted: MoveKey) -> None:
            """Say what is true before the scripted court: the logs of these nodes have nothing to compute."""
            await trio.sleep(REPLAY_S)
            hearings.moves[wanted] = scripted_move(self.network.case, wanted, self.secret.peer)

        hearings.find = find  # type: ignore[method-assign]
        return checks

    def start(self) -> None:
        """Look after the checks from now on."""
        self.scope = trio.move_on_after(math.inf)
        self.network.nursery.start_soon(self._run, self.scope, self.checks)

    def reopen(self) -> None:
        """With what a test has changed; before ``start``."""
        self.checks = self._open()

    def restart(self) -> None:
        """As after kill -9 and a new start: only the disk is left."""
        self.scope.cancel()
        self.reopen()
        self.start()

    def on_disk(self) -> LogStore:
        """What a restart would find."""
        return self._open().log_store

    async def _run(self, scope: trio.CancelScope, checks: Verifier) -> None:
        with scope:
            await checks.run()


class SimulatedNetwork:
    """Everybody with an account of the case, each with a node."""

    def __init__(self, case: Case, folder: Path, nursery: trio.Nursery) -> None:
        self.case, self.nursery = case, nursery
        self.transport = FakeNetwork()
        self.chain = Chain(case)
        self.replays = LookedUp(case)
        keys = [key for key in case.ledger.keys if case.stake(key)]
        self.nodes = {
            key.peer: Node(self, key, folder / str(number)) for number, key in enumerate(keys)
        }

    @property
    def solver(self) -> Node:
        return self.nodes[self.case.record.peer]

    @property
    def able(self) -> list[Node]:
        """Who may be drawn."""
        return [self.nodes[key.peer] for key in self.case.able]

    async def keep(self, variant: int = 0) -> None:
        """The solver keeps a log of each window, and its reveal."""
        windows = len(self.case.claimed.results)
        for window in range(windows):
            data = a_window(self.case, window, is_last=window == windows - 1, variant=variant)
            await self.solver.checks.keep_window(self.case.run, data)
        await self.solver.checks.keep_reveal(self.case.claimed.reveal(), ())

    def start(self) -> None:
        """Everybody looks after its checks, and blocks come."""
        for node in self.nodes.values():
            node.start()
        self.nursery.start_soon(self.chain.run)

    async def until_judged(self, patience_s: float = 150.0) -> None:
        """Wait for the end of the checks; virtual time, so nothing is waited for."""
        with trio.fail_after(patience_s):
            while self.chain.producer.phase not in FINAL:
                await self._next_block()
        await self.blocks(3)

    async def until(self, *phases: object, patience_s: float = 150.0) -> None:
        """Wait for a phase."""
        with trio.fail_after(patience_s):
            while self.chain.producer.phase not in phases:
                await self._next_block()

    async def blocks(self, count: int) -> None:
        """Wait for some blocks."""
        for _ in range(count):
            await self._next_block()

    async def _next_block(self) -> None:
        async with self.chain.moved:
            await self.chain.moved.wait()


@asynccontextmanager
async def a_network(
    case: Case, folder: Path, *, keeps: bool = True
) -> AsyncGenerator[SimulatedNetwork]:
    """A network whose solver keeps its logs; everything ends with the block."""
    async with trio.open_nursery() as nursery:
        network = SimulatedNetwork(case, folder, nursery)
        if keeps:
            await network.keep()
        yield network
        nursery.cancel_scope.cancel()
    for node in network.nodes.values():
        node.store.close()


def a_window(case: Case, window: int, *, is_last: bool, variant: int = 0) -> WindowData:
    """A log of the case's solver: nobody reads it, but its bytes have a name."""
    c = case.claimed.commit
    zeros = torch.zeros(4)
    five, none = (zeros, zeros, zeros, zeros, zeros), torch.zeros(0)
    state = ShardState(*five, variant, NO_DIGEST, 0, (0, 0), (), none)
    key = WindowKey(c.run, c.round, c.stage, c.seat, window)
    return WindowData(key, is_last, state, ())
