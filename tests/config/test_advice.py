"""Errors of a file are worded for the file, with the key that was meant and the hint that mends it."""

import pytest

from swarm.config.advice import advice, in_plain_words, mend, nearest
from swarm.config.load import parse_run_file
from swarm.errors import BadConfig

KNOWN = ["beta1", "learning_rate", "warmup_steps", "weight_decay"]
SECTIONS = {"model": ["num_layers", "seq_len"], "optimizer": KNOWN}


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("learning_rte", "learning_rate"),
        ("lr", "learning_rate"),
        ("LR", "learning_rate"),
        ("wd", "weight_decay"),
        ("beta", "beta1"),
        ("qqq", ""),
        ("", ""),
    ],
)
def test_a_key_is_known_by_its_spelling_or_its_initials(key: str, meant: str) -> None:
    assert nearest(key, KNOWN) == meant


def test_an_unknown_key_is_refused_with_its_section() -> None:
    assert advice("warmup", KNOWN, SECTIONS) == '; did you mean "warmup_steps"?'
    assert advice("num_layer", KNOWN, SECTIONS) == '; did you mean "num_layers" in [model]?'
    assert advice("qqq", ["a", "b"], SECTIONS) == "; known are: a, b"


def test_nothing_of_the_library_that_reads_the_forms_shows() -> None:
    """Its patterns and its kinds are those of Python."""
    for text in ('[run]\nname = "-"', "[run]\nrounds = 1.5", "[outer]\nage_weights = 3"):
        with pytest.raises(BadConfig) as caught:
            parse_run_file(text, "my.toml")
        assert not {"pattern", "Input", "tuple", "integer"} & set(str(caught.value).split())
    assert in_plain_words("Input should be a valid tuple") == "must be a list"


def test_what_mends_a_setting_is_one_action() -> None:
    assert mend(["model", "seq_len"], "my.toml") == "edit my.toml"
    assert mend(["model"], "my.toml") == "edit my.toml"
    assert "swarm data build" in mend(["data", "tokenizer"], "my.toml")
    with pytest.raises(BadConfig) as caught:
        parse_run_file('[data]\ntokenizer = "gpt2.json"', "my.toml")
    assert caught.value.hint.startswith("swarm data build")
    with pytest.raises(BadConfig) as caught:
        parse_run_file("[model]\nvocab_size = 512", "my.toml")
    assert "vocab_size = 256" in caught.value.hint
