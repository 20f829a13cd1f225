"""A link is fast when a payload was measured to cross it fast, and an unmeasured link is slow."""

import pytest

from swarm.gossip.trade import outbox as rules
from swarm.gossip.trade.outbox import FAST_BYTES_PER_S, LinkSpeeds
from swarm.types import NO_DIGEST, Digest
from tests.gossip.builders import OUTSIDER, RECEIVER

NAME, OTHER = Digest(b"\x01" * 32), Digest(b"\x02" * 32)
BYTES = int(FAST_BYTES_PER_S)


@pytest.mark.rule("G6")
def test_a_line_is_what_the_last_payload_says_it_is() -> None:
    link_speeds = LinkSpeeds()
    assert not link_speeds.is_fast(RECEIVER.peer)
    link_speeds.began(NAME, RECEIVER.peer, 10.0)
    assert not link_speeds.is_fast(RECEIVER.peer)
    link_speeds.arrived(NAME, RECEIVER.peer, BYTES, 10.9)
    assert link_speeds.is_fast(RECEIVER.peer)
    assert not link_speeds.is_fast(OUTSIDER.peer)
    link_speeds.began(OTHER, RECEIVER.peer, 20.0)
    link_speeds.arrived(OTHER, RECEIVER.peer, BYTES, 21.1)
    assert not link_speeds.is_fast(RECEIVER.peer)


@pytest.mark.rule("G6")
def test_time_runs_from_the_first_chunk_to_the_first_receipt() -> None:
    link_speeds = LinkSpeeds()
    link_speeds.began(NAME, RECEIVER.peer, 10.0)
    link_speeds.began(NAME, RECEIVER.peer, 10.5)
    link_speeds.arrived(NAME, RECEIVER.peer, BYTES, 11.4)
    assert not link_speeds.is_fast(RECEIVER.peer)
    link_speeds.arrived(NAME, RECEIVER.peer, 100 * BYTES, 11.5)
    assert not link_speeds.is_fast(RECEIVER.peer)


@pytest.mark.parametrize("at", [10.0, 9.0])
def test_a_receipt_for_nothing_or_from_nowhere_measures_nothing(at: float) -> None:
    link_speeds = LinkSpeeds()
    link_speeds.arrived(NAME, RECEIVER.peer, BYTES, 1.0)
    link_speeds.began(NAME, RECEIVER.peer, 10.0)
    link_speeds.arrived(NAME, OUTSIDER.peer, BYTES, 10.1)
    link_speeds.began(OTHER, RECEIVER.peer, 10.0)
    link_speeds.arrived(OTHER, RECEIVER.peer, BYTES, at)
    assert not link_speeds.is_fast(RECEIVER.peer)
    assert not link_speeds.is_fast(OUTSIDER.peer)


def test_what_is_remembered_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "PEERS_MAX", 1)
    monkeypatch.setattr(rules, "UNDERWAY_MAX", 1)
    link_speeds = LinkSpeeds()
    for name, peer in ((NAME, RECEIVER.peer), (OTHER, OUTSIDER.peer)):
        link_speeds.began(name, peer, 1.0)
        link_speeds.arrived(name, peer, BYTES, 1.1)
    assert (link_speeds.is_fast(RECEIVER.peer), link_speeds.is_fast(OUTSIDER.peer)) == (False, True)
    for name in (NAME, OTHER, NO_DIGEST):
        link_speeds.began(name, RECEIVER.peer, 2.0)
    link_speeds.arrived(NAME, RECEIVER.peer, BYTES, 2.1)
    assert not link_speeds.is_fast(RECEIVER.peer)
    link_speeds.arrived(NO_DIGEST, RECEIVER.peer, BYTES, 2.1)
    assert link_speeds.is_fast(RECEIVER.peer)
