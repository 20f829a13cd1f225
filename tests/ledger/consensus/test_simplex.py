"""No fault makes two final blocks at one height or convicts an honest validator, and all heal.

The histories are those of simulation.py; the other tests drive a machine or two by hand.
"""

import pytest

from swarm.errors import OutOfTurn, PeerFault, VerificationFailed
from swarm.ledger.blocks import FINALIZE, NOTARIZE, NULLIFY, Certificate, block_digest
from swarm.ledger.consensus.branch import FinalPoint
from swarm.ledger.consensus.simplex import Effect, Muted, Save, Send, Simplex
from swarm.ledger.consensus.votes import (
    Electorate,
    Equivocation,
    Heard,
    Proof,
    Proposal,
    Request,
    Statement,
    Vote,
)
from swarm.primitives.codec import replace
from swarm.types import NO_DIGEST, Digest, Height, View
from tests.ledger.consensus.plain import CHAIN, PlainExecutor, plain_mark
from tests.ledger.consensus.scenarios import SCENARIOS, Scenario
from tests.ledger.consensus.simulation import PACE, Replica, World, a_world, name_of

NUM_SEEDS = 1_000


@pytest.mark.rule("L31a", "S9")
@pytest.mark.parametrize("seed", range(NUM_SEEDS))
def test_whatever_fails_there_is_one_chain_and_it_grows_again(seed: int) -> None:
    try:
        a_world(seed).live()
    except AssertionError as error:
        replay = f'{name_of(seed)}; replay: pytest "{__file__}" -k "grows_again and {seed}]"'
        raise AssertionError(f"{error}; {replay}") from error


def test_a_seed_is_a_whole_history() -> None:
    logs = list[bytes]()
    for seed in (9, 9, 10):
        world = World(SCENARIOS["four, equivocator, loss"], seed)
        world.run()
        logs.append(world.log.digest())
    assert logs[0] == logs[1] != logs[2]


def a_quartet() -> tuple[list[Replica], Electorate]:
    world = World(Scenario(4), 0)
    for replica in world.replicas:
        replica.machine = Simplex(
            world.electorate(0),
            replica.secret,
            PlainExecutor(replica.secret),
            PACE,
            tip=FinalPoint(Height(0), View(0), CHAIN),
            certificate=None,
        )
    return world.replicas, world.electorate(0)


def votes_in(effects: list[Effect], kind: int) -> list[Vote]:
    said = [effect.statement for effect in effects if isinstance(effect, Send)]
    return [vote for vote in said if isinstance(vote, Vote) and vote.kind == kind]


def test_only_the_first_proposal_of_the_leader_of_a_view_that_is_due_is_awaited() -> None:
    replicas, electorate = a_quartet()
    leader, voter = electorate.leader(View(1)), (electorate.leader(View(1)) + 1) % 4
    machine, other = replicas[leader].machine, replicas[voter].machine
    assert machine is not None
    assert other is not None
    effects = machine.start(0.0)
    due = machine.proposes(PACE.interval_s)
    assert due is not None
    assert (due.parent, due.height, machine.proposes(-1.0)) == (CHAIN, 0, None)
    effects += machine.expire(PACE.interval_s)
    assert machine.proposes(PACE.interval_s) is None
    proposal = next(
        effect.statement
        for effect in effects
        if isinstance(effect, Send) and isinstance(effect.statement, Proposal)
    )
    other.start(0.0)
    assert other.awaits(proposal, leader)
    assert not other.awaits(proposal, voter)
    assert not other.awaits(replace(proposal, view=View(0)), electorate.leader(View(0)))
    later = next(v for v in range(3, 60) if electorate.leader(View(v)) == leader)
    assert not other.awaits(replace(proposal, view=View(later)), leader)
    other.receive(proposal, leader, 0.0)
    assert not other.awaits(proposal, leader)


@pytest.mark.rule("L32", "S9")
def test_a_vote_is_saved_before_it_is_sent() -> None:
    replicas, electorate = a_quartet()
    machine = replicas[electorate.leader(View(1))].machine
    assert machine is not None
    effects = machine.start(0.0) + machine.expire(0.0)
    saved = 0
    for effect in effects:
        saved += isinstance(effect, Save)
        is_word = isinstance(effect, Send) and not isinstance(effect.statement, Request)
        assert not is_word or saved
    assert votes_in(effects, NOTARIZE)


@pytest.mark.rule("L34")
def test_blocks_come_at_the_interval() -> None:
    world = World(SCENARIOS["four, clean"], 3)
    world.run()
    assert 50 <= len(world.replicas[0].chain) <= 60


