"""Who sent something else than it committed to is convicted by one statement, at any time, and pays for it."""

from collections.abc import Callable

import pytest

from swarm.config.spec import RunSpec
from swarm.errors import InvalidStatement, Reason
from swarm.ledger.check_statements import Fraud
from swarm.ledger.edges import EDGE_FRAUD_BYTES_MAX, EdgeFraud
from swarm.ledger.state.draft import Draft
from swarm.ledger.state.records import NO_ROLLBACK, CheckPhase, Rollback, RunPhase, SegmentPhase
from swarm.ledger.state.state import money_in
from swarm.ledger.transactions import Join, Unstake
from swarm.ledger.transition.disputes import first_accusation
from swarm.ledger.transition.phases import challenge_end
from swarm.ledger.transition.prices import PANEL_SIZE, sufficient_fee
from swarm.ledger.transition.runs import SETTLE_ROUNDS
from swarm.ledger.views import conviction_row, new_convictions
from swarm.primitives.codec import replace
from swarm.primitives.crypto import SecretKey, peer_name
from swarm.primitives.edges import SentEntry, open_at, open_place
from swarm.testing.ledger import STAKE, make_segment
from swarm.types import NO_DIGEST, Amount, PeerId, RoundIndex, StageIndex
from tests.ledger.checking import EXACT, Case, a_case
from tests.ledger.complaints import complain, say, unserved, witnesses
from tests.ledger.edges import (
    ACTIVATION,
    GRADIENT,
    INCARNATION,
    OFFER,
    SENT,
    a_sender,
    accuse,
    disorder,
    lie_about_nothing,
    other,
    proof,
    signed,
    without,
)
from tests.ledger.panels import a_native_case, decide, draw_panel, rejected, seat

NATIVE = replace(EXACT, numerics="native")


def money(case: Case, keys: list[SecretKey]) -> dict[bytes, int]:
    return {key.peer: case.balance(key) for key in keys}


def at_risk(case: Case, key: SecretKey) -> int:
    return Draft(case.ledger.state, key.peer).at_risk(key.peer)


def bonds_of(case: Case) -> dict[bytes, int]:
    """What the record holds of everybody."""
    record, bonds = case.record, dict[bytes, int]()
    held = [(check.peer, check.bond) for check in record.checks]
    held += [(accusation.peer, accusation.bond) for accusation in record.accusations]
    held += [(record.checks[contest.check].peer, contest.bond) for contest in record.contests]
    for peer, bond in held:
        bonds[peer] = bonds.get(peer, 0) + bond
    return bonds


def convict(case: Case, body: Fraud, sender: SecretKey) -> int:
    """Submit a proof; compare every account and the escrow with what they must have; return the stake taken."""
    case.ledger.block()  # so that no deadline falls into the block that is looked at
    ledger, record, solver = case.ledger, case.record, case.solver
    keys = [key for key in ledger.keys if ledger.state.account(key.peer).nonce or case.stake(key)]
    before, bonds, state = money(case, keys), bonds_of(case), ledger.state
    run, fee = state.run(record.run), sufficient_fee(state.params, body)
    stakes = {key.peer: at_risk(case, key) for key in keys}
    finder = who_gains(case, sender)
    case.submit(sender, body)
    assert case.is_now(SegmentPhase.GUILTY)
    taken, leader = stakes[solver.peer] - at_risk(case, solver), ledger.links[-1][0].header.leader
    back, is_settled = (
        record.reward if record.is_paid else record.held,
        run.phase is RunPhase.SETTLED,
    )
    gains = {peer: bonds.get(peer, 0) for peer in before}
    gains[solver.peer] -= back if record.is_paid else 0
    gains[run.owner] += back + record.reserved if is_settled else 0
    gains[sender.peer] -= fee
    share = 0 if finder is None else taken * 40 // 100
    if finder is not None:
        gains[finder] += share
    gains[leader] += fee
    assert {peer: now - before[peer] for peer, now in money(case, keys).items()} == gains
    after = ledger.state.run(record.run)
    assert after.escrow - run.escrow == (0 if is_settled else back + record.reserved)
    assert state.supply - ledger.state.supply == taken - share, "the rest is burned"
    others = [key for key in keys if key != solver]
    assert all(at_risk(case, key) == stakes[key.peer] for key in others), "nobody else pays"
    assert money_in(case.record) == 0
    assert not case.record.is_paid
    assert (case.record.proved_by, case.record.dispute) == (sender.peer, None)
    return taken


