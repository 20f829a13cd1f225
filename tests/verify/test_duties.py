"""Peers that do what their agenda says bring every segment to its end, honest, lying, silent or restarted."""

from dataclasses import replace

import pytest

from swarm.config.spec import NANO, CheckSpec
from swarm.ledger.state.records import CheckPhase, SegmentPhase
from swarm.ledger.transactions import (
    Body,
    DataRequest,
    DisputeVote,
    RevealSegment,
    Transfer,
    VerifyCommit,
    VerifyReveal,
)
from swarm.primitives.crypto import SecretKey, digest
from swarm.testing.ledger import small_run_spec
from swarm.types import Amount, Digest
from swarm.verify.duties import RESUBMIT_BLOCKS, CheckWindow, Submit
from tests.ledger.checking import SOLVER, Case, a_case
from tests.verify.actors import FINAL, Actor, BlockProducer, honest, nothing, peers_of, play


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


def test_a_liar_is_convicted_by_judges_that_were_never_told() -> None:
    case = a_case(lie=0)
    producer, actors = peers_of(case)
    assert play(producer, actors) is SegmentPhase.GUILTY
    assert_nothing_refused(actors)
    assert case.stake(case.solver) == 0
    judges = [actor for actor in actors if DisputeVote in kinds(actor)]
    assert len(judges) >= 2
    assert case.solver not in [actor.key for actor in judges]


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
def test_who_is_not_served_is_silent_and_asks_again_with_the_next_dice_only() -> None:
    case = a_case()
    producer, actors = peers_of(case, replay=nothing)
    assert play(producer, actors) is SegmentPhase.SILENT
    assert_nothing_refused(actors)
    for actor in actors:
        asked = [step.body for step in actor.submitted if isinstance(step.body, DataRequest)]
        assert [body.attempt for body in asked] == sorted({body.attempt for body in asked})
        assert set(kinds(actor)) <= {DataRequest}
    assert case.record.draws[-1].height > case.record.draws[0].height


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
    garbage = (Digest(digest("garbage", b"leaf")),), Digest(digest("garbage", b"end"))
    cheat.replay = lambda _: garbage
    before = case.stake(cheat.key)
    assert play(producer, actors) is SegmentPhase.CLEARED
    assert case.stake(cheat.key) < before
    assert case.stake(case.solver) == 1000


def test_a_solver_that_does_not_show_its_leaves_is_silent() -> None:
    case = a_case()
    producer, actors = peers_of(case, shows=False)
    assert play(producer, actors) is SegmentPhase.SILENT
    assert {c.phase for c in case.record.checks} == {CheckPhase.SEALED}


def test_a_verifier_that_comes_to_its_answer_too_late_says_nothing_more() -> None:
    case = a_case()
    producer, actors = peers_of(case)
    late = next(actor for actor in actors if actor.key in case.able)
    late.replay = nothing
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
    assert any(isinstance(step.body, DisputeVote) for actor in actors for step in actor.submitted)


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
    again = Actor(producer, actor.key, honest(case.true))
    (step,) = again.steps()
    assert isinstance(step, CheckWindow)
    again.act()
    assert kinds(again) == [VerifyCommit]


@pytest.mark.rule("V27")
def test_leaves_are_never_shown_before_the_blind_answers_are_in() -> None:
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


@pytest.mark.parametrize("lie", [None, 0])
def test_a_report_on_what_nobody_checked_makes_the_solver_show_its_leaves(lie: int | None) -> None:
    case = a_case(lie=lie)
    producer, actors = peers_of(case)
    idle = [replace(actor, checks_max=0) for actor in actors]
    assert play(producer, idle) is SegmentPhase.UNSAMPLED
    reporter = next(actor for actor in idle if actor.key in case.able)
    producer.submit(reporter.key, case.true.report(0))
    producer.block()
    assert case.is_now(SegmentPhase.SEALED)
    wanted = SegmentPhase.UNSAMPLED if lie is None else SegmentPhase.GUILTY
    assert play(producer, idle) is wanted
    assert_nothing_refused(idle)


@pytest.mark.rule("V31")
def test_nobody_checks_or_judges_native_numerics_but_their_solver_shows_its_leaves() -> None:
    native = small_run_spec(round_blocks=6, rounds=40, checks=CheckSpec(NANO, 10, 60))
    case = a_case(native)
    _, actors = peers_of(case)
    case.draw_verifiers()
    assert not [step for actor in actors for step in actor.steps()]
    windows = case.ask(case.able[:1])
    assert not [step for actor in actors for step in actor.steps()]
    case.seal(windows)
    steps = [(actor.key, type(step)) for actor in actors for step in actor.steps()]
    assert steps == [(case.ledger.keys[SOLVER], Submit)]
