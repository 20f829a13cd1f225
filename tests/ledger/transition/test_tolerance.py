"""Where bits differ, a verifier and three fresh ones can send a solver away, and nobody loses a stake."""

from contextlib import suppress
from random import Random

import pytest

from swarm.errors import InvalidStatement, Reason
from swarm.ledger.check_statements import ATTEMPTS, PANEL
from swarm.ledger.state.records import CheckPhase, SegmentPhase
from swarm.ledger.transactions import Body
from swarm.ledger.transition.phases import ANSWER_ROUNDS, REVEAL_ROUNDS
from swarm.ledger.transition.prices import PANEL_SIZE
from swarm.ledger.transition.sampling import redraw_blocks
from swarm.ledger.transition.tolerance import is_fresh
from swarm.primitives.codec import replace
from swarm.primitives.crypto import SecretKey
from tests.ledger.checking import Case
from tests.ledger.panels import (
    ACCOUNTS,
    NATIVE,
    a_native_case,
    answer,
    ask,
    decide,
    draw_panel,
    offer,
    panel_of,
    rejected,
    say,
    seat,
    show,
    sitting,
)
from tests.verify.actors import BlockProducer


def stakes(case: Case) -> list[int]:
    return [case.ledger.state.account(key.peer).stake for key in case.ledger.keys]


def forgotten(case: Case) -> None:
    """Make blocks until the record is forgotten: it must hold no money then."""
    commit = case.claimed.commit
    place = (commit.run, commit.round, commit.stage, commit.seat)
    for _ in range(200):
        if case.ledger.state.segment(*place) is None:
            return
        case.ledger.block()
    raise AssertionError("still on record")


# --- without a rejection ---


@pytest.mark.rule("L96")
def test_an_accepted_segment_is_within_tolerance_and_never_verified() -> None:
    case = a_native_case()
    solver = case.balance(case.solver)
    case.show(case.up_to_reveal())
    assert case.is_now(SegmentPhase.WITHIN)
    assert case.record.is_paid
    assert case.balance(case.solver) > solver
    state, run = case.ledger.state, case.run.index
    counts = state.verdicts(run)
    assert (counts.within, counts.verified, counts.confirmed) == (1, 0, 0)
    work = state.contribution(run, case.solver.peer)
    assert (work.verified, work.shares) == (0, 0), "nothing was verified"
    seats = [s for s in state.run(run).seats[case.record.stage] if s.index == case.record.seat]
    assert seats[0].last_verified_round == case.record.round, "its checkpoint is drawn first"
    forgotten(case)


@pytest.mark.rule("L96")
def test_without_a_verifier_it_is_paid_on_trust() -> None:
    case = a_native_case()
    case.wait(SegmentPhase.SEALED)
    case.submit(case.solver, case.claimed.reveal())
    assert case.is_now(SegmentPhase.UNSAMPLED)


@pytest.mark.rule("L96")
def test_what_is_compared_has_no_leaves() -> None:
    """No two machines have the same: an acceptance is about the states and the tokens."""
    case = a_native_case()
    case.draw_verifiers()
    (key, *_) = case.drawn(case.able)
    windows = case.ask([key])
    case.seal(windows)
    case.submit(case.solver, case.claimed.reveal())
    assert case.record.claims[0] == case.true.claim_of(case.ledger.state, 0)
    assert case.record.claims[0] != case.true.results[0].claim
    case.show(windows)
    assert case.is_now(SegmentPhase.WITHIN)


# --- three of three ---


@pytest.mark.rule("L97", "L98", "L46")
def test_three_of_three_void_the_pay_and_evict_and_take_no_stake() -> None:
    case = a_native_case()
    (rejecter,) = rejected(case)
    before, run = stakes(case), case.ledger.state.run(case.run.index)
    sat, record = seat(case), case.record
    balances = {key.peer: case.balance(key) for key in [*sat, rejecter, case.solver]}
    decide(case, sat, PANEL_SIZE)
    assert case.is_now(SegmentPhase.REJECTED)
    assert stakes(case) == before
    after = case.ledger.state
    assert (case.record.held, case.record.reserved, case.record.is_paid) == (0, 0, False)
    assert all(check.bond == 0 for check in case.record.checks)
    for key in [*sat, rejecter]:
        bond = next(check.bond for check in record.checks if check.peer == key.peer)
        assert case.balance(key) == balances[key.peer] + bond + record.check_pay
    assert case.balance(case.solver) == balances[case.solver.peer]
    paid = (PANEL_SIZE + 1) * record.check_pay
    escrow = after.run(case.run.index).escrow
    assert escrow == run.escrow + record.held + record.reserved - paid
    seats = [s.peer for roster in after.run(case.run.index).seats for s in roster]
    assert case.solver.peer not in seats
    work = after.contribution(case.run.index, case.solver.peer)
    assert not work.is_barred, "nothing was proven"
    assert work.rest_until == after.height + after.params.epoch_blocks
    counts = after.verdicts(case.run.index)
    assert (counts.rejected, counts.guilty, counts.convictions) == (1, 0, ())
    assert after.globals.burned == 0
    forgotten(case)