def who_gains(case: Case, sender: SecretKey) -> PeerId | None:
    """Who proves it; while answers are compared, the first blind accuser, or nobody."""
    record = case.record
    if record.phase not in {SegmentPhase.REVEALED, SegmentPhase.DISPUTED}:
        return sender.peer
    return None if record.dispute is None else first_accusation(record, record.dispute.window).peer


def assert_gone(case: Case) -> None:
    """The solver has no seat, may not come back, and is counted as what it is."""
    state, peer = case.ledger.state, case.solver.peer
    run = state.run(case.run.index)
    assert all(seat.peer != peer for roster in run.seats for seat in roster)
    work = state.contribution(run.index, peer)
    assert (work.failed, work.is_barred, work.fault_height) == (1, True, state.height)
    assert (work.shares, state.verdicts(run.index).guilty) == (0, 1)
    assert [found.peer for found in state.verdicts(run.index).convictions] == [peer]
    assert case.refused(case.solver, Join(run.index)) is Reason.BARRED


GAVE_NOTHING = without(SENT, (1, 2, 0, 0))
NOT_COUNTED = without(SENT, ACTIVATION.place)
TWICE = (*SENT[:3], replace(SENT[2], window=1), *SENT[3:])
DISORDERED = (SENT[1], SENT[0], *SENT[2:])
LATER = replace(ACTIVATION, incarnation=INCARNATION + 1)
LIES: dict[str, tuple[Callable[[Case], EdgeFraud], tuple[SentEntry, ...]]] = {
    "another gradient down": (lambda case: proof(case, other(GRADIENT)), SENT),
    "other activations up": (lambda case: proof(case, other(ACTIVATION)), SENT),
    "activations not counted": (lambda c: proof(c, ACTIVATION, NOT_COUNTED), NOT_COUNTED),
    "activations before all": (lambda case: proof(case, replace(ACTIVATION, step=1)), SENT),
    "a fragment not given": (lambda case: proof(case, OFFER, GAVE_NOTHING), GAVE_NOTHING),
    "another fragment": (lambda case: proof(case, other(OFFER)), SENT),
    "a fragment beyond all": (
        lambda case: proof(case, replace(OFFER, key=replace(OFFER.key, exchange=3))),
        SENT,
    ),
    "a list of nothing": (lambda case: proof(case, GRADIENT, ()), ()),
    "the same place twice": (lambda _: disorder(TWICE, 2), TWICE),
    "two out of order": (lambda _: disorder(DISORDERED, 0), DISORDERED),
    "sent after it began again": (lambda case: accuse(signed(case, LATER)), SENT),
}


@pytest.mark.rule("L92")
@pytest.mark.parametrize("lie", LIES)
def test_every_lie_about_an_edge_costs_stake_pay_and_seat(lie: str) -> None:
    prove, sent = LIES[lie]
    case = a_sender(sent)
    assert convict(case, prove(case), case.ledger.keys[4]) == STAKE
    assert_gone(case)


@pytest.mark.rule("L46", "L92")
def test_in_a_native_run_a_lie_costs_pay_and_seat_and_no_stake() -> None:
    case = a_sender(spec=NATIVE)
    assert convict(case, proof(case, other(GRADIENT)), case.ledger.keys[4]) == 0
    assert_gone(case)


