"""Hold the whole ledger as one immutable map with one root.

Core: frozen structs over a sparse Merkle map.

Each entry can be proved alone to a peer that keeps no state: an account, a run with its seats, one seat's
segment, one peer's work for a run. A state does not depend on the order in which its entries were written,
so a snapshot is the sorted list of its entries and carries the root of the state it was taken from.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from swarm.config.spec import Genesis
from swarm.errors import BadEncoding, InvalidStatement, Reason
from swarm.ledger.blocks import VALIDATORS_MAX, Validator, epoch_of, validators_of
from swarm.ledger.check_statements import AMOUNT_MAX, HEIGHT_MAX
from swarm.ledger.state.payouts import (
    LOG_KEY,
    Payout,
    PayoutIndex,
    PayoutLog,
    PayoutStatement,
    ValidatorKey,
)
from swarm.ledger.state.records import (
    NOBODY,
    Account,
    ChainState,
    Checkpoint,
    Contribution,
    Council,
    DueQueue,
    Entry,
    Equivocator,
    Params,
    RoundInfo,
    Run,
    RunHead,
    RunQueue,
    SegmentRecord,
    StageSeats,
    Verdicts,
)
from swarm.ledger.state.runs import find_run, round_key
from swarm.ledger.state.shares import NO_SHARES, Backing, RunShares, backing_key, shares_key
from swarm.ledger.state.storage import Storage, storage_key
from swarm.primitives.codec import Message, decode, encode
from swarm.primitives.merkle import SparseMap
from swarm.types import Amount, Digest, Height, PeerId, RoundIndex, RunIndex, StageIndex, View

SNAPSHOT_BYTES_MAX = 256 << 20
"""Bytes of a snapshot: a million accounts; a node that could not hold this could not hold the state either."""

_GLOBALS_KEY = b"g"
COUNCIL_KEY = b"e"
UNBONDING_EPOCHS_MIN = 3
"""Stake that is withdrawn counts for two epochs more at most, and can be taken for one after that."""
_KINDS: dict[bytes, type[Entry]] = {
    b"g": ChainState,
    b"e": Council,
    b"x": Equivocator,
    b"a": Account,
    b"r": RunHead,
    b"q": RunQueue,
    b"t": StageSeats,
    b"k": Checkpoint,
    b"m": Storage,
    b"b": RoundInfo,
    b"s": SegmentRecord,
    b"c": Contribution,
    b"v": Verdicts,
    b"d": DueQueue,
    LOG_KEY: PayoutLog,
    b"L": Payout,
    b"W": PayoutIndex,
    b"K": ValidatorKey,
    b"F": PayoutStatement,
    b"h": RunShares,
    b"o": Backing,
}
EMPTY_ACCOUNT = Account(
    balance=Amount(0),
    stake=Amount(0),
    nonce=0,
    recent=0,
    unbonding=(),
    locked=Amount(0),
    staked_height=Height(0),
)
"""Account of a peer that has none."""

_NOTHING_DONE = Contribution(
    segments=0,
    tokens=0,
    earned=Amount(0),
    checkpoints=0,
    verified=0,
    failed=0,
    silent=0,
    checked=0,
    missed=0,
    refuted=0,
    fault_height=Height(0),
    rest_until=Height(0),
    absent=0,
    is_barred=False,
    shares=0,
    backs=NOBODY,
    backs_turn=0,
)
_NOTHING_JUDGED = Verdicts(
    verified=0,
    unsampled=0,
    silent=0,
    guilty=0,
    confirmed=0,
    convictions=(),
)
_NOTHING_DUE = DueQueue((), ())


def account_key(peer: PeerId) -> bytes:
    """Return the key of a peer's account."""
    return b"a" + peer


def equivocator_key(peer: PeerId) -> bytes:
    """Return the key of a validator's conviction."""
    return b"x" + peer


def segment_key(run: RunIndex, round_: RoundIndex, stage: StageIndex, seat: int) -> bytes:
    """Return the key of a seat's segment."""
    return b"s" + b"".join(part.to_bytes(8, "big") for part in (run, round_, stage, seat))


def contribution_key(run: RunIndex, peer: PeerId) -> bytes:
    """Return the key of a peer's work counts in a run."""
    return b"c" + run.to_bytes(8, "big") + peer


def verdicts_key(run: RunIndex) -> bytes:
    """Return the key of the verdict counts of a run."""
    return b"v" + run.to_bytes(8, "big")


def due_queue_key(height: int) -> bytes:
    """Return the key of the due queue of a height."""
    return b"d" + height.to_bytes(8, "big")


