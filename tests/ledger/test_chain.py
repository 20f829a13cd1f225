"""A chain is believed only if every hash, die, signature, transaction and root in it holds."""

import pytest

from swarm.errors import InvalidStatement, PeerFault, VerificationFailed
from swarm.ledger.blocks import (
    NOTARIZE,
    Block,
    Certificate,
    block_digest,
    body_root,
    epoch_of,
    validators_digest,
    vote_parts,
)
from swarm.ledger.chain import (
    build_block,
    check_final,
    extend,
    extend_in_parts,
    genesis_head,
    header_alpha,
    validate_block,
    validate_header,
    verify_chain,
)
from swarm.ledger.mempool import PART_TRANSACTIONS, Mempool
from swarm.ledger.transactions import Join, Stake, Transfer, Validate
from swarm.primitives import vrf
from swarm.primitives.codec import replace
from swarm.primitives.crypto import digest
from swarm.testing.ledger import InMemoryLedger, small_run_spec
from swarm.types import Amount, Height, View


def a_chain() -> InMemoryLedger:
    stage = InMemoryLedger(num_validators=4)
    run = stage.open_run(small_run_spec())
    stage.block(stage.sign(stage.keys[1], Join(run.index)))
    run = stage.reach_round(run, 1)
    stage.block(*stage.commit_all(run, 0))
    return stage


def test_an_honest_chain_verifies_from_genesis_to_the_same_state() -> None:
    stage, seen = a_chain(), list[Height]()
    report = verify_chain(stage.genesis, stage.links, progress=seen.append)
    assert report.head == stage.head
    assert report.num_transactions == 5
    assert report.supply == stage.state.supply
    assert seen == list(range(1, stage.state.height + 1))


@pytest.mark.rule("L27")
def test_one_certificate_at_the_end_is_enough_and_none_is_not() -> None:
    stage = a_chain()
    bare: list[tuple[Block, Certificate | None]] = [(block, None) for block, _ in stage.links]
    verify_chain(stage.genesis, [*bare[:-1], stage.links[-1]])
    with pytest.raises(VerificationFailed, match="no finalization"):
        verify_chain(stage.genesis, bare)
    assert verify_chain(stage.genesis, []).head == genesis_head(stage.genesis)


@pytest.mark.rule("L26")
@pytest.mark.parametrize("at", [0, 2, -1])
@pytest.mark.parametrize(
    "field", ["state_root", "body_root", "parent", "vrf_proof", "view", "leader", "height"]
)
def test_a_chain_with_any_header_field_changed_fails_naming_the_block(at: int, field: str) -> None:
    stage = a_chain()
    block, certificate = stage.links[at]
    other = {"view": 99, "height": 99, "vrf_proof": stage.links[1][0].header.vrf_proof}
    changed = replace(block.header, **{field: other.get(field, digest("x", b"other"))})
    links = list(stage.links)
    links[at] = (replace(block, header=changed), certificate)
    height = at % len(links) + 1
    with pytest.raises(VerificationFailed, match=f"block {height}:"):
        verify_chain(stage.genesis, links)


def test_a_chain_with_a_transaction_added_removed_or_swapped_fails() -> None:
    stage = a_chain()
    block, certificate = stage.links[-1]
    for body in (block.transactions[:-1], block.transactions[::-1], (*block.transactions, b"x")):
        for header in (block.header, replace(block.header, body_root=body_root(body))):
            links = [*stage.links[:-1], (Block(header, body), certificate)]
            with pytest.raises(VerificationFailed):
                verify_chain(stage.genesis, links)


@pytest.mark.rule("L26", "S20")
def test_a_chain_of_another_genesis_fails() -> None:
    stage = a_chain()
    with pytest.raises(VerificationFailed):
        verify_chain(replace(stage.genesis, name="other"), stage.links)
    with pytest.raises(VerificationFailed):
        verify_chain(replace(stage.genesis, name=""), stage.links)


def test_a_finalization_of_another_view_kind_or_block_is_refused() -> None:
    stage = a_chain()
    (first, early), (block, certificate) = stage.links[0], stage.links[-1]
    voters = stage.state.validators
    check_final(block.header, certificate, voters)
    for wrong in (
        early,
        replace(certificate, kind=NOTARIZE),
        replace(certificate, view=View(77)),
        replace(certificate, block=block_digest(first.header)),
        replace(certificate, signatures=certificate.signatures[:2], bitmap=3),
    ):
        with pytest.raises(PeerFault):
            check_final(block.header, wrong, voters)


