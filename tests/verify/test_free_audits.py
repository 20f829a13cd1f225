"""A few logs an hour for anybody, and never more for many free keys than for a few."""

import pytest

from swarm.training.record.window import WindowKey
from swarm.types import PeerId, RoundIndex, RunIndex, StageIndex
from swarm.verify.free_audits import FREE_MAX, FREE_PER_PEER_MAX, HOUR_S, FreeAudits

pytestmark = pytest.mark.rule("V21")


def a_window(number: int) -> WindowKey:
    return WindowKey(RunIndex(1), RoundIndex(number), StageIndex(0), 0, 0)


def a_peer(number: int) -> PeerId:
    return PeerId(bytes([number]) * 32)


def test_a_stranger_gets_some_windows_an_hour_and_each_as_often_as_it_asks() -> None:
    audits, peer = FreeAudits(), a_peer(1)
    granted = [audits.admit(peer, a_window(n), float(n)) for n in range(FREE_PER_PEER_MAX + 2)]
    assert granted == [True] * FREE_PER_PEER_MAX + [False, False]
    assert audits.admit(peer, a_window(0), 10.0)
    assert not audits.admit(peer, a_window(99), HOUR_S - 1)
    assert audits.admit(peer, a_window(99), HOUR_S + 0.5)


def test_a_crowd_of_free_keys_gets_no_more_than_all_strangers_together() -> None:
    audits = FreeAudits()
    granted = sum(audits.admit(a_peer(n), a_window(n), 0.0) for n in range(200))
    assert granted == FREE_MAX
    assert sum(audits.admit(a_peer(n), a_window(n), HOUR_S) for n in range(200)) == FREE_MAX
