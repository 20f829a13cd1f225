"""The figures of the checks come from the verified ledger, and nothing is guessed when there is none."""

from swarm.cli.demo.results import VERDICT_ROUNDS, Checked, count_checks

HONEST = {"A": 1000, "B": 1000, "C": 0}


def a_row(**changes: object) -> dict[str, object]:
    peers = {
        "A": {"segments": 20, "failed": 0, "waiting_blocks": [3]},
        "L": {"segments": 5, "failed": 2, "silent": 1, "waiting_blocks": [15, 80]},
    }
    run = {"old_segments": 110, "old_verified": 104, "round_blocks": 10, "peers": peers}
    return {"runs": [run], "stakes": {"A": 1000, "B": 1000}, **changes}


def test_lies_are_the_segments_of_the_cheating_peer_and_caught_when_proven_false_or_not_paid() -> (
    None
):
    """Those that are young and wait for a verdict are counted apart."""
    found = count_checks(a_row(), HONEST, "L")
    assert found == Checked(
        commits_old=110,
        commits_verified=104,
        lies_planted=5,
        lies_caught=3,
        lies_late=1,
        lies_unseen=0,
        honest_slashed=0,
    )
    assert VERDICT_ROUNDS * 10 < 80


def test_a_lie_that_nobody_got_to_is_no_lie_that_was_believed() -> None:
    work = {"segments": 9, "failed": 3, "silent": 1, "verified": 2, "waiting_blocks": [5]}
    found = count_checks({"runs": [{"round_blocks": 10, "peers": {"L": work}}]}, HONEST, "L")
    assert (found.lies_planted, found.lies_caught) == (9, 4)
    assert (found.lies_late, found.lies_unseen) == (1, 2)


def test_a_deceiver_counts_once_it_has_committed_and_is_caught_when_convicted() -> None:
    found = count_checks(a_row(), HONEST, "L", "L")
    assert (found.deceivers, found.deceivers_caught) == (1, 1)
    unseated = count_checks(a_row(), HONEST, "L", "nobody")
    assert (unseated.deceivers, unseated.deceivers_caught) == (0, 0)
    assert count_checks(a_row(), HONEST, "L").deceivers is None


def test_without_a_cheating_peer_there_are_no_lies() -> None:
    """Null, not zero: no peer cheated on purpose."""
    found = count_checks(a_row(), HONEST, None)
    assert (found.lies_planted, found.lies_caught) == (None, None)
    assert found.honest_slashed == 0


def test_an_honest_peer_with_less_at_stake_counts_once() -> None:
    """Lost stake, or a segment found guilty."""
    assert count_checks(a_row(stakes={"A": 900, "B": 1000}), HONEST, "L").honest_slashed == 1
    assert count_checks(a_row(stakes={}), HONEST, "L").honest_slashed == 2


def test_a_ledger_that_could_not_be_verified_gives_no_figures() -> None:
    """Nor does one without a run."""
    assert count_checks(None, HONEST, "L") == Checked()
    assert count_checks({"runs": []}, HONEST, "L") == Checked()
