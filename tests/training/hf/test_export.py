"""An export holds what transformers' Llama reads: names, shapes, settings; and says where it comes from."""

import json

from safetensors.torch import load

from swarm.config.spec import ModelSpec
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

MODEL = ModelSpec(256, 16, 3, 4, 2, 24, 12, 10_000, 10_000)
SHARDS = [init_flat(plan, 5) for plan in plan_stages(MODEL, 2)]
FACTS = RunFacts("tiny", "ab" * 32, 4, 9, 123_456, 2, ("cd" * 32, "ef" * 32))


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


def test_a_tokenizer_goes_with_its_model_and_bytes_have_none() -> None:
    files = tokenizer_files(b"{}")
    assert files["tokenizer.json"] == b"{}"
    assert (
        json.loads(files["tokenizer_config.json"])["tokenizer_class"] == "PreTrainedTokenizerFast"
    )
    assert set(tokenizer_files(b"").values()) == {b""}
