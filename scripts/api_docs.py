#!/usr/bin/env python3
"""Write docs/api.md, the page of the Python API, from the docstrings of the public names.

``scripts/api_docs.py`` exits with 1 if the page is out of date; ``--write`` writes it.
"""

import inspect
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import swarm
from swarm import errors

PAGE = Path(__file__).parents[1] / "docs" / "api.md"
SECTIONS = {
    "Open": ("open_node", "open_ledger"),
    "Start": ("Join", "Launch", "Resume"),
    "Use": ("Node", "Ledger"),
}
"""Names with everything they can do; of the others the first sentence is enough."""
RETURNED = {
    "swarm.dht.directory": ("PeerView",),
    "swarm.events": ("Event", "EventKind"),
    "swarm.ledger.reader": ("LedgerBlock", "LedgerReport"),
    "swarm.ledger.state.records": ("Run", "SegmentRecord"),
    "swarm.node.open": ("PeerMap",),
    "swarm.verify.audit": ("AuditResult",),
}
"""Classes of what methods return, by their modules: read their fields, import them for annotations alone."""
HEAD = """# Python API

This page is written by `scripts/api_docs.py` from the docstrings. The programs in [examples/](../examples)
are run by the test suite: two peers in one script, following a ledger, replaying a window of another peer,
reading the peer map.
"""
NOISE = re.compile(r"\b(?:collections\.abc|pathlib|swarm(?:\.\w+)+|typing)\.(?=[A-Z])")


def signature(name: str, value: object) -> str:
    """Return ``name(arguments) -> result`` with short names of types."""
    found = inspect.signature(value)  # type: ignore[arg-type]
    kept = [one for one in found.parameters.values() if one.name != "self"]
    text = NOISE.sub("", f"{name}{found.replace(parameters=kept)}").removesuffix(" -> None")
    text = re.sub(r"^(.*) -> AsyncGenerator\[(\w+)\]$", r"async with \1 as \2", text)
    return re.sub(r"^(.*) -> Generator\[(\w+)\]$", r"with \1 as \2", text)


def text_of(value: object) -> str:
    """Return a docstring as Markdown: code in single backticks, Google's sections as lists."""
    doc = (inspect.getdoc(value) or "").replace("::\n", ":\n").replace("``", "`")
    lines, section = list[str](), False
    for line in doc.splitlines():
        if line in {"Args:", "Returns:", "Raises:"}:
            section = True
            lines.append(f"*{line[:-1]}*\n")
        elif section and re.match(r"    \S", line):
            lines.append(re.sub(r"^ {4}(\w+): ", r"- `\1`: ", line).strip())
        elif section:
            lines.append(f"  {line.strip()}".rstrip())
        else:
            lines.append(line)
    return "\n".join(lines)


def members(kind: type) -> Iterator[str]:
    """Yield an entry for each public member of a class."""
    for name, value in vars(kind).items():
        if name.startswith("_"):
            continue
        if isinstance(value, property):
            yield f"**`{name}`**: {text_of(value)}\n"
        elif inspect.isfunction(value):
            wait = "await " if inspect.iscoroutinefunction(value) else ""
            yield f"**`{wait}{signature(name, value)}`**\n\n{text_of(value)}\n"


def entry(name: str) -> Iterator[str]:
    """Yield what the page says of one name."""
    thing = getattr(swarm, name)
    head = name if name in SECTIONS["Use"] else signature(name, thing)
    yield f"### `{head}`\n\n{text_of(thing)}\n"
    if isinstance(thing, type):
        if name in {"Join", "Launch"}:
            yield f"{text_of(inspect.getattr_static(thing, '__init__'))}\n"
        yield from members(thing)


def row(name: str, value: object) -> str:
    """Return a list item with the first paragraph of a docstring."""
    return f"- `{name}`: {' '.join(text_of(value).split(chr(10) * 2, maxsplit=1)[0].split())}"


def drawn() -> str:
    """Return the page."""
    parts = [HEAD, f"```python\n{example()}```\n"]
    for title, names in SECTIONS.items():
        parts.append(f"## {title}\n")
        parts += [part for name in names for part in entry(name)]
    listed = {name for names in SECTIONS.values() for name in names}
    others = [name for name in swarm.__all__ if name not in listed and not name.startswith("_")]
    rows = [row(name, getattr(swarm, name)) for name in others]
    returned = [
        row(f"{module}.{name}", getattr(import_module(module), name))
        for module, names in RETURNED.items()
        for name in names
    ]
    tree = (inspect.getdoc(errors) or "").partition("Core: pure data.\n\n")[2]
    parts += [
        "## Settings and errors\n",
        *rows,
        "\n## What methods return\n",
        *returned,
        f"\n## Tree of errors\n\n```text\n{inspect.cleandoc(chr(10) + tree)}\n```\n",
    ]
    return "\n".join(parts)


def example() -> str:
    """Return the programs in the package's docstring as one."""
    blocks = re.findall(r"::\n\n((?:    .*\n|\n)+)", f"{inspect.getdoc(swarm)}\n")
    return "\n".join(inspect.cleandoc(f"\n{block}") + "\n" for block in blocks)


def main() -> int:
    """Write the page, or return 1 if it is out of date."""
    if "--write" in sys.argv[1:]:
        PAGE.write_text(drawn(), "utf-8")
        return 0
    is_true = PAGE.exists() and PAGE.read_text("utf-8") == drawn()
    if not is_true:
        print("out of date: docs/api.md", file=sys.stderr)
    return int(not is_true)


if __name__ == "__main__":
    sys.exit(main())
