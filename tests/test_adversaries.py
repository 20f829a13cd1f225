"""Every standing adversary of docs/adversaries.md has a test, and every test that it names is there."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "adversaries.md"
ADVERSARIES = (
    "inflated tokens",
    "dust verifiers",
    "silent verifiers",
    "stakeless liars",
    "seat squatters",
    "a founder that lies",
    "a bought majority",
    "copied reports and answers",
    "pool floods",
    "beacon grinding",
    "a liar as checkpoint poster",
    "a validator that lost its memory",
    "twins",
)


def rows() -> dict[str, list[tuple[str, str]]]:
    """Return the tests of every adversary, by file and name."""
    found: dict[str, list[tuple[str, str]]] = {}
    for line in PAGE.read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == 5 and "`" in cells[3]:
            found[cells[1]] = re.findall(r"`(\S+?)::(\S+?)`", cells[3])
    return found


def test_each_standing_adversary_has_a_row_with_a_test() -> None:
    assert set(ADVERSARIES) <= set(rows())
    assert all(rows().values())


def test_each_test_that_is_named_there_exists() -> None:
    for file, name in (test for tests in rows().values() for test in tests):
        tree = ast.parse((ROOT / file).read_text("utf-8"))
        defined = {
            node.name
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert name in defined, f"{file} has no test {name}"
