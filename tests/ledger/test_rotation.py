"""Whole nodes over links without sockets: validators change at epochs, and none of them is needed for ever."""

from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from trio.testing import MockClock

from swarm.ledger.blocks import NOTARIZE, VOTE_PURPOSES, vote_parts
from swarm.ledger.chain import verify_chain
from swarm.ledger.service import LedgerService
from swarm.ledger.transactions import Evidence, SignedVote, Validate
from swarm.primitives.crypto import digest
from swarm.testing.ledger import numbered_key
from swarm.types import Height, PeerId, View
from tests.ledger.services import MemoryHost, MemoryNet, a_genesis, a_ledger, digests

EPOCH = 10


def voters(ledger: LedgerService) -> set[PeerId]:
    return {validator.peer for validator in ledger.state.validators}


@pytest.mark.rule("L48", "L50", "S9a")
async def test_a_founder_hands_over_to_four_strangers_and_dies_and_the_ledger_goes_on(
    tmp_path: Path, inline_threads: None, autojump_clock: MockClock
) -> None:
    """The four have what the founder signed, agree without it, and drop it from their midst."""
    net, genesis = MemoryNet(), a_genesis(1, epoch_blocks=EPOCH)
    keys = [numbered_key(i) for i in range(5)]
    async with AsyncExitStack() as stack:
        ledgers = [
            await stack.enter_async_context(
                a_ledger(tmp_path, genesis, i, MemoryHost(net, keys[i]))
            )
            for i in range(5)
        ]
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
    tmp_path: Path, inline_threads: None, autojump_clock: MockClock
) -> None:
    net, genesis = MemoryNet(), a_genesis(5, epoch_blocks=EPOCH)
    keys = [numbered_key(i) for i in range(5)]
    async with AsyncExitStack() as stack:
        ledgers = [
            await stack.enter_async_context(
                a_ledger(tmp_path, genesis, i, MemoryHost(net, keys[i]))
            )
            for i in range(5)
        ]
        await ledgers[1].wait_height(2)
        votes = [
            SignedVote(
                NOTARIZE,
                name,
                keys[0].sign(VOTE_PURPOSES[NOTARIZE], *vote_parts(genesis.chain, 0, View(1), name)),
            )
            for name in (digest("block", b"left"), digest("block", b"right"))
        ]
        await ledgers[1].submit_final(Evidence(keys[0].peer, 0, View(1), *votes), 20.0)
        assert ledgers[1].state.account(keys[0].peer).stake == 0
        assert ledgers[1].state.globals.burned > 0
        await ledgers[1].wait_height(3 * EPOCH)
        assert voters(ledgers[1]) == {key.peer for key in keys[1:]}
        assert not ledgers[0].is_validator
