"""A folder of transformers' Llama comes in exactly, in any of its forms, and a hostile one not at all."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from swarm.config.spec import NANO, RopeSpec
from swarm.errors import BadConfig
from swarm.primitives.codec import replace as changed
from swarm.training.hf.config import CONFIG_FILE
from swarm.training.hf.export import WEIGHTS_FILE, export_files, tokenizer_files
from swarm.training.hf.load import open_folder, read_stage
from swarm.training.hf.weights import INDEX_FILE
from swarm.training.model.profiles import NATIVE, table
from swarm.training.model.stages import Stage, init_flat, plan_stages
from tests.training.models import TINY as MODEL

PLANS = plan_stages(MODEL, 2)
SHARDS = [init_flat(plan, 5) for plan in PLANS]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, data in export_files(MODEL, SHARDS).items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def named(folder: Path) -> dict[str, Tensor]:
    return load((folder / WEIGHTS_FILE).read_bytes())


def shard_it(folder: Path) -> None:
    """As transformers saves a large model: several files and an index."""
    tensors = sorted(named(folder).items())
    (folder / WEIGHTS_FILE).unlink()
    half = len(tensors) // 2
    index = dict[str, str]()
    for number, part in enumerate((tensors[:half], tensors[half:]), start=1):
        file = f"model-{number:05}-of-00002.safetensors"
        (folder / file).write_bytes(save(dict(part), metadata={"format": "pt"}))
        index |= {name: file for name, _ in part}
    (folder / INDEX_FILE).write_text(json.dumps({"metadata": {}, "weight_map": index}))


def test_an_export_comes_back_exactly_stage_by_stage(folder: Path) -> None:
    found = open_folder(folder)
    assert found.model == MODEL
    for plan, shard in zip(PLANS, SHARDS, strict=True):
        assert torch.equal(read_stage(found, plan), shard)


def test_a_model_in_several_files_comes_in_too(folder: Path) -> None:
    shard_it(folder)
    found = open_folder(folder)
    for plan, shard in zip(PLANS, SHARDS, strict=True):
        assert torch.equal(read_stage(found, plan), shard)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_short_floats_come_in_exactly(folder: Path, dtype: torch.dtype) -> None:
    short = {name: x.to(dtype) for name, x in named(folder).items()}
    (folder / WEIGHTS_FILE).write_bytes(save(short))
    found = open_folder(folder)
    (plan,) = plan_stages(MODEL, 1)
    flat = read_stage(found, plan)
    for name, tensor in plan.named(flat).items():
        assert torch.equal(tensor, short[name].float())


def test_buffers_that_follow_from_the_config_are_left_out(folder: Path) -> None:
    more = {**named(folder), "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(2)}
    (folder / WEIGHTS_FILE).write_bytes(save(more))
    open_folder(folder)


def test_the_tokenizer_comes_along(folder: Path) -> None:
    assert open_folder(folder).tokenizer == b""
    (folder / "tokenizer.json").write_bytes(tokenizer_files(b"{}", MODEL)["tokenizer.json"])
    assert open_folder(folder).tokenizer == b"{}"


@pytest.mark.rule("T30")
@pytest.mark.parametrize(
    ("drop", "more", "message"),
    [
        ("lm_head.weight", {}, "tie_word_embeddings"),
        ("model.norm.weight", {}, "lack model.norm.weight"),
        ("", {"model.layers.0.self_attn.q_proj.bias": torch.zeros(16)}, "q_proj.bias"),
        ("", {"lm_head.weight": torch.zeros(256, 8)}, "lm_head.weight has the shape"),
        ("", {"lm_head.weight": torch.zeros(256, 16, dtype=torch.int8)}, "dtype I8"),
    ],
)
def test_other_weights_are_refused_by_name(
    folder: Path, drop: str, more: dict[str, Tensor], message: str
) -> None:
    tensors = {**named(folder), **more}
    tensors.pop(drop, None)
    (folder / WEIGHTS_FILE).write_bytes(save(tensors))
    with pytest.raises(BadConfig, match=message):
        open_folder(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_is_refused(folder: Path, value: float) -> None:
    tensors = named(folder)
    tensors["model.norm.weight"][3] = value
    (folder / WEIGHTS_FILE).write_bytes(save(tensors))
    with pytest.raises(BadConfig, match="not finite"):
        read_stage(open_folder(folder), PLANS[1])


@pytest.mark.rule("S34", "T30")
def test_a_folder_that_claims_more_than_it_holds_costs_nothing(folder: Path) -> None:
    """Terabytes by its config, a few kilobytes on the disk: refused before anything is allocated."""
    config = json.loads((folder / CONFIG_FILE).read_text())
    big = {
        "hidden_size": 16_384,
        "intermediate_size": 65_536,
        "num_hidden_layers": 256,
        "head_dim": None,
    }
    (folder / CONFIG_FILE).write_text(json.dumps({**config, **big}))
    with pytest.raises(BadConfig, match="embed_tokens"):
        open_folder(folder)


@pytest.mark.rule("S34", "T30")
def test_damaged_missing_and_strange_files_are_refused(folder: Path) -> None:
    good = (folder / WEIGHTS_FILE).read_bytes()
    for bad in (b"", b"junk", good[:-1], good[:1000]):
        (folder / WEIGHTS_FILE).write_bytes(bad)
        with pytest.raises(BadConfig):
            open_folder(folder)
    (folder / WEIGHTS_FILE).unlink()
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(BadConfig, match="there is no model") as caught:
        open_folder(folder)
    assert "pickles are not read" in caught.value.hint
    os.mkfifo(folder / WEIGHTS_FILE)
    with pytest.raises(BadConfig, match="not a plain file"):
        open_folder(folder)
    with pytest.raises(BadConfig, match="there is no folder"):
        open_folder(folder / "nowhere")
    (folder / CONFIG_FILE).unlink()
    with pytest.raises(BadConfig, match=f"it has no {CONFIG_FILE}") as caught:
        open_folder(folder)
    assert "swarm export FOLDER" in caught.value.hint


@pytest.mark.rule("T30")
def test_an_index_that_lies_is_refused(folder: Path) -> None:
    shard_it(folder)
    index = json.loads((folder / INDEX_FILE).read_text())
    first, *_ = sorted(set(index["weight_map"].values()))
    (folder / first).rename(folder / "other.safetensors")
    with pytest.raises(BadConfig, match=first):
        open_folder(folder)
    (folder / "other.safetensors").rename(folder / first)
    index["weight_map"]["lm_head.weight"] = "../../etc/passwd"
    (folder / INDEX_FILE).write_text(json.dumps(index))
    with pytest.raises(BadConfig, match="not a file of this folder"):
        open_folder(folder)


def test_a_tensor_in_two_files_is_refused(folder: Path) -> None:
    """Which of them counts would depend on their names."""
    shard_it(folder)
    first, second = sorted(folder.glob("model-*.safetensors"))
    name, tensor = next(iter(load(first.read_bytes()).items()))
    second.write_bytes(save({**load(second.read_bytes()), name: tensor}))
    with pytest.raises(BadConfig, match=f"{name} is in {first.name} and in {second.name}"):
        open_folder(folder)


def test_a_file_that_shrinks_while_it_is_read_is_named(folder: Path) -> None:
    found = open_folder(folder)
    os.truncate(folder / WEIGHTS_FILE, 4_000)
    with pytest.raises(BadConfig, match="cut short"):
        read_stage(found, PLANS[1])


@pytest.mark.rule("T6")
def test_transformers_and_we_agree_on_every_logit(folder: Path) -> None:
    """An export of ours there, and a model of theirs here: the same logits to 1e-4, and the same bytes back."""
    transformers = pytest.importorskip("transformers")
    model = transformers.LlamaForCausalLM.from_pretrained(folder)
    tokens = torch.arange(24).view(2, 12) * 9 % 256
    with torch.no_grad():
        theirs = model(tokens).logits
    (plan,) = plan_stages(MODEL, 1)
    ours = Stage(plan, NATIVE).forward(torch.cat(SHARDS), tokens)
    assert torch.allclose(ours, theirs, rtol=0.0, atol=1e-4)
    saved = folder / "saved"
    model.save_pretrained(saved, max_shard_size="20KB")
    found = open_folder(saved)
    assert (saved / INDEX_FILE).exists()
    assert torch.equal(read_stage(found, plan), torch.cat(SHARDS))
    assert found.model == MODEL


@pytest.mark.rule("T6")
def test_a_tied_model_comes_in_with_two_copies_and_leaves_as_it_came(tmp_path: Path) -> None:
    """As transformers saves it, without a head; ours reads the embedding twice, and ties what is equal."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(4)
    config = transformers.LlamaConfig(
        vocab_size=256,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=12,
        tie_word_embeddings=True,
    )
    model = transformers.LlamaForCausalLM(config)
    model.save_pretrained(tmp_path / "theirs")
    found = open_folder(tmp_path / "theirs")
    assert found.is_tied
    assert "lm_head.weight" not in named(tmp_path / "theirs")
    shards = [read_stage(found, plan) for plan in PLANS]
    tokens = torch.arange(24).view(2, 12) * 9 % 256
    with torch.no_grad():
        theirs = model(tokens).logits
    (plan,) = plan_stages(found.model, 1)
    ours = Stage(plan, NATIVE).forward(torch.cat(shards), tokens)
    assert torch.allclose(ours, theirs, rtol=0.0, atol=1e-4)
    files = export_files(found.model, shards)
    assert json.loads(files[CONFIG_FILE])["tie_word_embeddings"] is True
    assert "lm_head.weight" not in load(files[WEIGHTS_FILE])
    shards[1][-1] += 1.0  # once trained they are two
    files = export_files(found.model, shards)
    assert json.loads(files[CONFIG_FILE])["tie_word_embeddings"] is False
    assert "lm_head.weight" in load(files[WEIGHTS_FILE])


