"""Every figure of the document is defined where it is declared, and a reader needs none of them."""

import ast
from itertools import pairwise
from pathlib import Path

import pytest

from swarm.node.api import schema
from swarm.node.api.schema import StateDocument
from swarm.primitives.codec import fields_of

TREE = ast.parse(Path(schema.__file__).read_text(encoding="utf-8"))
FIGURES = {
    "HealthRow": ["verdict", "cause", "command", "age_s"],
    "NodeRow": ["state", "steps", "loss_nats", "tokens", "tokens_per_s", "tokens_age_s"],
    "RunRow": "round loss_nats tokens tokens_per_s heldout perplexity judged_steps replayed_steps".split(),
    "LedgerRow": ["height", "age_s", "is_still", "finality_s", "validators_missing"],
    "PeerRow": ["tokens_per_s", "loss_nats", "round", "gone_s", "age_s", "steps"],
    "CheckRow": ["replayed_steps"],
    "StateDocument": ["loss_curve"],
}


def defined(name: str) -> set[str]:
    """The fields of a struct that a docstring follows."""
    (found,) = (node for node in TREE.body if isinstance(node, ast.ClassDef) and node.name == name)
    body = found.body
    return {
        field.target.id
        for field, after in pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
    }


@pytest.mark.parametrize("name", sorted(FIGURES))
def test_a_figure_that_screens_show_is_defined(name: str) -> None:
    assert set(FIGURES[name]) <= defined(name)


def test_every_field_has_a_default() -> None:
    """A document of another release lacks some."""
    assert fields_of(StateDocument())["run"] is None
    for node in TREE.body:
        if isinstance(node, ast.ClassDef):
            for field in node.body:
                assert not isinstance(field, ast.AnnAssign) or field.value is not None


def test_what_is_not_known_is_null_and_not_zero() -> None:
    """For every rate and loss."""
    run = fields_of(schema.RunRow())
    assert {run[key] for key in ("loss_nats", "tokens_per_s", "heldout", "perplexity")} == {None}
    node = fields_of(schema.NodeRow())
    assert (node["loss_nats"], node["tokens_per_s"]) == (None, None)
