"""A dispute that two sides decide by moves: clocks, money, silence, and coming back."""

import pytest

from swarm.errors import InvalidStatement, Reason
from swarm.ledger.describe_checks import segment_text
from swarm.ledger.state.accusations import Turn
from swarm.ledger.state.draft import Draft
from swarm.ledger.state.records import SegmentPhase
from swarm.ledger.transactions import Join, Transfer, Unstake, parse_transaction
from swarm.ledger.transition import hearings
from swarm.ledger.transition.court import Ruling, the_court
from swarm.ledger.transition.disputes import first_accusation
from swarm.ledger.transition.hearings import (
    CLOCK_BLOCKS_MIN,
    clock_blocks,
    move_blocks,
    silence_blocks,
)
from swarm.ledger.transition.payments import pay
from swarm.ledger.transition.phases import are_reveals_open
from swarm.primitives.codec import encode, replace
from swarm.primitives.crypto import SecretKey, peer_name
from swarm.testing.ledger import STAKE
from swarm.types import Amount
from tests.ledger.checking import Case, a_case
from tests.ledger.scripted import ScriptedCourt, scripted_court


def disputed(*, lie: int | None = None, voters: int = 4) -> tuple[Case, SecretKey]:
    """A segment that is disputed by one reporter, falsely unless it lies, and that reporter."""
    case = a_case(lie=lie, num_accounts=8, num_validators=voters)
    windows = case.up_to_reveal(0)
    case.show(windows)
    case.wait(SegmentPhase.UNSAMPLED)
    reporter = case.able[-1]
    case.blow(reporter, 0, case.true.with_lie(0) if lie is None else None)
    assert case.is_now(SegmentPhase.DISPUTED)
    assert first_accusation(case.record, 0).peer == reporter.peer
    return case, reporter


def move(case: Case, key: SecretKey, what: bytes) -> None:
    case.move(key, what)


def refused(case: Case, key: SecretKey, what: bytes, window: int = 0) -> Reason:
    with scripted_court():
        return case.refused(key, case.claimed.move(window, what))


def turn(case: Case) -> Turn:
    assert case.record.dispute is not None
    return Turn(case.record.dispute.turn)


@pytest.mark.rule("L93")
def test_the_court_of_every_node_is_that_of_the_verify_package() -> None:
    court = the_court()
    assert callable(court.opened)
    assert callable(court.moved)


@pytest.mark.rule("L93", "L112")
def test_the_accuser_moves_first_and_both_clocks_are_full() -> None:
    case, reporter = disputed()
    dispute = case.record.dispute
    assert dispute is not None
    clock, limit = (what(case.run.spec.round_blocks) for what in (clock_blocks, move_blocks))
    assert (turn(case), dispute.accuser) == (Turn.ACCUSER, reporter.peer)
    assert (dispute.accuser_left, dispute.solver_left) == (clock, clock)
    assert dispute.deadline == dispute.since + limit


@pytest.mark.rule("L94")
def test_an_accuser_that_does_not_move_loses_its_bond_to_the_solver() -> None:
    case, reporter = disputed()
    bond = first_accusation(case.record, 0).bond
    before = case.balance(case.solver), case.balance(reporter), case.stake(reporter)
    case.wait(SegmentPhase.UNSAMPLED, 2 * CLOCK_BLOCKS_MIN)
    assert bond > 0
    assert case.balance(case.solver) >= before[0] + bond
    assert (case.balance(reporter), case.stake(reporter)) == before[1:]
    assert case.ledger.state.contribution(case.run.index, reporter.peer).refuted == 1


@pytest.mark.rule("L94")
def test_attack_an_accomplice_that_accuses_and_gives_up_clears_nothing() -> None:
    """The window is as it was: whoever finds the lie may report it still."""
    case, reporter = disputed(lie=0)
    move(case, reporter, b"open")
    move(case, case.solver, b"next")
    for _ in range(2 * CLOCK_BLOCKS_MIN):
        if not case.is_now(SegmentPhase.DISPUTED):
            break
        case.ledger.block()
    assert 0 not in case.record.judged
    assert case.is_now(SegmentPhase.UNSAMPLED)


