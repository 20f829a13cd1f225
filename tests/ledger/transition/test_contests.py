"""Who is not served complains, and drawn witnesses are believed; a false complaint costs more than it takes."""

import pytest

from swarm.errors import InvalidStatement, Reason
from swarm.ledger.state.records import CheckPhase, SegmentPhase
from swarm.ledger.state.state import decode_state, encode_state
from swarm.ledger.transition.contests import WITNESSES_MAX
from swarm.ledger.transition.phases import contest_start, open_contest
from swarm.ledger.transition.prices import (
    contest_bond,
    request_bond,
    silence_fine,
    witness_pay,
)
from swarm.primitives.codec import replace
from tests.ledger.checking import EXACT, Case, a_case
from tests.ledger.complaints import complain, say, unserved, witnesses

ROUND = EXACT.round_blocks
FEES = 30
"""More than the fees of all statements of one peer here."""


def end(case: Case) -> None:
    """Make blocks until the witnesses have decided."""
    while open_contest(case.record) is not None:
        case.ledger.block()


@pytest.mark.rule("L85", "L86", "L56", "S14")
def test_a_solver_that_serves_no_witness_is_silent_and_who_complained_is_paid_by_its_fine() -> None:
    case, victim = unserved(num_validators=1)
    params, record = case.ledger.state.params, case.record
    before, solver = case.balance(victim), case.balance(case.solver)
    bond = contest_bond(params, EXACT, record)
    complain(case, victim)
    assert before - bond - FEES < case.balance(victim) <= before - bond
    heard = witnesses(case)
    assert len(heard) == len(case.able) - 1 >= 3
    had = [case.balance(key) for key in heard]
    say(case, heard, is_served=False)
    end(case)
    assert case.is_now(SegmentPhase.SILENT)
    assert case.balance(case.solver) == solver - max(silence_fine(params, EXACT, record), bond)
    asked = request_bond(params, record)
    fine = solver - case.balance(case.solver)
    assert 0 <= before + asked + min(bond, fine) - case.balance(victim) < FEES, (
        "as much as it risked"
    )
    gains = [case.balance(key) - old for key, old in zip(heard, had, strict=True)]
    assert all(gain > -witness_pay(params) for gain in gains)
    work = case.ledger.state.contribution(case.run.index, case.solver.peer)
    assert (work.silent, case.record.is_paid) == (1, False)


@pytest.mark.rule("L86")
def test_a_solver_that_serves_its_friends_only_is_silent_although_they_approve() -> None:
    """The attack: a lie, hidden from the one honest verifier of the false window, and approved by a friend."""
    case = a_case(num_accounts=8, lie=0)
    case.draw_verifiers()
    victim, friend = case.drawn(case.able)[:2]
    windows = case.ask([victim, friend])
    blind = case.claimed.blind(case.ledger.state, friend.peer, windows[friend.peer])
    case.submit(friend, blind)
    case.ledger.empty_blocks(contest_start(case.record, EXACT) - case.ledger.state.height - 1)
    complain(case, victim)
    honest = [key for key in witnesses(case) if key != friend]
    say(case, [friend], is_served=True)
    say(case, honest[:2], is_served=False)
    end(case)
    assert case.is_now(SegmentPhase.SILENT)
    assert not case.record.is_paid


@pytest.mark.rule("L86")
def test_a_verifier_that_is_served_by_a_witness_has_a_round_to_answer_and_convicts() -> None:
    case, victim = unserved(lie=0)
    complain(case, victim)
    say(case, witnesses(case), is_served=True)
    end(case)
    assert case.is_now(SegmentPhase.SAMPLED)
    case.seal({victim.peer: 0})
    case.submit(case.solver, case.claimed.reveal())
    case.show({victim.peer: 0})
    assert case.is_now(SegmentPhase.DISPUTED)
    case.decide(is_guilty=True)
    assert case.is_now(SegmentPhase.GUILTY)


@pytest.mark.rule("L86")
def test_a_false_complaint_costs_the_reward_of_a_segment_and_voids_nothing() -> None:
    """The attack: ask, have the log, complain, and never answer, so that an honest solver is not paid."""
    case, cheat = unserved(num_validators=1)
    before, burned = case.balance(cheat), case.ledger.state.globals.burned
    bond = contest_bond(case.ledger.state.params, EXACT, case.record)
    complain(case, cheat)
    heard = len(witnesses(case))
    say(case, witnesses(case), is_served=True)
    case.wait(SegmentPhase.SEALED)
    case.submit(case.solver, case.claimed.reveal())
    assert case.is_now(SegmentPhase.UNSAMPLED)
    assert case.record.is_paid
    assert case.balance(cheat) <= before - bond
    paid = heard * witness_pay(case.ledger.state.params)
    assert case.ledger.state.globals.burned - burned >= max(bond - paid, 0)


@pytest.mark.rule("L39", "L85")
def test_asking_and_never_answering_voids_no_honest_segment() -> None:
    """The attack: verifiers with a third of the stake that are drawn alone ask, and say nothing more."""
    case = a_case(num_validators=1)
    before = case.balance(case.able[0])
    for attempt in range(3):
        case.draw_verifiers()
        assert len(case.ask(case.able, attempt)) == 2
    bonds = sum(check.bond for check in case.record.checks)
    case.wait(SegmentPhase.SEALED)
    case.submit(case.solver, case.claimed.reveal())
    assert case.is_now(SegmentPhase.UNSAMPLED)
    assert case.record.is_paid
    assert case.ledger.state.globals.burned == bonds > 0
    assert case.balance(case.able[0]) < before - bonds // 2
    assert case.ledger.state.contribution(case.run.index, case.solver.peer).silent == 0


