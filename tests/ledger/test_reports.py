"""A segment that nobody checked is not out of reach: a report makes its solver show it, or lose its pay."""

import dataclasses
import random

import pytest

from swarm.errors import InvalidStatement, Reason
from swarm.ledger.chain import verify_chain
from swarm.ledger.state.records import SegmentPhase
from swarm.ledger.state.state import audit_supply, decode_state, encode_state
from swarm.ledger.transactions import Body, Transfer
from swarm.ledger.transition.phases import challenge_end
from swarm.ledger.transition.runs import boundary_height
from swarm.primitives.codec import replace
from swarm.primitives.crypto import SecretKey
from swarm.testing.ledger import BALANCE, STAKE, make_segment
from swarm.types import NO_DIGEST, Amount
from tests.ledger.checking import EXACT, Case, a_case

ROUND, BOND = EXACT.round_blocks, 20
FEES = 10
"""More than the fees of one statement; blocks of one's own give them back."""


def hidden(*, num_steps: int = 10, lie: int | None = None) -> tuple[Case, SecretKey]:
    """A segment that was paid on trust and never shown, and a peer with a stake that is no party to it."""
    case = a_case(num_accounts=6, num_steps=num_steps, lie=lie)
    case.wait(SegmentPhase.UNSAMPLED)
    assert case.record.is_paid
    assert not case.record.windows
    return case, case.ledger.keys[5]


def escrow(case: Case) -> int:
    return case.ledger.state.run(case.run.index).escrow


def up_to(case: Case, height: int) -> None:
    """So that the next block has this height."""
    case.ledger.empty_blocks(height - case.ledger.state.height - 1)


def is_kept(case: Case) -> bool:
    commit = case.claimed.commit
    segment_id = commit.run, commit.round, commit.stage, commit.seat
    return case.ledger.state.segment(*segment_id) is not None


def why_refused(case: Case, key: SecretKey) -> str:
    with pytest.raises(InvalidStatement) as caught:
        case.submit(key, case.true.report(0))
    return str(caught.value)


@pytest.mark.rule("L42")
def test_what_agrees_with_what_is_shown_costs_the_reporter_its_bond() -> None:
    case, reporter = hidden()
    before = case.balance(reporter)
    case.submit(reporter, case.true.report(0))
    assert case.is_now(SegmentPhase.SEALED)
    assert case.record.due == case.ledger.state.height + ROUND
    assert 0 <= before - BOND - case.balance(reporter) < FEES
    solver = case.balance(case.solver)
    case.submit(case.solver, case.claimed.reveal())
    assert case.is_now(SegmentPhase.UNSAMPLED)
    assert (len(case.record.windows), case.record.accusations) == (1, ())
    assert 0 <= case.balance(case.solver) - solver - BOND < FEES
    assert case.record.is_paid
    assert case.refused(reporter, case.true.report(0)) is Reason.BAD_FIELD, "it agrees, all see it"
    assert case.ledger.state.contribution(case.run.index, case.solver.peer).silent == 0


