"""Validators change at epochs by stake; none has a third of the power; who signs two ways loses everything."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.errors import InvalidStatement, Reason
from swarm.ledger.blocks import FINALIZE, NOTARIZE, NULLIFY, VOTE_PURPOSES, Validator, vote_parts
from swarm.ledger.leaders import LeaderSchedule
from swarm.ledger.state.records import Equivocator
from swarm.ledger.state.state import audit_supply
from swarm.ledger.transactions import Body, Evidence, SignedVote, Stake, Unstake, Validate
from swarm.ledger.transition import validators as rules
from swarm.ledger.transition.prices import sufficient_fee
from swarm.ledger.transition.validators import (
    CANDIDATES_MAX,
    INDEPENDENT_MIN,
    MISSES_MAX,
    WITNESS_PERCENT,
    choose,
    conflict,
    power_limit,
)
from swarm.primitives.codec import replace
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


def number_of(peer: PeerId) -> int:
    return next(number for number in range(64) if numbered_key(number).peer == peer)


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
    assert voters(ledger) == peers(1, 2, 3), "the founder has too little as well"


def test_who_withdrew_a_part_of_its_stake_is_no_fourth_until_it_has_it_again() -> None:
    ledger = a_network(num_accounts=4, validator_stake=STAKE)
    all_offer(ledger, 1, 2, 3)
    submit(ledger, 3, Unstake(Amount(1)))
    reach(ledger, 3 * EPOCH)
    assert numbered_key(3).peer in ledger.state.council.candidates
    assert voters(ledger) == peers(0)
    submit(ledger, 3, Stake(Amount(1)))
    reach(ledger, 5 * EPOCH - 1)
    assert voters(ledger) == peers(0, 1, 2, 3)


def test_a_withdrawn_offer_leaves_with_the_epoch_after_next_and_may_come_back() -> None:
    ledger = a_network(num_accounts=5, num_validators=5)
    submit(ledger, 4, Validate(is_on=False))
    reach(ledger, 2 * EPOCH - 2)
    assert voters(ledger) == peers(0, 1, 2, 3, 4)
    ledger.block()
    assert voters(ledger) == peers(0, 1, 2, 3)
    submit(ledger, 4, Validate(is_on=True))
    reach(ledger, 4 * EPOCH - 2)
    assert voters(ledger) == peers(0, 1, 2, 3)
    ledger.block()
    assert voters(ledger) == peers(0, 1, 2, 3, 4)


def test_within_an_epoch_nobody_gains_or_loses_a_vote() -> None:
    """Offers, withdrawals, stake and a conviction change no power before the epoch's end."""
    ledger = a_network(num_accounts=7, num_validators=5)
    before, crime = ledger.state.validators, evidence(ledger)
    submit(ledger, 5, Validate(is_on=True))
    submit(ledger, 0, Validate(is_on=False))
    submit(ledger, 2, Stake(Amount(700)))
    submit(ledger, 3, crime)
    for _ in range(4):
        assert ledger.state.validators == before == ledger.state.council.next
        ledger.block()
    reach(ledger, 2 * EPOCH - 1)
    assert ledger.state.council.previous == before
    assert voters(ledger) == peers(2, 3, 4, 5)
    powers = {v.peer: v.power for v in ledger.state.validators}
    assert powers[numbered_key(2).peer] == (3 * STAKE - 1) // 2, "a third of all but one"
    after = ledger.state.validators
    reach(ledger, 3 * EPOCH - 1)
    assert ledger.state.council.previous == after


def test_nobody_knows_the_leaders_of_an_epoch_before_the_one_before_ends() -> None:
    """They are drawn from the beacon of its last block, and stay as they are to the end."""
    ledger = a_network(num_validators=4)
    assert ledger.state.council.seed == ledger.genesis.seed
    for epoch in (1, 2):
        reach(ledger, epoch * EPOCH - 1)
        seed = ledger.state.beacon
        assert ledger.state.council.seed == seed
        ledger.block()
        assert ledger.state.beacon != seed == ledger.state.council.seed


