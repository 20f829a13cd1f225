"""A long wait is told again and again, and the telling stops with the wait."""

import threading

import pytest

from swarm.cli import terminal
from swarm.cli.options import GlobalOptions
from swarm.cli.terminal import Terminal


@pytest.mark.rule("C4")
def test_a_long_wait_is_told_until_it_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(terminal, "PATIENCE_S", 0.01)
    told = threading.Event()
    desk = Terminal(GlobalOptions())
    said = desk.say

    def say(message: str) -> None:
        said(message)
        told.set()

    monkeypatch.setattr(desk, "say", say)
    with desk.patient("still loading"):
        assert told.wait(5.0)
    assert "still loading" in capsys.readouterr().err
    assert not any(thread.name == "patience" for thread in threading.enumerate())
