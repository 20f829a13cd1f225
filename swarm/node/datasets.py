"""Get the run's text: built here by whoever launches, fetched by everybody else.

Shell: reads files and fetches blobs.
"""

import trio

from swarm.errors import Corrupt
from swarm.events import EventKind
from swarm.node.context import Context
from swarm.spec import RunSpec
from swarm.training.data import TokenSource
from swarm.training.data_files import open_tokens
from swarm.training.token_files import root_of_file
from swarm.training.tokenizer import TOKENIZER_BYTES_MAX
from swarm.types import NO_DIGEST, Digest

PROGRESS_S = 3.0
"""A long fetch says how far it is this often."""


async def token_source(context: Context, spec: RunSpec) -> TokenSource:
    """The training tokens as a memory-mapped array of the run's dtype.

    Raises ``Unreachable`` if nobody serves them, ``Corrupt`` if our own disk changed them, and
    ``VerificationFailed`` if a token is out of the vocabulary that the run promised.
    """
    data = spec.data
    root = data.train_root
    if data.tokenizer_root != NO_DIGEST:  # whoever holds the text can also read it
        await fetch(context, data.tokenizer_root, TOKENIZER_BYTES_MAX, "tokenizer")
    await fetch(context, root, data.train_bytes, "text")
    path = context.blobs.path(root)
    if await trio.to_thread.run_sync(root_of_file, path, data.dtype, data.num_token_ids) != root:
        raise Corrupt("the text of the run on this disk is damaged", hint=f"rm {path}")
    return open_tokens(path, data.dtype)


async def fetch(context: Context, root: Digest, num_bytes: int, what: str) -> None:
    """Bring a blob of the run here, telling how far it is."""
    if context.blobs.has(root):
        return
    last = float("-inf")

    def progress(done: int, total: int) -> None:
        nonlocal last
        now = trio.current_time()
        if now - last >= PROGRESS_S or done == total:
            last = now
            share = 100 * done // max(total, 1)
            context.report(
                EventKind.PROGRESS, f"{what}: {done / 1e6:.1f} of {total / 1e6:.1f} MB, {share}%"
            )

    context.tally.waits_for = f"{what} from other peers"
    try:
        await context.blobs.fetch(root, num_bytes, context.peers_of_run, progress)
    finally:
        context.tally.waits_for = ""
