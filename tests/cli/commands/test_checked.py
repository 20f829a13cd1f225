"""How the work on a ledger was checked is counted from its final state, not from a node's memory."""

import json

from swarm.cli.commands.ledger_views import checked_line, run_rows, stake_rows
from swarm.ledger.state.records import SegmentPhase
from swarm.primitives.crypto import peer_text
from tests.ledger.checking import SOLVER, Case, a_case


def judged(lie: int | None = None) -> Case:
    case = a_case(lie=lie)
    case.show(case.up_to_reveal())
    if lie is not None:
        case.decide(is_guilty=True)
    return case


def test_a_verified_segment_counts_for_its_solver_and_its_verifiers() -> None:
    """As JSON, by PeerID."""
    case = judged()
    case.wait(SegmentPhase.VERIFIED)
    for _ in range(3 * 6):
        case.ledger.block()
    (row,) = json.loads(json.dumps(run_rows(case.ledger.state)))
    assert (row["verified"], row["guilty"], row["segments"]) == (1, 0, 1)
    assert (row["old_verified"], row["old_segments"]) == (1, 1)
    solver = row["peers"][peer_text(case.ledger.keys[SOLVER].peer)]
    assert (solver["segments"], solver["verified"], solver["waiting_blocks"]) == (1, 1, [])
    assert sum(peer["checked"] for peer in row["peers"].values()) == 2
    assert "of 1 older than two rounds, another peer checked a window of 1" in checked_line(row)


def test_a_segment_without_a_verdict_tells_its_age() -> None:
    """So that a lie that came late is not called missed."""
    case = a_case()
    (row,) = run_rows(case.ledger.state)
    solver = row["peers"][peer_text(case.record.peer)]  # type: ignore[index]
    assert solver["waiting_blocks"] == [0]


def test_a_stake_that_was_taken_is_not_there() -> None:
    """And the rest of the stakes is."""
    case = judged(lie=0)
    assert case.is_now(SegmentPhase.GUILTY)
    stakes = stake_rows(case.ledger.state)
    assert peer_text(case.record.peer) not in stakes
    assert len(stakes) == 3
    (row,) = run_rows(case.ledger.state)
    assert "1 proven false" in checked_line(row)


def test_a_dispute_that_is_not_over_counts_as_nothing_yet() -> None:
    case = a_case(lie=0)
    case.show(case.up_to_reveal())
    case.fall_silent()
    (row,) = run_rows(case.ledger.state)
    assert (row["verified"], row["guilty"]) == (0, 0)
