"""Slots for windows: no solver has two, and silent ones never have all."""

from types import SimpleNamespace
from typing import Any

import pytest

from swarm.ledger.state.records import NOBODY, Contribution
from swarm.types import Amount, Height
from swarm.verify.duties import SILENT_SHARE, has_slot, is_often_silent


def a_record(peer: str) -> Any:  # noqa: ANN401
    return SimpleNamespace(peer=peer)


def is_mute(record: Any) -> bool:  # noqa: ANN401
    return str(record.peer).startswith("mute")


@pytest.mark.rule("V26")
@pytest.mark.parametrize(
    ("solver", "owed", "asked", "num_slots", "wanted"),
    [
        ("a", [], [], 2, True),
        ("a", ["b"], [], 2, True),
        ("a", ["b", "c"], [], 2, False),
        ("a", [], ["b", "c"], 2, False),
        ("a", ["b"], ["c"], 2, True),
        ("a", ["a"], [], 2, False),
        ("a", [], ["a"], 2, False),
        ("a", ["mute-1"], [], 2, True),
        ("mute-1", ["a"], [], 2, True),
        ("mute-1", ["mute-2"], [], 2, False),
        ("mute-1", [], ["mute-2"], 2, False),
        ("mute-1", ["mute-2"], [], 3, True),
        ("mute-1", ["mute-2"], ["mute-3"], 3, False),
        ("mute-1", [], [], 1, True),
        ("a", [], [], 0, False),
    ],
)
def test_one_slot_each_and_one_that_silent_solvers_never_get(
    solver: str, owed: list[str], asked: list[str], num_slots: int, wanted: bool
) -> None:
    replayed, dealt = list(map(a_record, owed)), list(map(a_record, asked))
    assert has_slot(a_record(solver), replayed, dealt, num_slots, is_mute) is wanted


@pytest.mark.rule("V26")
@pytest.mark.parametrize(
    ("silent", "verified", "wanted"),
    [(0, 0, False), (1, 0, True), (1, SILENT_SHARE, False), (2, SILENT_SHARE, True)],
)
def test_who_is_silent_rather_often(silent: int, verified: int, wanted: bool) -> None:
    done = Contribution(
        segments=9,
        tokens=9,
        earned=Amount(0),
        checkpoints=0,
        verified=verified,
        failed=0,
        silent=silent,
        checked=0,
        missed=0,
        absent=0,
        is_barred=False,
        shares=0,
        backs=NOBODY,
        backs_turn=0,
        refuted=0,
        fault_height=Height(0),
        rest_until=Height(0),
    )
    assert is_often_silent(done) is wanted
