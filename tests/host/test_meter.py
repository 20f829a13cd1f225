"""A meter counts the processor time of a task and not the time that it waits."""

import time

import pytest
import trio
import trio.lowlevel

from swarm.host.meter import Meter


def spin(for_s: float) -> None:
    ends_at = time.thread_time() + for_s
    while time.thread_time() < ends_at:
        pass


async def test_it_counts_work_and_no_waiting_and_returns_what_the_work_returns() -> None:
    charged = list[float]()
    meter = Meter(charged.append)

    async def work() -> str:
        spin(0.01)
        await trio.sleep(0.2)
        spin(0.02)
        return "done"

    assert await meter.run(work()) == "done"
    assert 0.03 <= meter.used_s < 0.15
    assert sum(charged) == pytest.approx(meter.used_s)


async def test_take_counts_the_step_under_way() -> None:
    meter = Meter()

    async def work() -> list[float]:
        spin(0.01)
        first = meter.take()
        await trio.lowlevel.checkpoint()
        return [first, meter.take()]

    first, second = await meter.run(work())
    assert first >= 0.01
    assert second < 0.01


async def test_errors_and_cancellation_pass_both_ways() -> None:
    async def fails() -> None:
        await trio.lowlevel.checkpoint()
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await Meter().run(fails())

    ended = list[str]()

    async def is_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append("cleaned up")

    with trio.move_on_after(0.01) as scope:
        await Meter().run(is_cancelled())
    assert scope.cancelled_caught
    assert ended == ["cleaned up"]


async def test_scopes_and_nurseries_work_inside() -> None:
    async def work() -> int:
        found = list[int]()

        async def child(number: int) -> None:
            await trio.sleep(0.001)
            found.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(child, number)
        with trio.move_on_after(0.001):
            await trio.sleep_forever()
        return len(found)

    assert await Meter().run(work()) == 3
