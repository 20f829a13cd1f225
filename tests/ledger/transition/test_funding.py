"""Shares follow verified work and nothing else; a run whose owner stopped goes on only by their majority."""

import pytest

from swarm.errors import InvalidStatement, Reason
from swarm.ledger.state.draft import Draft
from swarm.ledger.state.records import Checkpoint, Run, RunPhase, SegmentPhase
from swarm.ledger.state.state import State, audit_supply, decode_state, encode_state
from swarm.ledger.transactions import BackOwner, CloseRun, ContinueRun, FundRun, Join, PauseRun
from swarm.ledger.transition.funding import (
    CONTINUE_EPOCHS,
    back_owner,
    continue_end,
    continue_run,
    recent_rounds,
)
from swarm.ledger.transition.payments import expel
from swarm.ledger.transition.prices import run_deposit
from swarm.ledger.transition.runs import cross_boundaries
from swarm.primitives.codec import replace
from swarm.primitives.crypto import SecretKey
from swarm.testing.ledger import InMemoryLedger, small_run_spec
from swarm.types import Amount, Digest, Height, PeerId, RoundIndex
from tests.ledger.checking import SOLVER, Case, a_case

TOKENS = 5_000


def shares(state: State, case: Case, number: int = SOLVER) -> tuple[int, int]:
    """Return the shares of a key, and of all together."""
    index = case.run.index
    held = state.contribution(index, case.ledger.keys[number].peer).shares
    return held, state.run_shares(index).total


def verified(case: Case) -> SecretKey:
    """Let the segment of a case be verified, a lie by liars; return who has said nothing of it."""
    case.draw_verifiers()
    windows = case.ask(case.able[:2])
    case.seal(windows, case.claimed)
    case.submit(case.solver, case.claimed.reveal())
    case.show(windows, case.claimed)
    assert case.is_now(SegmentPhase.VERIFIED)
    return case.ledger.keys[5]


@pytest.mark.rule("L74")
def test_shares_are_the_tokens_that_were_verified_and_stay_when_the_segment_is_forgotten() -> None:
    case = a_case()
    assert shares(case.ledger.state, case) == (0, 0), "a commit alone is a claim"
    verified(case)
    assert shares(case.ledger.state, case) == (TOKENS, TOKENS)
    case.ledger.empty_blocks(80)
    state = case.ledger.state
    assert not any(record.peer == case.ledger.keys[SOLVER].peer for record in state.live_segments())
    assert shares(state, case) == (TOKENS, TOKENS)
    assert decode_state(encode_state(state)).root == state.root


@pytest.mark.rule("L74")
def test_work_that_nobody_checked_is_paid_and_gives_no_share() -> None:
    case = a_case()
    case.wait(SegmentPhase.SEALED)
    case.submit(case.solver, case.claimed.reveal())
    case.wait(SegmentPhase.UNSAMPLED)
    assert case.record.is_paid
    assert shares(case.ledger.state, case) == (0, 0)


@pytest.mark.rule("L74")
def test_a_conviction_voids_all_shares_and_what_waits_and_an_accusation_suspends_them() -> None:
    case = a_case(lie=0, num_accounts=6)
    reporter = verified(case)
    assert shares(case.ledger.state, case) == (TOKENS, TOKENS), "liars approved it"
    draft = Draft(case.ledger.state, case.ledger.keys[0].peer)
    draft.add_shares(case.run.index, case.solver.peer, 7)
    expel(draft, case.record)
    assert draft.contribution(case.run.index, case.solver.peer).shares == 0, "those of others, too"
    assert draft.run_shares(case.run.index).total == 0
    draft.put_segment(replace(case.record, phase=SegmentPhase.REVEALED))
    assert draft.contribution(case.run.index, case.solver.peer).shares == 0, "not taken twice"
    draft.put_segment(case.record)
    assert draft.contribution(case.run.index, case.solver.peer).shares == 0, "void for good"
    case.blow(reporter, 0)
    assert shares(case.ledger.state, case) == (0, 0), "its verdict is open again"
    case.decide(is_guilty=True)
    assert case.is_now(SegmentPhase.GUILTY)
    assert shares(case.ledger.state, case) == (0, 0)
    assert case.ledger.state.contribution(case.run.index, case.solver.peer).is_barred


@pytest.mark.rule("L74")
def test_whose_accuser_is_refuted_has_its_share_again() -> None:
    case = a_case(num_accounts=6)
    reporter = verified(case)
    case.blow(reporter, 0, case.true.with_lie(0))
    assert shares(case.ledger.state, case) == (0, 0)
    case.decide(is_guilty=False)
    assert case.is_now(SegmentPhase.VERIFIED)
    assert shares(case.ledger.state, case) == (TOKENS, TOKENS)


@pytest.mark.rule("L74", "L113")
def test_who_is_silent_when_accused_has_no_share_of_that_segment() -> None:
    case = a_case(num_accounts=6)
    case.blow(verified(case), 0, case.true.with_lie(0))
    case.fall_silent()
    assert shares(case.ledger.state, case) == (0, 0)


