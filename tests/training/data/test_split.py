"""Every n-th document in the order of their hashes is held out, and a limit leaves out what does not fit."""

import pytest

from swarm.errors import BadConfig
from swarm.training.data.dataset import HELDOUT, TRAIN, Split, document_name


def test_every_nth_is_held_out() -> None:
    split = Split(max_bytes=1000, heldout_every=3)
    dealt = [split.deal(bytes([65 + number])) for number in range(7)]
    assert [half for half, _ in filter(None, dealt)] == [TRAIN, TRAIN, HELDOUT] * 2 + [TRAIN]
    split.close()
    assert (split.num_taken, split.num_left_out) == (7, 0)


def test_what_does_not_fit_is_left_out_and_smaller_ones_still_fit() -> None:
    split = Split(max_bytes=12, heldout_every=2)
    assert split.deal(b"12345") == (TRAIN, b"12345")
    assert split.deal(b"1234567") is None
    assert split.deal(b"1234") == (TRAIN, b"1234")
    assert split.deal(b"1") is None, "its separator would not fit"
    assert split.num_left_out == 2
    message = "4 different documents were found, and max_bytes = 12 leaves room for 2"
    with pytest.raises(BadConfig, match=message) as caught:
        split.close()
    assert "--max-bytes" in caught.value.hint


def test_too_few_documents_are_not_blamed_on_the_limit() -> None:
    split = Split(max_bytes=12, heldout_every=3)
    split.deal(b"1")
    with pytest.raises(BadConfig, match="1 different document is too few to hold out one in 3"):
        split.close()
    split.deal(b"1234567890123")
    with pytest.raises(BadConfig, match="2 different documents are too few"):
        split.close()


def test_the_separator_is_no_part_of_a_text() -> None:
    assert Split(max_bytes=3, heldout_every=2).deal(b"a\x00b\x00") == (TRAIN, b"ab")


def test_a_name_is_a_hash_of_the_whole_document() -> None:
    assert document_name(b"a\x00") != document_name(b"a")
    assert len(document_name(b"")) == 32
