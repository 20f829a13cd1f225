"""Golden vectors of the ledger's entries: one of each kind out of a history with a dispute and a checkpoint."""

from swarm.ledger.blocks import NOTARIZE
from swarm.ledger.consensus.journal import ProposalRecord, VoteRecord
from swarm.ledger.consensus.memory import VoteMark
from swarm.ledger.consensus.votes import Proposal, Vote
from swarm.ledger.state.records import Checkpoint, SegmentPhase, SegmentRecord
from swarm.ledger.state.runs import checkpoint_key
from swarm.ledger.state.shares import Backing, RunShares, backing_key, shares_key
from swarm.ledger.state.state import encode_state
from swarm.ledger.state.storage import Holder, Storage, storage_key
from swarm.primitives.codec import Message
from swarm.primitives.crypto import digest
from swarm.testing.ledger import numbered_key
from swarm.types import Digest, Height, RoundIndex, View
from tests.ledger.checking import Case, a_case

CHECKPOINT = Checkpoint(
    round=RoundIndex(8),
    phi_root=digest("phi", b""),
    phi_bytes=400,
    peer=numbered_key(2).peer,
    seat=3,
    height=Height(50),
    is_void=False,
)

STORAGE = Storage(
    holders=(Holder(numbered_key(3).peer, Height(52), Height(55), Height(61)),),
    passed=(numbered_key(4).peer,),
    asked=Height(60),
    seed=digest("beacon", b""),
    due=Height(120),
    unheld=Height(0),
)


def disputed() -> Case:
    """One window of a segment is false, its verifiers say so, and one of them has opened."""
    case = a_case(lie=0, num_accounts=6)
    windows = case.up_to_reveal()
    case.show(windows)
    case.wait(SegmentPhase.DISPUTED)
    case.move(case.accuser, b"open")
    return case


def entries() -> dict[bytes, Message]:
    """Return one entry of each kind, by its key; of segments the one in dispute."""
    case, found = disputed(), dict[str, tuple[bytes, Message]]()
    for key, entry in sorted(case.ledger.state.entries.items()):
        is_disputed = isinstance(entry, SegmentRecord) and entry.phase is SegmentPhase.DISPUTED
        if type(entry).__name__ not in found or is_disputed:
            found[type(entry).__name__] = key, entry
    kept = dict(found.values())
    index, heir = case.run.index, numbered_key(2).peer
    return {
        **kept,
        checkpoint_key(index, 1, CHECKPOINT.round): CHECKPOINT,
        storage_key(index, 1, CHECKPOINT.round): STORAGE,
        shares_key(index): RunShares(total=12_000, turn=1),
        backing_key(index, 1, heir): Backing(shares=7_000),
    }


def snapshot() -> tuple[Digest, bytes]:
    """Return the root of that history's state, and its encoding."""
    state = disputed().ledger.state
    return state.root, encode_state(state)


def signed_records() -> list[Message]:
    """Return what a validator keeps of its votes: in the vote log, and beside the database."""
    block, _ = disputed().ledger.links[0]
    vote = Vote(NOTARIZE, View(5), digest("block", b""), 2, bytes(range(64)))
    records = [
        VoteRecord(3, vote, None),
        VoteRecord(3, vote, block),
        ProposalRecord(3, Proposal(View(5), block, (), bytes(range(64)))),
    ]
    return [*records, VoteMark(12_345, 7, digest("entry", b""), -1)]
