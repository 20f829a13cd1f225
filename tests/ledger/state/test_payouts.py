"""The log of payouts and its statements are entries like others: proved one by one, kept in a snapshot."""

import pytest

from swarm.ledger.payouts import find_log, find_statement
from swarm.ledger.settlement_statements import RECOVERABLE_BYTES, SettlementKey, Withdraw
from swarm.ledger.state.payouts import (
    LOG_KEY,
    payout_index_key,
    payout_key,
    statement_key,
    validator_key_key,
)
from swarm.ledger.state.state import audit_supply, decode_state, encode_state
from swarm.primitives.codec import encode
from swarm.primitives.merkle import verify_included
from swarm.testing.ledger import InMemoryLedger
from swarm.types import Amount

EPOCH = 10
OWN = bytes([0xA1]) * 20


def test_the_keys_of_entries_have_kinds_of_their_own() -> None:
    peer = InMemoryLedger(1).keys[0].peer
    keys = [
        LOG_KEY,
        payout_key(0),
        payout_index_key(OWN),
        validator_key_key(peer),
        statement_key(0),
    ]
    assert len({key[:1] for key in keys}) == len(keys)


@pytest.mark.rule("L67")
def test_log_and_statement_are_proved_and_kept_in_a_snapshot() -> None:
    ledger = InMemoryLedger(4, 1, epoch_blocks=EPOCH)
    key = SettlementKey(OWN, bytes(RECOVERABLE_BYTES), 31337, bytes([0xC0]) * 20)
    ledger.block(ledger.sign(ledger.keys[0], key))
    ledger.block(ledger.sign(ledger.keys[1], Withdraw(Amount(100), OWN)))
    state = ledger.empty_blocks(EPOCH - 3)
    for name in (LOG_KEY, statement_key(0)):
        entry = state.get(name)
        assert entry is not None
        verify_included(state.root, name, encode(entry), state.entries.prove(name))
    again = decode_state(encode_state(state))
    assert again.root == state.root
    assert find_log(again) == find_log(state)
    assert find_statement(again, 0) is not None
    assert audit_supply(again) == state.supply
