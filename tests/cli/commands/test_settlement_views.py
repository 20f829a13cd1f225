"""What the ledger has stated and what the contract holds, as rows and as lines."""

import pytest

from swarm.cli.commands.settlement_views import (
    contract_lines,
    contract_row,
    ether,
    settlement_lines,
    settlement_row,
)
from swarm.ledger.settle.plan import SLOTS, ContractState, parse_slot
from swarm.ledger.settlement_statements import SettlementKey, SignPayouts, Withdraw
from swarm.ledger.state.payouts import SettlementTarget
from swarm.testing.ledger import InMemoryLedger
from swarm.types import NO_DIGEST, Amount, Digest

OWN, CONTRACT = bytes([0xA1]) * 20, bytes([0xC0]) * 20


def test_a_network_without_a_contract_says_how_one_is_agreed_on() -> None:
    row = settlement_row(InMemoryLedger(1).state)
    assert (row.contract, row.payouts, row.locked, row.statements) == ("", 0, 0, ())
    assert "settles on no contract" in settlement_lines(row)[0]


def test_what_is_locked_and_who_has_signed_is_shown() -> None:
    ledger = InMemoryLedger(4, 1, epoch_blocks=10)
    for number, body in (
        (0, SettlementKey(OWN, bytes(65), 31337, CONTRACT)),
        (1, Withdraw(Amount(1_500), OWN)),
    ):
        ledger.block(ledger.sign(ledger.keys[number], body))
    ledger.empty_blocks(7)
    ledger.block(ledger.sign(ledger.keys[0], SignPayouts(0, bytes(65))))
    lines = settlement_lines(settlement_row(ledger.state))
    assert lines == [
        f"contract  0x{'c0' * 20} on chain 31337",
        "payouts   1, 1,500 units locked for them",
        "epoch 0: 1 payouts, 1 signatures, 1 signers of the next",
    ]


def test_the_roots_of_a_contract_are_shown_with_the_time_they_wait() -> None:
    meta = 1_000 | 7 << 36 | 1 << 95 | int.from_bytes(OWN, "big") << 96
    slots = [parse_slot(0, bytes([1]) * 32, meta), parse_slot(1, bytes([2]) * 32, meta ^ 1 << 95)]
    empty = [parse_slot(index, NO_DIGEST, 0) for index in range(2, SLOTS)]
    view = ContractState(
        target=SettlementTarget(1, CONTRACT),
        ledger=Digest(bytes(32)),
        window_s=3_600,
        bond_wei=10**16,
        unit_wei=10**9,
        next_epoch=8,
        era=2,
        num_bonds=1,
        members=Digest(bytes(32)),
        slots=(*slots, *empty),
        balance_wei=10**18 + 10**16,
        now_s=2_000,
    )
    assert contract_lines(contract_row(view)) == [
        "funds     1 ETH, 1,000,000,000 wei for a unit; era 2",
        "posting   a bond of 0.01 ETH, back after 3,600 s",
        "slot 0    epoch 7: can be claimed from in 2,600 s, bond held",
        "slot 1    epoch 7: can be claimed from in 2,600 s",
    ]


@pytest.mark.parametrize(
    ("wei", "text"), [(0, "0 ETH"), (1, "0.000000000000000001 ETH"), (15 * 10**17, "1.5 ETH")]
)
def test_ether_is_exact(wei: int, text: str) -> None:
    assert ether(wei) == text
