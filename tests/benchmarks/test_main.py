"""Every benchmark that can be named on the command line is there and can be measured."""

import importlib
from pathlib import Path

import pytest

from benchmarks.main import NAMES

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_a_module_that_measures(name: str) -> None:
    assert callable(importlib.import_module(f"benchmarks.{name}").measure)


def test_no_benchmark_is_missing() -> None:
    specified = (ROOT / "docs/spec/figures.md").read_text("utf-8")
    for name in NAMES:
        assert f"| {name} |" in specified
    assert set(NAMES) == {path.stem for path in _measuring()} - {"checking"}  # a part of verify


def _measuring() -> list[Path]:
    paths = (ROOT / "benchmarks").glob("*.py")
    return [path for path in paths if "\ndef measure(" in path.read_text("utf-8")]
