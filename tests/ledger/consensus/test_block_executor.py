"""A block is applied once, on its parent's state; what was refused stays refused."""

import pytest

from swarm.errors import PeerFault
from swarm.ledger.blocks import block_digest
from swarm.ledger.chain import Head, extend
from swarm.ledger.consensus.validator import REFUSED_MAX, StateExecutor
from swarm.ledger.mempool import Mempool
from swarm.ledger.transactions import Transfer
from swarm.primitives.codec import replace
from swarm.testing.ledger import InMemoryLedger
from swarm.types import Amount, Digest, Height, View


def test_two_blocks_above_the_final_one_are_built_judged_and_settled() -> None:
    ledger = InMemoryLedger(4, 2)
    pool = Mempool()
    pool.add(
        ledger.sign(ledger.keys[2], Transfer(ledger.keys[3].peer, Amount(9))),
        ledger.state,
    )
    leader = StateExecutor(ledger.head, pool, ledger.keys[0])
    voter = StateExecutor(ledger.head, Mempool(), ledger.keys[1])
    first = leader.build(ledger.head.digest, Height(1), View(1))
    voter.validate(first)
    name = block_digest(first.header)
    second = voter.build(name, Height(2), View(2))
    leader.validate(second)
    assert len(first.transactions) == 1
    state = voter.state_after(name)
    assert state == leader.state_after(name) == extend(ledger.head, first).state
    assert state is not None
    voter.settle(Head(name, state))
    assert voter.state_after(ledger.head.digest) is None
    assert voter.state_after(block_digest(second.header)) is not None


def test_a_bad_block_and_what_stands_on_it_are_refused_for_good() -> None:
    ledger = InMemoryLedger(4, 2)
    executor = StateExecutor(ledger.head, Mempool(), ledger.keys[0])
    good = executor.build(ledger.head.digest, Height(1), View(1))
    bad = replace(good, header=replace(good.header, state_root=Digest(bytes(32))))
    for _ in range(2):
        with pytest.raises(PeerFault):
            executor.validate(bad)
    child = replace(good, header=replace(good.header, parent=block_digest(bad.header)))
    with pytest.raises(PeerFault):
        executor.validate(child)
    for view in range(2, REFUSED_MAX + 10):
        with pytest.raises(PeerFault):
            executor.validate(replace(bad, header=replace(bad.header, view=View(view))))
    executor.validate(good)
