"""A solver shows on the ledger who approved what it had stated falsely on purpose: that, and nothing less."""

from dataclasses import dataclass
from functools import cache

import pytest

from swarm.errors import InvalidStatement, Reason
from swarm.ledger.check_statements import FORCED_ELEMENTS, ForcedError
from swarm.ledger.mempool import Mempool
from swarm.ledger.state.records import CheckPhase, SegmentPhase
from swarm.ledger.transition.forced import SOLVER_PERCENT, seed_for
from swarm.ledger.transition.payments import FALSE_WITNESS_PERCENT
from swarm.primitives.codec import encode, replace
from swarm.primitives.crypto import SecretKey
from swarm.testing.ledger import SALT, STAKE
from swarm.types import Digest
from swarm.verify.spots.proof import FalseTrace, trace_fraud
from swarm.verify.spots.solving import Solved
from swarm.verify.spots.statement import SpotStatement
from tests.ledger.forcing import OFTEN, Spotted
from tests.ledger.traces import WINDOW, Traced, elements_of, honest, recorded, traced
from tests.ledger.transition.test_edge_convictions import assert_gone

Phase = CheckPhase
PART = STAKE * FALSE_WITNESS_PERCENT // 100


@cache
def forced_window(window: int, seed: Digest) -> Solved:
    one = recorded()[window]
    return Solved(one.spot.window, one.log, seed)


@dataclass
class Real(Traced, Spotted):
    """A segment whose windows are real, so that what is false in a statement can be shown."""

    def solved(self, key: SecretKey) -> Solved:
        """The window of a verifier as its solver states it."""
        check = self.check(key)
        seed = seed_for(self.record, self.run.spec, check, SALT)
        return honest(check.window) if seed is None else forced_window(check.window, seed)

    def said(self, key: SecretKey, *, by: SecretKey | None = None) -> SpotStatement:
        return self.states(self.solved(key), self.check(key).window, by, key.peer)

    def showing(self, key: SecretKey) -> list[ForcedError]:
        """What the solver shows of the forced error that a verifier approved."""
        check, c = self.check(key), self.claimed.commit
        place = self.claimed.check_of(self.ledger.state, key.peer)
        found = self.solved(key).false_elements(self.said(key), check.dice)
        return [
            ForcedError(c.run, c.round, c.stage, c.seat, place, number, encode(one))
            for number, one in enumerate(found)
        ]

    def false_in(self, key: SecretKey) -> FalseTrace:
        """Something false in the statement for a verifier, as it finds it."""
        window = self.check(key).window
        one, solved = recorded()[window], self.solved(key)
        for seed in range(20):
            for proof in elements_of(one, solved, self.said(key), seed, 64):
                body = trace_fraud(self.record, proof)
                if self.refused_for(key, body) != Reason.BAD_PROOF:
                    return proof
        raise AssertionError("nothing is false")

    def refused_for(self, key: SecretKey, body: object) -> Reason | None:
        """Why a proof is refused; None if it convicts. Nothing happens."""
        before = self.ledger.head
        try:
            self.submit(key, body)  # type: ignore[arg-type]
        except InvalidStatement as error:
            return error.reason
        finally:
            self.ledger.head = before
        return None


def real(*, forced: bool) -> tuple[Real, SecretKey]:
    """A segment, and a verifier of a window of it that has asked, and is forced or not."""
    for num_accounts in range(12, 32):
        made = traced(num_accounts=num_accounts, checks=OFTEN)
        case = Real(made.ledger, made.run, made.true, made.claimed)
        case.draw_verifiers()
        before = case.ledger.head
        for key in case.able:
            if case.ask([key]) and case.is_forced(key) is forced:
                return case, key
            case.ledger.head = before
    raise AssertionError("nobody is drawn that way")


def approved() -> tuple[Real, SecretKey]:
    """A verifier has approved a forced error, without looking."""
    case, key = real(forced=True)
    case.answered({key: False})
    case.submit(key, case.tell(key, is_false=False))
    assert case.check(key).phase is Phase.PASSED
    return case, key


