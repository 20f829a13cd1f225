"""A long wait is reported again and again; a command is offered as it works here; a question takes only yes."""

import io
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from typer.main import get_command

from swarm.cli import terminal
from swarm.cli.errors import Explained
from swarm.cli.main import app
from swarm.cli.options import GlobalOptions
from swarm.cli.terminal import Terminal
from swarm.errors import UsageError


@pytest.mark.rule("C4")
def test_a_long_wait_is_reported_until_it_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(terminal, "PATIENCE_S", 0.01)
    repeated = threading.Event()
    screen = Terminal(GlobalOptions())
    printer = screen.say

    def say(message: str) -> None:
        printer(message)
        repeated.set()

    monkeypatch.setattr(screen, "say", say)
    with screen.patient("still loading"):
        assert repeated.wait(5.0)
    assert "still loading" in capsys.readouterr().err
    assert not any(thread.name == "patience" for thread in threading.enumerate())


@pytest.mark.rule("C8")
def test_a_command_is_offered_as_it_works_in_this_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its path where the name alone is not found; prose about the swarm stays as it is."""
    program = tmp_path / "bin" / "swarm"
    program.parent.mkdir()
    program.touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["bin/swarm"])
    monkeypatch.setenv("PATH", "/nowhere")
    screen = Terminal(GlobalOptions())
    assert screen.program == "bin/swarm"
    screen.say("the swarm map is late; try swarm map, or swarm joins no network")
    assert "try bin/swarm map, or swarm joins no network" in capsys.readouterr().err
    screen.fail(Explained("gone", "swarm join TICKET", 3, True))
    assert "try: bin/swarm join TICKET" in capsys.readouterr().err
    monkeypatch.setenv("PATH", str(program.parent))
    assert Terminal(GlobalOptions()).program == "swarm"
    monkeypatch.setattr("sys.argv", ["-m"])
    assert Terminal(GlobalOptions()).program == "swarm"


@pytest.mark.rule("C8")
def test_every_command_of_the_program_is_one_that_is_offered() -> None:
    assert set(get_command(app).commands) == set(terminal.COMMANDS)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("typed", "is_yes"), [("y\n", True), ("YES\n", True), ("\n", False), ("", False)]
)
def test_a_question_is_asked_of_people_and_only_yes_is_yes(
    typed: str, is_yes: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the stream of messages: stdout is data."""
    monkeypatch.setattr("sys.stdin", _Typed(typed))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert Terminal(GlobalOptions()).confirms("End it?", "swarm stop --yes") is is_yes
    out = capsys.readouterr()
    assert (out.out, "End it? [y/N]" in out.err) == ("", True)


@pytest.mark.parametrize("options", [GlobalOptions(), GlobalOptions(json=True)])
def test_without_a_terminal_to_ask_on_the_command_is_named(options: GlobalOptions) -> None:
    with pytest.raises(UsageError, match="there is no terminal to ask on") as caught:
        Terminal(options).confirms("End it?", "swarm stop --yes")
    assert caught.value.hint == "swarm stop --yes"
    assert Terminal(replace(options, yes=True)).confirms("End it?", "")


class _Typed(io.StringIO):
    """What a person types at a terminal."""

    def isatty(self) -> bool:
        return True
