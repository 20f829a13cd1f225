"""Read the ledger of a home from its disk, whether or not a node runs there.

Shell: opens the store for reading only.
"""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

from swarm.config.spec import Genesis
from swarm.errors import UsageError, VerificationFailed
from swarm.ledger.blocks import Block, Certificate
from swarm.ledger.chain import Head
from swarm.ledger.net.archive import Archive, newest_height, read_block, read_genesis
from swarm.store import Store
from swarm.types import Height

STORE_FILE = "store.sqlite"
BLOBS = "blobs"
"""Folder of content-addressed files: text, checkpoints, logs of windows."""
Link = tuple[Block, Certificate | None]


@contextmanager
def opened(home: Path) -> Generator[tuple[Store, Genesis]]:
    """Open the store of a home, with its genesis; raises ``UsageError`` when no ledger is there yet."""
    store = Store.open_readonly(home / STORE_FILE)
    try:
        genesis = read_genesis(store)
        if genesis is None:
            raise UsageError(f"{home} has no ledger yet", hint="swarm join TICKET, or swarm launch")
        yield store, genesis
    finally:
        store.close()


def read_head(home: Path) -> Head:
    """Return the last final state on this disk."""
    with opened(home) as (store, genesis):
        return Archive.open(store, genesis).head


def links_from(store: Store, height: int) -> Iterator[Link]:
    """Yield the blocks from ``height`` on, as far as the disk has them."""
    while (link := read_block(store, Height(height))) is not None:
        yield link
        height += 1


def proved_links(store: Store, problem: list[int]) -> Iterator[Link]:
    """Yield the blocks from height 1 to the last one that a finalization on this disk covers.

    The newest blocks of a follower may be covered only by a block that it does not have yet; the number of
    blocks left out is appended to ``problem``. Raises ``VerificationFailed`` if one in the middle is missing.
    """
    newest = newest_height(store)  # read first: a running node adds blocks meanwhile
    waiting, height = list[Link](), 0
    for link in links_from(store, 1):
        waiting.append(link)
        height += 1
        if link[1] is not None:
            yield from waiting
            waiting.clear()
    if newest > height:
        raise VerificationFailed(
            f"block {height + 1} is missing on this disk, and {newest} is here"
        )
    problem.append(len(waiting))


def block_of(store: Store, height: int) -> Link:
    """Return one block; raises ``UsageError`` when the disk does not have it."""
    link = read_block(store, Height(height))
    if link is None:
        raise UsageError(f"there is no block {height} here", hint="swarm ledger tail")
    return link
