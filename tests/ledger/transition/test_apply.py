"""Whatever stream of transactions comes, money is conserved and an invalid one changes nothing."""

import random

import pytest

from swarm.errors import InvalidStatement, Reason
from swarm.ledger.blocks import next_beacon
from swarm.ledger.state.state import audit_supply, decode_state, encode_state
from swarm.ledger.transactions import (
    Body,
    CloseRun,
    CommitSegment,
    Join,
    Leave,
    OpenRun,
    Stake,
    Transfer,
    Unstake,
    parse_transaction,
    transaction_digest,
)
from swarm.ledger.transition.apply import apply_block, check_transaction
from swarm.primitives.codec import encode, replace
from swarm.primitives.crypto import digest
from swarm.testing.ledger import InMemoryLedger, small_run_spec
from swarm.types import Amount, Height, RoundIndex, RunIndex

BETA = bytes(64)
NUM_STREAMS = 6
BLOCKS_PER_STREAM = 60


def a_body(rng: random.Random, stage: InMemoryLedger) -> Body:
    run = RunIndex(rng.choice([1, 1, 1, 2, 3]))
    amount = Amount(rng.choice([1, 50, 900, 900, 10**15]))
    kind = rng.randrange(12)
    if kind < 3:
        found = stage.state.find_run(run)
        if found is not None:
            round_ = max(
                (stage.state.height - found.start_height) // found.spec.round_blocks - 1, 0
            )
            rosters = [i.seats for i in found.rounds if i.round == round_] or [found.seats]
            seats = [seat for roster in rosters[0] for seat in roster]
            if seats:
                seat = rng.choice(seats)
                body = stage.commit(found, round_, seat.stage, seat.index)
                wrong: dict[str, object] = (
                    {"tokens": rng.randrange(1 << 32)} if rng.random() < 0.1 else {}
                )
                wrong |= {"start": bytes(32)} if rng.random() < 0.1 else {}
                return replace(body, **wrong)
        return Join(run)
    spec = small_run_spec(num_stages=rng.choice([1, 2, 2, 2, 9]), rounds=rng.randrange(4, 9))
    return (
        Join(run), Join(run), Join(run), Leave(run), CloseRun(run),
        Transfer(rng.choice(stage.keys).peer, amount), Stake(amount), Unstake(amount),
        OpenRun(encode(spec), amount),
    )[kind - 3]  # fmt: skip


def a_transaction(rng: random.Random, stage: InMemoryLedger) -> bytes:
    body, key = a_body(rng, stage), stage.keys[rng.randrange(8)]
    if isinstance(body, CommitSegment) and rng.random() < 0.9:
        run = stage.state.run(body.run)
        seats = [s for i in run.rounds for s in i.seats[body.stage] if s.index == body.seat]
        return stage.sign(stage.key_of(seats[0].peer) if seats else key, body)
    envelope: dict[str, int] = {}
    if not isinstance(body, CommitSegment):
        envelope = {"nonce": stage.state.account(key.peer).nonce + rng.randrange(1, 9)}
        if key.peer not in dict(stage.state.accounts()) and rng.random() < 0.8:
            envelope["fee"] = 0
        if rng.random() < 0.15:
            odd: list[dict[str, int]] = [{"fee": 0}, {"nonce": 40}, {"expiry": 5}]
            envelope |= rng.choice(odd)
    data = bytearray(stage.sign(key, body, **envelope))
    if rng.random() < 0.1:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


@pytest.mark.rule("L1", "L4")
@pytest.mark.parametrize("stream", range(NUM_STREAMS))
def test_money_is_conserved_and_what_is_invalid_changes_nothing(stream: int, seed: int) -> None:
    rng, stage = (
        random.Random(1000 * seed + stream),
        InMemoryLedger(num_accounts=6, num_validators=2),
    )
    stage.open_run(small_run_spec(rounds=18, round_blocks=3))
    accepted = refused = 0
    for _ in range(BLOCKS_PER_STREAM):
        body = list[bytes]()
        for _ in range(rng.randrange(8)):
            data, before = a_transaction(rng, stage), stage.state.root
            try:
                check_transaction(stage.state, data)
                apply_block(stage.state, (*body, data), leader=stage.keys[0].peer, beta=BETA)
                body.append(data)
                accepted += 1
            except InvalidStatement:
                refused += 1
            assert stage.state.root == before
        try:
            stage.block(*body)
        except InvalidStatement as error:
            pytest.fail(f"valid alone, and invalid in the same order: {error}")
        assert audit_supply(stage.state) == stage.state.supply
    assert accepted > 15
    assert refused > 20
    again = decode_state(encode_state(stage.state))
    assert again.root == stage.state.root