class Reader(ABC):
    """Typed access to entries, shared by finished states and drafts."""

    __slots__ = ()

    @abstractmethod
    def get(self, key: bytes) -> Entry | None:
        """Return the entry under ``key``, or None."""

    @property
    def globals(self) -> ChainState:
        """The chain-wide entry."""
        found = self.get(_GLOBALS_KEY)
        assert isinstance(found, ChainState), "every state has globals"
        return found

    @property
    def council(self) -> Council:
        """The validators and those that offer to become one."""
        found = self.get(COUNCIL_KEY)
        assert isinstance(found, Council), "every state has a council"
        return found

    def equivocator(self, peer: PeerId) -> Equivocator | None:
        """Return the conviction of a validator that signed two ways, or None."""
        found = self.get(equivocator_key(peer))
        return found if isinstance(found, Equivocator) else None

    def account(self, peer: PeerId) -> Account:
        """Return a peer's account; ``EMPTY_ACCOUNT`` if it has none."""
        found = self.get(account_key(peer))
        return found if isinstance(found, Account) else EMPTY_ACCOUNT

    def find_run(self, run: RunIndex) -> Run | None:
        """Return a run, or None."""
        return find_run(self.get, run)

    def run(self, run: RunIndex) -> Run:
        """Return a run; raise ``InvalidStatement`` if there is none with this number."""
        found = self.find_run(run)
        if found is None:
            raise InvalidStatement(Reason.UNKNOWN_RUN, str(run))
        return found

    def storage(self, run: int, stage: int, round_: int) -> Storage | None:
        """Return who holds a checkpoint of a run, or None if that is not listed."""
        found = self.get(storage_key(run, stage, round_))
        return found if isinstance(found, Storage) else None

    def round_info(self, run: RunIndex, round_: RoundIndex) -> RoundInfo | None:
        """Return a round as it was frozen, while a segment of it can be checked; None before and after."""
        found = self.get(round_key(run, round_))
        return found if isinstance(found, RoundInfo) else None

    def segment(
        self, run: RunIndex, round_: RoundIndex, stage: StageIndex, seat: int
    ) -> SegmentRecord | None:
        """Return the segment that a seat committed for a round, or None."""
        found = self.get(segment_key(run, round_, stage, seat))
        return found if isinstance(found, SegmentRecord) else None

    def contribution(self, run: RunIndex, peer: PeerId) -> Contribution:
        """Return the work counts of a peer in a run, zeros if there are none."""
        found = self.get(contribution_key(run, peer))
        return found if isinstance(found, Contribution) else _NOTHING_DONE

    def run_shares(self, run: RunIndex) -> RunShares:
        """Return the shares of a run, none before its first verified segment."""
        found = self.get(shares_key(run))
        return found if isinstance(found, RunShares) else NO_SHARES

    def backing(self, run: RunIndex, peer: PeerId) -> int:
        """Return the shares whose holders want ``peer`` to own a run next."""
        found = self.get(backing_key(run, self.run_shares(run).turn, peer))
        return found.shares if isinstance(found, Backing) else 0

    def verdicts(self, run: RunIndex) -> Verdicts:
        """Return the verdict counts of a run since it began, zeros if there are none."""
        found = self.get(verdicts_key(run))
        return found if isinstance(found, Verdicts) else _NOTHING_JUDGED

    def due_queue(self, height: int) -> DueQueue:
        """Return the due queue of a future height, empty if there is none."""
        found = self.get(due_queue_key(height))
        return found if isinstance(found, DueQueue) else _NOTHING_DUE