def test_whoever_pays_the_fee_may_prove_a_lie_and_who_proves_its_own_loses_by_it() -> None:
    case = a_sender()
    partner = case.ledger.keys[0]
    assert convict(case, proof(case, other(GRADIENT)), partner) == STAKE, "a partner, the owner"
    case = a_sender()
    before = case.balance(case.solver) + case.stake(case.solver)
    assert convict(case, proof(case, other(GRADIENT)), case.solver) == STAKE
    assert before - case.balance(case.solver) >= STAKE * 60 // 100


def up_to_request() -> Case:
    case = a_case(num_accounts=6)
    case.draw_verifiers()
    assert case.ask(case.able)
    assert case.is_now(SegmentPhase.SAMPLED)
    return case


def after_a_miss() -> Case:
    """Verifiers were drawn again, since none has answered; those that asked have bonds in the record."""
    case = up_to_request()
    case.wait(SegmentPhase.POSTED)
    assert {check.phase for check in case.record.checks} == {CheckPhase.MISSED}
    return case


def with_an_answer() -> Case:
    case = up_to_request()
    check = case.record.checks[0]
    key = case.ledger.key_of(check.peer)
    case.submit(key, case.true.blind(case.ledger.state, key.peer, check.window))
    assert case.is_now(SegmentPhase.SAMPLED)
    return case


def contested() -> Case:
    case, victim = unserved()
    complain(case, victim)
    heard = witnesses(case)
    say(case, heard[:1], is_served=False)
    return case


def sealed() -> Case:
    case = a_case(num_accounts=6)
    case.draw_verifiers()
    case.seal(case.ask(case.able))
    return case


def sealed_by_nobody() -> Case:
    case = a_case(num_accounts=6)
    case.wait(SegmentPhase.SEALED)
    return case


def revealed() -> Case:
    """One verifier has shown its answer, and is paid; another has not."""
    case = a_case()
    windows = case.up_to_reveal()
    first = next(iter(windows))
    case.show({first: windows[first]})
    assert case.is_now(SegmentPhase.REVEALED)
    return case


def verified(spec: RunSpec = EXACT) -> Case:
    case = a_case(spec, num_accounts=6)
    case.show(case.up_to_reveal())
    assert case.record.is_paid
    return case


def unsampled() -> Case:
    case = sealed_by_nobody()
    case.submit(case.solver, case.claimed.reveal())
    assert case.record.is_paid
    return case


def silent() -> Case:
    case = sealed()
    case.wait(SegmentPhase.SILENT)
    return case


def reported() -> Case:
    """It was paid, and a report waits for its answer."""
    case = verified()
    reporter = case.ledger.keys[0]
    case.submit(reporter, case.true.report(reporter.peer, 0))
    assert case.record.is_paid
    return case


def disputed() -> Case:
    """A verifier and a reporter accuse it, an answer is missing, and a hearing has begun."""
    case = a_case(lie=0)
    windows = case.up_to_reveal()
    first = next(iter(windows))
    case.show({first: windows[first]})
    case.blow(case.ledger.keys[0], 0)
    assert len(windows) == 2
    case.move(case.accuser, b"open")
    assert len(case.record.accusations) == 2
    return case


def refuted() -> Case:
    case = a_case(num_accounts=6)
    case.show(case.up_to_reveal(0))
    case.wait(SegmentPhase.UNSAMPLED)
    case.blow(case.able[-1], 0, case.true.with_lie(0))
    case.decide(is_guilty=False)
    assert case.record.is_paid
    return case


def absent() -> Case:
    """Its solver was silent when it was accused, and may come back."""
    case = a_case(lie=0, num_accounts=6)
    case.show(case.up_to_reveal())
    case.fall_silent()
    return case


