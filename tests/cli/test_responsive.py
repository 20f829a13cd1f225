"""Garbage is searched for in small steps, whatever the load, and threads take short turns."""

import gc
import itertools
import sys
import weakref

import pytest
import trio
import trio.testing

from swarm.cli.responsive import (
    BACKSTOP,
    NEW,
    NEW_MAX_S,
    NEW_MIN_S,
    NEW_S,
    OLD,
    PAUSES_S,
    SHARES,
    TURN_S,
    YOUNG,
    Rhythm,
    for_good,
    keep_responsive,
)


class Knot:
    """Object that only a search finds to be garbage."""

    def __init__(self) -> None:
        self.itself = self


def run(rhythm: Rhythm, until: float, costs_s: dict[int, float]) -> list[tuple[float, int]]:
    """Return the times and generations of the searches until a time, which cost so much each."""
    now, done = 0.0, list[tuple[float, int]]()
    while now < until:
        now += rhythm.pause_s
        generation = rhythm.generation(now)
        now += costs_s[generation]
        rhythm.searched(generation, costs_s[generation], now)
        done.append((now, generation))
    return done


@pytest.mark.parametrize(
    ("took_s", "pause_s"), [(NEW_S * 3, NEW_MIN_S), (NEW_S / 3, NEW_MAX_S)], ids=["busy", "idle"]
)
def test_the_new_are_searched_as_often_as_it_costs_little(took_s: float, pause_s: float) -> None:
    rhythm = Rhythm(0.0)
    run(rhythm, 10, {NEW: took_s, YOUNG: 1e-3, OLD: 1e-2})
    assert rhythm.pause_s == pause_s


def test_one_long_search_halves_the_pause_and_no_more() -> None:
    rhythm = Rhythm(0.0)
    before = rhythm.pause_s
    rhythm.searched(NEW, 5.0, 10.0)
    assert rhythm.pause_s == before / 2


@pytest.mark.parametrize("generation", [YOUNG, OLD])
@pytest.mark.parametrize("cost_s", [1e-4, 5e-3, 2e-2, 0.1])
def test_a_search_of_more_is_as_rare_as_it_is_long(generation: int, cost_s: float) -> None:
    costs_s = {NEW: NEW_S, YOUNG: 5e-3, OLD: 2e-2, generation: cost_s}
    done = [at for at, found in run(Rhythm(0.0), 1_000, costs_s) if found == generation]
    least, most = PAUSES_S[generation]
    expected = min(max(cost_s / SHARES[generation], least), most)
    gaps = [after - before for before, after in itertools.pairwise(done)]
    assert sum(gaps) / len(gaps) == pytest.approx(expected, rel=0.2, abs=NEW_MAX_S + cost_s)


async def test_garbage_is_found_and_all_is_as_before_afterwards(
    autojump_clock: trio.testing.MockClock,
) -> None:
    before = gc.get_threshold(), sys.getswitchinterval()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_responsive)
        await trio.sleep(1)
        assert gc.isenabled()
        assert gc.get_threshold()[0] == BACKSTOP
        assert sys.getswitchinterval() == pytest.approx(TURN_S)
        found = weakref.ref(Knot())
        await trio.sleep(2)
        assert found() is None
        nursery.cancel_scope.cancel()
    assert (gc.get_threshold(), sys.getswitchinterval()) == before


def test_what_is_loaded_for_good_is_never_searched() -> None:
    before = gc.get_freeze_count()
    try:
        with for_good():
            assert not gc.isenabled()
        assert gc.isenabled()
        assert gc.get_freeze_count() > before
    finally:
        gc.unfreeze()
