"""Rests grow and end, faults fade, and both tables are bounded."""

import pytest

from swarm.host import backoff
from swarm.host.backoff import CircuitBreakers, PeerScores, backoff_s
from swarm.types import PeerId

PEER = PeerId(b"p" * 32)


@pytest.mark.rule("H11")
def test_rests_double_up_to_a_limit_and_end() -> None:
    breakers, now, lengths = CircuitBreakers(), 0.0, []
    for _ in range(6):
        breakers.failed(PEER, now)
        lengths.append(breakers.rest_s(PEER, now))
        now += lengths[-1]
        assert breakers.rest_s(PEER, now) == 0
    assert lengths == [1, 2, 4, 8, 10, 10]


@pytest.mark.rule("H11")
def test_calls_that_fail_during_a_rest_do_not_lengthen_it() -> None:
    breakers = CircuitBreakers()
    for _ in range(10):
        breakers.failed(PEER, 5.0)
    assert breakers.rest_s(PEER, 5.5) == pytest.approx(0.5)


@pytest.mark.rule("H11")
def test_a_sign_of_life_ends_the_rest_and_its_growth() -> None:
    breakers = CircuitBreakers()
    breakers.failed(PEER, 0.0)
    breakers.reset(PEER)
    assert breakers.rest_s(PEER, 0.0) == 0
    breakers.failed(PEER, 1.0)
    assert breakers.rest_s(PEER, 1.0) == 1


@pytest.mark.rule("H12")
def test_a_peer_that_misbehaves_again_and_again_is_refused_for_a_while() -> None:
    scores = PeerScores()
    assert [scores.blame(PEER, 0.0) for _ in range(5)] == [False, False, False, False, True]
    assert scores.ban_s(PEER, 1.0) == backoff.BAN_S - 1
    assert scores.ban_s(PEER, backoff.BAN_S) == 0
    assert scores.faults() == {PEER: 5}


@pytest.mark.rule("H12")
def test_rare_faults_are_forgiven() -> None:
    scores = PeerScores()
    assert not any(scores.blame(PEER, n * backoff.FAULT_HALF_LIFE_S) for n in range(50))


@pytest.mark.rule("H12")
def test_both_tables_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "PEERS_MAX", 2)
    breakers, scores = CircuitBreakers(), PeerScores()
    for n in range(4):
        breakers.failed(PeerId(bytes([n]) * 32), 0.0)
        scores.blame(PeerId(bytes([n]) * 32), 0.0)
    assert breakers.rest_s(PeerId(bytes(32)), 0.0) == 0
    assert len(scores.faults()) == 2


@pytest.mark.rule("H18")
def test_backoff_doubles_to_its_cap_within_a_fifth() -> None:
    waits = [backoff_s(n, first_s=1, most_s=30, jitter=0.5) for n in range(8)]
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]
    assert backoff_s(1000, first_s=1, most_s=30, jitter=0.0) == pytest.approx(24)
