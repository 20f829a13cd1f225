"""Fees and rewards are integers, rounded against the payer, and never more than there is."""

import pytest

from swarm.ledger.check_statements import AMOUNT_MAX, HEIGHT_MAX
from swarm.ledger.state.state import genesis_state
from swarm.ledger.transactions import Body, Join, OpenRun, Transfer, sign_transaction
from swarm.ledger.transition.prices import (
    RESERVED_ROUNDS,
    check_fee,
    check_pay,
    offered_fee,
    report_bond,
    request_bond,
    required_fee,
    round_cost,
    run_deposit,
    segment_reward,
    solver_stake,
    sufficient_fee,
)
from swarm.primitives.codec import replace
from swarm.testing.ledger import make_genesis, numbered_key, small_run_spec
from swarm.types import Amount, RunIndex
from tests.ledger.checking import a_case

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


def test_a_reward_follows_the_tokens() -> None:
    assert [segment_reward(tokens, 1) for tokens in (999, 47_999)] == [0, 47]
    assert [segment_reward(tokens, 9) for tokens in (999, 47_999)] == [8, 431]
    assert segment_reward(47_999, 0) == 0


SPEC = small_run_spec()
"""Two stages; 50 steps of 4 micro-batches of 2 x 32 tokens: a full segment earns 12."""


@pytest.mark.rule("L13")
def test_a_deposit_pays_the_first_rounds_and_grows_with_the_minimum_fee() -> None:
    free = replace(PARAMS, fee_min=0, fee_per_byte_nano=0)
    assert round_cost(free, SPEC, 1) == 12 + 7 * check_pay(free, SPEC, 12_800, 50), "a panel, too"
    assert run_deposit(free, SPEC) == RESERVED_ROUNDS * 2 * round_cost(free, SPEC, 1)
    dear = replace(free, fee_min=1_000)
    assert run_deposit(dear, SPEC) == max(100_000, RESERVED_ROUNDS * round_cost(dear, SPEC, 2))


@pytest.mark.rule("L54")
def test_the_stake_of_a_solver_is_that_of_many_full_segments() -> None:
    assert solver_stake(PARAMS, SPEC) == 60 * 12
    tiny = replace(SPEC, inner_steps_max=1)
    assert solver_stake(PARAMS, tiny) == 60, "never nothing, however small the segments are"


@pytest.mark.rule("L55")
def test_a_verifier_earns_its_fee_and_the_pay_of_its_window_rounded_up() -> None:
    fees = check_fee(PARAMS)
    assert fees >= PARAMS.fee_min
    assert check_pay(PARAMS, SPEC, 12_001, 50) == fees + 3, "10 of 50 steps of 12.001"
    assert check_pay(PARAMS, SPEC, 12_001, 5) == fees + 13, "a window longer than the segment"
    assert check_pay(PARAMS, SPEC, 0, 0) == fees + 1, "final averaging"


def test_the_bond_of_a_report_doubles_with_each_that_was_refuted() -> None:
    record = a_case().record
    bonds = [report_bond(PARAMS, SPEC, record, number) for number in (0, 1, 2, 10, 11)]
    assert bonds == [20, 40, 80, 20 << 10, 20 << 10]
    assert request_bond(PARAMS, record) == max(record.check_pay, 20)