@pytest.mark.rule("L86")
@pytest.mark.parametrize("has_answer", [False, True])
def test_where_no_witness_is_heard_a_solver_that_has_served_nobody_is_silent(
    *, has_answer: bool
) -> None:
    case = a_case(num_accounts=8)
    case.draw_verifiers()
    victim, other = case.drawn(case.able)[:2]
    windows = case.ask([victim, other])
    before = case.balance(victim) + case.record.checks[0].bond
    if has_answer:
        blind = case.true.blind(case.ledger.state, other.peer, windows[other.peer])
        case.submit(other, blind)
    case.ledger.empty_blocks(contest_start(case.record, EXACT) - case.ledger.state.height - 1)
    complain(case, victim)
    end(case)
    assert case.is_now(SegmentPhase.SAMPLED if has_answer else SegmentPhase.SILENT)
    if has_answer:
        assert before - FEES < case.balance(victim) <= before, "nobody is blamed"


@pytest.mark.rule("L86")
def test_where_witnesses_are_divided_nobody_is_blamed() -> None:
    case, victim = unserved()
    before = case.balance(victim) + case.record.checks[0].bond
    complain(case, victim)
    one, two = witnesses(case)[:2]
    say(case, [one], is_served=True)
    say(case, [two], is_served=False)
    end(case)
    assert case.is_now(SegmentPhase.SAMPLED)
    assert before - FEES < case.balance(victim) <= before
    case.seal({victim.peer: 0})
    case.submit(case.solver, case.claimed.reveal())
    case.show({victim.peer: 0})
    assert case.is_now(SegmentPhase.VERIFIED)


@pytest.mark.rule("L85")
def test_who_is_served_after_all_answers_and_has_its_bond_back() -> None:
    case, victim = unserved()
    before = case.balance(victim)
    complain(case, victim)
    case.submit(victim, case.true.blind(case.ledger.state, victim.peer, 0))
    assert case.is_now(SegmentPhase.SEALED)
    assert open_contest(case.record) is None
    assert before - FEES < case.balance(victim) <= before


@pytest.mark.rule("L85")
def test_a_complaint_comes_a_round_after_the_request_by_who_asked_and_once() -> None:
    case = a_case(num_accounts=8)
    case.draw_verifiers()
    victim, other = case.drawn(case.able)[:2]
    case.ask([victim, other])
    body = case.claimed.complaint(case.ledger.state, victim.peer)
    assert case.refused(victim, body) is Reason.WRONG_PHASE, "the solver has a round"
    case.ledger.empty_blocks(contest_start(case.record, EXACT) - case.ledger.state.height - 1)
    assert case.refused(other, body) is Reason.BAD_SIGNATURE
    assert case.refused(victim, replace(body, window=1)) is Reason.WRONG_PHASE
    assert case.refused(victim, replace(body, check=9)) is Reason.WRONG_PEER
    complain(case, victim)
    assert case.refused(victim, body) is Reason.FULL
    second = case.claimed.complaint(case.ledger.state, other.peer)
    assert case.refused(other, second) is Reason.FULL, "one after the other"
    say(case, witnesses(case)[:1], is_served=True)
    end(case)
    assert case.refused(victim, body) is Reason.DUPLICATE
    case.submit(other, second)
    assert len(case.record.contests) == 2


@pytest.mark.rule("L86")
def test_only_the_drawn_bear_witness_once_each_and_in_time() -> None:
    case, victim = unserved(10)
    contest = complain(case, victim)
    heard = witnesses(case)
    one, two = heard[:2]
    said = case.claimed.witness(case.ledger.state, one, is_served=False)
    assert said is not None
    assert case.refused(two, said) is Reason.BAD_PROOF, "the proof of another"
    assert case.refused(victim, said) is Reason.WRONG_PEER, "in its own case"
    assert case.refused(case.solver, said) is Reason.WRONG_PEER
    assert case.refused(case.ledger.key_of(case.record.partners[0]), said) is Reason.WRONG_PEER
    assert case.refused(one, replace(said, check=1)) is Reason.WRONG_PHASE
    case.submit(one, said)
    assert case.refused(one, replace(said, is_served=True)) is Reason.DUPLICATE
    case.ledger.empty_blocks(contest.end - case.ledger.state.height)
    late = case.ledger.sign(two, said)
    with pytest.raises(InvalidStatement):
        case.ledger.block(late)
    assert case.is_now(SegmentPhase.SILENT), "one was heard"
    assert len(heard) < WITNESSES_MAX


@pytest.mark.rule("L85")
def test_while_a_complaint_is_heard_nobody_asks_and_answers_are_taken() -> None:
    case = a_case(num_accounts=8)
    case.draw_verifiers()
    victim, other, third = case.drawn(case.able)[:3]
    windows = case.ask([victim, other])
    late = case.claimed.request(case.ledger.state, third)
    assert late is not None
    case.ledger.empty_blocks(contest_start(case.record, EXACT) - case.ledger.state.height - 1)
    complain(case, victim)
    assert case.refused(third, late) is Reason.WRONG_PHASE
    case.submit(other, case.true.blind(case.ledger.state, other.peer, windows[other.peer]))
    assert case.record.checks[1].phase is CheckPhase.SEALED
    assert case.is_now(SegmentPhase.SAMPLED)


@pytest.mark.rule("L4", "L6")
def test_an_open_complaint_and_its_bond_survive_a_snapshot() -> None:
    case, victim = unserved()
    complain(case, victim)
    say(case, witnesses(case)[:1], is_served=False)
    state = case.ledger.state
    again = decode_state(encode_state(state))
    assert again.root == state.root
    assert again.supply == state.supply
