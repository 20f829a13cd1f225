"""Every setting is declared once, with bounds, a default inside them and a meaning."""

import tomllib

import pytest
from pydantic import ValidationError

from swarm.config.bounds import BOUNDS
from swarm.config.resources import packaged_file, packaged_names
from swarm.config.schema import NodeConfig, RunFile, Section, run_template


def sections() -> list[Section]:
    default = RunFile()
    return [getattr(default, name) for name in RunFile.model_fields]


def test_defaults_are_within_their_own_bounds() -> None:
    for section in [*sections(), NodeConfig()]:
        values = section.model_dump(by_alias=True)
        assert section.__class__.model_validate(values) == section


def test_every_number_is_bounded() -> None:
    for section in [*sections(), NodeConfig(), NodeConfig().compute]:
        for name, field in section.__class__.model_fields.items():
            if field.annotation in {int, float}:
                bounds = repr(field.metadata)
                assert "Ge(" in bounds, f"{name} has no least"
                assert "Le(" in bounds, f"{name} has no most"


def test_a_setting_without_an_obvious_meaning_says_it() -> None:
    obvious = (
        "num_layers num_heads norm_eps warmup_steps beta1 beta2 eps weight_decay tokenizer".split()
    )
    obvious += "block_interval_s fee_min fee_per_byte".split()
    for section in [*sections(), NodeConfig(), NodeConfig().compute]:
        for name, field in section.__class__.model_fields.items():
            assert field.description or name in obvious, f"{name} is not explained"


def test_nothing_can_be_changed_afterwards() -> None:
    with pytest.raises(ValidationError):
        RunFile().run.rounds = 3


def test_the_template_is_toml_with_every_setting() -> None:
    written = tomllib.loads(run_template())
    assert list(written) == list(RunFile.model_fields)
    for name, section in zip(RunFile.model_fields, sections(), strict=True):
        assert list(written[name]) == list(section.__class__.model_fields)


def test_every_packaged_file_sets_only_what_exists() -> None:
    assert {"demo.toml", "node.toml"} <= set(packaged_names())
    written = tomllib.loads(packaged_file("demo.toml"))
    assert set(written) <= set(RunFile.model_fields)


def test_bounds_are_not_empty() -> None:
    assert all(least <= most for least, most in BOUNDS.values())
