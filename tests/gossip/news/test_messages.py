"""Frames of news are within their bounds, or the fault of who sent them."""

import pytest

from swarm.errors import BadEncoding
from swarm.gossip.news.messages import (
    ID_BYTES,
    IDS_MAX,
    NOTICE_BYTES_MAX,
    NOTICES_MAX,
    TOPIC_CHARS_MAX,
    TOPICS_MAX,
    Cut,
    Frame,
    Notice,
    Offer,
    encode_frame,
    notice_name,
    parse_frame,
    split_names,
)
from swarm.primitives.codec import replace

EMPTY = Frame(None, (), (), b"", (), ())


def test_a_frame_comes_back_as_it_was() -> None:
    name = notice_name("t", b"data")
    frame = Frame(
        ("t",), (Notice("t", b"data"),), (Offer("t", name),), name, ("t",), (Cut("t", 60),)
    )
    assert parse_frame(encode_frame(frame)) == frame
    assert split_names(name + name) == [name, name]


def test_a_name_is_of_one_topic() -> None:
    assert notice_name("ab", b"c") != notice_name("a", b"bc")


@pytest.mark.rule("G31")
@pytest.mark.parametrize(
    "wrong",
    [
        replace(EMPTY, topics=("t",) * (TOPICS_MAX + 1)),
        replace(EMPTY, grafts=("t",) * (TOPICS_MAX + 1)),
        replace(EMPTY, grafts=("t" * (TOPIC_CHARS_MAX + 1),)),
        replace(EMPTY, topics=("",)),
        replace(EMPTY, cuts=(Cut("t", -1),)),
        replace(EMPTY, notices=(Notice("t", b""),) * (NOTICES_MAX + 1)),
        replace(EMPTY, notices=(Notice("t", bytes(NOTICE_BYTES_MAX + 1)),)),
        replace(EMPTY, wanted=bytes(ID_BYTES + 1)),
        replace(EMPTY, wanted=bytes(ID_BYTES * (IDS_MAX + 1))),
        replace(EMPTY, offers=(Offer("t", bytes(ID_BYTES * IDS_MAX)),) * 2),
        replace(EMPTY, offers=(Offer("t", b"x"), Offer("t", bytes(ID_BYTES - 1)))),
    ],
    ids=str,
)
def test_attack_an_oversized_frame_is_refused_before_it_is_looked_at(wrong: Frame) -> None:
    with pytest.raises(BadEncoding):
        parse_frame(encode_frame(wrong))
