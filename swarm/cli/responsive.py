"""Keep a node quick to answer: garbage is searched for a little at a time, and threads take short turns.

Shell: Python's collector and its lock, of which a process has one.

By itself Python searches once some hundreds of objects were made more than were freed. A node with hundreds of
connections frees old ones all the time, so that by then ten thousand are new: a search takes 2 to 10 ms, some
times a second, in which nobody is answered. Here the newest are searched so often that it takes .3 ms, and all
else so seldom that it takes .25 % of the time.

A thread that computes in Python, as where old blocks are put together for those that catch up, keeps all others
waiting for 5 ms once the event loop has let go of the lock for a moment. Here it is half a millisecond.

    new objects --every .02 to .25 s--> young ones --every .5 to 5 s--> old ones --every 30 to 120 s--
"""

import contextlib
import gc
import sys
import time
from collections.abc import Generator
from dataclasses import InitVar, dataclass, field

import trio

NEW, YOUNG, OLD = 0, 1, 2
"""Generations of Python's collector; a search goes through one and those before it."""
NEW_S = 3e-4
"""Seconds that a search of the new should take: a short question takes a millisecond."""
NEW_MIN_S, NEW_MAX_S = 0.02, 0.25
STEP = 2.0
"""Factor by which the pause between two searches of the new changes at most."""
SHARES = {YOUNG: 2e-3, OLD: 5e-4}
"""Part of the time that goes into searches of a generation: 2 to 10 ms each of the young, 20 to 70 of all."""
PAUSES_S = {YOUNG: (0.5, 5.0), OLD: (30.0, 120.0)}
"""Seconds from one search of a generation to the next, at least and at most."""
TURN_S = 5e-4
"""Seconds for which a thread may compute while another one waits."""
BACKSTOP = 50_000
"""New objects at which Python searches by itself all the same: the event loop was held up."""


@dataclass(slots=True)
class Rhythm:
    """Times of the searches, by what they take. Pure: it is told the time."""

    now: InitVar[float]
    pause_s: float = 0.05
    """Seconds until the next search."""
    _due: dict[int, float] = field(init=False)
    """Time of the next search of a generation."""

    def __post_init__(self, now: float) -> None:
        self._due = {number: now + least for number, (least, _) in PAUSES_S.items()}

    def generation(self, now: float) -> int:
        """Return the generation to search now."""
        return max((number for number, due in self._due.items() if now >= due), default=NEW)

    def searched(self, generation: int, took_s: float, now: float) -> None:
        """Take note of a search that ended now."""
        if generation == NEW:
            factor = _within(NEW_S / max(took_s, 1e-9), 1 / STEP, STEP)
            self.pause_s = _within(self.pause_s * factor, NEW_MIN_S, NEW_MAX_S)
            return
        for number in range(YOUNG, generation + 1):
            self._due[number] = now + _within(took_s / SHARES[number], *PAUSES_S[number])


def _within(value: float, least: float, most: float) -> float:
    return min(max(value, least), most)


async def keep_responsive() -> None:
    """Search for garbage, and let threads take short turns, until cancelled; then it is as it was before."""
    before, turn_s = gc.get_threshold(), sys.getswitchinterval()
    gc.set_threshold(BACKSTOP, *before[1:])
    sys.setswitchinterval(TURN_S)
    rhythm = Rhythm(trio.current_time())
    try:
        while True:
            await trio.sleep(rhythm.pause_s)
            generation = rhythm.generation(trio.current_time())
            began = time.perf_counter()
            gc.collect(generation)
            rhythm.searched(generation, time.perf_counter() - began, trio.current_time())
    finally:
        gc.set_threshold(*before)
        sys.setswitchinterval(turn_s)


@contextlib.contextmanager
def for_good() -> Generator[None]:
    """Search for no garbage while libraries are loaded, and never among what they made.

    It is a quarter of a million objects. A search among them takes a sixth of a start, and later a third of a
    second each time, in which a node answers nobody.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
