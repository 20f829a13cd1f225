"""Everybody computes the same paths; work is shared fairly, and a permutation when all weigh the same."""

from collections import Counter

import pytest

from swarm.errors import UsageError
from swarm.primitives.crypto import digest
from swarm.training.plan import Roster, deal, path, quota, weights_of
from swarm.types import Digest, RoundIndex

BEACON = Digest(bytes(range(32)))
RUN = Digest(bytes(32))
ROUND = RoundIndex(4)
THREE: Roster = ((0, 0), (2, 0), (5, 0))
OTHER: Roster = ((1, 0), (3, 0), (7, 0))


@pytest.mark.rule("T14")
@pytest.mark.parametrize("step", range(6))
def test_equal_weights_make_a_permutation_of_every_micro_batch(step: int) -> None:
    for microbatch in range(5):
        primaries = [
            path(BEACON, RUN, ROUND, step, microbatch, (THREE, OTHER, THREE), origin, 5)
            for origin, _ in THREE
        ]
        assert sorted(route[0][0] for route in primaries) == [1, 3, 7]
        assert sorted(route[1][0] for route in primaries) == [0, 2, 5]


@pytest.mark.rule("T14", "T16")
def test_every_route_names_each_replica_once_primary_first() -> None:
    for microbatch in range(10):
        ((first, *replicas),) = path(BEACON, RUN, ROUND, 0, microbatch, (THREE, OTHER), 2, 10)
        assert sorted((first, *replicas)) == [1, 3, 7]


def test_paths_differ_between_steps_micro_batches_rounds_and_beacons() -> None:
    def paths(beacon: Digest, round_index: int, step: int) -> tuple[object, ...]:
        where = (beacon, RUN, RoundIndex(round_index), step)
        return tuple(path(*where, microbatch, (THREE, OTHER), 0, 8) for microbatch in range(8))

    everything = [
        paths(beacon, round_index, step)
        for beacon in (BEACON, digest("test", b"other"))
        for round_index in range(3)
        for step in range(3)
    ]
    assert len(set(everything)) == len(everything)


def test_asking_for_more_slots_does_not_change_the_first() -> None:
    weighted: Roster = ((0, 100), (1, 300), (2, 40))
    few = deal(BEACON, RUN, ROUND, 1, 1, weighted, 8)
    many = deal(BEACON, RUN, ROUND, 1, 1, weighted, 64)
    assert many[:8] == few
    assert len(many) == 64


@pytest.mark.rule("T14")
@pytest.mark.parametrize(
    ("origins", "seats", "per_step"), [(2, 3, 1), (1, 4, 1), (4, 3, 1), (3, 8, 2), (2, 8, 1)]
)
def test_nobody_goes_short_where_a_step_has_few_micro_batches(
    origins: int, seats: int, per_step: int
) -> None:
    """Of equal seats each gets the same in as many steps as there are seats, whatever the dice."""
    rosters = (
        tuple((seat, 0) for seat in range(origins)),
        tuple((seat, 0) for seat in range(seats)),
    )
    for first in range(0, 5 * seats, seats):
        counts = Counter(
            path(BEACON, RUN, ROUND, step, microbatch, rosters, origin, per_step)[0][0]
            for step in range(first, first + seats)
            for microbatch in range(per_step)
            for origin in range(origins)
        )
        assert counts == dict.fromkeys(range(seats), origins * per_step)


def test_a_micro_batch_that_no_step_has_is_refused() -> None:
    for microbatch in (-1, 2):
        with pytest.raises(UsageError, match="2 micro-batches"):
            path(BEACON, RUN, ROUND, 0, microbatch, (THREE, OTHER), 0, 2)


@pytest.mark.rule("T15")
def test_work_follows_weights_but_only_so_far() -> None:
    roster: Roster = ((0, 1000), (1, 1000), (2, 100_000), (3, 10))
    assert weights_of(roster) == (4, 4, 8, 2)
    counts = Counter(
        path(BEACON, RUN, ROUND, step, microbatch, (THREE, roster), origin, 2)[0][0]
        for step in range(100)
        for microbatch in range(2)
        for origin, _ in THREE
    )
    total = sum(counts.values())
    for seat, weight in zip((0, 1, 2, 3), (4, 4, 8, 2), strict=True):
        assert counts[seat] / total == pytest.approx(weight / 18, abs=0.04)


@pytest.mark.rule("T15")
def test_a_seat_that_got_little_work_recovers() -> None:
    assert weights_of(((0, 1000), (1, 980), (2, 700))) == (4, 4, 3)
    assert weights_of(((0, 1000), (1, 980), (2, 760))) == (4, 4, 4)
    assert weights_of(((0, 1000), (1, 0))) == (4, 4)


@pytest.mark.rule("T14")
def test_rosters_of_other_sizes_are_shared_over_a_step() -> None:
    single: Roster = ((9, 0),)
    seen = Counter(
        path(BEACON, RUN, ROUND, 0, microbatch, (single, OTHER), 9, 9)[0][0]
        for microbatch in range(9)
    )
    assert set(seen.values()) == {3}


def test_an_empty_stage_gives_no_route_and_a_stranger_gets_one() -> None:
    assert path(BEACON, RUN, ROUND, 0, 0, (THREE, (), OTHER), 0, 1)[0] == ()
    assert sorted(path(BEACON, RUN, ROUND, 0, 0, (THREE, OTHER), 77, 1)[0]) == [1, 3, 7]


@pytest.mark.parametrize(
    ("origins", "seats", "expected"), [(3, 3, 4), (1, 3, 1), (3, 1, 12), (1, 2, 2), (5, 3, 7)]
)
def test_the_quota_is_a_seats_fair_share(origins: int, seats: int, expected: int) -> None:
    rosters = (tuple((i, 0) for i in range(origins)), tuple((i, 0) for i in range(seats)))
    assert quota(rosters, 1, 4) == expected
    assert quota(rosters, 0, 4) == 4