@pytest.mark.rule("L97", "L98", "L45")
@pytest.mark.parametrize("num_rejecting", [0, 1, 2])
def test_one_of_three_that_accepts_is_enough_and_the_first_verifier_pays_the_panel(
    num_rejecting: int,
) -> None:
    """All three are paid the same, whatever they say; of the rejecter nothing but its bond is taken."""
    case = a_native_case()
    (rejecter,) = rejected(case)
    before, sat, record = stakes(case), seat(case), case.record
    balances = {key.peer: case.balance(key) for key in [*sat, rejecter, case.solver]}
    decide(case, sat, num_rejecting)
    assert case.is_now(SegmentPhase.WITHIN)
    assert stakes(case) == before
    assert case.record.is_paid
    for key in sat:
        bond = next(check.bond for check in record.checks if check.peer == key.peer)
        assert case.balance(key) == balances[key.peer] + bond + record.check_pay
    assert case.balance(rejecter) == balances[rejecter.peer]
    assert case.balance(case.solver) == balances[case.solver.peer] + record.reward
    work = case.ledger.state.contribution(case.run.index, rejecter.peer)
    assert work.refuted == 1
    forgotten(case)


# --- who sits ---


@pytest.mark.rule("L97")
def test_who_has_answered_does_not_sit() -> None:
    case = a_native_case()
    rejected(case, num_verifiers=2)
    draw_panel(case)
    answered = [case.ledger.key_of(check.peer) for check in case.record.checks]
    for key in (*answered, case.solver):
        assert key == case.solver or not is_fresh(case.record, key.peer)
        with suppress(InvalidStatement):  # the solver is not eligible
            body = case.true.offer(case.ledger.state, key)
            assert body is None or case.refused(key, body) is Reason.DUPLICATE


@pytest.mark.rule("L97")
def test_the_best_dice_sit_however_early_the_others_came() -> None:
    case = a_native_case()
    rejected(case)
    draw_panel(case)
    came = offer(case, case.able)
    assert len(came) > PANEL_SIZE
    panel = panel_of(case)
    dice = {seat.peer: seat.dice for seat in panel.seats}
    assert sorted(dice.values()) == list(dice.values())
    spared = [check for check in case.record.checks if check.phase is CheckPhase.SPARED]
    assert len(spared) == len(came) - PANEL_SIZE
    assert all(check.bond == 0 for check in spared)
    backwards = a_native_case()
    rejected(backwards)
    draw_panel(backwards)
    again = offer(backwards, backwards.able[::-1])
    # The same beacon: blocks with other statements have the same leaders.
    if {key.peer for key in again} == {key.peer for key in came}:
        assert {seat.peer for seat in panel_of(backwards).seats} == set(dice)


