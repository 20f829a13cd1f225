"""Run heavy arithmetic in worker threads, so that it does not hold up the event loop.

Shell: worker threads of lower priority.
"""

import math
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, TypeVarTuple

import outcome
import trio

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
NICENESS_MAX = 19
CLOSE_TIMEOUT_S = 2.0
"""Seconds that closing waits for a job that still runs: leaving must take less than 3 s."""


class ExecutorPort(Protocol):
    """Executor as shells see it: runs functions, one job per worker at a time, in order."""

    async def run(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """Return ``fn(*args)``, or raise what it raised."""
        ...


@dataclass(slots=True, eq=False)
class _Job:
    name: str
    work: Callable[[], Any]
    token: trio.lowlevel.TrioToken
    done: trio.Event = field(default_factory=trio.Event)
    result: outcome.Outcome[Any] | None = None


def _nothing() -> None:
    pass


class Executor:
    """Executor of ``num_workers`` threads, each running one job at a time, first come first served.

    ``niceness`` (0 to 19, Linux only) is added to the priority number of each worker, so that arithmetic gives
    way to the event loop on a busy machine. ``prepare`` runs once in every worker before its first job: the
    place for ``torch.set_num_threads`` and other settings that count per thread.
    """

    def __init__(
        self,
        *,
        num_workers: int = 1,
        niceness: int = 10,
        prepare: Callable[[], None] = _nothing,
    ) -> None:
        self._niceness = niceness
        self._prepare = prepare
        self.spent_s: dict[str, float] = {}
        """Processor seconds by name of the function: where the time of this node went."""
        self._jobs = deque[_Job | None]()  # one at most for each task that waits in ``run``
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._work, name=f"compute-{i}", daemon=True)
            for i in range(num_workers)
        ]

    async def run(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """Run ``fn(*args)`` in a worker and return its result, or raise what it raised.

        Jobs begin in the order of the calls. A worker that ends one begins the next without asking the event
        loop, which may be busy for milliseconds with the result of the last one.

        Cancelled while queued: never runs. Cancelled while running: waits for the end of the job, so
        that nobody touches what it works on meanwhile, and then raises ``Cancelled``.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        for thread in self._threads:
            if thread.ident is None:
                thread.start()
        job = _Job(job_name(fn), lambda: fn(*args), trio.lowlevel.current_trio_token())
        self._hand_over(job)  # at once: tasks that wake together run in any order
        try:
            await job.done.wait()
        except trio.Cancelled:
            if self._took_back(job):
                raise
            with trio.move_on_after(math.inf) as unhurried:
                unhurried.shield = True
                await job.done.wait()
            raise
        assert job.result is not None, "a job that is done has a result"
        result: T = job.result.unwrap()
        return result

    def close(self) -> None:
        """End the workers; wait at most ``CLOSE_TIMEOUT_S`` for each one that still runs a job."""
        started = [thread for thread in self._threads if thread.ident is not None]
        for _ in started:
            self._hand_over(None)
        for thread in started:
            thread.join(CLOSE_TIMEOUT_S)

    def _hand_over(self, job: _Job | None) -> None:
        with self._changed:
            self._jobs.append(job)
            self._changed.notify()

    def _took_back(self, job: _Job) -> bool:
        """Remove a job from the queue; return False if a worker has begun it already."""
        with self._changed:
            is_here = job in self._jobs
            if is_here:
                self._jobs.remove(job)
            return is_here

    def _next(self) -> _Job | None:
        with self._changed:
            while not self._jobs:
                self._changed.wait()
            return self._jobs.popleft()

    def _work(self) -> None:
        _lower_priority(self._niceness)
        ready = outcome.capture(self._prepare)
        while (job := self._next()) is not None:
            began = time.thread_time()
            job.result = ready if isinstance(ready, outcome.Error) else outcome.capture(job.work)
            self.spent_s[job.name] = self.spent_s.get(job.name, 0.0) + time.thread_time() - began
            with suppress(trio.RunFinishedError):  # the loop has ended: no task waits
                job.token.run_sync_soon(job.done.set)
            del job  # results can be large: do not hold the last one while idle


def job_name(fn: Callable[..., Any]) -> str:
    """Return the name under which the time of a function is counted."""
    return getattr(fn, "__qualname__", type(fn).__name__)


def _lower_priority(niceness: int) -> None:
    """Make the calling thread give way to others, on systems where threads have their own priority (Linux)."""
    if sys.platform == "linux":
        mine = threading.get_native_id()
        target = min(os.getpriority(os.PRIO_PROCESS, mine) + niceness, NICENESS_MAX)
        with suppress(
            PermissionError
        ):  # some sandboxes forbid it; the event loop is then slower, no more
            os.setpriority(os.PRIO_PROCESS, mine, target)
