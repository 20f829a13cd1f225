"""Fetch the token files and the tokenizer of the run from peers.

Shell: reports progress, and asks again.
"""

from functools import partial
from typing import Protocol

import trio

from swarm.errors import BadConfig, Unreachable
from swarm.events import EventKind
from swarm.gossip.blobs.service import Progress
from swarm.ledger.state.records import Run
from swarm.node.ports import HasBlobs, HasReport, HasStats
from swarm.training.data.dataset import TokenArray
from swarm.training.data.tokenizer import TOKENIZER_BYTES_MAX
from swarm.types import NO_DIGEST, PeerId

PROGRESS_S = 3.0
"""Seconds between two progress reports of a long fetch."""
RETRY_S = 30.0
"""Seconds until held-out text that no peer had is asked for again: it is for evaluation, and nothing waits for
it."""


class TextArtifacts(Protocol):
    """Reader of datasets: ``ArtifactCache``."""

    def peers_of(self, run: Run | None) -> list[PeerId]:
        """Return the peers to ask for the data of a run."""
        ...

    async def tokens(self, run: Run, progress: Progress | None = ...) -> TokenArray:
        """Return the training tokens, fetched if need be."""
        ...


class HeldoutNode(HasBlobs, HasReport, Protocol):
    """Parts of a node that fetch the data of a run."""

    @property
    def artifacts(self) -> TextArtifacts:
        """Reader of datasets."""
        ...


class TextNode(HeldoutNode, HasStats, Protocol):
    """Parts of a node that fetch the text it trains on."""


async def token_source(context: TextNode, run: Run) -> TokenArray:
    """Return the training tokens as a memory-mapped array of the run's dtype.

    Raises ``Unreachable`` if no peer serves them, ``Corrupt`` if our own disk changed them, and ``BadConfig``
    if they are not what the run says, or do not fit the disk.
    """
    last = float("-inf")

    def progress(done: int, total: int) -> None:
        nonlocal last
        now = trio.current_time()
        if now - last >= PROGRESS_S or done == total:
            last = now
            share = 100 * done // max(total, 1)
            context.report(
                EventKind.PROGRESS, f"text: {done / 1e6:.1f} of {total / 1e6:.1f} MB, {share}%"
            )

    if not context.blobs.has(run.spec.data.train_root):
        context.stats.waits_for = "text from other peers"
    try:
        await _tokenizer(context, run)  # a node that holds the tokens can also decode them
        return await context.artifacts.tokens(run, progress)
    finally:
        context.stats.waits_for = ""


async def keep_heldout(context: HeldoutNode, run: Run) -> None:
    """Fetch and serve the held-out text and the tokenizer, with which models are evaluated.

    Asks until some peer has them; a disk without room for them is reported, and the node goes on without.
    """
    data = run.spec.data
    peers = partial(context.artifacts.peers_of, run)
    while True:
        try:
            await _tokenizer(context, run)
            await context.blobs.fetch(data.heldout_root, data.heldout_bytes, peers)
        except Unreachable:
            await trio.sleep(RETRY_S)
        except BadConfig as error:
            message = f"no held-out text here, swarm eval needs --data: {error}; {error.hint}"
            context.report(EventKind.WARNING, message)
            return
        else:
            return


async def _tokenizer(context: HeldoutNode, run: Run) -> None:
    root = run.spec.data.tokenizer_root
    if root != NO_DIGEST:
        peers = partial(context.artifacts.peers_of, run)
        await context.blobs.fetch(root, TOKENIZER_BYTES_MAX, peers)
