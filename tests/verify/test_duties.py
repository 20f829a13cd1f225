"""Peers that do what their agenda says bring every segment to its end, honest, lying, silent or restarted."""

from dataclasses import replace

import pytest

from swarm.config.spec import NANO, CheckSpec
from swarm.errors import Reason
from swarm.ledger.check_statements import (
    ContestService,
    DataRequest,
    DisputeMove,
    RevealSegment,
    VerifyCommit,
    VerifyReveal,
    WitnessService,
)
from swarm.ledger.state.records import CheckPhase, SegmentPhase, SegmentRecord
from swarm.ledger.transactions import Body, Transfer
from swarm.ledger.transition.prices import check_fee, contest_bond, report_bond, request_bond
from swarm.primitives.codec import replace as replaced
from swarm.primitives.commitments import WindowResult
from swarm.primitives.crypto import SecretKey, digest
from swarm.testing.ledger import make_segment, small_run_spec, verifier_salt
from swarm.training.record.window import WindowKey
from swarm.types import Amount, Digest
from swarm.verify.answers import OwnAnswer, key_of, seat_of
from swarm.verify.duties import RESUBMIT_BLOCKS, CheckWindow, FindMove, Submit
from tests.ledger.checking import SOLVER, Case, a_case
from tests.ledger.panels import NATIVE
from tests.verify.actors import (
    FINAL,
    Actor,
    BlockProducer,
    honest,
    nothing,
    peers_of,
    play,
    window_key,
)


def kinds(actor: Actor) -> list[type]:
    return [type(step.body) for step in actor.submitted]


def assert_nothing_refused(actors: list[Actor]) -> None:
    assert not [error for actor in actors for error in actor.refused]


def test_an_honest_segment_is_verified_by_the_drawn_and_everybody_falls_silent() -> None:
    case = a_case()
    producer, actors = peers_of(case)
    assert play(producer, actors) is SegmentPhase.VERIFIED
    assert_nothing_refused(actors)
    checked = [check.peer for check in case.record.checks]
    for actor in actors:
        if actor.key.peer in checked:
            assert kinds(actor) == [DataRequest, VerifyCommit, VerifyReveal]
        elif actor.key == case.solver:
            assert kinds(actor) == [RevealSegment]
        else:
            assert not actor.submitted
        assert not actor.steps()
    assert len(checked) == 2


def test_a_liar_is_convicted_by_its_accuser_and_by_nobody_else() -> None:
    case = a_case(lie=0)
    producer, actors = peers_of(case)
    assert play(producer, actors) is SegmentPhase.GUILTY
    assert_nothing_refused(actors)
    assert case.stake(case.solver) == 0
    movers = {actor.key.peer for actor in actors if DisputeMove in kinds(actor)}
    assert movers == {case.solver.peer, first_accuser(case)}


def test_a_lie_in_one_of_three_windows_is_found_by_who_drew_it() -> None:
    true = a_case(num_steps=30)
    producer, actors = peers_of(true)
    play(producer, actors)
    drawn = true.record.checks[0].window
    case = a_case(num_steps=30, lie=drawn)
    producer, actors = peers_of(case)
    assert play(producer, actors) is SegmentPhase.GUILTY
    assert case.record.judged == (drawn,)


@pytest.mark.rule("V26")
def test_who_is_not_served_complains_and_who_is_not_served_either_bears_witness() -> None:
    case = a_case()
    producer, actors = peers_of(case, replay=nothing)
    assert play(producer, actors) is SegmentPhase.SILENT
    said = [kind for actor in actors for kind in kinds(actor)]
    assert set(said) == {DataRequest, ContestService, WitnessService}
    assert len(case.record.contests) == 1
    assert case.record.contests[0].served == ()
    assert case.record.contests[0].refused


