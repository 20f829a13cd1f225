"""An export holds the names, shapes and settings that transformers' Llama reads, and comes back exactly."""

import json

import pytest
import torch
from safetensors.torch import load, save

from swarm.errors import BadConfig
from swarm.spec import ModelSpec
from swarm.training.export import (
    CONFIG_FILE,
    EXPORT_FILES,
    WEIGHTS_FILE,
    export_files,
    load_export,
    tokenizer_files,
)
from swarm.training.stages import init_flat, plan_stages

MODEL = ModelSpec(40, 16, 3, 4, 2, 24, 12, 10_000, 10_000)
SHARDS = [init_flat(plan, 5) for plan in plan_stages(MODEL, 2)]


def test_an_export_comes_back_as_one_flat_vector() -> None:
    files = export_files(MODEL, SHARDS)
    assert sorted(files) == sorted(EXPORT_FILES)
    model, flat = load_export(files)
    assert model == MODEL
    assert torch.equal(flat, torch.cat(SHARDS))


def test_it_says_what_llama_needs_to_know() -> None:
    files = export_files(MODEL, SHARDS)
    config = json.loads(files[CONFIG_FILE])
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["rms_norm_eps"] == 1e-5
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"] == 10_000.0
    assert config["tie_word_embeddings"] is False
    names = set(load(files[WEIGHTS_FILE]))
    assert len(names) == 3 + 9 * MODEL.num_layers
    assert {"lm_head.weight", "model.layers.2.self_attn.q_proj.weight"} <= names


def test_two_exports_of_one_model_are_the_same_bytes() -> None:
    assert export_files(MODEL, SHARDS) == export_files(MODEL, SHARDS)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (CONFIG_FILE, b"{"),
        (CONFIG_FILE, b"[]"),
        (CONFIG_FILE, b'{"model_type": "llama"}'),
        (WEIGHTS_FILE, b"junk"),
        (WEIGHTS_FILE, save({"lm_head.weight": torch.zeros(40, 16)})),
    ],
)
def test_a_damaged_folder_is_refused(name: str, content: bytes) -> None:
    files = {**export_files(MODEL, SHARDS), name: content}
    with pytest.raises(BadConfig):
        load_export(files)


@pytest.mark.parametrize(
    "change",
    [{"model_type": "gpt2"}, {"tie_word_embeddings": True}, {"num_hidden_layers": -3}],
)
def test_another_kind_of_model_is_refused(change: dict[str, object]) -> None:
    files = export_files(MODEL, SHARDS)
    config = {**json.loads(files[CONFIG_FILE]), **change}
    with pytest.raises(BadConfig):
        load_export({**files, CONFIG_FILE: json.dumps(config).encode()})


def test_a_tokenizer_goes_with_its_model_and_bytes_have_none() -> None:
    files = tokenizer_files(b"{}")
    assert files["tokenizer.json"] == b"{}"
    assert (
        json.loads(files["tokenizer_config.json"])["tokenizer_class"] == "PreTrainedTokenizerFast"
    )
    assert set(tokenizer_files(b"").values()) == {b""}


def test_a_missing_file_is_named() -> None:
    with pytest.raises(BadConfig, match=WEIGHTS_FILE):
        load_export({CONFIG_FILE: b"{}"})
