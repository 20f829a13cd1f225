"""What is remembered of news is bounded in number, bytes and time."""

import pytest

from swarm.gossip.news.caches import (
    KEPT_BYTES_MAX,
    KEPT_TICKS,
    OFFERED_TICKS,
    SEEN_MAX,
    SEEN_S,
    SERVED_MAX,
    Recent,
    Seen,
)
from swarm.gossip.news.messages import Notice
from swarm.primitives.crypto import SecretKey
from swarm.types import Digest

PEER = SecretKey.from_seed(b"\x01" * 32).peer


def a_name(number: int) -> Digest:
    return Digest(number.to_bytes(32, "big"))


@pytest.mark.rule("G33")
def test_names_are_forgotten_by_age_and_by_number() -> None:
    seen = Seen()
    for number in range(SEEN_MAX + 1):
        seen.add(a_name(number), float(number > 0))
    assert len(seen) == SEEN_MAX
    assert a_name(0) not in seen
    seen.expire(SEEN_S + 0.5)
    assert a_name(1) in seen
    seen.expire(SEEN_S + 1)
    assert not len(seen)


def test_a_false_notice_stays_false() -> None:
    seen = Seen()
    seen.add(a_name(1), 0)
    assert not seen.is_false(a_name(1))
    seen.add(a_name(1), 0, is_false=True)
    assert seen.is_false(a_name(1))
    seen.forget(a_name(1))
    assert a_name(1) not in seen


def test_notices_are_offered_for_some_heartbeats_and_kept_for_some_more() -> None:
    recent = Recent()
    recent.add(a_name(1), Notice("t", b"x"))
    for _ in range(OFFERED_TICKS):
        assert recent.names("t") == [a_name(1)]
        assert recent.names("other") == []
        recent.shift()
    assert recent.names("t") == []
    assert recent.serve(a_name(1), PEER) is not None
    for _ in range(KEPT_TICKS - OFFERED_TICKS):
        recent.shift()
    assert recent.serve(a_name(1), PEER) is None


def test_notices_that_are_kept_are_bounded_in_bytes() -> None:
    recent, notice = Recent(), Notice("t", bytes(1 << 16))
    for number in range(KEPT_BYTES_MAX // (1 << 16) + 1):
        recent.add(a_name(number), notice)
    assert a_name(0) not in recent
    assert a_name(1) in recent


@pytest.mark.rule("G33")
def test_attack_asking_for_one_notice_again_and_again() -> None:
    recent = Recent()
    recent.add(a_name(1), Notice("t", b"x"))
    served = [recent.serve(a_name(1), PEER) for _ in range(10)]
    assert sum(one is not None for one in served) == SERVED_MAX
