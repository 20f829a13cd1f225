"""Build the next state: reads fall through to the base, writes stay here until the block is done.

Core: one block, or one attempt at a transaction, in a draft of its own.

An attempt is a draft on a draft: if it fails it is dropped and nothing has changed. The judged segments of a
run are counted by verdict: a record is forgotten after its challenge window, and its verdict stays in the
count. A segment that is accused again after its verdict is counted nowhere until the next verdict.
"""

from dataclasses import dataclass, field

from swarm.errors import InvalidStatement, Reason
from swarm.ledger.state.records import (
    CONVICTIONS_KEPT,
    NOBODY,
    Account,
    ChainState,
    CheckPhase,
    Contribution,
    Conviction,
    Council,
    DueQueue,
    Entry,
    Equivocator,
    RoundInfo,
    Run,
    SegmentPhase,
    SegmentRecord,
    Unbonding,
    Verdicts,
)
from swarm.ledger.state.runs import changed_entries, round_key
from swarm.ledger.state.shares import Backing, RunShares, backing_key, shares_key
from swarm.ledger.state.state import (
    COUNCIL_KEY,
    EMPTY_ACCOUNT,
    MONEY_KINDS,
    Reader,
    State,
    account_key,
    contribution_key,
    due_queue_key,
    equivocator_key,
    money_in,
    segment_key,
    verdicts_key,
)
from swarm.ledger.state.storage import Storage, storage_key
from swarm.primitives.codec import replace
from swarm.primitives.parts import Parts, at_once
from swarm.types import Amount, Height, PeerId, RoundIndex, RunIndex, StageIndex

JUDGED = frozenset(
    {
        SegmentPhase.VERIFIED,
        SegmentPhase.UNSAMPLED,
        SegmentPhase.SILENT,
        SegmentPhase.GUILTY,
        SegmentPhase.WITHIN,
        SegmentPhase.REJECTED,
    }
)
"""Phases that are counted; each count has the name of its phase."""


APPROVING = frozenset({CheckPhase.AGREED, CheckPhase.JACKPOT})
"""Phases of checks by which a segment is verified: who found an error that was forced has looked, and all that
was opened beside it is as it should be."""


def stands(record: SegmentRecord) -> bool:
    """Return True if the segment was verified."""
    return record.phase is SegmentPhase.VERIFIED


def is_confirmed(record: SegmentRecord) -> bool:
    """Return True if the segment stands and another peer's replay agreed with the revealed leaves."""
    return stands(record) and any(check.phase in APPROVING for check in record.checks)


def recounted(
    verdicts: Verdicts, before: SegmentRecord, after: SegmentRecord, height: Height
) -> Verdicts:
    """Return the counts after a segment moved from one phase to another."""
    changes: dict[str, object] = {}
    for record, step in ((before, -1), (after, 1)):
        if record.phase in JUDGED:
            number: int = getattr(verdicts, record.phase.value)
            changes[record.phase.value] = number + step
    confirmed = verdicts.confirmed - is_confirmed(before) + is_confirmed(after)
    if after.phase is SegmentPhase.GUILTY:
        found = Conviction(after.round, after.stage, after.seat, after.peer, height)
        changes["convictions"] = (*verdicts.convictions, found)[-CONVICTIONS_KEPT:]
    return replace(verdicts, confirmed=confirmed, **changes)


