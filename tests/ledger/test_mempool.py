"""The pool is bounded, keeps one transaction per slot, and hands out bodies that are valid in order."""

import pytest

from swarm.errors import InvalidStatement, Reason
from swarm.ledger import mempool as pool_module
from swarm.ledger.blocks import NOTARIZE, VOTE_PURPOSES, vote_parts
from swarm.ledger.mempool import EARLY_BLOCKS, LANE_MAX, OVERDUE_BLOCKS, Lane, Mempool
from swarm.ledger.transactions import (
    Evidence,
    Join,
    SignedVote,
    Stake,
    Transfer,
    parse_transaction,
    transaction_digest,
)
from swarm.ledger.transition.apply import apply_block
from swarm.ledger.transition.runs import boundary_height
from swarm.primitives import vrf
from swarm.primitives.codec import encode, replace
from swarm.primitives.crypto import SecretKey, digest
from swarm.testing.ledger import InMemoryLedger, make_segment, small_run_spec
from swarm.types import Amount, View
from tests.ledger.checking import a_case
from tests.ledger.edges import ACTIVATION, GRADIENT, a_sender, other, proof
from tests.ledger.storing import Kept

BETA = bytes(64)


def refused(pool: Mempool, stage: InMemoryLedger, data: bytes) -> Reason:
    size = len(pool)
    with pytest.raises(InvalidStatement) as caught:
        pool.add(data, stage.state)
    assert len(pool) == size
    return caught.value.reason


def gift(stage: InMemoryLedger, number: int, **envelope: int) -> bytes:
    return stage.sign(stage.keys[number], Stake(Amount(1)), **envelope)


def taken(pool: Mempool, stage: InMemoryLedger, **limits: int) -> tuple[bytes, ...]:
    body = pool.take(stage.state, leader=stage.keys[0].peer, beta=BETA, **limits)
    apply_block(stage.state, body, leader=stage.keys[0].peer, beta=BETA)
    return body


def test_what_is_valid_is_taken_once_and_told_apart_from_what_is_known() -> None:
    stage, pool = InMemoryLedger(), Mempool()
    data = gift(stage, 1)
    assert pool.add(data, stage.state)
    assert not pool.add(data, stage.state)
    assert transaction_digest(data) in pool
    assert pool.get(transaction_digest(data)) == data
    assert pool.transactions() == (data,)
    assert pool.known == {transaction_digest(data): stage.keys[1].peer}


def test_what_could_not_be_in_the_next_block_is_refused() -> None:
    stage, pool = InMemoryLedger(), Mempool()
    good = gift(stage, 1)
    forged = encode(replace(parse_transaction(good), signature=bytes(64)))
    assert refused(pool, stage, b"junk") is Reason.BAD_FIELD
    assert refused(pool, stage, forged) is Reason.BAD_SIGNATURE
    assert refused(pool, stage, gift(stage, 1, nonce=99)) is Reason.NONCE
    assert refused(pool, stage, gift(stage, 1, fee=0)) is Reason.FEE


@pytest.mark.rule("L28")
def test_a_nonce_is_replaced_only_by_who_pays_more() -> None:
    stage, pool = InMemoryLedger(), Mempool()
    pool.add(gift(stage, 1, fee=100), stage.state)
    assert refused(pool, stage, gift(stage, 1, fee=110)) is Reason.DUPLICATE
    better = gift(stage, 1, fee=111)
    assert pool.add(better, stage.state)
    assert pool.transactions() == (better,)


@pytest.mark.rule("L28")
def test_a_seat_says_one_thing_about_a_round() -> None:
    stage, pool = InMemoryLedger(), Mempool()
    run = stage.reach_round(stage.open_run(small_run_spec()), 1)
    first = stage.commit(run, 0, 0, 0)
    pool.add(stage.sign(stage.keys[0], first), stage.state)
    other = stage.sign(stage.keys[0], replace(first, incarnation=1))
    assert refused(pool, stage, other) is Reason.DUPLICATE


@pytest.mark.rule("L28")
def test_one_sender_fills_its_window_and_not_the_pool() -> None:
    stage, pool = InMemoryLedger(), Mempool()
    for nonce in range(1, 17):
        pool.add(gift(stage, 1, nonce=nonce), stage.state)
    assert refused(pool, stage, gift(stage, 1, nonce=17)) is Reason.NONCE
    pool.add(gift(stage, 2), stage.state)


