"""A block is applied once, on its parent's state; what was refused stays refused."""

import pytest

from swarm.errors import PeerFault
from swarm.ledger.blocks import BODY_BYTES_MAX, block_digest
from swarm.ledger.chain import Head, extend, find_omitted
from swarm.ledger.consensus.executor import REFUSED_MAX, StateExecutor
from swarm.ledger.mempool import OVERDUE_BLOCKS, Mempool
from swarm.ledger.transactions import Transfer
from swarm.primitives.codec import replace
from swarm.testing.ledger import InMemoryLedger
from swarm.types import Amount, Digest, Height, View
from tests.ledger.checking import EXACT, Case, a_case


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


def test_a_block_that_was_built_in_parts_is_not_built_again() -> None:
    ledger, pool = InMemoryLedger(4, 2), Mempool()
    leader, place = (
        StateExecutor(ledger.head, pool, ledger.keys[0]),
        (ledger.head.digest, Height(1)),
    )
    assert len(list(leader.build_in_parts(*place, View(1)))) == 1
    pool.add(
        ledger.sign(ledger.keys[2], Transfer(ledger.keys[3].peer, Amount(9))),
        ledger.state,
    )
    assert leader.build(*place, View(1)).transactions == ()
    assert len(leader.build(*place, View(2)).transactions) == 1


def test_a_block_that_was_validated_in_parts_is_not_validated_again() -> None:
    ledger = InMemoryLedger(4, 2)
    pool = Mempool()
    pool.add(
        ledger.sign(ledger.keys[2], Transfer(ledger.keys[3].peer, Amount(9))),
        ledger.state,
    )
    block = StateExecutor(ledger.head, pool, ledger.keys[0]).build(
        ledger.head.digest, Height(1), View(1)
    )
    voter = StateExecutor(ledger.head, Mempool(), ledger.keys[1])
    assert len(list(voter.validate_in_parts(block))) == 2
    assert list(voter.validate_in_parts(block)) == []
    assert voter.state_after(block_digest(block.header)) == extend(ledger.head, block).state


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


def a_waiting_check() -> tuple[Case, bytes]:
    """A request that has waited for ten blocks, and is valid in the next."""
    case = a_case(replace(EXACT, round_blocks=40))
    case.draw_verifiers()
    state = case.ledger.state
    key, body = next((k, b) for k in case.able if (b := case.claimed.request(state, k)))
    request = case.ledger.sign(key, body)
    return case, request


@pytest.mark.rule("L58")
@pytest.mark.parametrize("ahead", [False, True])
def test_a_block_without_a_check_that_has_waited_is_not_complete_and_its_leader_is_told(
    ahead: bool,
) -> None:
    case, request = a_waiting_check()
    ledger, pool, missed = case.ledger, Mempool(), list[tuple[bytes, bytes]]()
    pool.add(request, ledger.state)
    for wanted in (True, False):
        leader = StateExecutor(ledger.head, Mempool(), ledger.keys[0])
        voter = StateExecutor(ledger.head, pool, ledger.keys[1], lambda *m: missed.append(m))
        height = Height(ledger.state.height + 1)
        without = leader.build(ledger.head.digest, height, View(ledger.state.globals.view + 1))
        if ahead:
            assert len(list(voter.look_at_in_parts(without))) >= 1
        voter.validate(without)
        assert voter.is_complete(without) is wanted
        assert voter.state_after(block_digest(without.header)) is not None, "valid all the same"
        ledger.empty_blocks(OVERDUE_BLOCKS)
    assert missed == [(ledger.keys[0].peer, request)]


@pytest.mark.rule("L58")
def test_a_block_has_reasons_to_omit_what_is_not_valid_or_does_not_fit() -> None:
    case, request = a_waiting_check()
    ledger, pool = case.ledger, Mempool()
    pool.add(request, ledger.state)
    ledger.empty_blocks(OVERDUE_BLOCKS)
    executor = StateExecutor(ledger.head, pool, ledger.keys[1])
    height, view = Height(ledger.state.height + 1), View(ledger.state.globals.view + 1)
    full = executor.build(ledger.head.digest, height, view)
    assert request in full.transactions
    assert executor.is_complete(full)
    empty = StateExecutor(ledger.head, Mempool(), ledger.keys[0])
    other = empty.build(ledger.head.digest, height, view)
    state = ledger.state
    assert find_omitted(state, other, [request]) == request
    assert find_omitted(state, other, [b"junk", request]) == request, "junk is never missed"
    large = replace(other, transactions=(bytes(BODY_BYTES_MAX - len(request) + 1),))
    assert find_omitted(state, large, [request]) is None, "no room"
    ledger.block(request)
    later = StateExecutor(ledger.head, pool, ledger.keys[1])
    assert later.is_complete(
        StateExecutor(ledger.head, Mempool(), ledger.keys[0]).build(
            ledger.head.digest, Height(height + 1), View(ledger.state.globals.view + 1)
        )
    ), "its nonce is used"
