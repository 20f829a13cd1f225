"""Make every test a pure function of its seed, and print the seed of a failure.

``SWARM_TEST_SEED=N scripts/t PATH::NAME`` runs a test under another seed, or again under a failing one.
``SWARM_TEST_JITTER=1 scripts/t`` lets threads begin and end late, as on a busy machine: a test that hangs on
which of two things is done first fails then.
"""

import os
import sys

# One thread per torch call, as in a node: on a busy machine two threads wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"


import gc
import random
import time
from collections.abc import Callable, Generator
from typing import Any

import pytest
import trio
import trio._core._run as trio_run
from trio.testing import MockClock

SEED = int(os.environ.get("SWARM_TEST_SEED", "0"))
HAS_JITTER = bool(int(os.environ.get("SWARM_TEST_JITTER", "0")))
LATE_S = (0.0, 0.0, 0.001, 0.005, 0.02, 0.05)
"""Seconds, one of which a thread begins late, and one of which it ends late, under jitter."""


@pytest.fixture
def seed() -> int:
    """The seed of this test run, for tests that throw dice of their own."""
    return SEED


@pytest.fixture(autouse=True)
def seeded_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run trio tasks in an order that depends on nothing but the program, and throw the same dice each time.

    Both halves are needed: the flag sorts each batch by task number before the
    shuffle, the seed fixes the shuffle. With the seed alone, two tasks that wake
    at the same instant run in the order of their memory addresses.
    """
    monkeypatch.setattr(trio_run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
    monkeypatch.setattr(trio_run, "_r", random.Random(SEED))
    random.seed(SEED)


@pytest.fixture(autouse=HAS_JITTER)
def late_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each thread begin and end late, by a time that is drawn."""
    run: Any = trio.to_thread.run_sync
    sleep, dice = time.sleep, random.Random(SEED)

    async def run_late(
        work: Callable[..., object],
        *arguments: object,
        abandon_on_cancel: bool = False,
        limiter: trio.CapacityLimiter | None = None,
    ) -> object:
        before_s, after_s = dice.choices(LATE_S, k=2)

        def work_late() -> object:
            sleep(before_s)
            try:
                return work(*arguments)
            finally:
                sleep(after_s)

        return await run(work_late, abandon_on_cancel=abandon_on_cancel, limiter=limiter)

    monkeypatch.setattr(trio.to_thread, "run_sync", run_late)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for garbage only from here on, and only in what the tests make.

    Loading the libraries and the tests makes a million objects that stay. Counting them again and again takes
    a fifth of the time of loading, and then some of every test's.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put the line that repeats a failure under the failure."""
    report = yield
    if report.failed:
        report.sections.append(("seed", f'SWARM_TEST_SEED={SEED} scripts/t "{item.nodeid}"'))
    return report


RECURSION_LIMIT = sys.getrecursionlimit()


@pytest.fixture(autouse=True)
def recursion_limit() -> None:
    """Begin every test with Python's own limit: py-evm raises it for its process, so far that deeply nested
    JSON ends the process instead of being refused.
    """
    sys.setrecursionlimit(RECURSION_LIMIT)


@pytest.fixture
def inline_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do the work of threads at once, so that the order of things does not hang on the machine."""

    async def run_inline(work: Callable[..., object], *arguments: object, **_: object) -> object:
        await trio.lowlevel.checkpoint()
        return work(*arguments)

    monkeypatch.setattr(trio.to_thread, "run_sync", run_inline)


@pytest.fixture
def autojump_clock(inline_threads: None) -> MockClock:
    """Virtual time, in place of pytest-trio's, which runs on while a thread works."""
    return MockClock(autojump_threshold=0)
