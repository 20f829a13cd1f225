"""A picture of any shape is read without a surprise."""

import math

import pytest

from swarm.cli.state_reader import (
    audits,
    condition,
    items,
    me,
    name_of,
    number,
    part,
    parts,
    remark,
    steps_of,
    text,
    whole,
)
from tests.web.snapshots import a_snapshot


def test_missing_and_null_read_as_empty() -> None:
    """A node that is still starting has no run and no numbers."""
    picture = {"run": None, "peers": 3, "x": math.inf, "flag": True}
    assert part(picture, "run") == {}
    assert parts(picture, "peers") == []
    assert items(picture, "none") == []
    assert number(picture, "x") is None
    assert number(picture, "flag") is None
    assert whole(picture, "x", -1) == -1
    assert text(picture, "x") == ""
    assert me(picture) == {}
    assert name_of(picture) == "?"


@pytest.mark.rule("C6", "S23")
def test_a_strangers_text_cannot_steer_the_terminal() -> None:
    """Escape codes and direction marks become spaces, and length is bounded."""
    shown = text({"name": "\x1b[2Jotter\u202e\n" + "x" * 500}, "name", 20)
    assert "\x1b" not in shown
    assert "\n" not in shown
    assert len(shown) <= 20


def test_steps_come_from_the_node() -> None:
    """The counter that says whether a node trains."""
    assert steps_of(a_snapshot()) == 812
    assert steps_of({}) == 0


@pytest.mark.parametrize(
    ("state", "reason", "shape"),
    [
        ("training", "ok", "ok"),
        ("training", "slow: 2 rounds behind", "slow"),
        ("training", "unreachable 40 s", "gone"),
        ("syncing", "", "busy"),
        ("idle", "", "ok"),
    ],
)
def test_the_condition_follows_state_and_reason(state: str, reason: str, shape: str) -> None:
    """The reason weighs more than what the peer claims to do."""
    peer = {"state": state, "reason": reason}
    assert condition(peer) == shape
    assert remark(peer) == (reason if reason not in {"", "ok"} else state)


def test_audits_count_what_was_judged() -> None:
    """A dash before the first verdict; who is barred is out, whatever it says of itself."""
    assert audits({}) == audits({"audits": None}) == "-"
    peer = {"state": "training", "audits": {"verified": 11, "silent": 1, "barred": True}}
    assert audits(peer) == "11/12"
    assert condition(peer) == "out"
    assert remark(peer) == "proven false, evicted"
