"""A state under construction: reads fall through, writes stay here until the block is done.

Core: one block, or one attempt at a transaction, in a draft of its own.

A draft on a draft makes an attempt free: if it fails it is dropped and nothing has changed.
"""

from dataclasses import dataclass, field

from swarm.codec import replace
from swarm.errors import InvalidStatement, Reason
from swarm.ledger.records import Account, Contribution, Entry, Globals, Run, SegmentRecord
from swarm.ledger.state import (
    NOBODY,
    Reader,
    State,
    account_key,
    contribution_key,
    money_in,
    run_key,
    segment_key,
)
from swarm.types import Amount, Height, PeerId, RoundIndex, RunIndex


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

    def put_globals(self, globals_: Globals) -> None:
        """Change what there is one of."""
        self.changes[b"g"] = globals_

    def put_account(self, peer: PeerId, account: Account) -> None:
        """Change an account."""
        assert account.balance >= 0 <= account.stake, "checked before it was spent"
        self.changes[account_key(peer)] = account

    def put_run(self, run: Run) -> None:
        """Change a run."""
        assert run.escrow >= 0, "checked before it was spent"
        self.changes[run_key(run.index)] = run

    def put_segment(self, record: SegmentRecord) -> None:
        """Add or change a segment."""
        key = segment_key(record.run, record.round, record.stage, record.seat)
        self.changes[key] = record

    def drop_segment(self, record: SegmentRecord) -> None:
        """Forget a segment."""
        self.changes[segment_key(record.run, record.round, record.stage, record.seat)] = None

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

    def drop_segments(self, run: Run, round_: RoundIndex) -> None:
        """Forget what the roster of a kept round committed."""
        for info in run.rounds:
            if info.round == round_:
                for seat in (seat for roster in info.seats for seat in roster):
                    record = self.segment(run.index, round_, seat.stage, seat.index)
                    if record is not None:
                        self.drop_segment(record)

    def finish(self) -> State:
        """The state after this block. Money was moved, never made or lost."""
        assert isinstance(self.base, State), "an attempt is absorbed, not finished"
        before, after = self.base.globals, self.globals
        moved = sum(
            money_in(entry) - money_in(self.base.get(key)) for key, entry in self.changes.items()
        )
        made = (after.minted - before.minted) - (after.burned - before.burned)
        assert moved == made == after.supply - before.supply, "supply is conserved"
        return State(self.base.entries.update(self.changes))