class Settled:
    """A draft on a settled run: keys 1, 2 and 3 hold 50, 30 and 20 shares; key 0 owned it."""

    def __init__(
        self, *, rounds: int = 6, closes: bool = True, has_checkpoints: bool = True
    ) -> None:
        self.ledger = ledger = InMemoryLedger()
        run = ledger.open_run(small_run_spec(rounds=rounds), escrow=50_000)
        ledger.reach_round(run, 2)
        if closes:
            ledger.block(ledger.sign(ledger.keys[0], CloseRun(run.index)))
        ledger.empty_blocks(200)
        self.index = run.index
        self.draft = draft = Draft(ledger.state, ledger.keys[0].peer)
        for number, held in ((1, 50), (2, 30), (3, 20)):
            draft.add_shares(run.index, self.peer(number), held)
        if has_checkpoints:
            draft.put_run(replace(self.run, checkpoints=(self.kept(),) * 2))

    @property
    def run(self) -> Run:
        """The run as it is now."""
        return self.draft.run(self.index)

    def peer(self, number: int) -> PeerId:
        """Return the peer of a key."""
        return self.ledger.keys[number].peer

    def kept(self) -> tuple[Checkpoint, ...]:
        """Return one checkpoint that stands."""
        root = Digest(bytes(32))
        return (Checkpoint(RoundIndex(2), root, 9, self.peer(0), 0, Height(9), is_void=False),)

    def back(self, number: int, other: int) -> None:
        """Let a holder back a peer."""
        back_owner(self.draft, self.peer(number), BackOwner(self.index, self.peer(other)))

    def go_on(self, number: int, escrow: int | None = None) -> Run:
        """Let a peer go on with the run."""
        least = run_deposit(self.draft.globals.params, self.run.spec)
        amount = Amount(least if escrow is None else escrow)
        continue_run(self.draft, self.peer(number), ContinueRun(self.index, amount))
        return self.run

    def refusal(self, number: int, escrow: int | None = None) -> Reason:
        """Return why a peer cannot go on with the run."""
        with pytest.raises(InvalidStatement) as refused:
            self.go_on(number, escrow)
        return refused.value.reason

    def at(self, height: int) -> None:
        """Let time pass."""
        self.draft.put_globals(replace(self.draft.globals, height=Height(height)))


@pytest.mark.rule("L76")
def test_more_than_half_of_the_shares_go_on_with_a_run_that_its_owner_closed() -> None:
    case = Settled()
    before = {number: case.draft.account(case.peer(number)).balance for number in range(4)}
    assert case.run.phase is RunPhase.SETTLED
    case.back(1, 3)
    assert case.refusal(3) is Reason.WRONG_PEER, "half is not more than half"
    case.back(2, 3)
    old, run = case.ledger.state.run(case.index), case.go_on(3, 9_000)
    assert (run.owner, run.phase, run.escrow) == (case.peer(3), RunPhase.OPEN, 9_000)
    assert (run.start_round, run.end_round, run.next_round) == (
        old.final_round,
        run.spec.rounds,
        old.final_round,
    )
    assert [[seat.peer for seat in roster] for roster in run.seats] == [[case.peer(3)]] * 2
    assert run.seats[0][0].index == old.next_seats[0], "an index is never used again"
    paid = [before[number] - case.draft.account(case.peer(number)).balance for number in range(4)]
    assert paid == [0, 0, 0, 9_000], "the old owner has kept its escrow, and pays nothing"
    assert case.index in case.draft.globals.active_runs
    state = case.draft.finish()
    assert audit_supply(state) == state.supply


@pytest.mark.rule("L76")
def test_the_run_trains_on_from_its_next_round_under_the_new_owner() -> None:
    case = Settled()
    case.back(1, 3)
    case.back(2, 3)
    run = case.go_on(3)
    case.at(run.start_height)
    cross_boundaries(case.draft)
    run = case.run
    assert run.phase is RunPhase.TRAINING
    assert [(info.round, info.consensus) for info in run.rounds] == [(run.start_round, -1)]


@pytest.mark.rule("L76")
def test_a_minority_or_a_stranger_cannot_take_a_run_however_often_it_says_so() -> None:
    case = Settled()
    case.back(2, 2)
    case.back(3, 2)
    assert case.draft.backing(case.index, case.peer(2)) == 50
    assert case.refusal(2) is Reason.WRONG_PEER
    for again in (2, 3):
        with pytest.raises(InvalidStatement) as refused:
            case.back(again, 2)
        assert refused.value.reason is Reason.DUPLICATE
    case.back(3, 3)
    case.back(3, 2)
    assert case.draft.backing(case.index, case.peer(2)) == 50, "each share counts once"
    assert case.draft.backing(case.index, case.peer(3)) == 0
    with pytest.raises(InvalidStatement) as refused:
        case.back(9, 2)
    assert refused.value.reason is Reason.WRONG_PEER, "free keys hold no share"


