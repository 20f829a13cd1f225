"""A node's reports are one line each, for people and programs, and cannot steer a terminal."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarm.errors import Corrupt
from swarm.events import (
    FIELDS_MAX,
    TEXT_CHARS_MAX,
    EventKind,
    from_json_line,
    make_event,
    printable,
    to_json_line,
)


def test_an_event_is_one_line_of_json_and_back() -> None:
    event = make_event(1_700_000_000_000, EventKind.TRADED, "traded", partner="icy-newt", bytes=17)
    line = to_json_line(event)
    assert "\n" not in line
    assert json.loads(line)["fields"] == {"bytes": 17, "partner": "icy-newt"}
    assert from_json_line(line) == event


@pytest.mark.rule("C6", "S23")
def test_text_from_strangers_cannot_steer_a_terminal() -> None:
    event = make_event(0, EventKind.WARNING, "name \x1b[2Jevil\r\nline \u202e", peer="a\x07b")
    assert event.text == "name  [2Jevil  line  "
    assert dict(event.fields)["peer"] == "a b"


def test_text_and_fields_are_bounded() -> None:
    many = {f"field{i:02d}": i for i in range(FIELDS_MAX + 10)}
    event = make_event(0, EventKind.PROGRESS, "x" * 10_000, **many)
    assert len(event.text) == TEXT_CHARS_MAX
    assert event.text.endswith("...")
    assert len(event.fields) == FIELDS_MAX


def test_letters_of_any_language_stay() -> None:
    assert printable("größer als 10 µs, 群れ", 100) == "größer als 10 µs, 群れ"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "[]",
        "{}",
        '{"at_ms":1,"kind":"step","text":"cut sho',
        '{"at_ms":"1","kind":"step","text":"","fields":{}}',
        '{"at_ms":1,"kind":"step","text":"","fields":{"a":[1]}}',
        '{"at_ms":1,"kind":"step","text":"","fields":[]}',
    ],
)
def test_a_line_cut_short_or_foreign_is_refused(line: str) -> None:
    with pytest.raises(Corrupt):
        from_json_line(line)


def emitted(tree: ast.AST) -> Iterator[str]:
    """Names of the kinds that are arguments of a call, as in ``report(EventKind.SOLO, ...)``."""
    for call in ast.walk(tree):
        for given in call.args if isinstance(call, ast.Call) else ():
            for choice in (given.body, given.orelse) if isinstance(given, ast.IfExp) else (given,):
                if ast.unparse(choice).startswith("EventKind."):
                    yield ast.unparse(choice).removeprefix("EventKind.")


def test_every_kind_is_emitted_somewhere() -> None:
    swarm = Path(__file__).parents[1] / "swarm"
    trees = [ast.parse(path.read_text("utf-8")) for path in sorted(swarm.rglob("*.py"))]
    assert {kind.name for kind in EventKind} == {name for tree in trees for name in emitted(tree)}
