"""A segment is checked blind, then openly, and silence at any point ends it without holding anybody up."""

import contextlib
import random

import pytest

from swarm.errors import InvalidStatement, Reason
from swarm.ledger.chain import header_alpha
from swarm.ledger.mempool import Mempool
from swarm.ledger.state.records import UNDEALT, CheckPhase, SegmentPhase, SegmentRecord
from swarm.ledger.state.state import State, audit_supply, decode_state, encode_state
from swarm.ledger.transactions import Body, Join
from swarm.ledger.transition.hearings import silence_blocks
from swarm.ledger.transition.prices import CHECKS_MAX, request_bond
from swarm.ledger.transition.runs import SETTLE_ROUNDS
from swarm.ledger.transition.sampling import deal_windows, redraw_blocks
from swarm.primitives import vrf
from swarm.primitives.codec import replace
from swarm.primitives.crypto import SecretKey, digest
from swarm.testing.ledger import STAKE, CheckedSegment, InMemoryLedger, make_segment
from swarm.types import RoundIndex, View
from tests.ledger.checking import EXACT, SOLVER, Case, a_case, true_move
from tests.ledger.scripted import scripted_court

ROUND = EXACT.round_blocks


def work(case: Case, number: int) -> tuple[int, int, int, int, int]:
    """verified, failed, silent, checked, missed."""
    found = case.ledger.state.contribution(case.run.index, case.ledger.keys[number].peer)
    return found.verified, found.failed, found.silent, found.checked, found.missed


def phases(case: Case) -> list[CheckPhase]:
    return [check.phase for check in case.record.checks]


@pytest.mark.rule("L38", "L41")
def test_the_honest_path_ends_verified_and_paid() -> None:
    case = a_case(num_steps=25)
    escrow, per_check = case.ledger.state.run(case.run.index).escrow, case.record.check_pay
    assert case.record.reserved == CHECKS_MAX * per_check
    case.draw_verifiers()
    windows = case.ask(case.able)
    assert (len(windows), case.phase) == (2, SegmentPhase.SAMPLED)
    case.seal(windows)
    assert case.is_now(SegmentPhase.SEALED)
    before = case.balance(case.solver)
    case.submit(case.solver, case.claimed.reveal())
    assert (case.phase, len(case.record.claims)) == (SegmentPhase.REVEALED, 3)
    case.show(windows)
    assert case.is_now(SegmentPhase.VERIFIED)
    assert phases(case) == [CheckPhase.AGREED] * 2
    assert (case.record.held, case.record.is_paid) == (0, True)
    assert case.balance(case.solver) >= before + 5
    left = (CHECKS_MAX - len(windows)) * per_check
    assert case.ledger.state.run(case.run.index).escrow == escrow + left
    assert (work(case, 1), work(case, 2)) == ((1, 0, 0, 0, 0), (0, 0, 0, 1, 0))
    assert case.claimed.commit.tokens // 1000 == case.record.reward == 5


def test_it_takes_little_more_than_a_round() -> None:
    case = a_case()
    height = case.record.height
    windows = case.up_to_reveal()
    case.show(windows)
    assert case.ledger.state.height - height <= 2 * ROUND + redraw_blocks(EXACT)


@pytest.mark.rule("L38", "S17")
def test_the_solver_shows_nothing_before_the_blind_answers_are_in() -> None:
    case = a_case()
    reveal = case.claimed.reveal()
    assert case.refused(case.solver, reveal) is Reason.WRONG_PHASE
    case.draw_verifiers()
    assert case.refused(case.solver, reveal) is Reason.WRONG_PHASE
    windows = case.ask(case.able)
    assert case.refused(case.solver, reveal) is Reason.WRONG_PHASE
    case.submit(
        case.able[0],
        case.true.blind(case.ledger.state, case.able[0].peer, windows[case.able[0].peer]),
    )
    assert case.refused(case.solver, reveal) is Reason.WRONG_PHASE
    case.seal({case.able[1].peer: windows[case.able[1].peer]})
    case.submit(case.solver, reveal)


