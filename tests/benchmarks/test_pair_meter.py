"""A pair is measured while it is one: each peer in its own stage, and every second of theirs accounted for."""

import os
from collections.abc import Sequence

import pytest

from benchmarks.pair_meter import KINDS, PairMeter, Sight, others_share, shares


def a_sight(
    at_s: float, stages: Sequence[Sequence[int]] = ((1,), (0,)), *, ours_s: float = 0.0
) -> Sight:
    """Peer n has spent n + 1 tenths of its time on computing and the rest on waiting."""
    seconds = tuple(
        dict.fromkeys(KINDS, 0.0)
        | {"compute": at_s * (peer + 1) / 10, "wait": at_s * (9 - peer) / 10}
        for peer in range(len(stages))
    )
    return Sight(at_s, tuple(map(tuple, stages)), seconds, ours_s, busy_s=100.0 + 2.0 * at_s)


def a_meter(*sights: Sight) -> PairMeter:
    meter = PairMeter([])
    meter.sights.extend(sights)
    return meter


@pytest.mark.parametrize(
    ("stages", "is_steady"),
    [
        (((1,), (0,)), True),
        (((0, 1), ()), False),
        (((0, 1), (0,)), False),
        (((0,), (0,)), False),
        (((), ()), False),
    ],
)
def test_a_pair_is_steady_while_each_holds_one_stage(
    stages: Sequence[Sequence[int]], is_steady: bool
) -> None:
    assert a_sight(1.0, stages).is_steady is is_steady


def test_only_steady_sights_within_the_time_count() -> None:
    alone = ((0, 1), ())
    meter = a_meter(a_sight(1.0, alone), *map(a_sight, (4.0, 7.0, 10.0)), a_sight(13.0, alone))
    ends = meter.steady(0.0, 99.0)
    assert ends is not None
    assert [sight.at_s for sight in ends] == [4.0, 10.0]
    ends = meter.steady(5.0, 11.0)
    assert ends is not None
    assert [sight.at_s for sight in ends] == [7.0, 10.0]
    assert meter.steady(9.0, 99.0) is None
    assert a_meter().steady(0.0, 99.0) is None


def test_shares_are_by_stage_and_of_the_time_between() -> None:
    found = shares(a_sight(10.0), a_sight(30.0))
    assert list(found) == ["stage 0", "stage 1"]
    assert found["stage 1"]["compute"] == pytest.approx(0.1)
    assert found["stage 0"]["compute"] == pytest.approx(0.2)
    assert sum(found["stage 0"].values()) == pytest.approx(1.0)


def test_what_others_took_is_what_was_used_and_was_not_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    first, last = a_sight(10.0, ours_s=5.0), a_sight(30.0, ours_s=25.0)
    assert others_share(first, last) == pytest.approx((40.0 - 20.0) / 20.0 / 4)


def test_where_nobody_counts_it_is_not_known() -> None:
    unknown = Sight(10.0, ((1,), (0,)), ({}, {}))
    assert others_share(unknown, unknown) is None
