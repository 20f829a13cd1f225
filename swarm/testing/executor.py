"""Run heavy arithmetic of a simulation in place: each job costs virtual time instead of a worker thread.

Shell: waits on the clock of trio, which a simulation moves.
"""

from collections.abc import Callable
from typing import Any

import trio

from swarm.executor import T, Ts, job_name


class InlineExecutor:
    """Executor of a simulation: no thread; the cost of a job passes as virtual time, then the job runs.

    ``cost_s`` maps a function to the seconds that one call of it takes.
    """

    def __init__(
        self, cost_s: Callable[[Callable[..., Any]], float], *, num_workers: int = 1
    ) -> None:
        self._cost_s = cost_s
        self.spent_s: dict[str, float] = {}
        """Virtual seconds by function name, as ``Executor.spent_s``."""
        self._free = trio.CapacityLimiter(num_workers)

    async def run(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """Wait the virtual cost of ``fn``, then return ``fn(*args)``."""
        async with self._free:
            cost_s = self._cost_s(fn)
            await trio.sleep(cost_s)
            self.spent_s[job_name(fn)] = self.spent_s.get(job_name(fn), 0.0) + cost_s
            return fn(*args)

    def close(self) -> None:
        """Do nothing: there is no thread to end."""
