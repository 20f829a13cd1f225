"""Convert text to token ids and back, by bytes or by a ``tokenizers`` file, also while text is generated.

Core: pure functions of text. Entry point of tokenizers, imported when a file needs it.

Text that spells a special token is encoded as plain text, nothing is truncated or padded, and a file that
tokenizes at random is refused. One id separates documents: 0 for bytes, the end token of a file, or, if a file
has none, an id of its own after the last.

Generated tokens are decoded incrementally. A token may be a part of a character, and a tokenizer may drop the
space before the first word of its input. Each piece is therefore decoded together with the one before it, and
ends where a character ends.
"""

import json
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from swarm.config.bounds import BOUNDS, token_dtype
from swarm.errors import BadConfig
from swarm.training.data.dataset import SEPARATOR

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Library

Tokens = npt.NDArray[np.unsignedinteger[Any]]

TOKENIZER_BYTES_MAX = 64 << 20
"""Twice the largest in use."""
GROWTH_MAX = 64
"""Limit of the factor by which replacements may lengthen a text: files in use stay far below."""
PIP_LINE = "pip install 'swarm-train[data]'"
"""Command that installs the libraries for tokenizer and Parquet files; bytes need none."""
END_TOKENS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|eos|>", "[SEP]")
"""Names of the end-of-document token in the usual files; the first one that a file has is used."""
_HINT = "export it again with tokenizers' Tokenizer.save, or use --tokenizer bytes"


class Tokenizer(Protocol):
    """Conversion between text and token ids."""

    num_token_ids: int
    """Upper bound of the ids, exclusive."""
    separator: int
    """The id between two documents."""
    raw: bytes
    """The tokenizer's file; empty for bytes."""

    def encode(self, texts: Sequence[bytes]) -> list[Tokens]:
        """Return the ids of each text, in the dtype of a token file, without the separator."""
        ...

    def decode(self, ids: Sequence[int]) -> bytes:
        """Return the text of ids; ids without a text are skipped."""
        ...


class BytesTokenizer:
    """The tokenizer of bytes: each byte is its own id."""

    num_token_ids = 256
    separator = SEPARATOR[0]
    raw = b""

    def encode(self, texts: Sequence[bytes]) -> list[Tokens]:
        """Return the bytes of each text as ids."""
        return [np.frombuffer(text, dtype=np.uint8) for text in texts]

    def decode(self, ids: Sequence[int]) -> bytes:
        """Return the ids below 256 as bytes."""
        return bytes(id_ for id_ in ids if 0 <= id_ < self.num_token_ids)


class FileTokenizer:
    """The tokenizer of a ``tokenizers`` file; ``load_tokenizer`` makes one."""

    def __init__(self, raw: bytes, library: "Library") -> None:
        ids = library.get_vocab(with_added_tokens=True).values()
        ends = [library.token_to_id(token) for token in END_TOKENS]
        known = [end for end in ends if end is not None]
        end = max(ids, default=-1) + 1
        self.raw = raw
        self.separator = known[0] if known else end
        self.num_token_ids = end if known else end + 1
        self._library = library
        least, most = BOUNDS["num_token_ids"]
        if not least <= self.num_token_ids <= most or min(ids) < 0:
            raise BadConfig(
                f"the tokenizer has {self.num_token_ids} ids; {least} to {most} can be trained on"
            )
        self._dtype = np.dtype(token_dtype(self.num_token_ids)).newbyteorder("<")

    def encode(self, texts: Sequence[bytes]) -> list[Tokens]:
        """Return the ids of each text, which must be UTF-8, or ``UnicodeDecodeError`` is raised.

        Raises ``BadConfig`` for a text that the file has no tokens for.
        """
        strings = [text.decode("utf-8") for text in texts]
        with _told("the tokenizer cannot encode this text"):
            found = self._library.encode_batch_fast(strings, add_special_tokens=False)
        return [np.array(encoding.ids, dtype=self._dtype) for encoding in found]

    def decode(self, ids: Sequence[int]) -> bytes:
        """Return the text of ids without special tokens; raise ``BadConfig`` if the library fails."""
        known = [id_ for id_ in ids if 0 <= id_ < self.num_token_ids]
        with _told("the tokenizer cannot spell these tokens"):
            text = self._library.decode(known, skip_special_tokens=True)
        return text.encode("utf-8")


def bytes_file() -> bytes:
    """Return the ``tokenizers`` file of ``BytesTokenizer``, for libraries that read nothing else.

    The characters are GPT-2's, one for each byte; no characters merge, so that the id of each is its byte. It
    has no special token: text that spells one would otherwise not come back as its bytes.
    """
    level = {"add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    file: dict[str, object] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", **level},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", **level},
        "model": _bytes_model(),
    }
    return json.dumps(file, ensure_ascii=False, indent=1).encode()