TIMES: dict[Callable[[], Case], tuple[SegmentPhase, bool]] = {
    a_case: (SegmentPhase.POSTED, False),
    after_a_miss: (SegmentPhase.POSTED, True),
    up_to_request: (SegmentPhase.SAMPLED, True),
    with_an_answer: (SegmentPhase.SAMPLED, True),
    contested: (SegmentPhase.SAMPLED, True),
    sealed: (SegmentPhase.SEALED, True),
    sealed_by_nobody: (SegmentPhase.SEALED, False),
    revealed: (SegmentPhase.REVEALED, True),
    reported: (SegmentPhase.REVEALED, True),
    disputed: (SegmentPhase.DISPUTED, True),
    verified: (SegmentPhase.VERIFIED, False),
    unsampled: (SegmentPhase.UNSAMPLED, False),
    silent: (SegmentPhase.SILENT, False),
    refuted: (SegmentPhase.UNSAMPLED, False),
    absent: (SegmentPhase.DISPUTED, True),
}
"""How a segment comes into a phase, the phase, and whether the record then holds bonds."""


def doubted() -> Case:
    case = a_native_case()
    rejected(case)
    draw_panel(case)
    return case


def seated() -> Case:
    case = a_native_case()
    rejected(case)
    seat(case)
    return case


def within() -> Case:
    case = a_native_case()
    case.show(case.up_to_reveal())
    return case


def sent_away() -> Case:
    case = a_native_case()
    rejected(case)
    decide(case, seat(case), PANEL_SIZE)
    return case


NATIVE_TIMES: dict[Callable[[], Case], tuple[SegmentPhase, bool]] = {
    doubted: (SegmentPhase.DOUBTED, True),
    seated: (SegmentPhase.DOUBTED, True),
    within: (SegmentPhase.WITHIN, False),
    sent_away: (SegmentPhase.REJECTED, False),
}
"""The same, where bits differ."""


def test_the_times_are_all_there_are() -> None:
    times = {phase for phase, _ in (*TIMES.values(), *NATIVE_TIMES.values())}
    assert times == set(SegmentPhase) - {SegmentPhase.GUILTY}


@pytest.mark.rule("L46", "L92")
@pytest.mark.parametrize("make", NATIVE_TIMES, ids=lambda make: make.__name__)
def test_at_every_time_of_a_native_run_all_get_back_what_they_put_up(
    make: Callable[[], Case],
) -> None:
    case, (phase, has_bonds) = make(), NATIVE_TIMES[make]
    assert case.is_now(phase)
    assert any(bonds_of(case).values()) == has_bonds
    assert convict(case, lie_about_nothing(case), case.ledger.keys[3]) == 0
    counts = case.ledger.state.verdicts(case.run.index)
    assert (counts.within, counts.rejected, counts.guilty) == (0, 0, 1)


@pytest.mark.rule("L47", "L92")
@pytest.mark.parametrize("make", TIMES, ids=lambda make: make.__name__)
def test_at_every_time_all_get_back_what_they_put_up_and_the_record_holds_no_money(
    make: Callable[[], Case],
) -> None:
    case, (phase, has_bonds) = make(), TIMES[make]
    assert case.is_now(phase)
    assert any(bonds_of(case).values()) == has_bonds
    verified = case.ledger.state.contribution(case.run.index, case.solver.peer).verified
    convict(case, lie_about_nothing(case), case.ledger.keys[3])
    assert case.stake(case.solver) == 0
    assert_gone(case)
    after = case.ledger.state
    counts = after.verdicts(case.run.index)
    judged = (counts.verified, counts.unsampled, counts.silent)
    assert judged == (0, 0, 0), "it counts as guilty, and as nothing else any more"
    assert after.contribution(case.run.index, case.solver.peer).verified == verified
    case.ledger.empty_blocks(case.record.due - after.height)
    commit = case.claimed.commit
    gone = case.ledger.state.segment(commit.run, commit.round, commit.stage, commit.seat)
    assert gone is None, "forgotten, in its time"


