"""Text becomes ids and ids become text; a file that is none, or that throws dice, is refused."""

import json
import sys

import numpy as np
import pytest

from swarm.errors import BadConfig
from swarm.training.data.tokenizer import (
    PIP_LINE,
    TOKENIZER_BYTES_MAX,
    BytesTokenizer,
    load_tokenizer,
)
from tests.training.datasets import a_tokenizer


def test_bytes_are_their_own_ids() -> None:
    tokenizer = load_tokenizer(b"")
    assert isinstance(tokenizer, BytesTokenizer)
    (tokens,) = tokenizer.encode([bytes(range(256))])
    assert tokens.dtype == np.uint8
    assert tokenizer.decode([*tokens, 999]) == bytes(range(256))
    assert (tokenizer.num_token_ids, tokenizer.separator) == (256, 0)


def test_a_file_gives_its_ids_in_the_narrowest_dtype() -> None:
    small, large = load_tokenizer(a_tokenizer(200)), load_tokenizer(a_tokenizer(70_000))
    assert [found.dtype for found in small.encode([b"w0 w1", b"w198"])] == [np.uint8] * 2
    assert large.encode([b"w69998"])[0].tolist() == [69_999]
    assert large.encode([b"w0"])[0].dtype == np.uint32
    middle = load_tokenizer(a_tokenizer(1000))
    assert middle.encode([b"w0"])[0].dtype == np.uint16
    assert middle.num_token_ids == 1001
    assert middle.decode(middle.encode([b"w3 w4"])[0].tolist()) == b"w3 w4"
    assert middle.decode([1, 5_000, -1]) == b"w0", "ids that stand for nothing vanish"


def test_documents_end_with_the_end_token_or_with_an_id_of_their_own() -> None:
    assert load_tokenizer(a_tokenizer(10, added=("</s>",))).separator == 10
    both = load_tokenizer(a_tokenizer(10, added=("</s>", "<|endoftext|>")))
    assert (both.separator, both.num_token_ids) == (11, 12)
    none = load_tokenizer(a_tokenizer(10, added=("<mask>",)))
    assert (none.separator, none.num_token_ids) == (11, 12)
    assert none.decode([1, none.separator]) == b"w0"


def test_a_byte_level_file_gives_every_text_back() -> None:
    """As the usual large models use them; trained here in a moment."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    library = Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, special_tokens=["</s>"], show_progress=False
    )
    text = "def füße(x):\n\treturn x  # 🐟 <|endoftext|> </s>\r\n"
    library.train_from_iterator([text * 50], trainer)
    tokenizer = load_tokenizer(library.to_str().encode())
    (tokens,) = tokenizer.encode([text.encode()])
    assert tokens.dtype == np.uint16
    assert tokenizer.separator == 0
    assert 0 not in tokens.tolist()
    assert tokenizer.decode(tokens.tolist()) == text.encode()


def test_text_that_spells_an_end_does_not_end() -> None:
    tokenizer = load_tokenizer(a_tokenizer(10))
    (tokens,) = tokenizer.encode([b"w0 <|endoftext|> w1"])
    assert tokenizer.separator not in tokens.tolist()


def test_nothing_is_cut_short_padded_or_framed() -> None:
    truncation = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    padding = {
        "strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": None,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "[UNK]",
    }  # fmt: skip
    tokenizer = load_tokenizer(a_tokenizer(10, truncation=truncation, padding=padding))
    assert tokenizer.encode([b"w0 w1 w2", b"w3"])[0].tolist() == [1, 2, 3]
    assert tokenizer.encode([b"w0 w1 w2", b"w3"])[1].tolist() == [4]


@pytest.mark.rule("S37")
@pytest.mark.parametrize(
    "raw",
    [
        b"\xff\xfe",
        b"{}",
        b"[]",
        b"nonsense",
        b'{"model": 3}',
        b'{"model": {}}',
        b"[" * 100_000,
        b'{"model": {"type": "WordLevel", "vocab": {"a": -1}, "unk_token": "a"}}',
        b'{"model": {"type": "WordLevel", "vocab": {}, "unk_token": "a"}}',
        json.dumps({"model": {"type": "BPE", "vocab": {}, "merges": [["a", "b"]]}}).encode(),
        a_tokenizer(5, normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
        a_tokenizer(5, model={"type": "Unigram", "unk_id": 99, "vocab": [["a", 0.0]]}),
        a_tokenizer(5, model={"type": "WordLevel", "vocab": {"a": 2**32 - 1}, "unk_token": "a"}),
    ],
)
def test_what_is_no_tokenizer_is_refused(raw: bytes) -> None:
    with pytest.raises(BadConfig, match=r"tokenizer"):
        load_tokenizer(raw)


def test_dice_and_absurd_sizes_are_refused() -> None:
    model = {"type": "BPE", "dropout": 0.1, "vocab": {"a": 0, "b": 1}, "merges": []}
    with pytest.raises(BadConfig, match="at random"):
        load_tokenizer(a_tokenizer(2, model=model))
    with pytest.raises(BadConfig, match="at most 64 MiB"):
        load_tokenizer(bytes(TOKENIZER_BYTES_MAX + 1))
    with pytest.raises(BadConfig, match="262146 ids"):
        load_tokenizer(a_tokenizer((1 << 18) + 1, added=()))


def test_a_text_the_file_has_no_token_for_is_told_in_our_words() -> None:
    """The library says it with a bare ``Exception``."""
    model = {"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "gone"}
    with pytest.raises(BadConfig, match="cannot encode this text"):
        load_tokenizer(a_tokenizer(2, model=model)).encode([b"a c"])


def replacing(old: dict[str, str], new: str) -> dict[str, object]:
    return {"type": "Replace", "pattern": old, "content": new}


@pytest.mark.rule("S2")
@pytest.mark.parametrize(
    "steps",
    [
        [replacing({"String": "a"}, "aa")] * 7,
        [replacing({"Regex": ""}, "x")] * 7,
        [replacing({"String": ""}, "x" * 64)],
        [{"type": "Sequence", "normalizers": [replacing({"String": "a"}, "x" * 65)]}],
        [{"type": "Prepend", "prepend": "x" * 65}],
    ],
)
def test_a_normalizer_that_makes_texts_explode_is_refused(steps: list[object]) -> None:
    with pytest.raises(BadConfig, match="more than 64 times as long"):
        load_tokenizer(a_tokenizer(5, normalizer={"type": "Sequence", "normalizers": steps}))


def test_the_normalizers_in_use_are_taken() -> None:
    steps = [
        replacing({"String": "``"}, '"'),
        replacing({"String": "''"}, '"'),
        {"type": "NFKD"},
        replacing({"Regex": " {2,}"}, " "),
        {"type": "Prepend", "prepend": "\u2581"},
        replacing({"String": " "}, "\u2581"),
    ]
    load_tokenizer(a_tokenizer(5, normalizer={"type": "Sequence", "normalizers": steps}))


def test_without_the_library_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(BadConfig, match="not installed") as caught:
        load_tokenizer(a_tokenizer(10))
    assert caught.value.hint == PIP_LINE
    assert load_tokenizer(b"").num_token_ids == 256