@pytest.mark.rule("L42")
def test_a_lie_that_must_be_shown_is_judged_like_any_other() -> None:
    case, reporter = hidden(lie=0)
    before, pay = case.balance(reporter), escrow(case)
    case.submit(reporter, case.true.report(0))
    case.submit(case.solver, case.claimed.reveal())
    assert case.is_now(SegmentPhase.DISPUTED)
    case.vote([case.ledger.keys[2], case.ledger.keys[3]], is_guilty=True)
    assert case.is_now(SegmentPhase.GUILTY)
    assert case.stake(case.solver) == 0
    assert abs(case.balance(reporter) - before - STAKE * 40 // 100) < FEES, "and its bond"
    assert escrow(case) == pay + 5
    assert case.ledger.state.verdicts(case.run.index).guilty == 1


def test_a_false_report_of_what_must_be_shown_pays_the_solver_once() -> None:
    case, reporter = hidden()
    case.submit(reporter, case.true.with_lie(0).report(0))
    case.submit(case.solver, case.claimed.reveal())
    assert case.is_now(SegmentPhase.DISPUTED)
    solver = case.balance(case.solver)
    case.vote([case.ledger.keys[2], case.ledger.keys[3]], is_guilty=False)
    assert case.is_now(SegmentPhase.CLEARED)
    assert 0 <= case.balance(case.solver) - solver - BOND < FEES
    assert case.refused(reporter, case.true.with_lie(0).report(0)) is Reason.DUPLICATE
    assert case.stake(reporter) == STAKE


@pytest.mark.rule("V18")
def test_a_log_that_cannot_be_honest_is_a_claim_like_any_other() -> None:
    case, reporter = hidden()
    refused = replace(case.true.report(0), leaves=(NO_DIGEST,), end_root=NO_DIGEST)
    case.submit(reporter, refused)
    case.submit(case.solver, case.claimed.reveal())
    assert case.is_now(SegmentPhase.DISPUTED)


@pytest.mark.rule("L42", "S15")
def test_a_solver_that_shows_nothing_is_silent_and_gives_its_pay_back() -> None:
    case, reporter = hidden()
    before, pay = case.balance(reporter), escrow(case)
    case.submit(reporter, case.true.with_lie(0).report(0))
    solver = case.balance(case.solver)
    up_to(case, case.record.due)
    assert case.is_now(SegmentPhase.SEALED)
    case.ledger.block()
    assert case.is_now(SegmentPhase.SILENT)
    assert escrow(case) == pay + 5
    assert abs(solver - 5 - case.balance(case.solver)) < FEES
    assert 0 <= before - case.balance(reporter) < FEES, "its bond is back"
    assert (case.record.held, case.record.is_paid, case.record.accusations) == (0, False, ())
    work = case.ledger.state.contribution(case.run.index, case.solver.peer)
    assert (work.silent, work.earned, case.stake(case.solver)) == (1, 0, STAKE)
    assert case.refused(case.solver, case.claimed.reveal()) is Reason.WRONG_PHASE
    assert audit_supply(case.ledger.state) == case.ledger.state.supply


def test_who_has_spent_its_pay_gives_back_what_is_left() -> None:
    case, reporter = hidden()
    case.submit(reporter, case.true.report(0))
    left = case.balance(case.solver) - 12
    case.submit(case.solver, Transfer(reporter.peer, Amount(left)))
    while case.balance(case.solver) > 4:
        case.submit(case.solver, Transfer(reporter.peer, Amount(1)))
    pay, has = escrow(case), case.balance(case.solver)
    case.wait(SegmentPhase.SILENT)
    assert escrow(case) - pay + case.balance(case.solver) >= has
    assert audit_supply(case.ledger.state) == case.ledger.state.supply


@pytest.mark.rule("L40")
def test_a_wrong_count_of_tokens_cannot_be_shown() -> None:
    case = a_case(num_accounts=6)
    owner, found = case.ledger.keys[0], make_segment(case.ledger, case.run, 1, 1, 0)
    more = replace(found.commit, tokens=found.commit.tokens + 1)
    case.true = case.claimed = dataclasses.replace(found, commit=more)
    case.submit(owner, case.claimed.commit)
    case.wait(SegmentPhase.UNSAMPLED)
    case.submit(case.ledger.keys[5], case.claimed.report(0))
    assert case.refused(owner, case.claimed.reveal()) is Reason.BAD_PROOF
    case.wait(SegmentPhase.SILENT)


def test_while_it_must_be_shown_and_after_a_verdict_a_report_is_refused_with_its_reason() -> None:
    case, reporter = hidden()
    late = case.ledger.keys[4]
    case.submit(reporter, case.true.with_lie(0).report(0))
    assert "show its leaves first" in why_refused(case, late)
    case.wait(SegmentPhase.SILENT)
    assert "it is silent: nothing was shown" in why_refused(case, late)
    case, reporter = hidden(lie=0)
    case.submit(reporter, case.true.report(0))
    case.submit(case.solver, case.claimed.reveal())
    case.vote([case.ledger.keys[2], case.ledger.keys[3]], is_guilty=True)
    assert "proven false already" in why_refused(case, case.ledger.keys[4])
    early = a_case(num_accounts=6)
    assert "verifiers come first" in why_refused(early, early.ledger.keys[5])
    early.draw_verifiers()
    early.ask(early.able)
    assert "verifiers come first" in why_refused(early, early.ledger.keys[5])


def test_a_vote_without_a_dispute_is_refused_with_its_reason() -> None:
    case, reporter = hidden(lie=0)
    vote = case.claimed.vote(0, is_guilty=True)
    judge = case.ledger.keys[2]
    with pytest.raises(InvalidStatement, match="no dispute: the segment is unsampled"):
        case.submit(judge, vote)
    case.submit(reporter, case.true.report(0))
    with pytest.raises(InvalidStatement, match="no dispute: the segment is sealed"):
        case.submit(judge, vote)
    case.submit(case.solver, case.claimed.reveal())
    case.vote([judge, case.ledger.keys[3]], is_guilty=True)
    with pytest.raises(InvalidStatement, match="no dispute: the segment is guilty"):
        case.submit(case.ledger.keys[4], vote)
    with pytest.raises(InvalidStatement, match="no dispute: the segment is guilty"):
        case.submit(case.ledger.keys[0], vote)


@pytest.mark.rule("L42")
def test_a_friend_that_reports_at_the_last_moment_opens_the_segment_for_a_round_more() -> None:
    case, friend = hidden(lie=0)
    honest = case.ledger.keys[4]
    up_to(case, challenge_end(case.record, EXACT) - 1)
    case.submit(friend, case.claimed.report(0))
    assert case.refused(honest, case.true.report(0)) is Reason.WRONG_PHASE
    up_to(case, case.record.due - 1)
    case.submit(case.solver, case.claimed.reveal())
    assert case.is_now(SegmentPhase.UNSAMPLED)
    shown = case.ledger.state.height
    assert challenge_end(case.record, EXACT) == case.record.due == shown + ROUND
    up_to(case, shown + ROUND - 1)
    case.submit(honest, case.true.report(0))
    case.vote([case.ledger.keys[2], case.ledger.keys[3]], is_guilty=True)
    assert case.is_now(SegmentPhase.GUILTY)
    case.ledger.block()
    assert not is_kept(case)


@pytest.mark.rule("L18")
def test_a_round_is_kept_while_the_judges_have_a_segment_of_it() -> None:
    case, reporter = hidden(lie=0)
    run, round_ = case.run, case.claimed.commit.round
    up_to(case, challenge_end(case.record, EXACT) - 1)
    case.submit(reporter, case.true.report(0))
    up_to(case, case.record.due - 1)
    case.submit(case.solver, case.claimed.reveal())
    dispute = case.record.dispute
    assert dispute is not None
    closed = boundary_height(run, round_ + 3) + EXACT.checks.challenge_window_blocks
    assert closed < dispute.deadline
    while case.ledger.state.height < dispute.deadline - 1:
        assert case.ledger.state.round_info(run.index, round_) is not None
        case.ledger.block()
    case.ledger.block()
    assert case.is_now(SegmentPhase.CLEARED), "no verdict in time"
    assert case.ledger.state.round_info(run.index, round_) is not None
    case.ledger.block()
    assert not is_kept(case)
    assert case.ledger.state.round_info(run.index, round_) is None


@pytest.mark.rule("L47")
def test_after_that_round_it_is_forgotten() -> None:
    case, friend = hidden()
    up_to(case, challenge_end(case.record, EXACT) - 1)
    case.submit(friend, case.true.report(0))
    case.submit(case.solver, case.claimed.reveal())
    up_to(case, case.record.due)
    assert is_kept(case)
    assert case.refused(case.ledger.keys[4], case.true.with_lie(0).report(0)) in {
        Reason.EXPIRED,
        Reason.UNKNOWN_SEGMENT,
    }
    case.ledger.block()
    assert not is_kept(case)


@pytest.mark.rule("L42")
def test_one_report_of_a_peer_waits_at_a_time() -> None:
    case, reporter = hidden(num_steps=25)
    case.submit(reporter, case.true.report(0))
    case.submit(case.solver, case.claimed.reveal())
    wrong = [case.true.with_lie(window).report(window) for window in range(3)]
    case.submit(reporter, wrong[1])
    assert case.refused(reporter, wrong[2]) is Reason.DUPLICATE
    case.submit(case.ledger.keys[4], wrong[2])
    case.vote([case.ledger.keys[2], case.ledger.keys[3]], is_guilty=False)
    assert case.is_now(SegmentPhase.DISPUTED)
    case.submit(reporter, wrong[0])
    case.vote([case.ledger.keys[2], case.ledger.keys[3]], is_guilty=False)
    case.vote([case.ledger.keys[2], case.ledger.keys[3]], is_guilty=False)
    assert case.is_now(SegmentPhase.CLEARED)
    assert case.record.judged == (1, 2, 0)
    assert case.balance(reporter) <= BALANCE - 3 * BOND, "every false one costs"


def test_a_report_names_a_window_that_can_be_there() -> None:
    case, reporter = hidden(num_steps=25)
    report = case.true.report(2)
    assert case.refused(reporter, replace(report, window=3)) is Reason.BAD_FIELD
    assert case.refused(case.solver, report) is Reason.STAKE
    poor = case.ledger.keys[20]
    case.submit(case.ledger.keys[0], Transfer(poor.peer, Amount(100)))
    assert case.refused(poor, report) is Reason.STAKE
    assert case.refused(case.able[0], case.claimed.reveal()) is Reason.BAD_SIGNATURE


@pytest.mark.rule("L47")
def test_a_silent_solver_of_a_settled_run_pays_its_owner() -> None:
    case = a_case(replace(EXACT, rounds=3, round_blocks=3), num_accounts=6)
    case.wait(SegmentPhase.UNSAMPLED)
    case.ledger.reach_round(case.run, 6)
    case.submit(case.ledger.keys[5], case.true.report(0))
    before = case.balance(case.ledger.keys[0])
    case.wait(SegmentPhase.SILENT)
    assert case.balance(case.ledger.keys[0]) >= before + 5
    assert escrow(case) == 0


def test_a_snapshot_and_the_whole_chain_hold_while_a_report_waits() -> None:
    case, reporter = hidden()
    case.submit(reporter, case.true.with_lie(0).report(0))
    state = case.ledger.state
    again = decode_state(encode_state(state))
    assert again.root == state.root
    assert again.live_segments() == state.live_segments()
    case.wait(SegmentPhase.SILENT)
    report = verify_chain(case.ledger.genesis, case.ledger.links)
    assert report.supply == case.ledger.state.supply
    assert report.head.state.root == case.ledger.state.root


@pytest.mark.rule("L47")
@pytest.mark.parametrize("stream", range(4))
def test_whatever_is_reported_no_bond_is_lost_and_every_segment_ends(
    stream: int, seed: int
) -> None:
    rng = random.Random(10 * seed + stream)
    case, _ = hidden(num_steps=25, lie=rng.choice([0, 1, 2]))
    end = case.record.height + EXACT.checks.challenge_window_blocks + 40 * ROUND
    views = [case.true, case.claimed, *(case.true.with_lie(i) for i in range(3))]
    while is_kept(case):
        assert case.ledger.state.height < end, "nobody holds a segment up"
        key, view = rng.choice(case.ledger.keys[:6]), rng.choice(views)
        body: Body | None = rng.choice([view.report(rng.randrange(3)), None, None])
        if case.is_now(SegmentPhase.SEALED) and rng.random() < 0.3:
            key, body = case.solver, case.claimed.reveal()
        elif case.record.dispute is not None and rng.random() < 0.6:
            body = case.claimed.vote(case.record.dispute.window, is_guilty=rng.random() < 0.3)
        try:
            case.submit(key, body) if body is not None else case.ledger.block()
        except InvalidStatement:
            case.ledger.block()
        bonds = sum(a.bond for r in case.ledger.state.live_segments() for a in r.accusations)
        assert bonds in range(0, 9 * BOND, BOND)
        assert audit_supply(case.ledger.state) == case.ledger.state.supply
    verdicts = case.ledger.state.verdicts(case.run.index)
    assert verdicts.unsampled + verdicts.silent + verdicts.cleared + verdicts.guilty == 1
