"""What a run file says of an adapter and of rotary positions, and what it must not say."""

import pytest

from swarm.config.bounds import check_spec, target_shape
from swarm.config.load import parse_run_file, planned_data, run_spec, with_shape
from swarm.config.schema import RunFile, run_template
from swarm.config.spec import (
    ADAPTER_TARGETS,
    NANO,
    AdapterSpec,
    ModelSpec,
    RopeSpec,
    RunSpec,
    StageStart,
)
from swarm.errors import BadConfig
from swarm.primitives.codec import replace
from swarm.training.model.llama import layer_blocks
from swarm.types import Digest
from tests.config.test_start_shape import SHAPE

FROM = '[model]\ninit_from = "llama"\nvocab_size = 256\n'
ROOT = Digest(b"\x01" * 32)


def spec_of(text: str) -> RunSpec:
    file = parse_run_file(FROM + text, "run.toml")
    return run_spec(file, data=planned_data(file), base_roots=(ROOT, ROOT))


def refused(text: str, match: str) -> BadConfig:
    with pytest.raises(BadConfig, match=match) as caught:
        parse_run_file(text, "run.toml")
    assert caught.value.hint
    return caught.value


@pytest.mark.rule("T40")
def test_an_adapter_has_a_rank_an_alpha_and_sorted_targets() -> None:
    spec = spec_of('[adapter]\nrank = 4\nalpha = 8\ntargets = ["down", "q"]')
    assert spec.adapter == AdapterSpec(4, 8 * NANO, ("q", "down"), (ROOT, ROOT))
    assert spec.adapter.scale == 2.0
    assert spec_of("[adapter]\nrank = 8").adapter.targets == ADAPTER_TARGETS


@pytest.mark.rule("T40")
def test_a_run_without_one_says_nothing_of_it() -> None:
    for text in ("", "[adapter]\nrank = 0\nalpha = 3.0", '[adapter]\ntargets = ["q"]'):
        file = parse_run_file(text, "run.toml")
        assert run_spec(file, data=planned_data(file)).adapter == AdapterSpec()
    assert "[adapter]" in run_template()


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("rank = -1", "rank"),
        ("rank = 1025", "rank"),
        ("rank = 4.0", "rank"),
        ("rank = 4\nalpha = inf", "alpha"),
        ("rank = 4\nalpha = nan", "alpha"),
        ("rank = 4\nalpha = 0.0", "alpha"),
        ("rank = 4\nalpha = -2.0", "alpha"),
        ('rank = 4\ntargets = ["lm_head"]', "targets"),
        ('rank = 4\ntargets = "q"', "targets"),
        ("rank = 4\ntargets = []", "targets"),
        ("rnak = 4", "did you mean"),
    ],
)
def test_a_setting_that_is_none_is_refused(text: str, match: str) -> None:
    refused(f"{FROM}[adapter]\n{text}", match)


@pytest.mark.rule("T40")
def test_an_adapter_needs_weights_and_adamw() -> None:
    assert "init_from" in refused("[adapter]\nrank = 4", "needs the weights").hint
    text = f'{FROM}[adapter]\nrank = 4\n[optimizer]\nname = "muon"'
    assert "adamw" in refused(text, "not by muon").hint


@pytest.mark.rule("T40")
def test_a_rank_above_the_narrowest_target_is_refused_once_the_shape_is_known() -> None:
    """The default shape is 128 wide, the folder's keys 16: the file alone cannot know."""
    file = parse_run_file('[model]\ninit_from = "llama"\n[adapter]\nrank = 17', "run.toml")
    shape = replace(SHAPE, vocab_size=256)
    roots = (ROOT, ROOT)
    with pytest.raises(BadConfig, match="narrowest of its targets: 16") as caught:
        run_spec(
            with_shape(file, shape),
            data=planned_data(file),
            base_roots=roots,
        )
    assert "16 or less" in caught.value.hint
    wide = file.adapter.model_copy(update={"targets": ("q", "up")})
    file = with_shape(file.model_copy(update={"adapter": wide}), shape)
    run_spec(file, data=planned_data(file), base_roots=roots)


@pytest.mark.rule("T40", "S1")
def test_a_spec_from_a_stranger_names_every_stage_or_is_refused() -> None:
    spec = spec_of("[adapter]\nrank = 4")
    check_spec(spec)
    good = spec.adapter
    for bad in (
        replace(good, base_roots=()),
        replace(good, base_roots=(ROOT,)),
        replace(good, base_roots=(ROOT, Digest(b"short"))),
        replace(good, targets=("k", "q")),
        replace(good, targets=("q", "q")),
        replace(good, targets=("lm_head",)),
        replace(good, targets=()),
        replace(good, lora_alpha_nano=0),
        replace(good, rank=0),
        AdapterSpec(base_roots=(ROOT, ROOT)),
    ):
        with pytest.raises(BadConfig):
            check_spec(replace(spec, adapter=bad))
    start = StageStart(ROOT, 1, 1, 0)
    with pytest.raises(BadConfig, match="starts from the seed"):
        check_spec(replace(spec, starts=(start, start), is_pretrained=True))


def test_targets_have_the_shapes_of_their_projections() -> None:
    shapes = {part.name: part.shape for b in layer_blocks(SHAPE, 0) for part in b.parts}
    names = {"q": "self_attn.q", "k": "self_attn.k", "v": "self_attn.v", "o": "self_attn.o"}
    for target in ADAPTER_TARGETS:
        module = names.get(target, f"mlp.{target}")
        assert target_shape(SHAPE, target) == shapes[f"model.layers.0.{module}_proj.weight"]


@pytest.mark.rule("T42")
def test_the_rule_of_rotary_positions_comes_from_the_folder_or_the_file() -> None:
    rope = RopeSpec(kind="llama3", factor_nano=32 * NANO)
    file = parse_run_file('[model]\ninit_from = "llama"', "run.toml")
    shape: ModelSpec = replace(SHAPE, vocab_size=256, rope=rope)
    assert _model(with_shape(file, shape)).rope == rope
    text = 'rope_type = "linear"\nrope_factor = 4.0\n'
    own = parse_run_file(f"[model]\n{text}", "run.toml")
    assert _model(own).rope == RopeSpec(kind="linear", factor_nano=4 * NANO)
    with pytest.raises(BadConfig, match="rope_type"):
        with_shape(parse_run_file(f"{FROM}{text}", "run.toml"), shape)


def _model(file: RunFile) -> ModelSpec:
    return run_spec(file, data=planned_data(file)).model


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('rope_type = "yarn"', "rope_type"),
        ("rope_factor = 2.0", "does nothing"),
        ('rope_type = "linear"\nrope_factor = 0.5', "rope_factor"),
        ('rope_type = "llama3"\nrope_low_freq_factor = 4.0', "below rope_high_freq_factor"),
        ('rope_type = "llama3"\nrope_original_positions = 0', "rope_original_positions"),
    ],
)
def test_a_rule_that_is_none_is_refused(text: str, match: str) -> None:
    refused(f"[model]\n{text}", match)
