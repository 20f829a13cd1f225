"""Pieces make the text that the tokens make together, and none ends in the middle of a character."""

import pytest

from swarm.training.data.tokenizer import CUT_TOKENS_MAX, BytesTokenizer, load_tokenizer, pieces
from tests.training.datasets import a_tokenizer

BYTES = BytesTokenizer()


@pytest.mark.parametrize("text", ["plain", "größer — 日本語 🙂", ""])
def test_characters_of_several_bytes_come_whole(text: str) -> None:
    found = list(pieces(BYTES, b"begun", text.encode()))
    assert found == list(text)


def test_bytes_that_are_no_text_do_not_hold_up_the_rest() -> None:
    found = list(pieces(BYTES, b"x", b"\xff" * 9 + b"ok"))
    assert "".join(found) == "\ufffd" * 9 + "ok"
    assert max(map(len, found)) <= CUT_TOKENS_MAX
    assert "".join(pieces(BYTES, b"x", "é".encode()[:1])) == "\ufffd"


def test_the_spaces_between_words_are_kept() -> None:
    tokenizer = load_tokenizer(a_tokenizer())
    (ids,) = tokenizer.encode([b"w1 w2 w3 w4 w5"])
    token_ids = [int(token) for token in ids]
    text = "".join(pieces(tokenizer, token_ids[:2], token_ids[2:]))
    assert tokenizer.decode(token_ids).decode() == tokenizer.decode(token_ids[:2]).decode() + text