@pytest.mark.rule("V33")
def test_a_verifier_that_only_witnesses_can_serve_answers_after_its_complaint() -> None:
    """Its solver serves everybody but it: the witnesses have the log, and it has it from them."""
    case = a_case(num_accounts=8, lie=0)
    producer, actors = peers_of(case)
    case.draw_verifiers()
    victim = next(a for a in actors if a.key == case.drawn(case.able)[0])

    def replay(key: WindowKey) -> WindowResult | None:
        cases = case.record.contests
        return case.true.results[key.window] if cases and cases[-1].served else None

    victim.replay = replay
    others = [a for a in actors if a is not victim]
    for actor in others:
        actor.checks_max = 0
    assert play(producer, actors) is SegmentPhase.GUILTY
    assert kinds(victim)[:2] == [DataRequest, ContestService]
    assert case.record.contests[0].served


@pytest.mark.rule("V33")
def test_a_verifier_that_has_the_log_and_needs_long_does_not_complain() -> None:
    case = a_case()
    producer, actors = peers_of(case)
    slow = next(actor for actor in actors if actor.key in case.able)
    slow.replay = nothing
    slow.held.add(window_key(case, 0))
    assert play(producer, actors) is SegmentPhase.VERIFIED
    assert ContestService not in kinds(slow)


def test_one_verifier_that_never_answers_holds_nobody_up() -> None:
    case = a_case()
    producer, actors = peers_of(case)
    able = [actor for actor in actors if actor.key in case.able]
    able[0].replay = nothing
    assert play(producer, actors) is SegmentPhase.VERIFIED
    phases = {check.peer: check.phase for check in case.record.checks}
    assert phases[able[0].key.peer] is CheckPhase.MISSED
    assert phases[able[1].key.peer] is CheckPhase.AGREED


def test_a_verifier_of_garbage_is_overruled_and_pays() -> None:
    case = a_case()
    producer, actors = peers_of(case)
    cheat = next(actor for actor in actors if actor.key in case.able)
    garbage = replaced(case.true.results[0], leaves_root=Digest(digest("garbage", b"leaf")))
    cheat.replay = lambda _: garbage
    before = case.stake(cheat.key)
    assert play(producer, actors) is SegmentPhase.VERIFIED
    assert case.stake(cheat.key) < before
    assert case.stake(case.solver) == 1000


def test_a_solver_that_does_not_show_its_windows_is_silent() -> None:
    case = a_case()
    producer, actors = peers_of(case, shows=False)
    assert play(producer, actors) is SegmentPhase.SILENT
    assert {c.phase for c in case.record.checks} == {CheckPhase.SEALED}


def test_a_verifier_that_comes_to_its_answer_too_late_says_nothing_more() -> None:
    case = a_case()
    producer, actors = peers_of(case)
    late = next(actor for actor in actors if actor.key in case.able)
    late.replay = nothing
    late.held.add(window_key(case, 0))
    while not case.is_now(SegmentPhase.SEALED):
        for actor in actors:
            actor.act()
        producer.block()
    late.replay = honest(case.true)
    assert play(producer, actors) is SegmentPhase.VERIFIED
    assert kinds(late) == [DataRequest]


@pytest.mark.rule("V24")
@pytest.mark.parametrize("lie", [None, 0])
def test_a_restart_before_every_block_changes_nothing(lie: int | None) -> None:
    ends = set[SegmentPhase]()
    for restarts in (False, True):
        case = a_case(lie=lie)
        producer, actors = peers_of(case)
        while producer.phase not in FINAL:
            for actor in actors:
                if restarts:
                    actor.restart()
                actor.act()
            producer.block()
        assert_nothing_refused(actors)
        ends.add(producer.phase)
    assert ends == {SegmentPhase.VERIFIED if lie is None else SegmentPhase.GUILTY}


class LossyProducer(BlockProducer):
    """Every kind of statement of every peer is lost once."""

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self.lost: set[tuple[bytes, type]] = set()

    def submit(self, key: SecretKey, body: Body) -> None:
        if (key.peer, type(body)) not in self.lost:
            self.lost.add((key.peer, type(body)))
            return
        super().submit(key, body)


@pytest.mark.rule("V25")
def test_a_lost_statement_comes_again_while_its_phase_is_open() -> None:
    checks = CheckSpec(NANO, 10, 90)
    patient = small_run_spec(round_blocks=12, rounds=40, numerics="seq-f32/1", checks=checks)
    case = a_case(patient, lie=0)
    _, actors = peers_of(case)
    producer = LossyProducer(case)
    for actor in actors:
        actor.producer = producer
    assert play(producer, actors) is SegmentPhase.GUILTY
    assert any(isinstance(step.body, DisputeMove) for actor in actors for step in actor.submitted)


