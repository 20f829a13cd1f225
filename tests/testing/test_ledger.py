"""An in-memory ledger is a real one: the same genesis and steps give the same chain, and it verifies."""

from swarm.ledger.chain import verify_chain
from swarm.ledger.transition.runs import check_run_spec
from swarm.testing.ledger import InMemoryLedger, numbered_key, small_run_spec


def a_story() -> InMemoryLedger:
    stage = InMemoryLedger(num_validators=3)
    run = stage.reach_round(stage.open_run(small_run_spec()), 1)
    stage.block(*stage.commit_all(run, 0))
    return stage


def test_the_same_story_gives_the_same_chain() -> None:
    one, two = a_story(), a_story()
    assert one.head.digest == two.head.digest
    assert one.links == two.links
    verify_chain(one.genesis, one.links)


def test_leaders_take_turns() -> None:
    leaders = [block.header.leader for block, _ in a_story().links[:4]]
    peers = sorted(numbered_key(i).peer for i in range(3))
    assert leaders == [peers[i % 3] for i in range(4)]


def test_the_small_spec_is_one_that_the_ledger_accepts() -> None:
    check_run_spec(small_run_spec())
    assert small_run_spec(name="other").digest != small_run_spec().digest
