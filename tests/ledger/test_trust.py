"""What a screen says of who makes blocks final."""

from swarm.ledger.trust import trust_text
from swarm.primitives.crypto import peer_name
from swarm.testing.ledger import InMemoryLedger


def test_fewer_than_four_validators_are_a_trusted_launcher() -> None:
    alone = InMemoryLedger(num_accounts=2, num_validators=1)
    name = peer_name(alone.keys[0].peer)
    assert trust_text(alone.state) == f"trusted launcher: 1 of 1 validators ({name})"
    three = InMemoryLedger(num_accounts=3, num_validators=3)
    assert trust_text(three.state).startswith("trusted launcher: 3 of 3 validators (")


def test_from_four_on_the_greatest_share_is_said() -> None:
    four = InMemoryLedger(num_accounts=4, num_validators=4)
    assert trust_text(four.state) == "4 validators, the greatest with 25% of the power"
