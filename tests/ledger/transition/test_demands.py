"""Who has signed something shows its list there when it is asked to, or loses what it hopes to gain."""

import dataclasses
from collections.abc import Callable

import pytest

from swarm.errors import Reason
from swarm.ledger.demands import said_in
from swarm.ledger.describe_checks import segment_text
from swarm.ledger.edges import EdgeMessage
from swarm.ledger.mempool import Mempool
from swarm.ledger.restart import restart
from swarm.ledger.state.draft import Draft
from swarm.ledger.state.records import RunPhase, SegmentPhase
from swarm.ledger.state.state import audit_supply, genesis_state, money_in
from swarm.ledger.transactions import Join, Transfer, Unstake
from swarm.ledger.transition.demands import (
    COMPARED,
    DEMANDS_EACH_MAX,
    DEMANDS_MAX,
    DEMANDS_OPEN_MAX,
)
from swarm.ledger.transition.phases import challenge_end, demand_end
from swarm.ledger.transition.prices import demand_bond, reward_max, silence_fine, sufficient_fee
from swarm.ledger.transition.runs import SETTLE_ROUNDS
from swarm.primitives.codec import replace
from swarm.primitives.crypto import SecretKey, digest, peer_name
from swarm.primitives.edges import open_at
from swarm.testing.ledger import STAKE
from swarm.types import Amount, Height, PeerId, RoundIndex, StageIndex
from tests.ledger.checking import EXACT, Case
from tests.ledger.complaints import complain, unserved, witnesses
from tests.ledger.complaints import say as bear_witness
from tests.ledger.demanding import answer, ask, demand, is_silent, run_out, stakeless, with_list
from tests.ledger.edges import (
    ACTIVATION,
    GRADIENT,
    INCARNATION,
    OFFER,
    SENT,
    a_sender,
    microbatch,
    other,
    proof,
    signed,
    without,
)
from tests.ledger.panels import together
from tests.ledger.transition.test_edge_convictions import (
    NATIVE_TIMES,
    TIMES,
    assert_gone,
    bonds_of,
    disputed,
    reported,
    revealed,
    sealed,
    verified,
)

FEES = 40
"""More than a leader has from the fees of a test."""
ALL_TIMES = {**TIMES, **NATIVE_TIMES}
OPEN_TO_DEMANDS = {
    make: phase for make, (phase, _) in ALL_TIMES.items() if phase is not SegmentPhase.SILENT
}
AT_EVERY_TIME = pytest.mark.parametrize("make", OPEN_TO_DEMANDS, ids=lambda make: make.__name__)
BY_KIND = pytest.mark.parametrize(
    "message", [ACTIVATION, GRADIENT, OFFER], ids=lambda m: type(m).__name__
)


def asker(case: Case) -> SecretKey:
    """A bystander with a stake."""
    return case.ledger.keys[3]


def bond_in(case: Case) -> int:
    return demand_bond(case.ledger.state.params)


def money(case: Case, key: SecretKey) -> int:
    return case.balance(key) + case.stake(key)


@pytest.mark.rule("L105", "L106")
@BY_KIND
def test_what_the_list_has_is_shown_for_nothing_and_ends_the_demand(message: EdgeMessage) -> None:
    """The demand pays: the bytes of the answer to who leads, and what is left of its bond to the solver."""
    case = a_sender()
    key, body = asker(case), demand(case, message)
    before, rich = case.balance(key), case.balance(case.solver)
    case.submit(key, body)
    fee = sufficient_fee(case.ledger.state.params, body)
    assert before - case.balance(key) == fee + bond_in(case)
    (waiting,) = case.record.demands
    assert waiting.is_open
    assert money_in(case.record) == case.record.held + case.record.reserved + bond_in(case)
    case.submit(case.solver, answer(case))
    assert case.is_now(SegmentPhase.POSTED)
    (over,) = case.record.demands
    assert (over.is_open, over.bond) == (False, 0)
    assert SENT[over.index].place == over.place
    assert 0 <= case.balance(case.solver) - rich < bond_in(case), "it gains next to nothing"
    case.wait(SegmentPhase.SEALED)
    case.submit(case.solver, case.claimed.reveal())
    assert case.is_now(SegmentPhase.UNSAMPLED)


