"""Votes are counted once, certificates need two thirds, leaders follow stake, and liars show."""

from collections import Counter

import pytest

from swarm.errors import BadSignature, BrokenPromise, PeerFault
from swarm.ledger.blocks import FINALIZE, NOTARIZE, NULLIFY, Certificate, Validator
from swarm.ledger.consensus.votes import (
    LEADERS_KEPT,
    Electorate,
    Equivocation,
    Vote,
    VoteCounter,
    check_vote_shape,
    first_voter,
)
from swarm.primitives.codec import replace
from swarm.primitives.crypto import digest
from swarm.testing.ledger import InMemoryLedger, numbered_key
from swarm.types import NO_DIGEST, Amount, Digest, View

CHAIN = digest("genesis", b"x")
LEFT, RIGHT = digest("block", b"left"), digest("block", b"right")
KEYS = [numbered_key(i) for i in range(4)]


def an_electorate(*powers: int) -> Electorate:
    powers = powers or (1, 1, 1, 1)
    voters = [Validator(key.peer, Amount(p)) for key, p in zip(KEYS, powers, strict=False)]
    return Electorate(CHAIN, voters, bytes(32))


def a_vote(voter: int, kind: int = NOTARIZE, view: int = 1, block: Digest = LEFT) -> Vote:
    name = NO_DIGEST if kind == NULLIFY else block
    return an_electorate().sign_vote(KEYS[voter], kind, View(view), name)


def test_three_of_four_make_a_certificate_that_everybody_accepts() -> None:
    electorate = an_electorate()
    counter = VoteCounter(electorate)
    for voter in (3, 0):
        counter.add_vote(a_vote(voter))
        assert counter.quorum(a_vote(voter)) is None
    counter.add_vote(a_vote(1))
    certificate = counter.quorum(a_vote(1))
    assert certificate is not None
    assert (certificate.bitmap, first_voter(certificate)) == (0b1011, 0)
    electorate.check_certificate(certificate)
    for bad in (
        replace(certificate, view=View(2)),
        replace(certificate, kind=FINALIZE),
        replace(certificate, block=RIGHT),
        replace(certificate, bitmap=0b0111),
        replace(certificate, bitmap=0b0011, signatures=certificate.signatures[:2]),
        replace(certificate, bitmap=1 << 70),
    ):
        with pytest.raises(PeerFault):
            electorate.check_certificate(bad)
    assert counter.lacks(certificate)
    counter.add_certificate(certificate)
    assert not counter.lacks(certificate)
    assert counter.quorum(a_vote(1)) is None


@pytest.mark.rule("L31")
def test_a_third_of_the_power_is_not_enough_whatever_the_heads() -> None:
    electorate = an_electorate(66, 17, 17, 1)
    assert not electorate.is_quorum({0: b""})
    assert electorate.is_quorum({0: b"", 1: b""})
    assert not electorate.is_quorum({1: b"", 2: b"", 3: b""})


def test_a_vote_of_another_epoch_is_a_forged_one() -> None:
    """Views begin anew with each epoch: nothing that was signed in one may count in the next."""
    voters = an_electorate().validators
    counter = VoteCounter(Electorate(CHAIN, voters, bytes(32), epoch=1))
    with pytest.raises(BadSignature):
        counter.add_vote(a_vote(0))
    later = Electorate(CHAIN, voters, bytes(32), epoch=1).sign_vote(
        KEYS[0], NOTARIZE, View(1), LEFT
    )
    assert counter.add_vote(later) is None


def test_a_forged_vote_is_refused_and_not_counted() -> None:
    counter = VoteCounter(an_electorate())
    with pytest.raises(BadSignature):
        counter.add_vote(replace(a_vote(0), voter=1))
    for voter in (0, 2):
        counter.add_vote(a_vote(voter))
    assert counter.quorum(a_vote(0)) is None


@pytest.mark.rule("L33", "S9")
@pytest.mark.parametrize(
    ("first", "second", "is_guilty"),
    [
        (a_vote(0), a_vote(0, block=RIGHT), True),
        (a_vote(0, FINALIZE), a_vote(0, FINALIZE, block=RIGHT), True),
        (a_vote(0, NULLIFY), a_vote(0, FINALIZE), True),
        (a_vote(0, FINALIZE), a_vote(0, NULLIFY), True),
        (a_vote(0), a_vote(0), False),
        (a_vote(0), a_vote(0, NULLIFY), False),
        (a_vote(0), a_vote(0, FINALIZE), False),
        (a_vote(0), a_vote(0, view=2, block=RIGHT), False),
        (a_vote(0), a_vote(1, block=RIGHT), False),
    ],
)
def test_conflicting_votes_convict_and_nothing_else_does(
    first: Vote, second: Vote, is_guilty: bool
) -> None:
    counter = VoteCounter(an_electorate())
    assert counter.add_vote(first) is None
    assert counter.add_vote(second) == (Equivocation(first, second) if is_guilty else None)
    assert counter.add_vote(second) is None