@pytest.mark.rule("L93")
def test_a_solver_that_is_shown_a_false_element_loses_its_stake_and_no_validator_gains() -> None:
    case, reporter = disputed(lie=0)
    voters = [case.ledger.key_of(one.peer) for one in case.ledger.state.validators]
    others = [key for key in voters if key not in (case.solver, reporter)]
    judges = {key.peer: case.balance(key) for key in others}
    move(case, reporter, b"open")
    move(case, case.solver, b"next")
    move(case, reporter, b"guilty")
    assert case.is_now(SegmentPhase.GUILTY)
    assert case.stake(case.solver) == 0
    assert case.balance(reporter) > STAKE // 4
    leader = case.ledger.keys[0].peer
    gained = [p for p, had in judges.items() if case.balance(case.ledger.key_of(p)) > had + 50]
    assert not gained or gained == [leader]


@pytest.mark.rule("L93")
def test_an_accusation_that_is_refuted_costs_its_bond_and_is_gone() -> None:
    case, reporter = disputed()
    before = case.balance(case.solver)
    move(case, reporter, b"open")
    move(case, case.solver, b"false")
    assert case.is_now(SegmentPhase.UNSAMPLED)
    assert case.balance(case.solver) > before
    assert not case.record.accusations


def seated(case: Case) -> bool:
    run = case.ledger.state.run(case.run.index)
    return any(seat.peer == case.solver.peer for roster in run.seats for seat in roster)


def silence(case: Case) -> int:
    params = case.ledger.state.params
    return silence_blocks(params.unbonding_epochs, params.epoch_blocks)


@pytest.mark.rule("L95", "L113")
def test_a_solver_that_is_silent_loses_its_seat_at_once_and_its_stake_in_the_end() -> None:
    case, reporter = disputed(lie=0)
    assert seated(case)
    case.fall_silent()
    began, dispute = case.ledger.state.height, case.record.dispute
    assert turn(case) is Turn.SILENT
    assert dispute is not None
    assert not seated(case)
    assert case.stake(case.solver) == STAKE
    assert case.refused(case.solver, Join(case.run.index)) is Reason.BARRED
    assert dispute.deadline == began + silence(case)
    case.ledger.empty_blocks(dispute.deadline - case.ledger.state.height - 1)
    assert case.is_now(SegmentPhase.DISPUTED)
    case.ledger.block()
    assert case.is_now(SegmentPhase.GUILTY)
    assert case.stake(case.solver) == 0
    assert case.balance(reporter) > STAKE // 4
    work = case.ledger.state.contribution(case.run.index, case.solver.peer)
    assert (work.absent, work.is_barred, work.failed) == (0, True, 1)


@pytest.mark.rule("L114")
def test_attack_a_false_accuser_of_a_machine_without_power_loses_when_that_comes_back() -> None:
    """Nothing but the seat is lost, however late it comes."""
    case, reporter = disputed()
    case.fall_silent()
    case.ledger.empty_blocks(silence(case) - 5)
    before = case.balance(case.solver)
    move(case, case.solver, b"next")
    dispute = case.record.dispute
    assert dispute is not None
    clock = clock_blocks(case.run.spec.round_blocks)
    assert (turn(case), dispute.has_returned, dispute.solver_left) == (Turn.ACCUSER, True, clock)
    assert dispute.deadline > case.ledger.state.height + move_blocks(case.run.spec.round_blocks)
    move(case, reporter, b"next")
    move(case, case.solver, b"false")
    assert not case.is_now(SegmentPhase.DISPUTED)
    assert case.stake(case.solver) == STAKE
    assert case.balance(case.solver) > before - 30, "and the bond of its accuser"
    work = case.ledger.state.contribution(case.run.index, case.solver.peer)
    assert (work.absent, work.is_barred, work.failed) == (0, False, 0)
    assert not seated(case)
    case.submit(case.solver, Join(case.run.index))
    assert case.ledger.state.contribution(case.run.index, reporter.peer).refuted == 1


