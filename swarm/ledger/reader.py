"""Read the ledger of a home from its disk, whether or not a node runs there.

Shell: opens the store for reading only.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from swarm.config.spec import Genesis
from swarm.errors import PeerFault, UsageError, VerificationFailed
from swarm.ledger.blocks import (
    Block,
    Certificate,
    block_digest,
    epoch_of,
    is_last_of_epoch,
    validators_digest,
    validators_of,
)
from swarm.ledger.chain import ChainReport, verify_chain
from swarm.ledger.chain_file import WHOLE, ChainFile, ChainStart, Link
from swarm.ledger.describe import block_lines, block_row
from swarm.ledger.light import (
    Handoff,
    LightProof,
    TrustedEpoch,
    leads_to,
    prove_entries,
    trusted_epoch,
)
from swarm.ledger.net.archive import (
    Archive,
    first_height,
    load_state,
    missing_block,
    newest_height,
    proved_height,
    read_block,
    read_boundaries,
    read_forks,
    read_genesis,
    read_handoffs,
)
from swarm.ledger.snapshot import check_start
from swarm.ledger.state.records import Run, SegmentRecord
from swarm.ledger.state.state import State, decode_state, encode_state
from swarm.primitives.crypto import peer_name
from swarm.store import STORE_FILE, Store
from swarm.types import Digest, Height


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
    """Result of ``Ledger.verify``: all blocks from its start on are valid and final."""

    chain: ChainReport
    """Head of the verified blocks, and totals over them."""
    num_unproved: int
    """Newer blocks on this disk that wait for a finalization, which a follower may not have yet."""
    start: int = 0
    """Height of the snapshot from which blocks were verified; 0: all of them, from the genesis on."""
    first_epoch: int = 0
    """Epoch from which the handoffs to the snapshot were followed: 0, or the one that the reader trusts."""
    num_handoffs: int = 0
    """Signed headers that lead from it to the snapshot: epochs with the same validators need none."""

    @property
    def trusted_epoch(self) -> TrustedEpoch:
        """The epoch that the blocks lead to, and its validators, for others to begin with."""
        state = self.chain.head.state
        return trusted_epoch(state.next_epoch, state.validators)

    @property
    def began_with(self) -> str:
        """In words, what the blocks were verified from: ``block 1``, or handoffs and a snapshot."""
        if not self.start:
            return "block 1"
        epochs = self.start // self.chain.head.state.params.epoch_blocks - self.first_epoch + 1
        since = f"since epoch {self.first_epoch}, which you trust, " if self.first_epoch else ""
        return (
            f"the handoffs of {epochs} epoch{'s' * (epochs != 1)} ({since}{self.num_handoffs + 1} signed"
            f" header{'s' * (self.num_handoffs > 0)}) and a snapshot at height {self.start},"
            " not from block 1"
        )


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
        """Return one final block.

        Raises ``UsageError`` if this disk does not have it: ``Pruned`` if it is older than those kept here.
        """
        link = read_block(self._store, Height(height))
        if link is None:
            raise missing_block(self._store, height)
        return LedgerBlock(*link, self.state)

    @property
    def first(self) -> int:
        """Height of the first block that is here: 1 unless older ones were pruned, or never fetched."""
        return first_height(self._store)

    def blocks(self, first: int | None = None, last: int | None = None) -> Iterator[LedgerBlock]:
        """Yield the final blocks from height ``first`` to ``last``; by default all that are here.

        Raises ``Pruned`` if ``first`` is older than those kept here.
        """
        last = self.height if last is None else last
        first = self.first if first is None else max(first, 1)
        yield from (self.block(height) for height in range(first, last + 1))

    def verify(
        self,
        progress: Callable[[Block], None] | None = None,
        trusted: TrustedEpoch | None = None,
    ) -> LedgerReport:
        """Verify every block here: hashes, VRF proofs, signatures, transactions, finality, supply.

        They are verified from the genesis on or, where older blocks are not here, from the oldest state at the
        end of an epoch, to which handoffs lead.

        Args:
            progress: Called with every block before it is verified.
            trusted: Epoch from which handoffs are followed in place of the genesis. Where they begin later, the
                chain must have these validators in that epoch.

        Returns:
            The head that the blocks lead to, totals, and the number of blocks that are not proved final yet.

        Raises:
            VerificationFailed: A block is missing or not valid; the message has its height and the reason.
        """
        left_out = list[int]()
        try:
            report = _verified(
                self.genesis,
                self.start(),
                lambda after: _told(_proved_links(self._store, after, left_out), progress),
                trusted,
            )
        except (VerificationFailed, PeerFault) as error:
            path = self._store.path
            again = f"mv {path} {path}.damaged   (then swarm join TICKET syncs it again)"
            if trusted is not None:  # the fault may be in what the reader was told
                again = "swarm ledger verify   (without --trust)"
            raise VerificationFailed(str(error), hint=again) from None
        self._check_forks()
        return replace(report, num_unproved=sum(left_out))

    def handoffs(self) -> list[Handoff]:
        """Return the signed headers that lead from the genesis to the epoch of the next block."""
        epoch_blocks = self.genesis.epoch_blocks
        return read_handoffs(self._store, epoch_blocks, 0, self.state.next_epoch)

    def start(self) -> ChainStart:
        """Return where the blocks that can be verified here begin.

        Raises ``VerificationFailed`` if neither block 1 nor a state to go on from is here.
        """
        first = self.first
        if first == 1:
            return WHOLE
        for boundary in read_boundaries(self._store):
            if boundary.height + 1 >= first:
                epoch_blocks = self.genesis.epoch_blocks
                epoch = epoch_of(epoch_blocks, boundary.height)
                handoffs = read_handoffs(self._store, epoch_blocks, 0, epoch)
                return ChainStart(tuple(handoffs), boundary.handoff, encode_state(boundary.state))
        raise VerificationFailed(
            f"blocks before {first} are pruned, and no state to go on from is here"
        )

    def links(self) -> Iterator[Link]:
        """Yield the blocks that a finalization on this disk covers, from the start on; they are not verified.

        Raises ``VerificationFailed`` if one in the middle is missing.
        """
        boundary = self.start().boundary
        after = 0 if boundary is None else boundary.height
        return _proved_links(self._store, after, [])

    def prove(self, keys: Sequence[bytes]) -> LightProof:
        """Return a proof of these entries as of the newest block with a finalization, from the genesis on.

        Raises ``UsageError`` if one is not there, and ``Corrupt`` if the disk is damaged.
        """
        return self.prove_from(lambda _: keys)

    @property
    def proved_height(self) -> int:
        """Height of the newest block with a finalization of its own; 0 if there is none."""
        return proved_height(self._store)

    def prove_from(self, keys_of: Callable[[State], Sequence[bytes]]) -> LightProof:
        """Return a proof as ``prove`` does, of entries that ``keys_of`` names in the state after the block.

        Raises as ``prove`` does.
        """
        height = proved_height(self._store)
        link = read_block(self._store, height)
        if link is None or link[1] is None:
            raise UsageError("this ledger has no final block yet", hint="swarm status")
        state = load_state(self._store, self.genesis, height)
        keys = keys_of(state)
        if any(state.get(key) is None for key in keys):
            raise UsageError(
                "this is not on the ledger any more", hint="keep the node running: swarm join"
            )
        epoch_blocks, epoch = self.genesis.epoch_blocks, link[0].header.epoch
        handoffs = read_handoffs(self._store, epoch_blocks, 0, epoch)
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


def verify_file(
    file: ChainFile,
    progress: Callable[[Block], None] | None = None,
    trusted: TrustedEpoch | None = None,
) -> LedgerReport:
    """Verify every block in a file, as ``Ledger.verify`` does; raise ``VerificationFailed``."""
    try:
        return _verified(file.genesis, file.start, lambda _: _told(file.links(), progress), trusted)
    except PeerFault as error:
        raise VerificationFailed(f"{file.path}: {error}") from None


def _verified(
    genesis: Genesis,
    start: ChainStart,
    links: Callable[[int], Iterable[Link]],
    trusted: TrustedEpoch | None,
) -> LedgerReport:
    """Verify the blocks after a start; raise ``PeerFault`` or ``VerificationFailed``."""
    boundary, handoffs = start.boundary, start.handoffs
    names = {0: validators_digest(validators_of(genesis))}
    if boundary is None:
        report = LedgerReport(verify_chain(genesis, _named(links(0), genesis, names)), 0)
    else:
        epoch = epoch_of(genesis.epoch_blocks, boundary.height)
        known = trusted if trusted is not None and trusted.epoch <= epoch else None
        head = check_start(genesis, handoffs, boundary, decode_state(start.state), known)
        names[epoch + 1] = validators_digest(boundary.validators)
        blocks = _named(links(boundary.height), genesis, names)
        chain = verify_chain(genesis, blocks, start=head)
        first = 0 if known is None else known.epoch
        num_used = sum(leads_to(genesis.epoch_blocks, one.height) > first for one in handoffs)
        report = LedgerReport(chain, 0, boundary.height, first, num_used)
        trusted = trusted if known is None else None
    if trusted is not None and names.get(trusted.epoch) != trusted.digest:
        named = trusted.epoch in names
        what = "has other validators than you trust" if named else "is later than these blocks"
        raise VerificationFailed(f"epoch {trusted.epoch} {what}")
    return report


def _named(links: Iterable[Link], genesis: Genesis, names: dict[int, Digest]) -> Iterator[Link]:
    """Yield the links, and note the digests of the validators of each epoch that their headers name."""
    for block, certificate in links:
        header = block.header
        if is_last_of_epoch(genesis.epoch_blocks, header.height):
            names[header.epoch + 1] = header.next_validators
        yield block, certificate


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


def _proved_links(store: Store, after: int, left_out: list[int]) -> Iterator[Link]:
    """Yield the blocks above a height up to the last one that a finalization on this disk covers.

    The newest blocks of a follower may be covered by a block it does not have yet; their number is appended to
    ``left_out``. Raises ``VerificationFailed`` when one in the middle is missing.
    """
    newest = newest_height(store)  # read first: a running node adds blocks meanwhile
    waiting, height = list[Link](), after
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
