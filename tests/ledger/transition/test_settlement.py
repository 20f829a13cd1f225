"""Validators agree on one contract; what is withdrawn to it is locked once, and stated at the end of epochs."""

import pytest

from swarm.errors import InvalidStatement, Reason
from swarm.ledger.payouts import (
    find_key,
    find_log,
    find_payout,
    find_statement,
    newest_payout,
    payout_leaf,
    prove_payout,
)
from swarm.ledger.settlement_statements import (
    RECOVERABLE_BYTES,
    SettlementKey,
    SignPayouts,
    Withdraw,
)
from swarm.ledger.state.payouts import STATEMENTS_KEPT, PayoutLog, PayoutStatement
from swarm.ledger.state.state import State, audit_supply
from swarm.ledger.transactions import Body, Stake, Validate
from swarm.ledger.transition.prices import sufficient_fee
from swarm.ledger.transition.settlement import least_withdrawal
from swarm.primitives.merkle import merkle_root, sha256_hash, verify_proof
from swarm.testing.ledger import STAKE, InMemoryLedger
from swarm.types import Amount

EPOCH = 10
CONTRACT = bytes([0xC0]) * 20
PROOF = bytes(RECOVERABLE_BYTES)
OWN = bytes([0xA1]) * 20
OTHER = bytes([0xA2]) * 20


def address_of(number: int) -> bytes:
    return bytes([1 + number]) * 20


def key_of(number: int, contract: bytes = CONTRACT, evm_chain: int = 31337) -> SettlementKey:
    return SettlementKey(address_of(number), PROOF, evm_chain if contract else 0, contract)


def a_network(num_validators: int = 4, *agreed: int) -> InMemoryLedger:
    ledger = InMemoryLedger(8, num_validators, epoch_blocks=EPOCH)
    for number in agreed:
        submit(ledger, number, key_of(number))
    return ledger


def submit(ledger: InMemoryLedger, number: int, body: Body) -> State:
    return ledger.block(ledger.sign(ledger.keys[number], body))


def refused(ledger: InMemoryLedger, number: int, body: Body) -> Reason:
    root = ledger.state.root
    with pytest.raises(InvalidStatement) as caught:
        submit(ledger, number, body)
    assert ledger.state.root == root, "nothing has changed"
    return caught.value.reason


def end_epoch(ledger: InMemoryLedger) -> State:
    """Make blocks up to the last one of this epoch."""
    return ledger.empty_blocks(EPOCH - 1 - ledger.state.height % EPOCH or EPOCH)


def the_log(state: State) -> PayoutLog:
    log = find_log(state)
    assert log is not None
    return log


def newest(state: State) -> PayoutStatement:
    statement = find_statement(state, the_log(state).statements[-1])
    assert statement is not None
    return statement


@pytest.mark.rule("L66")
def test_more_than_two_thirds_of_the_power_agree_on_one_contract_for_good() -> None:
    ledger = a_network(4, 0, 1)
    assert find_log(ledger.state) is None, "two of four are not enough"
    submit(ledger, 2, key_of(2, contract=OTHER))
    assert find_log(ledger.state) is None, "nor is a third one that names another"
    submit(ledger, 2, key_of(2))
    assert the_log(ledger.state).target.contract == CONTRACT
    assert refused(ledger, 3, key_of(3, contract=OTHER)) is Reason.WRONG_PHASE
    assert refused(ledger, 3, key_of(3, evm_chain=1)) is Reason.WRONG_PHASE
    assert refused(ledger, 2, key_of(2)) is Reason.DUPLICATE
    assert refused(ledger, 5, key_of(5)) is Reason.WRONG_PEER, "it does not validate"


@pytest.mark.rule("L66")
def test_a_key_may_be_registered_before_there_is_a_contract() -> None:
    ledger = a_network(1)
    submit(ledger, 0, key_of(0, contract=b""))
    found = find_key(ledger.state, ledger.keys[0].peer)
    assert found is not None
    assert found.target is None
    assert find_log(ledger.state) is None
    submit(ledger, 0, key_of(0))
    assert the_log(ledger.state).count == 0


