"""What is hidden cannot be found without its salt, copied under another name, or opened as something else."""

import pytest

from swarm.errors import UsageError
from swarm.primitives.codec import replace
from swarm.primitives.commitments import (
    SALT_BYTES,
    WindowResult,
    leaves_root,
    step_leaf_digest,
    trace_commit,
    trace_root,
    verify_commit,
)
from swarm.primitives.crypto import SecretKey, fast_digest
from swarm.primitives.merkle import merkle_root
from swarm.types import NO_DIGEST

LEAVES = tuple(fast_digest("test", bytes([i])) for i in range(3))
START, END = fast_digest("test", b"start"), fast_digest("test", b"end")
SALT = bytes(range(SALT_BYTES))
ALICE, BOB = (SecretKey.from_seed(bytes([i]) * 32).peer for i in (1, 2))
RESULT = WindowResult(merkle_root(LEAVES), START, END, 5_000)


@pytest.mark.rule("V8")
def test_a_root_of_nothing_is_no_digest() -> None:
    assert leaves_root(()) == trace_root(()) == NO_DIGEST
    assert leaves_root(LEAVES) == trace_root(LEAVES) == merkle_root(LEAVES)


def test_every_part_of_an_answer_is_in_its_commitment() -> None:
    claim, other = RESULT.claim, replace(RESULT, tokens=4_999).claim
    answers = {
        claim,
        other,
        replace(RESULT, leaves_root=LEAVES[0]).claim,
        replace(RESULT, start_root=END).claim,
        replace(RESULT, end_root=START).claim,
        verify_commit(claim, SALT, ALICE),
        verify_commit(other, SALT, ALICE),
        verify_commit(claim, bytes(SALT_BYTES), ALICE),
        verify_commit(claim, SALT, BOB),
        trace_commit(trace_root([claim]), SALT),
        trace_commit(trace_root([claim]), bytes(SALT_BYTES)),
        trace_commit(trace_root([claim, other]), SALT),
        trace_commit(trace_root([other, claim]), SALT),
    }
    assert len(answers) == 13


def test_a_step_leaf_covers_step_drops_state_and_work() -> None:
    dropped = ((0, 7, 1),)
    leaves = {
        step_leaf_digest(7, dropped, END, LEAVES[0], LEAVES[2]),
        step_leaf_digest(8, dropped, END, LEAVES[0], LEAVES[2]),
        step_leaf_digest(7, (), END, LEAVES[0], LEAVES[2]),
        step_leaf_digest(7, dropped, NO_DIGEST, LEAVES[0], LEAVES[2]),
        step_leaf_digest(7, dropped, END, LEAVES[1], LEAVES[2]),
        step_leaf_digest(7, dropped, END, LEAVES[1], LEAVES[0]),
    }
    assert len(leaves) == 6


@pytest.mark.parametrize("salt", [b"", bytes(SALT_BYTES - 1), bytes(SALT_BYTES + 1)])
def test_a_salt_of_another_length_is_our_own_mistake(salt: bytes) -> None:
    with pytest.raises(UsageError):
        trace_commit(END, salt)
    with pytest.raises(UsageError):
        verify_commit(END, salt, ALICE)
