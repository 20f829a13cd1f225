"""Sum up one account of a ledger: what is free, locked and on its way, and where each line stands.

Core: a final state and a peer in, a row and lines out.
"""

from swarm.ledger.state.state import State, account_key
from swarm.ledger.transition.validators import locked_stake
from swarm.primitives.codec import Document
from swarm.primitives.crypto import peer_name, peer_text
from swarm.types import PeerId


class PartRow(Document, frozen=True):
    """A part of a stake on its way back."""

    amount: int
    height: int
    """Height from which on it is balance again."""


class WorkRow(Document, frozen=True):
    """Pay of this peer for its work in one run."""

    run: str
    earned: int
    """Paid so far, less what was taken back."""
    pending: int
    """Held by segments that are not judged yet."""
    segments: int
    verified: int


class WalletRow(Document, frozen=True):
    """One account."""

    peer: str
    name: str
    entry: str
    """Key of the account's entry in the state, as hex: what a proof is asked for by."""
    height: int
    balance: int
    stake: int
    locked: int
    """Part of the stake that cannot be taken back: it votes now or in the next epoch, or was earned as a
    volunteer.
    """
    unbonding: tuple[PartRow, ...]
    work: tuple[WorkRow, ...]


def wallet_row(state: State, peer: PeerId) -> WalletRow:
    """Return the account of a peer; one that the ledger does not have is empty."""
    account = state.account(peer)
    parts = tuple(PartRow(part.amount, part.release_height) for part in account.unbonding)
    held: dict[int, int] = {}
    for record in state.live_segments():
        if record.peer == peer:
            held[record.run] = held.get(record.run, 0) + record.held
    runs = ((run, state.contribution(run.index, peer)) for run in state.runs())
    work = tuple(
        WorkRow(run.spec.name, done.earned, held.get(run.index, 0), done.segments, done.verified)
        for run, done in runs
        if done.segments or done.earned or held.get(run.index)
    )
    return WalletRow(
        peer=peer_text(peer),
        name=peer_name(peer),
        entry=account_key(peer).hex(),
        height=state.height,
        balance=account.balance,
        stake=account.stake,
        locked=locked_stake(state, peer),
        unbonding=parts,
        work=work,
    )


def wallet_lines(row: WalletRow) -> list[str]:
    """Return the account as text, one line for each sum."""
    locked = f", {row.locked:,} of it locked" if row.locked else ""
    lines = [
        f"{row.name}, at height {row.height}",
        f"balance    {row.balance:,}",
        f"stake      {row.stake:,}{locked}",
    ]
    lines += [
        f"unbonding  {part.amount:,}, balance again from block {part.height:,} on"
        for part in row.unbonding
    ]
    lines += [
        f"earned     {one.earned:,} in {one.run}: {one.segments} segments, {one.verified} verified;"
        f" {one.pending:,} waits for a verdict"
        for one in row.work
    ]
    return [*lines, f"entry      {row.entry}"]