def is_bytes_file(raw: bytes) -> bool:
    """Return True if a ``tokenizers`` file is that of bytes, however a library wrote it again."""
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        return False
    if not isinstance(found, dict) or found.get("added_tokens") or found.get("normalizer"):
        return False
    model = found.get("model")
    return isinstance(model, dict) and model.get("vocab") == _bytes_model()["vocab"]


def _bytes_model() -> dict[str, Any]:
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(BytesTokenizer.num_token_ids) if byte not in shown]
    characters = {byte: chr(byte) for byte in shown}
    characters |= {byte: chr(0x100 + index) for index, byte in enumerate(hidden)}
    vocabulary = {characters[byte]: byte for byte in range(BytesTokenizer.num_token_ids)}
    plain = {"dropout": None, "unk_token": None, "byte_fallback": False, "ignore_merges": False}
    return {"type": "BPE", **plain, "vocab": vocabulary, "merges": []}


def load_tokenizer(raw: bytes) -> Tokenizer:
    """Return the tokenizer of a file, or that of bytes for b"".

    Raises ``BadConfig`` if the library is not installed, or the file is not a usable tokenizers file.
    """
    if not raw:
        return BytesTokenizer()
    text = _checked(raw)
    try:
        from tokenizers import Tokenizer as Library  # noqa: PLC0415  bytes do without it
    except ImportError:
        raise BadConfig(
            "a tokenizer file needs the tokenizers library, which is not installed", hint=PIP_LINE
        ) from None
    with _told("not a tokenizers file"):
        library = Library.from_str(text)
    library.no_truncation()
    library.no_padding()
    library.encode_special_tokens = True
    return FileTokenizer(raw, library)


@contextmanager
def _told(what: str) -> Generator[None]:
    """Convert the library's errors, which have no common class, and its panics to ``BadConfig``."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        message = " ".join(str(error).split())[:200]
        raise BadConfig(f"{what}: {message}", hint=_HINT) from None


def _checked(raw: bytes) -> str:
    """Return the text of an untrusted tokenizer file after checking it; raise ``BadConfig``."""
    if len(raw) > TOKENIZER_BYTES_MAX:
        raise BadConfig(f"a tokenizer file has at most {TOKENIZER_BYTES_MAX >> 20} MiB")
    try:
        text = raw.decode("utf-8")
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadConfig(f"not a tokenizers file: {str(error)[:200]}", hint=_HINT) from None
    model = found.get("model") if isinstance(found, dict) else None
    if not isinstance(model, dict):
        raise BadConfig("not a tokenizers file: it has no model", hint=_HINT)
    if model.get("dropout"):
        raise BadConfig(
            "the tokenizer drops merges at random: two builds would differ",
            hint="set model.dropout to null in the file",
        )
    if _growth(found.get("normalizer")) > GROWTH_MAX:
        raise BadConfig(
            f"the tokenizer's normalizer could make a text more than {GROWTH_MAX} times as long",
            hint="use the tokenizer of another model, or --tokenizer bytes",
        )
    return text


def _growth(normalizer: object) -> int:
    """Return the most times that replacing can lengthen a text; saturates above ``GROWTH_MAX``."""
    if not isinstance(normalizer, dict):
        return 1
    found: dict[str, Any] = normalizer
    steps = found.get("normalizers")
    if isinstance(steps, list):
        grown = 1
        for step in steps:
            grown = min(grown * _growth(step), GROWTH_MAX + 1)
        return grown
    put, pattern = found.get("content", found.get("prepend", "")), found.get("pattern")
    length = len(put) if isinstance(put, str) else 0
    text = pattern.get("String") if isinstance(pattern, dict) else None
    if isinstance(pattern, dict) and not text:
        return 1 + length  # an expression, or nothing: it may match between any two characters
    replaced = len(text) if isinstance(text, str) else 1
    return max(-(-length // replaced), 1)


CUT_TOKENS_MAX = 4
"""A character has at most four bytes; an incomplete one after four tokens will never be completed."""
_UNKNOWN = "�"


def pieces(tokenizer: Tokenizer, begun: Sequence[int], tokens: Iterable[int]) -> Iterator[str]:
    """Yield the text that follows ``begun``, one piece for each token or few."""
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
    """Return the text that ``fresh`` adds to the text of ``before``."""
    known = len(tokenizer.decode(before))
    return tokenizer.decode([*before, *fresh])[known:].decode("utf-8", "replace")