@pytest.mark.rule("L114")
def test_attack_a_solver_that_is_silent_twice_is_guilty_at_once() -> None:
    case, reporter = disputed(lie=0)
    case.fall_silent()
    move(case, case.solver, b"next")
    move(case, reporter, b"next")
    dispute = case.record.dispute
    assert dispute is not None
    case.ledger.empty_blocks(dispute.deadline - case.ledger.state.height)
    assert case.is_now(SegmentPhase.GUILTY)
    assert case.stake(case.solver) == 0


@pytest.mark.rule("L113")
def test_attack_a_solver_is_not_paid_for_other_work_while_it_is_silent() -> None:
    """Silence would else be a way to have everything else paid before the conviction."""
    case, _ = disputed(lie=0)
    case.fall_silent()
    draft = Draft(case.ledger.state, case.ledger.keys[0].peer)
    other = replace(case.record, is_paid=False, held=Amount(5), dispute=None, accusations=())
    escrow = draft.run(case.run.index).escrow
    paid = pay(draft, other)
    assert (paid.is_paid, paid.held) == (False, 0)
    assert draft.run(case.run.index).escrow == escrow + other.held


@pytest.mark.rule("L114")
def test_the_time_in_which_a_silent_solver_may_come_back_is_bounded() -> None:
    case, _ = disputed(lie=0)
    case.fall_silent()
    dispute = case.record.dispute
    assert dispute is not None
    case.ledger.empty_blocks(dispute.deadline - case.ledger.state.height)
    assert case.is_now(SegmentPhase.GUILTY)
    assert refused(case, case.solver, b"next") is Reason.UNKNOWN_SEGMENT, "judged, and forgotten"


@pytest.mark.rule("L94")
def test_attack_stalling_a_dispute_takes_as_long_as_two_clocks() -> None:
    case, reporter = disputed(lie=0)
    began, clock = case.ledger.state.height, clock_blocks(case.run.spec.round_blocks)
    move(case, reporter, b"open")
    while case.record.dispute is not None and turn(case) is not Turn.SILENT:
        is_solver = turn(case) is Turn.SOLVER
        case.ledger.empty_blocks(move_blocks(case.run.spec.round_blocks) - 2)
        if case.record.dispute is None or turn(case) is Turn.SILENT:
            break
        move(case, case.solver if is_solver else reporter, b"next")
        if not is_solver and case.ledger.state.height - began > 4 * clock:
            raise AssertionError("it goes on for ever")
    last = move_blocks(case.run.spec.round_blocks)  # this test looks that late
    assert case.ledger.state.height - began <= 2 * clock + last


@pytest.mark.rule("L115")
def test_a_dispute_says_whom_it_waits_for() -> None:
    case, reporter = disputed(lie=0)

    def text() -> str:
        assert case.record.dispute is not None
        found = segment_text(case.record)
        assert found.endswith(f" height {case.record.dispute.deadline}")
        return found

    assert f"{peer_name(reporter.peer)} found window 0 false; its accuser moves until" in text()
    move(case, reporter, b"open")
    assert "; its solver moves until" in text()
    case.ledger.empty_blocks(move_blocks(case.run.spec.round_blocks) + 1)
    assert "; silent when accused: seat gone, stake held until" in text()


@pytest.mark.rule("L93")
def test_attack_an_accomplice_that_reports_does_not_hold_up_an_accuser() -> None:
    """While answers may be shown, the accuser's time runs: it moves all the same."""
    case, reporter = disputed(lie=0)
    friend = next(key for key in case.able if key.peer != reporter.peer)
    case.submit(friend, case.claimed.report(friend.peer, 0))
    assert are_reveals_open(case.record, case.ledger.state.height)
    move(case, reporter, b"open")
    assert turn(case) is Turn.SOLVER
    move(case, case.solver, b"next")
    move(case, reporter, b"guilty")
    assert case.is_now(SegmentPhase.GUILTY)