@dataclass
class Draft(Reader):
    """Changes on top of a state or another draft."""

    base: "State | Draft"
    leader: PeerId
    """Validator that made the block and receives its fees."""
    changes: dict[bytes, Entry | None] = field(default_factory=dict[bytes, Entry | None])
    views: dict[RunIndex, Run] = field(default_factory=dict[RunIndex, Run])
    """Runs written by this draft."""

    def find_run(self, run: RunIndex) -> Run | None:
        """Return a run with the changes of this draft, or None."""
        return self.views.get(run) or self.base.find_run(run)

    def get(self, key: bytes) -> Entry | None:
        """Return the entry under ``key`` with the changes of this draft, or None."""
        return self.changes[key] if key in self.changes else self.base.get(key)

    def attempt(self) -> "Draft":
        """Return an empty draft on top of this one."""
        return Draft(self, self.leader)

    def absorb(self, attempt: "Draft") -> None:
        """Merge the changes of an attempt on this draft."""
        self.changes.update(attempt.changes)
        self.views.update(attempt.views)

    @property
    def height(self) -> Height:
        """The height of the block under construction."""
        return self.globals.height

    def put_globals(self, globals_: ChainState) -> None:
        """Write the chain-wide entry."""
        self.changes[b"g"] = globals_

    def put_council(self, council: Council) -> None:
        """Write the validators and those that offer to become one."""
        self.changes[COUNCIL_KEY] = council

    def put_equivocator(self, peer: PeerId, conviction: Equivocator) -> None:
        """Bar a validator that signed two ways."""
        self.changes[equivocator_key(peer)] = conviction

    def put_account(self, peer: PeerId, account: Account) -> None:
        """Write an account, and keep the sum of stakes and the height at which this one grew."""
        assert account.balance >= 0 <= account.stake, "checked before it was spent"
        globals_, growth = self.globals, account.stake - self.account(peer).stake
        if growth:
            self.put_globals(replace(globals_, staked=Amount(globals_.staked + growth)))
        if growth > 0:
            account = replace(account, staked_height=globals_.height)
        self.changes[account_key(peer)] = account

    def put_run(self, run: Run) -> None:
        """Write what has changed of a run."""
        assert run.escrow >= 0, "checked before it was spent"
        self.changes.update(changed_entries(self.find_run(run.index), run))
        self.views[run.index] = run

    def put_round(self, run: RunIndex, info: RoundInfo, due: Height) -> None:
        """Keep a frozen round until height ``due``; called again, keep it longer."""
        assert due > self.height, "what is due now is done now"
        self.changes[round_key(run, info.round)] = info
        queue = self.due_queue(due)
        rounds = (*queue.rounds, (run, info.round))
        self.changes[due_queue_key(due)] = replace(queue, rounds=rounds)

    def put_storage(self, run: RunIndex, stage: int, round_: RoundIndex, storage: Storage) -> None:
        """Write who holds a checkpoint, and schedule it for the height at which it is looked at."""
        before = self.storage(run, stage, round_)
        self.changes[storage_key(run, stage, round_)] = storage
        if storage.due and (before is None or before.due != storage.due):
            assert storage.due > self.height, "what is due now is done now"
            queue, place = self.due_queue(storage.due), (run, StageIndex(stage), round_)
            noted = replace(queue, storages=(*queue.storages, place))
            self.changes[due_queue_key(storage.due)] = noted

    def drop_storage(self, run: RunIndex, stage: int, round_: RoundIndex) -> None:
        """Forget who held a checkpoint that the run lists no more."""
        self.changes[storage_key(run, stage, round_)] = None

    def drop_round(self, run: RunIndex, round_: RoundIndex) -> None:
        """Forget a round that has no segment left."""
        self.changes[round_key(run, round_)] = None

    def put_segment(self, record: SegmentRecord) -> None:
        """Write a segment, count its verdict, and schedule it for the height at which it is due."""
        assert record.held >= 0, "checked before it was paid"
        segment_id = (record.run, record.round, record.stage, record.seat)
        before = self.segment(*segment_id)
        self.changes[segment_key(*segment_id)] = record
        if before is not None and before.phase is not record.phase:
            verdicts = recounted(self.verdicts(record.run), before, record, self.height)
            self.changes[verdicts_key(record.run)] = verdicts
            self._count_shares(before, record)
        if before is None or before.due != record.due:
            assert record.due > self.height, "what is due now is done now"
            queue = self.due_queue(record.due)
            noted = replace(queue, segments=(*queue.segments, segment_id))
            self.changes[due_queue_key(record.due)] = noted
            if record.due > self.globals.last_due:
                self.put_globals(replace(self.globals, last_due=record.due))

    def note_demand(self, record: SegmentRecord, end: Height) -> None:
        """Schedule a segment for the end of a demand, besides whatever else it is due for."""
        assert end > self.height, "what is due now is done now"
        segment_id = (record.run, record.round, record.stage, record.seat)
        queue = self.due_queue(end)
        noted = replace(queue, demands=(*queue.demands, segment_id))
        self.changes[due_queue_key(end)] = noted

    def _count_shares(self, before: SegmentRecord, after: SegmentRecord) -> None:
        """Give or take the tokens of a segment that stands, or did; those before a conviction are void."""
        change = after.tokens * (stands(after) - stands(before))
        if change and after.height > self.contribution(after.run, after.peer).fault_height:
            self.add_shares(after.run, after.peer, change)

    def add_shares(self, run: RunIndex, peer: PeerId, change: int) -> None:
        """Add to the shares of a peer, of its run, and of the peer that it backs."""
        work, shares = self.contribution(run, peer), self.run_shares(run)
        held = work.shares + change
        assert held >= 0, "only what was given is taken"
        self.put_contribution(run, peer, replace(work, shares=held))
        self.put_shares(run, replace(shares, total=shares.total + change))
        if work.backs != NOBODY and work.backs_turn == shares.turn:
            self.add_backing(run, work.backs, change)

    def put_shares(self, run: RunIndex, shares: RunShares) -> None:
        """Write the shares of a run."""
        self.changes[shares_key(run)] = shares

    def add_backing(self, run: RunIndex, peer: PeerId, change: int) -> None:
        """Add to the shares that back a peer."""
        backed, turn = self.backing(run, peer) + change, self.run_shares(run).turn
        self.changes[backing_key(run, turn, peer)] = Backing(backed) if backed else None

    def drop_segment(self, record: SegmentRecord) -> None:
        """Remove a segment, which holds no money any more."""
        self.changes[segment_key(record.run, record.round, record.stage, record.seat)] = None

    def take_due(self) -> tuple[tuple[SegmentRecord, ...], DueQueue]:
        """Return the segments that are due now and the due queue of this height, which is removed."""
        height = self.height
        queue = self.due_queue(height)
        found = (self.segment(*segment_id) for segment_id in dict.fromkeys(queue.segments))
        due = tuple(record for record in found if record is not None and record.due == height)
        if self.get(due_queue_key(height)) is not None:
            self.changes[due_queue_key(height)] = None
        return due, queue

    def put_contribution(self, run: RunIndex, peer: PeerId, contribution: Contribution) -> None:
        """Write the work counts of a peer in a run."""
        self.changes[contribution_key(run, peer)] = contribution

    def live_account(self, peer: PeerId) -> Account:
        """Return a peer's account with the stake that has unbonded by now back in its balance."""
        account, height = self.account(peer), self.height
        if not any(part.release_height <= height for part in account.unbonding):
            return account
        freed = sum(part.amount for part in account.unbonding if part.release_height <= height)
        left = tuple(part for part in account.unbonding if part.release_height > height)
        return replace(account, balance=Amount(account.balance + freed), unbonding=left)

    def has_account(self, peer: PeerId) -> bool:
        """Return True if the peer has an account."""
        return self.get(account_key(peer)) is not None

    def credit(self, peer: PeerId, amount: int) -> None:
        """Add to a balance; 0 creates the account if there is none."""
        account = self.live_account(peer)
        if amount or account is EMPTY_ACCOUNT:
            self.put_account(peer, replace(account, balance=Amount(account.balance + amount)))

    def debit(self, peer: PeerId, amount: int) -> None:
        """Take from a balance; raise ``InvalidStatement`` if it is too low."""
        account = self.live_account(peer)
        if account.balance < amount:
            raise InvalidStatement(Reason.BALANCE, f"{account.balance} where {amount} is needed")
        if amount:
            self.put_account(peer, replace(account, balance=Amount(account.balance - amount)))

    def take_stake(self, peer: PeerId, percent: int) -> Amount:
        """Take ``percent`` of a peer's stake, unbonding parts included, rounded up.

        The caller credits or burns it.
        """
        return self.take(peer, -(-self.at_risk(peer) * min(percent, 100) // 100))

    def at_risk(self, peer: PeerId) -> int:
        """Return a peer's stake, unbonding parts included."""
        account = self.live_account(peer)
        return account.stake + sum(part.amount for part in account.unbonding)

    def take(self, peer: PeerId, amount: int) -> Amount:
        """Take at most ``amount`` of a peer's stake, unbonding parts included, and return what it was."""
        account, taken = self.live_account(peer), min(amount, self.at_risk(peer))
        from_stake = min(taken, account.stake)
        left, parts = taken - from_stake, list[Unbonding]()
        for part in reversed(account.unbonding):
            share = min(left, part.amount)
            left -= share
            if part.amount > share:
                parts.append(replace(part, amount=Amount(part.amount - share)))
        if taken:
            stake = Amount(account.stake - from_stake)
            self.put_account(peer, replace(account, stake=stake, unbonding=tuple(parts[::-1])))
        return Amount(taken)

    def hold_unbonding(self, peer: PeerId, until: Height) -> None:
        """Keep what a peer has withdrawn from its stake unbonding until a height, at least."""
        account = self.live_account(peer)
        held = tuple(
            replace(part, release_height=max(part.release_height, until))
            for part in account.unbonding
        )
        if held != account.unbonding:
            self.put_account(peer, replace(account, unbonding=held))

    def burn(self, amount: int) -> None:
        """Destroy money that was taken from an account."""
        globals_ = self.globals
        burned, supply = Amount(globals_.burned + amount), Amount(globals_.supply - amount)
        self.put_globals(replace(globals_, burned=burned, supply=supply))

    def finish(self) -> State:
        """Return the state after this block; assert that money was only moved, minted or burned."""
        return at_once(self.finish_in_parts())

    def finish_in_parts(self) -> Parts[State]:
        """Finish as ``finish`` does, and let the caller do something else in between."""
        assert isinstance(self.base, State), "an attempt is absorbed, not finished"
        before, after = self.base.globals, self.globals
        moved = sum(
            money_in(entry) - money_in(self.base.get(key))
            for key, entry in self.changes.items()
            if key[:1] in MONEY_KINDS
        )
        made = (after.minted - before.minted) - (after.burned - before.burned)
        assert moved == made == after.supply - before.supply, "supply is conserved"
        yield
        entries = yield from self.base.entries.update_in_parts(self.changes)
        return State(entries, {**self.base.views, **self.views})
