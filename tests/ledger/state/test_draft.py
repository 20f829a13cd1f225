"""A draft changes nothing beneath it, and cannot make or lose money."""

import pytest

from swarm.errors import InvalidStatement
from swarm.ledger.state.draft import Draft
from swarm.ledger.state.records import Account, RoundInfo, Unbonding
from swarm.ledger.state.state import EMPTY_ACCOUNT, MONEY_KINDS, State, genesis_state, money_in
from swarm.primitives.codec import replace
from swarm.testing.ledger import (
    BALANCE,
    STAKE,
    InMemoryLedger,
    make_genesis,
    numbered_key,
    small_run_spec,
)
from swarm.types import Amount, Digest, Height, PeerId, RoundIndex, RunIndex

A, B, STRANGER = (numbered_key(i).peer for i in (0, 1, 9))


def a_draft() -> tuple[State, Draft]:
    state = genesis_state(make_genesis(2, 1))
    return state, Draft(state, A)


def test_money_moves_in_the_draft_and_not_beneath_it() -> None:
    state, draft = a_draft()
    draft.debit(A, 10)
    draft.credit(STRANGER, 10)
    assert state.account(A).balance == BALANCE
    after = draft.finish()
    assert (after.account(A).balance, after.account(STRANGER).balance) == (BALANCE - 10, 10)
    assert after.supply == state.supply


def test_an_attempt_that_is_dropped_leaves_no_trace_and_an_absorbed_one_does() -> None:
    state, draft = a_draft()
    attempt = draft.attempt()
    attempt.debit(A, 10)
    attempt.credit(B, 10)
    assert draft.account(A).balance == BALANCE
    assert draft.finish().root == state.root
    draft.absorb(attempt)
    assert draft.account(B).balance == BALANCE + 10


def test_spending_more_than_there_is_is_refused() -> None:
    _, draft = a_draft()
    with pytest.raises(InvalidStatement):
        draft.debit(A, BALANCE + 1)
    with pytest.raises(InvalidStatement):
        draft.debit(STRANGER, 1)


@pytest.mark.rule("L4")
@pytest.mark.parametrize("amount", [1, -1])
def test_a_draft_that_makes_or_loses_money_cannot_finish(amount: int) -> None:
    _, draft = a_draft()
    draft.put_account(A, replace(draft.account(A), balance=Amount(BALANCE + amount)))
    with pytest.raises(AssertionError, match="supply"):
        draft.finish()


def test_a_credit_of_nothing_only_opens_an_account() -> None:
    _, draft = a_draft()
    assert not draft.has_account(STRANGER)
    draft.credit(STRANGER, 0)
    assert draft.has_account(STRANGER)
    draft.credit(A, 0)
    assert draft.account(A).balance == BALANCE
    assert draft.account(PeerId(bytes(32))) is EMPTY_ACCOUNT


def test_what_has_unbonded_counts_as_balance_from_its_height_on() -> None:
    state, draft = a_draft()
    parts = (Unbonding(Amount(5), Height(3)), Unbonding(Amount(7), Height(4)))
    draft.put_account(
        A,
        Account(
            balance=Amount(1),
            stake=Amount(0),
            nonce=0,
            recent=0,
            unbonding=parts,
            locked=Amount(0),
            staked_height=Height(0),
        ),
    )
    draft.put_globals(replace(state.globals, height=Height(3)))
    live = draft.live_account(A)
    assert (live.balance, live.unbonding) == (6, parts[1:])
    draft.put_globals(replace(state.globals, height=Height(4)))
    assert draft.live_account(A).balance == 13


def test_a_stake_is_taken_from_what_is_staked_first_and_then_from_what_is_on_its_way_back() -> None:
    state, draft = a_draft()
    parts = (Unbonding(Amount(30), Height(50)), Unbonding(Amount(20), Height(60)))
    account = replace(draft.account(A), stake=Amount(STAKE - 50), unbonding=parts)
    draft.put_account(A, account)
    assert draft.take_stake(A, 96) == STAKE * 96 // 100
    left = draft.account(A)
    assert (left.stake, left.unbonding) == (
        0,
        (Unbonding(Amount(30), Height(50)), Unbonding(Amount(10), Height(60))),
    )
    draft.burn(STAKE * 96 // 100)
    after = draft.finish()
    assert after.supply == state.supply - STAKE * 96 // 100
    assert after.globals.staked == STAKE, "of the other account"


@pytest.mark.rule("L4")
def test_what_is_counted_as_money_is_all_there_is() -> None:
    stage = InMemoryLedger()
    run = stage.reach_round(stage.open_run(small_run_spec()), 1)
    stage.block(*stage.commit_all(run, 0))
    stage.empty_blocks(20)
    holds = {key[:1] for key, entry in stage.state.entries.items() if money_in(entry)}
    assert holds <= MONEY_KINDS
    others = [entry for key, entry in stage.state.entries.items() if key[:1] not in MONEY_KINDS]
    assert len({type(entry) for entry in others}) == 8
    assert not any(map(money_in, others))


def test_a_round_is_noted_where_it_is_due() -> None:
    state, draft = a_draft()
    info = RoundInfo(
        round=RoundIndex(3),
        height=Height(1),
        beacon=Digest(bytes(32)),
        seats=(),
        drawn=(),
        consensus=-1,
        price=1,
    )
    draft.put_round(RunIndex(1), info, Height(1))
    draft.put_round(RunIndex(2), info, Height(1))
    assert draft.round_info(RunIndex(1), RoundIndex(3)) == info
    draft.put_globals(replace(state.globals, height=Height(1)))
    records, queue = draft.take_due()
    assert (records, queue.rounds) == ((), ((1, 3), (2, 3)))
    assert draft.due_queue(1).rounds == ()
    draft.drop_round(RunIndex(1), RoundIndex(3))
    assert draft.round_info(RunIndex(1), RoundIndex(3)) is None


def test_a_penalty_is_rounded_up_and_takes_something_of_the_smallest_stake() -> None:
    _, draft = a_draft()
    draft.put_account(A, replace(draft.account(A), stake=Amount(1)))
    assert draft.take_stake(A, 10) == 1
    assert draft.take_stake(A, 10) == 0, "there is nothing left"
    draft.put_account(A, replace(draft.account(A), stake=Amount(101)))
    assert draft.take_stake(A, 10) == 11
    assert draft.take_stake(A, 160) == 90, "never more than there is"


def test_a_stake_is_as_old_as_its_last_growth() -> None:
    state, draft = a_draft()
    draft.put_globals(replace(state.globals, height=Height(9)))
    draft.put_account(
        A, replace(draft.account(A), stake=Amount(STAKE + 1), balance=Amount(BALANCE - 1))
    )
    assert draft.account(A).staked_height == 9
    draft.put_globals(replace(draft.globals, height=Height(10)))
    draft.put_account(A, replace(draft.account(A), stake=STAKE, balance=BALANCE))
    assert draft.account(A).staked_height == 9, "it shrank"
    draft.put_account(
        A, replace(draft.account(A), stake=Amount(0), balance=Amount(BALANCE + STAKE))
    )
    draft.put_account(A, replace(draft.account(A), stake=Amount(STAKE), balance=BALANCE))
    assert (draft.account(A).staked_height, draft.globals.staked) == (10, 2 * STAKE)
    draft.finish()
