"""A line is fast when a payload was seen to cross it fast, and what nobody measured is slow."""

import pytest

from swarm.gossip.trade import outbox as rules
from swarm.gossip.trade.outbox import FAST_BYTES_PER_S, LinkSpeeds
from swarm.types import NO_DIGEST, Digest
from tests.gossip.builders import STRANGER, TAKER

NAME, OTHER = Digest(b"\x01" * 32), Digest(b"\x02" * 32)
BYTES = int(FAST_BYTES_PER_S)


@pytest.mark.rule("G6")
def test_a_line_is_what_the_last_payload_says_it_is() -> None:
    lines = LinkSpeeds()
    assert not lines.is_fast(TAKER.peer)
    lines.began(NAME, TAKER.peer, 10.0)
    assert not lines.is_fast(TAKER.peer)
    lines.arrived(NAME, TAKER.peer, BYTES, 10.9)
    assert lines.is_fast(TAKER.peer)
    assert not lines.is_fast(STRANGER.peer)
    lines.began(OTHER, TAKER.peer, 20.0)
    lines.arrived(OTHER, TAKER.peer, BYTES, 21.1)
    assert not lines.is_fast(TAKER.peer)


@pytest.mark.rule("G6")
def test_time_runs_from_the_first_chunk_to_the_first_receipt() -> None:
    lines = LinkSpeeds()
    lines.began(NAME, TAKER.peer, 10.0)
    lines.began(NAME, TAKER.peer, 10.5)
    lines.arrived(NAME, TAKER.peer, BYTES, 11.4)
    assert not lines.is_fast(TAKER.peer)
    lines.arrived(NAME, TAKER.peer, 100 * BYTES, 11.5)
    assert not lines.is_fast(TAKER.peer)


@pytest.mark.parametrize("at", [10.0, 9.0])
def test_a_receipt_for_nothing_or_from_nowhere_measures_nothing(at: float) -> None:
    lines = LinkSpeeds()
    lines.arrived(NAME, TAKER.peer, BYTES, 1.0)
    lines.began(NAME, TAKER.peer, 10.0)
    lines.arrived(NAME, STRANGER.peer, BYTES, 10.1)
    lines.began(OTHER, TAKER.peer, 10.0)
    lines.arrived(OTHER, TAKER.peer, BYTES, at)
    assert not lines.is_fast(TAKER.peer)
    assert not lines.is_fast(STRANGER.peer)


def test_what_is_remembered_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "PEERS_MAX", 1)
    monkeypatch.setattr(rules, "UNDERWAY_MAX", 1)
    lines = LinkSpeeds()
    for name, peer in ((NAME, TAKER.peer), (OTHER, STRANGER.peer)):
        lines.began(name, peer, 1.0)
        lines.arrived(name, peer, BYTES, 1.1)
    assert (lines.is_fast(TAKER.peer), lines.is_fast(STRANGER.peer)) == (False, True)
    for name in (NAME, OTHER, NO_DIGEST):
        lines.began(name, TAKER.peer, 2.0)
    lines.arrived(NAME, TAKER.peer, BYTES, 2.1)
    assert not lines.is_fast(TAKER.peer)
    lines.arrived(NO_DIGEST, TAKER.peer, BYTES, 2.1)
    assert lines.is_fast(TAKER.peer)
