"""An adapter leaves as PEFT has it and comes back exactly; one for another model is refused by name."""

import json
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save

from swarm.cli.model_sources import Model, adapter_of, load_model, save_model
from swarm.config.spec import NANO, AdapterSpec
from swarm.errors import BadConfig, UsageError
from swarm.primitives.codec import replace
from swarm.primitives.commitments import hash_of
from swarm.training.hf.adapter import (
    ADAPTER_CONFIG_FILE,
    ADAPTER_WEIGHTS_FILE,
    BASE_KEY,
    adapter_files,
    read_adapter_folder,
)
from swarm.training.hf.export import RunFacts, export_files
from swarm.training.hf.load import HfFolder, open_folder
from swarm.training.model.profiles import NATIVE
from swarm.training.model.stages import (
    Stage,
    adapter_plan,
    init_flat,
    merged,
    plan_stages,
)
from tests.training.models import TINY as MODEL

(BASE,) = plan_stages(MODEL, 1)
BASE_W = init_flat(BASE, 5)
ROOTS = tuple(hash_of(init_flat(plan, 5)) for plan in plan_stages(MODEL, 2))
ADAPTER = AdapterSpec(
    rank=4, lora_alpha_nano=6 * NANO, targets=("q", "v", "up", "down"), base_roots=ROOTS
)
PLAN = adapter_plan(BASE, ADAPTER)
PARAMS = init_flat(PLAN, 1) + torch.linspace(-0.1, 0.1, PLAN.num_parameters)
FACTS = RunFacts(
    name="tuned",
    digest="00" * 32,
    round=2,
    rounds=9,
    tokens=1000,
    num_stages=2,
    roots=("11" * 32, "22" * 32),
    base_roots=tuple(root.hex() for root in ROOTS),
)
TOKENS = torch.arange(24).view(2, 12) * 9 % 256


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def below(tmp_path: Path) -> HfFolder:
    return open_folder(write(tmp_path / "base", export_files(MODEL, [BASE_W])))


@pytest.fixture
def folder(tmp_path: Path, below: HfFolder) -> Path:
    files = adapter_files(MODEL, ADAPTER, PARAMS, str(below.folder), FACTS)
    return write(tmp_path / "adapter", files)


@pytest.mark.rule("T41")
def test_the_folder_has_pefts_names_and_comes_back_exactly(folder: Path, below: HfFolder) -> None:
    config = json.loads((folder / ADAPTER_CONFIG_FILE).read_bytes())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 4, 6)
    assert config["target_modules"] == ["q_proj", "v_proj", "up_proj", "down_proj"]
    tensors = load((folder / ADAPTER_WEIGHTS_FILE).read_bytes())
    name = "base_model.model.model.layers.0.self_attn.v_proj.lora_{}.weight"
    assert tensors[name.format("A")].shape == (4, 16)
    assert tensors[name.format("B")].shape == (8, 4)
    assert len(tensors) == 2 * 4 * MODEL.num_layers
    plan, params_P = read_adapter_folder(folder, below)
    assert torch.equal(params_P, PARAMS)
    assert plan.adapter == replace(ADAPTER, base_roots=())