@pytest.mark.rule("L38")
def test_no_blind_answer_is_taken_after_the_solver_was_told_to_show() -> None:
    case = a_case()
    case.draw_verifiers()
    (one, two), windows = case.able, case.ask(case.able)
    case.submit(one, case.true.blind(case.ledger.state, one.peer, windows[one.peer]))
    late = case.true.blind(case.ledger.state, two.peer, windows[two.peer])
    case.wait(SegmentPhase.SEALED)
    assert case.record.checks[1].phase is CheckPhase.MISSED
    assert case.refused(two, late) is Reason.WRONG_PHASE
    case.submit(case.solver, case.claimed.reveal())
    assert case.refused(two, late) is Reason.WRONG_PHASE
    case.show({one.peer: windows[one.peer]})
    assert case.is_now(SegmentPhase.VERIFIED)
    assert work(case, 3) == (0, 0, 0, 0, 1)


@pytest.mark.rule("L41", "S17")
def test_an_answer_is_shown_as_it_was_given_blind_by_who_gave_it_and_once() -> None:
    case = a_case(num_steps=25)
    windows = case.up_to_reveal()
    one, two = case.able
    mine = case.true.shown(case.ledger.state, one.peer, windows[one.peer])
    other = (windows[one.peer] + 1) % 3
    for wrong in (
        replace(mine, salt=bytes(16)),
        replace(mine, claim=bytes(32)),
        replace(mine, check=1),
        replace(mine, claim=case.true.results[other].claim),
    ):
        assert case.refused(one, wrong) is Reason.BAD_PROOF
    copied = case.true.shown(case.ledger.state, two.peer, windows[two.peer])
    copied = replace(copied, salt=mine.salt)
    assert case.refused(two, copied) is Reason.BAD_PROOF, "a copy of another's answer"
    assert case.refused(two, replace(mine, check=2)) is Reason.WRONG_PEER
    same = case.record.claims[windows[one.peer]]
    assert case.refused(one, replace(mine, claim=same)) is Reason.BAD_FIELD, "one form only"
    case.submit(one, mine)
    assert case.refused(one, mine) is Reason.DUPLICATE


@pytest.mark.rule("L37")
def test_one_request_each_and_no_more_than_four() -> None:
    case = a_case(num_accounts=32)
    case.draw_verifiers()
    case.draw_verifiers()
    drawn = [
        (key, body)
        for attempt in (0, 1)
        for key in case.able
        if (body := case.claimed.request(case.ledger.state, key, attempt)) is not None
    ]
    once = dict(reversed(drawn))
    assert len(once) > CHECKS_MAX
    data = [case.ledger.sign(key, body) for key, body in once.items()]
    (first, body), *_ = once.items()
    case.ledger.block(*data[:CHECKS_MAX])
    assert len(case.record.checks) == CHECKS_MAX
    assert case.refused(first, body) is Reason.DUPLICATE
    with pytest.raises(InvalidStatement) as caught:
        case.ledger.block(data[CHECKS_MAX])
    assert caught.value.reason is Reason.FULL


@pytest.mark.rule("L37")
def test_requests_end_a_while_after_the_first() -> None:
    case = a_case()
    case.draw_verifiers()
    one, two = case.able
    case.request([one])
    late = case.claimed.request(case.ledger.state, two)
    assert late is not None
    case.ledger.empty_blocks(redraw_blocks(EXACT) - 1)
    assert case.refused(two, late) is Reason.WRONG_PHASE


@pytest.mark.rule("L118")
def test_windows_are_dealt_once_all_have_asked_and_no_two_have_the_same() -> None:
    case = a_case(num_accounts=32, num_steps=40)
    case.draw_verifiers()
    asked = case.drawn(case.able)[:3]
    bodies = [(key, case.claimed.request(case.ledger.state, key)) for key in asked]
    case.ledger.block(*(case.ledger.sign(key, body) for key, body in bodies if body is not None))
    assert [check.window for check in case.record.checks] == [UNDEALT] * 3
    first = asked[0]
    for window in range(4):
        early = case.true.blind(case.ledger.state, first.peer, window)
        assert case.refused(first, early) is Reason.WRONG_PHASE
    case.deal()
    assert case.ledger.state.height == case.record.checks[0].height + redraw_blocks(EXACT)
    windows: dict[bytes, int] = {check.peer: check.window for check in case.record.checks}
    assert len(set(windows.values())) == 3
    dealt = deal_windows(case.ledger.state.globals.beacon, case.record, 4, 3)
    assert tuple(windows.values()) == dealt, (
        "by the beacon of that block, which nobody knew who asked"
    )
    other = replace(early, window=(windows[first.peer] + 1) % 4)
    assert case.refused(first, other) is Reason.BAD_FIELD
    case.seal(windows)
    case.submit(case.solver, case.claimed.reveal())
    case.show(windows)
    assert case.is_now(SegmentPhase.VERIFIED)


