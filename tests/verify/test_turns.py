"""One replay at a time, and a judge waits for no more than the one under way."""

import pytest
import trio
from trio.testing import MockClock

from swarm.verify.logs import ReplayQueue


@pytest.mark.rule("V30")
async def test_what_is_urgent_goes_before_all_that_waits(autojump_clock: MockClock) -> None:
    turns, order, together = ReplayQueue(), list[str](), list[int]()

    async def work(name: str, *, urgent: bool) -> None:
        async with turns.take(urgent=urgent):
            together.append(1)
            order.append(name)
            await trio.sleep(1)
            together.pop()
            assert not together

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: work("first", urgent=False))
        await trio.sleep(0.1)
        for name in ("drawn", "drawn too"):
            nursery.start_soon(lambda name=name: work(name, urgent=False))
        await trio.sleep(0.1)
        nursery.start_soon(lambda: work("disputed", urgent=True))
    assert order[:2] == ["first", "disputed"]
    assert trio.current_time() == 4.0


async def test_who_stops_waiting_holds_nobody_up(autojump_clock: MockClock) -> None:
    turns = ReplayQueue()
    async with turns.take(urgent=False):
        with trio.move_on_after(1):
            async with turns.take(urgent=True):
                raise AssertionError("it is taken")
    with trio.fail_after(1):
        async with turns.take(urgent=False):
            pass
