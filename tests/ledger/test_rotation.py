"""Whole nodes over links without sockets: validators change at epochs, and none of them is needed for ever."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from swarm.config.spec import Genesis
from swarm.errors import VerificationFailed
from swarm.ledger.blocks import NOTARIZE, VOTE_PURPOSES, vote_parts
from swarm.ledger.chain import verify_chain
from swarm.ledger.mempool import OVERDUE_BLOCKS, Mempool
from swarm.ledger.net.archive import read_forks
from swarm.ledger.reader import open_ledger
from swarm.ledger.service import LedgerService
from swarm.ledger.state.state import State
from swarm.ledger.transactions import Evidence, SignedVote, Transfer, Validate, parse_transaction
from swarm.primitives.crypto import SecretKey, digest
from swarm.primitives.parts import Parts
from swarm.store import STORE_FILE, Store
from swarm.testing.ledger import numbered_key
from swarm.types import Amount, Height, PeerId, View
from tests.ledger.services import MemoryHost, MemoryNet, a_genesis, a_ledger, digests

EPOCH = 10


def voters(ledger: LedgerService) -> set[PeerId]:
    return {validator.peer for validator in ledger.state.validators}


@asynccontextmanager
async def five_ledgers(
    home: Path, genesis: Genesis, net: MemoryNet
) -> AsyncGenerator[list[LedgerService]]:
    """The ledgers of the first five keys, which vote in the epochs they are chosen for."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                a_ledger(home, genesis, i, MemoryHost(net, numbered_key(i)))
            )
            for i in range(5)
        ]


