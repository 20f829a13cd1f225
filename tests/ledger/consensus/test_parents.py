"""A block stands on the newest notarized parent with every view between nullified, or not at all."""

import pytest

from swarm.errors import BrokenPromise
from swarm.ledger.blocks import (
    FINALIZE,
    NOTARIZE,
    NULLIFY,
    VRF_PROOF_BYTES,
    Block,
    Certificate,
    Header,
    Validator,
    block_digest,
)
from swarm.ledger.consensus.branch import (
    SUPPLIES_MAX,
    Branch,
    FinalPoint,
    Missing,
    ParentProof,
    find_answers,
    missing_for,
    select_parent,
)
from swarm.ledger.consensus.votes import (
    JUSTIFICATION_MAX,
    Electorate,
    Proof,
    Proposal,
    Request,
    Supply,
    VoteCounter,
)
from swarm.primitives.crypto import digest
from swarm.testing.ledger import numbered_key
from swarm.types import NO_DIGEST, Amount, Digest, Height, PeerId, View

CHAIN = digest("genesis", b"x")


def a_block(height: int, view: int, parent: Digest = CHAIN) -> Block:
    proof, leader = bytes(VRF_PROOF_BYTES), PeerId(bytes(32))
    header = Header(
        chain=CHAIN,
        height=Height(height),
        epoch=0,
        view=View(view),
        parent=parent,
        state_root=NO_DIGEST,
        body_root=NO_DIGEST,
        next_validators=NO_DIGEST,
        vrf_proof=proof,
        leader=leader,
    )
    return Block(header, ())


def proposed(block: Block, view: int = 0) -> Proposal:
    """A block as its leader proposes it; ``view`` is a later one if it is proposed again."""
    return Proposal(View(view or block.header.view), block, (), b"")


def named(block: Block) -> Digest:
    return block_digest(block.header)


FIRST = a_block(1, 1)
SECOND = a_block(2, 2, named(FIRST))


def a_table() -> tuple[Branch, VoteCounter]:
    electorate = Electorate(CHAIN, [Validator(numbered_key(0).peer, Amount(1))], bytes(32))
    return Branch(FinalPoint(Height(0), View(0), CHAIN), None), VoteCounter(electorate)


def notarized(block: Block) -> Certificate:
    return Certificate(NOTARIZE, block.header.view, named(block), 1, ())


def nullified(view: int) -> Certificate:
    return Certificate(NULLIFY, View(view), NO_DIGEST, 1, ())


def test_the_genesis_is_the_first_parent() -> None:
    branch, counter = a_table()
    assert select_parent(branch, counter, View(1)) == ParentProof(CHAIN, Height(0), ())
    assert missing_for(branch, counter, proposed(FIRST)) == Missing(None, ())


def test_a_proposal_carries_its_parents_notarization_and_every_nullification_since() -> None:
    branch, counter = a_table()
    branch.add(FIRST)
    proof = [notarized(FIRST), nullified(2), nullified(3)]
    for certificate in (proof[0], proof[2]):
        counter.add_certificate(certificate)
    assert select_parent(branch, counter, View(4)) == View(2)
    late = a_block(2, 4, named(FIRST))
    assert missing_for(branch, counter, proposed(late)) == Missing(None, (View(2),))
    counter.add_certificate(proof[1])
    assert select_parent(branch, counter, View(4)) == ParentProof(
        named(FIRST), Height(1), tuple(proof)
    )
    assert missing_for(branch, counter, proposed(late)) == Missing(None, ())


def test_a_block_on_an_uncertified_parent_lacks_its_certificate() -> None:
    branch, counter = a_table()
    assert missing_for(branch, counter, proposed(SECOND)) == Missing(named(FIRST), ())
    branch.add(FIRST)
    assert missing_for(branch, counter, proposed(SECOND)) == Missing(None, (View(1),))
    counter.add_certificate(nullified(1))  # a skipped view is no parent
    assert missing_for(branch, counter, proposed(SECOND)) == Missing(None, (View(1),))
    counter.add_certificate(notarized(FIRST))
    assert missing_for(branch, counter, proposed(SECOND)) == Missing(None, ())


def test_a_block_that_can_never_stand_is_refused() -> None:
    branch, counter = a_table()
    rival = a_block(1, 1, digest("elsewhere"))
    branch.add(FIRST)
    counter.add_certificate(notarized(rival))
    with pytest.raises(BrokenPromise):
        missing_for(branch, counter, proposed(SECOND))
    for bad in (a_block(5, 2), a_block(1, 0), a_block(2, 1, named(FIRST))):
        with pytest.raises(BrokenPromise):
            missing_for(*a_table_after(FIRST), proposed(bad))
    with pytest.raises(BrokenPromise):
        missing_for(*a_table_after(FIRST, is_final=True), proposed(a_block(1, 3, CHAIN_PARENT)))


CHAIN_PARENT = named(FIRST)


def a_table_after(block: Block, *, is_final: bool = False) -> tuple[Branch, VoteCounter]:
    branch, counter = a_table()
    branch.add(block)
    if is_final:
        branch.advance(Certificate(FINALIZE, block.header.view, named(block), 1, ()))
        counter.prune(block.header.view)
    return branch, counter


def test_the_final_block_needs_no_notarization() -> None:
    branch, counter = a_table_after(FIRST, is_final=True)
    proof = select_parent(branch, counter, View(2))
    assert isinstance(proof, ParentProof)
    assert [certificate.kind for certificate in proof.certificates] == [FINALIZE]
    assert missing_for(branch, counter, proposed(SECOND)) == Missing(None, ())


def test_a_long_stall_does_not_make_a_long_proposal() -> None:
    branch, counter = a_table()
    for view in range(1, 100):
        counter.add_certificate(nullified(view))
    proof = select_parent(branch, counter, View(100))
    assert isinstance(proof, ParentProof)
    assert len(proof.certificates) == JUSTIFICATION_MAX
    assert proof.certificates[-1].view == 99


def test_a_straggler_gets_what_moves_it_on_and_no_more_than_it_may_ask() -> None:
    branch, counter = a_table_after(FIRST, is_final=True)
    branch.add(SECOND)
    counter.add_certificate(notarized(SECOND))
    behind = Request(View(1), blocks=(named(SECOND), digest("unknown")))
    answers = find_answers(branch, counter, behind, View(3))
    assert Supply(SECOND) in answers
    assert Proof(notarized(SECOND)) in answers
    assert [a.certificate.kind for a in answers if isinstance(a, Proof)] == [FINALIZE, NOTARIZE]
    assert find_answers(branch, counter, Request(View(3)), View(3)) == []
    assert find_answers(branch, counter, Request(View(9)), View(3)) == [Request(View(3))]
    many = Request(View(3), blocks=(named(SECOND),) * 32)
    assert len(find_answers(branch, counter, many, View(3))) == SUPPLIES_MAX
    with pytest.raises(BrokenPromise):
        find_answers(branch, counter, Request(View(3), views=(View(1),) * 33), View(3))


@pytest.mark.rule("L31a")
def test_no_block_follows_the_last_of_an_epoch_and_only_that_is_proposed_again() -> None:
    voters = [Validator(PeerId(bytes(32)), Amount(1))]
    electorate = Electorate(CHAIN, voters, bytes(32), epoch=0, last=2)
    for block, view in ((FIRST, 1), (SECOND, 2), (SECOND, 7)):
        electorate.check_place(proposed(block, view))
    for block, view in ((a_block(3, 3, named(SECOND)), 3), (FIRST, 2), (SECOND, 1)):
        with pytest.raises(BrokenPromise):
            electorate.check_place(proposed(block, view))