@pytest.mark.rule("T30")
def test_a_head_that_is_said_to_be_tied_and_is_not_is_refused(folder: Path) -> None:
    config = json.loads((folder / CONFIG_FILE).read_bytes())
    (folder / CONFIG_FILE).write_text(json.dumps({**config, "tie_word_embeddings": True}))
    with pytest.raises(BadConfig, match="tie_word_embeddings") as caught:
        read_stage(open_folder(folder), PLANS[1])
    assert caught.value.hint
    tensors = named(folder)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    (folder / WEIGHTS_FILE).write_bytes(save(tensors))
    read_stage(open_folder(folder), PLANS[1])


@pytest.mark.rule("T6", "T42")
@pytest.mark.parametrize("kind", ["linear", "llama3"])
def test_stretched_positions_give_transformers_logits(tmp_path: Path, kind: str) -> None:
    """Both ways: an export of ours there, and what transformers saves of it here, with fewer heads of keys."""
    transformers = pytest.importorskip("transformers")
    rope = RopeSpec(kind=kind, factor_nano=8 * NANO)
    if kind == "llama3":
        rope = RopeSpec(kind=kind, factor_nano=8 * NANO, original_positions=32)
    model = changed(MODEL, rope=rope, seq_len=64, hidden_size=64)
    plans = plan_stages(model, 1)
    flat_P = init_flat(plans[0], 5)
    for name, data in export_files(model, [flat_P]).items():
        (tmp_path / name).write_bytes(data)
    theirs = transformers.LlamaForCausalLM.from_pretrained(tmp_path)
    tokens = torch.arange(128).view(2, 64) * 9 % 256
    with torch.no_grad():
        logits = theirs(tokens).logits
    for numerics in ("native", "seq-f32/1"):
        ours = Stage(plans[0], table(numerics)).forward(flat_P, tokens)
        assert torch.allclose(ours, logits, rtol=0.0, atol=1e-4)
    theirs.save_pretrained(tmp_path / "saved")
    assert open_folder(tmp_path / "saved").model == model


@pytest.mark.rule("T6")
def test_a_model_born_in_transformers_gives_the_same_logits_here(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(3)
    config = transformers.LlamaConfig(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=56,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        rms_norm_eps=1e-6,
    )
    model = transformers.LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(tmp_path)
    found = open_folder(tmp_path)
    (plan,) = plan_stages(found.model, 1)
    tokens = torch.arange(40).view(1, 40) * 7 % 300
    with torch.no_grad():
        theirs = model.float()(tokens).logits
    ours = Stage(plan, NATIVE).forward(read_stage(found, plan), tokens)
    assert torch.allclose(ours, theirs, rtol=0.0, atol=1e-4)
