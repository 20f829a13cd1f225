"""A dispute begins with its accuser's turn, and says whom it waits for."""

from swarm.ledger.state.accusations import Dispute, Turn
from swarm.primitives.codec import decode, encode
from swarm.types import Height, PeerId


def test_a_dispute_survives_its_encoding() -> None:
    dispute = Dispute(
        window=2,
        accuser=PeerId(bytes(32)),
        deadline=Height(40),
        turn=Turn.ACCUSER,
        since=Height(30),
        accuser_left=120,
        solver_left=120,
    )
    assert (dispute.game, dispute.has_returned) == (b"", False)
    assert decode(Dispute, encode(dispute), limit=1000) == dispute
