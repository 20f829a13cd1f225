#!/usr/bin/env python3
"""Write the map of each package into its ``__init__.py``, from the docstrings of its modules.

``scripts/draw_map.py`` lists the maps that are out of date; ``--write`` writes them. The first paragraph of an
``__init__.py`` is written by hand; everything from the line ``Modules`` on is generated.
"""

import ast
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
TITLE = "Modules (C: pure, S: does I/O):"
WIDTH = 100


def packages() -> list[Path]:
    """Return the folders of packages below ``swarm/``, sorted."""
    return sorted(path.parent for path in (ROOT / "swarm").rglob("__init__.py"))[1:]


def caption(doc: str) -> str:
    """Return the first sentence of a docstring, on one line."""
    return " ".join(doc.split("\n\n", maxsplit=1)[0].split())


def kind(doc: str) -> str:
    """Return C or S, as the docstring of a module says."""
    return next((k[0] for k in ("Core:", "Shell:") if f"\n{k}" in doc), "?")


def rows(package: Path) -> Iterator[tuple[str, str]]:
    """Yield (name and kind, caption) of each module, then of each package below."""
    for path in sorted(package.glob("*.py")):
        if path.name != "__init__.py":
            doc = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
            yield f"{path.name} {kind(doc)}", caption(doc)
    for path in sorted(package.glob("*/__init__.py")):
        doc = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
        yield f"{path.parent.name}/", caption(doc)


def rendered(package: Path) -> str:
    """Return the text that the ``__init__.py`` of ``package`` should have."""
    doc = ast.get_docstring(ast.parse((package / "__init__.py").read_text("utf-8"))) or ""
    listed = list(rows(package))
    width = max(len(name) for name, _ in listed)
    lines = [f'"""{doc.partition(TITLE)[0].strip()}', "", TITLE, ""]
    for name, text in listed:
        head, _, kind = name.partition(" ")
        start = f"    {head:{width - 2}} {kind:1}  "
        lines += textwrap.wrap(
            text, WIDTH, initial_indent=start, subsequent_indent=" " * len(start)
        )
    return "\n".join([*lines, '"""', ""])


def main() -> int:
    """List, or write, the maps that are out of date; return 1 if any is left so."""
    stale = [p for p in packages() if (p / "__init__.py").read_text("utf-8") != rendered(p)]
    for package in stale:
        if "--write" in sys.argv[1:]:
            (package / "__init__.py").write_text(rendered(package), "utf-8")
        else:
            print(f"out of date: {package.relative_to(ROOT)}/__init__.py")
    return int(bool(stale) and "--write" not in sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
