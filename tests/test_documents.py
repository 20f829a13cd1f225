"""Every file that a document names exists, and the first pages stay as short as they promise."""

import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest

import swarm

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\]\(([^)#\s]+)")
NAMED = re.compile(r"`((?!HOME)[\w./-]+/[\w.-]+\.(?:py|md|toml|json|c|h|js|png)|\w+\.py)`")
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "docs/spec/*.md", "swarm/*/README.md")
    for path in ROOT.glob(pattern)
)
FILES = {path.name for folder in ("swarm", "scripts") for path in (ROOT / folder).rglob("*.py")}
AHEAD = {"program.py"}
"""Of the specification, which is ahead of the code."""
README_LINES_MAX = 70
"""One screen."""
ARCHITECTURE_LINES_MAX = 130


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_that_is_named_exists(document: Path) -> None:
    text = document.read_text("utf-8")
    links = [link for link in LINK.findall(text) if "://" not in link]
    lost = [link for link in links if not (document.parent / link).exists()]
    places = (ROOT, ROOT / "swarm", ROOT / "tests", document.parent)
    named = [name for name in NAMED.findall(text) if "/" in name or name not in FILES | AHEAD]
    lost += [name for name in named if not any((at / name).exists() for at in places)]
    assert lost == []


def test_the_readme_is_one_screen_and_the_architecture_two_pages() -> None:
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    assert len(lines) <= README_LINES_MAX
    lines = (ROOT / "ARCHITECTURE.md").read_text("utf-8").splitlines()
    assert len(lines) <= ARCHITECTURE_LINES_MAX


def test_every_term_of_the_glossary_stands_there_once() -> None:
    text = (ROOT / "docs/glossary.md").read_text("utf-8")
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]
    terms = [term.strip() for row in rows if row != "term" for term in row.split(",")]
    assert terms
    assert [term for term, count in Counter(terms).items() if count > 1] == []


def test_one_version_is_said_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    newest = re.findall(r"(?m)^## \[([\d.]+)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"))[0]
    assert project["version"] == swarm.__version__ == newest
