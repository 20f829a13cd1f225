"""Command lines in a home of their own."""

from collections.abc import Callable
from pathlib import Path

import pytest

from swarm.cli.main import run


@pytest.fixture
def run_cli(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Run a command line in a fresh home; give its exit code, stdout and stderr."""
    monkeypatch.setenv("SWARM_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    def execute(*args: str) -> tuple[int, str, str]:
        code = run(args)
        out = capsys.readouterr()
        return code, out.out, out.err

    return execute
