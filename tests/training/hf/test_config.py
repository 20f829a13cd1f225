"""A config.json is believed within bounds, and whatever changes the arithmetic is refused by its key."""

import json
from contextlib import suppress

import pytest

from swarm.config.spec import NANO, RopeSpec
from swarm.errors import BadConfig
from swarm.primitives.codec import replace
from swarm.training.hf.config import CONFIG_BYTES_MAX, config_text, read_config, read_tied
from tests.training.models import TINY as MODEL

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
LLAMA3_ROPE = RopeSpec(kind="llama3", factor_nano=8 * NANO)


def changed(**changes: object) -> bytes:
    return json.dumps({**json.loads(config_text(MODEL)), **changes}).encode()


def test_what_is_written_comes_back() -> None:
    assert read_config(config_text(MODEL)) == MODEL


def test_an_older_file_says_it_in_fewer_keys() -> None:
    config = json.loads(config_text(MODEL))
    for key in ("rope_parameters", "head_dim", "hidden_act", "attention_bias"):
        del config[key]
    assert read_config(json.dumps(config).encode()) == MODEL
    del config["num_key_value_heads"]
    assert read_config(json.dumps(config).encode()).num_kv_heads == 4


def test_a_longer_context_than_ours_is_cut() -> None:
    assert read_config(changed(max_position_embeddings=131_072)).seq_len == 16_384


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_type", "gpt2"),
        ("model_type", None),
        ("rope_scaling", "linear"),
        ("rope_scaling", {"rope_type": "yarn", "factor": 8.0}),
        ("rope_scaling", {"type": "dynamic", "factor": 2.0}),
        ("rope_scaling", {"rope_type": "linear", "factor": 0.5}),
        ("rope_scaling", {"rope_type": "linear", "factor": float("nan")}),
        ("rope_scaling", {"rope_type": "linear", "factor": 2.0, "attention_factor": 2.0}),
        ("rope_scaling", {**LLAMA3, "low_freq_factor": 4.0}),
        ("rope_scaling", {**LLAMA3, "original_max_position_embeddings": 4.5}),
        ("rope_scaling", {**LLAMA3, "original_max_position_embeddings": 1 << 40}),
        ("rope_parameters", {"partial_rotary_factor": 0.5, "rope_theta": 10_000}),
        ("attention_bias", True),
        ("mlp_bias", True),
        ("rope_scaling", {"rope_type": "llama3", "factor": 8.0}),
        ("quantization_config", {"bits": 4}),
        ("sliding_window", 4096),
        ("hidden_act", "gelu"),
        ("pretraining_tp", 2),
        ("head_dim", 8),
        ("num_hidden_layers", -3),
        ("num_hidden_layers", 1 << 40),
        ("num_hidden_layers", True),
        ("num_hidden_layers", 3.0),
        ("vocab_size", "256"),
        ("vocab_size", None),
        ("max_position_embeddings", 0),
        ("rms_norm_eps", float("nan")),
        ("rms_norm_eps", 0),
        ("rms_norm_eps", "1e-5"),
    ],
)
def test_another_kind_of_model_is_refused_by_its_key(key: str, value: object) -> None:
    with pytest.raises(BadConfig, match=key):
        read_config(changed(**{key: value}))


@pytest.mark.parametrize("theta", [float("inf"), 0.5, 10_000.5, "x", 10**12, True])
def test_a_rotary_base_that_is_none_is_refused(theta: object) -> None:
    with pytest.raises(BadConfig, match="rope_theta"):
        read_config(changed(rope_parameters={"rope_theta": theta}))


@pytest.mark.rule("T42")
def test_the_rule_of_rotary_positions_is_read_in_either_spelling() -> None:
    """Older releases write rope_scaling and the base beside it, newer ones both in rope_parameters."""
    plain, stretched = LLAMA3_ROPE, replace(MODEL, rope=LLAMA3_ROPE)
    assert read_config(config_text(stretched)) == stretched
    theirs = {"rope_theta": 500_000.0, **LLAMA3}
    assert read_config(changed(rope_parameters=theirs)).rope == plain
    assert read_config(changed(rope_parameters=theirs)).rope_theta == 500_000
    config = json.loads(changed(rope_scaling=LLAMA3, rope_theta=300_000.0))
    del config["rope_parameters"]
    model = read_config(json.dumps(config).encode())
    assert (model.rope, model.rope_theta) == (plain, 300_000)
    config["rope_scaling"] = {"type": "linear", "factor": 2}
    linear = RopeSpec(kind="linear", factor_nano=2 * NANO)
    assert read_config(json.dumps(config).encode()).rope == linear
    config["rope_scaling"] = None
    assert read_config(json.dumps(config).encode()).rope == RopeSpec()


@pytest.mark.rule("T42")
def test_two_rules_that_differ_are_refused_and_the_context_before_a_cut_counts() -> None:
    with pytest.raises(BadConfig, match="rope_parameters say otherwise"):
        read_config(changed(rope_scaling=LLAMA3))
    short = {key: value for key, value in LLAMA3.items() if not key.startswith("original")}
    config = {"rope_parameters": short, "max_position_embeddings": 131_072}
    assert read_config(changed(**config)).rope.original_positions == 131_072


@pytest.mark.rule("T30")
@pytest.mark.parametrize("tied", ["yes", 1, 0, [], 0.5])
def test_a_tie_is_true_or_false(tied: object) -> None:
    with pytest.raises(BadConfig, match="tie_word_embeddings"):
        read_tied(changed(tie_word_embeddings=tied))
    assert not read_tied(changed(tie_word_embeddings=None))
    assert not read_tied(config_text(MODEL))
    assert read_tied(config_text(MODEL, is_tied=True))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"[" * 100_000,
        b"\xff",
        b" " * (CONFIG_BYTES_MAX + 1),
        b'{"a": 1' + b"0" * 9999,
    ],
)
def test_what_is_no_config_is_refused(raw: bytes) -> None:
    with pytest.raises(BadConfig):
        read_config(raw)


def test_a_config_longer_than_any_is_not_parsed_though_it_says_the_right_things() -> None:
    with pytest.raises(BadConfig, match=f"longer than {CONFIG_BYTES_MAX} bytes"):
        read_config(changed() + b" " * CONFIG_BYTES_MAX)


JUNK: tuple[object, ...] = (
    None,
    True,
    -1,
    0,
    1 << 70,
    0.5,
    float("nan"),
    float("inf"),
    "",
    "x",
    [],
    [1],
    {},
    {"a": 1},
)


@pytest.mark.rule("S34", "T30")
@pytest.mark.parametrize("key", sorted(json.loads(config_text(MODEL))))
def test_nothing_but_a_typed_refusal_comes_out(key: str) -> None:
    for value in JUNK:
        with suppress(BadConfig):
            read_config(changed(**{key: value}))
        with suppress(BadConfig):
            read_tied(changed(**{key: value}))
