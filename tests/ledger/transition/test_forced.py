"""A solver states something false on purpose to some verifiers: who looks is paid, who does not is found."""

import dataclasses
from collections.abc import Callable

import pytest

from swarm.config.spec import NANO
from swarm.errors import Reason
from swarm.ledger.state.draft import Draft
from swarm.ledger.state.records import CheckPhase, SegmentPhase
from swarm.ledger.transition.forced import JACKPOT_CHECKS, forced_seed, is_forced, jackpot
from swarm.ledger.transition.payments import FALSE_WITNESS_PERCENT
from swarm.ledger.transition.prices import request_bond
from swarm.primitives.codec import encode, replace
from swarm.primitives.crypto import SecretKey, digest
from swarm.testing.ledger import SALT, STAKE, forget_blocks
from swarm.types import Amount, PeerId
from tests.ledger.checking import a_case
from tests.ledger.forcing import OFTEN, Spotted, asked, signed, spotted

Phase = CheckPhase
PART = STAKE * FALSE_WITNESS_PERCENT // 100


def one_answer(*, forced: bool, is_false: bool) -> tuple[Spotted, SecretKey]:
    """A verifier alone has answered blind, and the solver has shown its windows."""
    case, key = asked(forced=forced)
    case.answered({key: is_false})
    return case, key


def ends(case: Spotted, phase: SegmentPhase) -> None:
    """The segment ends so, without money left in it."""
    case.wait(phase)
    assert not case.record.reserved
    assert all(not check.bond for check in case.record.checks)


