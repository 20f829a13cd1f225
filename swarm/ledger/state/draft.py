"""A state under construction: reads fall through, writes stay here until the block is done.

Core: one block, or one attempt at a transaction, in a draft of its own.

A draft on a draft makes an attempt free: if it fails it is dropped and nothing has changed.

How the segments of a run were judged, counted while their records come and go.

pure functions of records.

A record is forgotten with its challenge window, and its verdict stays in the count. A segment that is accused
again after its verdict is counted nowhere until there is another.
"""

from dataclasses import dataclass, field

from swarm.errors import InvalidStatement, Reason
from swarm.ledger.state.records import (
    CONVICTIONS_KEPT,
    Account,
    ChainState,
    CheckPhase,
    Contribution,
    Conviction,
    DueQueue,
    Entry,
    RoundInfo,
    Run,
    SegmentPhase,
    SegmentRecord,
    Unbonding,
    Verdicts,
)
from swarm.ledger.state.state import (
    MONEY_KINDS,
    NOBODY,
    Reader,
    State,
    account_key,
    agenda_key,
    contribution_key,
    money_in,
    round_key,
    run_key,
    segment_key,
    verdicts_key,
)
from swarm.primitives.codec import replace
from swarm.types import Amount, Height, PeerId, RoundIndex, RunIndex

JUDGED = frozenset(
    {
        SegmentPhase.VERIFIED,
        SegmentPhase.CLEARED,
        SegmentPhase.UNSAMPLED,
        SegmentPhase.SILENT,
        SegmentPhase.GUILTY,
    }
)
"""The phases that are counted; a count bears the name of its phase."""


def is_confirmed(record: SegmentRecord) -> bool:
    """Whether the replay of another peer agreed with what the solver has shown, and it stands."""
    stands = record.phase in {SegmentPhase.VERIFIED, SegmentPhase.CLEARED}
    return stands and any(check.phase is CheckPhase.AGREED for check in record.checks)


