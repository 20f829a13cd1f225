"""An export holds what transformers' Llama reads: names, shapes, settings; and says where it comes from."""

import json
import socket
from pathlib import Path

import pytest
import torch
from safetensors.torch import load
from transformers import AutoTokenizer, pipeline

from swarm.cli.model_sources import Model, load_model, save_model
from swarm.errors import UsageError
from swarm.primitives.codec import replace
from swarm.training.data.tokenizer import BytesTokenizer, bytes_file
from swarm.training.hf.config import CONFIG_FILE
from swarm.training.hf.export import (
    CARD_FILE,
    GENERATION_FILE,
    WEIGHTS_FILE,
    RunFacts,
    export_files,
    tokenizer_files,
    weights,
)
from swarm.training.model.stages import init_flat, plan_stages
from tests.training.models import TINY as MODEL

SHARDS = [init_flat(plan, 5) for plan in plan_stages(MODEL, 2)]
FACTS = RunFacts(
    name="tiny",
    digest="ab" * 32,
    round=4,
    rounds=9,
    tokens=123_456,
    num_stages=2,
    roots=("cd" * 32, "ef" * 32),
)


def test_it_says_what_llama_needs_to_know() -> None:
    files = export_files(MODEL, SHARDS, end_token=0)
    config = json.loads(files[CONFIG_FILE])
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["rms_norm_eps"] == 1e-5
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"] == 10_000.0
    assert config["tie_word_embeddings"] is False
    assert json.loads(files[GENERATION_FILE])["eos_token_id"] == 0
    names = set(load(files[WEIGHTS_FILE]))
    assert len(names) == 3 + 9 * MODEL.num_layers
    assert {"lm_head.weight", "model.layers.2.self_attn.q_proj.weight"} <= names


def test_two_exports_of_one_model_are_the_same_bytes() -> None:
    assert export_files(MODEL, SHARDS) == export_files(MODEL, SHARDS)
    assert export_files(MODEL, SHARDS)[WEIGHTS_FILE] == weights(MODEL, SHARDS)


def test_the_card_says_what_the_ledger_says() -> None:
    card = export_files(MODEL, SHARDS, facts=FACTS)[CARD_FILE].decode()
    for fact in ("tiny", "ab" * 32, "4 of 9", "123,456", "cd" * 32, "ef" * 32):
        assert fact in card
    assert "run spec" not in export_files(MODEL, SHARDS)[CARD_FILE].decode()


def test_a_tokenizer_goes_with_its_model() -> None:
    files = tokenizer_files(b"{}", MODEL)
    assert files["tokenizer.json"] == b"{}"
    assert (
        json.loads(files["tokenizer_config.json"])["tokenizer_class"] == "PreTrainedTokenizerFast"
    )
    assert tokenizer_files(b"", MODEL)["tokenizer.json"] == bytes_file()
    lost = tokenizer_files(b"", replace(MODEL, vocab_size=512))
    assert set(lost.values()) == {b""}, "a model of other tokens is not one of bytes"


@pytest.fixture
def exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model of bytes as ``swarm export`` leaves it; whatever reads it has no network."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "1")
    monkeypatch.setattr(socket.socket, "connect", _no_network)
    (plan,) = plan_stages(MODEL, 1)
    save_model(tmp_path, Model(MODEL, init_flat(plan, 5), 0))
    return tmp_path


def _no_network(*_: object) -> None:
    raise AssertionError("an export is loaded without a network")


TEXTS = [
    "def f(x):\n\treturn x  # plain\r\n",
    "  two spaces , and  n't 's at the seams ",
    "äöü ß Ā ą 漢字 🐝 \u0000 \u007f \u00ad \ufeff",
    "".join(map(chr, range(0x800))),
    "",
]


def test_transformers_reads_the_bytes_of_any_text_and_writes_them_again(exported: Path) -> None:
    """The ids are ours, byte for byte: all 256 of them, and UTF-8 there and back."""
    tokenizer = AutoTokenizer.from_pretrained(exported)
    ours = BytesTokenizer()
    for text in TEXTS:
        (ids,) = ours.encode([text.encode()])
        assert tokenizer(text)["input_ids"] == ids.tolist()
        assert tokenizer.decode(ids.tolist()) == text
    assert len(tokenizer) == ours.num_token_ids == MODEL.vocab_size
    characters = tokenizer.convert_ids_to_tokens(list(range(256)))
    assert len(set(characters)) == 256
    assert tokenizer.convert_tokens_to_ids(characters) == list(range(256))
    seen = {byte for text in TEXTS for byte in text.encode()}
    never = {0xC0, 0xC1, *range(0xF5, 0x100)}  # no UTF-8 has these
    astral = "".join(
        chr(point) for point in range(0x800, 0x110000, 0x101) if not 0xD800 <= point < 0xE000
    )
    assert tokenizer(astral)["input_ids"] == list(astral.encode())
    assert seen | set(astral.encode()) == set(range(256)) - never


def test_the_pipeline_of_transformers_writes_with_an_export(exported: Path) -> None:
    """As the card says; what it writes begins with the prompt."""
    write = pipeline("text-generation", model=str(exported))
    (written,) = write("def ", max_new_tokens=6, do_sample=False)
    assert written["generated_text"].startswith("def ")


def test_an_export_read_again_is_one_of_bytes(exported: Path, tmp_path: Path) -> None:
    """Also after transformers wrote it: no file stands for the tokenizer of bytes."""
    assert load_model(exported).tokenizer == b""
    AutoTokenizer.from_pretrained(exported).save_pretrained(exported)
    assert load_model(exported).tokenizer == b""
    (exported / "tokenizer.json").write_bytes(b'{"model": {"vocab": {"a": 0}}}')
    assert load_model(exported).tokenizer


@pytest.mark.rule("T6", "T5a")
def test_a_model_with_bottlenecks_is_not_called_a_llama() -> None:
    """Transformers would leave the bottlenecks out, and give other logits without a word."""
    model = replace(MODEL, bottleneck_rank=4, bottleneck_stages=2)
    shards = [init_flat(plan, 5) for plan in plan_stages(model, 2)]
    with pytest.raises(UsageError, match="no Llama") as caught:
        export_files(model, shards)
    assert "--format safetensors" in caught.value.hint
    named = load(weights(model, shards))
    whole = plan_stages(model, 1)[0].named(torch.cat(shards))
    assert set(named) == set(whole)
    assert all(torch.equal(named[name], x) for name, x in whole.items())
    assert {"bottleneck.0.down.weight", "bottleneck.0.tokens.weight"} < set(named)