@pytest.mark.rule("L92", "L44")
def test_a_friend_that_proves_another_lie_when_the_verdict_comes_saves_nothing() -> None:
    """A solver that is accused signs what contradicts its list: what it loses goes to who found it blind."""
    case = disputed()
    friend = case.ledger.keys[3]
    assert case.record.dispute is not None
    accuser = first_accusation(case.record, case.record.dispute.window).peer
    before, lie = case.balance(friend), lie_about_nothing(case)
    rich = case.ledger.state.account(accuser).balance
    bond = bonds_of(case)[accuser]
    taken = convict(case, lie, friend)
    assert taken == STAKE
    assert abs(case.balance(friend) - before) < taken // 10, "fees, and no part of the stake"
    assert case.ledger.state.account(accuser).balance - rich >= taken * 40 // 100 + bond


@pytest.mark.parametrize("make", [sealed, revealed, disputed, contested])
def test_who_still_had_to_say_something_has_nothing_to_say_any_more(
    make: Callable[[], Case],
) -> None:
    case = make()
    waiting = [check for check in case.record.checks if check.phase is CheckPhase.SEALED]
    convict(case, lie_about_nothing(case), case.ledger.keys[3])
    for check in waiting:
        key = case.ledger.key_of(check.peer)
        shown = replace(case.true.shown(case.ledger.state, key.peer, check.window), claim=b"")
        assert case.refused(key, shown) is Reason.WRONG_PHASE
    assert case.refused(case.solver, case.claimed.reveal()) is Reason.WRONG_PHASE
    report = case.true.report(case.ledger.keys[0].peer, 0)
    assert case.refused(case.ledger.keys[0], report) is Reason.WRONG_PHASE
    move = case.claimed.move(0, b"next")
    assert case.refused(case.solver, move) is Reason.WRONG_PHASE
    work = [
        case.ledger.state.contribution(case.run.index, check.peer) for check in case.record.checks
    ]
    case.ledger.empty_blocks(4 * EXACT.round_blocks)
    later = [
        case.ledger.state.contribution(case.run.index, check.peer) for check in case.record.checks
    ]
    assert [one.missed for one in later] == [one.missed for one in work], "nobody missed anything"


REFUSED: dict[str, tuple[Reason, Callable[[Case], EdgeFraud]]] = {
    "activations as in the list": (Reason.BAD_FIELD, lambda case: proof(case, ACTIVATION)),
    "a gradient as in the list": (Reason.BAD_FIELD, lambda case: proof(case, GRADIENT)),
    "a fragment as in the list": (Reason.BAD_FIELD, lambda case: proof(case, OFFER)),
    "of another round": (
        Reason.BAD_FIELD,
        lambda case: proof(case, replace(other(ACTIVATION), round=RoundIndex(2))),
    ),
    "of another run": (
        Reason.BAD_FIELD,
        lambda case: proof(case, replace(other(GRADIENT), run=type(GRADIENT.run)(2))),
    ),
    "of another seat": (
        Reason.BAD_FIELD,
        lambda case: proof(case, replace(other(GRADIENT), destination=0)),
    ),
    "of another stage": (
        Reason.BAD_FIELD,
        lambda case: proof(case, replace(other(ACTIVATION), stage=StageIndex(0))),
    ),
    "from before it began again": (
        Reason.BAD_FIELD,
        lambda case: proof(case, replace(other(ACTIVATION), incarnation=INCARNATION - 1)),
    ),
    "signed by another peer": (
        Reason.BAD_SIGNATURE,
        lambda c: accuse(
            signed(c, other(GRADIENT), c.ledger.keys[4]), open_place(SENT, GRADIENT.place)
        ),
    ),
    "with a number altered": (
        Reason.BAD_SIGNATURE,
        lambda c: accuse(
            replace(signed(c, other(GRADIENT)), tokens=1), open_place(SENT, GRADIENT.place)
        ),
    ),
    "with a later start made up": (
        Reason.BAD_SIGNATURE,
        lambda c: accuse(replace(signed(c, ACTIVATION), incarnation=INCARNATION + 1)),
    ),
    "with a part of another list": (
        Reason.BAD_PROOF,
        lambda case: proof(case, ACTIVATION, NOT_COUNTED),
    ),
    "with a part that is elsewhere": (
        Reason.BAD_PROOF,
        lambda case: accuse(signed(case, other(ACTIVATION)), open_at(SENT, 0, 2)),
    ),
    "with nothing of the list": (
        Reason.BAD_PROOF,
        lambda case: accuse(signed(case, other(ACTIVATION))),
    ),
    "no message, and two in order": (Reason.BAD_FIELD, lambda _: disorder(SENT, 1)),
    "no message, and one entry": (Reason.BAD_FIELD, lambda _: accuse(None, open_at(SENT, 1))),
    "no message, and no list": (Reason.BAD_FIELD, lambda _: accuse(None)),
    "no message, and another list": (Reason.BAD_PROOF, lambda _: disorder(DISORDERED, 0)),
    "a path that is too long": (
        Reason.BAD_FIELD,
        lambda case: accuse(
            signed(case, other(ACTIVATION)),
            replace(open_at(SENT, 2), paths=((bytes(32),) * 16,)),
        ),
    ),
    "too many bytes": (
        Reason.BAD_FIELD,
        lambda case: accuse(
            signed(case, replace(ACTIVATION, wire=bytes(EDGE_FRAUD_BYTES_MAX))),
            open_at(SENT, 2),
        ),
    ),
    "about a seat without a commit": (
        Reason.UNKNOWN_SEGMENT,
        lambda case: replace(proof(case, other(ACTIVATION)), seat=2),
    ),
    "about a run that is not": (
        Reason.UNKNOWN_SEGMENT,
        lambda case: replace(proof(case, other(ACTIVATION)), run=type(ACTIVATION.run)(2)),
    ),
}