@pytest.mark.rule("T41")
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of peft about transformers, and back
def test_peft_gives_the_same_logits(
    folder: Path, below: HfFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To 1e-4, beside the weights and merged there; and what PEFT saves comes back here."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    transformers, peft = pytest.importorskip("transformers"), pytest.importorskip("peft")
    model = transformers.LlamaForCausalLM.from_pretrained(below.folder)
    model = peft.PeftModel.from_pretrained(model, folder)
    with torch.no_grad():
        theirs = model(TOKENS).logits
    ours = Stage(PLAN, NATIVE, BASE_W).forward(PARAMS, TOKENS)
    assert torch.allclose(ours, theirs, rtol=0.0, atol=1e-4)
    assert not torch.allclose(ours, Stage(BASE, NATIVE).forward(BASE_W, TOKENS), atol=1e-2)
    model.save_pretrained(tmp_path / "saved")
    plan, params_P = read_adapter_folder(tmp_path / "saved", below)
    assert torch.equal(params_P, PARAMS)
    assert plan.adapter == replace(ADAPTER, base_roots=())
    with torch.no_grad():
        inside = model.merge_and_unload()(TOKENS).logits
    assert torch.allclose(ours, inside, rtol=0.0, atol=1e-4)


@pytest.mark.rule("T41")
def test_a_merged_export_is_the_adapter_on_its_base_for_transformers_too(
    below: HfFolder, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    whole = export_files(MODEL, [merged(PLAN, PARAMS, BASE_W)], facts=FACTS)
    assert f"below it in stage 1 | `{FACTS.base_roots[1]}`" in whole["README.md"].decode()
    model = transformers.LlamaForCausalLM.from_pretrained(write(tmp_path / "merged", whole))
    with torch.no_grad():
        theirs = model(TOKENS).logits
    ours = Stage(PLAN, NATIVE, BASE_W).forward(PARAMS, TOKENS)
    assert torch.allclose(ours, theirs, rtol=0.0, atol=1e-4)


@pytest.mark.rule("T41")
def test_a_folder_is_used_with_the_base_it_names_or_another_name_of_it(
    folder: Path, below: HfFolder, tmp_path: Path
) -> None:
    expected = merged(PLAN, PARAMS, BASE_W)
    assert torch.equal(load_model(folder).params_P, expected)
    assert torch.equal(load_model(folder, str(below.folder)).params_P, expected)
    config = json.loads((folder / ADAPTER_CONFIG_FILE).read_bytes())
    for base in (None, "meta-llama/Llama-3.2-1B", str(tmp_path / "gone")):
        changed = {**config, "base_model_name_or_path": base}
        (folder / ADAPTER_CONFIG_FILE).write_text(json.dumps(changed))
        with pytest.raises(BadConfig, match="is an adapter") as caught:
            load_model(folder)
        assert "--base" in caught.value.hint
    with pytest.raises(UsageError, match="no adapter"):
        load_model(below.folder, str(folder))


@pytest.mark.rule("T41")
def test_other_weights_below_are_refused_by_hash(folder: Path, tmp_path: Path) -> None:
    """Of the same shape; where the folder does not say the hashes they cannot be compared."""
    bent_W = BASE_W.clone()
    bent_W[-1] += 1.0
    other = write(tmp_path / "other", export_files(MODEL, [bent_W]))
    with pytest.raises(BadConfig, match="other weights") as caught:
        read_adapter_folder(folder, open_folder(other))
    assert caught.value.hint
    tensors = load((folder / ADAPTER_WEIGHTS_FILE).read_bytes())
    for roots in ("00", "zz" * 32, "00" * 32 + ",", ",".join(["00" * 32] * 9)):
        data = save(tensors, metadata={BASE_KEY: roots})
        (folder / ADAPTER_WEIGHTS_FILE).write_bytes(data)
        with pytest.raises(BadConfig, match=BASE_KEY):
            read_adapter_folder(folder, open_folder(other))
    (folder / ADAPTER_WEIGHTS_FILE).write_bytes(save(tensors))
    read_adapter_folder(folder, open_folder(other))


@pytest.mark.rule("T41")
def test_an_adapter_for_another_model_is_refused_by_its_tensors(
    folder: Path, tmp_path: Path
) -> None:
    for changes in ({"num_layers": 2}, {"num_layers": 4}, {"hidden_size": 32}):
        model = replace(MODEL, **changes)
        (plan,) = plan_stages(model, 1)
        name = "-".join(map(str, changes.values()))
        other = write(tmp_path / name, export_files(model, [init_flat(plan, 1)]))
        with pytest.raises(BadConfig, match="another model") as caught:
            read_adapter_folder(folder, open_folder(other))
        assert caught.value.hint


@pytest.mark.rule("T41", "T30")
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("peft_type", "LOHA"),
        ("peft_type", None),
        ("r", 0),
        ("r", -1),
        ("r", 9),
        ("r", 2.0),
        ("r", True),
        ("r", 1 << 70),
        ("lora_alpha", 0),
        ("lora_alpha", float("nan")),
        ("lora_alpha", float("inf")),
        ("lora_alpha", "16"),
        ("target_modules", "all-linear"),
        ("target_modules", []),
        ("target_modules", ["q_proj", "lm_head"]),
        ("target_modules", [3]),
        ("target_modules", [["q_proj"]]),
        ("bias", "all"),
        ("use_dora", True),
        ("use_rslora", True),
        ("modules_to_save", ["lm_head"]),
        ("rank_pattern", {"q_proj": 2}),
        ("init_lora_weights", "pissa"),
        ("init_lora_weights", []),
    ],
)
def test_another_kind_of_adapter_is_refused_by_its_key(
    folder: Path, below: HfFolder, key: str, value: object
) -> None:
    config = json.loads((folder / ADAPTER_CONFIG_FILE).read_bytes())
    (folder / ADAPTER_CONFIG_FILE).write_text(json.dumps({**config, key: value}))
    with pytest.raises(BadConfig, match=key) as caught:
        read_adapter_folder(folder, below)
    assert caught.value.hint