@pytest.mark.rule("L102")
def test_what_is_forced_is_drawn_from_the_salt_the_beacon_the_verifier_and_its_window() -> None:
    spec, beacon, peer = spotted().run.spec, digest("a", b"beacon"), PeerId(bytes(32))
    seeds = [forced_seed(SALT, beacon, peer, window) for window in range(2_000)]
    assert 900 < sum(is_forced(spec, seed) for seed in seeds) < 1_100
    rare = replace(spec, checks=replace(OFTEN, forced_nano=NANO // 100))
    assert 5 < sum(is_forced(rare, seed) for seed in seeds) < 40
    never = replace(spec, checks=replace(OFTEN, forced_nano=0))
    assert not any(is_forced(never, seed) for seed in seeds)
    others = {
        forced_seed(bytes(16), beacon, peer, 0),
        forced_seed(SALT, digest("b", b"beacon"), peer, 0),
        forced_seed(SALT, beacon, PeerId(bytes([1]) * 32), 0),
        seeds[1],
    }
    assert len(others | {seeds[0]}) == 5


@pytest.mark.rule("L103")
def test_who_finds_a_forced_error_is_paid_the_jackpot_and_the_segment_is_verified() -> None:
    case, key = one_answer(forced=True, is_false=True)
    before, escrow = case.balance(key), case.ledger.state.run(case.run.index).escrow
    bond = case.check(key).bond
    wanted = jackpot(case.ledger.state.params, case.run.spec, case.record)
    reserved = case.record.reserved
    case.submit(key, case.tell(key, is_false=True))
    assert case.balance(key) - before == wanted + bond
    assert case.check(key).phase is Phase.JACKPOT
    ends(case, SegmentPhase.VERIFIED)
    left = case.ledger.state.run(case.run.index).escrow
    assert left - escrow == reserved - wanted, "it is the run that pays"


@pytest.mark.rule("L103")
def test_a_jackpot_is_25_checks_unless_who_always_says_false_would_live_on_it() -> None:
    case = spotted()
    record, params = case.record, case.ledger.state.params
    bond = request_bond(params, record)
    for forced in (NANO // 1000, NANO // 100, NANO // 20, NANO // 4, NANO // 2):
        spec = replace(case.run.spec, checks=replace(OFTEN, forced_nano=forced))
        paid = jackpot(params, spec, record)
        assert record.check_pay <= paid <= JACKPOT_CHECKS * record.check_pay
        assert forced * paid <= (NANO - forced) * bond, "saying false each time earns nothing"
    rare = replace(case.run.spec, checks=replace(OFTEN, forced_nano=NANO // 100))
    assert jackpot(params, rare, record) == JACKPOT_CHECKS * record.check_pay


@pytest.mark.rule("L103")
def test_a_jackpot_is_bounded_by_what_the_run_has() -> None:
    case, key = one_answer(forced=True, is_false=True)
    draft = Draft(case.ledger.state, key.peer)
    run, reserved = draft.run(case.run.index), case.record.reserved
    draft.put_run(replace(run, escrow=Amount(0)))
    draft.burn(run.escrow)
    case.ledger.head = dataclasses.replace(case.ledger.head, state=draft.finish())
    forget_blocks()
    before, bond = case.balance(key), case.check(key).bond
    case.submit(key, case.tell(key, is_false=True))
    assert case.balance(key) - before == bond + min(reserved, case.record.check_pay)
    forget_blocks()


@pytest.mark.rule("L103")
def test_attack_a_verifier_that_always_says_false_loses_its_bonds() -> None:
    case, key = one_answer(forced=False, is_false=True)
    before, bond = case.balance(key), case.check(key).bond
    case.submit(key, case.tell(key, is_false=True))
    assert case.check(key).phase is Phase.FOUND
    assert case.is_now(SegmentPhase.REVEALED), "a proof may still come"
    ends(case, SegmentPhase.UNSAMPLED)
    assert case.check(key).phase is Phase.MISSED
    assert case.balance(key) == before, f"no pay, and {bond} are gone"
    assert case.stake(key) == STAKE


@pytest.mark.rule("L103", "L42")
@pytest.mark.parametrize("forced", [True, False])
def test_attack_who_has_answered_does_not_take_it_back_by_a_report(*, forced: bool) -> None:
    """Its bond would be nobody's, and the jackpot that it has would count for nothing."""
    case, key = one_answer(forced=forced, is_false=True)
    case.submit(key, case.tell(key, is_false=True))
    assert case.check(key).phase is (Phase.JACKPOT if forced else Phase.FOUND)
    report = case.true.report(key.peer, case.check(key).window)
    assert case.refused(key, report) is Reason.DUPLICATE


@pytest.mark.rule("L103")
def test_who_says_right_of_what_is_true_is_paid_at_once() -> None:
    case, key = one_answer(forced=False, is_false=False)
    before, bond, pay = case.balance(key), case.check(key).bond, case.record.check_pay
    case.submit(key, case.tell(key, is_false=False))
    assert case.balance(key) - before == pay + bond
    assert case.is_now(SegmentPhase.VERIFIED)


@pytest.mark.rule("L104")
def test_who_says_right_where_no_error_was_made_is_paid_once_no_proof_can_come() -> None:
    """A solver that does not make its forced errors gains nothing by that, and its verifier loses nothing."""
    case, key = one_answer(forced=True, is_false=False)
    before, bond, pay = case.balance(key), case.check(key).bond, case.record.check_pay
    case.submit(key, case.tell(key, is_false=False))
    assert case.check(key).phase is Phase.PASSED
    assert case.balance(key) == before
    ends(case, SegmentPhase.VERIFIED)
    assert case.balance(key) - before == pay + bond
    assert case.stake(key) == STAKE
    assert case.check(key).phase is Phase.AGREED


@pytest.mark.rule("L104")
@pytest.mark.parametrize("forced", [True, False])
def test_attack_who_knows_by_then_that_it_was_forced_does_not_show_what_it_approved(
    *, forced: bool
) -> None:
    """Else a lazy verifier would lose a bond, and not a part of its stake."""
    case, key = one_answer(forced=forced, is_false=False)
    before = case.balance(key)
    ends(case, SegmentPhase.UNSAMPLED)
    assert case.check(key).phase is Phase.MISSED
    assert case.balance(key) == before
    assert case.stake(key) == STAKE - (PART if forced else 0)


@pytest.mark.rule("L103")
def test_attack_a_verifier_that_has_no_statement_names_any() -> None:
    """One that never asked for it could else be shown nothing that it approved."""
    case, key = asked(forced=True)
    made_up = replace(case.said(key), claim=digest("made", b"up"))
    case.submit(key, case.hide(key, is_false=False, said=made_up))
    case.wait(SegmentPhase.SEALED)
    case.submit(case.solver, case.claimed.reveal())
    told = case.tell(key, is_false=False, said=made_up)
    assert case.refused(key, told) is Reason.BAD_PROOF, "its solver has not signed that"
    assert case.refused(key, replace(told, statement=b"")) is Reason.BAD_FIELD
    right = encode(case.said(key))
    assert case.refused(key, replace(told, statement=right)) is Reason.BAD_PROOF
    assert case.refused(key, replace(told, statement=right + b"\0")) is Reason.BAD_FIELD
    ends(case, SegmentPhase.UNSAMPLED)
    assert case.stake(key) == STAKE - PART


def for_another(case: Spotted, key: SecretKey) -> bytes:
    other = next(one for one in case.able if one != key)
    window = case.check(key).window
    return encode(signed(case.ledger, case.claimed, case.solver, other.peer, window))


def of_another_window(case: Spotted, key: SecretKey) -> bytes:
    window = (case.check(key).window + 1) % 10
    return encode(signed(case.ledger, case.claimed, case.solver, key.peer, window))


@pytest.mark.rule("L103")
@pytest.mark.parametrize("what", [for_another, of_another_window])
def test_a_statement_for_somebody_else_or_about_something_else_shows_nothing(
    what: Callable[[Spotted, SecretKey], bytes],
) -> None:
    case, key = one_answer(forced=True, is_false=True)
    told = replace(case.tell(key, is_false=True), statement=what(case, key))
    assert case.refused(key, told) is Reason.BAD_PROOF


@pytest.mark.rule("L103")
def test_attack_a_verifier_changes_its_answer_once_it_knows_what_was_forced() -> None:
    for forced, is_false in ((True, False), (False, True)):
        case, key = one_answer(forced=forced, is_false=is_false)
        turned = case.tell(key, is_false=not is_false)
        assert case.refused(key, turned) is Reason.BAD_PROOF


@pytest.mark.rule("L103")
def test_an_answer_has_the_form_of_its_run() -> None:
    case, key = one_answer(forced=False, is_false=False)
    told = case.tell(key, is_false=False)
    assert case.refused(key, replace(told, said=b"")) is Reason.BAD_FIELD
    assert case.refused(key, replace(told, said=bytes(31))) is Reason.BAD_FIELD
    assert case.refused(key, replace(told, statement=encode(case.said(key)))) is Reason.BAD_FIELD
    replayed = a_case()
    windows = replayed.up_to_reveal()
    peer, window = next(iter(windows.items()))
    one = replayed.ledger.key_of(peer)
    shown = replayed.true.shown(replayed.ledger.state, one.peer, window)
    said = replace(shown, said=bytes(32))
    assert replayed.refused(one, said) is Reason.BAD_FIELD


def test_without_forced_errors_a_false_answer_waits_for_its_proof_all_the_same() -> None:
    case, key = asked(forced=False, checks=replace(OFTEN, forced_nano=0))
    case.answered({key: True})
    case.submit(key, case.tell(key, is_false=True))
    assert case.check(key).phase is Phase.FOUND
    ends(case, SegmentPhase.UNSAMPLED)


def test_two_verifiers_of_one_segment_are_forced_apart() -> None:
    """One finds its forced error, another agrees with what it was told truly."""
    case = spotted(num_accounts=24)
    keys = [key for key in case.able if case.drawn([key])][:4]
    case.ask(keys)
    saying = {key: case.is_forced(key) for key in keys}
    case.answered(saying)
    for key, is_false in saying.items():
        case.submit(key, case.tell(key, is_false=is_false))
    ends(case, SegmentPhase.VERIFIED)
    phases = {case.check(key).phase for key in keys}
    assert phases <= {Phase.JACKPOT, Phase.AGREED}
    assert all(case.stake(key) == STAKE for key in [*keys, case.solver])