@pytest.mark.rule("L1")
def test_one_invalid_transaction_makes_the_block_invalid() -> None:
    stage = InMemoryLedger()
    good = stage.sign(stage.keys[1], Stake(Amount(1)))
    for bad in (b"junk", good, stage.sign(stage.keys[2], Unstake(Amount(10**9)))):
        root = stage.state.root
        with pytest.raises(InvalidStatement):
            apply_block(stage.state, (good, bad), leader=stage.keys[0].peer, beta=BETA)
        assert stage.state.root == root
    apply_block(stage.state, (good,), leader=stage.keys[0].peer, beta=BETA)


@pytest.mark.rule("L3")
def test_the_beacon_moves_with_the_leaders_dice_and_nothing_else() -> None:
    stage = InMemoryLedger()
    state, leader = stage.state, stage.keys[0].peer
    one = apply_block(state, (), leader=leader, beta=BETA)
    two = apply_block(one, (), leader=leader, beta=b"\x01" * 64)
    assert one.beacon == next_beacon(state.beacon, BETA) == digest("beacon", state.beacon, BETA)
    assert two.beacon == next_beacon(one.beacon, b"\x01" * 64)
    gift = stage.sign(stage.keys[1], Stake(Amount(1)))
    assert apply_block(state, (gift,), leader=leader, beta=BETA).beacon == one.beacon


@pytest.mark.rule("L2")
def test_the_roster_of_a_boundary_is_fixed_before_its_dice_are_known() -> None:
    stage = InMemoryLedger()
    run = stage.open_run(small_run_spec())
    stage.block()
    ask = stage.sign(stage.keys[1], Join(run.index))
    stage.block(ask)
    run = stage.state.run(run.index)
    assert stage.state.height == run.start_height
    assert len(run.rounds[0].seats[0]) == 1
    assert [waiter.peer for waiter in run.waiting] == [stage.keys[1].peer]


def test_a_known_signature_is_not_verified_again_but_only_for_its_signer() -> None:
    stage = InMemoryLedger()
    good = stage.sign(stage.keys[1], Stake(Amount(1)))
    forged = encode(replace(parse_transaction(good), signature=bytes(64)))
    name = transaction_digest(forged)
    check_transaction(stage.state, forged, known={name: stage.keys[1].peer})
    for known in ({}, {name: stage.keys[2].peer}, {transaction_digest(good): stage.keys[1].peer}):
        with pytest.raises(InvalidStatement) as caught:
            check_transaction(stage.state, forged, known=known)
        assert caught.value.reason is Reason.BAD_SIGNATURE


@pytest.mark.rule("L11")
def test_what_is_cheap_is_checked_before_the_signature() -> None:
    stage = InMemoryLedger()
    key = stage.keys[1]
    good = parse_transaction(stage.sign(key, Stake(Amount(1))))
    far = Height(stage.genesis.epoch_blocks + 2)
    cases: tuple[tuple[dict[str, int], Reason], ...] = (
        ({}, Reason.BAD_SIGNATURE),
        ({"expiry": far}, Reason.EXPIRED),
        ({"nonce": 99}, Reason.NONCE),
        ({"fee": Amount(0)}, Reason.FEE),
        ({"fee": Amount(10**12)}, Reason.BALANCE),
    )
    for change, reason in cases:
        forged = replace(good, signature=bytes(64), **change)
        with pytest.raises(InvalidStatement) as caught:
            check_transaction(stage.state, encode(forged))
        assert caught.value.reason is reason


def test_a_statement_can_be_checked_for_a_later_block() -> None:
    stage = InMemoryLedger()
    run = stage.reach_round(stage.open_run(small_run_spec()), 0)
    early = stage.sign(stage.keys[0], stage.commit(run, RoundIndex(0), 0, 0))
    with pytest.raises(InvalidStatement) as caught:
        check_transaction(stage.state, early)
    assert caught.value.reason is Reason.WRONG_ROUND
    _, signer = check_transaction(stage.state, early, blocks_ahead=4)
    assert signer == stage.keys[0].peer