@pytest.mark.rule("L106")
@pytest.mark.parametrize(
    ("message", "sent"),
    [
        (other(ACTIVATION), SENT),
        (other(GRADIENT), SENT),
        (other(OFFER), SENT),
        (ACTIVATION, without(SENT, ACTIVATION.place)),
        (OFFER, without(SENT, (1, 2, 0, 0))),
        (replace(ACTIVATION, step=1), SENT),
    ],
)
def test_a_list_that_has_something_else_convicts_whoever_shows_it(
    message: EdgeMessage, sent: tuple[object, ...]
) -> None:
    case = a_sender(sent)  # type: ignore[arg-type]
    key = asker(case)
    before = case.balance(key)
    ask(case, key, message)
    fee = before - case.balance(key) - bond_in(case)
    case.submit(case.ledger.keys[0], answer(case, sent))  # type: ignore[arg-type]
    assert case.is_now(SegmentPhase.GUILTY)
    assert_gone(case)
    assert case.stake(case.solver) == 0
    assert case.balance(key) == before - fee + STAKE * 40 // 100, "the finder is who demanded it"
    assert case.record.proved_by == key.peer
    assert money_in(case.record) == 0


@pytest.mark.rule("L107")
def test_a_list_that_nobody_shows_costs_three_rewards_and_a_strike() -> None:
    case = a_sender(num_accounts=5)
    key, solver = asker(case), case.solver
    rich, mine, state = money(case, solver), money(case, key), case.ledger.state
    params, reward = state.params, reward_max(EXACT, case.record.tokens)
    fine = silence_fine(params, EXACT, case.record)
    ask(case, key, other(GRADIENT))
    fee = mine - money(case, key) - bond_in(case)
    run_out(case)
    assert is_silent(case)
    assert rich - money(case, solver) == fine
    assert fine + case.record.reward >= 3 * reward, "more than the lie has brought"
    assert money(case, key) == mine - fee + fine * 40 // 100
    work = case.ledger.state.contribution(case.run.index, solver.peer)
    assert (work.silent, work.failed) == (1, 0)
    assert (case.record.held, case.record.is_paid, money_in(case.record)) == (0, False, 0)
    assert peer_name(key.peer) in segment_text(case.record)
    assert case.refused(key, demand(case, ACTIVATION)) is Reason.WRONG_PHASE
    case.submit(key, proof(case, other(GRADIENT)))
    assert case.is_now(SegmentPhase.GUILTY), "a proof of the lie still convicts"


@pytest.mark.rule("L105", "L106")
@AT_EVERY_TIME
def test_at_every_time_an_answer_changes_nothing_else(make: Callable[[], Case]) -> None:
    case = with_list(make())
    assert case.is_now(OPEN_TO_DEMANDS[make])
    ask(case, asker(case), ACTIVATION)
    before = case.record
    case.submit(case.solver, answer(case))
    changed = case.record
    assert (changed.phase, changed.checks, changed.accusations) == (
        before.phase,
        before.checks,
        before.accusations,
    )
    assert money_in(before) - money_in(changed) == bond_in(case)
    assert audit_supply(case.ledger.state) == case.ledger.state.supply


@pytest.mark.rule("L106", "L92")
@AT_EVERY_TIME
def test_at_every_time_a_lie_that_is_shown_convicts_and_all_others_get_their_bonds(
    make: Callable[[], Case],
) -> None:
    case = with_list(make())
    key = asker(case)
    ask(case, key, other(GRADIENT))
    bonds, is_exact = bonds_of(case), case.run.spec.is_exact
    compared, before = (
        case.phase,
        {peer: case.ledger.state.account(PeerId(peer)).balance for peer in bonds},
    )
    mine = case.balance(key)
    case.submit(case.solver, answer(case))
    assert case.is_now(SegmentPhase.GUILTY)
    assert case.stake(case.solver) == (0 if is_exact else STAKE)
    assert money_in(case.record) == 0
    share = STAKE * 40 // 100 if is_exact and compared not in COMPARED else 0
    mine_back = bond_in(case) + bonds.get(key.peer, 0)
    if compared is not SegmentPhase.DISPUTED:
        assert mine_back + share <= case.balance(key) - mine <= mine_back + share + 9, (
            "a leader's fees"
        )
    for peer, bond in bonds.items():
        assert case.ledger.state.account(PeerId(peer)).balance >= before[peer] + bond


