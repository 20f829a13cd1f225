"""Declare the interfaces that verification needs from the node it runs in.

Shell: protocols only; the node implements them.
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
from swarm.training.data.dataset import TokenSource
from swarm.types import Digest, Height, PeerId, StageIndex


class ArtifactPort(Protocol):
    """Source of what a replay reads besides the log: identified by hash, the same for all peers."""

    async def tokens(self, run: Run) -> TokenSource:
        """Return the training tokens of a run, fetched if necessary.

        Raises ``Unreachable`` if no peer serves them, ``BadConfig`` if they do not fit on the disk.
        """
        ...

    async def anchor(self, run: Run, stage: StageIndex, root: Digest) -> Tensor:
        """Return the flat float32 slow weights of a canonical checkpoint, or the initial weights.

        Raises as ``tokens`` does.
        """
        ...

    async def base(self, run: Run, stage: StageIndex) -> Tensor | None:
        """Return the weights below the adapter of a run; None in a run without one.

        Raises as ``tokens`` does.
        """
        ...

    def canonical(self, run: Run, stage: StageIndex, root: Digest) -> bool:
        """Return True if ``root`` names the stage's initial weights or a checkpoint that the ledger accepted.

        A function of the final state: every node must give the same answer.
        """
        ...


class EventPort(Protocol):
    """Receiver of events: ``node.reporting.EventLog``."""

    def __call__(self, kind: EventKind, text: str, **fields: str | int) -> None:
        """Report one event."""
        ...


class LedgerPort(Protocol):
    """Part of ``LedgerService`` that verification uses."""

    @property
    def state(self) -> State:
        """The latest final state."""
        ...

    async def wait_height(self, height: int) -> State:
        """Wait until the final state is at ``height`` or beyond, and return it."""
        ...

    async def submit(self, body: Body) -> Digest:
        """Sign a statement of this node, send it and return its name; raises ``InvalidStatement``."""
        ...

    def block_at(self, height: Height) -> tuple[Block, Certificate | None] | None:
        """Return a final block, with its finalization if it has one; None if there is no such block."""
        ...


class BlobsPort(Protocol):
    """Part of ``gossip.blobs.service.Blobs`` that verification uses."""

    def has(self, root: Digest) -> bool:
        """Return True if the whole blob is here."""
        ...

    def path(self, root: Digest) -> Path:
        """Return the file of a blob that is here."""
        ...

    async def add(self, source: bytes | bytearray | memoryview | Path) -> Digest:
        """Store and serve bytes, and return the root of their blob; raises ``BadConfig`` if they do not fit."""
        ...

    async def fetch(
        self,
        root: Digest,
        num_bytes_max: int,
        peers: Callable[[], Sequence[PeerId]],
        *,
        patience_s: float,
    ) -> Path:
        """Fetch a blob and return its file; raises ``Unreachable`` or ``BadConfig``."""
        ...

    def keep_back(self, is_kept_back: Callable[[Digest], bool]) -> None:
        """Serve no blob for whose root ``is_kept_back`` returns True."""
        ...

    async def remove(self, root: Digest) -> None:
        """Remove a blob, whole or partial."""
        ...
