"""Whatever goes wrong ends in one sentence, one hint and the right exit code."""

from pathlib import Path

import pytest

from swarm.cli.errors import INTERRUPTED, explain, save_trace
from swarm.errors import (
    BadConfig,
    BadIdentity,
    BadTicket,
    Corrupt,
    Unreachable,
    UsageError,
    VerificationFailed,
)


@pytest.mark.rule("C2")
@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (BadTicket, 2),
        (UsageError, 2),
        (Unreachable, 3),
        (BadConfig, 4),
        (BadIdentity, 5),
        (VerificationFailed, 6),
        (Corrupt, 1),
    ],
)
def test_errors_on_purpose_keep_their_message_and_code(kind: type[UsageError], code: int) -> None:
    """The exit codes of the command line."""
    explained = explain(kind("something  is\nwrong", hint="do this"))
    assert (explained.message, explained.hint) == ("something is wrong", "do this")
    assert explained.exit_code == code
    assert explained.is_expected


def test_the_cause_is_found_inside_groups() -> None:
    """Nurseries wrap what they raise, several times over."""
    inner = ExceptionGroup("a", [BadConfig("rounds must be positive", hint="edit it")])
    explained = explain(ExceptionGroup("b", [inner]))
    assert explained.message == "rounds must be positive"
    assert explained.exit_code == 4


def test_ctrl_c_inside_a_group_is_ctrl_c() -> None:
    """No traceback, 130."""
    explained = explain(BaseExceptionGroup("x", [KeyboardInterrupt(), ValueError("late")]))
    assert explained.exit_code == INTERRUPTED
    assert explained.is_expected


def test_a_bug_is_not_hidden_by_an_error_on_purpose() -> None:
    """An error that was not raised on purpose is reported as such, and its trace is worth saving."""
    explained = explain(
        ExceptionGroup("x", [Unreachable("gone"), ZeroDivisionError("division by zero")])
    )
    assert not explained.is_expected
    assert explained.exit_code == 1
    assert "ZeroDivisionError" in explained.message


def test_a_file_problem_is_named_by_its_file() -> None:
    """A person can act on a path, not on an errno."""
    explained = explain(PermissionError(13, "Permission denied", "/etc/x"))
    assert explained.message == "Permission denied: /etc/x"
    assert explained.is_expected


@pytest.mark.rule("C2")
def test_the_trace_goes_to_a_file(tmp_path: Path) -> None:
    """With the command that led to it; a disk that refuses costs nothing but the trace."""
    path = save_trace(ZeroDivisionError("x"), tmp_path / "home")
    assert path is not None
    assert "ZeroDivisionError" in path.read_text()
    (tmp_path / "file").write_text("")
    assert save_trace(ValueError("x"), tmp_path / "file") is None