@pytest.mark.rule("L107", "L47")
@AT_EVERY_TIME
def test_at_every_time_silence_takes_the_pay_and_gives_the_bonds_back(
    make: Callable[[], Case],
) -> None:
    """Where windows are compared, it does so once they are, unless they are false."""
    case = with_list(make())
    key, phase = asker(case), case.phase
    ask(case, key, ACTIVATION)
    bonds, before = bonds_of(case), case.ledger.state
    if phase not in COMPARED:
        run_out(case)
    else:
        for _ in range(1_200):
            if case.phase in {SegmentPhase.SILENT, SegmentPhase.GUILTY}:
                break
            case.ledger.block()
    ended = SegmentPhase.GUILTY if case.is_now(SegmentPhase.GUILTY) else SegmentPhase.SILENT
    assert case.is_now(ended)
    assert (case.record.held, case.record.is_paid, money_in(case.record)) == (0, False, 0)
    after, run = case.ledger.state, case.run.index
    assert after.contribution(run, case.solver.peer).silent == (ended is SegmentPhase.SILENT)
    counts = after.verdicts(run)
    assert (counts.verified, counts.unsampled, counts.within) == (0, 0, 0)
    assert after.contribution(run, case.solver.peer).shares == 0
    if phase not in COMPARED:
        for peer, bond in bonds.items():
            assert (
                after.account(PeerId(peer)).balance >= before.account(PeerId(peer)).balance + bond
            )
    if not case.run.spec.is_exact:
        assert case.stake(case.solver) == STAKE, "without exact numerics nobody is fined"
    case.ledger.empty_blocks(case.record.due - after.height)
    commit = case.claimed.commit
    assert case.ledger.state.segment(run, commit.round, commit.stage, commit.seat) is None


REFUSED: dict[str, tuple[Reason, Callable[[Case], object]]] = {
    "of another round": (
        Reason.BAD_FIELD,
        lambda c: replace(demand(c, ACTIVATION), message=signed(c, replace(ACTIVATION, round=2))),
    ),
    "of another run": (
        Reason.BAD_FIELD,
        lambda c: replace(demand(c, GRADIENT), message=signed(c, replace(GRADIENT, run=2))),
    ),
    "of another seat": (
        Reason.BAD_FIELD,
        lambda c: replace(demand(c, GRADIENT), message=signed(c, replace(GRADIENT, destination=0))),
    ),
    "from before it began again": (
        Reason.BAD_FIELD,
        lambda c: demand(c, replace(GRADIENT, incarnation=INCARNATION - 1)),
    ),
    "from a later start": (
        Reason.BAD_FIELD,
        lambda c: demand(c, replace(GRADIENT, incarnation=INCARNATION + 1)),
    ),
    "signed by another peer": (
        Reason.BAD_SIGNATURE,
        lambda c: replace(demand(c, OFFER), message=signed(c, OFFER, c.ledger.keys[4])),
    ),
    "with a number altered": (
        Reason.BAD_SIGNATURE,
        lambda c: replace(demand(c, OFFER), message=replace(signed(c, OFFER), tokens=1)),
    ),
    "with a short signature": (
        Reason.BAD_FIELD,
        lambda c: replace(demand(c, OFFER), message=replace(signed(c, OFFER), signature=b"short")),
    ),
    "of too many bytes": (
        Reason.BAD_FIELD,
        lambda c: demand(c, replace(GRADIENT, wire=bytes(1_000))),
    ),
    "about a seat without a commit": (
        Reason.UNKNOWN_SEGMENT,
        lambda c: replace(demand(c, GRADIENT), seat=2),
    ),
    "about a run that is not": (
        Reason.UNKNOWN_SEGMENT,
        lambda c: replace(demand(c, GRADIENT), run=2),
    ),
    "about a stage that is not": (
        Reason.UNKNOWN_SEGMENT,
        lambda c: replace(demand(c, GRADIENT), stage=StageIndex(9)),
    ),
}