def test_a_leader_builds_what_everybody_accepts() -> None:
    stage, pool = a_chain(), Mempool()
    pool.add(stage.sign(stage.keys[1], Stake(Amount(1))), stage.state)
    block, after = build_block(stage.head, pool, stage.keys[2], View(50))
    assert len(block.transactions) == 1
    head = extend(stage.head, block, known=pool.known)
    assert (head.state.root, head.digest) == (after.root, block_digest(block.header))
    assert validate_block(stage.state, block).root == after.root


@pytest.mark.rule("L3", "L26")
def test_dice_of_another_leader_view_or_parent_are_refused() -> None:
    stage = a_chain()
    block, _ = build_block(stage.head, Mempool(), stage.keys[2], View(50))
    assert len(validate_header(stage.state, block.header)) == 64
    stranger = stage.keys[9]
    proof = vrf.prove(stranger, header_alpha(stage.state, View(50)))
    for wrong in (
        replace(block.header, leader=stage.keys[1].peer),
        replace(block.header, view=View(51)),
        replace(block.header, height=Height(1)),
        replace(block.header, chain=digest("x", b"y")),
        replace(block.header, leader=stranger.peer, vrf_proof=proof),
    ):
        with pytest.raises(PeerFault):
            validate_header(stage.state, wrong)
    stage.block()
    with pytest.raises(PeerFault):
        validate_header(stage.state, block.header)


@pytest.mark.rule("L1")
def test_a_block_with_an_invalid_transaction_is_refused_and_changes_nothing() -> None:
    stage = a_chain()
    good = stage.sign(stage.keys[1], Stake(Amount(1)))
    block, _ = build_block(stage.head, Mempool(), stage.keys[2], View(50))
    body = (good, good)
    wrong = Block(replace(block.header, body_root=body_root(body)), body)
    root = stage.state.root
    with pytest.raises(InvalidStatement):
        extend(stage.head, wrong)
    assert stage.state.root == root


def test_a_full_block_is_applied_in_parts_with_the_same_end() -> None:
    stage = InMemoryLedger(3 * PART_TRANSACTIONS)
    to = stage.keys[1].peer
    before = stage.head
    stage.block(*(stage.sign(key, Transfer(to, Amount(1))) for key in stage.keys))
    block, _ = stage.links[-1]
    parts = extend_in_parts(before, block)
    for _ in range(3 + 1):  # one more before the state root is computed
        next(parts)
    with pytest.raises(StopIteration) as done:
        next(parts)
    assert done.value.value == extend(before, block) == stage.head
    bad = replace(block, header=replace(block.header, state_root=before.state.root))
    parts = extend_in_parts(before, bad)
    for _ in range(3 + 1):
        next(parts)
    with pytest.raises(PeerFault):
        next(parts)


def test_an_epoch_counts_from_the_genesis() -> None:
    assert [epoch_of(60, height) for height in (0, 59, 60, 120)] == [0, 0, 1, 2]


@pytest.mark.rule("L48")
def test_a_chain_over_three_epochs_with_other_validators_verifies() -> None:
    """Each epoch's last block is made final by its own validators, and names those of the next."""
    stage = three_epochs()
    assert verify_chain(stage.genesis, stage.links).head.state.height == 25
    first, last = stage.links[18], stage.links[19]
    assert first[0].header.next_validators != stage.links[0][0].header.next_validators
    assert last[0].header.epoch == 2


@pytest.mark.rule("L27")
def test_the_end_of_an_epoch_without_a_finalization_of_its_own_is_refused() -> None:
    stage = three_epochs()
    block, _ = stage.links[9 - 1]
    links = [*stage.links[:8], (block, None), *stage.links[9:]]
    with pytest.raises(VerificationFailed, match="ends an epoch"):
        verify_chain(stage.genesis, links)
    inner = [*stage.links[:7], (stage.links[7][0], None), *stage.links[8:]]
    verify_chain(stage.genesis, inner)


@pytest.mark.rule("L27")
def test_validators_of_another_epoch_make_nothing_final() -> None:
    stage = three_epochs()
    founders = genesis_head(stage.genesis).state.validators
    block, certificate = stage.links[24]
    check_final(block.header, certificate, stage.state.validators)
    with pytest.raises(PeerFault):
        check_final(block.header, certificate, founders)
    with pytest.raises(PeerFault):
        check_final(stage.links[3][0].header, stage.links[3][1], stage.state.validators)


def test_a_header_that_names_other_validators_is_refused() -> None:
    stage = three_epochs()
    block, _ = build_block(
        stage.head, Mempool(), stage.key_of(stage.state.validators[0].peer), View(50)
    )
    for wrong in ({"next_validators": digest("x", b"y")}, {"epoch": 3}, {"epoch": 1}):
        with pytest.raises(PeerFault):
            validate_block(stage.state, Block(replace(block.header, **wrong), ()))


