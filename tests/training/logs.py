"""Windows of real segments: three stages of two seats that trained and traded for a few seconds."""

from functools import cache

import trio
from trio.testing import MockClock

from swarm.config.spec import RunSpec
from swarm.training.record.window import WindowData
from tests.training.pipeline import Swarm, a_spec

SPEC: RunSpec = a_spec(stages=3)


@cache
def recorded(stage: int) -> tuple[WindowData, ...]:
    """All windows of seat 0 of a stage."""
    return tuple(_swarm().nodes[stage, 0].windows)


@cache
def _swarm() -> Swarm:
    async def train() -> Swarm:
        swarm = Swarm(SPEC, replicas=2, buffer=0)
        await swarm.train(3.0, trades=True)
        return swarm

    return trio.run(train, clock=MockClock(autojump_threshold=0))
