"""Validators change at epochs by stake; none has a third of the power; who signs two ways loses everything."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.errors import InvalidStatement, Reason
from swarm.ledger.blocks import FINALIZE, NOTARIZE, NULLIFY, VOTE_PURPOSES, Validator, vote_parts
from swarm.ledger.leaders import LeaderSchedule
from swarm.ledger.state.state import audit_supply
from swarm.ledger.transactions import Body, Evidence, SignedVote, Stake, Unstake, Validate
from swarm.ledger.transition import validators as rules
from swarm.ledger.transition.validators import (
    CANDIDATES_MAX,
    INDEPENDENT_MIN,
    MISSES_MAX,
    WITNESS_PERCENT,
    choose,
    conflict,
    power_limit,
)
from swarm.primitives.crypto import SecretKey, digest
from swarm.testing.ledger import STAKE, InMemoryLedger, numbered_key
from swarm.types import NO_DIGEST, Amount, Digest, PeerId, View

EPOCH = 10
LEFT, RIGHT = digest("block", b"left"), digest("block", b"right")


def a_network(num_accounts: int = 6, num_validators: int = 1, **changes: object) -> InMemoryLedger:
    return InMemoryLedger(num_accounts, num_validators, epoch_blocks=EPOCH, **changes)


def submit(ledger: InMemoryLedger, number: int, body: Body) -> None:
    ledger.block(ledger.sign(ledger.keys[number], body))


def refused(ledger: InMemoryLedger, number: int, body: Body) -> Reason:
    root = ledger.state.root
    with pytest.raises(InvalidStatement) as caught:
        submit(ledger, number, body)
    assert ledger.state.root == root, "nothing has changed"
    return caught.value.reason


def reach(ledger: InMemoryLedger, height: int) -> None:
    ledger.empty_blocks(height - ledger.state.height)


def voters(ledger: InMemoryLedger) -> set[PeerId]:
    return {validator.peer for validator in ledger.state.validators}


def peers(*numbers: int) -> set[PeerId]:
    return {numbered_key(number).peer for number in numbers}


def all_offer(ledger: InMemoryLedger, *numbers: int) -> None:
    ledger.block(*(ledger.sign(ledger.keys[n], Validate(is_on=True)) for n in numbers))


# --- the set ---


@pytest.mark.rule("L48")
def test_an_offer_counts_from_the_epoch_after_next_and_only_at_its_begin() -> None:
    ledger = a_network()
    all_offer(ledger, 1, 2, 3, 4)
    reach(ledger, 2 * EPOCH - 2)
    assert voters(ledger) == peers(0)
    ledger.block()
    assert voters(ledger) == peers(0, 1, 2, 3, 4)
    late = a_network()
    reach(late, EPOCH - 1)  # the snapshot of epoch 0 was taken when this block began
    all_offer(late, 1, 2, 3, 4)
    reach(late, 3 * EPOCH - 2)
    assert voters(late) == peers(0)
    late.block()
    assert voters(late) == peers(0, 1, 2, 3, 4)


@pytest.mark.rule("L49")
def test_two_strangers_beside_a_founder_do_not_make_the_ledger_easier_to_stop() -> None:
    ledger = a_network()
    all_offer(ledger, 1, 2)
    reach(ledger, 4 * EPOCH)
    assert voters(ledger) == peers(0)
    all_offer(ledger, 3)
    reach(ledger, 7 * EPOCH)
    assert voters(ledger) == peers(0, 1, 2, 3)


@pytest.mark.rule("L49")
def test_of_four_that_became_three_those_three_stay() -> None:
    ledger = a_network(num_validators=4)
    submit(ledger, 0, Validate(is_on=False))
    submit(ledger, 5, Validate(is_on=True))
    submit(ledger, 5, Validate(is_on=False))
    reach(ledger, 3 * EPOCH)
    assert voters(ledger) == peers(1, 2, 3)


@pytest.mark.rule("L49")
def test_without_any_candidate_the_last_validators_go_on() -> None:
    ledger = a_network()
    submit(ledger, 0, Validate(is_on=False))
    reach(ledger, 4 * EPOCH)
    assert voters(ledger) == peers(0)


@pytest.mark.rule("L49")
def test_who_has_too_little_stake_may_not_offer_and_is_not_chosen() -> None:
    ledger = a_network(validator_stake=Amount(STAKE + 1))
    assert refused(ledger, 1, Validate(is_on=True)) is Reason.STAKE
    for number in (1, 2, 3, 4):
        submit(ledger, number, Stake(Amount(5)))
    all_offer(ledger, 1, 2, 3, 4)
    submit(ledger, 4, Unstake(Amount(5)))
    reach(ledger, 3 * EPOCH)
    assert voters(ledger) == peers(1, 2, 3) or voters(ledger) == peers(0)
    assert numbered_key(4).peer not in voters(ledger)


def test_an_offer_is_made_once_and_withdrawn_once() -> None:
    ledger = a_network()
    assert refused(ledger, 1, Validate(is_on=False)) is Reason.DUPLICATE
    submit(ledger, 1, Validate(is_on=True))
    assert refused(ledger, 1, Validate(is_on=True)) is Reason.DUPLICATE


@pytest.mark.rule("L49")
def test_free_keys_cannot_fill_the_list_of_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    assert CANDIDATES_MAX >= 64
    monkeypatch.setattr(rules, "CANDIDATES_MAX", 3)
    ledger = a_network()
    all_offer(ledger, 1, 2)
    assert refused(ledger, 3, Validate(is_on=True)) is Reason.FULL
    submit(ledger, 3, Stake(Amount(1)))
    submit(ledger, 3, Validate(is_on=True))
    assert len(ledger.state.council.candidates) == 3
    assert numbered_key(3).peer in ledger.state.council.candidates


# --- power ---


@pytest.mark.rule("L49", "S9a")
@given(st.lists(st.integers(1, 1 << 62), min_size=INDEPENDENT_MIN, max_size=64))
def test_a_founder_cannot_keep_a_third_of_the_power(stakes: list[int]) -> None:
    stakes = sorted(stakes, reverse=True)
    limit = power_limit(stakes)
    powers = [min(stake, limit) for stake in stakes]
    assert all(power >= 1 for power in powers)
    assert 3 * max(powers) < sum(powers)
    more = [min(stake, limit + 1) for stake in stakes]
    assert more == powers or 3 * max(more) >= sum(more), "and it is the greatest such limit"


def test_power_is_stake_below_the_limit() -> None:
    ledger = a_network(num_accounts=6, num_validators=1)
    submit(ledger, 0, Stake(Amount(900_000)))
    submit(ledger, 1, Stake(Amount(500)))
    all_offer(ledger, 1, 2, 3, 4)
    candidates = [numbered_key(n).peer for n in range(5)]
    found = {v.peer: v.power for v in choose(ledger.state, candidates, ())}
    assert found[numbered_key(1).peer] == STAKE + 500
    assert found[numbered_key(2).peer] == STAKE
    assert found[numbered_key(0).peer] == (4 * STAKE + 500 - 1) // 2
    few = choose(ledger.state, candidates[:2], (Validator(candidates[0], Amount(1)),))
    assert few == (Validator(candidates[0], ledger.state.account(candidates[0]).stake),)


# --- misses ---


def leads(ledger: InMemoryLedger, number: int, count: int) -> int:
    """Views to skip so that ``number`` misses at least ``count`` of them."""
    council, peer = ledger.state.council, numbered_key(number).peer
    schedule, view, missed = LeaderSchedule(council.seed, council.current), 0, 0
    first = ledger.state.globals.view + 1
    while missed < count:
        missed += council.current[schedule.leader(View(first + view))].peer == peer
        view += 1
    return view


@pytest.mark.rule("L50", "S9a")
def test_a_validator_that_misses_its_views_loses_its_offer_at_the_end_of_the_epoch() -> None:
    """In this ledger validator 4 leads block 5 and then 10; the others lead once more before the end."""
    ledger = a_network(num_validators=5)
    dead = ledger.state.validators[4].peer
    number = next(n for n in range(5) if numbered_key(n).peer == dead)
    reach(ledger, EPOCH // 2)
    ledger.block(skipped=leads(ledger, number, MISSES_MAX))
    reach(ledger, EPOCH - 2)
    assert ledger.state.council.skipped[4] >= MISSES_MAX
    assert dead in ledger.state.council.candidates
    ledger.block()
    assert set(ledger.state.council.candidates) == peers(0, 1, 2, 3, 4) - {dead}
    reach(ledger, 2 * EPOCH - 1)
    assert dead not in voters(ledger)


def test_views_are_counted_against_their_leaders_and_forgiven_by_a_block() -> None:
    ledger = a_network(num_validators=4)
    ledger.block()
    council = ledger.state.council
    schedule = LeaderSchedule(council.seed, council.current)
    late = [schedule.leader(View(view)) for view in (2, 3)]
    ledger.block(skipped=2)
    led = ledger.links[-1][0].header.leader
    expected = [late.count(i) for i in range(4)]
    expected[[v.peer for v in council.current].index(led)] = 0
    assert list(ledger.state.council.skipped) == expected
    assert ledger.state.globals.num_skipped == 2
    assert ledger.state.globals.view == 4
    ledger.empty_blocks(4)
    assert ledger.state.council.skipped == (0, 0, 0, 0)


@pytest.mark.rule("L50")
def test_who_was_dropped_may_offer_again_and_its_misses_are_forgiven() -> None:
    ledger = a_network(num_validators=4)
    ledger.block(skipped=200)
    assert max(ledger.state.council.skipped) >= MISSES_MAX
    worst = ledger.state.council.skipped.index(max(ledger.state.council.skipped))
    peer = ledger.state.council.current[worst].peer
    number = next(n for n in range(4) if numbered_key(n).peer == peer)
    submit(ledger, number, Validate(is_on=False))
    submit(ledger, number, Validate(is_on=True))
    assert ledger.state.council.skipped[worst] == 0


# --- locked stake ---


@pytest.mark.rule("L12")
def test_stake_is_locked_while_it_votes_and_free_after() -> None:
    ledger = a_network(num_validators=4)
    submit(ledger, 0, Stake(Amount(50)))
    assert refused(ledger, 0, Unstake(Amount(51))) is Reason.STAKE
    submit(ledger, 0, Unstake(Amount(50)))
    submit(ledger, 0, Validate(is_on=False))
    reach(ledger, 2 * EPOCH - 3)
    assert refused(ledger, 0, Unstake(Amount(1))) is Reason.STAKE
    reach(ledger, 2 * EPOCH - 1)
    assert numbered_key(0).peer not in voters(ledger)
    submit(ledger, 0, Unstake(STAKE))
    assert ledger.state.account(numbered_key(0).peer).stake == 0


# --- evidence ---


def vote(
    ledger: InMemoryLedger, key: SecretKey, kind: int, block: Digest, *, epoch: int = 0
) -> SignedVote:
    name = NO_DIGEST if kind == NULLIFY else block
    parts = vote_parts(ledger.state.chain, epoch, View(3), name)
    return SignedVote(kind, name, key.sign(VOTE_PURPOSES[kind], *parts))


def evidence(
    ledger: InMemoryLedger, kinds: tuple[int, int] = (NOTARIZE, NOTARIZE), *, epoch: int = 0
) -> Evidence:
    key = numbered_key(1)
    pair = [
        vote(ledger, key, kind, block, epoch=epoch)
        for kind, block in zip(kinds, (LEFT, RIGHT), strict=True)
    ]
    return Evidence(key.peer, epoch, View(3), *pair)


@pytest.mark.parametrize(
    "kinds",
    [(NOTARIZE, NOTARIZE), (FINALIZE, FINALIZE), (NULLIFY, FINALIZE), (FINALIZE, NULLIFY)],
)
@pytest.mark.rule("L51", "S9")
def test_who_signs_two_ways_loses_its_whole_stake(kinds: tuple[int, int]) -> None:
    ledger = a_network(num_validators=4)
    submit(ledger, 1, Stake(Amount(100)))
    submit(ledger, 1, Unstake(Amount(100)))
    before = ledger.state.account(numbered_key(2).peer).balance
    body = evidence(ledger, kinds)
    supply = ledger.state.supply
    data = ledger.sign(ledger.keys[2], body)
    ledger.block(data)
    account = ledger.state.account(numbered_key(1).peer)
    assert (account.stake, account.unbonding) == (0, ())
    reward = (STAKE + 100) * WITNESS_PERCENT // 100
    assert ledger.state.supply == supply - (STAKE + 100) + reward == audit_supply(ledger.state)
    assert ledger.state.account(numbered_key(2).peer).balance <= before + reward
    assert numbered_key(1).peer not in ledger.state.council.candidates
    assert refused(ledger, 2, body) is Reason.DUPLICATE
    submit(ledger, 1, Stake(STAKE))
    assert refused(ledger, 1, Validate(is_on=True)) is Reason.WRONG_PEER
    assert refused(ledger, 2, evidence(ledger, (FINALIZE, FINALIZE))) is Reason.DUPLICATE


@pytest.mark.rule("L51", "S9")
def test_an_equivocator_gains_nothing_by_showing_its_own_crime() -> None:
    ledger = a_network(num_validators=4)
    key = numbered_key(1)
    before = ledger.state.account(key.peer)
    submit(ledger, 1, evidence(ledger))
    after = ledger.state.account(key.peer)
    assert after.balance <= before.balance
    assert ledger.state.globals.burned == STAKE


@pytest.mark.rule("L51", "S9")
def test_an_honest_validator_cannot_be_convicted() -> None:
    ledger = a_network(num_validators=4)
    key, good = numbered_key(1), evidence(ledger)
    pairs = [(NOTARIZE, FINALIZE), (NOTARIZE, NULLIFY), (NULLIFY, NULLIFY)]
    for kinds in pairs:
        assert refused(ledger, 2, evidence(ledger, kinds)) is Reason.BAD_FIELD
    same = Evidence(key.peer, 0, View(3), good.first, good.first)
    assert refused(ledger, 2, same) is Reason.BAD_FIELD
    forged = vote(ledger, numbered_key(2), NOTARIZE, RIGHT)
    wrong = [
        Evidence(key.peer, 0, View(3), good.first, forged),
        Evidence(key.peer, 0, View(4), good.first, good.second),
        Evidence(numbered_key(3).peer, 0, View(3), good.first, good.second),
        Evidence(key.peer, 0, View(3), good.first, SignedVote(NOTARIZE, RIGHT, bytes(64))),
    ]
    for body in wrong:
        assert refused(ledger, 2, body) is Reason.BAD_SIGNATURE
    elsewhere = a_network(num_validators=4, name="other")
    assert refused(ledger, 2, evidence(elsewhere)) is Reason.BAD_SIGNATURE
    ledger.block()
    assert ledger.state.account(key.peer).stake == STAKE


@pytest.mark.rule("L51", "S9")
def test_evidence_is_of_an_epoch_whose_stake_can_still_be_taken() -> None:
    ledger = a_network(num_validators=4, unbonding_epochs=3)
    assert refused(ledger, 2, evidence(ledger, epoch=1)) is Reason.EXPIRED
    reach(ledger, 4 * EPOCH - 1)
    assert refused(ledger, 2, evidence(ledger)) is Reason.EXPIRED
    submit(ledger, 2, evidence(ledger, epoch=1))
    penniless = Evidence(numbered_key(9).peer, 4, View(3), *two_votes(ledger, numbered_key(9), 4))
    assert refused(ledger, 2, penniless) is Reason.STAKE


def two_votes(ledger: InMemoryLedger, key: SecretKey, epoch: int) -> tuple[SignedVote, SignedVote]:
    first, second = (vote(ledger, key, NOTARIZE, block, epoch=epoch) for block in (LEFT, RIGHT))
    return first, second


@given(
    st.sampled_from([NOTARIZE, NULLIFY, FINALIZE]), st.sampled_from([NOTARIZE, NULLIFY, FINALIZE])
)
def test_conflicts_have_no_order(one: int, other: int) -> None:
    first, second = SignedVote(one, LEFT, b""), SignedVote(other, RIGHT, b"")
    assert conflict(first, second) == conflict(second, first)