@pytest.mark.rule("L105")
@pytest.mark.parametrize("what", REFUSED)
def test_a_demand_of_what_was_not_signed_for_this_is_refused(what: str) -> None:
    reason, make = REFUSED[what]
    case = a_sender()
    assert case.refused(asker(case), make(case)) is reason  # type: ignore[arg-type]


@pytest.mark.rule("L105")
def test_an_empty_list_is_not_demanded_since_it_proves_all_lies_by_itself() -> None:
    case = a_sender(())
    assert case.refused(asker(case), demand(case, GRADIENT)) is Reason.BAD_FIELD


@pytest.mark.rule("L105")
def test_who_has_neither_a_seat_nor_a_stake_demands_nothing_and_nor_does_the_solver() -> None:
    case = a_sender()
    free = case.ledger.keys[9]
    case.submit(asker(case), Transfer(free.peer, Amount(10_000)))
    assert case.refused(free, demand(case, GRADIENT)) is Reason.WRONG_PEER
    assert case.refused(case.solver, demand(case, GRADIENT)) is Reason.WRONG_PEER


@pytest.mark.rule("L105")
def test_who_sits_in_the_round_may_demand_without_a_stake() -> None:
    case = a_sender(num_validators=1)
    owner = case.ledger.keys[0]  # it sits in the other stage
    stakeless(case, owner)
    ask(case, owner, GRADIENT)
    assert case.record.demands


@pytest.mark.rule("L105")
def test_who_cannot_pay_the_bond_demands_nothing() -> None:
    case = a_sender(num_validators=1)
    key, params = asker(case), case.ledger.state.params
    wanted = sufficient_fee(params, demand(case, GRADIENT)) + bond_in(case)
    left = case.balance(key) - sufficient_fee(params, Transfer(case.solver.peer, Amount(1 << 20)))
    case.submit(key, Transfer(case.solver.peer, Amount(left - wanted + 1)))
    assert case.balance(key) == wanted - 1
    assert case.refused(key, demand(case, GRADIENT)) is Reason.BALANCE


@pytest.mark.rule("L106")
def test_what_shows_nothing_is_refused_and_an_answer_is_taken_once() -> None:
    case = a_sender()
    ask(case, asker(case), GRADIENT)
    good = answer(case)
    bad = {
        "another place": replace(good, opening=open_at(SENT, 0)),
        "another list": replace(good, opening=open_at((*SENT, microbatch(9, 9)), 2)),
        "no such demand": replace(good, demand=1),
        "a path too long": replace(good, opening=replace(good.opening, paths=((bytes(32),) * 16,))),
        "another segment": replace(good, round=RoundIndex(2)),
    }
    reasons = {what: case.refused(case.solver, body) for what, body in bad.items()}
    assert reasons == {
        "another place": Reason.BAD_PROOF,
        "another list": Reason.BAD_PROOF,
        "no such demand": Reason.UNKNOWN_SEGMENT,
        "a path too long": Reason.BAD_FIELD,
        "another segment": Reason.UNKNOWN_SEGMENT,
    }
    case.submit(case.solver, good)
    assert case.refused(case.solver, good) is Reason.DUPLICATE


@pytest.mark.rule("L105")
def test_what_was_demanded_is_not_demanded_again() -> None:
    case = a_sender()
    ask(case, asker(case), GRADIENT)
    assert case.refused(case.ledger.keys[0], demand(case, GRADIENT)) is Reason.DUPLICATE
    case.submit(case.solver, answer(case))
    assert case.refused(case.ledger.keys[0], demand(case, GRADIENT)) is Reason.DUPLICATE


