"""Small datasets and tokenizer files, made without training anything."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

from swarm.training.data.build import Built, Order, build_dataset
from swarm.training.data.documents import Form, find_inputs
from swarm.training.data.tokenizer import BytesTokenizer, load_tokenizer


def a_tokenizer(
    num_words: int = 1000, *, added: tuple[str, ...] = ("<|endoftext|>",), **changes: object
) -> bytes:
    """A file that knows the words w0, w1 ... and, after them, the added tokens."""
    vocab = {"[UNK]": 0} | {f"w{number}": number + 1 for number in range(num_words - 1)}
    special = [
        {
            "id": num_words + index,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for index, token in enumerate(added)
    ]
    file = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "[UNK]"},
    }
    return json.dumps(file | changes).encode()


def some_texts(count: int = 40, *, seed: int = 0, num_words: int = 999) -> list[bytes]:
    """Texts of those words."""
    rng = random.Random(seed)
    return [
        " ".join(f"w{rng.randrange(num_words)}" for _ in range(rng.randrange(20, 60))).encode()
        for _ in range(count)
    ]


def write_texts(folder: Path, texts: list[bytes]) -> Path:
    """One file for each."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, text in enumerate(texts):
        (folder / f"{number:04}.txt").write_bytes(text)
    return folder


def build(
    out: Path,
    *inputs: Path,
    raw: bytes = b"",
    heldout_every: int = 10,
    max_bytes: int = 1 << 30,
    is_replaced: bool = False,
    **more: Any,  # noqa: ANN401  fields of an order
) -> Built:
    """Build a dataset as the command does."""
    order = Order(
        inputs=find_inputs(inputs),
        form=Form(),
        tokenizer=load_tokenizer(raw) if raw else BytesTokenizer(),
        heldout_every=heldout_every,
        max_bytes=max_bytes,
    )
    order = replace(order, **more)
    return build_dataset(out, order, lambda _what, _done: None, is_replaced=is_replaced)
