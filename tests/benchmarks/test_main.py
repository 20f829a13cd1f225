"""Every benchmark that can be named on the command line is there and can be measured."""

import importlib
from pathlib import Path

import pytest

from benchmarks import train, tune
from benchmarks.main import NAMES, chosen
from swarm.errors import UsageError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_a_module_that_measures(name: str) -> None:
    bench = importlib.import_module(f"benchmarks.{name}")
    assert callable(bench.measure)
    assert not chosen(None, getattr(bench, "CHOICES", ()))


def test_no_benchmark_is_missing() -> None:
    specified = (ROOT / "docs/spec/figures.md").read_text("utf-8")
    for name in NAMES:
        assert f"| {name} |" in specified
    assert set(NAMES) == {path.stem for path in _measuring()} - {"checking"}  # a part of verify


def test_runs_are_chosen_by_their_names() -> None:
    assert chosen("sync_tuned,muon_gossip_long", train.CHOICES) == {
        "sync_tuned",
        "muon_gossip_long",
    }
    assert chosen("gasloc", tune.CHOICES) == {"gasloc"}
    assert not chosen(None, train.CHOICES)
    for text, choices in (("nothing", tune.CHOICES), ("", train.CHOICES), ("sync_tuned", ())):
        with pytest.raises(UsageError):
            chosen(text, choices)


def _measuring() -> list[Path]:
    paths = (ROOT / "benchmarks").glob("*.py")
    return [path for path in paths if "\ndef measure(" in path.read_text("utf-8")]