@pytest.mark.rule("V25")
def test_a_statement_under_way_is_not_made_twice() -> None:
    case = a_case()
    producer, actors = peers_of(case)
    while len(case.record.draws) == 0:
        producer.block()
    actor = next(actor for actor in actors if actor.key in case.able)
    (step,) = actor.steps()
    assert isinstance(step, Submit)
    actor.sent[step.key] = producer.state.height
    assert actor.steps() == ()
    for _ in range(RESUBMIT_BLOCKS - 1):
        producer.block()
        assert actor.steps() == ()
    producer.block()
    assert [type(step.body) for step in actor.steps() if isinstance(step, Submit)] == [DataRequest]


@pytest.mark.rule("V26")
def test_who_has_no_room_no_stake_older_than_the_segment_or_no_money_does_not_ask() -> None:
    case = a_case()
    producer, actors = peers_of(case)
    case.draw_verifiers()
    actor = next(actor for actor in actors if actor.key in case.able)
    assert [type(step) for step in actor.steps()] == [Submit]
    assert replace(actor, checks_max=0).steps() == ()
    stranger = Actor(producer, case.ledger.keys[9], nothing)
    assert stranger.steps() == ()
    solver = next(one for one in actors if one.key == case.solver)
    assert solver.steps() == ()
    case.submit(actor.key, Transfer(case.solver.peer, Amount(case.balance(actor.key) - 20)))
    assert actor.steps() == ()


@pytest.mark.rule("V24")
def test_a_check_that_was_asked_for_before_a_crash_is_done_again() -> None:
    case = a_case()
    producer, actors = peers_of(case)
    case.draw_verifiers()
    actor = next(actor for actor in actors if actor.key in case.able)
    actor.replay = nothing
    actor.act()
    producer.block()
    assert actor.steps() == (), "it has asked, and others still may"
    case.deal()
    again = Actor(producer, actor.key, honest(case.true))
    (step,) = again.steps()
    assert isinstance(step, CheckWindow)
    again.act()
    assert kinds(again) == [VerifyCommit]


@pytest.mark.rule("V27")
def test_windows_are_never_shown_before_the_blind_answers_are_in() -> None:
    case = a_case()
    producer, actors = peers_of(case)
    solver = next(actor for actor in actors if actor.key == case.solver)
    while not case.is_now(SegmentPhase.SEALED):
        assert solver.steps() == ()
        for actor in actors:
            actor.act()
        producer.block()
    (step,) = solver.steps()
    assert isinstance(step, Submit)
    assert isinstance(step.body, RevealSegment)


def test_what_nobody_checks_is_shown_by_its_solver_and_paid() -> None:
    case = a_case()
    producer, actors = peers_of(case)
    idle = [replace(actor, checks_max=0) for actor in actors]
    assert play(producer, idle) is SegmentPhase.UNSAMPLED
    assert case.record.claims
    assert case.record.is_paid
    assert [kinds(actor) for actor in idle if actor.submitted] == [[RevealSegment]]
    assert_nothing_refused(idle)


