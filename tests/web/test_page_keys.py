"""The page reads the document of ``swarm.node.api.schema``: every key that it reads is declared there.

A part of the document is held in a variable that bears its name (``run``, ``peer``, ``trade`` ...), in every
file of the page; so each ``peer.key`` can be looked up in the struct that it reads.
"""

import re
from typing import Any, get_args, get_type_hints

import pytest

from swarm.node.api import schema
from swarm.primitives.codec import Document, fields_of
from swarm.web.app import STATIC

PARTS: dict[str, type[Document]] = {
    "state": schema.StateDocument,
    "health": schema.HealthRow,
    "node": schema.NodeRow,
    "run": schema.RunRow,
    "evaluation": schema.EvaluationRow,
    "ledger": schema.LedgerRow,
    "block": schema.BlockRow,
    "transaction": schema.TransactionRow,
    "peer": schema.PeerRow,
    "another": schema.PeerRow,
    "check": schema.CheckRow,
    "verifier": schema.VerifierRow,
    "conviction": schema.ConvictionRow,
    "trade": schema.TradeRow,
    "report": schema.EventRow,
}
"""The names that the page gives to parts of the document."""
PHASES = """verified unsampled silent guilty posted sampled sealed revealed
disputed doubted within rejected""".split()
ACCESS = re.compile(r"(?<![\w.$])(\w+)\s*(?:\?\.|\.)\s*([A-Za-z_]\w*)")
TAKEN = re.compile(r"\{([^{}]*)\}\s*=\s*(\w+)(?:\.(\w+))?\s*(?:[;,)]|\?\?)")


def keys_of(kind: type[Document]) -> set[str]:
    """The JSON names of a struct's fields."""
    return set(fields_of(kind()))


def code_of(name: str) -> str:
    """A file of the page without its comments, and without the text (but not the code) in its strings."""
    text = re.sub(r"(?m)(?<!:)//.*$", "", (STATIC / name).read_text(encoding="utf-8"))
    return re.sub(r'"[^"\n]*"', '""', text)


def reads_of(code: str) -> set[tuple[str, str]]:
    """(part, key) of every access ``part.key`` and every ``const { key } = part``."""
    found = {(part, key) for part, key in ACCESS.findall(code) if part in PARTS}
    for inside, part, key in TAKEN.findall(code):
        names = {one.split("=")[0].split(":")[0].strip() for one in inside.split(",")}
        whose = "audits" if key == "audits" else part
        if whose in PARTS or whose == "audits":
            found |= {(whose, name) for name in names if name and not name.startswith("...")}
    return found


SCRIPTS = sorted({path.name for path in STATIC.glob("*.js")} - {"dom.js"})
"""dom.js knows elements only; there ``node`` is one of these."""


@pytest.mark.rule("W9")
@pytest.mark.parametrize("name", SCRIPTS)
def test_every_key_that_the_page_reads_is_in_the_schema(name: str) -> None:
    for part, key in sorted(reads_of(code_of(name))):
        kind = schema.AuditRecord if part == "audits" else PARTS[part]
        assert key in keys_of(kind), f"{name} reads {part}.{key}"


@pytest.mark.rule("W9")
def test_the_reader_of_the_scripts_sees_what_they_read() -> None:
    """Accesses, optional ones and those by destructuring, in code and in templates; not in comments."""
    code = "const { a = 1, tokens_per_s } = state; peer?.name; `${run.round}`; x.peer.other; trade . ok"
    assert reads_of(code) == {
        ("state", "a"),
        ("state", "tokens_per_s"),
        ("peer", "name"),
        ("run", "round"),
        ("trade", "ok"),
    }
    seen = {pair for name in SCRIPTS for pair in reads_of(code_of(name))}
    for known in (
        ("run", "tokens_per_s"),
        ("peer", "gone_s"),
        ("trade", "to"),
        ("audits", "barred"),
    ):
        assert known in seen
    assert {part for part, _ in seen} >= set(PARTS) - {"state"}


def test_the_page_knows_the_phases_of_the_ledger() -> None:
    from swarm.ledger.state.records import SegmentPhase

    assert set(PHASES) == {str(phase) for phase in SegmentPhase}
    text = (STATIC / "checks.js").read_text(encoding="utf-8")
    assert all(f'"{phase}"' in text for phase in PHASES)


def test_the_page_and_the_node_agree_since_when_something_stands_still() -> None:
    from swarm.node.api.health import STANDSTILL_S

    text = (STATIC / "standing.js").read_text(encoding="utf-8")
    assert f"STANDSTILL_S = {STANDSTILL_S:.0f};" in text


def test_lists_of_the_document_hold_the_parts_that_the_page_names() -> None:
    hints: dict[str, Any] = get_type_hints(schema.StateDocument)
    inside = {name: get_args(hint)[0] for name, hint in hints.items() if get_args(hint)}
    assert inside["peers"] is PARTS["peer"]
    assert inside["trades"] is PARTS["trade"]
    assert inside["checks"] is PARTS["check"]
    assert inside["events"] is PARTS["report"]


@pytest.mark.rule("W8")
def test_a_redraw_replaces_no_node_as_a_whole() -> None:
    """Focus, selection and scroll live in the nodes: ``dom.js`` changes those that differ."""
    for path in sorted(STATIC.glob("*.js")):
        script = path.read_text("utf-8")
        for word in ("replaceChildren", "innerHTML", "outerHTML", "replaceWith"):
            assert word not in script, f"{path.name} says {word}"
    assert "export function update(" in (STATIC / "dom.js").read_text("utf-8")
