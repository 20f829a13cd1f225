"""Every unit taken goes to somebody or is burned, down to the last one."""

import pytest

from swarm.ledger.state.accusations import Accusation
from swarm.ledger.state.draft import Draft
from swarm.ledger.state.records import Check, CheckPhase, SegmentRecord
from swarm.ledger.state.state import audit_supply
from swarm.ledger.transition.apply import begin_block
from swarm.ledger.transition.payments import (
    count,
    expel,
    fine_silence,
    is_exact,
    pay,
    punish_accuser,
    punish_approver,
    punish_solver,
    return_bonds,
    strikes,
    void,
)
from swarm.ledger.transition.prices import request_bond, solver_stake
from swarm.primitives.codec import replace
from swarm.testing.ledger import STAKE
from swarm.types import NO_DIGEST, Amount, Height, RoundIndex, RunIndex, StageIndex
from tests.ledger.checking import EXACT, Case, a_case


def a_draft() -> tuple[Case, Draft]:
    case = a_case()
    return case, begin_block(case.ledger.state, leader=case.ledger.keys[0].peer, beta=bytes(64))


def finished(draft: Draft) -> None:
    after = draft.finish()
    assert audit_supply(after) == after.supply


def test_a_segment_is_paid_once() -> None:
    case, draft = a_draft()
    paid = pay(draft, case.record)
    assert (paid.held, paid.is_paid) == (0, True)
    assert pay(draft, paid) is paid
    draft.put_segment(paid)
    assert draft.account(case.solver.peer).balance == case.balance(case.solver) + 5
    finished(draft)


@pytest.mark.parametrize("was_paid", [False, True])
def test_what_is_voided_returns_to_the_escrow(was_paid: bool) -> None:
    case, draft = a_draft()
    record = pay(draft, case.record) if was_paid else case.record
    record = void(draft, record)
    draft.put_segment(record)
    assert draft.run(record.run).escrow == case.ledger.state.run(record.run).escrow + 5
    assert draft.account(case.solver.peer).balance == case.balance(case.solver)
    assert draft.contribution(record.run, case.solver.peer).earned == 0
    finished(draft)


def test_who_has_spent_its_pay_gives_back_what_is_there() -> None:
    case, draft = a_draft()
    record = pay(draft, case.record)
    draft.put_segment(record)
    balance = draft.account(case.solver.peer).balance
    draft.debit(case.solver.peer, balance - 2)
    draft.credit(case.ledger.keys[0].peer, balance - 2)
    draft.put_segment(void(draft, record))
    assert draft.account(case.solver.peer).balance == 0
    assert draft.run(record.run).escrow == case.ledger.state.run(record.run).escrow + 2
    finished(draft)


@pytest.mark.rule("L44")
@pytest.mark.parametrize("stake", [0, 1, 7, 99, 1_000])
def test_a_whole_stake_is_shared_and_burned_without_remainder(stake: int) -> None:
    case, draft = a_draft()
    account = draft.account(case.solver.peer)
    lost = account.stake - stake
    draft.put_account(case.solver.peer, replace(account, stake=Amount(stake)))
    draft.credit(case.ledger.keys[0].peer, lost)
    accuser = case.ledger.keys[9].peer
    punish_solver(draft, case.record, accuser)
    to_accuser = stake * 40 // 100
    assert draft.account(accuser).balance == to_accuser
    assert draft.globals.burned == stake - to_accuser
    assert draft.account(case.solver.peer).stake == 0
    finished(draft)


def test_without_an_accuser_all_is_burned() -> None:
    case, draft = a_draft()
    punish_solver(draft, case.record, None)
    assert draft.globals.burned == STAKE
    finished(draft)


def test_an_approver_burns_and_an_accuser_pays() -> None:
    case, draft = a_draft()
    friend, cheat = case.able
    punish_approver(draft, friend.peer)
    assert draft.globals.burned == STAKE // 10
    false = Accusation(cheat.peer, 0, NO_DIGEST, Height(1), is_report=False, bond=Amount(0))
    before = draft.account(case.solver.peer).balance
    punish_accuser(draft, case.record, false)
    assert draft.account(case.solver.peer).balance == before + STAKE // 10
    punish_accuser(draft, case.record, false)
    left = STAKE * 9 // 10
    assert draft.account(cheat.peer).stake == left - left // 5, "twice the share"
    finished(draft)


def test_every_bond_goes_back_to_who_put_it_up() -> None:
    case, draft = a_draft()
    reporters = [key.peer for key in case.ledger.keys[2:4]]
    accusations = list[Accusation]()
    for peer, bond in zip(reporters, (20, 30), strict=True):
        draft.debit(peer, bond)
        height, amount = Height(1), Amount(bond)
        accusations.append(Accusation(peer, 0, NO_DIGEST, height, is_report=True, bond=amount))
    accused = replace(case.record, accusations=tuple(accusations))
    draft.put_segment(accused)
    draft.put_segment(return_bonds(draft, accused))
    assert draft.segment(*segment_id_of(accused)) == case.record
    for peer in reporters:
        assert draft.account(peer) == case.ledger.state.account(peer)
    finished(draft)


def segment_id_of(record: SegmentRecord) -> tuple[RunIndex, RoundIndex, StageIndex, int]:
    return record.run, record.round, record.stage, record.seat