@pytest.mark.rule("L107")
def test_demands_and_complaints_at_once_fine_a_solver_once() -> None:
    case, victim = unserved()
    with_list(case)
    before, record = money(case, case.solver), case.record
    fine = silence_fine(case.ledger.state.params, EXACT, record)
    keys = [key for key in case.able if key.peer != victim.peer]
    ask(case, keys[0], GRADIENT)
    complain(case, victim)
    bear_witness(case, witnesses(case), is_served=False)
    ask(case, keys[1], OFFER)
    case.wait(SegmentPhase.SILENT)
    after = money(case, case.solver)
    assert fine - FEES <= before - after <= fine, "it leads some of the blocks"
    assert money_in(case.record) == 0
    case.ledger.empty_blocks(15)
    assert money(case, case.solver) == after
    work = case.ledger.state.contribution(case.run.index, case.solver.peer)
    assert work.silent == 1


@pytest.mark.rule("L107")
def test_pay_that_was_moved_away_is_fined_besides() -> None:
    """A liar that is paid before it is asked sends its money to a friend: its stake is there."""
    case = with_list(verified())
    reward, friend = case.record.reward, case.ledger.keys[4]
    left = 40
    case.submit(case.solver, Transfer(friend.peer, Amount(case.balance(case.solver) - left)))
    before = money(case, case.solver)
    fine = silence_fine(case.ledger.state.params, EXACT, case.record)
    ask(case, asker(case), OFFER)
    run_out(case)
    assert is_silent(case)
    assert before - money(case, case.solver) == fine + reward


@pytest.mark.rule("L105", "L107")
def test_a_demand_in_the_last_block_of_the_challenge_window_keeps_record_and_stake() -> None:
    case = a_sender(num_validators=1)
    case.wait(SegmentPhase.SEALED)
    case.submit(case.solver, case.claimed.reveal())
    end = challenge_end(case.record, EXACT)
    case.ledger.empty_blocks(end - 3 - case.ledger.state.height)
    case.submit(case.solver, Unstake(Amount(STAKE)))
    ask(case, asker(case), OFFER)
    late = demand_end(EXACT, case.ledger.state.height)
    assert case.record.due == late + 1 > end
    parts = case.ledger.state.account(case.solver.peer).unbonding
    assert all(part.release_height > late for part in parts)
    case.ledger.block()
    assert case.refused(case.ledger.keys[0], demand(case, GRADIENT)) is Reason.EXPIRED
    case.ledger.empty_blocks(late - 1 - case.ledger.state.height)
    assert case.is_now(SegmentPhase.UNSAMPLED)
    case.ledger.block()
    assert is_silent(case)


@pytest.mark.rule("L47", "L107")
def test_after_a_run_is_settled_its_owner_has_the_pay_of_who_is_silent() -> None:
    case = with_list(verified(replace(EXACT, rounds=3)))
    run = case.ledger.state.run(case.run.index)
    case.ledger.reach_round(run, 3 + SETTLE_ROUNDS)
    while case.ledger.state.run(run.index).phase is not RunPhase.SETTLED:
        case.ledger.block()
    owner = case.ledger.key_of(run.owner)
    before, reward = case.balance(owner), case.record.reward
    ask(case, asker(case), OFFER)
    run_out(case)
    assert is_silent(case)
    assert case.balance(owner) - before >= reward
    assert money_in(case.record) == 0


@pytest.mark.rule("L87", "L105")
def test_the_bond_of_a_demand_goes_back_where_a_network_begins_anew() -> None:
    case = a_sender()
    key = asker(case)
    ask(case, key, OFFER)
    state = case.ledger.state
    made = restart(case.ledger.genesis, state, [case.ledger.keys[0].peer])
    new = genesis_state(made.genesis)
    assert new.supply == state.supply
    assert new.account(key.peer).balance == state.account(key.peer).balance + bond_in(case)


# --- attacks ---