@pytest.mark.rule("L118")
def test_attack_a_friend_that_asks_first_cannot_take_the_false_window() -> None:
    """Two windows, one of them false, a friend of the liar that asks first, and an honest verifier."""
    found = set[SegmentPhase]()
    for number in range(8):
        case = a_case(num_steps=20, lie=0, seed=digest("friend", bytes([number])))
        case.draw_verifiers()
        friend, honest = case.able
        windows = case.ask([friend, honest])
        assert set(windows.values()) == {0, 1}, "one of them looks where the lie is"
        case.seal({honest.peer: windows[honest.peer]})
        case.submit(case.solver, case.claimed.reveal())
        case.show({honest.peer: windows[honest.peer]})
        found.add(case.phase)
        is_found = windows[honest.peer] == 0
        assert case.is_now(SegmentPhase.DISPUTED if is_found else SegmentPhase.VERIFIED)
    assert found == {SegmentPhase.DISPUTED, SegmentPhase.VERIFIED}, (
        "the beacon decides, not who asked first"
    )


@pytest.mark.rule("L37")
def test_a_request_in_the_block_of_the_dice_is_too_early() -> None:
    case = a_case()
    case.draw_verifiers()
    probe = case.claimed.request(case.ledger.state, case.able[0])
    assert probe is not None
    early = a_case()
    assert early.refused(early.able[0], probe) is Reason.WRONG_PHASE
    early.ledger.block()
    assert early.refused(early.able[0], probe) is Reason.WRONG_PHASE


@pytest.mark.rule("L55")
def test_an_honest_verifier_gains_and_one_that_only_asks_loses_its_bond() -> None:
    case = a_case(num_validators=1)
    case.draw_verifiers()
    busy, idle = case.able
    before = [case.balance(key) for key in (busy, idle, case.solver)]
    windows = case.ask(case.able)
    bond = case.record.checks[0].bond
    assert bond == request_bond(case.ledger.state.params, case.record) > 0
    case.seal({busy.peer: windows[busy.peer]})
    case.submit(case.solver, case.claimed.reveal())
    case.show({busy.peer: windows[busy.peer]})
    case.wait(SegmentPhase.VERIFIED)
    after = [case.balance(key) for key in (busy, idle, case.solver)]
    gains = [b - a for a, b in zip(before, after, strict=True)]
    assert gains[0] > 0, "its pay is more than the fee of its request"
    assert gains[1] < -bond
    assert gains[2] == 5, "a solver that serves its friends only gains nothing by the others"
    assert case.ledger.state.globals.burned == bond


@pytest.mark.rule("L40", "L56", "S14")
def test_a_solver_that_shows_nothing_is_not_paid_and_fined_for_those_that_worked() -> None:
    case = a_case(num_validators=1)
    escrow, before = case.ledger.state.run(case.run.index).escrow, case.balance(case.solver)
    stake = case.stake(case.solver)
    case.draw_verifiers()
    case.seal(case.ask(case.able))
    record, verifiers = case.record, [case.balance(key) for key in case.able]
    height = case.ledger.state.height
    case.wait(SegmentPhase.SILENT)
    assert case.ledger.state.height - height == ROUND
    per_check, bond = record.check_pay, record.checks[0].bond
    assert case.ledger.state.run(case.run.index).escrow == escrow + 5 + record.reserved
    fine = max(2 * record.reward, bond)
    assert per_check <= fine == bond
    assert (work(case, 1), work(case, 2)) == ((0, 0, 1, 0, 0), (0, 0, 0, 0, 0))
    assert case.stake(case.solver) == stake, "it has the money, so its stake stays whole"
    assert case.balance(case.solver) == before - fine
    gains = [case.balance(key) - old for key, old in zip(case.able, verifiers, strict=True)]
    assert sum(gains) == 2 * bond + fine, "their bonds, and all of the fine"
    assert case.ledger.state.globals.burned == 0
    assert case.refused(case.solver, case.claimed.reveal()) is Reason.WRONG_PHASE


