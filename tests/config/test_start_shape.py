"""A run that goes on from a model has its shape; what the run file says beside the defaults must agree."""

import pytest

from swarm.config.load import parse_run_file, with_shape
from swarm.config.schema import RunFile, run_template
from swarm.config.spec import ModelSpec
from swarm.errors import BadConfig

SHAPE = ModelSpec(
    vocab_size=300,
    hidden_size=64,
    num_layers=9,
    num_heads=8,
    num_kv_heads=2,
    intermediate_size=160,
    seq_len=512,
    rope_theta=500_000,
    norm_eps_nano=1_000,
)


def a_file(text: str = "") -> RunFile:
    return parse_run_file(f'[model]\ninit_from = "llama"\n{text}', "run.toml")


def test_the_shape_is_the_models_and_the_window_is_the_runs() -> None:
    model = with_shape(a_file(), SHAPE).model
    assert (model.vocab_size, model.hidden_size, model.num_layers) == (300, 64, 9)
    assert (model.num_heads, model.num_kv_heads, model.intermediate_size) == (8, 2, 160)
    assert (model.rope_theta, model.norm_eps, model.seq_len) == (500_000, 1e-6, 128)
    assert with_shape(a_file("seq_len = 512"), SHAPE).model.seq_len == 512


def test_a_template_with_one_line_changed_is_enough() -> None:
    text = run_template().replace('init_from = ""', 'init_from = "llama"')
    assert with_shape(parse_run_file(text, "run.toml"), SHAPE).model.num_layers == 9


def test_more_stages_than_the_default_layers_wait_for_the_folder() -> None:
    file = a_file("[training]\nnum_stages = 9")
    assert with_shape(file, SHAPE).model.num_layers == 9
    with pytest.raises(BadConfig, match="num_stages"):
        a_file("num_layers = 8\n[training]\nnum_stages = 9")


@pytest.mark.parametrize(
    "line", ["num_layers = 3", "hidden_size = 32", "norm_eps = 1e-4", "rope_theta = 20_000"]
)
def test_a_shape_that_differs_is_refused_by_its_key(line: str) -> None:
    with pytest.raises(BadConfig, match=line.split(maxsplit=1)[0]) as caught:
        with_shape(a_file(line), SHAPE)
    assert "remove" in caught.value.hint


def test_a_window_longer_than_the_context_is_refused() -> None:
    with pytest.raises(BadConfig, match="seq_len"):
        with_shape(a_file("seq_len = 513"), SHAPE)
