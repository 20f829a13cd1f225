"""Two runs of one program give one trace, so a failing seed can be replayed.

Trio breaks ties between equal deadlines by memory address, and shuffles what is ready to run. The fixture in
conftest.py takes both away through private names of trio: these tests say so first if a new trio moves them.
"""

import random
from importlib.metadata import version
from pathlib import Path

import pytest
import trio
import trio._core._run as trio_run
import trio.testing

NUM_TASKS = 40
ROOT = Path(__file__).parents[1]


def trace(scheduler_seed: int, *, deterministic: bool = True) -> list[int]:
    """The order in which tasks run that all wake at the same instants of virtual time."""
    seen: list[int] = []

    async def task(number: int) -> None:
        for _ in range(5):
            await trio.sleep(1.0)
            seen.append(number)
            await trio.lowlevel.checkpoint()
            seen.append(-number)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(NUM_TASKS):
                nursery.start_soon(task, number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trio_run, "_ALLOW_DETERMINISTIC_SCHEDULING", deterministic)
        patch.setattr(trio_run, "_r", random.Random(scheduler_seed))
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return seen


def test_one_seed_gives_one_trace_even_when_the_heap_is_disturbed() -> None:
    first = trace(1)
    litter = [bytearray(dice) for dice in random.Random(2).sample(range(50, 5000), 2000)]
    del litter[::3]
    assert trace(1) == first
    assert len(first) == NUM_TASKS * 10


def test_another_seed_gives_another_trace() -> None:
    """The negative control: the trace does depend on the order in which tasks run."""
    assert trace(1) != trace(2)


def test_the_private_switches_are_where_we_turn_them() -> None:
    assert isinstance(trio_run._ALLOW_DETERMINISTIC_SCHEDULING, bool)
    assert isinstance(trio_run._r, random.Random)


def test_trio_is_the_pinned_one() -> None:
    pins = (ROOT / "constraints.txt").read_text("utf-8").split()
    assert f"trio=={version('trio')}" in pins