def test_of_more_candidates_than_may_vote_those_with_most_stake_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rules, "VALIDATORS_MAX", 4)
    ledger = a_network(num_accounts=7)
    for number in (1, 3, 5, 6):
        submit(ledger, number, Stake(Amount(number)))
    all_offer(ledger, 1, 2, 3, 4, 5, 6)
    reach(ledger, 2 * EPOCH)
    assert voters(ledger) == peers(1, 3, 5, 6)


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
    submit(ledger, 1, Stake(Amount(2)))
    submit(ledger, 2, Stake(Amount(2)))
    submit(ledger, 3, Stake(Amount(1)))
    submit(ledger, 3, Validate(is_on=True))
    candidates = ledger.state.council.candidates
    assert set(candidates) == peers(1, 2, 3), "the one with least is replaced, even the founder"
    assert list(candidates) == sorted(candidates)
    assert refused(ledger, 4, Validate(is_on=True)) is Reason.FULL


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
    assert few == (Validator(candidates[0], Amount(1)),), "no more power than before"


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
    number = number_of(dead)
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
    ledger = a_network(num_validators=5)
    dead = ledger.state.validators[4].peer  # it leads blocks 5 and 10
    number = number_of(dead)
    reach(ledger, EPOCH // 2)
    ledger.block(skipped=leads(ledger, number, MISSES_MAX))
    reach(ledger, EPOCH - 1)
    council = ledger.state.council
    assert {v.peer for v in council.current} - set(council.candidates) == {dead}
    assert council.skipped[4] == 0, "they are paid for"
    all_offer(ledger, number)
    assert voters(ledger) == peers(*range(5)), "it votes to the end of the epoch it was chosen for"
    reach(ledger, 2 * EPOCH - 1)
    assert dead in ledger.state.council.candidates, "it is not dropped for its old misses"
    assert dead not in voters(ledger)
    reach(ledger, 3 * EPOCH - 1)
    assert voters(ledger) == peers(*range(5))


@pytest.mark.rule("L50")
def test_a_stall_at_the_end_of_an_epoch_does_not_leave_one_validator_alone() -> None:
    """All but one have missed enough; they hold a third of the power and more, so nobody was gone."""
    ledger = a_network(num_accounts=4, num_validators=4)
    reach(ledger, EPOCH - 2)
    ledger.block(skipped=12)
    assert set(ledger.state.council.candidates) == peers(0, 1, 2, 3)
    reach(ledger, 3 * EPOCH)
    assert voters(ledger) == peers(0, 1, 2, 3)


@pytest.mark.rule("L50")
def test_to_withdraw_and_offer_again_erases_no_miss() -> None:
    ledger = a_network(num_validators=5)
    dead = ledger.state.validators[4].peer
    number = number_of(dead)
    reach(ledger, EPOCH // 2)
    ledger.block(skipped=leads(ledger, number, MISSES_MAX))
    ledger.block(
        ledger.sign(ledger.keys[number], Validate(is_on=False)),
        ledger.sign(ledger.keys[number], Validate(is_on=True), nonce=2),
    )
    assert ledger.state.council.skipped[4] >= MISSES_MAX
    reach(ledger, EPOCH - 1)
    assert dead not in ledger.state.council.candidates


@pytest.mark.rule("L49", "S9a")
def test_a_rich_founder_does_not_get_its_power_back_when_one_of_four_leaves() -> None:
    ledger = a_network(num_accounts=4, num_validators=1)
    submit(ledger, 0, Stake(Amount(9 * STAKE)))
    all_offer(ledger, 1, 2, 3)
    reach(ledger, 2 * EPOCH)
    before = {v.peer: v.power for v in ledger.state.validators}
    assert 3 * max(before.values()) < sum(before.values())
    submit(ledger, 3, Validate(is_on=False))
    reach(ledger, 5 * EPOCH)
    after = {v.peer: v.power for v in ledger.state.validators}
    assert after == {peer: power for peer, power in before.items() if peer in peers(0, 1, 2)}
    assert 3 * after[numbered_key(0).peer] <= 2 * sum(after.values())


def test_who_leads_a_block_between_its_misses_keeps_its_offer() -> None:
    """It misses four views of an epoch, and never three in a row."""
    ledger = a_network(num_validators=5)
    shaky = ledger.state.validators[4].peer  # it leads blocks 5 and 10
    number = number_of(shaky)
    ledger.block(skipped=leads(ledger, number, MISSES_MAX - 1))
    assert ledger.state.council.skipped[4] == MISSES_MAX - 1
    reach(ledger, 4)
    ledger.block()
    assert ledger.links[-1][0].header.leader == shaky
    assert ledger.state.council.skipped[4] == 0
    ledger.block(skipped=leads(ledger, number, MISSES_MAX - 1))
    reach(ledger, EPOCH - 1)
    assert ledger.state.council.skipped[4] == MISSES_MAX - 1, "it stands over to the next epoch"
    assert shaky in ledger.state.council.candidates
    ledger.block()
    assert ledger.state.council.skipped[4] == 0


def test_after_a_long_stall_no_more_views_are_counted_than_a_block_may_cost() -> None:
    ledger = a_network(num_validators=4)
    ledger.block(skipped=10 * rules.SKIPPED_COUNTED_MAX)
    skipped = ledger.state.council.skipped
    assert sum(skipped) <= rules.SKIPPED_COUNTED_MAX
    assert all(count >= MISSES_MAX for count in skipped[1:])
    assert skipped[0] == 0, "the first leads block 1"
    assert ledger.state.globals.num_skipped == 10 * rules.SKIPPED_COUNTED_MAX


def test_views_of_the_epoch_before_count_against_nobody() -> None:
    ledger = a_network(num_validators=4)
    reach(ledger, EPOCH - 2)
    ledger.block(skipped=3)
    assert ledger.state.globals.view == 0
    before = ledger.state.council.skipped
    ledger.block()
    assert ledger.state.globals.view == 1
    assert ledger.state.globals.num_skipped == 3
    led = [v.peer for v in ledger.state.validators].index(ledger.links[-1][0].header.leader)
    assert ledger.state.council.skipped == tuple(
        0 if index == led else count for index, count in enumerate(before)
    )


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


def test_who_is_chosen_cannot_withdraw_before_it_votes() -> None:
    """Else a vote would be bought with a stake that is gone when it is misused."""
    ledger = a_network()
    all_offer(ledger, 1, 2, 3)
    reach(ledger, EPOCH - 1)
    assert numbered_key(1).peer not in voters(ledger)
    assert refused(ledger, 1, Unstake(Amount(1))) is Reason.STAKE
    submit(ledger, 4, Unstake(STAKE))


def test_only_the_power_is_locked_of_a_stake_above_the_limit() -> None:
    ledger = a_network(num_validators=4)
    submit(ledger, 0, Stake(Amount(9 * STAKE)))
    reach(ledger, EPOCH - 1)
    power = (3 * STAKE - 1) // 2
    assert max(validator.power for validator in ledger.state.council.next) == power
    assert refused(ledger, 0, Unstake(Amount(10 * STAKE - power + 1))) is Reason.STAKE
    submit(ledger, 0, Unstake(Amount(10 * STAKE - power)))
    assert ledger.state.account(numbered_key(0).peer).stake == power


# --- evidence ---


def vote(
    ledger: InMemoryLedger,
    key: SecretKey,
    kind: int,
    block: Digest,
    *,
    epoch: int = 0,
    view: int = 3,
) -> SignedVote:
    name = NO_DIGEST if kind == NULLIFY else block
    parts = vote_parts(ledger.state.chain, epoch, View(view), name)
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
    before = ledger.state.account(numbered_key(5).peer).balance
    body = evidence(ledger, kinds)
    supply, fee = ledger.state.supply, sufficient_fee(ledger.state.params, body)
    submit(ledger, 5, body)
    account = ledger.state.account(numbered_key(1).peer)
    assert (account.stake, account.unbonding) == (0, ())
    reward = (STAKE + 100) * WITNESS_PERCENT // 100
    assert ledger.state.supply == supply - (STAKE + 100) + reward == audit_supply(ledger.state)
    assert ledger.state.account(numbered_key(5).peer).balance == before - fee + reward
    assert ledger.state.globals.burned == STAKE + 100 - reward
    assert ledger.state.equivocator(numbered_key(1).peer) == Equivocator(
        0, View(3), ledger.state.height, Amount(STAKE + 100)
    )
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
    assert (after.stake, after.unbonding) == (0, ())
    assert ledger.state.globals.burned == STAKE
    assert audit_supply(ledger.state) == ledger.state.supply


def test_a_convicted_validator_is_out_for_good_whatever_it_stakes_again() -> None:
    ledger = a_network(num_accounts=6, num_validators=5)
    submit(ledger, 5, evidence(ledger))
    assert refused(ledger, 1, Validate(is_on=False)) is Reason.DUPLICATE, "its offer is gone"
    submit(ledger, 1, Stake(Amount(5 * STAKE)))
    for epoch in (2, 3, 4):
        reach(ledger, epoch * EPOCH)
        assert voters(ledger) == peers(0, 2, 3, 4)
        assert refused(ledger, 1, Validate(is_on=True)) is Reason.WRONG_PEER


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
    later = vote(ledger, key, NOTARIZE, RIGHT, view=4)
    assert refused(ledger, 2, replace(good, second=later)) is Reason.BAD_SIGNATURE
    reach(ledger, EPOCH)
    next_epoch = vote(ledger, key, NOTARIZE, RIGHT, epoch=1)
    for body in (replace(good, epoch=1), replace(good, second=next_epoch)):
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


def test_who_left_with_its_stake_on_the_way_is_still_within_reach() -> None:
    """It votes, withdraws everything at the first moment it may, and is shown up after that."""
    ledger = a_network(num_validators=4)
    submit(ledger, 1, Validate(is_on=False))
    reach(ledger, 2 * EPOCH - 1)
    submit(ledger, 1, Unstake(STAKE))
    crime = evidence(ledger, epoch=1)
    reach(ledger, 5 * EPOCH - 2)
    assert ledger.state.account(numbered_key(1).peer).stake == 0
    submit(ledger, 5, crime)
    account = ledger.state.account(numbered_key(1).peer)
    assert (account.stake, account.unbonding) == (0, ())
    assert ledger.state.globals.burned == STAKE - STAKE * WITNESS_PERCENT // 100
    assert audit_supply(ledger.state) == ledger.state.supply


def two_votes(ledger: InMemoryLedger, key: SecretKey, epoch: int) -> tuple[SignedVote, SignedVote]:
    first, second = (vote(ledger, key, NOTARIZE, block, epoch=epoch) for block in (LEFT, RIGHT))
    return first, second


def test_no_pair_convicts_but_those_that_no_honest_validator_signs() -> None:
    different = {(NOTARIZE, NOTARIZE), (FINALIZE, FINALIZE), (NULLIFY, FINALIZE)}
    for one, other in product((NOTARIZE, NULLIFY, FINALIZE), repeat=2):
        pairs = {(one, other), (other, one)}
        first, second = SignedVote(one, LEFT, b""), SignedVote(other, RIGHT, b"")
        assert conflict(first, second) == bool(pairs & different)
        same = SignedVote(other, LEFT, b"")
        assert conflict(first, same) == ({one, other} == {NULLIFY, FINALIZE})


@given(
    st.sampled_from([NOTARIZE, NULLIFY, FINALIZE]), st.sampled_from([NOTARIZE, NULLIFY, FINALIZE])
)
def test_conflicts_have_no_order(one: int, other: int) -> None:
    first, second = SignedVote(one, LEFT, b""), SignedVote(other, RIGHT, b"")
    assert conflict(first, second) == conflict(second, first)
