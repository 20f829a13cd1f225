"""The demo leaves no process and no file behind but the model."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from swarm.cli import run_node
from swarm.cli.demo.command import _clean
from swarm.cli.demo.processes import MARK_VARIABLE, Children
from swarm.cli.run_node import PARENT_VARIABLE

NEEDS_PROC = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads /proc")
WAITS_FOR_A_SIGNAL = ["-s", "import signal; signal.pause()", "pass"]
"""For ``python -m timeit``: a process that ends by a signal only."""


@pytest.fixture
def children() -> Iterator[Children]:
    made = Children(f"test-{os.getpid()}")
    yield made
    made.stop(patience_s=5.0)


@pytest.mark.rule("C7")
@NEEDS_PROC
def test_children_are_found_by_their_mark_and_stopped(children: Children, tmp_path: Path) -> None:
    child = children.start("one", WAITS_FOR_A_SIGNAL, tmp_path / "log", program="timeit")
    assert os.getsid(child.process.pid) == child.process.pid, "a process group of its own"
    assert children.left_running() == 1
    assert Children("another mark").left_running() == 0
    children.stop(patience_s=5.0)
    assert children.left_running() == 0
    assert child.process.returncode is not None


@pytest.mark.rule("C7")
def test_children_know_their_parent_and_their_mark(children: Children) -> None:
    settings = children.environment()
    assert settings[PARENT_VARIABLE] == str(os.getpid())
    assert settings[MARK_VARIABLE] == children.mark


@pytest.mark.rule("C7")
@pytest.mark.parametrize("is_there", [True, False])
async def test_a_node_ends_when_the_demo_is_gone(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, is_there: bool
) -> None:
    parent = os.getppid() if is_there else os.getppid() + 1
    monkeypatch.setenv(PARENT_VARIABLE, str(parent))
    with trio.move_on_after(60.0), trio.CancelScope() as scope:
        await run_node._watch_parent(scope)
    assert scope.cancel_called != is_there


@pytest.mark.rule("C7")
def test_nothing_but_the_model_is_kept(tmp_path: Path) -> None:
    for name in ("launcher", "logs", "model"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x")
    (tmp_path / "run.toml").write_text("")
    _clean(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model" / "file").exists()
