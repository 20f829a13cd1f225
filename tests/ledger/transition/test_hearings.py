"""A dispute that two sides decide by moves: clocks, money, and what judges may still do."""

import pytest

from swarm.errors import BadEncoding, BrokenPromise, InvalidStatement, OutOfTurn, Reason
from swarm.ledger.describe_checks import segment_text
from swarm.ledger.state.accusations import Turn
from swarm.ledger.state.records import SegmentPhase, SegmentRecord
from swarm.ledger.state.state import Reader
from swarm.ledger.transactions import Unstake, parse_transaction
from swarm.ledger.transition import hearings
from swarm.ledger.transition.court import Outcome, Ruling, the_court
from swarm.ledger.transition.disputes import first_accusation
from swarm.ledger.transition.hearings import CLOCK_BLOCKS_MIN, clock_blocks, move_blocks
from swarm.ledger.transition.phases import are_reveals_open
from swarm.primitives.codec import encode, replace
from swarm.primitives.crypto import SecretKey, peer_name
from swarm.testing.ledger import STAKE
from swarm.types import Amount, Digest
from tests.ledger.checking import Case, a_case

OUTCOMES = {b"guilty": Outcome.GUILTY, b"false": Outcome.FALSE, b"elsewhere": Outcome.ELSEWHERE}


class TestCourt:
    """A court in which a move says what follows from it; the sides take turns."""

    __test__ = False

    def opened(
        self, reader: Reader, record: SegmentRecord, window: int, claim: Digest, move: bytes
    ) -> Ruling:
        del reader, record, window, claim
        if move != b"open":
            raise BadEncoding("no account")
        return Ruling(b"1", Outcome.OPEN, is_solvers_turn=True)

    def moved(
        self,
        reader: Reader,
        record: SegmentRecord,
        window: int,
        game: bytes,
        move: bytes,
        *,
        is_solver: bool,
    ) -> Ruling:
        del reader, record, window
        if move == b"lie":
            raise BrokenPromise("not what was said before")
        if move == b"early":
            raise OutOfTurn("not now")
        outcome = OUTCOMES.get(move, Outcome.OPEN)
        return Ruling(game + b"1", outcome, is_solvers_turn=not is_solver)


@pytest.fixture(autouse=True)
def court(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hearings, "the_court", TestCourt)


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


def move(case: Case, key: SecretKey, what: bytes = b"") -> None:
    case.submit(key, case.claimed.move(0, what))


def turn(case: Case) -> Turn:
    assert case.record.dispute is not None
    return Turn(case.record.dispute.turn)


@pytest.mark.rule("L93")
def test_the_court_of_every_node_is_that_of_the_verify_package() -> None:
    court = the_court()
    assert callable(court.opened)
    assert callable(court.moved)


@pytest.mark.rule("L93")
def test_attack_a_bought_majority_convicts_no_solver_that_asks_to_be_heard() -> None:
    case, _ = disputed()
    stake = case.stake(case.solver)
    for key in case.judges[:-1]:
        case.submit(key, case.claimed.vote(0, is_guilty=True))
    assert case.is_now(SegmentPhase.DISPUTED), "no verdict counts before it could ask"
    move(case, case.solver)
    assert turn(case) is Turn.ACCUSER
    late = case.judges[-1]
    assert case.refused(late, case.claimed.vote(0, is_guilty=True)) is Reason.WRONG_PHASE
    case.wait(SegmentPhase.UNSAMPLED, 2 * CLOCK_BLOCKS_MIN)
    assert case.stake(case.solver) == stake
    assert case.record.is_paid


@pytest.mark.rule("L94")
def test_an_accuser_that_does_not_move_loses_its_bond_to_the_solver() -> None:
    case, reporter = disputed()
    bond = first_accusation(case.record, 0).bond
    move(case, case.solver)
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
def test_a_solver_that_is_shown_a_false_element_loses_its_stake_and_no_judge_gains() -> None:
    case, reporter = disputed(lie=0)
    judges = {key.peer: case.balance(key) for key in case.judges}
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


