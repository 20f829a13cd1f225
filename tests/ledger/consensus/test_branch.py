"""The branch finds what is missing, moves its tip only down a whole path, and forgets rivals."""

import pytest

from swarm.errors import VerificationFailed
from swarm.ledger.blocks import FINALIZE, VRF_PROOF_BYTES, Block, Certificate, Header, block_digest
from swarm.ledger.consensus.branch import RECENT_MAX, WANTED_MAX, Branch, FinalPoint
from swarm.primitives.crypto import digest
from swarm.types import NO_DIGEST, Digest, Height, PeerId, View

CHAIN = digest("genesis", b"x")


def a_chain(length: int, *, parent: Digest = CHAIN, height: int = 0, view: int = 0) -> list[Block]:
    blocks = list[Block]()
    for step in range(1, length + 1):
        proof, leader = bytes(VRF_PROOF_BYTES), PeerId(bytes(32))
        header = Header(
            chain=CHAIN,
            height=Height(height + step),
            epoch=0,
            view=View(view + step),
            parent=parent,
            state_root=NO_DIGEST,
            body_root=NO_DIGEST,
            next_validators=NO_DIGEST,
            vrf_proof=proof,
            leader=leader,
        )
        blocks.append(Block(header, ()))
        parent = block_digest(header)
    return blocks


def named(block: Block) -> Digest:
    return block_digest(block.header)


def final(block: Block) -> Certificate:
    return Certificate(FINALIZE, block.header.view, named(block), 7, ())


def a_branch() -> Branch:
    return Branch(FinalPoint(Height(0), View(0), CHAIN), None)


def test_the_first_gap_on_the_way_down_is_found() -> None:
    branch, blocks = a_branch(), a_chain(4)
    assert branch.missing_ancestor(CHAIN) is None
    for block in (blocks[0], blocks[2], blocks[3]):
        branch.add(block)
    assert branch.missing_ancestor(named(blocks[3])) == named(blocks[1])
    branch.add(blocks[1])
    assert branch.missing_ancestor(named(blocks[3])) is None
    assert branch.path(named(blocks[3])) == blocks


def test_the_tip_moves_and_rivals_are_forgotten() -> None:
    branch, blocks = a_branch(), a_chain(2)
    rival = a_chain(1, view=7)[0]
    for block in (*blocks, rival):
        branch.add(block)
    assert branch.advance(final(blocks[1])) == tuple(blocks)
    assert branch.tip == FinalPoint(Height(2), View(2), named(blocks[1]))
    assert branch.get(rival_name := named(rival)) is None
    assert branch.height_of(rival_name) is None
    assert branch.get(named(blocks[0])) == blocks[0]


def test_a_second_final_block_at_a_height_is_a_verdict_on_the_validators() -> None:
    branch, blocks = a_branch(), a_chain(2)
    for block in blocks:
        branch.add(block)
    branch.advance(final(blocks[1]))
    fork = a_chain(2, parent=named(blocks[0]), height=1, view=5)
    for block in fork:
        branch.add(block)
    branch._blocks[named(fork[0])] = fork[0]
    with pytest.raises(VerificationFailed):
        branch.missing_ancestor(named(fork[1]))


def test_few_final_blocks_are_kept() -> None:
    branch, blocks = a_branch(), a_chain(3 * RECENT_MAX)
    for block in blocks:
        branch.add(block)
        branch.advance(final(block))
    kept = [block for block in blocks if branch.get(named(block)) is not None]
    assert kept == blocks[-RECENT_MAX:]


def test_a_wanted_block_is_asked_of_one_after_the_other_until_it_comes() -> None:
    branch, block = a_branch(), a_chain(1)[0]
    branch.want(named(block), 2, now=0.0)
    branch.want(named(block), 1, now=0.0)
    assert branch.due([0, 2, 3], 0.0, retry_s=1.0) == [(named(block), 2)]
    assert branch.due([0, 2, 3], 0.5, retry_s=1.0) == []
    assert branch.due([0, 2, 3], 1.0, retry_s=1.0) == [(named(block), 3)]
    assert branch.due([0, 2, 3], 2.0, retry_s=1.0) == [(named(block), 0)]
    assert branch.due([], 9.0, retry_s=1.0) == []
    branch.add(block)
    assert not branch.wanted
    branch.want(named(block), 1, now=0.0)
    assert not branch.wanted
    for number in range(2 * WANTED_MAX):
        branch.want(digest("x", bytes([number])), 0, now=0.0)
    assert len(branch.wanted) == WANTED_MAX


def test_bulk_sync_moves_the_tip_past_blocks_that_never_came() -> None:
    branch, blocks = a_branch(), a_chain(9)
    branch.adopt(blocks[8], final(blocks[8]))
    assert branch.tip.height == 9
    assert branch.view_of(branch.tip.digest) == branch.tip.view == 9
    assert branch.missing_ancestor(named(blocks[8])) is None