def report_by(case: Case, producer: BlockProducer, reporter: Actor) -> None:
    """A peer reports window 0 blind, with what its own replay gives; it keeps its answer."""
    key, window = (*key_of(case.record), 0), window_key(case, 0)
    salt = verifier_salt(reporter.key.peer)
    answer = OwnAnswer(*key, salt, case.true.results[0], Digest(bytes(32)))
    reporter.answers[window] = answer
    producer.submit(reporter.key, answer.reported(reporter.key.peer))
    producer.block()
    assert case.is_now(SegmentPhase.REVEALED)


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("lie", [None, 0])
def test_who_reports_shows_its_answer_like_a_verifier_also_after_a_restart(
    lie: int | None, restarts: bool
) -> None:
    case = a_case(lie=lie)
    producer, actors = peers_of(case)
    idle = [replace(actor, checks_max=0) for actor in actors]
    assert play(producer, idle) is SegmentPhase.UNSAMPLED
    reporter = next(actor for actor in idle if actor.key in case.able)
    report_by(case, producer, reporter)
    before = case.balance(case.solver)
    if restarts:
        reporter.restart()
    wanted = SegmentPhase.UNSAMPLED if lie is None else SegmentPhase.GUILTY
    assert play(producer, idle) is wanted
    opens, moves = kinds(reporter)[:1], kinds(reporter)[1:]
    assert opens == [VerifyReveal]
    assert set(moves) == ({DisputeMove} if lie is not None else set())
    assert_nothing_refused(idle)
    if lie is None:
        bond = report_bond(case.ledger.state.params, case.run.spec, case.record, num_refuted=0)
        assert case.balance(case.solver) >= before + bond
        reporters = case.ledger.state.contribution(case.run.index, reporter.key.peer)
        assert (reporters.refuted, reporters.checked) == (1, 1)
    else:
        assert case.stake(case.solver) == 0


def test_one_accuser_is_heard_and_the_other_waits() -> None:
    case = a_case(lie=0)
    producer, actors = peers_of(case)
    accusers = [actor for actor in actors if actor.key in case.able][:2]
    while not case.is_now(SegmentPhase.DISPUTED):
        for actor in actors:
            actor.act()
        producer.block()
    assert case.record.dispute is not None
    heard = case.record.dispute.accuser
    first, second = sorted(accusers, key=lambda one: one.key.peer != heard)
    assert [step for step in first.steps() if isinstance(step, FindMove)]
    assert not [step for step in second.steps() if isinstance(step, FindMove)]
    assert play(producer, actors) is SegmentPhase.GUILTY
    assert_nothing_refused(actors)


def first_accuser(case: Case) -> bytes:
    """Who answered blind first, of those that differ."""
    differed = [check for check in case.record.checks if check.phase is CheckPhase.DIFFERED]
    return min(differed, key=lambda check: check.commit_height).peer


@pytest.mark.rule("V26")
def test_who_cannot_pay_the_bond_of_a_request_asks_for_nothing() -> None:
    case = a_case()
    _, actors = peers_of(case)
    case.draw_verifiers()
    actor = next(actor for actor in actors if actor.key in case.able)
    params = case.ledger.state.params
    assert request_bond(params, case.record) > 0
    leave(case, actor, price_of(case, case.record) - 1)
    assert actor.steps() == ()
    case.submit(case.solver, Transfer(actor.key.peer, Amount(1)))
    assert [type(step) for step in actor.steps()] == [Submit]


def price_of(case: Case, record: SegmentRecord) -> int:
    """What a node must have before it asks: a fee, a bond, and the bond of a complaint."""
    params = case.ledger.state.params
    bonds = request_bond(params, record) + contest_bond(params, case.run.spec, record)
    return check_fee(params) + bonds


def drawn_for_two() -> tuple[Case, BlockProducer, Actor]:
    """Two segments of one round, and a peer that is drawn for both."""
    case = a_case()
    case.submit(case.ledger.keys[0], make_segment(case.ledger, case.run, 1, 1, 0).commit)
    producer, actors = peers_of(case)
    while not all(record.draws for record in case.ledger.state.live_segments()):
        case.ledger.block()
    (actor,) = [actor for actor in actors if actor.key == case.able[0]]
    assert len(actor.steps()) == len(case.ledger.state.live_segments()) == 2
    return case, producer, actor


def leave(case: Case, actor: Actor, balance: int) -> None:
    """The actor gives away all but this balance, in a block that it does not lead: a leader gets the fees."""
    fee, voters = 10, case.ledger.state.validators
    while voters[case.ledger.state.height % len(voters)].peer == actor.key.peer:
        case.ledger.block()
    too_much = Amount(case.balance(actor.key) - balance - fee)
    case.submit(actor.key, Transfer(case.ledger.keys[0].peer, too_much), fee=fee)
    assert case.balance(actor.key) == balance


def requests_of(actor: Actor) -> int:
    submits = [step.body for step in actor.steps() if isinstance(step, Submit)]
    return sum(isinstance(body, DataRequest) for body in submits)