@pytest.mark.rule("L28")
def test_the_pool_is_bounded_in_all_and_per_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    stage, pool = InMemoryLedger(), Mempool()
    run = stage.open_run(small_run_spec())
    monkeypatch.setattr(pool_module, "LANE_MAX", {**LANE_MAX, Lane.SPONSORED: 2, Lane.OPEN: 1})
    for number in (20, 21):
        pool.add(stage.sign(stage.keys[number], Join(run.index), fee=0), stage.state)
    flood = stage.sign(stage.keys[22], Join(run.index), fee=0)
    assert refused(pool, stage, flood) is Reason.FULL
    pool.add(gift(stage, 1), stage.state)
    assert refused(pool, stage, gift(stage, 2)) is Reason.FULL
    monkeypatch.setattr(pool_module, "POOL_MAX", 3)
    assert refused(pool, stage, gift(stage, 3)) is Reason.FULL
    pool.remove(pool.transactions())
    assert len(pool) == 0
    pool.add(flood, stage.state)


@pytest.mark.rule("L28")
def test_in_a_full_lane_who_pays_more_takes_the_place_of_who_pays_least(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A flood at the least fee keeps nobody out."""
    stage, pool = InMemoryLedger(12), Mempool()
    monkeypatch.setattr(pool_module, "LANE_MAX", {**LANE_MAX, Lane.OPEN: 4})
    flood = [gift(stage, number, fee=5) for number in (1, 2, 3)]
    better = gift(stage, 4, fee=9)
    for data in (*flood, better):
        pool.add(data, stage.state)
    assert refused(pool, stage, gift(stage, 5, fee=5)) is Reason.FULL
    newer = gift(stage, 6, fee=6)
    assert pool.add(newer, stage.state)
    assert pool.transactions() == (*flood[:2], better, newer), "of equals the newest went"
    pool.remove(flood[:1])
    assert pool.add(gift(stage, 7, fee=4), stage.state)
    for number in (8, 9, 10):
        pool.add(gift(stage, number, fee=20), stage.state)
    fees = sorted(parse_transaction(data).fee for data in pool.transactions())
    assert fees == [9, 20, 20, 20]


@pytest.mark.rule("L28", "L29", "S19a")
def test_a_flood_of_payments_does_not_hold_up_a_check(monkeypatch: pytest.MonkeyPatch) -> None:
    case = a_case(num_accounts=8)
    case.draw_verifiers()
    ledger, pool = case.ledger, Mempool()
    monkeypatch.setattr(pool_module, "LANE_MAX", {**LANE_MAX, Lane.OPEN: 3})
    flood = [gift(ledger, number, fee=10_000) for number in (5, 6, 7)]
    for data in flood:
        pool.add(data, ledger.state)
    key, body = next((k, b) for k in case.able if (b := case.claimed.request(ledger.state, k)))
    request = ledger.sign(key, body, nonce=ledger.state.account(key.peer).nonce + 1)
    assert pool.add(request, ledger.state)
    assert taken(pool, ledger)[0] == request, "before all that pays more"


@pytest.mark.rule("L58")
def test_statements_and_checks_are_overdue_after_ten_blocks_and_payments_never() -> None:
    case = a_case()
    case.draw_verifiers()
    ledger, pool = case.ledger, Mempool()
    key, body = next((k, b) for k in case.able if (b := case.claimed.request(ledger.state, k)))
    request, height = ledger.sign(key, body), ledger.state.height
    pool.add(gift(ledger, 0), ledger.state)
    pool.add(request, ledger.state)
    assert pool.overdue(height + OVERDUE_BLOCKS - 1) == ()
    assert pool.overdue(height + OVERDUE_BLOCKS) == (request,)
    pool.remove([request])
    assert pool.overdue(height + OVERDUE_BLOCKS) == ()


@pytest.mark.rule("L29", "L58")
def test_what_waits_for_a_dearer_statement_of_the_same_body_is_in_it_too() -> None:
    """Voters would miss it, view after view: it is valid after all that the body has."""
    stage, pool = InMemoryLedger(6, 4), Mempool()
    poor, rich, thief = stage.keys[20], stage.keys[1], stage.keys[2]
    evidence = an_evidence(stage, thief)
    stage.block(stage.sign(rich, Transfer(poor.peer, Amount(100))))
    dear = stage.sign(poor, evidence, fee=90)
    pool.add(dear, stage.state)
    stage.block(stage.sign(poor, Transfer(rich.peer, Amount(50)), fee=20, nonce=9))
    assert taken(pool, stage) == ()
    pool.add(stage.sign(rich, Transfer(poor.peer, Amount(80)), fee=10), stage.state)
    assert len(taken(pool, stage)) == 2


def an_evidence(stage: InMemoryLedger, key: SecretKey) -> Evidence:
    """A validator's two votes in view 1."""
    votes = list[SignedVote]()
    for block in (digest("one"), digest("two")):
        parts = vote_parts(stage.state.chain, 0, View(1), block)
        votes.append(SignedVote(NOTARIZE, block, key.sign(VOTE_PURPOSES[NOTARIZE], *parts)))
    return Evidence(key.peer, 0, View(1), *votes)


@pytest.mark.rule("L29")
def test_a_body_is_valid_in_its_order_whatever_order_it_came_in() -> None:
    stage, pool = InMemoryLedger(), Mempool()
    rich, poor = stage.keys[1], stage.keys[20]
    stage.block(stage.sign(rich, Transfer(poor.peer, Amount(50))))
    base = stage.state.account(rich.peer).nonce
    for nonce in (3, 1, 2, 9):
        pool.add(
            stage.sign(rich, Stake(Amount(1)), nonce=base + nonce, fee=10 * nonce), stage.state
        )
    for nonce in (1, 2, 3):
        spend = Transfer(rich.peer, Amount(20))
        pool.add(stage.sign(poor, spend, nonce=nonce, fee=9), stage.state)
    body = taken(pool, stage)
    senders = [parse_transaction(data) for data in body]
    assert [t.nonce - base for t in senders if t.sender == rich.peer] == [1, 2, 3, 9]
    assert len([t for t in senders if t.sender == poor.peer]) == 1, "the second it cannot afford"


@pytest.mark.rule("L29")
def test_statements_come_first_then_the_sponsored_then_who_pays_most() -> None:
    stage, pool = InMemoryLedger(), Mempool()
    run = stage.reach_round(stage.open_run(small_run_spec()), 1)
    low, high = gift(stage, 1, fee=5), gift(stage, 2, fee=500)
    free = stage.sign(stage.keys[20], Join(run.index), fee=0)
    commits = stage.commit_all(run, 0)
    for data in (low, high, free, *commits[::-1]):
        pool.add(data, stage.state)
    assert taken(pool, stage) == (*commits, free, high, low)


def test_a_body_keeps_to_its_limits() -> None:
    stage, pool = InMemoryLedger(), Mempool()
    for number in (1, 2, 3):
        pool.add(gift(stage, number), stage.state)
    size = len(pool.transactions()[0])
    assert len(taken(pool, stage, limit_bytes=2 * size + 3)) == 2
    assert taken(pool, stage, limit_bytes=10) == ()


@pytest.mark.rule("L28")
def test_a_commit_may_come_a_little_early_and_waits() -> None:
    stage, pool = InMemoryLedger(), Mempool()
    run = stage.reach_round(stage.open_run(small_run_spec(round_blocks=10)), 0)
    commit = stage.sign(stage.keys[0], stage.commit(run, 0, 0, 0))
    assert refused(pool, stage, commit) is Reason.WRONG_ROUND
    stage.empty_blocks(9 - EARLY_BLOCKS)
    assert pool.add(commit, stage.state)
    while not taken(pool, stage):
        assert pool.prune(stage.state) == 0
        stage.block()
    assert stage.state.height + 1 == run.start_height + 10


def test_an_expiry_counted_from_a_height_we_have_not_reached_is_no_fault() -> None:
    stage, pool = InMemoryLedger(), Mempool()
    longest = stage.state.height + 1 + stage.genesis.epoch_blocks
    assert pool.add(gift(stage, 1, expiry=longest + EARLY_BLOCKS), stage.state)
    assert refused(pool, stage, gift(stage, 2, expiry=longest + EARLY_BLOCKS + 1)) is Reason.EXPIRED
    assert taken(pool, stage) == ()
    stage.empty_blocks(EARLY_BLOCKS)
    assert len(taken(pool, stage)) == 1


def test_what_became_impossible_is_pruned() -> None:
    stage, pool = InMemoryLedger(), Mempool()
    pool.add(gift(stage, 1, expiry=3), stage.state)
    late = gift(stage, 2, nonce=2)
    pool.add(late, stage.state)
    stage.block(gift(stage, 3))
    assert pool.prune(stage.state) == 0
    stage.empty_blocks(2)
    assert pool.prune(stage.state) == 1
    assert pool.transactions() == (late,)
    stage.block(late)
    assert pool.prune(stage.state) == 1
    assert not pool.known


def test_a_full_pool_is_looked_through_in_turns() -> None:
    stage, pool = InMemoryLedger(6), Mempool()
    for number in range(1, 5):
        assert pool.add(gift(stage, number, expiry=3), stage.state)
    late = gift(stage, 5)
    assert pool.add(late, stage.state)
    stage.empty_blocks(3)
    assert [pool.prune(stage.state, 2) for _ in range(4)] == [2, 2, 0, 0]
    assert pool.transactions() == (late,)


def test_what_is_gone_from_the_pool_takes_no_memory_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool_module, "HEAP_SLACK", 8)
    stage, pool = InMemoryLedger(8), Mempool()
    for _ in range(20):
        for number in range(8):
            pool.add(gift(stage, number), stage.state)
        stage.block(*pool.transactions())
        pool.remove(pool.transactions())
    assert len(pool) == 0
    sizes = [len(part) for part in vars(pool).values() if isinstance(part, dict | list)]
    sizes += [len(heap) for heap in pool._cheapest.values()]
    assert max(sizes) <= 8 + 8 + 1