@pytest.mark.rule("L92")
@pytest.mark.parametrize("what", REFUSED)
def test_what_proves_no_lie_is_refused_and_changes_nothing(what: str) -> None:
    reason, make = REFUSED[what]
    case = a_sender()
    assert case.refused(case.ledger.keys[4], make(case)) is reason


@pytest.mark.rule("L92")
def test_a_lie_is_proven_once_and_a_second_proof_of_it_is_too_late() -> None:
    case = a_sender()
    convict(case, proof(case, other(GRADIENT)), case.ledger.keys[4])
    again = proof(case, other(ACTIVATION))
    assert case.refused(case.ledger.keys[4], again) is Reason.WRONG_PHASE
    case = a_sender()
    one, two = case.ledger.keys[2], case.ledger.keys[4]
    lie = proof(case, other(GRADIENT))
    with pytest.raises(InvalidStatement, match="the segment is guilty"):
        case.ledger.block(case.ledger.sign(one, lie), case.ledger.sign(two, lie))


def test_after_a_conviction_there_is_nothing_left_to_prove() -> None:
    case = a_case(lie=0)
    case.show(case.up_to_reveal())
    case.decide(is_guilty=True)
    assert case.is_now(SegmentPhase.GUILTY)
    assert case.refused(case.ledger.keys[3], lie_about_nothing(case)) is Reason.WRONG_PHASE
    assert case.record.proved_by == b""


def test_a_second_segment_of_the_same_liar_is_voided_and_has_no_stake_left_to_take() -> None:
    case = a_sender()
    case.ledger.reach_round(case.run, 3)
    second = make_segment(case.ledger, case.run, 2, 0, 1, num_steps=10, incarnation=INCARNATION)
    case.submit(case.solver, second.commit)
    assert convict(case, proof(case, other(GRADIENT)), case.ledger.keys[4]) == STAKE
    later = Case(case.ledger, case.run, second, second)
    assert later.record.sent_root == NO_DIGEST
    up = signed(later, replace(ACTIVATION, round=RoundIndex(2)))
    assert convict(later, accuse(up, round_=2), case.ledger.keys[4]) == 0
    assert case.ledger.state.contribution(case.run.index, case.solver.peer).failed == 2
    assert case.ledger.state.verdicts(case.run.index).guilty == 2


