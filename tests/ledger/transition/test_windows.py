"""Only the leaves and the salt of the commit open it, and windows begin where the run says."""

import dataclasses

import pytest
import torch

from swarm.errors import InvalidStatement, Reason
from swarm.ledger.transactions import (
    PHI_COMPONENT,
    STATE_COMPONENTS,
    TOKENS_TOTAL_MAX,
    Opening,
    TokensOpening,
)
from swarm.ledger.transition.checks import check_tokens, open_windows, tokens_component
from swarm.primitives.codec import replace
from swarm.primitives.commitments import hash_of, trace_commit, trace_root, window_claim
from swarm.primitives.crypto import digest
from swarm.primitives.merkle import merkle_proof, merkle_root
from swarm.testing.ledger import SALT, make_tokens_opening
from swarm.training.record import segment
from swarm.types import NO_DIGEST
from tests.ledger.checking import EXACT, Case, a_case

STEPS, WINDOW = 25, 10
FRAGMENTS = EXACT.outer.fragments


@pytest.fixture(scope="module")
def case() -> Case:
    return a_case(num_steps=STEPS)


def refused(case: Case, **changes: object) -> None:
    with pytest.raises(InvalidStatement) as caught:
        open_windows(case.record, WINDOW, case.claimed.reveal(**changes))
    assert caught.value.reason is Reason.BAD_PROOF


@pytest.mark.rule("L40")
def test_windows_follow_one_another_from_start_to_end(case: Case) -> None:
    windows = open_windows(case.record, WINDOW, case.claimed.reveal())
    assert [window.num_leaves for window in windows] == [11, 11, 5], "merges are leaves too"
    assert windows[0].start_root == case.record.start_root
    assert [w.end_root for w in windows[:2]] == [w.start_root for w in windows[1:]]
    assert windows[-1].end_root == case.record.end_root
    for index, window in enumerate(windows):
        assert window.claim == window_claim(*case.claimed.window(index))


@pytest.mark.rule("L40")
def test_another_salt_or_other_leaves_do_not_open_the_commit(case: Case) -> None:
    leaves = case.claimed.leaves
    refused(case, salt=bytes(32))
    refused(case, leaves=leaves[:-1])
    refused(case, leaves=(*leaves, leaves[0]))
    refused(case, leaves=(leaves[1], leaves[0], *leaves[2:]))
    refused(case, leaves=(*leaves[:-1], digest("x", b"")))


@pytest.mark.rule("L40")
def test_an_opening_that_is_not_in_its_leaf_is_refused(case: Case) -> None:
    first, second, third = case.claimed.openings
    wrong: list[tuple[Opening, ...]] = [
        (first, second),
        (first, second, third, third),
        (first, third, second),
        (first, second, second),
        (first, replace(second, leaf=second.leaf + 1), third),
        (first, second, replace(third, leaf=200)),
        (first, replace(second, step=11), third),
        (first, replace(second, dropped=()), third),
        (first, replace(second, state_root=digest("x", b"")), third),
        (first, replace(second, state_root=NO_DIGEST), third),
        (first, replace(second, leaves_root=NO_DIGEST), third),
    ]
    for openings in wrong:
        refused(case, openings=openings)


def test_windows_of_another_size_are_refused_although_they_are_in_the_leaves(case: Case) -> None:
    with pytest.raises(InvalidStatement):
        open_windows(case.record, 5, case.claimed.reveal())
    with pytest.raises(InvalidStatement):
        open_windows(case.record, 20, case.claimed.reveal())


def untrue(case: Case, start: TokensOpening, end: TokensOpening) -> None:
    with pytest.raises(InvalidStatement) as caught:
        check_tokens(case.record, FRAGMENTS, case.claimed.reveal(tokens=(start, end)))
    assert caught.value.reason is Reason.BAD_PROOF


@pytest.mark.rule("L40")
def test_the_tokens_of_a_segment_are_those_of_its_states(case: Case) -> None:
    start, end = case.claimed.tokens
    assert end.counts[0] - start.counts[0] == case.record.tokens == 5_000
    check_tokens(case.record, FRAGMENTS, case.claimed.reveal())
    more = (end.counts[0] + 1, *end.counts[1:])
    untrue(case, end, start)
    untrue(case, start, start)
    untrue(case, start, replace(end, counts=more))
    untrue(case, start, replace(end, proof=start.proof))
    untrue(case, start, replace(end, counts=(*end.counts, 0)))
    untrue(case, start, replace(end, counts=end.counts[:-1]))
    untrue(case, replace(start, proof=start.proof[::-1]), end)
    with pytest.raises(InvalidStatement):
        check_tokens(case.record, FRAGMENTS + 1, case.claimed.reveal())


def test_another_component_does_not_pass_for_the_tokens(case: Case) -> None:
    other = [digest("component", bytes([i])) for i in range(STATE_COMPONENTS)]
    other[PHI_COMPONENT] = tokens_component((5_000, 0, 0))
    record = replace(case.record, end_root=merkle_root(other))
    end = TokensOpening((5_000, 0, 0), merkle_proof(other, PHI_COMPONENT))
    with pytest.raises(InvalidStatement, match="not the tokens of its state"):
        check_tokens(record, FRAGMENTS, case.claimed.reveal(tokens=(case.claimed.tokens[0], end)))


@pytest.mark.rule("L40")
def test_a_segment_may_begin_with_tokens_from_before_but_counts_its_own(case: Case) -> None:
    counted = [make_tokens_opening(b"state", total, FRAGMENTS) for total in (7_000, 12_000, 11_999)]
    (start_root, start), (end_root, end), (less_root, less) = counted
    record = replace(case.record, start_root=start_root, end_root=end_root)
    check_tokens(record, FRAGMENTS, case.claimed.reveal(tokens=(start, end)))
    with pytest.raises(InvalidStatement, match="counts 4999 tokens where the commit says 5000"):
        check_tokens(
            replace(record, end_root=less_root),
            FRAGMENTS,
            case.claimed.reveal(tokens=(start, less)),
        )


def test_the_tokens_are_one_tensor_of_int64_as_training_has_them() -> None:
    counts = (TOKENS_TOTAL_MAX, 0, 1, 1 << 40)
    assert tokens_component(counts) == hash_of(torch.tensor(counts, dtype=torch.int64))
    assert tokens_component(counts) == segment.tokens_component(counts[0], counts[1:])


def test_fewer_leaves_than_steps_are_refused_even_if_they_are_what_was_committed(
    case: Case,
) -> None:
    short = case.claimed.leaves[: STEPS - 1]
    hidden = trace_commit(trace_root(short), SALT)
    record = replace(case.record, trace_commit=hidden)
    shortened = dataclasses.replace(case.claimed, leaves=short)
    with pytest.raises(InvalidStatement):
        open_windows(record, WINDOW, shortened.reveal())
