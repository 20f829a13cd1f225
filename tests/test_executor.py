"""Heavy work runs in order, in threads that give way, and the event loop stays awake."""

import os
import sys
import threading
import time

import pytest
import trio
import trio.testing

from swarm.executor import Executor
from swarm.testing.executor import InlineExecutor


async def test_results_and_errors_come_back() -> None:
    compute = Executor()
    assert await compute.run(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await compute.run(divmod, 1, 0)
    assert await compute.run(divmod, 9, 4) == (2, 1)
    compute.close()


async def test_one_worker_takes_jobs_in_the_order_they_came() -> None:
    compute, order = Executor(num_workers=1), list[int]()

    async def ask(number: int) -> None:
        await compute.run(order.append, number)

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(ask, number)
            await trio.testing.wait_all_tasks_blocked(0.0001)
    assert order == list(range(20))
    compute.close()


@pytest.mark.parametrize("round_number", range(5))
async def test_the_order_holds_when_jobs_end_while_the_event_loop_is_busy(
    round_number: int,
) -> None:
    """Tasks that are woken together run in any order; trio shuffles them."""
    compute, order = Executor(), list[int]()
    release, ended = threading.Event(), threading.Event()

    async def ask(number: int) -> None:
        await compute.run(order.append, number)

    async with trio.open_nursery() as nursery:
        for fn in (lambda: release.wait(5), ended.set):
            nursery.start_soon(compute.run, fn)
            await trio.testing.wait_all_tasks_blocked()
        for number in range(8 + round_number):
            nursery.start_soon(ask, number)
            await trio.testing.wait_all_tasks_blocked()
        release.set()
        assert ended.wait(5), "the event loop has not turned since the first job was done"
    assert order == sorted(order)
    compute.close()


@pytest.mark.rule("T2")
async def test_workers_are_our_own_threads_prepared_once_each() -> None:
    prepared = list[int]()
    compute = Executor(num_workers=2, prepare=lambda: prepared.append(threading.get_ident()))
    meet = threading.Barrier(2)

    def who() -> int:
        meet.wait(5)
        return threading.get_ident()

    seen = set[int]()

    async def ask() -> None:
        seen.add(await compute.run(who))

    for _ in range(3):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(ask)
    assert len(seen) == 2
    assert sorted(prepared) == sorted(seen)
    assert threading.get_ident() not in seen
    compute.close()


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own here")
async def test_workers_give_way_to_the_event_loop() -> None:
    compute = Executor(niceness=5)

    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    assert await compute.run(niceness) == min(niceness() + 5, 19)
    compute.close()


async def test_a_failed_preparation_is_told_to_whoever_asks() -> None:
    def refuse() -> None:
        raise OSError("no such device")

    compute = Executor(prepare=refuse)
    with pytest.raises(OSError, match="no such device"):
        await compute.run(abs, -1)
    compute.close()


async def test_cancelled_while_queued_never_runs_and_while_running_runs_to_its_end() -> None:
    compute, ran = Executor(), list[str]()
    release = threading.Event()

    def slow() -> None:
        release.wait(5)
        ran.append("slow")

    async def ask_slow() -> None:
        with scope:
            await compute.run(slow)

    async def ask_queued() -> None:
        with scope:
            await compute.run(ran.append, "queued")

    scope = trio.CancelScope()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask_slow)
        await trio.testing.wait_all_tasks_blocked(0.001)
        with trio.move_on_after(0.02):
            await compute.run(ran.append, "queued")
        nursery.cancel_scope.shield = True
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked(0.001)
        assert ran == []
        release.set()
    assert ran == ["slow"]
    assert await compute.run(len, ran) == 1
    compute.close()


async def test_the_next_job_does_not_wait_for_a_busy_event_loop() -> None:
    compute, both = Executor(), threading.Event()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(compute.run, abs, -1)
        nursery.start_soon(compute.run, both.set)
        await trio.testing.wait_all_tasks_blocked(0.0)
        assert both.wait(5), "the event loop has not turned since the first job was done"
    compute.close()


async def test_a_job_handed_over_and_cancelled_never_runs() -> None:
    compute, ran = Executor(), list[str]()
    release = threading.Event()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(compute.run, release.wait, 5)
        await trio.testing.wait_all_tasks_blocked(0.001)
        with trio.move_on_after(0.02) as scope:
            await compute.run(ran.append, "handed over")
        assert scope.cancelled_caught
        release.set()
        await compute.run(ran.append, "after it")
    assert ran == ["after it"]
    compute.close()


async def test_the_event_loop_stays_awake_while_a_worker_computes() -> None:
    compute, ticks = Executor(), 0

    def spin() -> None:
        end = time.monotonic() + 0.1
        while time.monotonic() < end:
            pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(compute.run, spin)
        for _ in range(5):
            await trio.sleep(0.001)
            ticks += 1
    assert ticks == 5
    compute.close()


async def test_in_a_simulation_work_costs_virtual_time(autojump_clock: trio.abc.Clock) -> None:
    compute = InlineExecutor(lambda fn: 2.5 if fn is divmod else 0.0)
    started = trio.current_time()
    assert await compute.run(divmod, 7, 2) == (3, 1)
    assert trio.current_time() - started == pytest.approx(2.5)
    compute.close()


async def test_in_a_simulation_one_worker_takes_one_job_at_a_time(
    autojump_clock: trio.abc.Clock,
) -> None:
    compute = InlineExecutor(lambda _: 1.0)
    started = trio.current_time()
    async with trio.open_nursery() as nursery:
        for number in (1, 2, 3):
            nursery.start_soon(compute.run, abs, number)
    assert trio.current_time() - started == pytest.approx(3.0)