@pytest.mark.rule("L65")
def test_a_network_that_settles_nothing_stores_nothing_for_it() -> None:
    ledger = a_network(1)
    assert refused(ledger, 1, Withdraw(Amount(100), OWN)) is Reason.WRONG_PHASE
    assert refused(ledger, 0, SignPayouts(0, PROOF)) is Reason.WRONG_PHASE
    end_epoch(ledger)
    keys = {key[:1] for key, _ in ledger.state.entries.items()}
    assert not keys & {b"P", b"L", b"W", b"K", b"F"}


@pytest.mark.rule("L65")
def test_a_withdrawal_is_locked_once_and_adds_up_per_address() -> None:
    ledger = a_network(1, 0)
    supply, before = ledger.state.supply, ledger.state.account(ledger.keys[1].peer).balance
    submit(ledger, 1, Withdraw(Amount(100), OWN))
    submit(ledger, 2, Withdraw(Amount(50), OTHER))
    state = submit(ledger, 3, Withdraw(Amount(25), OWN))
    fee = sufficient_fee(state.params, Withdraw(Amount(100), OWN))
    assert state.account(ledger.keys[1].peer).balance == before - 100 - fee
    assert (the_log(state).count, the_log(state).locked) == (3, 175)
    assert state.supply == supply == audit_supply(state)
    found = newest_payout(state, OWN, 3)
    assert found is not None
    assert (found[0], found[1].total, found[1].previous) == (2, 125, 0)
    earlier = newest_payout(state, OWN, 2)
    assert earlier is not None
    assert (earlier[0], earlier[1].total) == (0, 100)
    assert newest_payout(state, OTHER, 1) is None
    assert newest_payout(state, address_of(9), 3) is None


@pytest.mark.rule("L65")
def test_dust_and_what_is_not_there_cannot_be_withdrawn() -> None:
    ledger = a_network(1, 0)
    least = least_withdrawal(ledger.state.params)
    assert refused(ledger, 1, Withdraw(Amount(least - 1), OWN)) is Reason.BALANCE
    balance = ledger.state.account(ledger.keys[1].peer).balance
    assert refused(ledger, 1, Withdraw(balance, OWN)) is Reason.BALANCE, "the fee is missing"
    submit(ledger, 1, Withdraw(least, OWN))


@pytest.mark.rule("L67")
def test_an_epoch_ends_in_a_statement_of_what_was_withdrawn_before_its_last_block() -> None:
    ledger = a_network(1, 0)
    submit(ledger, 1, Withdraw(Amount(100), OWN))
    end_epoch(ledger)
    statement = newest(ledger.state)
    assert (statement.epoch, statement.count) == (0, 1)
    assert statement.root == merkle_root([payout_leaf(OWN, 100)], sha256_hash)
    assert [member.address for member in statement.members] == [address_of(0)]
    end_epoch(ledger)
    assert newest(ledger.state) == statement, "nothing has changed, so there is nothing to sign"
    for amount in (10_000, 20_000, 30_000):
        submit(ledger, 2, Withdraw(Amount(amount), OTHER))
    end_epoch(ledger)
    later = newest(ledger.state)
    assert (later.epoch, later.count) == (2, 4)
    leaf = payout_leaf(OWN, 100)
    for stated in (statement, later):  # both can be proved from the newest state
        path = prove_payout(ledger.state, 0, stated.count)
        verify_proof(stated.root, leaf, 0, stated.count, path, sha256_hash)


@pytest.mark.rule("L67")
def test_signers_are_handed_over_only_by_more_than_two_thirds_of_the_validators() -> None:
    ledger = a_network(1, 0)
    end_epoch(ledger)
    alone = newest(ledger.state).members
    for number in (1, 2, 3, 4):
        submit(ledger, number, Stake(Amount(number)))
        submit(ledger, number, Validate(is_on=True))
    ledger.empty_blocks(2 * EPOCH)
    assert len(ledger.state.validators) == 5
    end_epoch(ledger)
    assert newest(ledger.state).members == alone, "one of five would be a minority"
    for number in (1, 2):
        submit(ledger, number, key_of(number))
    end_epoch(ledger)
    assert newest(ledger.state).members == alone, "so would be three of five"
    submit(ledger, 3, key_of(3))
    end_epoch(ledger)
    members = newest(ledger.state).members
    assert [member.address for member in members] == [address_of(n) for n in range(4)]
    powers = {validator.peer: validator.power for validator in ledger.state.validators}
    assert [member.power for member in members] == [powers[ledger.keys[n].peer] for n in range(4)]