@pytest.mark.rule("L48", "L50", "S9a")
async def test_a_founder_hands_over_to_four_strangers_and_dies_and_the_ledger_goes_on(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """The four have what the founder signed, agree without it, and drop it from their midst."""
    net, genesis = MemoryNet(), a_genesis(1, epoch_blocks=EPOCH)
    keys = [numbered_key(i) for i in range(5)]
    async with five_ledgers(tmp_path, genesis, net) as ledgers:
        for ledger in ledgers[1:]:
            await ledger.submit(Validate(is_on=True))
        await ledgers[0].wait_height(EPOCH - 1)
        assert voters(ledgers[0]) == {keys[0].peer}
        state = await ledgers[4].wait_height(2 * EPOCH - 1)
        assert voters(ledgers[4]) == {key.peer for key in keys}
        total = sum(validator.power for validator in state.validators)
        assert all(3 * validator.power < total for validator in state.validators)
        for ledger in ledgers:
            await ledger.wait_height(2 * EPOCH + 5)
        assert all(ledger.is_validator for ledger in ledgers)

        net.cut.add(keys[0].peer)
        dead_at = ledgers[1].height
        for ledger in ledgers[1:]:
            await ledger.wait_height(dead_at + 6 * EPOCH)
        assert voters(ledgers[1]) == {key.peer for key in keys[1:]}
        assert ledgers[0].height <= dead_at + 1
        upto = ledgers[1].height - 2
        assert len({tuple(digests(ledger, upto)) for ledger in ledgers[1:]}) == 1

        net.cut.clear()
        await ledgers[0].wait_height(dead_at + 6 * EPOCH)
        links = [ledgers[0].block_at(Height(at)) for at in range(1, dead_at + 6 * EPOCH)]
        known = [link for link in links if link is not None]
        while known[-1][1] is None:
            known.pop()
        assert verify_chain(genesis, known).head.state.height == len(known)


@pytest.mark.rule("L51", "S9")
async def test_who_signs_two_ways_loses_its_stake_and_its_vote(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    net, genesis = MemoryNet(), a_genesis(5, epoch_blocks=EPOCH)
    keys = [numbered_key(i) for i in range(5)]
    async with five_ledgers(tmp_path, genesis, net) as ledgers:
        await ledgers[1].wait_height(2)
        await ledgers[1].submit_final(conflicting_votes(genesis, keys[0]), 20.0)
        assert ledgers[1].state.account(keys[0].peer).stake == 0
        assert ledgers[1].state.globals.burned > 0
        await ledgers[1].wait_height(3 * EPOCH)
        assert voters(ledgers[1]) == {key.peer for key in keys[1:]}
        assert not ledgers[0].is_validator


def conflicting_votes(genesis: Genesis, key: SecretKey) -> Evidence:
    """A validator's two votes in view 1 of the first epoch."""
    votes = list[SignedVote]()
    for name in (digest("block", b"left"), digest("block", b"right")):
        parts = vote_parts(genesis.chain, 0, View(1), name)
        votes.append(SignedVote(NOTARIZE, name, key.sign(VOTE_PURPOSES[NOTARIZE], *parts)))
    return Evidence(key.peer, 0, View(1), *votes)


def leave_out_evidence(monkeypatch: pytest.MonkeyPatch, censors: set[PeerId]) -> None:
    """Let these leaders put together their blocks without evidence."""
    honest = Mempool.assemble_in_parts

    def assemble(
        pool: Mempool, state: State, *, leader: PeerId, beta: bytes, view: View | None = None
    ) -> Parts[tuple[tuple[bytes, ...], State]]:
        if leader not in censors:
            return honest(pool, state, leader=leader, beta=beta, view=view)
        without = Mempool()
        for data in pool.transactions():
            if not isinstance(parse_transaction(data).body, Evidence):
                without.add(data, state)
        return honest(without, state, leader=leader, beta=beta, view=view)

    monkeypatch.setattr(Mempool, "assemble_in_parts", assemble)


def first_line(error: BaseException) -> str:
    """The message of the first error in a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)


def forks_on(path: Path) -> int:
    """The forks that a store has kept."""
    store = Store.open_readonly(path)
    try:
        return len(read_forks(store))
    finally:
        store.close()


@pytest.mark.rule("L53")
async def test_a_follower_that_is_shown_two_final_blocks_at_one_height_names_both_and_stops(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """A lone validator signed two histories, from two disks; who sees both first stops and believes neither."""
    genesis = a_genesis(1)
    homes = [tmp_path / name for name in ("left", "right", "reader")]
    for home in homes:
        home.mkdir()
    left, right, net = MemoryNet(), MemoryNet(), MemoryNet()
    host = MemoryHost(left, numbered_key(0))
    async with a_ledger(homes[0], genesis, 0, host) as ledger:
        await ledger.submit(Transfer(numbered_key(1).peer, Amount(5)))
        await ledger.wait_height(4)
    async with a_ledger(homes[1], genesis, 0, MemoryHost(right, numbered_key(0))) as ledger:
        await ledger.wait_height(8)
    reader = MemoryHost(net, numbered_key(5))
    one, other = MemoryHost(net, numbered_key(2)), MemoryHost(net, numbered_key(3))
    for home, number in ((homes[0], 2), (homes[1], 3)):
        (home / "0.sqlite").rename(home / f"{number}.sqlite")
    net.cut.add(other.peer)
    with pytest.RaisesGroup(
        VerificationFailed, allow_unwrapped=True, flatten_subgroups=True
    ) as caught:
        async with (
            a_ledger(homes[0], genesis, 2, one, validate=False),
            a_ledger(homes[1], genesis, 3, other, validate=False),
            a_ledger(homes[2], genesis, 5, reader, validate=False) as ledger,
        ):
            await ledger.wait_height(4)
            net.cut.clear()
            await trio.sleep(60.0)
    assert "two final blocks at height 4" in first_line(caught.value)
    stores = [homes[0] / "2.sqlite", homes[1] / "3.sqlite", homes[2] / "5.sqlite"]
    first = next(path for path in stores if forks_on(path))
    first.rename(first.with_name(STORE_FILE))
    with (
        open_ledger(first.parent) as ledger_on_disk,
        pytest.raises(VerificationFailed, match="two final blocks at height 4") as shown,
    ):
        ledger_on_disk.verify()
    assert "elsewhere, by validators 0 in view" in str(shown.value)


@pytest.mark.rule("L58", "S19a")
async def test_leaders_that_omit_evidence_make_no_blocks_until_one_has_it(
    tmp_path: Path,
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three of four leave it out of their blocks, and vote by the rules; the fourth is away for a while."""
    net, genesis = MemoryNet(), a_genesis(4, epoch_blocks=200, unbonding_epochs=3)
    async with AsyncExitStack() as stack:
        ledgers = [
            await stack.enter_async_context(
                a_ledger(tmp_path, genesis, i, MemoryHost(net, numbered_key(i)))
            )
            for i in range(4)
        ]
        honest, thief = ledgers[3], numbered_key(2)
        net.cut.add(numbered_key(3).peer)
        await ledgers[0].wait_height(2)
        evidence = conflicting_votes(genesis, thief)
        leave_out_evidence(monkeypatch, {numbered_key(number).peer for number in range(3)})
        await ledgers[0].submit(evidence)
        begun = ledgers[0].height
        with trio.move_on_after(600):
            await ledgers[0].wait_height(begun + OVERDUE_BLOCKS + 5)
        stopped = ledgers[0].height
        assert begun + OVERDUE_BLOCKS <= stopped < begun + OVERDUE_BLOCKS + 5
        assert ledgers[0].state.equivocator(thief.peer) is None

        net.cut.clear()
        for ledger in ledgers:
            await ledger.wait_height(stopped + 3)
        assert honest.state.equivocator(thief.peer) is not None
