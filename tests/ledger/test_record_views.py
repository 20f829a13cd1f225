"""What a peer has done in each run, and which part of a run it holds, as anybody reads it from the ledger."""

import pytest

from swarm.errors import UsageError
from swarm.ledger.record_views import (
    RECORD_HEADS,
    SHARE_HEADS,
    find_account,
    find_run,
    peer_record,
    peer_records,
    record_cells,
    share_cells,
    share_rows,
)
from swarm.ledger.state.draft import Draft
from swarm.ledger.state.records import SegmentPhase
from swarm.ledger.transactions import Join
from swarm.primitives.codec import replace
from swarm.primitives.crypto import peer_name, peer_text
from swarm.testing.ledger import InMemoryLedger, small_run_spec
from swarm.types import Height
from tests.ledger.checking import a_case


@pytest.mark.rule("L74", "L75")
def test_a_record_and_its_shares_follow_a_verified_segment() -> None:
    case = a_case()
    windows = case.up_to_reveal()
    case.show(windows)
    assert case.is_now(SegmentPhase.VERIFIED)
    state = case.ledger.state
    (row,) = peer_records(state, case.solver.peer)
    assert (row["segments"], row["verified"], row["tokens"], row["shares"]) == (1, 1, 5_000, 5_000)
    assert (row["seats"], row["on_trial"], row["volunteer"]) == (["0/1"], False, False)
    cells = dict(zip(RECORD_HEADS, record_cells(row), strict=True))
    assert (cells["verified"], cells["shares"], cells["now"]) == ("1", "5k", "in good standing")
    checker = case.ledger.key_of(next(iter(windows)))
    (row,) = peer_records(state, checker.peer)
    assert (row["checked"], row["segments"], row["seats"]) == (1, 0, [])
    (holder,) = share_rows(state, case.run)
    assert (holder["name"], holder["percent"]) == (peer_name(case.solver.peer), 100.0)
    assert share_cells(holder)[1:] == ["5,000", "100.00%", "-"]
    assert len(SHARE_HEADS) == 4
    assert peer_records(state, case.ledger.keys[20].peer) == []


def test_what_is_held_against_a_peer_is_said() -> None:
    case = a_case()
    draft = Draft(case.ledger.state, case.solver.peer)
    work = draft.contribution(case.run.index, case.solver.peer)
    changed = replace(work, silent=2, rest_until=Height(900), is_barred=True, refuted=3)
    draft.put_contribution(case.run.index, case.solver.peer, changed)
    row = peer_record(draft.finish(), case.run, case.solver.peer)
    assert (row["strikes"], row["rests_until"], row["refuted"]) == (2, 900, 3)
    assert record_cells(row)[-1] == "barred, may not join before block 900, 2 of 3 strikes"


@pytest.mark.rule("L57")
def test_a_volunteer_on_trial_is_called_so() -> None:
    ledger = InMemoryLedger()
    run = ledger.open_run(small_run_spec(rounds=20))
    key = ledger.keys[20]
    ledger.block(ledger.sign(key, Join(run.index), fee=0))
    run = ledger.reach_round(run, 3)
    row = peer_record(ledger.state, run, key.peer)
    assert (row["volunteer"], row["on_trial"], row["rounds_seated"]) == (True, True, 4)
    assert record_cells(row)[-1] == "on trial, a volunteer"


@pytest.mark.rule("L76")
def test_shares_are_listed_by_size_with_whom_their_holders_back() -> None:
    ledger = InMemoryLedger()
    run = ledger.open_run(small_run_spec(rounds=9))
    ledger.reach_round(run, 2)
    ledger.block(*ledger.commit_all(run, 1))
    owner = ledger.keys[0].peer
    draft = Draft(ledger.state, owner)
    draft.add_shares(run.index, owner, 300)
    work = draft.contribution(run.index, owner)
    draft.put_contribution(run.index, owner, replace(work, backs=ledger.keys[2].peer))
    draft.add_backing(run.index, ledger.keys[2].peer, 300)
    (row,) = share_rows(draft.finish(), run)
    assert (row["backs"], row["backed_by_percent"]) == (peer_name(ledger.keys[2].peer), 0.0)


def test_runs_and_accounts_are_found_by_what_people_call_them() -> None:
    ledger = InMemoryLedger()
    first = ledger.open_run(small_run_spec())
    second = ledger.open_run(small_run_spec(name="second"))
    state = ledger.state
    assert find_run(state, "1").index == find_run(state, "rehearsal").index == first.index
    assert find_run(state, second.spec_digest.hex()[:12]).index == second.index
    third = ledger.open_run(small_run_spec(name="second", seed=9))
    with pytest.raises(UsageError, match="several runs are called 'second'; there are 2 second, 3"):
        find_run(ledger.state, "second")
    assert find_run(ledger.state, str(third.index)).spec.seed == 9
    with pytest.raises(UsageError, match="no run is called 'x'"):
        find_run(ledger.state, "x")
    peer = ledger.keys[1].peer
    assert find_account(state, peer_name(peer)) == find_account(state, peer_text(peer)) == peer
    with pytest.raises(UsageError, match="several accounts begin with '12D3'"):
        find_account(state, "12D3")
    with pytest.raises(UsageError, match="no account begins with 'zz'"):
        find_account(state, "zz")
