"""Get the run's text: built here by whoever launches, fetched by everybody else.

Shell: says how far it is.
"""

import trio

from swarm.events import EventKind
from swarm.ledger.records import Run
from swarm.node.context import Context
from swarm.training.data import TokenSource

PROGRESS_S = 3.0
"""A long fetch says how far it is this often."""


async def token_source(context: Context, run: Run) -> TokenSource:
    """The training tokens as a memory-mapped array (uint8).

    Raises ``Unreachable`` if nobody serves them, ``Corrupt`` if our own disk changed them.
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
        context.tally.waits_for = "text from other peers"
    try:
        return await context.library.tokens(run, progress)
    finally:
        context.tally.waits_for = ""
