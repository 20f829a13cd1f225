"""Measure how long a ledger stands still when a validator is lost: in virtual time, and among processes.

In virtual time: whole nodes over links of 10 ms without sockets, a block a second, lost at 8 moments of a
round of leaders. Among processes: ``benchmarks.ledger_voters``.
"""

import statistics
from collections.abc import Callable, Generator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import trio
from trio.testing import MockClock

from benchmarks.common import Outcome, spread
from swarm.ledger.service import LedgerService
from swarm.ledger.transactions import Validate
from swarm.testing.ledger import numbered_key
from tests.ledger.services import MemoryHost, MemoryNet, a_genesis, a_ledger

MOMENTS = 8
"""Moments at which the founder is lost: every leader has had its turn."""
MOMENT_S = 0.27
"""Seconds between two such moments, beyond a whole block: none falls into the same phase of a view."""
EPOCH_BLOCKS = 20
FOUNDERS = 4


def measure_founder(home: Path, moments: int = MOMENTS) -> Outcome:
    """Lose one of four founders, and a founder among four peers with a stake that came later."""
    outcome = Outcome()
    waits = dict[str, list[float]]()
    for name, count in (("four_founders", FOUNDERS), ("founder_and_four_peers", 1)):
        waits[name] = [
            lose_founder(home / f"{name}-{number}", count, number) for number in range(moments)
        ]
        outcome.detail[f"founder_lost_{name}_s"] = spread(waits[name])
    outcome.figures["founder_lost_final_s"] = round(max(max(found) for found in waits.values()), 2)
    outcome.detail["founder_lost_median_s"] = {
        name: round(statistics.median(found), 2) for name, found in waits.items()
    }
    return outcome


def lose_founder(home: Path, num_founders: int, moment: int) -> float:
    """Return the virtual seconds from the loss of key 0 to the next block that is final at all others."""
    home.mkdir(parents=True)
    with threads_inline():
        return trio.run(
            _lose_founder, home, num_founders, moment, clock=MockClock(autojump_threshold=0)
        )


async def _lose_founder(home: Path, num_founders: int, moment: int) -> float:
    count = max(num_founders, 5 if num_founders == 1 else 0)
    net, genesis = MemoryNet(), a_genesis(num_founders, epoch_blocks=EPOCH_BLOCKS)
    async with AsyncExitStack() as stack:
        ledgers = list[LedgerService]()
        for number in range(count):
            host = MemoryHost(net, numbered_key(number))
            ledgers.append(await stack.enter_async_context(a_ledger(home, genesis, number, host)))
        for ledger in ledgers[num_founders:]:
            await ledger.submit(Validate(is_on=True))
        begun = 2 * EPOCH_BLOCKS + 5 if num_founders < count else 5
        for ledger in ledgers:
            await ledger.wait_height(begun)
        assert len(ledgers[0].state.validators) == count
        await trio.sleep(moment * (1.0 + MOMENT_S))
        net.cut.add(numbered_key(0).peer)
        lost_at, others = trio.current_time(), ledgers[1:]
        height = max(ledger.height for ledger in others)
        for ledger in others:
            await ledger.wait_height(height + 1)
        return trio.current_time() - lost_at


@contextmanager
def threads_inline() -> Generator[None]:
    """Do the work of threads at once: virtual time must not run meanwhile."""
    real = trio.to_thread.run_sync

    async def run_inline(work: Callable[..., object], *arguments: object) -> object:
        await trio.lowlevel.checkpoint()
        return work(*arguments)

    setattr(trio.to_thread, "run_sync", run_inline)  # noqa: B010  its type is another
    try:
        yield
    finally:
        setattr(trio.to_thread, "run_sync", real)  # noqa: B010