@pytest.mark.rule("L37", "L39")
def test_who_asks_and_says_nothing_more_may_ask_again_and_counts_for_nothing() -> None:
    case = a_case()
    for attempt in range(3):
        case.draw_verifiers()
        if attempt:
            again = case.claimed.request(case.ledger.state, case.able[0], attempt - 1)
            assert again is not None
            assert case.refused(case.able[0], again) is Reason.DUPLICATE, "not by the same draw"
        assert len(case.ask(case.able, attempt)) == 2, "who has missed its check may ask again"
    case.wait(SegmentPhase.SEALED)
    assert len(case.record.draws) == 3
    assert (work(case, 1), work(case, 2)) == ((0, 0, 0, 0, 0), (0, 0, 0, 0, 3))
    case.submit(case.solver, case.claimed.reveal())
    assert case.is_now(SegmentPhase.UNSAMPLED)


def test_another_verifier_saves_a_solver_from_one_that_only_asks() -> None:
    case = a_case()
    case.draw_verifiers()
    idle, busy = case.able
    case.ask([idle])
    case.draw_verifiers()
    windows = case.ask([busy], 1)
    case.seal(windows)
    case.submit(case.solver, case.claimed.reveal())
    case.show(windows)
    assert case.is_now(SegmentPhase.VERIFIED)
    assert phases(case) == [CheckPhase.MISSED, CheckPhase.AGREED]


@pytest.mark.rule("L41")
def test_verifiers_that_never_show_their_answers_leave_the_solver_paid() -> None:
    case = a_case()
    case.up_to_reveal()
    height = case.ledger.state.height
    case.wait(SegmentPhase.UNSAMPLED)
    assert case.ledger.state.height - height == ROUND
    assert case.record.is_paid
    assert (work(case, 1), work(case, 2)) == ((0, 0, 0, 0, 0), (0, 0, 0, 0, 1))
    late = case.true.shown(case.ledger.state, case.able[0].peer, 0)
    assert case.refused(case.able[0], late) is Reason.WRONG_PHASE


@pytest.mark.rule("L41")
def test_one_answer_is_enough() -> None:
    case = a_case()
    windows = case.up_to_reveal()
    case.show({case.able[0].peer: windows[case.able[0].peer]})
    assert case.is_now(SegmentPhase.REVEALED)
    case.wait(SegmentPhase.VERIFIED)
    assert phases(case) == [CheckPhase.AGREED, CheckPhase.MISSED]


@pytest.mark.rule("L39")
def test_a_segment_that_nobody_asked_for_is_paid_once_it_is_shown_by_its_solver() -> None:
    case = a_case()
    case.wait(SegmentPhase.SEALED)
    assert not case.record.checks
    guessed = case.claimed.reveal(salt=bytes(16))
    assert case.refused(case.able[0], guessed) is Reason.BAD_PROOF, "who has the salt is the solver"
    case.submit(case.solver, case.claimed.reveal())
    assert (case.phase, len(case.record.claims)) == (SegmentPhase.UNSAMPLED, 1)
    assert case.record.is_paid
    assert case.refused(case.solver, case.claimed.reveal()) is Reason.WRONG_PHASE


@pytest.mark.rule("L39")
def test_no_opening_no_pay() -> None:
    case = a_case()
    before = case.balance(case.solver)
    case.wait(SegmentPhase.SEALED)
    case.wait(SegmentPhase.SILENT)
    assert (case.record.is_paid, case.balance(case.solver)) == (False, before)
    assert work(case, 1) == (0, 0, 1, 0, 0)


