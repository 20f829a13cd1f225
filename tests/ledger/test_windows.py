"""Only the leaves and the salt of the commit open it, and windows begin where the run says."""

import dataclasses

import pytest

from swarm.codec import replace
from swarm.crypto import digest
from swarm.errors import InvalidStatement, Reason
from swarm.leaves import trace_commit, trace_root, window_claim
from swarm.ledger.check_statements import Opening
from swarm.ledger.rehearsed_checks import SALT
from swarm.ledger.windows import open_windows
from swarm.types import NO_DIGEST
from tests.ledger.checking import Case, a_case

STEPS, WINDOW = 25, 10


@pytest.fixture(scope="module")
def case() -> Case:
    return a_case(num_steps=STEPS)


def refused(case: Case, **changes: object) -> None:
    with pytest.raises(InvalidStatement) as caught:
        open_windows(case.record, WINDOW, case.said.reveal(**changes))
    assert caught.value.reason is Reason.BAD_PROOF


def test_windows_follow_one_another_from_start_to_end(case: Case) -> None:
    windows = open_windows(case.record, WINDOW, case.said.reveal())
    assert [window.num_leaves for window in windows] == [11, 11, 5], "merges are leaves too"
    assert windows[0].start_root == case.record.start_root
    assert [w.end_root for w in windows[:2]] == [w.start_root for w in windows[1:]]
    assert windows[-1].end_root == case.record.end_root
    for index, window in enumerate(windows):
        assert window.claim == window_claim(*case.said.window(index))


def test_another_salt_or_other_leaves_do_not_open_the_commit(case: Case) -> None:
    leaves = case.said.leaves
    refused(case, salt=bytes(32))
    refused(case, leaves=leaves[:-1])
    refused(case, leaves=(*leaves, leaves[0]))
    refused(case, leaves=(leaves[1], leaves[0], *leaves[2:]))
    refused(case, leaves=(*leaves[:-1], digest("x", b"")))


def test_an_opening_that_is_not_in_its_leaf_is_refused(case: Case) -> None:
    first, second, third = case.said.openings
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
        open_windows(case.record, 5, case.said.reveal())
    with pytest.raises(InvalidStatement):
        open_windows(case.record, 20, case.said.reveal())


def test_fewer_leaves_than_steps_are_refused_even_if_they_are_what_was_committed(
    case: Case,
) -> None:
    short = case.said.leaves[: STEPS - 1]
    hidden = trace_commit(trace_root(short), SALT)
    record = replace(case.record, trace_commit=hidden)
    told = dataclasses.replace(case.said, leaves=short)
    with pytest.raises(InvalidStatement):
        open_windows(record, WINDOW, told.reveal())
