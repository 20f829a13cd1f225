"""Read the ledger of a home from its disk, whether or not a node runs there.

Shell: opens the store for reading only.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from swarm.config.spec import Genesis
from swarm.errors import UsageError, VerificationFailed
from swarm.ledger.blocks import Block, Certificate, block_digest
from swarm.ledger.chain import ChainReport, verify_chain
from swarm.ledger.chain_file import ChainFile, Link
from swarm.ledger.describe import block_lines, block_row
from swarm.ledger.light import LightProof, prove_entries
from swarm.ledger.net.archive import (
    Archive,
    load_state,
    newest_height,
    proved_height,
    read_block,
    read_forks,
    read_genesis,
    read_handoffs,
)
from swarm.ledger.state.records import Run, SegmentRecord
from swarm.ledger.state.state import State
from swarm.primitives.crypto import peer_name
from swarm.store import STORE_FILE, Store
from swarm.types import Height


@dataclass(frozen=True, slots=True)
class LedgerBlock:
    """Final block, as a record, as JSON and as text."""

    block: Block
    certificate: Certificate | None
    """Its own finalization; None if that of a later block covers it."""
    state: State
    """A final state after it, which names the runs in its transactions."""

    @property
    def height(self) -> int:
        """Its height, from 1."""
        return self.block.header.height

    @property
    def leader(self) -> str:
        """Name of the validator that proposed it."""
        return peer_name(self.block.header.leader)

    @property
    def row(self) -> dict[str, object]:
        """The block and its transactions as JSON."""
        return block_row(self.state, self.block, self.certificate)

    @property
    def lines(self) -> list[str]:
        """The block as text: a line for itself, and one for each transaction."""
        return block_lines(self.state, self.block)


@dataclass(frozen=True, slots=True)
class LedgerReport:
    """Result of ``Ledger.verify``: all blocks from genesis on are valid and final."""

    chain: ChainReport
    """Head of the verified blocks, and totals over them."""
    num_unproved: int
    """Newer blocks on this disk that wait for a finalization, which a follower may not have yet."""


class Ledger:
    """Final blocks of a network and the state after them, read from the disk of one home.

    That of a home is as of when it was opened; that of a running ``Node`` moves on with every block.
    """

    def __init__(self, store: Store, genesis: Genesis, state: Callable[[], State]) -> None:
        self._store, self._state = store, state
        self.genesis = genesis
        """Record that defines the network."""

    @property
    def network(self) -> str:
        """Identifier of the network, in hex."""
        return self.genesis.chain.hex()

    @property
    def state(self) -> State:
        """The final state: accounts, runs, seats, segments under check."""
        return self._state()

    @property
    def height(self) -> int:
        """Height of the last final block; 0 before the first."""
        return self.state.height

    def runs(self) -> tuple[Run, ...]:
        """Return all runs of this network, oldest first."""
        return self.state.runs()

    def segments(self) -> tuple[SegmentRecord, ...]:
        """Return the committed segments whose checks can still change, in the order of the ledger."""
        return self.state.live_segments()

    def block(self, height: int) -> LedgerBlock:
        """Return one final block; raise ``UsageError`` if this disk does not have it."""
        link = read_block(self._store, Height(height))
        if link is None:
            raise UsageError(f"there is no block {height} here", hint="swarm ledger tail")
        return LedgerBlock(*link, self.state)

    def blocks(self, first: int = 1, last: int | None = None) -> Iterator[LedgerBlock]:
        """Yield the final blocks from height ``first`` to ``last``; to the last final one by default."""
        last = self.height if last is None else last
        yield from (self.block(height) for height in range(max(first, 1), last + 1))

    def verify(self, progress: Callable[[Block], None] | None = None) -> LedgerReport:
        """Verify every block from genesis on: hashes, VRF proofs, signatures, transactions, finality, supply.

        Args:
            progress: Called with every block before it is verified.

        Returns:
            The head that the blocks lead to, totals, and the number of blocks that are not proved final yet.

        Raises:
            VerificationFailed: A block is missing or not valid; the message has its height and the reason.
        """
        left_out = list[int]()
        try:
            links = _told(_proved_links(self._store, left_out), progress)
            report = verify_chain(self.genesis, links)
        except VerificationFailed as error:
            path = self._store.path
            again = f"mv {path} {path}.damaged   (then swarm join TICKET syncs it again)"
            raise VerificationFailed(str(error), hint=again) from None
        self._check_forks()
        return LedgerReport(report, sum(left_out))

    def links(self) -> Iterator[Link]:
        """Yield the blocks that a finalization on this disk covers, from height 1 on; they are not verified.

        Raises ``VerificationFailed`` if one in the middle is missing.
        """
        return _proved_links(self._store, [])

    def prove(self, keys: Sequence[bytes]) -> LightProof:
        """Return a proof of these entries as of the newest block with a finalization, from the genesis on.

        Raises ``UsageError`` if one is not there, and ``Corrupt`` if the disk is damaged.
        """
        height = proved_height(self._store)
        link = read_block(self._store, height)
        if link is None or link[1] is None:
            raise UsageError("this ledger has no final block yet", hint="swarm status")
        state = load_state(self._store, self.genesis, height)
        if any(state.get(key) is None for key in keys):
            raise UsageError(
                "this is not on the ledger any more", hint="keep the node running: swarm join"
            )
        handoffs = read_handoffs(self._store, link[0].header.epoch)
        return prove_entries(state, link[0].header, link[1], handoffs, keys)

    def _check_forks(self) -> None:
        """Raise ``VerificationFailed`` with both blocks of the newest height at which two became final."""
        forks = read_forks(self._store)
        if not forks:
            return
        theirs, certificate = forks[0].headers[0], forks[0].certificate
        link = read_block(self._store, theirs.height)
        ours = "none" if link is None else block_digest(link[0].header).hex()[:16]
        votes = "a later certificate" if link is None or link[1] is None else _votes_text(link[1])
        raise VerificationFailed(
            f"two final blocks at height {theirs.height}: {ours} here, by {votes}, and"
            f" {block_digest(theirs).hex()[:16]} elsewhere, by {_votes_text(certificate)}: more than a third"
            " of the power signed both",
            hint="swarm ledger show   (the validators)",
        )


def verify_file(file: ChainFile, progress: Callable[[Block], None] | None = None) -> LedgerReport:
    """Verify every block in a file, as ``Ledger.verify`` does; raise ``VerificationFailed``."""
    return LedgerReport(verify_chain(file.genesis, _told(file.links(), progress)), 0)


def _told(links: Iterable[Link], progress: Callable[[Block], None] | None) -> Iterator[Link]:
    """Yield the links, and tell of each block."""
    for block, certificate in links:
        if progress is not None:
            progress(block)
        yield block, certificate


def _votes_text(certificate: Certificate) -> str:
    voters = [i for i in range(certificate.bitmap.bit_length()) if certificate.bitmap >> i & 1]
    return f"validators {', '.join(map(str, voters))} in view {certificate.view}"


class _Disk:
    """The state on a disk, read at its first use: verifying starts from genesis and does without."""

    def __init__(self, store: Store, genesis: Genesis) -> None:
        self._store, self._genesis = store, genesis

    @cached_property
    def state(self) -> State:
        return Archive.open(self._store, self._genesis).head.state


@contextmanager
def open_ledger(home: str | Path) -> Generator[Ledger]:
    """Open the ledger of a home for reading; a node may run there meanwhile.

    Args:
        home: Folder of a node, such as ``~/.swarm``.

    Returns:
        A context manager that enters with the ``Ledger``, and closes its file at the end.

    Raises:
        UsageError: No node has run in this home, or it has joined no network yet.
        Corrupt: The file is damaged; raised when the damaged part is read.
    """
    folder = Path(home).expanduser()
    store = Store.open_readonly(folder / STORE_FILE)
    try:
        genesis = read_genesis(store)
        if genesis is None:
            raise UsageError(
                f"{folder} has no ledger yet", hint="swarm join TICKET, or swarm launch"
            )
        disk = _Disk(store, genesis)
        yield Ledger(store, genesis, lambda: disk.state)
    finally:
        store.close()


def read_state(home: Path) -> State:
    """Return the last final state on the disk of a home; raise as ``open_ledger`` does."""
    with open_ledger(home) as ledger:
        return ledger.state


def _proved_links(store: Store, left_out: list[int]) -> Iterator[Link]:
    """Yield the blocks from height 1 to the last one that a finalization on this disk covers.

    The newest blocks of a follower may be covered by a block it does not have yet; their number is appended to
    ``left_out``. Raises ``VerificationFailed`` when one in the middle is missing.
    """
    newest = newest_height(store)  # read first: a running node adds blocks meanwhile
    waiting, height = list[Link](), 0
    while (link := read_block(store, Height(height + 1))) is not None:
        waiting.append(link)
        height += 1
        if link[1] is not None:
            yield from waiting
            waiting.clear()
    if newest > height:
        raise VerificationFailed(
            f"block {height + 1} is missing on this disk, and {newest} is here"
        )
    left_out.append(len(waiting))
