"""What waits for a peer that does not take it is bounded, and goes out in frames that it takes."""

import pytest

from swarm.gossip.news.messages import (
    IDS_MAX,
    NOTICES_MAX,
    Notice,
    encode_frame,
    parse_frame,
    split_names,
)
from swarm.gossip.news.outbox import NAMES_MAX, QUEUE_BYTES_MAX, QUEUE_MAX, Outbox
from swarm.types import Digest


def a_name(number: int) -> Digest:
    return Digest(number.to_bytes(32, "big"))


def test_the_first_frame_tells_our_topics_and_the_next_does_not() -> None:
    box = Outbox()
    first = box.take(("t",))
    assert first is not None
    assert first.topics == ("t",)
    assert box.take(("t",)) is None
    box.graft("t")
    second = box.take(("t",))
    assert second is not None
    assert second.topics is None
    assert second.grafts == ("t",)


def test_two_frames_that_tell_topics_are_never_under_way_together() -> None:
    box = Outbox()
    assert box.take(None) is None
    box.graft("t")
    frame = box.take(None)
    assert frame is not None
    assert (frame.topics, frame.grafts) == (None, ("t",))
    told = box.take(("t",))
    assert told is not None
    assert told.topics == ("t",)
    assert box.take(("t",)) is None


@pytest.mark.rule("G32")
def test_a_slow_peer_is_sent_the_newest() -> None:
    box = Outbox()
    for number in range(QUEUE_MAX + 7):
        box.send(Notice("t", number.to_bytes(4, "big")))
    for number in range(NAMES_MAX + 7):
        box.offer("t", a_name(number))
        box.want(a_name(number))
    notices, offered, wanted = list[Notice](), list[Digest](), list[Digest]()
    while (frame := box.take(())) is not None:
        assert parse_frame(encode_frame(frame)) == frame
        assert len(frame.notices) <= NOTICES_MAX
        notices += frame.notices
        offered += [name for offer in frame.offers for name in split_names(offer.names)]
        wanted += split_names(frame.wanted)
        assert len(frame.wanted) <= 32 * IDS_MAX
    assert len(notices) == QUEUE_MAX
    assert notices[0].data == (7).to_bytes(4, "big")
    assert len(offered) == len(wanted) == NAMES_MAX
    assert offered[0] == a_name(7)


@pytest.mark.rule("G32")
def test_long_notices_are_bounded_in_bytes_and_fit_their_frames() -> None:
    box, size = Outbox(), 64 << 10
    for _ in range(100):
        box.send(Notice("t", bytes(size)))
    total = 0
    while (frame := box.take(())) is not None:
        assert parse_frame(encode_frame(frame)) == frame
        total += sum(len(notice.data) for notice in frame.notices)
    assert total == QUEUE_BYTES_MAX


def test_a_cut_takes_the_place_of_a_graft() -> None:
    box = Outbox()
    box.graft("t")
    box.cut("t", 60)
    frame = box.take(())
    assert frame is not None
    assert (frame.grafts, [cut.topic for cut in frame.cuts]) == ((), ["t"])
