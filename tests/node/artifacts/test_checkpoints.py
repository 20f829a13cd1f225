"""A newcomer starts from one of the newest checkpoints, or waits; from initial weights only in a young run."""

import pytest
import torch
from torch import Tensor

from swarm.errors import Unreachable
from swarm.gossip.blobs.service import PATIENCE_S
from swarm.ledger.state.records import Checkpoint, Run
from swarm.node.artifacts.checkpoints import NEWEST_TRIED, OLDER_HERE_PATIENCE_S, newest
from swarm.testing.ledger import small_run_spec
from swarm.types import Height, RoundIndex, StageIndex
from tests.node.fakes import KEY, FakeArtifacts, FakeBlobs, FakeNode, a_digest, a_run

STAGE = StageIndex(0)


class SomeCheckpoints(FakeArtifacts):
    """An artifact cache that has some checkpoints, and counts requests; weights are the number of their
    round.
    """

    def __init__(self, *had: int) -> None:
        self.had = had
        self.blobs = FakeBlobs()
        self.asked: list[int] = []
        self.patience: list[float] = []
        self.node = FakeNode(artifacts=self, blobs=self.blobs)

    async def checkpoint(
        self, run: Run, stage: StageIndex, checkpoint: Checkpoint, patience_s: float = 0.0
    ) -> Tensor:
        self.asked.append(checkpoint.round)
        self.patience.append(patience_s)
        if checkpoint.round not in self.had:
            raise Unreachable(f"no peer serves {checkpoint.round}")
        return torch.tensor(checkpoint.round)

    async def initial(self, run: Run, stage: StageIndex) -> Tensor:
        return torch.tensor(0)


def some_rounds(*rounds: int) -> Run:
    kept = tuple(
        Checkpoint(
            round=RoundIndex(r),
            phi_root=a_digest(r),
            phi_bytes=4,
            peer=KEY.peer,
            seat=0,
            height=Height(0),
            is_void=False,
        )
        for r in rounds
    )
    return a_run(small_run_spec(num_stages=1), checkpoints=(kept,))


@pytest.mark.rule("N9")
async def test_the_newest_that_a_peer_serves() -> None:
    checkpoints = SomeCheckpoints(8, 7)
    found = await newest(checkpoints.node, some_rounds(9, 8, 7, 6), STAGE)
    assert found == (torch.tensor(8), a_digest(8), 8)
    assert checkpoints.asked == [9, 8]


async def test_a_young_run_starts_from_its_initial_weights() -> None:
    for run in (some_rounds(), some_rounds(2)):
        found = await newest(SomeCheckpoints().node, run, STAGE)
        assert found == (torch.tensor(0), run.spec.starts[0].weights, 0)


@pytest.mark.rule("N9")
async def test_late_in_a_run_a_newcomer_waits_rather_than_begin_from_nothing() -> None:
    """It asks for a few only: a long list of which no peer serves any must not hold it up for an hour."""
    checkpoints = SomeCheckpoints(5)
    with pytest.raises(Unreachable, match=r"rounds 9, 8, 7\) can be had yet: no peer serves 9"):
        await newest(checkpoints.node, some_rounds(9, 8, 7, 6, 5), STAGE)
    assert len(checkpoints.asked) == NEWEST_TRIED


async def test_where_an_older_one_is_here_a_newer_one_is_not_waited_for_long() -> None:
    """The newest checkpoint of a stage that was lost may be gone with it."""
    checkpoints = SomeCheckpoints(7)
    checkpoints.blobs.here = {a_digest(7)}
    found = await newest(checkpoints.node, some_rounds(9, 8, 7, 6), STAGE)
    assert found[2] == 7
    assert checkpoints.patience[:2] == [OLDER_HERE_PATIENCE_S] * 2
    assert OLDER_HERE_PATIENCE_S < PATIENCE_S
    checkpoints.blobs.here = {a_digest(6)}
    checkpoints.patience.clear()
    await newest(checkpoints.node, some_rounds(9, 8, 7, 6), STAGE)
    assert checkpoints.patience == [PATIENCE_S] * 3, (
        "one that is not among those that are asked for"
    )
