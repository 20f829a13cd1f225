"""Get the run's text: built here by whoever launches, fetched by everybody else.

Shell: says how far it is.
"""

from functools import partial

import trio

from swarm.events import EventKind
from swarm.ledger.records import Run
from swarm.node.context import Context
from swarm.training.data import TokenSource
from swarm.training.tokenizer import TOKENIZER_BYTES_MAX
from swarm.types import NO_DIGEST

PROGRESS_S = 3.0
"""A long fetch says how far it is this often."""


async def token_source(context: Context, run: Run) -> TokenSource:
    """The training tokens as a memory-mapped array of the run's dtype.

    Raises ``Unreachable`` if nobody serves them, ``Corrupt`` if our own disk changed them, and ``BadConfig`` if
    they are not what the run says, or do not fit the disk.
    """
    tokenizer = run.spec.data.tokenizer_root
    if tokenizer != NO_DIGEST:  # whoever holds the text can also read it
        peers = partial(context.library.peers_of, run)
        await context.blobs.fetch(tokenizer, TOKENIZER_BYTES_MAX, peers)
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
        context.tally.waits_for = "text from other peers"
    try:
        return await context.library.tokens(run, progress)
    finally:
        context.tally.waits_for = ""
