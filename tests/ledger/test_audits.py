"""The picture of checking comes from the final state; what a conviction took, from the blocks around it."""

from swarm.ledger.views import conviction_row, new_convictions, recent_rows, run_checks
from swarm.primitives.crypto import peer_name
from swarm.testing.ledger import STAKE
from tests.ledger.checking import a_case


def test_a_conviction_tells_who_found_it_and_what_it_took() -> None:
    case = a_case(lie=0)
    case.show(case.up_to_reveal())
    accuser = case.record.accusations[0].peer
    case.move(case.accuser, b"open")
    case.move(case.solver, b"next")
    before = case.ledger.state
    assert new_convictions(None, before, case.run.index) == []
    case.move(case.accuser, b"guilty")
    (conviction,) = new_convictions(before, case.ledger.state, case.run.index)
    assert (conviction.accuser, conviction.stake_taken) == (accuser, STAKE)
    assert new_convictions(case.ledger.state, case.ledger.state, case.run.index) == []
    row = conviction_row(conviction)
    assert (row["round"], row["stage"], row["seat"]) == (1, 0, 1)
    assert row["name"] == peer_name(case.solver.peer)
    assert row["accuser"] == peer_name(accuser)
    assert "was proven false" in str(row["text"])
    assert f"{STAKE:,} was taken" in str(row["text"])


def test_after_a_restart_the_ledger_still_tells_who_was_convicted() -> None:
    """But not what was taken: that was in the blocks before."""
    case = a_case(lie=0)
    windows = case.up_to_reveal()
    case.show(windows)
    accuser = case.record.accusations[0].peer
    case.decide(is_guilty=True)
    (conviction,) = new_convictions(None, case.ledger.state, case.run.index)
    assert (conviction.accuser, conviction.stake_taken) == (accuser, None)
    assert "taken" not in str(conviction_row(conviction)["text"])


def test_segments_are_counted_where_they_are_and_as_they_were_judged() -> None:
    case = a_case()
    state, run = case.ledger.state, case.run
    assert run_checks(state, run) == {"posted": 1}
    (row,) = recent_rows(state, run)
    assert (row["phase"], row["name"]) == ("posted", peer_name(case.solver.peer))
    case.show(case.up_to_reveal())
    assert run_checks(case.ledger.state, run) == {"verified": 1}
    assert recent_rows(case.ledger.state, run)[0]["phase"] == "verified"
