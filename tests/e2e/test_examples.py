"""The examples run as they are written: one alone, and all on one running swarm, which saves its start."""

import os
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path

import pytest
import trio

import swarm

pytestmark = pytest.mark.e2e

EXAMPLES = Path(__file__).parents[2] / "examples"
HELPER = "tiny_swarm"
ORDER = ("peer_map", "follow_ledger", "replay_window", "two_peers")
"""The last one ends the run."""
SAYS = {
    "peer_map": ("answers in", "says: "),
    "follow_ledger": ("committed segment", "are valid and final"),
    "replay_window": ("is honest", "committed ", "replayed  "),
    "two_peers": ("loss ", "tiny ends after round"),
}
LINES_MAX = 60
WAIT_S = 120.0
"""Several times what they take on two busy cores."""


def test_each_example_is_short_and_tested() -> None:
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names == {HELPER, *ORDER}
    for path in EXAMPLES.glob("*.py"):
        text = path.read_text()
        assert text.count("\n") < LINES_MAX
        assert f"python examples/{path.name}" in text or path.stem == HELPER


def test_an_example_runs_from_the_command_line() -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "peer_map.py")],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=WAIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "answers in" in done.stdout


async def test_all_examples_run_on_one_swarm(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    with trio.fail_after(WAIT_S):
        async with import_module(HELPER).tiny_swarm() as nodes:

            @asynccontextmanager
            async def running() -> AsyncGenerator[tuple[swarm.Node, swarm.Node]]:
                yield nodes

            for name in ORDER:
                example = import_module(name)
                monkeypatch.setattr(example, HELPER, running)
                capsys.readouterr()
                await example.main()
                out = capsys.readouterr().out
                assert all(words in out for words in SAYS[name]), (name, out)