@pytest.mark.rule("L11")
def test_attack_forged_moves_cost_a_validator_a_signature_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Judging one can take a tenth of a second: nobody may ask for that in the name of another."""
    case, reporter = disputed(lie=0)
    judged = list[bytes]()

    class Counting(ScriptedCourt):
        def opened(self, *args: object) -> Ruling:
            judged.append(b"")
            return super().opened(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(hearings, "the_court", Counting)
    data = case.ledger.sign(reporter, case.claimed.move(0, b"open"))
    signed = parse_transaction(data)
    forged = encode(replace(signed, signature=bytes(64)))
    with pytest.raises(InvalidStatement) as refusal:
        case.ledger.block(forged)
    assert (refusal.value.reason, judged) == (Reason.BAD_SIGNATURE, [])
    case.ledger.block(data)
    assert judged
    assert turn(case) is Turn.SOLVER


@pytest.mark.rule("L94")
def test_attack_a_stake_that_is_withdrawn_stays_until_the_dispute_is_over() -> None:
    case, reporter = disputed(lie=0, voters=1)
    case.submit(case.solver, Unstake(Amount(STAKE // 2)))
    account = case.ledger.state.account(case.solver.peer)
    released = account.unbonding[0].release_height
    move(case, reporter, b"open")
    clock = clock_blocks(case.run.spec.round_blocks)
    held = case.ledger.state.account(case.solver.peer).unbonding[0].release_height
    assert held >= max(released, case.ledger.state.height + 2 * clock)


@pytest.mark.rule("L93")
def test_a_move_of_somebody_else_out_of_turn_or_that_is_none_is_refused_by_name() -> None:
    case, reporter = disputed(lie=0)
    stranger = next(key for key in case.able if key.peer != reporter.peer)
    assert refused(case, stranger, b"open") is Reason.WRONG_PEER
    assert refused(case, reporter, b"open", window=1) is Reason.WRONG_PHASE
    assert refused(case, reporter, b"") is Reason.BAD_FIELD
    assert refused(case, reporter, b"junk") is Reason.BAD_FIELD
    assert refused(case, case.solver, b"next") is Reason.WRONG_PEER
    move(case, reporter, b"open")
    assert refused(case, reporter, b"next") is Reason.WRONG_PEER
    assert refused(case, case.solver, b"lie") is Reason.BAD_PROOF
    assert refused(case, case.solver, b"early") is Reason.WRONG_PHASE


@pytest.mark.rule("L116")
def test_attack_a_stake_that_is_withdrawn_while_a_solver_is_silent_is_taken_too() -> None:
    """So are those of who approved the lie; and a false accuser cannot leave before it is refuted."""
    case, reporter = disputed(lie=0, voters=1)
    case.submit(case.solver, Unstake(Amount(STAKE // 2)))
    case.submit(reporter, Unstake(Amount(STAKE // 2)))
    case.fall_silent()
    dispute = case.record.dispute
    assert dispute is not None
    for key in (case.solver, reporter):
        (part,) = case.ledger.state.account(key.peer).unbonding
        assert part.release_height > dispute.deadline + clock_blocks(case.run.spec.round_blocks)
    case.ledger.empty_blocks(dispute.deadline - case.ledger.state.height)
    assert case.is_now(SegmentPhase.GUILTY)
    account = case.ledger.state.account(case.solver.peer)
    assert (account.stake, account.unbonding) == (0, ())


@pytest.mark.rule("L10", "L93")
def test_attack_a_solver_without_money_is_accused_so_that_it_cannot_answer() -> None:
    """Its run pays for its moves, and for those of nobody else."""
    case, reporter = disputed(voters=1)
    move(case, reporter, b"open")
    fee = 4
    for key in (case.solver, reporter):
        case.submit(
            key, Transfer(case.ledger.keys[0].peer, Amount(case.balance(key) - fee)), fee=fee
        )
    assert (case.balance(case.solver), case.balance(reporter)) == (0, 0)
    with scripted_court():
        case.submit(case.solver, case.claimed.move(0, b"next"), fee=0)
        assert turn(case) is Turn.ACCUSER
        with pytest.raises(InvalidStatement):
            case.submit(reporter, case.claimed.move(0, b"next"), fee=0)