@pytest.mark.rule("L75", "L76")
def test_the_shares_of_who_is_convicted_back_nobody() -> None:
    case = Settled()
    case.back(1, 3)
    case.back(2, 3)
    case.draft.add_shares(case.index, case.peer(1), -50)
    assert case.draft.backing(case.index, case.peer(3)) == 30
    assert case.draft.run_shares(case.index).total == 50
    case.go_on(3)


@pytest.mark.rule("L76")
def test_no_money_of_the_old_owner_comes_into_the_hands_of_the_new_one() -> None:
    """As long as a segment of the old run can be voided, what it earned would go to the new escrow."""
    case = Settled()
    case.back(1, 3)
    case.back(2, 3)
    run = case.run
    oldest = recent_rounds(run)[-1]
    assert recent_rounds(run) == list(range(run.final_round, oldest - 1, -1))
    other = InMemoryLedger()
    some = other.reach_round(other.open_run(small_run_spec()), 1).rounds[-1]
    info = replace(some, round=oldest)
    case.draft.put_round(case.index, info, Height(case.draft.height + 5))
    assert case.refusal(3) is Reason.WRONG_PHASE
    case.draft.drop_round(case.index, oldest)
    case.go_on(3)


@pytest.mark.rule("L76")
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("late", Reason.EXPIRED),
        ("barred", Reason.BARRED),
        ("poor", Reason.BALANCE),
        ("no stake", Reason.STAKE),
        ("too little", Reason.BALANCE),
    ],
)
def test_who_goes_on_has_what_any_owner_has_and_comes_in_time(change: str, reason: Reason) -> None:
    case = Settled()
    case.back(1, 3)
    case.back(2, 3)
    draft, me = case.draft, case.peer(3)
    account, escrow = draft.account(me), None
    match change:
        case "late":
            case.at(continue_end(draft, case.run))
        case "barred":
            work = draft.contribution(case.index, me)
            draft.put_contribution(case.index, me, replace(work, is_barred=True))
        case "poor":
            draft.put_account(me, replace(account, balance=Amount(1)))
        case "no stake":
            draft.put_account(me, replace(account, stake=Amount(1)))
        case _:
            escrow = 1
    assert case.refusal(3, escrow) is reason


@pytest.mark.rule("L76")
def test_a_run_that_is_open_complete_or_without_a_model_is_nobodys_to_go_on_with() -> None:
    whole = Settled(closes=False)
    with pytest.raises(InvalidStatement) as refused:
        whole.back(1, 3)
    assert refused.value.reason is Reason.WRONG_ROUND, "it has trained all its rounds"
    with pytest.raises(InvalidStatement) as refused:
        Settled(has_checkpoints=False).back(1, 3)
    assert refused.value.reason is Reason.WRONG_START, "nobody begins from nothing under its name"
    case = Settled()
    case.back(1, 3)
    case.back(2, 3)
    case.go_on(3)
    for again in (case.refusal(3), case.refusal(1)):
        assert again is Reason.WRONG_PHASE


@pytest.mark.rule("L76")
def test_what_holders_said_counts_for_one_time() -> None:
    case = Settled()
    case.back(1, 3)
    case.back(2, 3)
    run = case.go_on(3)
    assert case.draft.run_shares(case.index).turn == 1
    case.draft.put_run(replace(run, phase=RunPhase.SETTLED, end_round=run.start_round))
    assert case.draft.backing(case.index, case.peer(3)) == 0
    assert case.refusal(3) is Reason.WRONG_PEER
    case.draft.add_shares(case.index, case.peer(1), 9)
    assert case.draft.backing(case.index, case.peer(3)) == 0, "new shares of an old backer neither"
    case.back(1, 1)
    assert case.draft.backing(case.index, case.peer(1)) == 59


@pytest.mark.rule("L77")
def test_an_owner_adds_to_its_escrow_and_nobody_else_gives_it_a_gift() -> None:
    ledger = InMemoryLedger()
    run = ledger.open_run(small_run_spec(rounds=30), escrow=20_000)
    ledger.block(
        ledger.sign(ledger.keys[0], FundRun(run.index, Amount(500))),
        ledger.sign(ledger.keys[1], Join(run.index)),
    )
    assert ledger.state.run(run.index).escrow == 20_500
    assert audit_supply(ledger.state) == ledger.state.supply
    case = Case(ledger, run, None, None)  # type: ignore[arg-type]
    assert case.refused(ledger.keys[1], FundRun(run.index, Amount(5))) is Reason.WRONG_PEER
    assert case.refused(ledger.keys[0], FundRun(run.index, Amount(1 << 50))) is Reason.BALANCE
    assert case.refused(ledger.keys[1], BackOwner(run.index, ledger.keys[1].peer)) is (
        Reason.WRONG_PHASE
    )
    assert case.refused(ledger.keys[1], ContinueRun(run.index, Amount(5))) is Reason.WRONG_PHASE
    ledger.reach_round(run, 1)
    ledger.block(ledger.sign(ledger.keys[0], PauseRun(run.index)))
    ledger.empty_blocks(6)
    ledger.block(ledger.sign(ledger.keys[0], FundRun(run.index, Amount(1))))
    assert CONTINUE_EPOCHS == 1_000