@dataclass(frozen=True)
class State(Reader):
    """The ledger after some block. Cheap to keep: states share their unchanged entries."""

    entries: SparseMap[Entry]
    views: dict[RunIndex, Run] = field(
        default_factory=dict[RunIndex, Run], compare=False, repr=False
    )
    """Runs that were put together before; states share them as they share entries."""

    def find_run(self, run: RunIndex) -> Run | None:
        """Return a run, or None."""
        found = self.views.get(run)
        if found is None:
            found = find_run(self.get, run)
            if found is not None:
                self.views[run] = found
        return found

    def get(self, key: bytes) -> Entry | None:
        """Return the entry under ``key``, or None."""
        return self.entries.get(key)

    @property
    def root(self) -> Digest:
        """The root of the map, which the block's header carries."""
        return self.entries.root

    @property
    def chain(self) -> Digest:
        """The chain id."""
        return self.globals.chain

    @property
    def height(self) -> Height:
        """The height of the last block applied; 0 at genesis."""
        return self.globals.height

    @property
    def beacon(self) -> Digest:
        """The randomness after this height."""
        return self.globals.beacon

    @property
    def params(self) -> Params:
        """The parameters fixed by the genesis."""
        return self.globals.params

    @property
    def validators(self) -> tuple[Validator, ...]:
        """The validators that vote on the next block, in the order of certificates' bitmaps."""
        return self.council.current

    @property
    def next_epoch(self) -> int:
        """The epoch of the next block."""
        return epoch_of(self.params.epoch_blocks, self.height + 1)

    @property
    def supply(self) -> Amount:
        """The money there should be in total; ``audit_supply`` counts it."""
        return self.globals.supply

    def runs(self) -> tuple[Run, ...]:
        """Return all runs, by number."""
        indices = range(1, self.globals.num_runs + 1)
        return tuple(run for i in indices if (run := self.find_run(RunIndex(i))) is not None)

    def segments(self, run: Run, round_: RoundIndex) -> tuple[SegmentRecord, ...]:
        """Return the segments of a round's roster that can still be checked, by stage and seat."""
        info = self.round_info(run.index, round_)
        seats = [seat for roster in info.seats for seat in roster] if info is not None else []
        found = (self.segment(run.index, round_, seat.stage, seat.index) for seat in seats)
        return tuple(record for record in found if record is not None)

    def live_segments(self) -> tuple[SegmentRecord, ...]:
        """Return all segments that can still be checked or reported, oldest first."""
        return self._live_segments

    @cached_property
    def _live_segments(self) -> tuple[SegmentRecord, ...]:
        """One lookup per height up to the last at which something is due; a state never changes."""
        found: dict[bytes, SegmentRecord] = {}
        for height in range(self.height + 1, self.globals.last_due + 1):
            for segment_id in self.due_queue(height).segments:
                record = self.segment(*segment_id)
                if record is not None and record.due == height:
                    found[segment_key(*segment_id)] = record
        return tuple(sorted(found.values(), key=lambda r: (r.height, r.run, r.stage, r.seat)))

    def accounts(self) -> Iterator[tuple[PeerId, Account]]:
        """Yield all accounts; walks the whole state, for audits and lists."""
        for key, entry in self.entries.items():
            if isinstance(entry, Account):
                yield PeerId(key[1:]), entry


MONEY_KINDS = frozenset({b"a", b"r", b"s", LOG_KEY})
"""First bytes of the keys of entries that can hold money: accounts, runs, segments, the log of payouts."""


def money_in(entry: Entry | None) -> int:
    """Return the money an entry holds."""
    match entry:
        case Account():
            return entry.balance + entry.stake + sum(part.amount for part in entry.unbonding)
        case RunHead():
            return entry.escrow
        case PayoutLog():
            return entry.locked
        case SegmentRecord():
            bonds = [check.bond for check in entry.checks]
            bonds += [accusation.bond for accusation in entry.accusations]
            bonds += [contest.bond for contest in entry.contests]
            bonds += [demand.bond for demand in entry.demands]
            return entry.held + entry.reserved + sum(bonds)
        case _:
            return 0


def audit_supply(state: State) -> int:
    """Return the money in all entries, counted one by one; equals ``state.supply``."""
    return sum(money_in(entry) for _, entry in state.entries.items())


def check_genesis(genesis: Genesis) -> None:
    """Raise ``BadEncoding`` if a network could not start from this genesis."""
    peers = [account.peer for account in genesis.accounts]
    stakes = {account.peer: account.stake for account in genesis.accounts}
    money = [value for a in genesis.accounts for value in (a.balance, a.stake)]
    validators = list(genesis.validators)
    faults = (
        (not 1 <= len(genesis.name) <= 64, "its name is empty or longer than 64 characters"),
        (len(genesis.seed) != 32, "its seed is not 32 bytes"),
        (len(peers) > 1 << 16, "it has more than 65,536 accounts"),
        (any(len(peer) != 32 for peer in peers), "an account is not a 32-byte key"),
        (peers != sorted(set(peers)), "its accounts are not sorted, or one comes twice"),
        (any(value < 0 for value in money), "an amount is negative"),
        (sum(money) > AMOUNT_MAX, "its supply is too large"),
        (not 1 <= len(validators) <= VALIDATORS_MAX, f"not 1 to {VALIDATORS_MAX} validators"),
        (validators != sorted(set(validators)), "its validators are not sorted, or come twice"),
        (any(stakes.get(v, 0) < 1 for v in validators), "a validator has no stake"),
        (not 1 <= genesis.block_interval_ms <= 600_000, "a block interval outside 1 ms to 10 min"),
        (not 10 <= genesis.epoch_blocks <= 1 << 20, "an epoch outside 10 to 1,048,576 blocks"),
        (not 1 <= genesis.beacon_delay <= 1024, "a beacon delay outside 1 to 1,024 blocks"),
        (
            not UNBONDING_EPOCHS_MIN <= genesis.unbonding_epochs <= 1024,
            "unbonding outside 3 to 1,024 epochs",
        ),
        (not 1 <= genesis.validator_stake <= AMOUNT_MAX, "no stake of a validator"),
        (not 1 <= genesis.stake_segments <= 1 << 20, "stake segments outside 1 to 1,048,576"),
        (not 0 <= genesis.fee_min <= AMOUNT_MAX >> 20, "its minimum fee is out of bounds"),
        (not 1 <= genesis.fee_per_byte_nano <= 10**15, "its fee per byte is out of bounds"),
    )
    for is_wrong, fault in faults:
        if is_wrong:
            raise BadEncoding(f"a genesis that cannot be used: {fault}")


