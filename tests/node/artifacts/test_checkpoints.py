"""A newcomer starts from one of the newest checkpoints, or waits; from initial weights only in a young run."""

from types import SimpleNamespace as Some
from typing import Any

import pytest

from swarm.errors import Unreachable
from swarm.gossip.blobs.service import PATIENCE_S
from swarm.node.artifacts.checkpoints import NEWEST_TRIED, OLDER_HERE_PATIENCE_S, newest
from swarm.types import Digest, StageIndex

STAGE = StageIndex(0)
INITIAL = Digest(b"\xff" * 32)


class Shelves:
    """A library that has some checkpoints, and counts who asks."""

    def __init__(self, *had: int) -> None:
        self.had = had
        self.here: set[int] = set()
        self.asked: list[int] = []
        self.patience: list[float] = []
        self.context: Any = Some(library=self, blobs=Some(has=lambda root: root[0] in self.here))

    async def checkpoint(
        self,
        _: object,
        __: StageIndex,
        kept: Any,  # noqa: ANN401
        patience_s: float,
    ) -> str:
        self.asked.append(kept.round)
        self.patience.append(patience_s)
        if kept.round not in self.had:
            raise Unreachable(f"nobody serves {kept.round}")
        return f"weights {kept.round}"

    async def initial(self, *_: object) -> str:
        return "initial"

    async def initial_root(self, *_: object) -> Digest:
        return INITIAL


def a_run(*rounds: int) -> Any:  # noqa: ANN401
    kept = tuple(Some(round=r, phi_root=Digest(bytes([r]) * 32)) for r in rounds)
    return Some(spec=None, checkpoints=(kept,), standing=lambda _: kept)


@pytest.mark.rule("N9")
async def test_the_newest_that_somebody_serves() -> None:
    shelves = Shelves(8, 7)
    found: Any = await newest(shelves.context, a_run(9, 8, 7, 6), STAGE)
    assert found == ("weights 8", Digest(bytes([8]) * 32), 8)
    assert shelves.asked == [9, 8]


async def test_a_young_run_starts_from_its_initial_weights() -> None:
    for run in (a_run(), a_run(2)):
        found: Any = await newest(Shelves().context, run, STAGE)
        assert found == ("initial", INITIAL, 0)


@pytest.mark.rule("N9")
async def test_late_in_a_run_a_newcomer_waits_rather_than_begin_from_nothing() -> None:
    """It asks for a few only: a long list of which nobody serves any must not hold it up for an hour."""
    shelves = Shelves(5)
    with pytest.raises(Unreachable, match=r"rounds 9, 8, 7\) can be had yet: nobody serves 9"):
        await newest(shelves.context, a_run(9, 8, 7, 6, 5), STAGE)
    assert len(shelves.asked) == NEWEST_TRIED


async def test_where_an_older_one_is_here_a_newer_one_is_not_waited_for_long() -> None:
    """The newest checkpoint of a stage that was lost may be gone with it."""
    shelves = Shelves(7)
    shelves.here = {7}
    found: Any = await newest(shelves.context, a_run(9, 8, 7, 6), STAGE)
    assert found[2] == 7
    assert shelves.patience[:2] == [OLDER_HERE_PATIENCE_S] * 2
    assert OLDER_HERE_PATIENCE_S < PATIENCE_S
    shelves.here = {6}
    shelves.patience.clear()
    await newest(shelves.context, a_run(9, 8, 7, 6), STAGE)
    assert shelves.patience == [PATIENCE_S] * 3, "one that is not among those that are asked for"