@pytest.mark.rule("L97")
def test_a_crowd_that_offers_first_sits_no_more_often() -> None:
    """Adversary: friends of a rival offer in the first block, and honest peers come late."""
    case = a_native_case()
    rejected(case)
    draw_panel(case)
    able = case.able
    crowd, late = able[: len(able) // 2], able[len(able) // 2 :]
    offer(case, crowd)
    first = {seat.peer for seat in panel_of(case).seats}
    offer(case, late)
    best = [(seat.dice, seat.stake) for seat in panel_of(case).seats]
    assert best == sorted(best, key=lambda one: one[0] / one[1])
    assert {seat.peer for seat in panel_of(case).seats} != first, "with these dice"


@pytest.mark.rule("L97")
def test_nobody_offers_before_the_beacon_or_answers_before_it_sits() -> None:
    case = a_native_case()
    rejected(case)
    key = case.able[5]
    request = case.claimed.request(case.ledger.state, case.drawn(case.able)[0])
    assert request is not None
    asked = replace(request, attempt=PANEL)
    assert case.refused(key, asked) is Reason.WRONG_PHASE
    draw_panel(case)
    late, *others = [one for one in case.able if is_fresh(case.record, one.peer)]
    came = offer(case, others)
    early = next(k for k in came if k.peer == panel_of(case).seats[0].peer)
    blind = case.true.blind(case.ledger.state, early.peer, panel_of(case).window)
    assert case.refused(early, blind) is Reason.WRONG_PHASE
    while not panel_of(case).is_seated:
        case.ledger.block()
    assert case.refused(late, asked) is Reason.WRONG_PHASE
    answer(case, early, rejects=True)
    like = case.true.rejecting().shown(case.ledger.state, early.peer, panel_of(case).window)
    assert case.refused(early, like) is Reason.WRONG_PHASE, "the others have not answered"


@pytest.mark.rule("L97")
def test_an_offer_with_the_proof_of_another_is_refused() -> None:
    case = a_native_case()
    rejected(case)
    draw_panel(case)
    bodies = {key: case.true.offer(case.ledger.state, key) for key in case.able[1:]}
    owner, body = next((key, body) for key, body in bodies.items() if body is not None)
    assert body is not None
    thief = next(key for key in bodies if key != owner)
    assert case.refused(thief, body) is Reason.BAD_PROOF


# --- silence ---


@pytest.mark.rule("L97", "L98")
def test_if_nobody_comes_there_are_three_draws_and_the_segment_is_paid_unchecked() -> None:
    case = a_native_case()
    (rejecter,) = rejected(case)
    held, number = case.balance(rejecter), 0
    for _ in range(100):
        if not case.is_now(SegmentPhase.DOUBTED):
            break
        number = len(panel_of(case).draws)
        case.ledger.block()
    assert number == ATTEMPTS
    assert case.is_now(SegmentPhase.UNSAMPLED), "nobody has accepted it"
    assert case.record.is_paid
    assert case.balance(rejecter) == held, "an accusation that nothing confirms costs its bond"
    forgotten(case)


@pytest.mark.rule("L97")
def test_two_are_no_panel_and_get_their_bonds_back() -> None:
    case = a_native_case()
    rejected(case)
    draw_panel(case)
    before = {key.peer: case.balance(key) for key in case.able}
    fresh = [key for key in case.able if is_fresh(case.record, key.peer)]
    came = offer(case, fresh[:2])
    assert len(sitting(case)) == len(came) == 2, "nearly everybody is drawn in so small a network"
    case.wait(SegmentPhase.UNSAMPLED)
    assert {check.phase for check in case.record.checks[1:]} == {CheckPhase.SPARED}
    fee = 50
    for key in came:
        assert 0 <= before[key.peer] - case.balance(key) < fee, "but for the fee of its offer"
    forgotten(case)


@pytest.mark.rule("L97")
def test_who_sits_and_is_silent_loses_its_bond_and_the_solver_stays() -> None:
    """Adversary: a friend of a liar sits, and says nothing. It could have accepted, and kept its bond."""
    case = a_native_case()
    rejected(case)
    sat = seat(case)
    before = {key.peer: case.balance(key) for key in sat}
    for key in sat[:2]:
        answer(case, key, rejects=True)
    record = case.record
    while not case.record.reveals_end:
        case.ledger.block()
    assert case.ledger.state.globals.burned == next(
        check.bond for check in record.checks if check.peer == sat[2].peer
    )
    for key in sat[:2]:
        show(case, key, rejects=True)
    assert case.is_now(SegmentPhase.UNSAMPLED)
    assert case.balance(sat[2]) == before[sat[2].peer]
    assert case.balance(sat[0]) > before[sat[0].peer] + case.record.check_pay
    forgotten(case)


@pytest.mark.rule("L97")
def test_who_answers_and_does_not_show_it_loses_its_bond() -> None:
    case = a_native_case()
    rejected(case)
    sat = seat(case)
    for key in sat:
        answer(case, key, rejects=True)
    for key in sat[:2]:
        show(case, key, rejects=True)
    before = case.balance(sat[2])
    case.wait(SegmentPhase.UNSAMPLED)
    assert case.balance(sat[2]) == before
    assert sitting(case)[-1].phase is CheckPhase.MISSED or any(
        check.phase is CheckPhase.MISSED for check in sitting(case)
    )
    forgotten(case)


@pytest.mark.rule("L97")
def test_a_panel_that_nobody_served_is_not_blamed() -> None:
    case = a_native_case()
    rejected(case)
    sat = seat(case)
    before = {key.peer: case.balance(key) for key in sat}
    record = case.record
    case.wait(SegmentPhase.UNSAMPLED)
    for key in sat:
        bond = next(check.bond for check in record.checks if check.peer == key.peer)
        assert case.balance(key) == before[key.peer] + bond
    assert case.ledger.state.globals.burned == 0
    forgotten(case)


@pytest.mark.rule("L97", "L35")
def test_every_phase_ends_by_itself_and_none_later_than_it_may() -> None:
    case = a_native_case()
    began = case.ledger.state.height
    rejected(case)
    spec, opened = NATIVE, case.ledger.state.height
    longest = case.ledger.state.params.beacon_delay + ATTEMPTS * redraw_blocks(spec)
    longest += (ANSWER_ROUNDS + REVEAL_ROUNDS) * spec.round_blocks
    seat(case)
    case.wait(SegmentPhase.UNSAMPLED, longest)
    assert began < opened < case.ledger.state.height <= opened + longest


# --- several rejections ---


@pytest.mark.rule("L97", "L98")
def test_a_friends_false_rejection_of_a_right_window_does_not_hide_the_false_one() -> None:
    """Adversary: an accomplice of a liar rejects another window first, so that the panel looks there."""
    case = a_native_case(num_steps=30)
    case.draw_verifiers()
    drawn = ask(case, 4)
    assert len(set(drawn.values())) > 1, "with these dice"
    say(case, drawn, {})
    first = panel_of(case).window
    decide(case, seat(case), 0)
    assert case.is_now(SegmentPhase.DOUBTED)
    second = panel_of(case).window
    assert first != second
    decide(case, seat(case), PANEL_SIZE)
    assert case.is_now(SegmentPhase.REJECTED)
    forgotten(case)


@pytest.mark.rule("L97", "L98")
def test_who_rejects_the_same_window_falls_or_stands_with_it() -> None:
    for num_rejecting in (0, PANEL_SIZE):
        case = a_native_case()
        rejecters = rejected(case, num_verifiers=2, num_rejecters=2)
        before = [case.balance(key) for key in rejecters]
        decide(case, seat(case), num_rejecting)
        gained = [case.balance(key) - was for key, was in zip(rejecters, before, strict=True)]
        assert all(gain > 0 for gain in gained) == (num_rejecting == PANEL_SIZE)
        assert all(gain == 0 for gain in gained) == (num_rejecting == 0)


# --- whatever anybody says ---


@pytest.mark.rule("L46")
def test_no_sequence_of_statements_in_a_native_run_touches_a_stake(seed: int) -> None:
    """Everybody says whatever it may, at random: every stake and the supply stay as they are."""
    ends = set[SegmentPhase]()
    for number in range(6):
        rng = Random(1000 * seed + number)
        case = a_native_case(num_steps=rng.choice([10, 50]))
        producer, before = BlockProducer(case), stakes(case)
        commit = case.claimed.commit
        place = (commit.run, commit.round, commit.stage, commit.seat)
        rejects = rng.choice([0.1, 0.5, 0.95])
        for _ in range(90):
            for key in rng.sample(case.ledger.keys[:ACCOUNTS], ACCOUNTS):
                for body in statements(case, key, rng, rejects):
                    with suppress(InvalidStatement):
                        producer.submit(key, body)
            producer.block()
            assert stakes(case) == before
            if case.ledger.state.segment(*place) is None:
                break
            ends.add(case.phase)
    reached = {SegmentPhase.DOUBTED, SegmentPhase.WITHIN, SegmentPhase.REJECTED}
    assert seed or ends >= reached, "with the usual dice"


def statements(case: Case, key: SecretKey, rng: Random, rejects: float) -> list[Body]:
    """What a peer might say now, sensible or not; it holds back a part of it."""
    state, record, made = case.ledger.state, case.record, list[Body | None]()
    like = case.true.rejecting() if rng.random() < rejects else case.true
    window = rng.randrange(len(case.true.results))
    mine = next((check for check in record.checks if check.peer == key.peer), None)
    with suppress(InvalidStatement):  # the solver, its partners
        made += [case.true.request(state, key, at) for at in range(len(record.draws))]
        if record.panel is not None and record.panel.draws:
            made.append(case.true.offer(state, key))
        if record.contests and record.contests[-1].draw is not None:
            made.append(case.true.witness(state, key, is_served=rng.random() < 0.5))
    if mine is not None:
        like = case.true.rejecting() if mine.peer[0] / 256 < rejects else case.true
        made.append(like.blind(state, key.peer, mine.window))
        if record.claims:
            made.append(like.shown(state, key.peer, mine.window))
        if rng.random() < 0.02:
            made.append(case.true.complaint(state, key.peer))
    made += [case.true.report(key.peer, window), case.true.move(window, b"open")]
    if key == case.solver:
        made.append(case.claimed.reveal())
    return [body for body in made if body is not None and rng.random() < 0.8]
