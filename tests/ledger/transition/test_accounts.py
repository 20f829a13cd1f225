"""Nonces are used once, money is spent once, stake comes back after its time."""

import pytest

from swarm.errors import InvalidStatement, Reason
from swarm.ledger.check_statements import HEIGHT_MAX
from swarm.ledger.state.draft import Draft
from swarm.ledger.transactions import Body, Join, Stake, Transfer, Unstake
from swarm.ledger.transition.accounts import (
    NONCE_WINDOW,
    UNBONDING_PARTS_MAX,
    unstake,
)
from swarm.ledger.transition.prices import offered_fee, required_fee, sufficient_fee
from swarm.primitives.codec import replace
from swarm.testing.ledger import BALANCE, STAKE, InMemoryLedger, small_run_spec
from swarm.types import Amount

GIFT = Transfer(InMemoryLedger().keys[2].peer, Amount(1))


def refused(stage: InMemoryLedger, body: Body, **envelope: int) -> Reason:
    root = stage.state.root
    with pytest.raises(InvalidStatement) as caught:
        stage.block(stage.sign(stage.keys[1], body, **envelope))
    assert stage.state.root == root
    return caught.value.reason


@pytest.mark.rule("L10")
def test_a_transfer_moves_money_and_its_fee_goes_to_the_leader() -> None:
    stage = InMemoryLedger()
    data = stage.sign(stage.keys[1], Transfer(stage.keys[2].peer, Amount(500)))
    stage.block(data)
    paid = BALANCE - 500 - stage.state.account(stage.keys[1].peer).balance
    assert paid >= required_fee(stage.state.params, len(data)) > 0
    assert stage.state.account(stage.keys[2].peer).balance == BALANCE + 500
    assert stage.state.account(stage.keys[0].peer).balance == BALANCE + paid


@pytest.mark.rule("L8")
def test_a_transaction_is_applied_once() -> None:
    stage = InMemoryLedger()
    data = stage.sign(stage.keys[1], GIFT)
    stage.block(data)
    with pytest.raises(InvalidStatement, match="nonce"):
        stage.block(data)
    with pytest.raises(InvalidStatement, match="nonce"):
        stage.block(*[stage.sign(stage.keys[1], GIFT)] * 2)


@pytest.mark.rule("L8")
def test_nonces_come_in_any_order_within_their_window_each_once() -> None:
    stage = InMemoryLedger()
    order = [5, 2, 21, 6, 20]
    for nonce in order:
        stage.block(stage.sign(stage.keys[1], GIFT, nonce=nonce))
    for nonce in (*order, 5, 1, 21 + NONCE_WINDOW + 1):
        assert refused(stage, GIFT, nonce=nonce) is Reason.NONCE
    stage.block(stage.sign(stage.keys[1], GIFT, nonce=21 + NONCE_WINDOW))
    assert refused(stage, GIFT, nonce=21) is Reason.NONCE
    stage.block(stage.sign(stage.keys[1], GIFT, nonce=22))


@pytest.mark.rule("L9")
def test_a_transaction_expires_and_cannot_be_kept_for_longer_than_an_epoch() -> None:
    stage = InMemoryLedger()
    stage.empty_blocks(5)
    assert refused(stage, GIFT, expiry=5) is Reason.EXPIRED
    assert refused(stage, GIFT, expiry=6 + stage.genesis.epoch_blocks + 1) is Reason.EXPIRED
    assert refused(stage, GIFT, expiry=HEIGHT_MAX) is Reason.EXPIRED
    stage.block(stage.sign(stage.keys[1], GIFT, expiry=6))


@pytest.mark.rule("L10")
def test_a_fee_below_the_least_or_above_the_balance_is_refused() -> None:
    stage = InMemoryLedger()
    assert refused(stage, GIFT, fee=0) is Reason.FEE
    assert refused(stage, GIFT, fee=2) is Reason.FEE
    assert refused(stage, GIFT, fee=BALANCE + 1) is Reason.BALANCE
    assert refused(stage, Transfer(GIFT.to, BALANCE)) is Reason.BALANCE, "nothing left for the fee"


def test_whatever_the_balance_one_of_two_fees_lets_a_peer_join() -> None:
    stage = InMemoryLedger()
    run = stage.open_run(small_run_spec())
    body = Join(run.index)
    for balance in range(1, sufficient_fee(stage.state.params, body) + 2):
        key = stage.keys[20 + balance]
        stage.block(stage.sign(stage.keys[1], Transfer(key.peer, Amount(balance))))
        fee = offered_fee(stage.state.params, body, Amount(balance))
        stage.block(stage.sign(key, body, fee=fee))
    assert stage.state.run(run.index).seats


def test_a_transfer_to_oneself_costs_only_its_fee() -> None:
    stage = InMemoryLedger()
    stage.block(stage.sign(stage.keys[1], Transfer(stage.keys[1].peer, Amount(1_000)), fee=9))
    assert stage.state.account(stage.keys[1].peer).balance == BALANCE - 9


@pytest.mark.rule("L12")
def test_stake_comes_back_after_the_unbonding_time_and_not_before() -> None:
    stage = InMemoryLedger(epoch_blocks=10, unbonding_epochs=3)
    peer = stage.keys[1].peer
    stage.block(stage.sign(stage.keys[1], Stake(Amount(100)), fee=10))
    assert stage.state.account(peer).stake == STAKE + 100
    stage.block(stage.sign(stage.keys[1], Unstake(Amount(STAKE + 100)), fee=10))
    balance = stage.state.account(peer).balance
    assert refused(stage, Unstake(Amount(1))) is Reason.STAKE
    assert refused(stage, Transfer(GIFT.to, Amount(balance + 1)), fee=10) is Reason.BALANCE
    stage.empty_blocks(30)
    stage.block(stage.sign(stage.keys[1], Transfer(GIFT.to, Amount(balance + STAKE)), fee=10))
    account = stage.state.account(peer)
    assert (account.balance, account.unbonding) == (90, ())


@pytest.mark.rule("L12")
def test_the_pieces_of_unbonding_stake_are_bounded() -> None:
    stage = InMemoryLedger()
    for _ in range(UNBONDING_PARTS_MAX):
        stage.block(stage.sign(stage.keys[1], Unstake(Amount(1))))
    assert refused(stage, Unstake(Amount(1))) is Reason.FULL


@pytest.mark.rule("L12")
def test_the_power_of_validators_is_their_stake_at_genesis() -> None:
    stage = InMemoryLedger(num_validators=3)
    before = stage.state.validators
    assert [voter.power for voter in before] == [STAKE] * 3
    voter = next(key for key in stage.keys if key.peer == before[0].peer)
    stage.block(stage.sign(voter, Stake(Amount(500)), fee=10))
    assert stage.state.account(voter.peer).stake == STAKE + 500
    assert stage.state.validators == before


@pytest.mark.rule("L57")
def test_what_was_earned_as_a_volunteer_stays_in_the_stake_until_it_is_that_of_a_solver() -> None:
    stage = InMemoryLedger()
    key, state = stage.keys[1], stage.state
    draft = Draft(state, stage.keys[0].peer)
    draft.put_account(key.peer, replace(state.account(key.peer), locked=Amount(400)))
    unstake(draft, key.peer, Unstake(Amount(STAKE - 400)))
    with pytest.raises(InvalidStatement, match="400 is locked") as caught:
        unstake(draft, key.peer, Unstake(Amount(1)))
    assert caught.value.reason is Reason.STAKE
