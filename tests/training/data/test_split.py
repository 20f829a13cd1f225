"""Every n-th document in the order of their hashes is held out, and a limit leaves out what does not fit."""

import pytest

from swarm.errors import BadConfig
from swarm.training.data.dataset import HELDOUT, TRAIN, Split, cut_of, document_name


def test_every_nth_is_held_out() -> None:
    split = Split(max_bytes=1000, heldout_every=3, num_documents=7)
    dealt = [part for number in range(7) for part in split.deal(bytes([65 + number]))]
    assert [half for half, _ in dealt] == [TRAIN, TRAIN, HELDOUT] * 2 + [TRAIN]
    split.close()
    assert (split.num_taken, split.num_left_out) == (7, 0)


def test_what_does_not_fit_is_left_out_and_smaller_ones_still_fit() -> None:
    split = Split(max_bytes=12, heldout_every=2, num_documents=4)
    assert split.deal(b"12345") == [(TRAIN, b"12345")]
    assert split.deal(b"1234567") == []
    assert split.deal(b"1234") == [(TRAIN, b"1234")]
    assert split.deal(b"1") == [], "its separator would not fit"
    assert split.num_left_out == 2
    message = "4 different documents were found, and max_bytes = 12 leaves room for 2"
    with pytest.raises(BadConfig, match=message) as caught:
        split.close()
    assert "--max-bytes" in caught.value.hint


@pytest.mark.rule("T13d")
def test_of_too_few_documents_the_ends_are_held_out() -> None:
    text = b"".join(b"Paragraph %d of some words.\n\n" % number for number in range(400))
    split = Split(max_bytes=1 << 20, heldout_every=20, num_documents=1)
    (_, train), (half, heldout) = split.deal(text)
    assert (train + heldout, half) == (text, HELDOUT)
    assert train.endswith(b"\n\n")
    assert len(text) / 20 <= len(heldout) <= len(text) / 10
    split.close()
    assert (split.num_seen, split.num_taken, split.num_left_out) == (1, 2, 0)
    assert not Split(max_bytes=1, heldout_every=20, num_documents=20).is_cut


@pytest.mark.parametrize("heldout_every", [2, 3, 20, 10_000])
@pytest.mark.parametrize(
    "text",
    [
        b"a\n\nb\nc d" * 90,
        b"line\n" * 90,
        b"word " * 90,
        b"x" * 900,
        "é🐟".encode() * 90,
        b"",
        b"a",
    ],
)
def test_a_document_is_cut_where_something_ends(text: bytes, heldout_every: int) -> None:
    at = cut_of(text, heldout_every)
    share = -(-len(text) // heldout_every)
    assert 0 <= at <= len(text) - share
    assert len(text) - at <= max(2 * share, share + 3)
    assert (text[:at].decode() + text[at:].decode()).encode() == text


@pytest.mark.rule("T13d")
def test_too_little_text_says_how_much_is_needed() -> None:
    split = Split(max_bytes=1 << 20, heldout_every=20, num_documents=1)
    split.deal(b"word " * 200)
    message = "1,000 bytes of text, 1 different document, and 5,120 are needed"
    with pytest.raises(BadConfig, match=message) as caught:
        split.close()
    assert "--heldout-every 3" in caught.value.hint
    split = Split(max_bytes=1 << 20, heldout_every=20, num_documents=2)
    split.deal(b"a")
    split.deal(b"b")
    with pytest.raises(BadConfig, match="2 bytes of text, 2 different documents") as caught:
        split.close()
    assert caught.value.hint == "name 5,118 bytes more"


def test_a_limit_that_a_single_document_passes_is_named() -> None:
    split = Split(max_bytes=5000, heldout_every=20, num_documents=1)
    assert split.deal(b"x" * 5000) == []
    with pytest.raises(BadConfig, match="max_bytes = 5000 leaves room for 0"):
        split.close()


def test_the_separator_is_no_part_of_a_text() -> None:
    split = Split(max_bytes=3, heldout_every=2, num_documents=2)
    assert split.deal(b"a\x00b\x00") == [(TRAIN, b"ab")]


def test_a_name_is_a_hash_of_the_whole_document() -> None:
    assert document_name(b"a\x00") != document_name(b"a")
    assert len(document_name(b"")) == 32