@pytest.mark.rule("L34")
def test_a_proposal_that_comes_early_is_voted_for_when_the_interval_has_passed() -> None:
    replicas, electorate = a_quartet()
    leaders = [electorate.leader(View(view)) for view in (1, 2)]
    me = next(i for i in range(4) if i not in leaders)
    machine = replicas[me].machine
    assert machine is not None
    machine.start(5.0)

    def proposed(height: int, parent: Digest) -> tuple[Proposal, int]:
        leader = leaders[height - 1]
        executor = PlainExecutor(replicas[leader].secret)
        block = executor.build(parent, Height(height), View(height))
        return electorate.sign_proposal(
            replicas[leader].secret, block.header.view, block, ()
        ), leader

    first, leader = proposed(1, CHAIN)
    name = block_digest(first.block.header)
    assert votes_in(machine.receive(first, leader, 5.0), NOTARIZE)
    for other in (i for i in range(4) if i != me):
        vote = electorate.sign_vote(replicas[other].secret, NOTARIZE, View(1), name)
        machine.receive(vote, other, 5.1)
    assert machine.view == 2
    early = machine.receive(*proposed(2, name), 5.2)
    assert not votes_in(early + machine.expire(5.9), NOTARIZE)
    assert machine.deadline == 6.0
    assert votes_in(machine.expire(6.0), NOTARIZE)


def test_a_bad_block_is_nullified_not_notarized() -> None:
    replicas, electorate = a_quartet()
    leader = electorate.leader(View(1))
    executor = PlainExecutor(replicas[leader].secret)
    executor.twist = b"bad"
    block = executor.build(CHAIN, Height(1), View(1))
    proposal = electorate.sign_proposal(replicas[leader].secret, block.header.view, block, ())
    machine = next(r.machine for r in replicas if r.index != leader)
    assert machine is not None
    machine.start(0.0)
    effects = machine.receive(proposal, leader, 0.1)
    assert votes_in(effects, NULLIFY)
    assert not votes_in(effects, NOTARIZE)


@pytest.mark.rule("L58")
def test_an_unfair_block_is_nullified_and_followed_where_others_notarize_it() -> None:
    replicas, electorate = a_quartet()
    leader = electorate.leader(View(1))
    executor = PlainExecutor(replicas[leader].secret)
    executor.twist = b"unfair"
    block = executor.build(CHAIN, Height(1), View(1))
    proposal = electorate.sign_proposal(replicas[leader].secret, block.header.view, block, ())
    others = [i for i in range(4) if i != leader]
    machine = replicas[others[0]].machine
    assert machine is not None
    machine.start(0.0)
    effects = machine.receive(proposal, leader, 0.1)
    assert votes_in(effects, NULLIFY)
    assert not votes_in(effects, NOTARIZE)
    name, voters = block_digest(block.header), sorted({0, 1, 2, 3} - {others[0]})
    marks = tuple(plain_mark(i, NOTARIZE, 1, name) for i in voters)
    notarized = Certificate(NOTARIZE, View(1), name, sum(1 << i for i in voters), marks)
    machine.receive(Proof(notarized), leader, 0.2)
    assert machine.view == 2, "three of four saw it otherwise: it is built on"


def test_a_bad_block_that_a_quorum_finalized_ends_the_validator() -> None:
    """It cannot be built on, and no honest validator signed it."""
    replicas, electorate = a_quartet()
    leader = electorate.leader(View(1))
    executor = PlainExecutor(replicas[leader].secret)
    executor.twist = b"bad"
    block = executor.build(CHAIN, Height(1), View(1))
    name, others = block_digest(block.header), [i for i in range(4) if i != leader]
    machine, me = replicas[others[0]].machine, others[0]
    assert machine is not None
    machine.start(0.0)
    machine.receive(
        electorate.sign_proposal(replicas[leader].secret, block.header.view, block, ()), leader, 0.1
    )
    voters = sorted(i for i in range(4) if i != me)
    marks = tuple(plain_mark(i, FINALIZE, 1, name) for i in voters)
    final = Certificate(FINALIZE, View(1), name, sum(1 << i for i in voters), marks)
    with pytest.raises(VerificationFailed, match="signed a bad block"):
        machine.receive(Proof(final), leader, 0.2)