def recounted(
    verdicts: Verdicts, before: SegmentRecord, after: SegmentRecord, height: Height
) -> Verdicts:
    """The counts after a segment went from one phase to another."""
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
    """Who made the block, and gets its fees."""
    changes: dict[bytes, Entry | None] = field(default_factory=dict[bytes, Entry | None])

    def get(self, key: bytes) -> Entry | None:
        """The entry as it is now."""
        return self.changes[key] if key in self.changes else self.base.get(key)

    def attempt(self) -> "Draft":
        """A draft on this one."""
        return Draft(self, self.leader)

    def absorb(self, attempt: "Draft") -> None:
        """Take over the changes of an attempt on this draft."""
        self.changes.update(attempt.changes)

    @property
    def height(self) -> Height:
        """The height of the block under construction."""
        return self.globals.height

    def put_globals(self, globals_: ChainState) -> None:
        """Change what there is one of."""
        self.changes[b"g"] = globals_

    def put_account(self, peer: PeerId, account: Account) -> None:
        """Change an account."""
        assert account.balance >= 0 <= account.stake, "checked before it was spent"
        globals_, had_stake = self.globals, self.account(peer).stake > 0
        if account.stake and not had_stake:
            account = replace(account, staked_height=globals_.height)
        if (account.stake > 0) != had_stake:
            step = 1 if account.stake else -1
            self.put_globals(replace(globals_, num_staked=globals_.num_staked + step))
        self.changes[account_key(peer)] = account

    def put_run(self, run: Run) -> None:
        """Change a run."""
        assert run.escrow >= 0, "checked before it was spent"
        self.changes[run_key(run.index)] = run

    def put_round(self, run: RunIndex, info: RoundInfo, due: Height) -> None:
        """Keep a round that is frozen now, or keep it longer: until ``due``."""
        assert due > self.height, "what is due now is done now"
        self.changes[round_key(run, info.round)] = info
        agenda = self.agenda(due)
        rounds = (*agenda.rounds, (run, info.round))
        self.changes[agenda_key(due)] = replace(agenda, rounds=rounds)

    def drop_round(self, run: RunIndex, round_: RoundIndex) -> None:
        """Forget a round of which no segment is left."""
        self.changes[round_key(run, round_)] = None

    def put_segment(self, record: SegmentRecord) -> None:
        """Add or change a segment, count its verdict, and note when it is due."""
        assert record.held >= 0, "checked before it was paid"
        place = (record.run, record.round, record.stage, record.seat)
        before = self.segment(*place)
        self.changes[segment_key(*place)] = record
        if before is not None and before.phase is not record.phase:
            verdicts = recounted(self.verdicts(record.run), before, record, self.height)
            self.changes[verdicts_key(record.run)] = verdicts
        if before is None or before.due != record.due:
            assert record.due > self.height, "what is due now is done now"
            agenda = self.agenda(record.due)
            noted = replace(agenda, segments=(*agenda.segments, place))
            self.changes[agenda_key(record.due)] = noted
            if record.due > self.globals.last_due:
                self.put_globals(replace(self.globals, last_due=record.due))

    def drop_segment(self, record: SegmentRecord) -> None:
        """Forget a segment, which holds no money any more."""
        self.changes[segment_key(record.run, record.round, record.stage, record.seat)] = None

    def take_agenda(self) -> tuple[tuple[SegmentRecord, ...], DueQueue]:
        """The segments with something due now, and all that was noted, which is forgotten."""
        height = self.height
        agenda = self.agenda(height)
        found = (self.segment(*place) for place in dict.fromkeys(agenda.segments))
        due = tuple(record for record in found if record is not None and record.due == height)
        if self.get(agenda_key(height)) is not None:
            self.changes[agenda_key(height)] = None
        return due, agenda

    def put_contribution(self, run: RunIndex, peer: PeerId, contribution: Contribution) -> None:
        """Change what a peer has done for a run."""
        self.changes[contribution_key(run, peer)] = contribution

    def live_account(self, peer: PeerId) -> Account:
        """A peer's account with what has unbonded by now back in its balance."""
        account, height = self.account(peer), self.height
        if not any(part.release_height <= height for part in account.unbonding):
            return account
        freed = sum(part.amount for part in account.unbonding if part.release_height <= height)
        left = tuple(part for part in account.unbonding if part.release_height > height)
        return replace(account, balance=Amount(account.balance + freed), unbonding=left)

    def has_account(self, peer: PeerId) -> bool:
        """Whether the ledger has heard of a peer."""
        return self.get(account_key(peer)) is not None

    def credit(self, peer: PeerId, amount: int) -> None:
        """Add to a balance; 0 creates the account if there is none."""
        account = self.live_account(peer)
        if amount or account is NOBODY:
            self.put_account(peer, replace(account, balance=Amount(account.balance + amount)))

    def debit(self, peer: PeerId, amount: int) -> None:
        """Take from a balance; raise ``InvalidStatement`` if it is too low."""
        account = self.live_account(peer)
        if account.balance < amount:
            raise InvalidStatement(Reason.BALANCE, f"{account.balance} where {amount} is needed")
        if amount:
            self.put_account(peer, replace(account, balance=Amount(account.balance - amount)))

    def take_stake(self, peer: PeerId, percent: int) -> Amount:
        """Take a part of a peer's stake, what is on its way back included; the caller says where it goes."""
        account = self.live_account(peer)
        at_risk = account.stake + sum(part.amount for part in account.unbonding)
        taken = at_risk * percent // 100
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

    def burn(self, amount: int) -> None:
        """Destroy money that was taken from somebody."""
        globals_ = self.globals
        burned, supply = Amount(globals_.burned + amount), Amount(globals_.supply - amount)
        self.put_globals(replace(globals_, burned=burned, supply=supply))

    def finish(self) -> State:
        """The state after this block. Money was moved, never made or lost."""
        assert isinstance(self.base, State), "an attempt is absorbed, not finished"
        before, after = self.base.globals, self.globals
        moved = sum(
            money_in(entry) - money_in(self.base.get(key))
            for key, entry in self.changes.items()
            if key[:1] in MONEY_KINDS
        )
        made = (after.minted - before.minted) - (after.burned - before.burned)
        assert moved == made == after.supply - before.supply, "supply is conserved"
        return State(self.base.entries.update(self.changes))
