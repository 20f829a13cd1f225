"""Declare the ports of the verify package: its requirements of the node.

Shell: names of powers only; the node gives them.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from torch import Tensor

from swarm.events import EventKind
from swarm.ledger.blocks import Block, Certificate
from swarm.ledger.state.records import Run
from swarm.ledger.state.state import State
from swarm.ledger.transactions import Body
from swarm.training.data.samples import TokenSource
from swarm.types import Digest, Height, PeerId, StageIndex


class ArtifactPort(Protocol):
    """Content-addressed inputs of a replay besides the window's log."""

    async def tokens(self, run: Run) -> TokenSource:
        """Return the training tokens of a run, fetched if need be.

        Raises ``Unreachable`` if nobody serves them, ``BadConfig`` if they do not fit the disk.
        """
        ...

    async def anchor(self, run: Run, stage: StageIndex, root: Digest) -> Tensor:
        """Return the flat float32 slow weights of a canonical checkpoint, or the initial weights.

        Raises as ``tokens`` does.
        """
        ...

    def canonical(self, run: Run, stage: StageIndex, root: Digest) -> bool:
        """Return True if ``root`` names the initial weights of the stage or a checkpoint that the ledger took.

        A function of the final state: every node must give the same answer.
        """
        ...


class EventPort(Protocol):
    """Sink for events, as ``EventLog`` of node/reporting.py."""

    def __call__(self, kind: EventKind, text: str, **fields: str | int) -> None:
        """Report one event."""
        ...


class LedgerPort(Protocol):
    """The part of ``LedgerService`` that this room uses."""

    @property
    def state(self) -> State:
        """The latest final state."""
        ...

    async def wait_height(self, height: int) -> State:
        """Return the final state, once it is at ``height`` or beyond."""
        ...

    async def submit(self, body: Body) -> Digest:
        """Sign a statement of ours and send it; raises ``InvalidStatement``."""
        ...

    def block_at(self, height: Height) -> tuple[Block, Certificate | None] | None:
        """Return a final block, or None."""
        ...


class BlobsPort(Protocol):
    """The part of ``gossip.blobs.Blobs`` that this room uses."""

    def has(self, root: Digest) -> bool:
        """Return True if the whole blob is here."""
        ...

    def path(self, root: Digest) -> Path:
        """Return the file of a blob that is here."""
        ...

    async def add(self, source: bytes | bytearray | memoryview | Path) -> Digest:
        """Keep and serve bytes; raises ``BadConfig`` if they do not fit."""
        ...

    async def fetch(
        self,
        root: Digest,
        num_bytes_max: int,
        peers: Callable[[], Sequence[PeerId]],
        *,
        patience_s: float,
    ) -> Path:
        """Get a blob; raises ``Unreachable`` or ``BadConfig``."""
        ...

    async def remove(self, root: Digest) -> None:
        """Forget a blob, whole or partial."""
        ...
