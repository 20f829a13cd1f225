"""Small typed parts of a node, for tests of what uses no more of one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio
from torch import Tensor

from swarm.config.schema import NodeConfig
from swarm.config.spec import Genesis, RunSpec
from swarm.events import EventKind
from swarm.executor import ExecutorPort
from swarm.gossip.blobs.service import Progress
from swarm.gossip.trade.service import Trades
from swarm.ledger.state.records import NO_ROLLBACK, Checkpoint, RoundInfo, Run, RunPhase
from swarm.ledger.transactions import Body
from swarm.node.context import NodeStats
from swarm.node.ports import BlobsPort, HostPort, LedgerPort, StorePort
from swarm.node.seat.commits import EvidencePort
from swarm.node.seat.seats import SeatArtifacts
from swarm.primitives.codec import replace
from swarm.primitives.crypto import SecretKey
from swarm.store import Change
from swarm.testing.executor import InlineExecutor
from swarm.testing.ledger import make_genesis
from swarm.training.data.dataset import TokenArray
from swarm.training.pipeline import Pipeline
from swarm.types import (
    NO_DIGEST,
    Amount,
    Digest,
    Height,
    PeerId,
    RoundIndex,
    RunIndex,
    StageIndex,
)
from tests.fakes import FakeHost
from tests.training.pipeline import CHAIN

KEY = SecretKey.from_seed(bytes(32))
GENESIS = make_genesis(1, 1)


class Unused:
    """A part of a node that the test does not expect to be used."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        raise AssertionError(f"the test gave no part that has {name!r}")


def unused() -> Any:  # noqa: ANN401  it stands for a part of any type, and fails when it is used
    return Unused()


@dataclass
class Reports:
    """Everything that was reported, in order."""

    events: list[tuple[EventKind, str]] = field(default_factory=list)

    def __call__(self, kind: EventKind, text: str, **fields: str | int) -> None:
        """Remember one event."""
        self.events.append((kind, text))

    def texts(self, kind: EventKind | None = None) -> list[str]:
        """The texts of all events, or of those of one kind."""
        return [text for reported, text in self.events if kind in {None, reported}]

    def kinds(self) -> list[EventKind]:
        """The kinds of all events."""
        return [kind for kind, _ in self.events]


class FakeLedger:
    """Final state that the test makes; statements are not expected."""

    state: Any = Unused()
    """A ``State``, or as much of one as the test needs."""
    height = Height(0)
    is_validator = False
    is_silent = False

    async def wait_height(self, height: int) -> Any:  # noqa: ANN401
        """Be there at once."""
        await trio.lowlevel.checkpoint()
        self.height = Height(height)
        return self.state

    async def submit(self, body: Body) -> Digest:
        """Fail: a test that expects a statement says what becomes of it."""
        raise AssertionError(f"a statement: {body}")

    async def submit_final(self, body: Body, timeout_s: float) -> Height:
        """Submit, and be final at once."""
        await self.submit(body)
        return self.height


