"""A segment stands on an anchor that is listed until its last verifier has replayed it, or is not shown."""

import pytest

from swarm.ledger.state.records import Checkpoint
from swarm.ledger.transition.runs import JUDGING_ROUNDS, checkpoints_kept, rounds_kept
from swarm.ledger.views import LATE_MAX, is_lasting, lasting
from swarm.testing.ledger import small_run_spec
from swarm.types import Digest, Height, PeerId, RoundIndex

PEER = PeerId(bytes(32))
INITIAL = Digest(b"\xff" * 32)
BLOCKS = 10


def root(round_: int) -> Digest:
    return Digest(bytes([round_]) * 32)


def listed(*rounds: int) -> list[Checkpoint]:
    """Checkpoints of these boundaries, each final half a round after its own."""
    return [
        Checkpoint(
            round=RoundIndex(r),
            phi_root=root(r),
            phi_bytes=4,
            peer=PEER,
            seat=0,
            height=Height(r * BLOCKS + BLOCKS // 2),
            is_void=False,
        )
        for r in rounds
    ]


def test_the_canonical_one_comes_first_then_the_one_before_then_what_came_since() -> None:
    found = lasting(listed(6, 5, 4, 3, 2), 6 * BLOCKS)
    assert [kept.round for kept in found] == [5, 4, 6]
    assert lasting([], 6 * BLOCKS) == []


def test_older_ones_do_not_last_and_the_initial_weights_always_do() -> None:
    known = listed(5, 4, 3, 2)
    verdicts = [is_lasting(known, 6 * BLOCKS, root(r), INITIAL) for r in (5, 4, 3, 2, 1)]
    assert verdicts == [True, True, False, False, False]
    assert is_lasting(known, 6 * BLOCKS, INITIAL, INITIAL)
    assert is_lasting([], 6 * BLOCKS, INITIAL, INITIAL)
    assert not is_lasting([], 6 * BLOCKS, root(5), INITIAL)


@pytest.mark.rule("N6")
def test_what_lasts_is_listed_until_the_last_judge_is_done() -> None:
    """With a checkpoint at every boundary, none missing: the fastest that the list can move."""
    for every in (1, 2, 3, 7):
        spec = small_run_spec(checkpoint_rounds=every)
        begun = 3 * 7 * every
        end = begun + rounds_kept(spec) + JUDGING_ROUNDS
        all_ = listed(*(r for r in range(end, 0, -1) if r % every == 0))
        seen = [kept for kept in all_ if kept.round < begun]
        oldest = lasting(seen, begun * BLOCKS)[LATE_MAX]
        assert oldest in all_[: checkpoints_kept(spec)]