@pytest.mark.rule("V26")
def test_who_can_pay_for_one_check_asks_for_one() -> None:
    case, _, actor = drawn_for_two()
    live = case.ledger.state.live_segments()
    prices = [price_of(case, record) for record in live]
    leave(case, actor, sum(prices) - 1)
    assert requests_of(actor) == 1
    case.submit(case.solver, Transfer(actor.key.peer, Amount(1)))
    assert requests_of(actor) == 2


@pytest.mark.rule("V26")
def test_a_check_under_way_costs_nothing_more_and_the_rest_may_be_spent_on_the_next() -> None:
    case, producer, actor = drawn_for_two()
    first, second = actor.steps()
    assert isinstance(first, Submit)
    assert isinstance(second, Submit)
    producer.submit(actor.key, first.body)
    producer.block()
    record = case.ledger.state.segment(*seat_of(second.key[1]))
    assert record is not None
    leave(case, actor, price_of(case, record) - 1)
    assert requests_of(actor) == 0
    case.submit(case.solver, Transfer(actor.key.peer, Amount(1)))
    assert requests_of(actor) == 1
    requested = next(step for step in actor.steps() if isinstance(step, Submit))
    producer.submit(actor.key, requested.body)
    producer.block()
    assert requests_of(actor) == 0
    while {check.window for one in case.ledger.state.live_segments() for check in one.checks} != {
        0
    }:
        producer.block()
    for _ in range(2):  # With too little for another check it answers both.
        actor.act()
        producer.block()
    checks = [check for one in case.ledger.state.live_segments() for check in one.checks]
    assert {check.phase for check in checks if check.peer == actor.key.peer} == {CheckPhase.SEALED}
    assert len([check for check in checks if check.peer == actor.key.peer]) == 2


def test_the_only_validator_convicts_a_liar_by_its_report_like_anybody() -> None:
    case = a_case(lie=0, num_accounts=6, num_validators=1)
    producer, actors = peers_of(case)
    idle = [replace(actor, checks_max=0) for actor in actors]
    assert play(producer, idle) is SegmentPhase.UNSAMPLED
    (owner,) = [actor for actor in idle if actor.key == case.ledger.keys[0]]
    report_by(case, producer, owner)
    assert play(producer, idle) is SegmentPhase.GUILTY
    assert case.stake(case.solver) == 0


@pytest.mark.rule("V63")
def test_a_witness_that_has_a_log_and_has_not_replayed_it_says_nothing() -> None:
    """One whose log is refused says that it was not served: that is as good as none."""
    case = a_case(num_accounts=8)
    producer, actors = peers_of(case, replay=nothing)
    witness = next(actor for actor in actors if actor.key in case.able)
    witness.unsure = True
    assert play(producer, actors) is SegmentPhase.SILENT
    assert WitnessService not in kinds(witness)
    assert case.record.contests[0].refused


UNCHECKED = replaced(NATIVE, numerics="native-bf16")


@pytest.mark.rule("V31")
def test_nobody_checks_a_run_without_a_bound_but_its_solver_shows_its_windows() -> None:
    case = a_case(UNCHECKED)
    _, actors = peers_of(case)
    case.draw_verifiers()
    assert not [step for actor in actors for step in actor.steps()]
    key = case.drawn(case.able)[0]
    request = case.claimed.request(case.ledger.state, key)
    assert request is not None
    assert case.refused(key, request) is Reason.WRONG_PHASE, "nor may anybody else"
    case.wait(SegmentPhase.SEALED)
    steps = [(actor.key, type(step)) for actor in actors for step in actor.steps()]
    assert steps == [(case.ledger.keys[SOLVER], Submit)]


@pytest.mark.rule("V31")
def test_work_without_a_bound_that_nobody_asks_for_is_shown_and_paid() -> None:
    case = a_case(UNCHECKED)
    producer, actors = peers_of(case)
    assert play(producer, actors) is SegmentPhase.UNSAMPLED
    assert case.record.is_paid
    assert [kinds(actor) for actor in actors if actor.submitted] == [[RevealSegment]]
