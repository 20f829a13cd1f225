"""A chain whose segments are checked, reported and forgotten is the same from disk as from memory."""

from pathlib import Path

import trio

from swarm.ledger.chain import PART_TRANSACTIONS, verify_chain
from swarm.ledger.net.archive import SNAPSHOT_BLOCKS, SNAPSHOTS, Archive
from swarm.ledger.state.records import SegmentPhase
from swarm.ledger.transactions import Transfer
from swarm.store import Store
from swarm.testing.ledger import InMemoryLedger
from swarm.types import Amount, Height, RoundIndex
from tests.ledger.checking import EXACT, Case, a_case


def a_long_story() -> Case:
    """Paid unchecked, reported long after, undecided; over more than one snapshot."""
    case = a_case(num_accounts=6)
    case.wait(SegmentPhase.SEALED)
    case.submit(case.solver, case.claimed.reveal())
    case.ledger.empty_blocks(case.record.height + 58 - case.ledger.state.height)
    case.blow(case.ledger.keys[5], 0, case.true.with_lie(0))
    case.wait(SegmentPhase.UNDECIDED)
    case.ledger.empty_blocks(SNAPSHOT_BLOCKS + 30 - case.ledger.state.height)
    return case


async def test_a_chain_is_loaded_from_its_snapshot_as_it_was(tmp_path: Path) -> None:
    ledger = a_long_story().ledger
    store = Store.open(tmp_path / "store.db")
    archive = Archive.open(store, ledger.genesis)
    for block, certificate in ledger.links:
        await archive.append((block,), certificate, known={})
    assert archive.head == ledger.head
    assert store.count(SNAPSHOTS) == 1
    store.close()
    again = Archive.open(Store.open(tmp_path / "store.db"), ledger.genesis)
    assert again.head.state.root == ledger.state.root
    assert again.head.digest == ledger.head.digest
    runs = again.head.state.runs()
    newest = runs[0].rounds[-1]
    assert again.head.state.round_info(runs[0].index, newest.round) == newest
    assert again.head.state.verdicts(runs[0].index) == ledger.state.verdicts(runs[0].index)
    links = [again.block_at(Height(h)) for h in range(1, ledger.state.height + 1)]
    found = [link for link in links if link is not None]
    report = verify_chain(ledger.genesis, found)
    assert report.head.state.root == ledger.state.root
    assert report.supply == ledger.state.supply
    again.store.close()


async def test_other_tasks_have_their_turns_while_a_full_block_is_applied(tmp_path: Path) -> None:
    ledger = InMemoryLedger(4 * PART_TRANSACTIONS)
    to, begun = ledger.keys[1].peer, ledger.head
    ledger.block(*(ledger.sign(key, Transfer(to, Amount(1))) for key in ledger.keys))
    store = Store.open(tmp_path / "store.db")
    archive, turns = Archive(store, ledger.genesis, begun), list[int]()

    async def count() -> None:
        while True:
            await trio.lowlevel.checkpoint()
            turns.append(archive.head.state.height)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        await archive.append((ledger.links[-1][0],), ledger.links[-1][1], known={})
        nursery.cancel_scope.cancel()
    assert turns.count(0) >= 4
    assert archive.head == ledger.head
    store.close()


def test_what_a_long_chain_keeps_of_its_rounds_does_not_grow() -> None:
    case = a_long_story()
    rounds = [r for r in range(40) if case.ledger.state.round_info(case.run.index, RoundIndex(r))]
    assert rounds == [*range(rounds[0], rounds[-1] + 1)]
    window = EXACT.checks.challenge_window_blocks // EXACT.round_blocks
    assert len(rounds) == 3 + window
