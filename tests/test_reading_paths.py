"""The reading paths of a newcomer are short, and lead to files and names that exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "reading-paths.md").read_text("utf-8")
PATHS = {
    part.splitlines()[0]: re.findall(r"^\| `(swarm/[\w/]+\.py)` \| (.*) \|$", part, re.MULTILINE)
    for part in TEXT.split("\n## ")[1:]
}
FILES_MAX = {
    "One optimizer step of a seat in a middle stage": 14,
    "One trade of a fragment": 15,
}


def names_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds)}


def test_the_paths_are_those_that_are_counted() -> None:
    assert PATHS.keys() == FILES_MAX.keys()


@pytest.mark.parametrize("path", sorted(FILES_MAX))
def test_a_path_is_short_and_names_each_file_once(path: str) -> None:
    files = [file for file, _ in PATHS[path]]
    assert 0 < len(files) == len(set(files)) <= FILES_MAX[path]


@pytest.mark.parametrize(("file", "what"), [step for path in sorted(PATHS) for step in PATHS[path]])
def test_a_step_leads_to_a_file_and_to_names_in_it(file: str, what: str) -> None:
    assert (ROOT / file).is_file()
    named = set(re.findall(r"`(\w+)`", what))
    assert named, "a step says what to look at"
    assert named <= names_in(ROOT / file)