def test_a_stake_that_is_on_its_way_back_is_taken_too() -> None:
    case = a_sender(num_validators=1)
    case.submit(case.solver, Unstake(Amount(400)))
    assert case.stake(case.solver) == STAKE - 400
    assert convict(case, proof(case, other(GRADIENT)), case.ledger.keys[4]) == STAKE


@pytest.mark.rule("L47")
def test_after_a_run_is_settled_the_money_of_a_lie_goes_to_its_owner() -> None:
    case = verified(replace(EXACT, rounds=3))
    run = case.ledger.state.run(case.run.index)
    case.ledger.reach_round(run, 3 + SETTLE_ROUNDS)
    while case.ledger.state.run(run.index).phase is not RunPhase.SETTLED:
        case.ledger.block()
    assert convict(case, lie_about_nothing(case), case.ledger.keys[3]) == STAKE


@pytest.mark.rule("L92")
def test_after_the_challenge_window_a_proof_comes_too_late() -> None:
    case = verified()
    end = challenge_end(case.record, EXACT)
    lie = lie_about_nothing(case)
    case.ledger.empty_blocks(end - 2 - case.ledger.state.height)
    last = case.ledger.head
    case.submit(case.ledger.keys[3], lie)
    assert case.is_now(SegmentPhase.GUILTY), "the last block in which it may be"
    case.ledger.head = last
    case.ledger.block()
    assert case.refused(case.ledger.keys[3], lie) in {Reason.EXPIRED, Reason.UNKNOWN_SEGMENT}


@pytest.mark.rule("L92")
def test_while_a_dispute_is_heard_the_challenge_window_ends_all_the_same() -> None:
    """The record is kept for its dispute; what else it may be accused of has its own time."""
    case = a_case(lie=0, num_accounts=6)
    case.wait(SegmentPhase.SEALED)
    case.submit(case.solver, case.claimed.reveal())
    end, reporter = challenge_end(case.record, EXACT), case.ledger.keys[5]
    case.ledger.empty_blocks(end - 2 - case.ledger.state.height)
    case.blow(reporter, 0)
    assert case.is_now(SegmentPhase.DISPUTED)
    assert case.ledger.state.height >= end - 1
    assert case.refused(case.ledger.keys[3], lie_about_nothing(case)) is Reason.EXPIRED


@pytest.mark.rule("L45a", "L92")
def test_the_stage_begins_again_where_the_run_says_so() -> None:
    back = replace(EXACT, checks=replace(EXACT.checks, on_fraud="rollback"))
    case = a_sender(spec=back)
    convict(case, proof(case, other(GRADIENT)), case.ledger.keys[4])
    run = case.ledger.state.run(case.run.index)
    assert run.rollbacks == (Rollback(0, run.next_round), NO_ROLLBACK)


def test_an_owner_that_lies_loses_stake_and_this_seat_and_may_fill_its_stages_again() -> None:
    case = a_case(num_accounts=5)
    owner = case.ledger.keys[0]
    case.true = case.claimed = make_segment(case.ledger, case.run, 1, 1, 0)
    case.submit(owner, case.claimed.commit)
    down = signed(case, replace(GRADIENT, stage=StageIndex(1), destination=0, incarnation=0))
    assert convict(case, accuse(down, stage=1, seat=0), case.ledger.keys[4]) == STAKE
    run = case.ledger.state.run(case.run.index)
    assert run.seats[1] == ()
    assert not case.ledger.state.contribution(run.index, owner.peer).is_barred


def test_what_people_read_names_who_proved_it() -> None:
    case = a_sender()
    sender = case.ledger.keys[4]
    before = case.ledger.state
    convict(case, proof(case, other(GRADIENT)), sender)
    (found,) = new_convictions(before, case.ledger.state, case.run.index)
    assert (found.accuser, found.stake_taken) == (PeerId(sender.peer), STAKE)
    text = str(conviction_row(found)["text"])
    assert text.endswith(f"by {peer_name(sender.peer)}; its stake of 1,000 was taken")
