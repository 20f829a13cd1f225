"""A network that lost its quorum begins anew: all money is there once, and equal states give equal ids."""

import pytest

from swarm.errors import BadConfig, UsageError
from swarm.ledger.restart import restart
from swarm.ledger.state.state import genesis_state
from swarm.ledger.transactions import Unstake
from swarm.testing.ledger import numbered_key
from swarm.types import Amount, PeerId
from tests.ledger.checking import Case, a_case
from tests.ledger.complaints import complain, unserved


def mid_run() -> Case:
    """Money in an escrow, a segment, bonds of a check and a complaint, and on its way out of a stake."""
    case, victim = unserved()
    complain(case, victim)
    case.submit(case.ledger.keys[5], Unstake(Amount(100)))
    return case


@pytest.mark.rule("L87")
def test_all_money_is_in_the_new_genesis_once() -> None:
    case = mid_run()
    state = case.ledger.state
    made = restart(case.ledger.genesis, state, [key.peer for key in case.ledger.keys[:4]])
    new = genesis_state(made.genesis)
    assert new.supply == state.supply
    assert (
        new.account(case.ledger.keys[5].peer).stake == state.account(case.ledger.keys[5].peer).stake
    )
    owner = state.run(case.run.index).owner
    held = state.run(case.run.index).escrow + case.record.held + case.record.reserved
    assert new.account(owner).balance == state.account(owner).balance + held
    asker = case.record.checks[0]
    bonds = asker.bond + case.record.contests[0].bond
    assert new.account(asker.peer).balance == state.account(asker.peer).balance + bonds
    assert {v.peer for v in new.validators} == {key.peer for key in case.ledger.keys[:4]}
    assert made.genesis.epoch_blocks == case.ledger.genesis.epoch_blocks


@pytest.mark.rule("L87")
def test_the_same_state_and_validators_give_the_same_network_and_others_another() -> None:
    case = a_case()
    keys = [key.peer for key in case.ledger.keys]
    old, state = case.ledger.genesis, case.ledger.state
    first = restart(old, state, keys[:3]).genesis
    assert restart(old, state, [keys[2], keys[0], keys[1], keys[0]]).genesis == first
    others = {
        restart(old, state, keys[:4]).genesis.chain,
        restart(old, state, keys[1:3]).genesis.chain,
    }
    case.ledger.block()
    others.add(restart(old, case.ledger.state, keys[:3]).genesis.chain)
    assert len({first.chain, old.chain, *others}) == 5


@pytest.mark.rule("L87")
def test_who_leaves_out_two_thirds_of_the_power_is_warned_of_two_networks() -> None:
    case = a_case(num_accounts=6)
    keys, old, state = [k.peer for k in case.ledger.keys], case.ledger.genesis, case.ledger.state
    assert not restart(old, state, keys[:3]).may_fork
    assert not restart(old, state, keys[:2]).may_fork
    assert restart(old, state, keys[:1]).may_fork
    assert restart(old, state, keys[4:6]).may_fork


@pytest.mark.parametrize("peer", [PeerId(bytes(32)), numbered_key(99).peer])
def test_a_validator_without_a_stake_is_refused(peer: PeerId) -> None:
    case = a_case()
    with pytest.raises(UsageError, match="has a stake of 0 where a validator has"):
        restart(case.ledger.genesis, case.ledger.state, [peer])


def test_a_network_without_validators_is_refused() -> None:
    case = a_case()
    with pytest.raises(BadConfig):
        restart(case.ledger.genesis, case.ledger.state, [])