def test_what_no_honest_validator_sends_is_the_peers_fault_and_changes_nothing() -> None:
    replicas, electorate = a_quartet()
    machine, me = replicas[0].machine, 0
    assert machine is not None
    machine.start(0.0)
    vote = electorate.sign_vote(replicas[1].secret, NOTARIZE, View(1), CHAIN)
    leader = electorate.leader(View(1))
    stranger = next(i for i in range(4) if i not in {leader, me})
    block = PlainExecutor(replicas[leader].secret).build(CHAIN, Height(1), View(1))
    certificate = Certificate(NULLIFY, View(1), NO_DIGEST, 1, (plain_mark(0, 1, 1, NO_DIGEST),))
    cases: list[tuple[Statement, int]] = [
        (vote, 2),
        (Vote(NOTARIZE, View(1), CHAIN, 1, b"forged"), 1),
        (Vote(7, View(1), CHAIN, 1, vote.signature), 1),
        (Vote(NULLIFY, View(1), CHAIN, 1, vote.signature), 1),
        (electorate.sign_proposal(replicas[leader].secret, block.header.view, block, ()), stranger),
        (Proposal(View(1), block, (), b"forged"), leader),
        (Proof(certificate), 1),
        (Request(View(1), blocks=(CHAIN,) * 33), 1),
    ]
    before = machine.deadline
    for statement, sender in cases:
        with pytest.raises(PeerFault):
            machine.receive(statement, sender, 0.1)
        assert (machine.view, machine.deadline) == (1, before)
    with pytest.raises(OutOfTurn):
        machine.receive(vote, 3, 0.1)


@pytest.mark.rule("L32")
def test_whoever_signed_what_its_journal_does_not_hold_votes_no_more() -> None:
    replicas, electorate = a_quartet()
    machine = replicas[0].machine
    assert machine is not None
    machine.start(0.0)
    signatures = tuple(plain_mark(i, NULLIFY, 1, NO_DIGEST) for i in (0, 1, 2))
    effects = machine.receive(
        Proof(Certificate(NULLIFY, View(1), NO_DIGEST, 7, signatures)), 1, 0.1
    )
    assert [effect for effect in effects if isinstance(effect, Muted)]
    assert machine.view == 2
    later = machine.expire(100.0)
    assert not [e for e in later if isinstance(e, Send) and isinstance(e.statement, Vote)]
    assert electorate.is_quorum(dict.fromkeys((0, 1, 2), b""))


@pytest.mark.rule("L80", "S9")
def test_whoever_heard_a_leader_passes_its_vote_on_when_its_view_is_skipped() -> None:
    """The leader has told this validator one block and another one a second: neither went anywhere."""
    replicas, electorate = a_quartet()
    leader = electorate.leader(View(1))
    first, second = (i for i in range(4) if i != leader and i != electorate.leader(View(2)))
    told = {
        at: electorate.sign_vote(
            replicas[leader].secret, NOTARIZE, View(1), Digest(bytes([at + 1]) * 32)
        )
        for at in (first, second)
    }
    passed = dict[int, Heard]()
    for at in (first, second):
        machine = replicas[at].machine
        assert machine is not None
        machine.start(0.0)
        machine.receive(told[at], leader, 0.0)
        voters = [i for i in range(4) if i != at]
        marks = tuple(plain_mark(i, NULLIFY, 1, NO_DIGEST) for i in voters)
        bitmap = sum(1 << i for i in voters)
        skipped = Proof(Certificate(NULLIFY, View(1), NO_DIGEST, bitmap, marks))
        effects = machine.receive(skipped, leader, 0.0)
        (passed[at],) = [
            effect.statement
            for effect in effects
            if isinstance(effect, Send) and isinstance(effect.statement, Heard)
        ]
    machine = replicas[second].machine
    assert machine is not None
    assert machine.receive(passed[first], first, 0.0) == [Equivocation(told[second], told[first])]
    assert passed[second].vote == told[second]


@pytest.mark.rule("L80")
def test_only_a_leaders_notarize_vote_may_be_passed_on() -> None:
    replicas, electorate = a_quartet()
    leader = electorate.leader(View(1))
    other = (leader + 1) % 4
    machine = replicas[(leader + 2) % 4].machine
    assert machine is not None
    machine.start(0.0)
    forged = electorate.sign_vote(
        replicas[other].secret, NOTARIZE, View(1), Digest(bytes(32) + b"")
    )
    for vote in (
        electorate.sign_vote(replicas[other].secret, NOTARIZE, View(1), Digest(b"1" * 32)),
        electorate.sign_vote(replicas[leader].secret, NULLIFY, View(1), NO_DIGEST),
        electorate.sign_vote(replicas[leader].secret, FINALIZE, View(1), Digest(b"1" * 32)),
        replace(forged, voter=leader, block=Digest(b"2" * 32)),
    ):
        with pytest.raises(PeerFault):
            machine.receive(Heard(vote), other, 0.0)
    far = electorate.sign_vote(replicas[other].secret, NOTARIZE, View(900), Digest(b"1" * 32))
    assert machine.receive(Heard(far), other, 0.0) == []
