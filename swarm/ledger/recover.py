"""Let a validator vote again at once that lost its memory, on its owner's word.

Shell: reads and writes the home of a node that does not run.
"""

from pathlib import Path

from swarm.config.spec import Genesis
from swarm.errors import Corrupt, UsageError
from swarm.ledger.consensus.memory import VoteMemory
from swarm.ledger.net.archive import Archive, read_genesis
from swarm.store import STORE_FILE, Store
from swarm.types import Height


def recover_votes(home: Path, given: Genesis | None = None) -> Height:
    """Take the vote log of a home for whole; return the height of its last final block.

    A damaged log is begun anew. ``given`` is the genesis that somebody put into a home in which no node has run
    yet: a founder that brings its key along (``swarm network restart``) has signed nothing there. Raises
    ``UsageError`` without a ledger, ``Corrupt`` if that is damaged.
    """
    if given is None and not (home / STORE_FILE).exists():
        raise UsageError(f"{home} has no ledger yet", hint="swarm join TICKET, or swarm launch")
    store = Store.open(home / STORE_FILE)
    try:
        genesis = read_genesis(store) or given
        if genesis is None:
            raise UsageError(f"{home} has no ledger yet", hint="swarm join TICKET, or swarm launch")
        archive, memory = Archive.open(store, genesis), VoteMemory.open(home)
        try:
            journal = archive.load_journal()
        except Corrupt:
            journal = archive.restart_journal(memory.number)
        memory.accept(journal)
        return archive.head.state.height
    finally:
        store.close()
