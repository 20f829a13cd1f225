"""What is hidden cannot be found without its salt, copied under another name, or opened as something else."""

import pytest

from swarm.errors import UsageError
from swarm.primitives.commitments import (
    leaves_root,
    step_leaf_digest,
    trace_commit,
    trace_root,
    verify_commit,
    window_claim,
)
from swarm.primitives.crypto import SecretKey, fast_digest
from swarm.primitives.merkle import merkle_root
from swarm.types import NO_DIGEST

LEAVES = tuple(fast_digest("test", bytes([i])) for i in range(3))
END, SALT = fast_digest("test", b"end"), bytes(range(32))
ALICE, BOB = (SecretKey.from_seed(bytes([i]) * 32).peer for i in (1, 2))


@pytest.mark.rule("V8")
def test_a_root_of_nothing_is_no_digest() -> None:
    assert leaves_root(()) == trace_root(()) == NO_DIGEST
    assert leaves_root(LEAVES) == trace_root(LEAVES) == merkle_root(LEAVES)


def test_every_part_of_an_answer_is_in_its_commitment() -> None:
    answers = {
        verify_commit(LEAVES, END, SALT, ALICE),
        verify_commit(LEAVES[:2], END, SALT, ALICE),
        verify_commit(LEAVES, LEAVES[0], SALT, ALICE),
        verify_commit(LEAVES, END, bytes(32), ALICE),
        verify_commit(LEAVES, END, SALT, BOB),
        window_claim(LEAVES, END),
        window_claim(LEAVES[:2], END),
        window_claim(LEAVES, LEAVES[0]),
        trace_commit(trace_root(LEAVES), SALT),
        trace_commit(trace_root(LEAVES), bytes(32)),
    }
    assert len(answers) == 10


def test_a_step_leaf_covers_step_drops_state_and_work() -> None:
    dropped = ((0, 7, 1),)
    leaves = {
        step_leaf_digest(7, dropped, END, LEAVES[0]),
        step_leaf_digest(8, dropped, END, LEAVES[0]),
        step_leaf_digest(7, (), END, LEAVES[0]),
        step_leaf_digest(7, dropped, NO_DIGEST, LEAVES[0]),
        step_leaf_digest(7, dropped, END, LEAVES[1]),
    }
    assert len(leaves) == 5


@pytest.mark.parametrize("salt", [b"", bytes(31), bytes(33)])
def test_a_salt_of_another_length_is_our_own_mistake(salt: bytes) -> None:
    with pytest.raises(UsageError):
        trace_commit(END, salt)
    with pytest.raises(UsageError):
        verify_commit(LEAVES, END, salt, ALICE)
