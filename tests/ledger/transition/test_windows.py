"""Only its windows and its salt open a commit; they follow one another, and hold the tokens it is paid for."""

from collections.abc import Sequence

import pytest

from swarm.errors import InvalidStatement, Reason
from swarm.ledger.transition.checks import shown_claims
from swarm.primitives.codec import replace
from swarm.primitives.commitments import REFUSED, WindowResult
from swarm.primitives.crypto import digest
from swarm.types import NO_DIGEST
from tests.ledger.checking import Case, a_case

STEPS, WINDOW = 25, 10
OTHER = digest("other", b"")


@pytest.fixture(scope="module")
def case() -> Case:
    return a_case(num_steps=STEPS)


def refused(case: Case, **changes: object) -> str:
    with pytest.raises(InvalidStatement) as caught:
        shown_claims(case.record, WINDOW, case.claimed.reveal(**changes))
    assert caught.value.reason is Reason.BAD_PROOF
    return str(caught.value)


def shown(case: Case, results: Sequence[WindowResult]) -> tuple[bytes, ...]:
    """The claims that the ledger takes of a solver that committed to these results and shows them."""
    other = case.claimed.with_results(results)
    record = replace(case.record, trace_commit=other.commit.trace_commit)
    return shown_claims(record, WINDOW, other.reveal())


@pytest.mark.rule("L40")
def test_what_is_shown_are_the_claims_of_windows_from_start_to_end(case: Case) -> None:
    claims = shown_claims(case.record, WINDOW, case.claimed.reveal())
    results = case.claimed.results
    assert claims == tuple(result.claim for result in results)
    assert len(claims) == 3
    assert (results[0].start_root, results[-1].end_root) == (
        case.record.start_root,
        case.record.end_root,
    )
    assert [r.end_root for r in results[:2]] == [r.start_root for r in results[1:]]


@pytest.mark.rule("L40")
def test_another_salt_or_other_windows_do_not_open_the_commit(case: Case) -> None:
    body = case.claimed.reveal()
    roots, states, tokens = body.leaves_roots, body.state_roots, body.tokens
    refused(case, salt=bytes(16))
    refused(case, leaves_roots=(*roots[:-1], OTHER))
    refused(case, leaves_roots=(roots[1], roots[0], roots[2]))
    refused(case, state_roots=(states[0], OTHER))
    refused(case, state_roots=states[::-1])
    refused(case, tokens=(tokens[0] + 1, tokens[1] - 1, tokens[2]))


@pytest.mark.parametrize("wanted", [5, 20])
def test_another_number_of_windows_is_refused_although_it_is_what_was_committed(
    case: Case, wanted: int
) -> None:
    with pytest.raises(InvalidStatement, match=f"not {-(-STEPS // wanted)} windows of 25 steps"):
        shown_claims(case.record, wanted, case.claimed.reveal())


@pytest.mark.rule("L40")
def test_the_tokens_of_a_segment_are_those_of_its_windows(case: Case) -> None:
    """They are in its claims: who pays itself for more must lie about a window."""
    first, *others = case.claimed.results
    assert sum(result.tokens for result in case.claimed.results) == case.record.tokens == 5_000
    more = [replace(first, tokens=first.tokens + 1), *others]
    with pytest.raises(InvalidStatement, match="5001 tokens in its windows where the commit says"):
        shown(case, more)
    moved = [*more[:2], replace(more[2], tokens=more[2].tokens - 1)]
    differ = zip(shown(case, moved), (r.claim for r in case.claimed.results), strict=True)
    assert [one != other for one, other in differ] == [True, False, True]


@pytest.mark.rule("L40", "V15")
def test_a_solver_cannot_claim_what_the_replay_of_a_garbage_log_gives(case: Case) -> None:
    """Else it could serve garbage, and every verifier would agree."""
    garbage = [replace(REFUSED, tokens=result.tokens) for result in case.claimed.results]
    with pytest.raises(InvalidStatement, match="a window without a step or a merge"):
        shown(case, [garbage[0], *case.claimed.results[1:]])
    hidden = case.claimed.with_results([replace(REFUSED, tokens=5_000)])
    whole = replace(
        case.record,
        num_steps=1,
        start_root=NO_DIGEST,
        end_root=NO_DIGEST,
        trace_commit=hidden.commit.trace_commit,
    )
    with pytest.raises(InvalidStatement, match="a window without a step or a merge"):
        shown_claims(whole, WINDOW, hidden.reveal())


@pytest.mark.rule("L40")
def test_a_window_that_does_not_begin_where_the_one_before_ended_is_false(case: Case) -> None:
    """The state between two windows is shown once, so one of the two claims is not what its replay gives."""
    results = list(case.claimed.results)
    poisoned = replace(results[1], start_root=OTHER)
    replays = [results[0].claim, poisoned.claim, results[2].claim]
    hidden = case.claimed.with_results([results[0], poisoned, results[2]])
    record = replace(case.record, trace_commit=hidden.commit.trace_commit)
    with pytest.raises(InvalidStatement, match="not the windows"):
        shown_claims(record, WINDOW, case.claimed.reveal())
    for states in ((results[1].start_root, results[2].start_root), (OTHER, results[2].start_root)):
        parts = (results[0].start_root, *states, results[2].end_root)
        chained = [
            replace(result, start_root=parts[i], end_root=parts[i + 1])
            for i, result in enumerate(results)
        ]
        assert list(shown(case, chained)) != replays
