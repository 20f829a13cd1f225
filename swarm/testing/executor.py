"""Run heavy arithmetic where it cannot hold up the event loop.

Shell: worker threads of lower priority, or virtual time in a simulation.
"""

from collections.abc import Callable
from typing import Any

import trio

from swarm.executor import T, Ts, job_name


class InlineExecutor:
    """The same door in a simulation: no thread, the cost passes as virtual time, then the job runs.

    ``cost_s`` maps a function to the seconds one call of it is worth.
    """

    def __init__(
        self, cost_s: Callable[[Callable[..., Any]], float], *, num_workers: int = 1
    ) -> None:
        self._cost_s = cost_s
        self.spent_s: dict[str, float] = {}
        """As ``Executor.spent_s``, in virtual time."""
        self._free = trio.CapacityLimiter(num_workers)

    async def run(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """Wait the virtual cost of ``fn``, then return ``fn(*args)``."""
        async with self._free:
            cost_s = self._cost_s(fn)
            await trio.sleep(cost_s)
            self.spent_s[job_name(fn)] = self.spent_s.get(job_name(fn), 0.0) + cost_s
            return fn(*args)

    def close(self) -> None:
        """Nothing to end."""
