"""A segment that nobody checked is not out of reach: who replays it may report it, blind and at a risk."""

import random

import pytest

from swarm.errors import InvalidStatement, Reason
from swarm.ledger.chain import verify_chain
from swarm.ledger.check_statements import Report, VerifyReveal
from swarm.ledger.state.records import SegmentPhase
from swarm.ledger.state.state import audit_supply, decode_state, encode_state
from swarm.ledger.transactions import Body, Transfer
from swarm.ledger.transition.hearings import CLOCK_BLOCKS_MIN, silence_blocks
from swarm.ledger.transition.phases import REPORTS_MAX, challenge_end
from swarm.ledger.transition.runs import boundary_height
from swarm.primitives.codec import replace
from swarm.primitives.commitments import REFUSED, verify_commit
from swarm.primitives.crypto import SecretKey
from swarm.testing.ledger import BALANCE, SALT, STAKE, CheckedSegment
from swarm.types import Amount
from tests.ledger.checking import EXACT, Case, a_case
from tests.ledger.scripted import scripted_court

ROUND, BOND = EXACT.round_blocks, 20
FEES = 16
"""More than the fees of two statements; blocks of one's own give them back."""


def unchecked(*, num_steps: int = 10, lie: int | None = None) -> tuple[Case, SecretKey]:
    """A segment that was shown and paid on trust, and a peer with a stake that is no party to it."""
    case = a_case(num_accounts=6, num_steps=num_steps, lie=lie, is_first=True)
    case.wait(SegmentPhase.SEALED)
    case.submit(case.solver, case.claimed.reveal())
    assert case.is_now(SegmentPhase.UNSAMPLED)
    assert case.record.is_paid
    return case, case.ledger.keys[5]


def ask(case: Case, key: SecretKey, window: int = 0, like: CheckedSegment | None = None) -> None:
    case.submit(key, (like or case.true).report(key.peer, window))


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
        ask(case, key)
    return str(caught.value)


@pytest.mark.rule("L42")
def test_what_agrees_with_what_is_shown_costs_the_reporter_its_bond() -> None:
    case, reporter = unchecked()
    before, solver = case.balance(reporter), case.balance(case.solver)
    ask(case, reporter)
    assert case.is_now(SegmentPhase.REVEALED)
    assert case.record.due == case.ledger.state.height + ROUND
    case.show({reporter.peer: 0})
    assert case.is_now(SegmentPhase.UNSAMPLED)
    assert case.record.accusations == ()
    assert 0 <= before - BOND - case.balance(reporter) < FEES
    assert 0 <= case.balance(case.solver) - solver - BOND < FEES
    assert case.record.is_paid
    work = case.ledger.state.contribution(case.run.index, reporter.peer)
    assert (work.refuted, work.checked) == (1, 1)


