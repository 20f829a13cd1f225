"""Measure the processor time that a task takes, step by step, while it runs.

Shell: reads the clock of the thread at the ends of each step.

What others cost a node is paid for where it arises (``host/paces.py``), and an estimate by messages or bytes
would be far off: a handshake takes milliseconds, an echo a hundredth of that. Time in other threads is not in
it.
"""

import time
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")


def _nothing(_: float) -> None:
    """Charge nobody."""


class Meter:
    """Processor seconds of one coroutine."""

    def __init__(self, charge: Callable[[float], object] = _nothing) -> None:
        """Make a meter; ``charge`` is given the seconds of each step as it ends."""
        self.used_s = 0.0
        """Seconds of the steps that have ended."""
        self._charge = charge
        self._began: float | None = None
        self._taken_s = 0.0

    def take(self) -> float:
        """Return the seconds since the last call, those of the step under way included."""
        running = 0.0 if self._began is None else time.thread_time() - self._began
        total = self.used_s + running
        since, self._taken_s = total - self._taken_s, total
        return since

    @types.coroutine
    def run(self, work: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
        """Await ``work``, and measure it; what it returns or raises comes through."""
        step: Callable[[Any], Any] = work.send
        said: Any = None
        while True:
            self._began = time.thread_time()
            try:
                trap = step(said)
            except StopIteration as end:
                result: T = end.value
                return result
            finally:
                cost_s = time.thread_time() - self._began
                self._began = None
                self.used_s += cost_s
                self._charge(cost_s)
            try:
                step, said = work.send, (yield trap)
            except GeneratorExit:
                work.close()
                raise
            except BaseException as error:  # whatever the loop throws in goes to the work
                step, said = work.throw, error