def test_a_segment_is_checked_and_paid_after_its_run_is_settled() -> None:
    spec = replace(EXACT, rounds=3, round_blocks=3)
    case = a_case(spec)
    case.ledger.reach_round(case.run, 3)
    case.ledger.empty_blocks(4)
    case.claimed = case.true = make_segment(case.ledger, case.run, 2, 0, 1)
    case.submit(case.ledger.keys[SOLVER], case.claimed.commit)
    assert case.is_now(SegmentPhase.POSTED)
    case.ledger.reach_round(case.run, 3 + SETTLE_ROUNDS)
    owner = case.ledger.keys[0]
    if not case.record.draws:
        case.draw_verifiers()
    windows = case.ask(case.able)
    case.seal(windows)
    before = case.balance(owner)
    case.wait(SegmentPhase.SILENT)
    assert case.balance(owner) >= before + 5, "what is not earned goes to the owner"
    case.ledger.empty_blocks(spec.checks.challenge_window_blocks)
    assert case.ledger.state.live_segments() == ()


def test_the_live_segments_are_listed_until_their_window_has_passed() -> None:
    case = a_case()
    other = case.ledger.commit(case.run, 1, 1, 0)
    case.submit(case.ledger.keys[0], other)
    found = case.ledger.state.live_segments()
    assert case.ledger.state.live_segments() is found
    assert [(record.stage, record.seat) for record in found] == [(0, 1), (1, 0)]
    case.ledger.empty_blocks(EXACT.checks.challenge_window_blocks + 1)
    assert case.ledger.state.live_segments() == ()
    assert case.ledger.state.segment(case.run.index, RoundIndex(1), other.stage, 0) is None
    assert audit_supply(case.ledger.state) == case.ledger.state.supply


@pytest.mark.parametrize("blocks", [0, 3, 6, 9, 12, 20])
def test_a_snapshot_taken_while_segments_are_checked_goes_on_alike(blocks: int) -> None:
    case = a_case()
    case.draw_verifiers()
    case.seal(case.ask(case.able)) if blocks > 3 else None
    case.submit(case.solver, case.claimed.reveal()) if blocks > 6 else None
    case.ledger.empty_blocks(blocks)
    state = case.ledger.state
    again = decode_state(encode_state(state))
    assert again.root == state.root
    assert again.live_segments() == state.live_segments()
    assert encode_state(again) == encode_state(state)


def test_nobody_speaks_about_a_segment_that_is_not_there() -> None:
    case = a_case()
    ghost = replace(case.claimed.report(case.able[0].peer, 0), seat=9)
    assert case.refused(case.able[0], ghost) is Reason.UNKNOWN_SEGMENT
    with pytest.raises(InvalidStatement) as caught:
        case.submit(case.solver, replace(case.claimed.reveal(), round=9))
    assert caught.value.reason is Reason.UNKNOWN_SEGMENT


JUDGED = {*SegmentPhase} - {*list(SegmentPhase)[:5]}
"""Phases of a segment in which no statement is missing."""


