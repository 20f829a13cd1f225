"""Fees and rewards are integers, rounded against the payer, and never more than there is."""

import pytest

from swarm.ledger.state.state import genesis_state
from swarm.ledger.transactions import (
    AMOUNT_MAX,
    HEIGHT_MAX,
    Body,
    Join,
    OpenRun,
    Transfer,
    sign_transaction,
)
from swarm.ledger.transition.accounts import (
    offered_fee,
    required_fee,
    run_deposit,
    segment_reward,
    sufficient_fee,
)
from swarm.primitives.codec import replace
from swarm.testing.ledger import make_genesis, numbered_key
from swarm.types import Amount, RunIndex

PARAMS = genesis_state(make_genesis(1, 1)).params


@pytest.mark.rule("L10")
def test_a_fee_has_a_floor_and_rounds_up_per_byte() -> None:
    params = replace(PARAMS, fee_min=3, fee_per_byte_nano=10_000_000)
    assert [required_fee(params, size) for size in (0, 1, 100, 101)] == [3, 4, 4, 5]
    free = replace(PARAMS, fee_min=0, fee_per_byte_nano=0)
    assert required_fee(free, 10_000) == 0


@pytest.mark.parametrize(
    "body",
    [
        Join(RunIndex(65_535)),
        Transfer(numbered_key(1).peer, Amount(AMOUNT_MAX)),
        OpenRun(b"x" * 9_000, Amount(1)),
    ],
    ids=["join", "transfer", "open"],
)
def test_a_sufficient_fee_is_enough_for_the_largest_envelope(body: Body) -> None:
    params = replace(PARAMS, fee_per_byte_nano=1_000_000_000)
    fee = sufficient_fee(params, body)
    data = sign_transaction(
        numbered_key(0), PARAMS_CHAIN, body, nonce=HEIGHT_MAX, fee=AMOUNT_MAX, expiry=HEIGHT_MAX
    )
    assert required_fee(params, len(data)) <= fee


PARAMS_CHAIN = make_genesis(1, 1).chain


@pytest.mark.rule("L10")
def test_who_cannot_pay_offers_nothing_for_a_seat_and_the_fee_for_anything_else() -> None:
    ask, gift = Join(RunIndex(1)), Transfer(numbered_key(1).peer, Amount(1))
    fee = sufficient_fee(PARAMS, ask)
    assert offered_fee(PARAMS, ask, fee) == fee
    assert offered_fee(PARAMS, ask, Amount(fee - 1)) == 0
    assert offered_fee(PARAMS, gift, Amount(0)) == sufficient_fee(PARAMS, gift)


def test_a_reward_follows_the_tokens_up_to_what_is_in_escrow() -> None:
    assert segment_reward(999, Amount(100)) == 0
    assert segment_reward(47_999, Amount(100)) == 47
    assert segment_reward(47_999, Amount(5)) == 5


def test_a_deposit_grows_with_the_minimum_fee() -> None:
    assert run_deposit(replace(PARAMS, fee_min=3)) == 300
    assert run_deposit(replace(PARAMS, fee_min=0)) == 0
