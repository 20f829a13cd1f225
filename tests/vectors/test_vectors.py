"""No format changes by accident: the golden vectors can be built again, byte for byte."""

import json
from pathlib import Path
from typing import get_args

import pytest

from swarm.ledger.consensus.journal import ProposalRecord, VoteRecord
from swarm.ledger.consensus.votes import Batch, Statement
from swarm.ledger.state.records import Entry
from swarm.ledger.transactions import Body
from swarm.primitives.codec import decode
from tests.vectors.cases import VECTORS

HERE = Path(__file__).parent


@pytest.mark.parametrize("name", sorted(VECTORS))
def test_every_vector_can_be_built_again(name: str) -> None:
    stored = json.loads((HERE / f"{name}.json").read_text("utf-8"))
    built = json.loads(json.dumps(VECTORS[name]()))
    for old, new in zip(stored, built, strict=True):
        assert new == old, f"{name}: {old['kind']} changed; if on purpose, run scripts/make_vectors"


def test_there_is_no_vector_that_nobody_builds() -> None:
    assert {path.stem for path in HERE.glob("*.json")} == set(VECTORS)


@pytest.mark.parametrize("union", [Body, Entry, VoteRecord | ProposalRecord], ids=str)
def test_every_statement_and_every_entry_of_the_ledger_has_a_vector(union: object) -> None:
    stored = (json.loads(path.read_text("utf-8")) for path in HERE.glob("*.json"))
    kinds = {vector["kind"] for vectors in stored for vector in vectors}
    missing = {kind.__name__ for kind in get_args(union)} - kinds
    assert not missing, "add them to tests/vectors/cases.py, then run scripts/make_vectors"


def test_every_statement_of_consensus_is_in_a_vector() -> None:
    batches = [one for one in VECTORS["blocks"]() if one["kind"] == "Batch"]
    said = [
        type(part.statement)
        for one in batches
        for part in decode(Batch, bytes.fromhex(str(one["bytes"]))).statements
    ]
    assert set(said) == set(get_args(Statement))
