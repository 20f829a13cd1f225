"""A chain is the same from disk as from memory; what a disk keeps is bounded, and leads from the genesis."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from swarm.errors import BrokenPromise, Corrupt, Pruned
from swarm.ledger.chain import verify_chain
from swarm.ledger.light import follow_handoffs
from swarm.ledger.mempool import PART_TRANSACTIONS
from swarm.ledger.net.archive import (
    BLOCKS,
    BLOCKS_KEPT_MIN,
    BOUNDARIES,
    CERTIFICATES,
    HANDOFFS,
    SNAPSHOT_BLOCKS,
    SNAPSHOTS,
    STAYS,
    Archive,
    first_height,
    missing_block,
    read_handoffs,
)
from swarm.ledger.state.records import SegmentPhase
from swarm.ledger.transactions import Transfer, Validate
from swarm.store import Store
from swarm.testing.ledger import InMemoryLedger
from swarm.types import Amount, Height, RoundIndex
from tests.ledger.checking import EXACT, Case, a_case


def a_long_story() -> Case:
    """Paid unchecked, reported falsely long after; over more than one snapshot."""
    case = a_case(num_accounts=6, is_first=True)
    case.wait(SegmentPhase.SEALED)
    case.submit(case.solver, case.claimed.reveal())
    case.ledger.empty_blocks(case.record.height + 58 - case.ledger.state.height)
    case.blow(case.ledger.keys[5], 0, case.true.with_lie(0))
    case.give_up()
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


EPOCH = 10


@asynccontextmanager
async def an_archive(
    folder: Path, num_blocks: int, *, changes: bool = False
) -> AsyncGenerator[tuple[InMemoryLedger, Archive]]:
    """An archive of epochs of ten blocks; with ``changes`` validators come and go in every epoch."""
    ledger = InMemoryLedger(6, 4, epoch_blocks=EPOCH)
    while ledger.state.height < num_blocks:
        epoch, place = divmod(ledger.state.height + 1, EPOCH)
        is_due = changes and place == 3
        ledger.block(*([ledger.sign(ledger.keys[4], Validate(is_on=epoch % 2 == 0))] * is_due))
    store = Store.open(folder / "store.db")
    try:
        archive = Archive.open(store, ledger.genesis)
        for block, certificate in ledger.links:
            await archive.append((block,), certificate, known={})
        yield ledger, archive
    finally:
        store.close()


def rows(archive: Archive) -> dict[str, int]:
    return {table: archive.store.count(table) for table in (HANDOFFS, STAYS, BOUNDARIES, BLOCKS)}


@pytest.mark.rule("L62")
async def test_handoffs_between_equal_validators_do_not_pile_up(tmp_path: Path) -> None:
    async with an_archive(tmp_path, 205) as (ledger, archive):
        counts = rows(archive)
        assert counts[HANDOFFS] + counts[STAYS] <= 6
        for upto in (18, 19, 20):  # those of the two states that are served, and of the next block
            path = read_handoffs(archive.store, EPOCH, 0, upto)
            assert follow_handoffs(ledger.genesis, path).epoch == upto
            assert len(path) <= 3


@pytest.mark.rule("L62")
async def test_handoffs_between_different_validators_are_all_kept(tmp_path: Path) -> None:
    async with an_archive(tmp_path, 205, changes=True) as (ledger, archive):
        for upto in (2, 3, 9, 18, 19, 20):
            path = read_handoffs(archive.store, EPOCH, 0, upto)
            assert follow_handoffs(ledger.genesis, path).epoch == upto
        assert len(path) >= 18
        known = follow_handoffs(ledger.genesis, path)
        assert known.validators == ledger.state.validators


@pytest.mark.rule("L62")
async def test_a_pruned_disk_is_bounded_and_says_what_it_lacks(tmp_path: Path) -> None:
    async with an_archive(tmp_path, 405) as (ledger, archive):
        kept = ledger.state.height - BLOCKS_KEPT_MIN
        assert await archive.forget_before(Height(100)) == 99
        assert await archive.forget_before(Height(400)) == kept - 100
        assert await archive.forget_before(Height(50)) == 0
        assert (archive.first, first_height(archive.store)) == (kept, kept)
        assert rows(archive)[BLOCKS] == BLOCKS_KEPT_MIN + 1
        assert rows(archive)[BOUNDARIES] == 2
        assert archive.store.count(CERTIFICATES) == BLOCKS_KEPT_MIN + 1
        assert archive.block_at(Height(kept - 1)) is None
        error = missing_block(archive.store, kept - 1)
        assert isinstance(error, Pruned)
        assert f"pruned: this home keeps blocks from {kept} on" in str(error)
        assert not isinstance(missing_block(archive.store, 999), Pruned)
        again = Archive.open(archive.store, ledger.genesis)
        assert (again.head, again.first) == (ledger.head, kept)
        boundary = again.newest_boundary()
        assert boundary is not None
        assert boundary.height == 399
        assert boundary.head.digest == ledger.links[399][0].header.parent


async def test_a_damaged_state_is_served_to_nobody(tmp_path: Path) -> None:
    async with an_archive(tmp_path, 45) as (ledger, archive):
        key, data = archive.store.last(BOUNDARIES)[0]
        archive.store.put(BOUNDARIES, key, data[:-1] + bytes([data[-1] ^ 1]))
        again = Archive(archive.store, ledger.genesis, ledger.head)
        with pytest.raises(Corrupt, match="the ledger on this disk is damaged"):
            again.newest_boundary()


async def test_blocks_that_do_not_lead_to_the_first_are_not_kept(tmp_path: Path) -> None:
    async with an_archive(tmp_path, 405) as (ledger, archive):
        await archive.forget_before(Height(140))
        first = archive.first
        with pytest.raises(BrokenPromise):
            await archive.prepend([ledger.links[first - 3][0]])
        await archive.prepend([ledger.links[at - 1][0] for at in range(first - 1, first - 4, -1)])
        assert archive.first == first - 3
        await archive.prepend([])
        assert archive.block_at(Height(first - 3)) is not None
