"""Declare the parts of a node that its modules ask for, one interface each.

Shell: interfaces alone. A module names those that it uses; ``NodeContext`` has all of them, a fake only some.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from torch import Tensor

from swarm.config.schema import NodeConfig
from swarm.config.spec import Genesis
from swarm.executor import ExecutorPort
from swarm.gossip.blobs.service import Progress
from swarm.gossip.trade.service import TradeLinks
from swarm.ledger.state.records import Checkpoint, Run
from swarm.ledger.state.state import State
from swarm.ledger.transactions import Body
from swarm.node.context import NodeStats
from swarm.store import Change
from swarm.types import Digest, Height, PeerId, StageIndex
from swarm.verify.ports import EventPort

# --- services ---


class HostPort(TradeLinks, Protocol):
    """Connections to peers: ``swarm.host.service.Host``."""

    def connected(self) -> list[PeerId]:
        """Return the connected peers, sorted."""
        ...

    def addresses(self) -> list[str]:
        """Return the addresses at which others can dial this node."""
        ...

    def reachability(self) -> str:
        """Return the way in which others reach this node: "direct", "relayed", "lan" or "unknown"."""
        ...


class LedgerPort(Protocol):
    """Final state and statements of this node: ``swarm.ledger.service.LedgerService``."""

    @property
    def state(self) -> State:
        """The latest final state."""
        ...

    @property
    def height(self) -> Height:
        """The latest final height."""
        ...

    @property
    def is_validator(self) -> bool:
        """True if this node votes."""
        ...

    async def wait_height(self, height: int) -> State:
        """Wait until the final height is ``height`` or more; return the final state."""
        ...

    async def submit(self, body: Body) -> Digest:
        """Sign a statement and send it; raise ``InvalidStatement`` if it cannot be valid now."""
        ...

    async def submit_final(self, body: Body, timeout_s: float) -> Height:
        """Submit a statement and wait for the final block that holds it; return its height."""
        ...


class BlobsPort(Protocol):
    """Content-addressed files: ``swarm.gossip.blobs.service.Blobs``."""

    def has(self, root: Digest) -> bool:
        """Return True if the whole blob is on this disk."""
        ...

    async def add(
        self,
        source: bytes | bytearray | memoryview | Path,
        *,
        dtype: str = ...,
        shape: tuple[int, ...] | None = ...,
    ) -> Digest:
        """Keep and serve bytes; raise ``BadConfig`` if they do not fit."""
        ...

    async def fetch(
        self,
        root: Digest,
        num_bytes_max: int,
        peers: Callable[[], Sequence[PeerId]],
        progress: Progress | None = ...,
        *,
        patience_s: float = ...,
    ) -> Path:
        """Get a blob from peers; raise ``Unreachable`` or ``BadConfig``."""
        ...

    async def remove(self, root: Digest) -> None:
        """Forget a blob, whole or partial."""
        ...


class StorePort(Protocol):
    """Tables that survive a crash: ``swarm.store.Store``."""

    def get(self, table: str, key: bytes) -> bytes | None:
        """Return the value of ``key``, or None."""
        ...

    def items(self, table: str, *, after: bytes = ..., limit: int) -> list[tuple[bytes, bytes]]:
        """Return at most ``limit`` pairs with keys beyond ``after``, in order of the keys."""
        ...

    async def write_soon(self, changes: Sequence[Change]) -> None:
        """Write all changes or none, in a worker thread."""
        ...


class WeightsPort(Protocol):
    """Weights that the ledger names: ``swarm.node.artifacts.cache.ArtifactCache``."""

    async def initial(self, run: Run, stage: StageIndex) -> Tensor:
        """Return the weights that a stage starts from."""
        ...

    async def base(self, run: Run, stage: StageIndex) -> Tensor | None:
        """Return the weights below the adapter of a run; None in a run without one."""
        ...

    async def keep_base(self, run: Run, stage: StageIndex) -> None:
        """Fetch the weights below the adapter of a stage to this disk, if the run has one."""
        ...

    async def anchor(self, run: Run, stage: StageIndex, root: Digest) -> Tensor:
        """Return the slow weights that ``root`` names; raise ``Unreachable``, ``BadConfig`` or ``Corrupt``."""
        ...

    async def checkpoint(
        self, run: Run, stage: StageIndex, checkpoint: Checkpoint, patience_s: float = ...
    ) -> Tensor:
        """Return the weights of a canonical checkpoint; raise as ``anchor`` does."""
        ...

    async def note(self, run: Run, stage: StageIndex, round_: int, root: Digest) -> None:
        """Remember that a blob is a checkpoint, to remove it when it is old."""
        ...

    def forget(self, root: Digest) -> None:
        """Drop a blob that has left the disk from memory."""
        ...


# --- parts of a node ---


class HasMe(Protocol):
    """Owner of a peer id."""

    @property
    def me(self) -> PeerId:
        """Id of this node."""
        ...


class HasHome(Protocol):
    """Owner of a folder."""

    @property
    def home(self) -> Path:
        """Folder of this node."""
        ...


class HasConfig(Protocol):
    """Owner of a node file."""

    config: NodeConfig
    """Settings of this node; ``step_down`` replaces them."""


class HasRun(Protocol):
    """Member of a run."""

    @property
    def run(self) -> Run | None:
        """The run as of the last final block; None before it is found."""
        ...

    @property
    def run16(self) -> bytes:
        """First 16 bytes of the hash of the run's spec."""
        ...


class HasGenesis(Protocol):
    """Member of a network."""

    @property
    def genesis(self) -> Genesis:
        """The record that defines the network."""
        ...


class HasHost(Protocol):
    """Owner of connections."""

    @property
    def host(self) -> HostPort:
        """Connections to peers."""
        ...


class HasLedger(Protocol):
    """Reader of the ledger."""

    @property
    def ledger(self) -> LedgerPort:
        """Final state, and statements of this node."""
        ...


class HasBlobs(Protocol):
    """Owner of blobs."""

    @property
    def blobs(self) -> BlobsPort:
        """Content-addressed files."""
        ...


class HasStore(Protocol):
    """Owner of a database."""

    @property
    def store(self) -> StorePort:
        """Database of this node."""
        ...


class HasWeights(Protocol):
    """Reader of weights that the ledger names."""

    @property
    def artifacts(self) -> WeightsPort:
        """Weights that the ledger names."""
        ...


class HasCompute(Protocol):
    """Owner of the worker of its own training."""

    @property
    def compute(self) -> ExecutorPort:
        """Worker of this node's own training."""
        ...


class HasStats(Protocol):
    """Owner of counters."""

    @property
    def stats(self) -> NodeStats:
        """Measurements of this node, for the map."""
        ...


class HasReport(Protocol):
    """Reporter of events."""

    @property
    def report(self) -> EventPort:
        """Function that reports one event."""
        ...