@pytest.mark.rule("L67")
def test_who_names_the_key_of_another_gives_its_power_away() -> None:
    ledger = a_network(4, 0, 1)
    stolen = SettlementKey(address_of(0), PROOF, 31337, CONTRACT)
    submit(ledger, 2, stolen)
    end_epoch(ledger)
    members = newest(ledger.state).members
    assert [(m.address, m.power) for m in members] == [
        (address_of(0), 2 * STAKE),
        (address_of(1), STAKE),
    ]
    submit(ledger, 2, SignPayouts(0, PROOF))
    submit(ledger, 0, SignPayouts(0, PROOF))  # the thief's name does not keep the owner out


@pytest.mark.rule("L68")
def test_a_validator_signs_a_statement_once_and_nobody_else_does() -> None:
    ledger = a_network(4, 0, 1, 2)
    submit(ledger, 5, Withdraw(Amount(100), OWN))
    end_epoch(ledger)
    submit(ledger, 0, SignPayouts(0, PROOF))
    assert refused(ledger, 0, SignPayouts(0, PROOF)) is Reason.DUPLICATE
    assert refused(ledger, 1, SignPayouts(1, PROOF)) is Reason.EXPIRED
    assert refused(ledger, 3, SignPayouts(0, PROOF)) is Reason.WRONG_PEER, "it has no key"
    assert refused(ledger, 5, SignPayouts(0, PROOF)) is Reason.WRONG_PEER
    submit(ledger, 3, key_of(3))
    submit(ledger, 3, SignPayouts(0, PROOF))
    peers = [one.peer for one in find_statement(ledger.state, 0).signatures]  # type: ignore[union-attr]
    assert peers == [ledger.keys[0].peer, ledger.keys[3].peer]


@pytest.mark.rule("L68")
def test_who_replaced_its_key_signs_with_both_and_not_with_three() -> None:
    ledger = a_network(1, 0)
    end_epoch(ledger)
    submit(ledger, 0, SettlementKey(OTHER, PROOF, 31337, CONTRACT))
    end_epoch(ledger)
    assert [member.address for member in newest(ledger.state).members] == [OTHER]
    for last in (b"\x00", b"\x01"):
        submit(ledger, 0, SignPayouts(1, PROOF[:64] + last))
    third = SignPayouts(1, bytes([1]) * 64 + b"\x00")
    assert refused(ledger, 0, third) is Reason.DUPLICATE


@pytest.mark.rule("L68")
def test_who_validates_no_more_signs_what_the_contract_waits_for() -> None:
    ledger = a_network(5, 0, 1, 2, 3, 4)
    end_epoch(ledger)
    submit(ledger, 4, Validate(is_on=False))
    ledger.empty_blocks(5 * EPOCH)
    council = ledger.state.council
    voters = {v.peer for v in (*council.previous, *council.current, *council.next)}
    assert ledger.keys[4].peer not in voters
    statement = newest(ledger.state)
    assert address_of(4) not in {member.address for member in statement.members}
    submit(ledger, 4, SignPayouts(statement.epoch, PROOF))
    assert newest(ledger.state).signatures[0].peer == ledger.keys[4].peer


@pytest.mark.rule("L68")
def test_the_newest_statements_are_kept_and_a_former_signer_still_signs_them() -> None:
    ledger = a_network(1, 0)
    for _ in range(STATEMENTS_KEPT + 3):
        submit(ledger, 1, Withdraw(Amount(20), OWN))
        end_epoch(ledger)
    log = the_log(ledger.state)
    assert list(log.statements) == list(range(3, STATEMENTS_KEPT + 3))
    assert find_statement(ledger.state, 2) is None
    assert refused(ledger, 0, SignPayouts(2, PROOF)) is Reason.EXPIRED
    submit(ledger, 0, SignPayouts(3, PROOF))
    payout = find_payout(ledger.state, 0)
    assert payout is not None
    assert payout.total == 20, "a leaf never changes"