@pytest.mark.rule("L107", "L44")
def test_attack_a_friends_demand_does_not_save_a_liar_from_its_verdict() -> None:
    """It would lose three rewards for its silence, and its stake by the verdict."""
    case = with_list(disputed())
    ask(case, case.ledger.keys[3], OFFER)
    run_out(case)
    assert case.is_now(SegmentPhase.DISPUTED)
    assert case.record.demands[0].is_open
    case.move(case.solver, b"next")
    case.move(case.accuser, b"guilty")
    assert case.is_now(SegmentPhase.GUILTY)
    assert case.stake(case.solver) == 0
    assert money_in(case.record) == 0


def compared(case: Case, end: int) -> None:
    """Let answers be waited for until a height, as in a run with longer rounds."""
    draft = Draft(case.ledger.state, case.solver.peer)
    draft.put_segment(replace(case.record, reveals_end=Height(end), due=Height(end)))
    name = digest("compared", case.ledger.head.digest)
    case.ledger.head = dataclasses.replace(case.ledger.head, state=draft.finish(), digest=name)


@pytest.mark.rule("L107")
@pytest.mark.parametrize("make", [revealed, reported], ids=lambda make: make.__name__)
def test_attack_silence_while_answers_are_compared_ends_nothing_before_they_are(
    make: Callable[[], Case],
) -> None:
    case = with_list(make())
    ask(case, asker(case), OFFER)
    end = case.record.demands[0].end
    compared(case, end + 3)
    case.ledger.empty_blocks(end - case.ledger.state.height)
    assert case.phase in COMPARED
    assert case.record.demands[0].end == demand_end(EXACT, end), "its time begins again"
    case.wait(SegmentPhase.SILENT)


@pytest.mark.rule("L105", "L106")
def test_attack_a_friend_that_demands_first_where_the_list_is_right_hides_no_lie() -> None:
    """Of one place there may be two demands: who was sent something else demands that."""
    case = a_sender()
    ask(case, case.ledger.keys[0], GRADIENT)
    case.submit(case.solver, answer(case))
    ask(case, asker(case), other(GRADIENT))
    run_out(case)
    assert is_silent(case)


@pytest.mark.rule("L106")
def test_attack_a_list_that_has_one_place_twice_shows_one_lie_and_is_convicted_by_the_next() -> (
    None
):
    """Two partners hold two fragments for one exchange, and the list has both."""
    second = replace(SENT[5], up=said_in(other(OFFER)))
    twice = (*SENT, second)
    case = a_sender(twice)
    ask(case, asker(case), OFFER)
    case.submit(case.solver, replace(answer(case, SENT), opening=open_at(twice, 5)))
    assert case.is_now(SegmentPhase.POSTED)
    ask(case, case.ledger.keys[0], other(OFFER))
    case.submit(case.solver, replace(answer(case, SENT), opening=open_at(twice, 6)))
    assert case.is_now(SegmentPhase.GUILTY)


@pytest.mark.rule("L105")
def test_attack_one_friend_cannot_take_the_places_of_all_others() -> None:
    case = a_sender(num_accounts=6)
    friend, victim = case.ledger.keys[4], case.ledger.keys[5]
    ask(case, friend, ACTIVATION)
    assert case.refused(friend, demand(case, GRADIENT)) is Reason.FULL
    case.submit(case.solver, answer(case))
    ask(case, friend, GRADIENT)
    case.submit(case.solver, answer(case))
    assert len(case.record.demands) == DEMANDS_EACH_MAX
    assert case.refused(friend, demand(case, OFFER)) is Reason.FULL
    ask(case, victim, other(OFFER))