@pytest.mark.rule("L95")
def test_a_silent_solver_is_guilty_unless_its_judges_clear_it() -> None:
    for is_cleared in (True, False):
        case, reporter = disputed(lie=None if is_cleared else 0)
        move(case, reporter, b"open")
        case.ledger.empty_blocks(move_blocks(case.run.spec.round_blocks) + 1)
        assert turn(case) is Turn.SILENT
        assert case.refused(case.solver, case.claimed.move(0, b"next")) is Reason.EXPIRED
        if is_cleared:
            case.judge(is_guilty=False)
            assert case.is_now(SegmentPhase.CLEARED)
            assert case.stake(case.solver) == STAKE
        else:
            case.wait(SegmentPhase.GUILTY)
            assert case.stake(case.solver) == 0


@pytest.mark.rule("L94")
def test_attack_stalling_a_dispute_takes_as_long_as_two_clocks() -> None:
    case, reporter = disputed(lie=0)
    began, clock = case.ledger.state.height, clock_blocks(case.run.spec.round_blocks)
    move(case, reporter, b"open")
    while turn(case) is not Turn.SILENT:
        is_solver = turn(case) is Turn.SOLVER
        case.ledger.empty_blocks(move_blocks(case.run.spec.round_blocks) - 2)
        if case.record.dispute is None or turn(case) is Turn.SILENT:
            break
        move(case, case.solver if is_solver else reporter, b"next")
        if not is_solver and case.ledger.state.height - began > 4 * clock:
            raise AssertionError("it goes on for ever")
    assert case.ledger.state.height - began <= 2 * clock + 6


def test_a_dispute_says_whom_it_waits_for() -> None:
    case, reporter = disputed(lie=0)
    name = peer_name(reporter.peer)
    assert segment_text(case.record).endswith(f"{name} found window 0 false")
    move(case, case.solver)
    assert segment_text(case.record).endswith("; arithmetic decides, its accuser moves")
    move(case, reporter, b"open")
    assert segment_text(case.record).endswith("; arithmetic decides, it moves")
    case.ledger.empty_blocks(move_blocks(case.run.spec.round_blocks) + 1)
    assert "guilty unless its judges clear it" in segment_text(case.record)


@pytest.mark.rule("L93")
def test_attack_an_accomplice_that_reports_does_not_hold_up_an_accuser() -> None:
    """While answers may be shown, the accuser's time runs: it moves all the same."""
    case, reporter = disputed(lie=0)
    friend = next(key for key in case.able if key.peer != reporter.peer)
    case.submit(friend, case.claimed.report(friend.peer, 0))
    assert are_reveals_open(case.record, case.ledger.state.height)
    move(case, case.solver)
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

    class Counting(TestCourt):
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


@pytest.mark.rule("L95")
def test_what_arithmetic_does_not_decide_is_before_its_judges_for_good() -> None:
    case, reporter = disputed(lie=0)
    move(case, reporter, b"open")
    move(case, case.solver, b"elsewhere")
    assert turn(case) is Turn.JUDGES
    for key in (reporter, case.solver):
        assert case.refused(key, case.claimed.move(0, b"open")) is Reason.WRONG_PHASE
    case.judge(is_guilty=True)
    assert case.is_now(SegmentPhase.GUILTY)


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
    assert case.refused(stranger, case.claimed.move(0, b"open")) is Reason.WRONG_PEER
    assert case.refused(reporter, case.claimed.move(1, b"open")) is Reason.WRONG_PHASE
    assert case.refused(reporter, case.claimed.move(0, b"")) is Reason.BAD_FIELD
    assert case.refused(reporter, case.claimed.move(0, b"junk")) is Reason.BAD_FIELD
    assert case.refused(case.solver, case.claimed.move(0, b"next")) is Reason.BAD_FIELD
    move(case, reporter, b"open")
    assert case.refused(reporter, case.claimed.move(0, b"next")) is Reason.WRONG_PEER
    assert case.refused(case.solver, case.claimed.move(0, b"lie")) is Reason.BAD_PROOF
    assert case.refused(case.solver, case.claimed.move(0, b"early")) is Reason.WRONG_PHASE
