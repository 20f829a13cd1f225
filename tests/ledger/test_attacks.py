"""Attacks on the money, played on real blocks: none of them pays."""

import pytest

from swarm.config.spec import GenesisAccount
from swarm.errors import InvalidStatement, Reason
from swarm.ledger.check_statements import DataRequest
from swarm.ledger.state.records import CheckPhase, SegmentPhase
from swarm.ledger.transactions import Join, PostCheckpoint, Stake
from swarm.ledger.transition.prices import request_bond
from swarm.ledger.transition.sampling import prove_draw
from swarm.ledger.transition.seats import seats_of
from swarm.primitives.codec import encode, replace
from swarm.primitives.crypto import SecretKey, digest
from swarm.primitives.merkle import merkle_proof
from swarm.primitives.state_parts import PHI
from swarm.testing.ledger import (
    BALANCE,
    STAKE,
    CheckedSegment,
    end_components,
    make_segment,
    numbered_key,
)
from swarm.types import Amount, RoundIndex
from tests.ledger.checking import SOLVER, Case, a_case

FEES = 20
"""More than the fees of one peer's statements about one segment."""
SEEDS = 200
"""Networks that are tried until the draws of one are as a test needs them."""


def money(case: Case, *keys: SecretKey) -> int:
    """All that these keys have, together."""
    accounts = [case.ledger.state.account(key.peer) for key in keys]
    unbonding = sum(part.amount for account in accounts for part in account.unbonding)
    return sum(account.balance + account.stake for account in accounts) + unbonding


def escrow(case: Case) -> int:
    return case.ledger.state.run(case.run.index).escrow


def ask_all(case: Case, keys: list[SecretKey]) -> dict[bytes, int] | None:
    """All of these ask in one block after the last draw, and are dealt windows; None if one was never drawn."""
    for _ in range(3):
        case.draw_verifiers()
    bodies = dict[SecretKey, DataRequest]()
    for key in keys:
        found = (case.claimed.request(case.ledger.state, key, attempt) for attempt in range(3))
        drawn = next((body for body in found if body is not None), None)
        if drawn is None:
            return None
        bodies[key] = drawn
    case.ledger.block(*(case.ledger.sign(key, body) for key, body in bodies.items()))
    case.deal()
    return {check.peer: check.window for check in case.record.checks}


def all_drawn(
    numbers: tuple[int, ...],
    *,
    lie: int | None = None,
    num_steps: int = 10,
    num_accounts: int = 6,
    num_validators: int = 4,
) -> tuple[Case, dict[bytes, int]]:
    """A segment of which these keys are verifiers and have asked, and their windows."""
    for seed in range(SEEDS):
        case = a_case(
            lie=lie,
            num_steps=num_steps,
            num_accounts=num_accounts,
            num_validators=num_validators,
            seed=digest("attacks", seed.to_bytes(2, "big")),
        )
        windows = ask_all(case, [case.ledger.keys[number] for number in numbers])
        if windows is not None and (lie is None or set(windows.values()) >= {lie}):
            return case, windows
    raise AssertionError(f"in {SEEDS} networks {numbers} were never drawn together")


def with_stakes(stakes: list[int]) -> tuple[GenesisAccount, ...]:
    """Accounts of the first keys, with these stakes."""
    peers = [numbered_key(number).peer for number in range(len(stakes))]
    accounts = zip(peers, stakes, strict=True)
    return tuple(GenesisAccount(p, BALANCE, Amount(s)) for p, s in sorted(accounts))


@pytest.mark.rule("L36", "L54")
def test_dust_verifiers_are_drawn_for_nothing_and_decide_nothing() -> None:
    """1% of all stake in 40 accounts of one unit each."""
    stakes = [STAKE] * 4 + [1] * 40
    case = a_case(num_accounts=len(stakes), accounts=with_stakes(stakes))
    dust = [numbered_key(number) for number in range(4, 44)]
    case.draw_verifiers()
    before, c = money(case, *dust), case.claimed.commit
    for key in dust:
        proof = prove_draw(key, case.ledger.state.chain, case.record.draws[0])
        body = DataRequest(
            run=c.run, round=c.round, stage=c.stage, seat=c.seat, attempt=0, proof=proof
        )
        assert case.refused(key, body) is Reason.STAKE
    honest = [key for key in case.able if case.stake(key) >= STAKE]
    windows = case.ask(honest)
    case.seal(windows)
    case.submit(case.solver, case.claimed.reveal())
    case.show(windows)
    assert case.is_now(SegmentPhase.VERIFIED)
    assert case.refused(dust[0], case.true.with_lie(0).report(dust[0].peer, 0)) is Reason.STAKE
    assert money(case, *dust) == before


