"""A made segment opens its own commit, and its lie is in one window only."""

import pytest

from swarm.errors import UsageError
from swarm.ledger.transition.checks import shown_claims
from swarm.testing.ledger import make_segment
from tests.ledger.checking import a_case


def test_a_lie_changes_one_window() -> None:
    case = a_case(num_steps=25, lie=1)
    claims = shown_claims(case.record, 10, case.claimed.reveal())
    assert len(claims) == 3
    assert claims == tuple(result.claim for result in case.claimed.results)
    same = [case.true.results[i] == case.claimed.results[i] for i in range(3)]
    assert same == [True, False, True]


def test_a_segment_that_was_not_committed_has_no_record() -> None:
    case = a_case()
    other = make_segment(case.ledger, case.run, 1, 1, 0)
    with pytest.raises(UsageError):
        other.record(case.ledger.state)