def test_a_body_and_its_state_come_together() -> None:
    stage, pool = InMemoryLedger(), Mempool()
    pool.add(gift(stage, 1), stage.state)
    beta = vrf.output(vrf.prove(stage.keys[0], b"alpha"))
    body, after = pool.assemble(stage.state, leader=stage.keys[0].peer, beta=beta)
    assert after.root == apply_block(stage.state, body, leader=stage.keys[0].peer, beta=beta).root


def test_a_seat_has_one_reveal_on_its_way_beside_its_other_statements() -> None:
    case = a_case()
    case.draw_verifiers()
    case.seal(case.ask(case.able))
    pool, state = Mempool(), case.ledger.state
    reveal = case.ledger.sign(case.solver, case.claimed.reveal())
    assert pool.add(reveal, state)
    assert not pool.add(reveal, state)
    with pytest.raises(InvalidStatement):
        pool.add(case.ledger.sign(case.solver, case.claimed.reveal(salt=bytes(32))), state)
    leader = case.ledger.keys[0].peer
    assert pool.take(state, leader=leader, beta=bytes(64)) == (reveal,)
    case.submit(case.solver, case.claimed.reveal())
    assert pool.prune(case.ledger.state) == 1


@pytest.mark.rule("L28", "L58")
def test_a_peer_proves_one_lie_of_a_segment_and_its_proof_may_not_be_left_out() -> None:
    case = a_sender()
    pool, ledger, sender = Mempool(), case.ledger, case.ledger.keys[4]
    first = ledger.sign(sender, proof(case, other(GRADIENT)))
    pool.add(gift(ledger, 2, fee=10_000), ledger.state)
    assert pool.add(first, ledger.state)
    more = ledger.sign(
        sender, proof(case, other(ACTIVATION)), nonce=ledger.state.account(sender.peer).nonce + 2
    )
    assert refused(pool, ledger, more) is Reason.DUPLICATE
    height = ledger.state.height
    assert pool.overdue(height + OVERDUE_BLOCKS - 1) == ()
    assert pool.overdue(height + OVERDUE_BLOCKS) == (first,)
    assert taken(pool, ledger)[0] == first, "before all that pays more"
    assert pool.add(ledger.sign(ledger.keys[3], proof(case, other(GRADIENT))), ledger.state)
    ledger.block(first)
    pool.remove([first])
    assert pool.prune(ledger.state) == 1, "another peer's proof of the same segment is too late"
    assert refused(pool, ledger, more) is Reason.WRONG_PHASE


@pytest.mark.rule("L29")
def test_the_long_statements_of_holders_come_after_all_other_free_ones() -> None:
    kept, pool = Kept(), Mempool()
    peer = kept.draw()[0]
    receipt = kept.ledger.sign(kept.ledger.key_of(peer), kept.receipt(peer))
    seat = kept.run.seats[1][0]
    made = make_segment(kept.ledger, kept.run, 4, 1, seat.index)
    kept.to_height(boundary_height(kept.run, 5))
    commit = kept.ledger.sign(kept.ledger.key_of(seat.peer), made.commit)
    for data in (receipt, commit):
        assert pool.add(data, kept.state)
    again = kept.ledger.sign(kept.ledger.key_of(peer), kept.receipt(peer))
    assert not pool.add(again, kept.state), "it is the same"
    leader = kept.ledger.keys[0].peer
    assert pool.take(kept.state, leader=leader, beta=bytes(64)) == (commit, receipt)
