#!/usr/bin/env python3
"""Draw the table of modules in ARCHITECTURE.md from their docstrings.

``scripts/draw_map.py`` prints the table; ``--write`` puts it into ARCHITECTURE.md between its marks.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
ORDER = ("", *"host dht gossip training training/repops ledger verify node cli web".split())
BEGIN, END = "<!-- modules: begin -->", "<!-- modules: end -->"


def rows(room: str) -> Iterator[str]:
    """One line per module of a room (the empty name is the hallway)."""
    folder = ROOT / "swarm" / room
    for path in sorted(folder.glob("*.py")):
        if path.name != "__init__.py":
            doc = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
            kind = next((k[0] for k in ("Core:", "Shell:") if f"\n{k}" in doc), "?")
            name = path.relative_to(ROOT / "swarm").as_posix()
            yield f"| `{name}` | {kind} | {caption(doc)} |"


def caption(doc: str) -> str:
    """The first sentence, on one line."""
    return " ".join(doc.split("\n\n", maxsplit=1)[0].split()).replace("|", "\\|")


def draw() -> str:
    """The whole table."""
    lines = ["| module | kind | what it does |", "|---|---|---|"]
    for room in ORDER:
        lines += rows(room)
    return "\n".join(lines)


def with_map(text: str) -> str:
    """ARCHITECTURE.md with the table of today."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{draw()}\n{END}{tail}"


def main() -> None:
    """Print the table, or write it where it belongs."""
    path = ROOT / "ARCHITECTURE.md"
    if "--write" in sys.argv[1:]:
        path.write_text(with_map(path.read_text("utf-8")), "utf-8")
    else:
        print(draw())


if __name__ == "__main__":
    main()
