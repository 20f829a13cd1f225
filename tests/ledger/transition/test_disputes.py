"""A lie costs stake, pay and seat; a false accusation costs who made it; in doubt nobody is paid."""

import pytest

from swarm.errors import Reason
from swarm.ledger.state.records import CheckPhase, SegmentPhase
from swarm.ledger.state.state import audit_supply
from swarm.ledger.transactions import Join, Stake, Unstake
from swarm.ledger.transition.prices import report_bond, solver_stake
from swarm.primitives.codec import replace
from swarm.primitives.crypto import SecretKey
from swarm.testing.ledger import BALANCE, STAKE, make_segment
from swarm.types import Amount
from tests.ledger.checking import EXACT, Case, a_case

NATIVE = replace(EXACT, numerics="native")


def disputed(case: Case) -> dict[bytes, int]:
    """Up to the first answer that differs, and all others shown."""
    windows = case.up_to_reveal()
    case.show(windows)
    assert case.is_now(SegmentPhase.DISPUTED)
    return windows


@pytest.mark.rule("L44", "S13")
def test_a_lie_is_slashed_shared_burned_and_evicted() -> None:
    case = a_case(lie=0)
    disputed(case)
    accuser, escrow = case.record.accusations[0].peer, case.ledger.state.run(case.run.index).escrow
    assert accuser == case.able[0].peer, "the first that answered blind"
    bond = case.record.accusations[0].bond
    per_check, reserved = case.record.check_pay, case.record.reserved
    before = {key.peer: case.ledger.state.account(key.peer) for key in case.ledger.keys[:4]}
    supply, burned = case.ledger.state.supply, case.ledger.state.globals.burned
    case.decide(is_guilty=True)
    state = case.ledger.state
    assert case.is_now(SegmentPhase.GUILTY)
    solver = state.account(case.solver.peer)
    assert (solver.stake, solver.unbonding) == (0, ())
    assert state.run(case.run.index).escrow == escrow + 5 + reserved - 2 * per_check
    assert state.globals.burned - burned == supply - state.supply == STAKE * 60 // 100
    assert audit_supply(state) == state.supply
    gains = {
        k.peer: state.account(k.peer).balance - before[k.peer].balance for k in case.ledger.keys[:4]
    }
    work = per_check + bond
    share = {accuser: STAKE * 40 // 100 + work, case.able[1].peer: work}
    for peer, gain in gains.items():
        assert abs(gain - share.get(peer, 0)) < 25, "but for fees"
    assert all(
        seat.peer != case.solver.peer
        for roster in state.run(case.run.index).seats
        for seat in roster
    )
    assert state.contribution(case.run.index, case.solver.peer).failed == 1


@pytest.mark.rule("L24")
def test_who_is_guilty_may_not_come_back_or_commit_what_it_had_begun() -> None:
    case = a_case(lie=0)
    disputed(case)
    case.decide(is_guilty=True)
    run = case.ledger.state.run(case.run.index)
    kept = [info.round for info in run.rounds][-2]
    assert case.refused(case.solver, Join(case.run.index)) is Reason.BARRED
    later = case.ledger.commit(run, kept, 0, 1)
    assert case.refused(case.solver, later) is Reason.BARRED
    case.ledger.reach_round(run, 8)
    assert [seat.peer for seat in case.ledger.state.run(run.index).seats[0]] == [run.owner]


def accused(case: Case) -> tuple[SecretKey, SecretKey]:
    """An honest segment, of which the first verifier answers something else; cheating and honest verifier."""
    case.draw_verifiers()
    cheat, honest = case.able
    windows = case.ask(case.able)
    false = case.true.with_lie(windows[cheat.peer])
    case.submit(cheat, false.blind(case.ledger.state, cheat.peer, windows[cheat.peer]))
    case.seal({honest.peer: windows[honest.peer]})
    case.submit(case.solver, case.claimed.reveal())
    case.submit(cheat, false.shown(case.ledger.state, cheat.peer, windows[cheat.peer]))
    assert case.is_now(SegmentPhase.DISPUTED)
    case.show({honest.peer: windows[honest.peer]})
    return cheat, honest


@pytest.mark.rule("L45", "S17")
def test_a_false_accuser_pays_its_bond_and_a_tenth_of_its_stake_to_the_solver() -> None:
    case = a_case()
    cheat, honest = accused(case)
    taken = STAKE // 10 + case.record.accusations[0].bond
    before = case.balance(case.solver)
    case.decide(is_guilty=False)
    assert case.is_now(SegmentPhase.VERIFIED), "as if nobody had accused it"
    assert (case.stake(cheat), case.stake(honest)) == (STAKE * 9 // 10, STAKE)
    assert abs(case.balance(case.solver) - before - (taken + 5)) < 15, "but for a fee"
    assert case.ledger.state.contribution(case.run.index, cheat.peer).refuted == 1
    assert case.stake(case.solver) == STAKE
    assert case.ledger.state.globals.burned == 0
    assert case.ledger.state.contribution(case.run.index, case.solver.peer).verified == 1
    seated = [seat.peer for seat in case.ledger.state.run(case.run.index).seats[0]]
    assert case.solver.peer in seated


@pytest.mark.rule("L43", "S18")
def test_no_power_of_validators_decides_anything() -> None:
    """The only validator there is owns the run, lies, and is convicted like any other."""
    case = a_case(num_accounts=8, num_validators=1)
    owner = case.ledger.keys[0]
    case.true = make_segment(case.ledger, case.run, 1, 1, 0)
    case.claimed = case.true.with_lie(0)
    case.submit(owner, case.claimed.commit)
    case.draw_verifiers()
    windows = case.ask(case.drawn(case.able)[:2])
    case.seal(windows)
    case.submit(owner, case.claimed.reveal())
    case.show(windows)
    assert case.is_now(SegmentPhase.DISPUTED)
    case.decide(is_guilty=True)
    assert case.is_now(SegmentPhase.GUILTY)
    assert case.stake(owner) == 0


@pytest.mark.rule("L45")
def test_each_refuted_accusation_costs_twice_as_much_as_the_one_before() -> None:
    case = a_case(num_accounts=5)
    cheat, lie = case.ledger.keys[4], case.true.with_lie(0)
    windows = case.up_to_reveal(2)
    case.show(windows)
    bonds = list[int]()
    for _ in range(3):
        before = case.balance(cheat)
        case.submit(cheat, case.true.report(cheat.peer, 0))
        bonds.append(next(check.bond for check in case.record.checks if check.is_report))
        assert case.balance(cheat) < before - bonds[-1]
        case.show({cheat.peer: 0}, like=case.true)
        assert case.is_now(SegmentPhase.VERIFIED), "it agrees, and has accused nothing"
    assert bonds == [20, 40, 80]
    case.blow(cheat, 0, lie)
    assert case.record.accusations[0].bond == 160
    case.decide(is_guilty=False)
    assert case.ledger.state.contribution(case.run.index, cheat.peer).refuted == 4


@pytest.mark.rule("L42")
def test_a_reporter_that_never_shows_its_answer_loses_its_bond() -> None:
    case = a_case(num_accounts=5)
    case.show(case.up_to_reveal(2))
    reporter, before = case.ledger.keys[4], case.balance(case.solver)
    case.submit(reporter, case.true.report(reporter.peer, 0))
    assert case.is_now(SegmentPhase.REVEALED)
    case.wait(SegmentPhase.VERIFIED)
    assert 20 <= case.balance(case.solver) - before < 30
    assert case.record.is_paid


@pytest.mark.rule("L42")
def test_a_report_may_come_while_another_window_is_heard() -> None:
    case, whistle = unchecked_lie(window=1, num_steps=20)
    false = case.claimed.with_lie(0)
    shield = uninvolved(case, whistle)
    case.blow(shield, 0, false)
    assert case.is_now(SegmentPhase.DISPUTED)
    case.submit(whistle, case.true.report(whistle.peer, 1))
    case.decide(is_guilty=False)
    assert case.is_now(SegmentPhase.REVEALED), "its answer is still to come"
    case.show({whistle.peer: 1})
    assert case.is_now(SegmentPhase.DISPUTED)
    case.decide(is_guilty=True)
    assert case.is_now(SegmentPhase.GUILTY)
    assert case.record.judged == (1,)


def drawn_lie(num_accounts: int) -> Case:
    """A lie for which verifiers have just been drawn."""
    case = a_case(lie=0, num_accounts=num_accounts)
    case.draw_verifiers()
    return case


@pytest.mark.rule("L44", "S17")
def test_a_verifier_that_agreed_with_a_lie_burns_a_tenth_of_its_stake() -> None:
    case = next(found for found in map(drawn_lie, range(8, 24)) if len(found.drawn(found.able)) > 1)
    windows = case.ask(case.drawn(case.able)[:2])
    friend, honest = map(case.ledger.key_of, windows)
    case.submit(friend, case.claimed.blind(case.ledger.state, friend.peer, 0))
    case.seal({honest.peer: windows[honest.peer]})
    case.submit(case.solver, case.claimed.reveal())
    case.show({friend.peer: 0}, like=case.claimed)
    case.show({honest.peer: 0})
    assert [check.phase for check in case.record.checks] == [CheckPhase.AGREED, CheckPhase.DIFFERED]
    case.decide(is_guilty=True)
    assert case.is_now(SegmentPhase.GUILTY)
    assert case.stake(friend) == STAKE * 9 // 10
    assert case.ledger.state.globals.burned == STAKE * 60 // 100 + STAKE // 10


@pytest.mark.rule("L44")
def test_a_stake_on_its_way_back_is_slashed_too() -> None:
    case = a_case(lie=0)
    case.submit(case.solver, Stake(Amount(500)))  # what it votes with is locked
    case.submit(case.solver, Unstake(Amount(300)))
    case.submit(case.solver, Unstake(Amount(200)))
    disputed(case)
    case.decide(is_guilty=True)
    account = case.ledger.state.account(case.solver.peer)
    assert (account.stake, account.unbonding) == (0, ())
    assert case.ledger.state.globals.burned == (STAKE + 500) * 60 // 100


def unchecked_lie(window: int = 0, num_steps: int = 10) -> tuple[Case, SecretKey]:
    """A lie that friends of the solver have approved, and an honest peer that was not drawn."""
    case = a_case(lie=window, num_steps=num_steps, num_accounts=8)
    case.draw_verifiers()
    windows: dict[bytes, int] = {}
    while not windows:
        attempt = len(case.record.draws) - 1
        windows = case.ask(case.drawn(case.able, attempt)[:2], attempt)
        case.draw_verifiers() if not windows else None
    case.seal(windows, like=case.claimed)
    case.submit(case.solver, case.claimed.reveal())
    case.show(windows, like=case.claimed)
    assert case.is_now(SegmentPhase.VERIFIED)
    return case, next(key for key in [*case.able, case.ledger.keys[0]] if key.peer not in windows)


def uninvolved(case: Case, whistle: SecretKey) -> SecretKey:
    """Somebody who may report a window of this segment, beside ``whistle``."""
    taken = {whistle.peer, *(check.peer for check in case.record.checks)}
    return next(key for key in case.able if key.peer not in taken)


@pytest.mark.rule("L42", "L44", "S15")
def test_a_whistleblower_brings_down_a_lie_that_was_verified_and_paid() -> None:
    case, whistle = unchecked_lie()
    approvers = [check.peer for check in case.record.checks]
    escrow, before = case.ledger.state.run(case.run.index).escrow, case.balance(whistle)
    bond = report_bond(case.ledger.state.params, EXACT, case.record, 0)
    assert bond == 20, "ten fees: more than the reward"
    case.blow(whistle, 0)
    assert case.is_now(SegmentPhase.DISPUTED)
    assert case.balance(whistle) <= before - bond + 10
    case.decide(is_guilty=True)
    assert case.is_now(SegmentPhase.GUILTY)
    assert abs(case.balance(whistle) - before - STAKE * 40 // 100) < 20, "but for fees"
    assert case.ledger.state.run(case.run.index).escrow == escrow + 5, "paid, and taken back"
    for peer in approvers:
        assert case.ledger.state.account(peer).stake == STAKE * 9 // 10


@pytest.mark.rule("L45", "S17")
def test_a_false_report_costs_its_bond() -> None:
    case = a_case(num_accounts=5)
    windows = case.up_to_reveal(3)
    case.show(windows)
    assert case.is_now(SegmentPhase.VERIFIED)
    reporter, lie = case.ledger.keys[0], case.true.with_lie(0)
    case.blow(reporter, 0, lie)
    before = case.balance(case.solver)
    case.decide(is_guilty=False)
    assert case.is_now(SegmentPhase.VERIFIED), "as before"
    assert 10 <= case.balance(case.solver) - before <= 20, "but for a fee"
    assert case.stake(reporter) == STAKE
    assert not case.record.judged, "a lost accusation says nothing about the window"
    assert case.ledger.state.contribution(case.run.index, case.solver.peer).verified == 1


@pytest.mark.rule("L42", "L54")
def test_a_report_needs_the_stake_of_a_solver_a_reveal_and_an_open_window() -> None:
    case = a_case(lie=0, num_accounts=5)
    key = case.ledger.keys[4]
    report = case.true.report(key.peer, 0)
    assert case.refused(key, report) is Reason.WRONG_PHASE
    case.wait(SegmentPhase.SEALED)
    assert case.refused(key, report) is Reason.WRONG_PHASE
    case.submit(case.solver, case.claimed.reveal())
    assert case.is_now(SegmentPhase.UNSAMPLED)
    assert case.refused(case.solver, report) is Reason.STAKE
    assert case.refused(key, replace(report, window=1)) is Reason.BAD_FIELD
    least = solver_stake(case.ledger.state.params, EXACT)
    case.submit(key, Unstake(Amount(case.stake(key) - least + 1)))
    assert case.refused(key, report) is Reason.STAKE
    case.submit(key, Stake(Amount(1)))
    end = case.record.height + EXACT.checks.challenge_window_blocks
    case.ledger.empty_blocks(end - case.ledger.state.height - 1)
    twin = a_twin(case)
    case.blow(key, 0)
    assert case.is_now(SegmentPhase.DISPUTED)
    twin.ledger.block()
    assert twin.refused(key, report) is Reason.UNKNOWN_SEGMENT, "forgotten"
    case.decide(is_guilty=True)
    assert case.is_now(SegmentPhase.GUILTY), "settled after the window"
    case.ledger.block()
    assert case.ledger.state.live_segments() == ()


def a_twin(case: Case) -> Case:
    twin = Case(type(case.ledger)(5, 4), case.run, case.true, case.claimed)
    twin.ledger.head, twin.ledger.links = case.ledger.head, list(case.ledger.links)
    return twin


@pytest.mark.rule("L43", "L44")
def test_the_first_blind_answer_is_rewarded_before_the_fastest_report() -> None:
    case = a_case(lie=0)
    windows = case.up_to_reveal()
    reporter, (first, _) = case.ledger.keys[0], case.able
    case.blow(reporter, 0)
    assert case.is_now(SegmentPhase.DISPUTED)
    again = case.true.report(reporter.peer, 0)
    assert case.refused(reporter, again) is Reason.DUPLICATE
    case.move(reporter, b"open")
    case.show(windows)
    case.move(case.solver, b"next")
    case.move(reporter, b"guilty")
    assert case.is_now(SegmentPhase.GUILTY)
    assert case.balance(first) > BALANCE + STAKE // 4
    assert case.balance(reporter) < BALANCE, "its bond is back"


@pytest.mark.rule("L43")
def test_one_window_after_the_other_is_heard() -> None:
    case, whistle = unchecked_lie(window=1, num_steps=20)
    other = uninvolved(case, whistle)
    false = case.claimed.with_lie(0)
    case.submit(other, false.report(other.peer, 0))
    case.submit(whistle, case.true.report(whistle.peer, 1))
    case.show({other.peer: 0}, like=false)
    case.show({whistle.peer: 1})
    assert case.record.dispute is not None
    assert case.record.dispute.window == 0
    before = case.balance(whistle)
    case.decide(is_guilty=False)
    assert case.is_now(SegmentPhase.DISPUTED)
    assert case.record.dispute.window == 1
    case.decide(is_guilty=True)
    assert case.is_now(SegmentPhase.GUILTY)
    assert case.balance(whistle) > before + STAKE // 4


@pytest.mark.rule("L46", "S13")
def test_a_native_run_has_no_disputes_and_no_reporters() -> None:
    """A verifier that differs there opens no dispute, and nobody can report it."""
    case = a_case(NATIVE)
    windows = case.up_to_reveal()
    reporter = case.ledger.keys[0]
    assert case.refused(reporter, case.true.report(reporter.peer, 0)) is Reason.WRONG_PHASE
    case.show(windows)
    assert case.is_now(SegmentPhase.WITHIN)
    assert case.refused(reporter, case.true.report(reporter.peer, 0)) is Reason.WRONG_PHASE
    assert case.refused(case.able[0], case.true.move(0, b"open")) is Reason.WRONG_PHASE
    assert case.record.dispute is None


def test_an_owner_that_lies_loses_stake_and_seat_and_fills_its_stages_again() -> None:
    case = a_case()
    owner = case.ledger.keys[0]
    case.true = make_segment(case.ledger, case.run, 1, 1, 0)
    case.claimed = case.true.with_lie(0)
    case.submit(owner, case.claimed.commit)
    case.draw_verifiers()
    windows = case.ask(case.able)
    case.seal(windows)
    case.submit(owner, case.claimed.reveal())
    case.show(windows)
    case.decide(is_guilty=True)
    assert case.is_now(SegmentPhase.GUILTY)
    run = case.ledger.state.run(case.run.index)
    assert run.seats[1] == ()
    assert case.stake(owner) == 0
    after = case.ledger.reach_round(run, 6)
    assert [seat.peer for seat in after.seats[1]] == [owner.peer]
