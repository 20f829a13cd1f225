"""The text of tokens, a piece at a time, as they are written.

Core: tokens in, pieces of text out.

A token may be a part of a character, and a tokenizer may drop the space before the first word of what it is
given: so each piece is decoded together with the one before it, and ends where a character ends.
"""

from collections.abc import Iterable, Iterator, Sequence

from swarm.training.tokenizer import Tokenizer

CUT_TOKENS_MAX = 4
"""A character has at most four bytes; what is no character after four tokens never will be."""
_UNKNOWN = "�"


def pieces(tokenizer: Tokenizer, begun: Sequence[int], tokens: Iterable[int]) -> Iterator[str]:
    """The text that follows ``begun``, one piece for each token or few."""
    before, fresh = list(begun), list[int]()
    for token in tokens:
        fresh.append(token)
        text = _after(tokenizer, before, fresh)
        if text.endswith(_UNKNOWN) and len(fresh) < CUT_TOKENS_MAX:
            continue
        yield text
        before, fresh = fresh, []
    if fresh:
        yield _after(tokenizer, before, fresh)


def _after(tokenizer: Tokenizer, before: Sequence[int], fresh: Sequence[int]) -> str:
    """What ``fresh`` adds to the text of ``before``."""
    known = len(tokenizer.decode(before))
    return tokenizer.decode([*before, *fresh])[known:].decode("utf-8", "replace")