class Crowd:
    """Everybody says what may be said next, or what may not, or nothing; the keys in ``cheats`` lie."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.ledger = InMemoryLedger(8, 4)
        self.run = self.ledger.open_run(replace(EXACT, round_blocks=12, rounds=200))
        joins = [self.ledger.sign(self.ledger.keys[i], Join(self.run.index)) for i in (4, 5, 6)]
        self.ledger.block(*joins)
        self.cheats = {self.ledger.keys[i].peer for i in (5, 6, 7)}
        self.true: dict[tuple[int, ...], CheckedSegment] = {}
        self.claimed: dict[tuple[int, ...], CheckedSegment] = {}

    def turn(self) -> None:
        """One block of what somebody could think of, as far as it is valid."""
        pool, state = Mempool(), self.ledger.state
        live = [
            r for r in state.live_segments() if r.phase not in JUDGED or self.rng.random() < 0.02
        ]
        bodies = [
            (key, self.idea(key, self.rng.choice(live[:2]))) for key in self.ledger.keys[:8] if live
        ]
        for hidden in live[:3]:
            shown = self.claimed[hidden.round, hidden.stage, hidden.seat].reveal()
            bodies.append((self.ledger.key_of(hidden.peer), shown))
        for key, body in [*bodies, *self.commits()]:
            if body is not None and self.rng.random() < 0.9:
                with contextlib.suppress(InvalidStatement):
                    pool.add(self.ledger.sign(key, body), state)
        leader = self.ledger.keys[state.height % 4].peer
        self.ledger.block(*pool.take(state, leader=leader, beta=self.beta(leader)))
        assert audit_supply(self.ledger.state) == self.ledger.state.supply

    def beta(self, leader: bytes) -> bytes:
        alpha = header_alpha(self.ledger.state, View(self.ledger.state.height + 1))
        return vrf.output(vrf.prove(self.ledger.key_of(leader), alpha))

    def commits(self) -> list[tuple[SecretKey, Body]]:
        run, found = self.ledger.state.run(self.run.index), list[tuple[SecretKey, Body]]()
        seats = [(i.round, s) for i in run.rounds[-2:-1] for roster in i.seats for s in roster]
        for round_, seat in seats:
            segment_id = (round_, seat.stage, seat.index)
            if segment_id not in self.true:
                true = make_segment(self.ledger, run, *segment_id)
                does_cheat = seat.peer in self.cheats and self.rng.random() < 0.8
                self.true[segment_id], self.claimed[segment_id] = (
                    true,
                    true.with_lie(0) if does_cheat else true,
                )
            found.append((self.ledger.key_of(seat.peer), self.claimed[segment_id].commit))
        return found

    def idea(self, key: SecretKey, record: SegmentRecord) -> Body | None:
        segment_id = (record.round, record.stage, record.seat)
        true, claimed, state = self.true[segment_id], self.claimed[segment_id], self.ledger.state
        false = self.rng.choice([claimed, true.with_lie(0)])
        view = false if key.peer in self.cheats else true
        blind, shown = view.blind(state, key.peer, 0), view.shown(state, key.peer, 0)
        ideas: list[Body] = [blind, shown, *[shown if record.claims else blind] * 3]
        with contextlib.suppress(InvalidStatement, IndexError):
            body = true.request(state, key, self.rng.randrange(len(record.draws) + 1))
            ideas += [body] * 9 if body is not None else []
        if record.dispute is not None and key.peer in {record.peer, record.dispute.accuser}:
            is_lie = claimed.results != true.results
            return claimed.move(0, true_move(record, key.peer, is_lie=is_lie))
        if key.peer in self.cheats and self.rng.random() < 0.3:
            ideas.append(view.report(key.peer, 0))
        return self.rng.choice(ideas)


def count_open(state: State) -> int:
    return sum(record.phase not in JUDGED for record in state.live_segments())


@pytest.mark.rule("L4")
def test_whatever_is_said_money_is_conserved_and_honest_stakes_are_whole() -> None:
    """Whom the dice of a crowd convict is theirs to say: of all crowds together, some stand and some fall."""
    verified, failed = 0, 0
    for seed in range(8):
        with scripted_court():
            stood, fell = play_crowd(seed)
        verified, failed = verified + stood, failed + fell
    assert min(verified, failed) > 0


def play_crowd(seed: int) -> tuple[int, int]:
    """(segments that stood, segments proven false) after a crowd has said what it likes."""
    crowd = Crowd(seed)
    for _ in range(70):
        crowd.turn()
    state = crowd.ledger.state
    for key in crowd.ledger.keys[:8]:
        assert state.account(key.peer).stake == STAKE or key.peer in crowd.cheats
    assert decode_state(encode_state(state)).root == state.root
    params = state.params
    silence = silence_blocks(params.unbonding_epochs, params.epoch_blocks)
    crowd.ledger.empty_blocks(EXACT.checks.challenge_window_blocks + 40 + silence)
    state = crowd.ledger.state
    assert audit_supply(state) == state.supply
    assert not {record.phase for record in state.live_segments()} & {SegmentPhase.VERIFIED}, (
        "nobody says anything any more"
    )
    found = [state.contribution(crowd.run.index, key.peer) for key in crowd.ledger.keys[:8]]
    verdicts = state.verdicts(crowd.run.index)
    judged = verdicts.verified + verdicts.unsampled + verdicts.silent + verdicts.guilty
    assert judged + count_open(state) == state.run(crowd.run.index).num_segments
    assert (verdicts.guilty, len(verdicts.convictions)) == (sum(w.failed for w in found),) * 2
    return sum(w.verified for w in found), verdicts.guilty
