"""What must be durable comes first, and each validator gets one letter with nothing twice."""

from swarm.ledger.consensus.journal import VoteRecord
from swarm.ledger.consensus.simplex import Behind, Effect, Save, Send, batches_of, records_of
from swarm.ledger.consensus.votes import Request, Vote
from swarm.types import NO_DIGEST, View

VOTE = Vote(1, View(3), NO_DIGEST, 0, b"")
ASK = Request(View(3))
EFFECTS: list[Effect] = [
    Save(VoteRecord(0, VOTE, None)),
    Send(None, VOTE),
    Behind(View(9)),
    Send(2, ASK),
    Send(2, VOTE),
    Send(None, ASK),
]


def test_every_other_validator_gets_one_batch_in_order() -> None:
    assert batches_of(EFFECTS, me=0, count=3) == {1: [VOTE, ASK], 2: [VOTE, ASK]}


def test_records_are_found_wherever_they_stand() -> None:
    assert records_of(EFFECTS[::-1]) == [VoteRecord(0, VOTE, None)]
    assert batches_of([], me=0, count=3) == {}
