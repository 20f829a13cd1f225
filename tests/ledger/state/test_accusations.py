"""A dispute begins before its judges, and says whom it waits for."""

from swarm.ledger.state.accusations import Dispute, Turn
from swarm.primitives.codec import decode, encode
from swarm.types import Height


def test_a_dispute_begins_before_its_judges() -> None:
    dispute = Dispute(2, Height(40), ())
    assert (dispute.turn, dispute.game, dispute.is_tried) == (Turn.JUDGES, b"", False)
    assert decode(Dispute, encode(dispute), limit=1000) == dispute