@pytest.mark.rule("L104")
def test_attack_a_verifier_that_does_not_look_loses_a_part_of_its_stake_and_the_solver_has_some() -> (
    None
):
    case, key = approved()
    bond, burned = case.check(key).bond, case.ledger.state.globals.burned
    for body in case.showing(key):
        assert case.check(key).phase is Phase.PASSED
        case.submit(case.solver, body)
    assert case.check(key).phase is Phase.FOOLED
    assert case.stake(key) == STAKE - PART
    assert case.ledger.state.globals.burned - burned == bond + PART - PART * SOLVER_PERCENT // 100
    case.wait(SegmentPhase.UNSAMPLED)
    assert case.record.is_paid, "the solver has done nothing wrong"
    assert case.stake(case.solver) == STAKE


@pytest.mark.rule("L104")
def test_all_elements_may_come_in_one_block_and_none_counts_twice() -> None:
    case, key = approved()
    bodies = case.showing(key)
    case.submit(case.solver, bodies[1])
    assert case.refused(case.solver, bodies[1]) is Reason.DUPLICATE
    nonce = case.ledger.state.account(case.solver.peer).nonce
    left = [
        case.ledger.sign(case.solver, body, nonce=nonce + at)
        for at, body in enumerate((bodies[2], bodies[0]), 1)
    ]
    case.ledger.block(*left)
    assert case.check(key).phase is Phase.FOOLED
    assert case.refused(case.solver, bodies[0]) in {Reason.DUPLICATE, Reason.WRONG_PHASE}


@pytest.mark.rule("L104")
def test_what_shows_no_drawn_element_of_the_approved_statement_is_refused() -> None:
    case, key = approved()
    bodies, stranger = case.showing(key), case.ledger.keys[0]
    first, other = bodies[0], bodies[1]
    assert case.refused(stranger, first) is Reason.WRONG_PEER
    assert case.refused(key, first) is Reason.WRONG_PEER
    assert case.refused(case.solver, replace(first, number=1)) is Reason.BAD_PROOF
    assert case.refused(case.solver, replace(first, proof=other.proof)) is Reason.BAD_PROOF
    assert case.refused(case.solver, replace(first, number=FORCED_ELEMENTS)) is Reason.BAD_FIELD
    assert case.refused(case.solver, replace(first, check=7)) is Reason.WRONG_PEER
    assert case.refused(case.solver, replace(first, proof=b"x")) is Reason.BAD_FIELD
    alone = encode(case.said(key))
    assert case.refused(case.solver, replace(first, proof=alone)) is Reason.BAD_PROOF


@pytest.mark.rule("L104")
def test_attack_a_solver_shows_another_statement_than_the_one_that_was_looked_at() -> None:
    """It told its verifier the truth, and signs something false afterwards."""
    case, key = real(forced=True)
    window = case.check(key).window
    true = case.states(honest(window), window, None, key.peer)
    case.submit(key, case.hide(key, is_false=False, said=true))
    case.wait(SegmentPhase.SEALED)
    case.submit(case.solver, case.claimed.reveal())
    case.submit(key, case.tell(key, is_false=False, said=true))
    for body in case.showing(key):
        assert case.refused(case.solver, body) is Reason.BAD_PROOF
    case.wait(SegmentPhase.VERIFIED)
    assert case.stake(key) == STAKE


@pytest.mark.rule("L103", "L99")
def test_attack_who_is_told_something_false_on_purpose_convicts_nobody_by_it() -> None:
    """Not before the solver has shown its salt, nor after, nor by another's hand."""
    case, key = real(forced=True)
    proof = case.false_in(key)
    body = trace_fraud(case.record, proof)
    friend = next(one for one in case.able if one != key)
    assert case.refused(key, body) is Reason.WRONG_PHASE
    case.answered({key: True})
    for sender in (key, friend):
        assert case.refused(sender, body) is Reason.WRONG_PHASE
    case.submit(key, case.tell(key, is_false=True))
    assert case.check(key).phase is Phase.JACKPOT
    for sender in (key, friend):
        assert case.refused(sender, body) is Reason.WRONG_PHASE
    assert case.stake(case.solver) == STAKE


@pytest.mark.rule("L103", "L99")
def test_attack_one_that_was_told_something_false_misses_its_check_and_reports() -> None:
    """Its check is one of a reporter then: what it was told before is known to be forced all the same."""
    case, key = real(forced=True)
    body = trace_fraud(case.record, case.false_in(key))
    case.wait(SegmentPhase.SEALED, 200)
    case.submit(case.solver, case.claimed.reveal())
    assert case.check(key).phase is Phase.MISSED
    case.submit(key, case.true.report(key.peer, 0))
    assert case.check(key).is_report
    assert case.refused(key, body) is Reason.WRONG_PHASE