@pytest.mark.rule("L31a")
def test_the_last_block_of_an_epoch_may_be_final_in_a_later_view_than_its_own() -> None:
    """It is proposed again until it is; its votes are of the view in which they were cast."""
    stage = three_epochs()
    block, certificate = stage.links[8]
    name, view = block_digest(block.header), View(block.header.view + 7)
    key = stage.keys[0]
    parts = vote_parts(stage.genesis.chain, 0, view, name)
    later = replace(certificate, view=view, signatures=(key.sign("vote-finalize", *parts),))
    founders = genesis_head(stage.genesis).state.validators
    check_final(block.header, later, founders)
    with pytest.raises(PeerFault):
        check_final(block.header, replace(later, view=View(view + 1)), founders)


def test_votes_of_a_view_before_the_block_was_made_make_nothing_final() -> None:
    stage = InMemoryLedger(1, 1, epoch_blocks=10)
    stage.block(skipped=5)
    block, certificate = stage.links[0]
    check_final(block.header, certificate, stage.state.validators)
    view = View(block.header.view - 1)
    parts = vote_parts(stage.genesis.chain, 0, view, block_digest(block.header))
    vote = stage.keys[0].sign("vote-finalize", *parts)
    early = replace(certificate, view=view, signatures=(vote,))
    with pytest.raises(PeerFault):
        check_final(block.header, early, stage.state.validators)


def test_a_chain_with_a_finalization_of_another_epochs_validators_fails() -> None:
    """The founder, alone until epoch 1, ends no block of epoch 2; the strangers none of epoch 1."""
    stage = three_epochs()
    for at, strangers in ((14, stage.keys[:5]), (18, stage.keys[:5]), (24, stage.keys[:1])):
        block, certificate = stage.links[at]
        voters = sorted(strangers, key=lambda key: key.peer)
        parts = vote_parts(
            stage.genesis.chain, block.header.epoch, certificate.view, certificate.block
        )
        votes = tuple(key.sign("vote-finalize", *parts) for key in voters)
        wrong = replace(certificate, bitmap=(1 << len(voters)) - 1, signatures=votes)
        links = [*stage.links[:at], (block, wrong), *stage.links[at + 1 :]]
        with pytest.raises(VerificationFailed, match=f"block {at + 1}:"):
            verify_chain(stage.genesis, links)


def test_a_founder_cannot_name_itself_again_at_the_end_of_its_last_epoch() -> None:
    """It is the only one that votes on the block, and still nobody that verifies it follows it there."""
    stage = three_epochs()
    block, certificate = stage.links[18]
    founders = genesis_head(stage.genesis).state.validators
    for named in (founders, stage.state.validators[1:], ()):
        header = replace(block.header, next_validators=validators_digest(named))
        name = block_digest(header)
        parts = vote_parts(stage.genesis.chain, 1, header.view, name)
        vote = stage.keys[0].sign("vote-finalize", *parts)
        final = replace(certificate, block=name, signatures=(vote,))
        check_final(header, final, founders)
        links = [*stage.links[:18], (Block(header, block.transactions), final)]
        with pytest.raises(VerificationFailed, match="block 19: a block that names other"):
            verify_chain(stage.genesis, links)


def test_views_rise_within_an_epoch_and_begin_anew_with_the_next() -> None:
    stage = InMemoryLedger(4, 4, epoch_blocks=10)
    stage.block(skipped=6)
    leader = stage.key_of(stage.state.validators[1].peer)
    for view in (View(1), View(7)):
        block, _ = build_block(stage.head, Mempool(), leader, view)
        with pytest.raises(PeerFault, match="a view that was over"):
            validate_block(stage.state, block)
    validate_block(stage.state, build_block(stage.head, Mempool(), leader, View(8))[0])
    stage.empty_blocks(8)
    assert (stage.state.height, stage.state.globals.view) == (9, 0)
    block, _ = build_block(stage.head, Mempool(), leader, View(1))
    assert (block.header.epoch, block.header.view) == (1, 1)
    validate_block(stage.state, block)


def test_who_votes_no_more_leads_no_block() -> None:
    stage = InMemoryLedger(5, 5, epoch_blocks=10)
    stage.block(stage.sign(stage.keys[0], Validate(is_on=False)))
    stage.empty_blocks(18)
    assert len(stage.state.validators) == 4
    block, _ = build_block(stage.head, Mempool(), stage.keys[0], View(1))
    with pytest.raises(PeerFault, match="no validator"):
        validate_block(stage.state, block)


def three_epochs() -> InMemoryLedger:
    """25 blocks in epochs of ten; from the third on four strangers vote beside the founder."""
    stage = InMemoryLedger(5, 1, epoch_blocks=10)
    stage.block(*(stage.sign(key, Validate(is_on=True)) for key in stage.keys[1:5]))
    stage.empty_blocks(24)
    assert len(stage.state.validators) == 5
    return stage