def genesis_state(genesis: Genesis) -> State:
    """Return the state at height 0; raise ``BadEncoding`` if the genesis is out of bounds."""
    check_genesis(genesis)
    accounts = {
        account_key(a.peer): Account(
            balance=a.balance,
            stake=a.stake,
            nonce=0,
            recent=0,
            unbonding=(),
            locked=Amount(0),
            staked_height=Height(0),
        )
        for a in genesis.accounts
    }
    supply = sum(a.balance + a.stake for a in genesis.accounts)
    params = Params(
        block_interval_ms=genesis.block_interval_ms,
        epoch_blocks=genesis.epoch_blocks,
        beacon_delay=genesis.beacon_delay,
        unbonding_epochs=genesis.unbonding_epochs,
        stake_segments=genesis.stake_segments,
        validator_stake=genesis.validator_stake,
        fee_min=genesis.fee_min,
        fee_per_byte_nano=genesis.fee_per_byte_nano,
    )
    globals_ = ChainState(
        chain=genesis.chain,
        height=Height(0),
        view=View(0),
        num_skipped=0,
        beacon=Digest(genesis.seed),
        params=params,
        staked=Amount(sum(a.stake for a in genesis.accounts)),
        last_due=Height(0),
        num_runs=0,
        active_runs=(),
        supply=Amount(supply),
        minted=Amount(0),
        burned=Amount(0),
    )
    founders = validators_of(genesis)
    council = Council(
        previous=founders,
        current=founders,
        next=founders,
        seed=Digest(genesis.seed),
        skipped=(0,) * len(founders),
        candidates=genesis.validators,
    )
    entries: dict[bytes, Entry | None] = {**accounts, _GLOBALS_KEY: globals_, COUNCIL_KEY: council}
    return State(SparseMap[Entry]().update(entries))


class _Snapshot(Message, frozen=True):
    entries: tuple[tuple[bytes, bytes], ...]


def encode_state(state: State) -> bytes:
    """Return the one encoding of a state: its entries, sorted by key."""
    entries = sorted((key, encode(entry)) for key, entry in state.entries.items())
    return encode(_Snapshot(tuple(entries)))


def decode_state(data: bytes) -> State:
    """Decode the result of ``encode_state``; raise ``BadEncoding``.

    The caller compares the root with that of a final header.
    """
    snapshot = decode(_Snapshot, data, limit=SNAPSHOT_BYTES_MAX)
    keys = [key for key, _ in snapshot.entries]
    if keys != sorted(set(keys)) or not {_GLOBALS_KEY, COUNCIL_KEY} <= set(keys):
        raise BadEncoding("a snapshot out of order, or without its globals")
    entries: dict[bytes, Entry | None] = {
        key: decode_entry(key, value) for key, value in snapshot.entries
    }
    return state_of(SparseMap[Entry]().update(entries))


def decode_entry(key: bytes, value: bytes) -> Entry:
    """Decode one entry of a snapshot, whose kind its key tells; raise ``BadEncoding``."""
    kind = _KINDS.get(key[:1])
    is_single = key in {_GLOBALS_KEY, COUNCIL_KEY, LOG_KEY}
    if kind is None or (kind in {ChainState, Council, PayoutLog}) != is_single:
        raise BadEncoding("a snapshot with an unknown kind of entry")
    return decode(kind, value, limit=SNAPSHOT_BYTES_MAX)


def state_of(entries: SparseMap[Entry]) -> State:
    """Return the state with these entries, as peers sent them; raise ``BadEncoding`` if it can be none."""
    state = State(entries)
    if not all(isinstance(state.get(key), _KINDS[key]) for key in (_GLOBALS_KEY, COUNCIL_KEY)):
        raise BadEncoding("a snapshot without its globals")
    if not 0 <= state.height <= HEIGHT_MAX:
        raise BadEncoding("a snapshot of an impossible height")
    return state