@pytest.mark.rule("L103", "L99")
def test_a_silent_solver_is_not_convicted_by_what_may_be_forced_but_fined() -> None:
    case, key = real(forced=True)
    body = trace_fraud(case.record, case.false_in(key))
    case.submit(key, case.hide(key, is_false=True))
    case.wait(SegmentPhase.SILENT, 200)
    assert case.refused(key, body) is Reason.WRONG_PHASE


@pytest.mark.rule("L103", "L99")
def test_attack_a_real_lie_convicts_once_it_is_known_that_it_was_not_forced() -> None:
    """Who called it false blind has the part of an accuser, and is paid for its check."""
    case, key = real(forced=False)
    window = case.check(key).window
    liar = forced_window(window, Digest(bytes(32)))  # false, and on nobody's draw
    said = case.states(liar, window, None, key.peer)
    proof = next(
        one
        for one in elements_of(recorded()[window], liar, said, 1, 256)
        if case.refused_for(key, trace_fraud(case.record, one)) is Reason.WRONG_PHASE
    )
    case.submit(key, case.hide(key, is_false=True, said=said))
    case.wait(SegmentPhase.SEALED)
    case.submit(case.solver, case.claimed.reveal())
    case.submit(key, case.tell(key, is_false=True, said=said))
    assert case.check(key).phase is Phase.FOUND
    convicting = next(
        one
        for one in elements_of(recorded()[window], liar, said, 1, 256)
        if case.refused_for(key, trace_fraud(case.record, one)) is None
    )
    before, bond, pay = case.balance(key), case.check(key).bond, case.record.check_pay
    friend = next(one for one in case.able if one != key)
    with_friend = case.balance(friend)
    case.submit(friend, trace_fraud(case.record, convicting))
    assert case.is_now(SegmentPhase.GUILTY)
    assert case.balance(key) - before >= STAKE * 40 // 100 + bond + pay
    assert case.balance(friend) <= with_friend
    assert_gone(case)
    assert proof.statement == said


@pytest.mark.rule("L99", "L103")
def test_who_approved_a_statement_that_convicts_is_punished_as_one_that_approved_a_lie() -> None:
    case, key = real(forced=False)
    window = case.check(key).window
    liar = forced_window(window, Digest(bytes(32)))
    said = case.states(liar, window, None, key.peer)
    case.submit(key, case.hide(key, is_false=False, said=said))
    case.wait(SegmentPhase.SEALED)
    case.submit(case.solver, case.claimed.reveal())
    case.submit(key, case.tell(key, is_false=False, said=said))
    case.wait(SegmentPhase.VERIFIED)
    friend = next(one for one in case.able if one != key)
    convicting = next(
        one
        for one in elements_of(recorded()[window], liar, said, 1, 256)
        if case.refused_for(friend, trace_fraud(case.record, one)) is None
    )
    case.submit(friend, trace_fraud(case.record, convicting))
    assert case.is_now(SegmentPhase.GUILTY)
    assert case.stake(key) == STAKE - PART


@pytest.mark.rule("L99")
def test_a_statement_for_somebody_that_is_not_drawn_convicts_at_any_time() -> None:
    """Nobody is told something false on purpose who has not asked on the ledger."""
    case, key = real(forced=True)
    bystander = case.ledger.keys[31]
    lie = case.lie(None, bystander.peer)
    assert case.refused_for(key, trace_fraud(case.record, lie)) is None
    case.submit(key, trace_fraud(case.record, lie))
    assert_gone(case)
    assert len(recorded()) > WINDOW


@pytest.mark.rule("L28", "L58", "L104")
def test_the_pool_holds_each_element_of_a_forced_error_once() -> None:
    case, key = approved()
    pool, nonce = Mempool(), case.ledger.state.account(case.solver.peer).nonce
    for at, body in enumerate(case.showing(key), 1):
        assert pool.add(case.ledger.sign(case.solver, body, nonce=nonce + at), case.ledger.state)
    assert len(pool) == FORCED_ELEMENTS