@pytest.mark.rule("L35", "L44", "L57")
def test_a_liar_without_a_stake_earns_nothing_and_is_evicted_and_barred() -> None:
    stakes = [STAKE, 0, STAKE, STAKE, STAKE]
    voters = tuple(sorted(numbered_key(number).peer for number in (0, 2, 3, 4)))
    accounts = with_stakes(stakes)
    case = a_case(lie=0, num_accounts=5, accounts=accounts, validators=voters)
    liar = case.solver
    before = money(case, liar)
    assert case.record.is_volunteer
    windows = case.up_to_reveal(3)
    case.show(windows)
    case.wait(SegmentPhase.DISPUTED)
    case.decide(is_guilty=True)
    assert case.is_now(SegmentPhase.GUILTY)
    assert money(case, liar) <= before
    run = case.ledger.state.run(case.run.index)
    assert case.ledger.state.contribution(run.index, liar.peer).earned == 0
    assert not seats_of(run, liar.peer)
    assert case.refused(liar, Join(run.index)) is Reason.BARRED


@pytest.mark.rule("L39", "L55")
def test_three_silent_verifiers_do_not_void_a_segment_that_an_honest_one_answers() -> None:
    case, windows = all_drawn((2, 3, 4, 5), num_validators=1)
    honest, silent = case.ledger.keys[2], case.ledger.keys[3:6]
    solver = money(case, case.solver)
    bond = request_bond(case.ledger.state.params, case.record)
    case.seal({honest.peer: windows[honest.peer]})
    case.submit(case.solver, case.claimed.reveal())
    case.show({honest.peer: windows[honest.peer]})
    assert case.is_now(SegmentPhase.VERIFIED)
    assert case.record.is_paid
    for key in silent:
        assert BALANCE + STAKE - money(case, key) >= bond
    assert money(case, case.solver) - solver == case.record.reward
    assert case.ledger.state.globals.burned == 3 * bond


@pytest.mark.rule("L38", "L55")
def test_a_solver_that_serves_only_its_friend_does_not_get_the_bonds_of_the_others() -> None:
    case = a_case(num_validators=1)
    case.draw_verifiers()
    honest, silent = case.able
    before = money(case, silent), money(case, case.solver)
    windows = case.ask(case.able)
    bond = request_bond(case.ledger.state.params, case.record)
    case.seal({honest.peer: windows[honest.peer]})
    case.submit(case.solver, case.claimed.reveal())
    case.show({honest.peer: windows[honest.peer]})
    assert before[0] - money(case, silent) >= bond
    assert money(case, case.solver) - before[1] == case.record.reward
    assert case.ledger.state.globals.burned == bond


@pytest.mark.rule("L39", "L56")
def test_a_silent_solver_is_unpaid_fined_and_goes_at_the_third_time() -> None:
    case = a_case(num_validators=1)
    solver, held = case.solver, money(case, case.solver)
    case.draw_verifiers()
    askers = case.able
    before = money(case, *askers)
    case.ask(askers)
    bond = request_bond(case.ledger.state.params, case.record)
    later = list[CheckedSegment]()
    for round_ in (2, 3):
        run = case.ledger.reach_round(case.run, round_ + 1)
        later.append(make_segment(case.ledger, run, round_, 0, 1))
        case.submit(solver, later[-1].commit)
        assert seats_of(run, solver.peer), "two times are forgiven"
    case.wait(SegmentPhase.SILENT)
    assert before - 2 * FEES <= money(case, *askers) <= before, "asking in vain earns nothing"
    fine = max(2 * case.record.reward, bond)
    assert money(case, solver) == held - fine
    assert not case.record.is_paid
    case.claimed = later[-1]
    case.wait(SegmentPhase.SILENT)
    run = case.ledger.state.run(case.run.index)
    assert case.ledger.state.contribution(run.index, solver.peer).silent == 3
    assert not seats_of(run, solver.peer)
    assert money(case, solver) == held - fine, "nobody asked for the others"
    assert case.refused(solver, Join(run.index)) is Reason.BARRED, "for three epochs"


@pytest.mark.rule("L43", "L44")
def test_a_founder_that_lies_loses_its_stake_like_anybody() -> None:
    case = a_case(num_accounts=6, num_validators=5)
    owner = case.ledger.keys[0]
    case.true = make_segment(case.ledger, case.run, 1, 1, 0)
    case.claimed = case.true.with_lie(0)
    case.submit(owner, case.claimed.commit)
    case.wait(SegmentPhase.SEALED)
    case.submit(owner, case.claimed.reveal())
    assert case.record.is_paid
    before = money(case, owner)
    case.blow(case.ledger.keys[5], 0)
    case.decide(is_guilty=True)
    assert case.is_now(SegmentPhase.GUILTY)
    assert case.stake(owner) == 0
    assert money(case, owner) <= before - STAKE - case.record.reward + FEES