@pytest.mark.rule("L33", "S9")
@pytest.mark.parametrize("is_late", [False, True])
def test_a_vote_that_contradicts_one_in_a_certificate_convicts(is_late: bool) -> None:
    """Its voter told one half of the others one thing, and the other half another."""
    counter, other = VoteCounter(an_electorate()), a_vote(0, block=RIGHT)
    votes = tuple(a_vote(voter) for voter in (0, 1, 2))
    certificate = Certificate(NOTARIZE, View(1), LEFT, 7, tuple(vote.signature for vote in votes))
    if is_late:
        assert counter.add_certificate(certificate) == []
        assert counter.add_vote(other) == Equivocation(votes[0], other)
    else:
        assert counter.add_vote(other) is None
        assert counter.add_certificate(certificate) == [Equivocation(other, votes[0])]
    assert counter.add_certificate(certificate) == []
    assert counter.add_vote(a_vote(1)) is None


def test_final_views_are_forgotten() -> None:
    counter = VoteCounter(an_electorate())
    counter.add_vote(a_vote(0))
    counter.add_certificate(Certificate(NOTARIZE, View(1), LEFT, 7, (b"",) * 3))
    counter.prune(View(1))
    assert counter.certificate(NOTARIZE, View(1)) is None
    assert counter.notarizations() == []
    assert counter.add_vote(a_vote(1)) is None
    assert counter.quorum(a_vote(1)) is None


def test_a_vote_comes_whole_and_from_its_voter() -> None:
    check_vote_shape(a_vote(2), 2)
    for bad, sender in (
        (a_vote(2), 1),
        (replace(a_vote(2), kind=3), 2),
        (replace(a_vote(2), view=View(0)), 2),
        (replace(a_vote(2), block=NO_DIGEST), 2),
        (replace(a_vote(2, NULLIFY), block=LEFT), 2),
        (replace(a_vote(2), block=b"short"), 2),
    ):
        with pytest.raises(PeerFault):
            check_vote_shape(bad, sender)


def test_everybody_leads_once_a_cycle_and_stake_leads_early() -> None:
    electorate = an_electorate(70, 10, 10, 10)
    turns = [electorate.leader(View(view)) for view in range(4 * 200)]
    assert all(sorted(turns[i : i + 4]) == [0, 1, 2, 3] for i in range(0, 800, 4))
    first = Counter(turns[i] for i in range(0, 800, 4))
    assert 120 < first[0] < 160
    assert turns == [an_electorate(70, 10, 10, 10).leader(View(view)) for view in range(800)]


def test_only_the_leaders_signature_makes_a_proposal() -> None:
    ledger = InMemoryLedger(4, 4)
    ledger.block()
    block, _ = ledger.links[0]
    genesis = ledger.genesis
    electorate = Electorate(genesis.chain, ledger.state.validators, genesis.seed)
    leader = electorate.validators[electorate.leader(block.header.view)].peer
    others = [key for key in ledger.keys[:4] if key.peer != leader]
    electorate.check_proposal(
        electorate.sign_proposal(ledger.key_of(leader), block.header.view, block, ())
    )
    with pytest.raises(BadSignature):
        electorate.check_proposal(electorate.sign_proposal(others[0], block.header.view, block, ()))
    stranger = replace(block, header=replace(block.header, leader=others[0].peer))
    with pytest.raises(BrokenPromise, match="in the name of another"):
        electorate.check_proposal(
            electorate.sign_proposal(ledger.key_of(leader), block.header.view, stranger, ())
        )
    certificate = Certificate(NULLIFY, View(1), NO_DIGEST, 7, ())
    good = electorate.sign_proposal(ledger.key_of(leader), block.header.view, block, ())
    with pytest.raises(BrokenPromise):
        electorate.check_proposal(replace(good, certificates=(certificate,) * 33))


@pytest.mark.rule("L80", "S9")
def test_what_a_leader_told_the_other_half_convicts_it_also_after_the_view_is_final() -> None:
    electorate = an_electorate()
    leader = electorate.leader(View(1))
    left, right = a_vote(leader, block=LEFT), a_vote(leader, block=RIGHT)
    counter = VoteCounter(electorate)
    counter.add_vote(left)
    assert counter.leader_vote(View(1)) == left
    counter.prune(View(3))
    assert counter.leader_vote(View(1)) == left
    assert counter.add_heard(left) is None
    with pytest.raises(BadSignature):
        counter.add_heard(replace(right, signature=left.signature))
    assert counter.add_heard(right) == Equivocation(left, right)
    assert counter.add_heard(right) is None, "once"
    assert counter.add_heard(a_vote(leader, view=2)) is None, "nothing is known of that view"


@pytest.mark.rule("L80")
def test_votes_of_old_leaders_are_bounded() -> None:
    electorate = an_electorate()
    counter = VoteCounter(electorate)
    for view in range(1, 3 * LEADERS_KEPT):
        counter.add_vote(a_vote(electorate.leader(View(view)), view=view))
        counter.prune(View(view))
    kept = [view for view in range(3 * LEADERS_KEPT) if counter.leader_vote(View(view))]
    assert kept == [*range(2 * LEADERS_KEPT, 3 * LEADERS_KEPT)]
