"""Keep the log of a validator's votes and proposals, hash-chained so that a gap shows.

Core: entries in, table changes out; the shell makes them durable before anything they cover is sent.

    base -> entry -> entry -> ... -> head        every arrow is a hash

The head and the base are rows of their own. A row that is missing, altered or added breaks the chain. A node
whose vote log is broken must not vote: it could contradict a vote it has forgotten.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from swarm.errors import BadEncoding, Corrupt
from swarm.ledger.blocks import FINALIZE, NULLIFY, Block, Certificate
from swarm.ledger.consensus.votes import Proposal, Vote
from swarm.primitives.codec import Message, decode, encode
from swarm.primitives.crypto import digest
from swarm.types import NO_DIGEST, Digest, View

TABLE = "journal"
HEAD_KEY = b"head"
BASE_KEY = b"base"
Change = tuple[str, bytes, bytes | None]
Place = tuple[int, View]
"""An epoch and a view of it, in which places are ordered."""


class VoteRecord(Message, frozen=True, tag=1):
    """A vote of this validator, with the block of a notarize vote, which it must then be able to supply."""

    epoch: int
    vote: Vote
    block: Block | None


class ProposalRecord(Message, frozen=True, tag=2):
    """A proposal of this validator."""

    epoch: int
    proposal: Proposal


Record = VoteRecord | ProposalRecord


class Entry(Message, frozen=True):
    """One record, with its number and the digest of the entry before it."""

    number: int
    previous: Digest
    record: Record


class Mark(Message, frozen=True):
    """Start or end of the hash chain: the number and digest of an entry."""

    number: int
    entry: Digest


@dataclass(slots=True)
class Journal:
    """Vote log in memory; its methods return the table changes that make it durable."""

    base: Mark
    head: Mark
    entries: list[tuple[int, Place, Digest]]
    records: list[Record]
    """Records as loaded; ``append`` does not extend this list."""

    @classmethod
    def empty(cls) -> "Journal":
        """Return a log without entries."""
        return cls.after(0)

    @classmethod
    def after(cls, number: int) -> "Journal":
        """Return a log without entries that goes on behind entry ``number``, of which nothing is left."""
        mark = Mark(number, NO_DIGEST)
        return cls(mark, mark, [], [])

    def opening(self) -> list[Change]:
        """Return the changes that create the log on disk."""
        return [
            (TABLE, BASE_KEY, encode(self.base)),
            (TABLE, HEAD_KEY, encode(self.head)),
        ]

    def append(self, record: Record) -> list[Change]:
        """Append one record; return the changes, head included, to write in one transaction."""
        entry = Entry(self.head.number + 1, self.head.entry, record)
        data = encode(entry)
        name = _entry_digest(data)
        self.head = Mark(entry.number, name)
        self.entries.append((entry.number, _place_of(record), name))
        return [
            (TABLE, _entry_key(entry.number), data),
            (TABLE, HEAD_KEY, encode(self.head)),
        ]

    def prune(self, epoch: int, view: View) -> list[Change]:
        """Forget the oldest entries, of views up to ``view`` of ``epoch`` and before; return the changes."""
        count = 0
        while count < len(self.entries) and self.entries[count][1] <= (epoch, view):
            count += 1
        if not count:
            return []
        gone, self.entries = self.entries[:count], self.entries[count:]
        self.base = Mark(gone[-1][0], gone[-1][2])
        changes: list[Change] = [(TABLE, _entry_key(number), None) for number, _, _ in gone]
        return [*changes, (TABLE, BASE_KEY, encode(self.base))]


def load_journal(rows: Sequence[tuple[bytes, bytes]]) -> Journal:
    """Read the journal table; no rows at all is an empty log.

    Raises ``Corrupt`` if a row is missing, altered or out of order.
    """
    table = dict(rows)
    if not table:
        return Journal.empty()
    try:
        base = decode(Mark, table.pop(BASE_KEY))
        head = decode(Mark, table.pop(HEAD_KEY))
        journal, last = Journal(base, head, [], []), base.entry
        for number in range(base.number + 1, head.number + 1):
            data = table.pop(_entry_key(number))
            entry = decode(Entry, data)
            if entry.number != number or entry.previous != last:
                raise _broken(f"entry {number} does not follow the one before it")
            last = _entry_digest(data)
            journal.entries.append((number, _place_of(entry.record), last))
            journal.records.append(entry.record)
    except KeyError as missing:
        raise _broken(f"row {missing} is missing") from None
    except BadEncoding as error:
        raise _broken(str(error)) from None
    if last != head.entry or table:
        raise _broken("it does not end where its head says")
    return journal


def unsettled(
    records: Sequence[Record], epoch: int, final: View
) -> tuple[list[Vote], dict[View, Proposal], list[Block]]:
    """Return votes and proposals in views of ``epoch`` after ``final``, and the blocks recorded with them."""
    records = [r for r in records if r.epoch == epoch and _place_of(r)[1] > final]
    voted = [r for r in records if isinstance(r, VoteRecord)]
    kept = [r.block for r in voted if r.block is not None]
    ours = {r.proposal.view: r.proposal for r in records if isinstance(r, ProposalRecord)}
    return [r.vote for r in voted], ours, kept + [proposal.block for proposal in ours.values()]


class VoteLog:
    """Votes of this validator in the views that are not final, and the votes they still allow."""

    def __init__(self) -> None:
        self._votes: dict[View, dict[int, Vote]] = {}

    def add(self, vote: Vote) -> None:
        """Record a vote."""
        self._votes.setdefault(vote.view, {})[vote.kind] = vote

    def has(self, kind: int, view: View) -> bool:
        """Return True if this validator voted with ``kind`` in ``view``."""
        return kind in self._votes.get(view, {})

    def allow(self, kind: int, view: View) -> bool:
        """Return True if earlier votes allow this one: one of a kind, never both nullify and finalize."""
        rival = {NULLIFY: FINALIZE, FINALIZE: NULLIFY}.get(kind, kind)
        return not self.has(kind, view) and not self.has(rival, view)

    def lack(self, certificate: Certificate, me: int) -> bool:
        """Return True if a certificate holds a vote of this validator that is not recorded here."""
        ours = self._votes.get(certificate.view, {}).get(certificate.kind)
        is_known = ours is not None and ours.block == certificate.block
        return bool(certificate.bitmap >> me & 1) and not is_known

    def in_view(self, view: View) -> list[Vote]:
        """Return this validator's votes in a view, by kind."""
        return [vote for _, vote in sorted(self._votes.get(view, {}).items())]

    def views(self) -> list[View]:
        """Return the views in which this validator voted."""
        return sorted(self._votes)

    def prune(self, floor: View) -> None:
        """Forget the views up to ``floor``: they are final."""
        self._votes = {view: votes for view, votes in self._votes.items() if view > floor}


def _place_of(record: Record) -> Place:
    match record:
        case VoteRecord(epoch, vote):
            return epoch, vote.view
        case ProposalRecord(epoch, proposal):
            return epoch, proposal.view


def _entry_key(number: int) -> bytes:
    return number.to_bytes(8, "big")


def _entry_digest(data: bytes) -> Digest:
    return digest("journal-entry", data)


def _broken(cause: str) -> Corrupt:
    return Corrupt(
        f"the journal of this validator's votes is damaged: {cause}",
        hint="a node that runs begins a new one, and votes from the next epoch on",
    )