@pytest.mark.rule("L42", "S15")
def test_a_lie_that_nobody_was_drawn_for_is_judged_like_any_other() -> None:
    case, reporter = unchecked(lie=0)
    before, pay = case.balance(reporter), escrow(case)
    case.blow(reporter, 0)
    assert case.is_now(SegmentPhase.DISPUTED)
    case.decide(is_guilty=True)
    assert case.is_now(SegmentPhase.GUILTY)
    assert case.stake(case.solver) == 0
    assert abs(case.balance(reporter) - before - STAKE * 40 // 100) < FEES, "and its bond"
    assert escrow(case) == pay + 5
    assert case.ledger.state.verdicts(case.run.index).guilty == 1


@pytest.mark.rule("L42")
def test_a_copied_report_cannot_be_shown_by_who_copied_it() -> None:
    """Who sees a report on its way sends the same words, to be first with another's work."""
    case, reporter = unchecked(lie=0)
    thief = case.ledger.keys[4]
    report = case.true.report(reporter.peer, 0)
    case.submit(thief, report)
    case.submit(reporter, report)
    shown = case.true.shown(case.ledger.state, reporter.peer, 0)
    stolen = replace(shown, check=0)
    assert case.refused(thief, stolen) is Reason.BAD_PROOF, "the name is in the commitment"
    case.submit(reporter, shown)
    case.ledger.empty_blocks(ROUND)
    assert [accusation.peer for accusation in case.record.accusations] == [reporter.peer]
    before = case.balance(thief)
    case.decide(is_guilty=True)
    assert case.is_now(SegmentPhase.GUILTY)
    assert case.balance(thief) == before < BALANCE - BOND, "its bond is gone"


@pytest.mark.rule("L111", "V18")
def test_attack_a_refused_log_is_no_accusation() -> None:
    """It counts as not served: a verifier complains, and nobody is convicted by it."""
    case, reporter = unchecked()
    c, claim = case.claimed.commit, REFUSED.claim
    blind = verify_commit(claim, SALT, reporter.peer)
    case.submit(reporter, Report(c.run, c.round, c.stage, c.seat, 0, blind))
    shown = VerifyReveal(c.run, c.round, c.stage, c.seat, 0, SALT, claim)
    assert case.refused(reporter, shown) is Reason.BAD_FIELD
    before = case.balance(case.solver)
    case.wait(SegmentPhase.UNSAMPLED)
    assert case.balance(case.solver) >= before + BOND - 20, "what it said blind cannot be shown"


def test_before_it_is_shown_and_after_a_verdict_a_report_is_refused_with_its_reason() -> None:
    early = a_case(num_accounts=6)
    reporter = early.ledger.keys[5]
    assert "verifiers come first" in why_refused(early, reporter)
    early.wait(SegmentPhase.SEALED)
    assert "show its windows first" in why_refused(early, reporter)
    early.wait(SegmentPhase.SILENT)
    assert "it is silent: nothing was shown" in why_refused(early, reporter)
    asked = a_case(num_accounts=6)
    asked.draw_verifiers()
    asked.ask(asked.able[:2])
    assert "verifiers come first" in why_refused(asked, reporter)
    case, reporter = unchecked(lie=0)
    case.blow(reporter, 0)
    case.decide(is_guilty=True)
    assert "proven false already" in why_refused(case, case.ledger.keys[4])


@pytest.mark.rule("L18", "L42")
def test_a_report_of_the_last_moment_is_judged_and_its_round_is_kept_until_then() -> None:
    case, reporter = unchecked(lie=0)
    run, round_ = case.run, case.claimed.commit.round
    up_to(case, challenge_end(case.record, EXACT) - 1)
    ask(case, reporter)
    up_to(case, case.record.due - 1)
    case.show({reporter.peer: 0})
    assert case.is_now(SegmentPhase.DISPUTED)
    case.fall_silent()
    dispute = case.record.dispute
    assert dispute is not None
    closed = boundary_height(run, round_ + 3) + EXACT.checks.challenge_window_blocks
    assert closed < dispute.deadline
    while case.ledger.state.height < dispute.deadline - 1:
        assert case.ledger.state.round_info(run.index, round_) is not None
        case.ledger.block()
    case.ledger.block()
    assert case.is_now(SegmentPhase.GUILTY), "it never came back"
    assert case.ledger.state.round_info(run.index, round_) is not None
    case.ledger.block()
    assert not is_kept(case)
    assert case.ledger.state.round_info(run.index, round_) is None


@pytest.mark.rule("L47")
def test_after_its_window_a_segment_is_forgotten_and_reports_are_refused() -> None:
    case, reporter = unchecked()
    up_to(case, challenge_end(case.record, EXACT))
    assert is_kept(case)
    assert case.refused(reporter, case.true.report(reporter.peer, 0)) in {
        Reason.EXPIRED,
        Reason.UNKNOWN_SEGMENT,
    }
    case.ledger.block()
    assert not is_kept(case)


@pytest.mark.rule("L42")
def test_one_report_of_a_peer_waits_at_a_time() -> None:
    case, reporter = unchecked(num_steps=25)
    wrong = [case.true.with_lie(window) for window in range(3)]
    case.blow(reporter, 1, wrong[1])
    again = wrong[2].report(reporter.peer, 2)
    assert case.refused(reporter, again) is Reason.DUPLICATE
    case.blow(case.ledger.keys[4], 2, wrong[2])
    case.decide(is_guilty=False)
    assert case.is_now(SegmentPhase.DISPUTED)
    case.blow(reporter, 0, wrong[0])
    case.decide(is_guilty=False)
    case.decide(is_guilty=False)
    assert case.is_now(SegmentPhase.UNSAMPLED)
    assert case.record.judged == (), "a lost accusation says nothing about a window"
    assert case.balance(reporter) <= BALANCE - 3 * BOND, "the second costs twice as much"


@pytest.mark.rule("L42")
def test_at_most_eight_reports_wait() -> None:
    case = a_case(num_accounts=12)
    case.wait(SegmentPhase.SEALED)
    case.submit(case.solver, case.claimed.reveal())
    reporters = [key for key in case.ledger.keys[2:12] if key.peer != case.record.peer]
    reports = [(key, case.true.report(key.peer, 0)) for key in reporters]
    case.ledger.block(*(case.ledger.sign(key, body) for key, body in reports[:REPORTS_MAX]))
    assert case.refused(*reports[REPORTS_MAX]) is Reason.FULL


@pytest.mark.rule("L42")
def test_a_verifier_that_approved_a_segment_does_not_report_it() -> None:
    """Its approval would be gone from the record, and with it what a false one costs."""
    case = a_case(num_steps=20)
    windows = case.up_to_reveal()
    case.show(windows)
    assert case.is_now(SegmentPhase.VERIFIED)
    verifier = case.able[0]
    other = 1 - windows[verifier.peer]
    report = case.true.with_lie(other).report(verifier.peer, other)
    assert case.refused(verifier, report) is Reason.DUPLICATE


def test_a_report_names_a_window_that_can_be_there() -> None:
    case, reporter = unchecked(num_steps=25)
    report = case.true.report(reporter.peer, 2)
    assert case.refused(reporter, replace(report, window=3)) is Reason.BAD_FIELD
    assert case.refused(case.solver, report) is Reason.STAKE
    poor = case.ledger.keys[20]
    case.submit(case.ledger.keys[0], Transfer(poor.peer, Amount(100)))
    assert case.refused(poor, report) is Reason.STAKE


@pytest.mark.rule("L47")
def test_the_pay_of_a_lie_in_a_settled_run_goes_to_its_owner() -> None:
    case = a_case(replace(EXACT, rounds=3, round_blocks=3), num_accounts=6, lie=0)
    case.wait(SegmentPhase.SEALED)
    case.submit(case.solver, case.claimed.reveal())
    case.ledger.reach_round(case.run, 6)
    case.blow(case.ledger.keys[5], 0)
    before = case.balance(case.ledger.keys[0])
    case.decide(is_guilty=True)
    assert case.is_now(SegmentPhase.GUILTY)
    assert case.balance(case.ledger.keys[0]) >= before + 5
    assert escrow(case) == 0


def test_a_snapshot_and_the_whole_chain_hold_while_a_report_waits() -> None:
    case, reporter = unchecked()
    ask(case, reporter, like=case.true.with_lie(0))
    state = case.ledger.state
    again = decode_state(encode_state(state))
    assert again.root == state.root
    assert again.live_segments() == state.live_segments()
    case.wait(SegmentPhase.UNSAMPLED)
    report = verify_chain(case.ledger.genesis, case.ledger.links)
    assert report.supply == case.ledger.state.supply
    assert report.head.state.root == case.ledger.state.root


@pytest.mark.rule("L47")
@pytest.mark.parametrize("stream", range(4))
def test_whatever_is_reported_no_bond_is_lost_and_every_segment_ends(
    stream: int, seed: int
) -> None:
    rng = random.Random(10 * seed + stream)
    case, _ = unchecked(num_steps=25, lie=rng.choice([0, 1, 2]))
    params = case.ledger.state.params
    end = case.record.height + EXACT.checks.challenge_window_blocks + 6 * 2 * CLOCK_BLOCKS_MIN
    end += silence_blocks(params.unbonding_epochs, params.epoch_blocks)
    views = [case.true, case.claimed, *(case.true.with_lie(i) for i in range(3))]
    while is_kept(case):
        assert case.ledger.state.height < end, "nobody holds a segment up"
        key, view = rng.choice(case.ledger.keys[:6]), rng.choice(views)
        window = rng.randrange(3)
        report, shown = (
            view.report(key.peer, window),
            view.shown(case.ledger.state, key.peer, window),
        )
        body: Body | None = rng.choice([report, shown, shown, None])
        if case.record.dispute is not None and rng.random() < 0.6:
            dispute = case.record.dispute
            what = rng.choice([b"open", b"next", b"guilty", b"false"])
            key = case.ledger.key_of(rng.choice([case.record.peer, dispute.accuser]))
            body = case.claimed.move(dispute.window, what)
        try:
            with scripted_court():
                case.submit(key, body) if body is not None else case.ledger.block()
        except InvalidStatement:
            case.ledger.block()
        assert sum(check.is_report for check in case.record.checks) <= 6 if is_kept(case) else True
        assert audit_supply(case.ledger.state) == case.ledger.state.supply
    verdicts = case.ledger.state.verdicts(case.run.index)
    ends = (verdicts.unsampled, verdicts.guilty)
    assert sum(ends) == 1