@pytest.mark.rule("T41", "T30")
def test_damaged_folders_are_refused(folder: Path, below: HfFolder) -> None:
    whole = (folder / ADAPTER_WEIGHTS_FILE).read_bytes()
    tensors = load(whole)
    name = next(iter(tensors))
    spoiled = {**tensors, name: tensors[name] * float("nan")}
    fewer = {key: tensor for key, tensor in tensors.items() if key != name}
    more = {**tensors, "base_model.model.lm_head.lora_A.weight": torch.zeros(4, 16)}
    for data in (save(spoiled), save(fewer), save(more), whole[:-5], whole[:3], b""):
        (folder / ADAPTER_WEIGHTS_FILE).write_bytes(data)
        with pytest.raises(BadConfig, match=str(folder)):
            read_adapter_folder(folder, below)
    for raw in (b"", b"{", b"[]", b"[" * 100_000):
        (folder / ADAPTER_CONFIG_FILE).write_bytes(raw)
        with pytest.raises(BadConfig):
            read_adapter_folder(folder, below)


@pytest.mark.rule("T41")
def test_nothing_but_a_typed_refusal_comes_out_of_a_config(folder: Path, below: HfFolder) -> None:
    config = json.loads((folder / ADAPTER_CONFIG_FILE).read_bytes())
    for key in config:
        for value in (None, True, -1, 1 << 70, 0.5, float("nan"), "", "x", [], [1], {}, {"a": 1}):
            (folder / ADAPTER_CONFIG_FILE).write_text(json.dumps({**config, key: value}))
            with suppress(BadConfig):
                read_adapter_folder(folder, below)


@pytest.mark.rule("T41")
def test_an_export_of_the_adapter_alone_compares_the_base_that_it_names(
    below: HfFolder, tmp_path: Path
) -> None:
    model = Model(
        spec=MODEL,
        params_P=merged(PLAN, PARAMS, BASE_W),
        round=2,
        facts=FACTS,
        adapter=ADAPTER,
        adapter_P=PARAMS,
    )
    save_model(tmp_path / "out", model, format_="peft", base=str(below.folder))
    assert torch.equal(load_model(tmp_path / "out").params_P, model.params_P)
    other = write(tmp_path / "other", export_files(MODEL, [BASE_W + 1.0]))
    with pytest.raises(BadConfig, match="other weights"):
        save_model(tmp_path / "more", model, format_="peft", base=str(other))
    assert not (tmp_path / "more").exists()
    with pytest.raises(UsageError, match="no adapter"):
        adapter_of(replace(model, adapter=None))