@pytest.mark.rule("L43", "L93")
@pytest.mark.parametrize("num_validators", [1, 7])
def test_attack_who_has_all_the_power_convicts_and_acquits_nobody(num_validators: int) -> None:
    """A validator that accuses is a side like any other: before the real court it has no move."""
    case = a_case(num_accounts=8, num_validators=num_validators)
    case.show(case.up_to_reveal(0))
    case.wait(SegmentPhase.UNSAMPLED)
    launcher, solver = case.ledger.keys[0], case.solver
    before = money(case, launcher), money(case, solver)
    case.blow(launcher, 0, case.true.with_lie(0))
    assert case.is_now(SegmentPhase.DISPUTED)
    for key in case.ledger.keys[:num_validators]:
        with pytest.raises(InvalidStatement):
            case.submit(key, case.claimed.move(0, b"guilty"))
    case.give_up()
    assert case.is_now(SegmentPhase.UNSAMPLED), "as before"
    assert case.stake(solver) == STAKE
    assert money(case, launcher) < before[0]
    assert money(case, solver) > before[1]


@pytest.mark.rule("L38", "L41", "L55")
def test_a_copied_blind_answer_cannot_be_shown_and_costs_its_bond() -> None:
    case = a_case(num_validators=1)
    case.draw_verifiers()
    honest, copier = case.able
    before = money(case, copier)
    windows = case.ask(case.able)
    bond = request_bond(case.ledger.state.params, case.record)
    blind = case.true.blind(case.ledger.state, honest.peer, windows[honest.peer])
    case.submit(honest, blind)
    case.submit(copier, replace(blind, check=1))
    case.wait(SegmentPhase.SEALED)
    case.submit(case.solver, case.claimed.reveal())
    shown = case.true.shown(case.ledger.state, honest.peer, windows[honest.peer])
    copied = replace(shown, check=1)
    assert case.refused(copier, copied) is Reason.BAD_PROOF
    case.submit(honest, shown)
    assert case.refused(copier, copied) is Reason.BAD_PROOF
    case.wait(SegmentPhase.VERIFIED)
    assert before - money(case, copier) >= bond


def paid_on_trust(lie: int | None, num_steps: int = 10) -> tuple[Case, SecretKey]:
    """A segment that nobody was drawn for, and a peer with a stake that is no validator."""
    case = a_case(lie=lie, num_steps=num_steps, num_accounts=6, num_validators=5)
    case.wait(SegmentPhase.SEALED)
    case.submit(case.solver, case.claimed.reveal())
    assert case.record.is_paid
    return case, case.ledger.keys[5]


@pytest.mark.rule("L44")
def test_a_cheat_that_reports_itself_loses_more_than_it_saves() -> None:
    case, second = paid_on_trust(lie=0)
    bought = case.ledger.keys[2]
    before = money(case, case.solver, second, bought)
    case.blow(second, 0)
    case.decide(is_guilty=True)
    assert case.is_now(SegmentPhase.GUILTY)
    lost = before - money(case, case.solver, second, bought)
    assert lost >= STAKE // 2 > 2 * case.record.reward


@pytest.mark.rule("L42", "L45")
def test_each_false_report_costs_twice_as_much() -> None:
    case, cheat = paid_on_trust(lie=None, num_steps=30)
    bonds, solver = list[int](), money(case, case.solver)
    for window in range(3):
        before = money(case, cheat)
        case.blow(cheat, window, case.true.with_lie(window))
        bonds.append(case.record.accusations[0].bond)
        case.decide(is_guilty=False)
        assert case.is_now(SegmentPhase.UNSAMPLED)
        assert before - money(case, cheat) >= bonds[-1]
    assert bonds == [bonds[0], 2 * bonds[0], 4 * bonds[0]]
    assert money(case, case.solver) - solver >= sum(bonds) - 3 * FEES
    assert case.stake(case.solver) == STAKE


@pytest.mark.rule("L40")
def test_tokens_that_were_not_trained_are_not_paid() -> None:
    case = a_case(num_validators=1)
    segment = make_segment(case.ledger, case.run, 1, 1, 0)
    inflated = replace(segment.commit, tokens=segment.commit.tokens + 5_000)
    case.claimed = CheckedSegment(inflated, segment.results)
    owner = case.ledger.keys[0]
    case.submit(owner, inflated)
    case.wait(SegmentPhase.SEALED)
    assert case.refused(owner, case.claimed.reveal()) is Reason.BAD_PROOF
    case.wait(SegmentPhase.SILENT)
    assert not case.record.is_paid


