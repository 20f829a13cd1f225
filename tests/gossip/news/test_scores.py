"""Scores have the signs of GossipSub's text: what is good adds little, what is false takes much."""

import pytest

from swarm.gossip.news.scores import FIRST_MAX, MESH_S_MAX, MISSED_FREE, PeerScores
from swarm.primitives.crypto import SecretKey

PEER = SecretKey.from_seed(b"\x01" * 32).peer


def a_score() -> PeerScores:
    scores = PeerScores()
    scores.meet(PEER)
    return scores


@pytest.mark.rule("G34")
def test_false_notices_outweigh_everything_good() -> None:
    scores = a_score()
    counts = scores.of(PEER).topic("t")
    counts.first, counts.meshed_s = 10 * FIRST_MAX, 10 * MESH_S_MAX
    assert scores.score(PEER) == pytest.approx(12)
    counts.false = 1
    assert scores.score(PEER) > 0, "one may be an accident"
    counts.false = 2
    assert scores.score(PEER) < 0


@pytest.mark.rule("G34")
def test_a_few_missed_notices_are_free_and_many_are_not() -> None:
    scores = a_score()
    counts = scores.of(PEER).topic("t")
    counts.missed = MISSED_FREE
    assert scores.score(PEER) == 0
    counts.missed = MISSED_FREE + 5
    assert scores.score(PEER) == -25


def test_what_is_long_ago_is_forgiven() -> None:
    scores = a_score()
    scores.of(PEER).topic("t").missed = 10
    scores.of(PEER).behaviour = 8
    for _ in range(600):
        scores.fade()
    assert scores.score(PEER) == 0
    assert scores.of(PEER).behaviour == 0


@pytest.mark.rule("G34")
def test_attack_who_leaves_and_comes_back_has_its_bad_score_still() -> None:
    scores = a_score()
    counts = scores.of(PEER).topic("t")
    counts.false, counts.first = 3, FIRST_MAX
    scores.part(PEER)
    scores.meet(PEER)
    assert scores.score(PEER) == -90
    assert scores.of(PEER).topic("t").first == 0
    scores.part(PEER)
    for _ in range(3000):
        scores.fade()
    scores.meet(PEER)
    assert scores.score(PEER) == 0
    scores.of(PEER).topic("t").first = 3
    scores.part(PEER)
    scores.meet(PEER)
    assert scores.score(PEER) == 0, "a good one is earned anew"