class FakeStore:
    """Tables in memory."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[bytes, bytes]] = {}

    def get(self, table: str, key: bytes) -> bytes | None:
        """Return a value."""
        return self.tables.get(table, {}).get(key)

    def items(self, table: str, *, after: bytes = b"", limit: int) -> list[tuple[bytes, bytes]]:
        """Return pairs in order."""
        rows = sorted(self.tables.get(table, {}).items())
        return [(key, value) for key, value in rows if key > after][:limit]

    async def write_soon(self, changes: Sequence[Change]) -> None:
        """Write at once."""
        await trio.lowlevel.checkpoint()
        for table, key, value in changes:
            rows = self.tables.setdefault(table, {})
            if value is None:
                rows.pop(key, None)
            else:
                rows[key] = value


@dataclass
class FakeBlobs:
    """Blobs that are here or not; nothing is read or fetched."""

    here: set[Digest] = field(default_factory=set)

    def has(self, root: Digest) -> bool:
        """Return True if the test put it here."""
        return root in self.here

    async def add(
        self,
        source: bytes | bytearray | memoryview | Path,
        *,
        dtype: str = "uint8",
        shape: tuple[int, ...] | None = None,
    ) -> Digest:
        """Fail."""
        raise AssertionError("nothing is added")

    async def fetch(
        self,
        root: Digest,
        num_bytes_max: int,
        peers: Callable[[], Sequence[PeerId]],
        progress: Progress | None = None,
        *,
        patience_s: float = 0.0,
    ) -> Path:
        """Fail."""
        raise AssertionError("nothing is fetched")

    async def remove(self, root: Digest) -> None:
        """Take it away."""
        self.here.discard(root)


class FakeArtifacts:
    """Weights and texts of which the test gives what it needs, in a subclass."""

    async def initial(self, run: Run, stage: StageIndex) -> Tensor:
        """Fail."""
        raise AssertionError("no initial weights here")

    async def base(self, run: Run, stage: StageIndex) -> Tensor | None:
        """No adapter."""
        return None

    async def keep_base(self, run: Run, stage: StageIndex) -> None:
        """No adapter."""

    async def anchor(self, run: Run, stage: StageIndex, root: Digest) -> Tensor:
        """Fail."""
        raise AssertionError("no weights here")

    async def checkpoint(
        self, run: Run, stage: StageIndex, checkpoint: Checkpoint, patience_s: float = 0.0
    ) -> Tensor:
        """Fail."""
        raise AssertionError("no checkpoint here")

    async def note(self, run: Run, stage: StageIndex, round_: int, root: Digest) -> None:
        """Do nothing."""

    def forget(self, root: Digest) -> None:
        """Do nothing."""

    def peers_of(self, run: Run | None) -> list[PeerId]:
        """No peer."""
        return []

    async def tokens(self, run: Run, progress: Progress | None = None) -> TokenArray:
        """Fail."""
        raise AssertionError("no text here")


@dataclass
class FakeNode:
    """A node of the parts that a test gives it; any other part fails when it is used."""

    me: PeerId = KEY.peer
    home: Path = field(default_factory=unused)
    config: NodeConfig = field(default_factory=NodeConfig)
    secret: SecretKey = KEY
    genesis: Genesis = GENESIS
    incarnation: int = 1
    devices: tuple[str, ...] = ("cpu",)
    run: Run | None = None
    run16: bytes = bytes(16)
    run_index: RunIndex | None = None
    host: HostPort = field(default_factory=unused)
    ledger: LedgerPort = field(default_factory=unused)
    blobs: BlobsPort = field(default_factory=unused)
    store: StorePort = field(default_factory=unused)
    artifacts: SeatArtifacts = field(default_factory=unused)
    checks: EvidencePort = field(default_factory=unused)
    trades: Trades = field(default_factory=unused)
    pipeline: Pipeline = field(default_factory=unused)
    compute: ExecutorPort = field(default_factory=lambda: InlineExecutor(lambda _: 0.0))
    checking: ExecutorPort = field(default_factory=lambda: InlineExecutor(lambda _: 0.0))
    stats: NodeStats = field(default_factory=NodeStats)
    report: Reports = field(default_factory=Reports)


def a_trading_node(host: FakeHost, trades: Callable[..., Trades] = Trades) -> FakeNode:
    """A node whose fragments take a hundredth of a second to pack or to open."""
    compute = InlineExecutor(lambda _: 0.01)
    return FakeNode(host.peer, host=host, trades=trades(host, host.secret, CHAIN, compute))


def a_run(spec: RunSpec, **facts: object) -> Run:
    """A run in training without seats, with ``facts``."""
    stages = range(spec.num_stages)
    run = Run(
        index=RunIndex(1),
        owner=KEY.peer,
        spec=spec,
        spec_digest=spec.digest,
        escrow=Amount(0),
        opened_height=Height(0),
        start_height=Height(0),
        start_round=RoundIndex(0),
        end_round=RoundIndex(spec.rounds),
        consensus_rounds=0,
        phase=RunPhase.TRAINING,
        is_pausing=False,
        paused_height=Height(0),
        waiting=(),
        leaving=(),
        seats=tuple(() for _ in stages),
        next_seats=tuple(0 for _ in stages),
        rounds=(),
        checkpoints=tuple(() for _ in stages),
        rollbacks=tuple(NO_ROLLBACK for _ in stages),
        num_segments=0,
        tokens=0,
    )
    return replace(run, **facts)


def a_round(round_: int, height: int, *, drawn: tuple[int, ...] = (-1,)) -> RoundInfo:
    """A round of a run without seats."""
    return RoundInfo(
        round=RoundIndex(round_),
        height=Height(height),
        beacon=NO_DIGEST,
        seats=(),
        drawn=drawn,
        consensus=-1,
        price=1,
    )


def a_digest(number: int) -> Digest:
    """A digest that is distinguished from others at sight."""
    return Digest(bytes([number]) * 32)