def test_counts_go_up_one_by_one() -> None:
    case, draft = a_draft()
    for what in ("verified", "failed", "silent", "checked", "missed", "missed"):
        count(draft, case.record, case.solver.peer, what)
    work = draft.contribution(case.run.index, case.solver.peer)
    counted = (work.verified, work.failed, work.silent, work.checked, work.missed)
    assert counted == (1, 1, 1, 1, 2)


@pytest.mark.rule("L44")
def test_an_expelled_peer_is_barred_and_an_owner_is_not() -> None:
    case, draft = a_draft()
    assert is_exact(draft, case.record)
    expel(draft, case.record)
    work = draft.contribution(case.run.index, case.solver.peer)
    assert (work.is_barred, work.failed, work.fault_height) == (True, 1, draft.height)
    owner = case.run.owner
    expel(draft, replace(case.record, peer=owner, seat=0))
    assert not draft.contribution(case.run.index, owner).is_barred
    assert draft.run(case.run.index).seats[0] == ()
    assert len(draft.run(case.run.index).seats[1]) == 1


@pytest.mark.rule("L44")
def test_what_waits_to_be_paid_when_its_peer_is_expelled_goes_back_to_the_run() -> None:
    case, draft = a_draft()
    expel(draft, case.record)
    escrow = draft.run(case.run.index).escrow
    record = pay(draft, case.record)
    assert (record.held, record.is_paid) == (0, False)
    assert draft.run(case.run.index).escrow == escrow + 5
    later = replace(case.record, height=Height(draft.height + 1))
    assert pay(draft, later).is_paid, "an owner may go on"


@pytest.mark.rule("L57")
def test_what_a_peer_without_a_solvers_stake_earns_is_added_to_its_stake() -> None:
    case, draft = a_draft()
    peer, wanted = case.solver.peer, solver_stake(draft.globals.params, EXACT)
    for stake, locked in ((0, 5), (wanted - 2, 2), (wanted, 0)):
        draft.put_account(peer, replace(draft.account(peer), stake=Amount(stake)))
        before = draft.account(peer)
        pay(draft, case.record)
        after = draft.account(peer)
        assert after.stake - before.stake == locked
        assert after.locked == (locked if after.stake < wanted else 0)
        assert after.balance - before.balance == 5 - locked


def waiting(case: Case, draft: Draft, *phases: CheckPhase) -> SegmentRecord:
    """The segment with as many checks of others, each with a bond of 20."""
    checks = list[Check]()
    for key, phase in zip(case.able, phases, strict=True):
        draft.debit(key.peer, 20)
        check = Check(
            peer=key.peer,
            window=0,
            phase=phase,
            height=Height(1),
            commitment=NO_DIGEST,
            commit_height=Height(0),
            is_report=False,
            bond=Amount(20),
        )
        checks.append(check)
    return replace(case.record, checks=tuple(checks))


@pytest.mark.rule("L56")
@pytest.mark.parametrize(("balance", "stake"), [(1_000, 1_000), (7, 1_000), (0, 10), (0, 0)])
def test_a_silent_solver_is_fined_from_its_balance_and_then_from_its_stake(
    balance: int, stake: int
) -> None:
    case, draft = a_draft()
    peer, owner = case.solver.peer, case.ledger.keys[0].peer
    account = draft.account(peer)
    draft.put_account(peer, replace(account, balance=Amount(balance), stake=Amount(stake)))
    draft.credit(owner, account.balance + account.stake - balance - stake)
    record = replace(case.record, reward=Amount(50), tokens=50_000)
    record = replace(
        record, checks=waiting(case, draft, CheckPhase.SEALED, CheckPhase.MISSED).checks
    )
    owed = request_bond(draft.globals.params, record)
    before = [draft.account(key.peer).balance for key in case.able]
    record = fine_silence(draft, record)
    taken = min(100, balance + stake)
    after = draft.account(peer)
    assert (after.balance, after.stake) == (
        max(balance - 100, 0),
        stake - max(taken - balance, 0),
    )
    paid = min(owed, taken)
    gains = [
        draft.account(key.peer).balance - old for key, old in zip(case.able, before, strict=True)
    ]
    assert gains == [20 + paid, 20], "their bonds; who did not answer gets no more"
    assert draft.globals.burned == taken - paid
    draft.put_segment(replace(record, reward=case.record.reward, tokens=case.record.tokens))
    finished(draft)


@pytest.mark.rule("L56")
def test_silence_costs_nothing_where_nobody_asked_or_arithmetic_is_native() -> None:
    case, draft = a_draft()
    assert fine_silence(draft, case.record) == case.record
    run = draft.run(case.run.index)
    draft.put_run(replace(run, spec=replace(run.spec, numerics="native")))
    fine_silence(draft, waiting(case, draft, CheckPhase.SEALED, CheckPhase.MISSED))
    assert draft.globals.burned == 0
    assert draft.account(case.solver.peer) == case.ledger.state.account(case.solver.peer)


@pytest.mark.rule("L56")
@pytest.mark.parametrize(
    ("silent", "verified", "wanted"), [(2, 0, 2), (3, 0, 3), (3, 3, 3), (3, 4, 2), (9, 40, -1)]
)
def test_four_verified_segments_make_up_for_a_silent_one(
    silent: int, verified: int, wanted: int
) -> None:
    case, draft = a_draft()
    work = draft.contribution(case.run.index, case.solver.peer)
    assert strikes(replace(work, silent=silent, verified=verified)) == wanted