def checkpoint_after(segment: CheckedSegment) -> PostCheckpoint:
    """The checkpoint from the end of a made segment."""
    c = segment.commit
    parts = end_components(encode((c.run, c.round, c.stage, c.seat)))
    return PostCheckpoint(
        run=c.run,
        round=RoundIndex(c.round + 1),
        stage=c.stage,
        seat=c.seat,
        phi_root=parts[PHI],
        phi_bytes=4,
        proof=merkle_proof(parts, PHI),
    )


@pytest.mark.rule("L44")
def test_a_liars_checkpoints_stand_no_more_after_its_conviction() -> None:
    case = a_case(num_accounts=6, num_validators=5)
    for round_ in (2, 3):
        run = case.ledger.reach_round(case.run, round_ + 1)
        case.true = make_segment(case.ledger, run, round_, 0, 1)
        case.claimed = case.true.with_lie(0)
        case.submit(case.ledger.keys[SOLVER], case.claimed.commit)
    case.submit(case.solver, checkpoint_after(case.claimed))
    run = case.ledger.state.run(run.index)
    (posted,) = run.standing(0)
    assert posted.peer == case.solver.peer
    case.draw_verifiers()
    windows = case.ask(case.able)
    case.seal(windows)
    case.submit(case.solver, case.claimed.reveal())
    case.show(windows)
    case.wait(SegmentPhase.DISPUTED)
    case.decide(is_guilty=True)
    assert case.is_now(SegmentPhase.GUILTY)
    run = case.ledger.state.run(run.index)
    assert run.standing(0) == ()
    assert [checkpoint.round for checkpoint in run.checkpoints[0]] == [posted.round], "listed"


@pytest.mark.rule("L36")
def test_a_stake_that_grew_after_the_commit_draws_nothing() -> None:
    """Who has seen the beacon cannot buy itself the draw it lacked."""
    case = a_case(num_accounts=6, num_validators=4)
    buyer = case.ledger.keys[5]
    case.draw_verifiers()
    case.submit(buyer, Stake(Amount(100 * STAKE)))
    with pytest.raises(InvalidStatement) as caught:
        case.claimed.request(case.ledger.state, buyer)
    assert caught.value.reason is Reason.STAKE
    c = case.claimed.commit
    proof = prove_draw(buyer, case.ledger.state.chain, case.record.draws[0])
    body = DataRequest(run=c.run, round=c.round, stage=c.stage, seat=c.seat, attempt=0, proof=proof)
    assert case.refused(buyer, body) is Reason.STAKE


@pytest.mark.rule("L44")
def test_what_waits_to_be_paid_is_void_when_its_solver_is_convicted() -> None:
    case = a_case(lie=0)
    windows = case.up_to_reveal()
    case.show(windows)
    assert case.is_now(SegmentPhase.DISPUTED)
    run = case.ledger.reach_round(case.run, 3)
    pending = make_segment(case.ledger, run, 2, 0, 1)
    case.submit(case.solver, pending.commit)
    assert case.is_now(SegmentPhase.DISPUTED)
    case.decide(is_guilty=True)
    assert case.is_now(SegmentPhase.GUILTY)
    convicted = money(case, case.solver)
    case.true = case.claimed = pending
    case.wait(SegmentPhase.SEALED)
    held, before = case.record.held + case.record.reserved, escrow(case)
    assert case.record.held == case.record.reward > 0
    case.submit(case.solver, pending.reveal())
    assert case.is_now(SegmentPhase.UNSAMPLED)
    assert not case.record.is_paid
    assert escrow(case) == before + held
    assert money(case, case.solver) <= convicted + FEES, "a validator, it may have led a block"
    assert case.ledger.state.contribution(run.index, case.solver.peer).earned == 0


@pytest.mark.rule("L43", "L94")
def test_attack_friends_that_accuse_and_give_up_clear_no_window() -> None:
    """Friends of a solver accuse window after window: each pays for it, and no window counts as checked."""
    case, windows = all_drawn((2, 3), num_steps=20, num_accounts=5)
    says = case.true.with_lie(0).with_lie(1)
    case.seal(windows, like=says)
    reward, before = case.record.reward, escrow(case) + case.record.held + case.record.reserved
    case.submit(case.solver, case.claimed.reveal())
    case.show(windows, like=says)
    bonds = sum(accusation.bond for accusation in case.record.accusations)
    assert len({accusation.window for accusation in case.record.accusations}) == 2
    assert bonds > 0
    while case.is_now(SegmentPhase.DISPUTED):
        case.give_up()
    assert case.is_now(SegmentPhase.UNSAMPLED)
    assert not case.record.judged
    assert reward > 0
    assert escrow(case) == before - reward
    assert not [check for check in case.record.checks if check.phase is CheckPhase.AGREED]
    assert all(check.phase is CheckPhase.DIFFERED for check in case.record.checks)
