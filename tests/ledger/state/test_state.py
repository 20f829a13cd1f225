"""A state is the same after a round trip, and its genesis is refused when it could not work."""

import pytest

from swarm.config.spec import GenesisAccount
from swarm.errors import BadEncoding, InvalidStatement
from swarm.ledger.chain import Head
from swarm.ledger.check_statements import AMOUNT_MAX
from swarm.ledger.state.records import Equivocator
from swarm.ledger.state.state import (
    COUNCIL_KEY,
    EMPTY_ACCOUNT,
    State,
    account_key,
    audit_supply,
    decode_state,
    encode_state,
    equivocator_key,
    genesis_state,
)
from swarm.ledger.transactions import Join
from swarm.primitives.codec import encode, replace
from swarm.primitives.merkle import verify_absent, verify_included
from swarm.testing.ledger import STAKE, InMemoryLedger, make_genesis, numbered_key, small_run_spec
from swarm.types import Amount, Height, RoundIndex, RunIndex, View


def a_lived_in_ledger() -> InMemoryLedger:
    stage = InMemoryLedger(num_validators=3)
    run = stage.open_run(small_run_spec())
    stage.block(*(stage.sign(stage.keys[i], Join(run.index)) for i in (1, 2)))
    run = stage.reach_round(run, 2)
    stage.block(*stage.commit_all(run, 1))
    return stage


@pytest.mark.rule("L5")
def test_a_state_and_its_root_survive_their_encoding() -> None:
    state = a_lived_in_ledger().state
    again = decode_state(encode_state(state))
    assert again.root == state.root
    assert encode_state(again) == encode_state(state)
    assert again.runs() == state.runs()
    assert again.globals == state.globals
    assert dict(again.accounts()) == dict(state.accounts())


@pytest.mark.rule("L6")
def test_a_ledger_goes_on_from_a_snapshot_as_from_the_original() -> None:
    stage = a_lived_in_ledger()
    before = stage.head
    after = stage.empty_blocks(9)
    other = a_lived_in_ledger()
    other.head = Head(other.head.digest, decode_state(encode_state(before.state)))
    assert other.empty_blocks(9).root == after.root


@pytest.mark.rule("L6")
def test_a_changed_snapshot_is_refused_or_has_another_root() -> None:
    state = a_lived_in_ledger().state
    data = encode_state(state)
    for at in range(0, len(data), 41):
        wrong = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        try:
            assert decode_state(wrong).root != state.root
        except BadEncoding:
            continue


@pytest.mark.rule("L6")
def test_a_snapshot_out_of_order_or_of_unknown_kinds_is_refused() -> None:
    state = genesis_state(make_genesis(2, 1))
    entries = sorted((key, encode(entry)) for key, entry in state.entries.items())
    for wrong in (
        entries[::-1],
        entries[:-1],
        [*entries, (b"z", entries[0][1])],
        [*entries, entries[-1]],
        [entry for entry in entries if entry[0] != COUNCIL_KEY],
        [*entries, (COUNCIL_KEY + b"2", dict(entries)[COUNCIL_KEY])],
    ):
        with pytest.raises(BadEncoding):
            decode_state(encode((tuple(wrong),)))


def test_a_conviction_outlives_a_snapshot() -> None:
    state = genesis_state(make_genesis(2, 1))
    peer, conviction = numbered_key(1).peer, Equivocator(3, View(5), Height(40), Amount(1_000))
    barred = State(state.entries.update({equivocator_key(peer): conviction}))
    again = decode_state(encode_state(barred))
    assert (again.equivocator(peer), again.root) == (conviction, barred.root)
    assert again.council == state.council
    assert again.equivocator(numbered_key(0).peer) is None


def test_an_account_can_be_proved_present_or_absent() -> None:
    state = a_lived_in_ledger().state
    known, unknown = numbered_key(1).peer, numbered_key(29).peer
    verify_included(
        state.root,
        account_key(known),
        encode(state.account(known)),
        state.entries.prove(account_key(known)),
    )
    verify_absent(state.root, account_key(unknown), state.entries.prove(account_key(unknown)))


def test_what_is_not_there_reads_as_nothing() -> None:
    state = genesis_state(make_genesis(2, 1))
    assert state.account(numbered_key(20).peer) is EMPTY_ACCOUNT
    assert state.find_run(RunIndex(1)) is None
    assert state.contribution(RunIndex(1), numbered_key(0).peer).segments == 0
    with pytest.raises(InvalidStatement):
        state.run(RunIndex(1))


def test_the_segments_of_a_kept_round_are_listed_by_seat() -> None:
    stage = a_lived_in_ledger()
    run = stage.state.run(RunIndex(1))
    found = stage.state.segments(run, RoundIndex(1))
    assert [(record.stage, record.seat) for record in found] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert stage.state.segments(run, RoundIndex(0)) == ()


def test_the_supply_of_a_genesis_is_what_its_accounts_hold() -> None:
    state = genesis_state(make_genesis(5, 1))
    assert audit_supply(state) == state.supply


GENESIS = make_genesis(3, 2)
STRANGER = GenesisAccount(numbered_key(9).peer, Amount(1), Amount(0))


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"name": "x" * 65},
        {"seed": b"short"},
        {"accounts": ()},
        {"accounts": GENESIS.accounts[::-1]},
        {"accounts": GENESIS.accounts + GENESIS.accounts[-1:]},
        {"accounts": (replace(STRANGER, balance=-1),)},
        {"accounts": (replace(STRANGER, balance=AMOUNT_MAX + 1),)},
        {"accounts": (replace(STRANGER, peer=b"short"),)},
        {"validators": ()},
        {"validators": GENESIS.validators[::-1]},
        {"validators": (STRANGER.peer,)},
        {"block_interval_ms": 0},
        {"epoch_blocks": 0},
        {"beacon_delay": 0},
        {"unbonding_epochs": 0},
        {"unbonding_epochs": 2},
        {"validator_stake": 0},
        {"validator_stake": AMOUNT_MAX + 1},
        {"stake_segments": 0},
        {"fee_min": -1},
        {"fee_per_byte_nano": 0},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_genesis_out_of_bounds_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(BadEncoding):
        genesis_state(replace(GENESIS, **changes))


def test_every_stake_is_counted() -> None:
    state = genesis_state(make_genesis(5, 1))
    assert state.globals.staked == 5 * STAKE
    poor = replace(make_genesis(5, 1), accounts=(*make_genesis(5, 1).accounts[:4], STRANGER))
    accounts = tuple(sorted(poor.accounts, key=lambda account: account.peer))
    again = genesis_state(replace(poor, accounts=accounts, validators=(accounts[0].peer,)))
    assert again.globals.staked == sum(account.stake for account in accounts)
