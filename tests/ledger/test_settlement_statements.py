"""A statement of settlement is within its bounds, or refused before its signature is looked at."""

import pytest

from swarm.errors import BadEncoding
from swarm.ledger.settlement_statements import (
    RECOVERABLE_BYTES,
    SettlementKey,
    SettlementStatement,
    SignPayouts,
    Withdraw,
)
from swarm.ledger.transactions import parse_transaction
from swarm.testing.ledger import InMemoryLedger
from swarm.types import Amount

CONTRACT = bytes([0xC0]) * 20
PROOF = bytes(RECOVERABLE_BYTES)
OWN = bytes([0xA1]) * 20


@pytest.mark.rule("L65")
@pytest.mark.parametrize(
    "body",
    [
        Withdraw(Amount(0), OWN),
        Withdraw(Amount(1 << 63), OWN),
        Withdraw(Amount(100), OWN[1:]),
        Withdraw(Amount(100), bytes(20)),
        SettlementKey(bytes(20), PROOF, 0, b""),
        SettlementKey(OWN, PROOF[1:], 0, b""),
        SettlementKey(OWN, PROOF, 1, b""),
        SettlementKey(OWN, PROOF, 0, CONTRACT),
        SettlementKey(OWN, PROOF, 1, CONTRACT[1:]),
        SettlementKey(OWN, PROOF[:64] + b"\x02", 1, CONTRACT),
        SignPayouts(-1, PROOF),
        SignPayouts(1 << 41, PROOF),
        SignPayouts(1, PROOF + b"\0"),
    ],
)
def test_malformed_statements_of_settlement_are_refused_before_their_signature(
    body: SettlementStatement,
) -> None:
    ledger = InMemoryLedger(1)
    with pytest.raises(BadEncoding):
        parse_transaction(ledger.sign(ledger.keys[0], body))