@pytest.mark.rule("L105")
def test_attack_a_flood_of_demands_is_bounded_and_costs_its_senders_all_their_bonds() -> None:
    wanted = DEMANDS_OPEN_MAX + 4  # the owner, the solver, and room for two more
    sent = tuple(microbatch(step, 0) for step in range(wanted))
    case = a_sender(sent, num_accounts=wanted)
    keys = [key for key in case.able if key != case.solver]
    messages = [replace(GRADIENT, step=e.second, microbatch=0, wire=e.down) for e in sent]
    rich = case.balance(case.solver)
    before = [case.balance(key) for key in keys]
    asked = [(key, demand(case, one)) for key, one in zip(keys, messages, strict=False)]
    together(case, asked[:DEMANDS_OPEN_MAX])
    assert len(case.record.demands) == DEMANDS_OPEN_MAX < DEMANDS_MAX
    assert case.refused(*asked[DEMANDS_OPEN_MAX]) is Reason.FULL
    numbers = range(DEMANDS_OPEN_MAX)
    together(case, [(case.solver, answer(case, sent, number)) for number in numbers])
    assert case.is_now(SegmentPhase.POSTED)
    assert case.balance(case.solver) >= rich, "who is asked pays nothing"
    lost = [old - case.balance(key) for old, key in zip(before, keys, strict=True)]
    least = bond_in(case) - FEES  # who leads has the fees of all others
    assert all(one > least for one in lost[4:DEMANDS_OPEN_MAX])
    case.submit(*asked[DEMANDS_OPEN_MAX])


@pytest.mark.rule("L106")
def test_attack_demands_while_a_solver_is_away_cost_it_nothing_if_anybody_has_its_list() -> None:
    """It served its list once: whoever has it shows it."""
    case = with_list(verified())
    ask(case, asker(case), OFFER)
    case.submit(case.ledger.keys[0], answer(case))
    case.ledger.empty_blocks(15)
    assert case.is_now(SegmentPhase.VERIFIED)


@pytest.mark.rule("L107")
def test_attack_a_liar_whose_friend_demands_its_list_loses_more_than_the_lie_has_earned() -> None:
    """Of the fine the friend gets the part of an accuser; most of it is burned."""
    case = a_sender(num_accounts=6, num_validators=1)
    friend, reward = case.ledger.keys[4], case.record.reward
    before = money(case, case.solver) + money(case, friend)
    ask(case, friend, other(OFFER))
    run_out(case)
    assert is_silent(case)
    lost = before - money(case, case.solver) - money(case, friend)
    assert lost > reward, "and it is not paid besides"


@pytest.mark.rule("L107")
def test_attack_who_is_away_for_a_round_loses_one_segment_and_keeps_seat_and_stake() -> None:
    case = a_sender()
    ask(case, asker(case), ACTIVATION)
    run_out(case)
    run = case.ledger.state.run(case.run.index)
    assert any(seat.peer == case.solver.peer for row in run.seats for seat in row)
    assert case.stake(case.solver) == STAKE, "the fine comes from its balance first"
    assert case.refused(case.solver, Join(run.index)) is not Reason.BARRED


@pytest.mark.rule("L28", "L29", "L106")
def test_one_answer_to_each_demand_waits_for_a_block_and_comes_before_all_that_pay() -> None:
    case = a_sender()
    ask(case, asker(case), ACTIVATION)
    pool, ledger = Mempool(), case.ledger
    data = ledger.sign(case.solver, answer(case))
    assert pool.add(data, ledger.state)
    assert not pool.add(data, ledger.state)
    paid = ledger.sign(ledger.keys[0], demand(case, GRADIENT))
    assert pool.add(paid, ledger.state)
    taken = pool.take(ledger.state, leader=ledger.keys[0].peer, beta=bytes(64))
    assert taken == (data, paid)


@pytest.mark.rule("L107")
def test_while_a_segment_is_sealed_silence_ends_it_as_if_nothing_were_shown() -> None:
    """Who has answered blind has worked, and is paid for it first."""
    case = with_list(sealed())
    worker = case.record.checks[0].peer
    key = next(key for key in case.able if key.peer != worker)
    before, bond = case.ledger.state.account(worker).balance, bonds_of(case)[worker]
    fine = silence_fine(case.ledger.state.params, EXACT, case.record)
    ask(case, key, OFFER)
    case.wait(SegmentPhase.SILENT)
    assert case.ledger.state.account(worker).balance >= before + bond + min(bond, fine)
    assert money_in(case.record) == 0
