"""Free keys of one network fill no run: a validator counts them, by the network that it sees."""

from contextlib import suppress

import pytest

from swarm.errors import InvalidStatement
from swarm.ledger.free_joins import DIRECT_MAX, NETWORKS_MAX, PASSED_ON_MAX, FreeJoins, Origin
from swarm.ledger.mempool import Mempool
from swarm.ledger.transactions import Join
from swarm.testing.ledger import InMemoryLedger, numbered_key, small_run_spec

RELAY = numbered_key(900).peer
KEYS = [numbered_key(number).peer for number in range(100, 150)]


def admitted(joins: FreeJoins, network: str, epoch: int = 1, *, passed_on: bool = False) -> int:
    """Return how many of 50 keys are let in from this network."""
    count = 0
    for key in KEYS:
        with suppress(InvalidStatement):
            joins.admit(key, Origin(RELAY if passed_on else key, network), epoch)
            count += 1
    return count


@pytest.mark.rule("L89")
def test_a_crowd_of_free_keys_behind_one_address_takes_a_few_places_in_an_epoch() -> None:
    joins = FreeJoins()
    assert admitted(joins, "198.51.100.0/24") == DIRECT_MAX
    assert admitted(joins, "198.51.100.0/24") == DIRECT_MAX, "those that were in may ask again"
    assert admitted(joins, "203.0.113.0/24") == DIRECT_MAX, "others are not kept out"
    assert admitted(joins, "198.51.100.0/24", passed_on=True) == PASSED_ON_MAX
    joins.admit(KEYS[-1], Origin(KEYS[-1], "198.51.100.0/24"), 2)
    assert admitted(joins, "198.51.100.0/24", 2) == DIRECT_MAX


@pytest.mark.rule("L89")
def test_peers_of_the_same_house_are_not_counted() -> None:
    assert admitted(FreeJoins(), "") == len(KEYS)


def test_networks_are_forgotten_rather_than_held_without_bound() -> None:
    joins = FreeJoins()
    for number in range(NETWORKS_MAX + 10):
        joins.admit(KEYS[0], Origin(KEYS[0], f"network {number}"), 1)
    assert len(joins._keys) == NETWORKS_MAX


@pytest.mark.rule("L89")
def test_the_pool_takes_free_joins_of_one_network_until_it_has_had_its_share() -> None:
    stage, pool = InMemoryLedger(), Mempool()
    run = stage.reach_round(stage.open_run(small_run_spec()), 1)
    keys = stage.keys[20 : 20 + DIRECT_MAX + 1]
    for key in keys[:-1]:
        data = stage.sign(key, Join(run.index), fee=0)
        assert pool.add(data, stage.state, Origin(key.peer, "198.51.100.0/24"))
    last = keys[-1]
    data = stage.sign(last, Join(run.index), fee=0)
    with pytest.raises(InvalidStatement, match="free keys of network"):
        pool.add(data, stage.state, Origin(last.peer, "198.51.100.0/24"))
    rich = stage.keys[1]
    paying = stage.sign(rich, Join(run.index))
    assert pool.add(paying, stage.state, Origin(rich.peer, "198.51.100.0/24")), "who pays may join"
    other = stage.sign(stage.keys[31], Join(run.index), fee=0)
    assert pool.add(other, stage.state, Origin(stage.keys[31].peer, "203.0.113.0/24"))
